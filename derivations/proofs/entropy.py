"""Entropy on the way: how fast it falls, the law R = b - a e^H, and how much faster KL grows under it."""

import sympy as sp

from derivations.objectives import shaped_reward
from derivations.proofs.symbols import alpha, by_logit, covariance, mean, normalized, positives, reals
from derivations.prover.claims import claim
from derivations.prover.kinds import Argued, Equal, Iff, Step, TendsTo
from derivations.prover.symbolic import SymArray
from derivations.prover.tracing import traced_array
from derivations.regularizers import KL, Entropy

tau = sp.Symbol("tau", positive=True)
ONE = SymArray(sp.S.One)


def entropy_of(policy: list[sp.Expr]) -> sp.Expr:
    """H of the policy: minus the traced regularizer."""
    return -sum(traced_array(Entropy(ONE).phi, list(map(sp.log, policy))).values)


@claim(
    "entropy-rate",
    "Under natural gradient the entropy changes at the rate -Cov(log pi, A), under softmax policy gradient at -Cov with "
    "pi (A - E[A]).",
    latex=r"\dot H = -\mathrm{Cov}_\pi(\log\pi, A),\qquad \dot H = -\mathrm{Cov}_\pi\big(\log\pi, \pi(A - E_\pi[A])\big)",
    hypotheses="tabular softmax; A any advantage; natural gradient moves the logits by A, policy gradient by pi (A - E[A])",
    source="arXiv:2505.22617, the two covariance formulas",
    scope="three responses, any policy and any advantage",
    depends_on=("natural-gradient-flow",),
)
def entropy_rate() -> list[Step]:
    weights, advantages = positives("w", 3), reals("A", 3)
    policy = normalized(weights)
    logps = list(map(sp.log, policy))
    slopes = [by_logit(entropy_of(policy), weight) for weight in weights]
    average = mean(policy, advantages)
    softmax = [pi * (a - average) for pi, a in zip(policy, advantages, strict=True)]
    return [
        Equal(
            "policy gradient moves a logit by pi (A - E[A])",
            by_logit(mean(policy, advantages), weights[0]),
            softmax[0],
        ),
        Equal("natural gradient", mean(slopes, advantages), -covariance(policy, logps, advantages)),
        Equal("softmax policy gradient", mean(slopes, softmax), -covariance(policy, logps, softmax)),
    ]


@claim(
    "entropy-law",
    "On pi proportional to e^(tau r), a flat density of rewards below a best one keeps R + a e^H constant for all tau, and no finite Y "
    "does: reward gains what a e^H loses if and only if a*e^H*tau = 1.",
    latex=r"R = b - a e^H \iff e^H = \frac{1}{a\tau} \iff \log Z = c\tau - \log\tau + \text{const}",
    hypotheses="no two tau give the same policy (r is not constant); Z = sum or integral of e^(tau r), R = E[r]; tau in an "
    "interval",
    source="arXiv:2505.22617, the law R = -a e^H + b fitted to training runs",
    scope="any Y, also a continuum, with finite Z, on the path of a uniform reference; no other reference; the rates for three "
    "responses",
    expected="iff",
    depends_on=("maxent-optimal-policy", "maxent-is-kl-to-uniform", "kl-nonnegative"),
)
def entropy_law() -> list[Step]:
    rewards = reals("r", 3)
    policy = normalized([sp.exp(tau * x) for x in rewards])
    expected, entropy = mean(policy, rewards), entropy_of(policy)
    a, variance, size = sp.symbols("a Var(r) e^H", positive=True)
    c, scale = sp.Symbol("c", real=True), sp.Symbol("C", positive=True)
    log_z = c * tau - sp.log(tau) + sp.log(scale)
    flat_reward = sp.diff(log_z, tau)
    flat_entropy = log_z - tau * flat_reward
    return [
        Equal("three responses: dR/dtau = Var(r)", sp.diff(expected, tau), covariance(policy, rewards, rewards)),
        Equal("three responses: dH/dtau = -tau Var(r)", sp.diff(entropy, tau), -tau * sp.diff(expected, tau)),
        Iff(
            "reward gains what a e^H loses",
            variance,
            a * size * tau * variance,
            -variance,
            (a * tau * size - 1,),
            {variance: 1, a: 1, size: 1, tau: 2},
        ),
        Equal("then H = -log(a tau) falls by 1/tau, so Var(r) = (log Z)'' is 1/tau^2", -sp.diff(-sp.log(a * tau), tau), 1 / tau),
        Equal("which (log Z)'' = 1/tau^2 gives back", sp.diff(log_z, tau, 2), 1 / tau**2),
        Equal("a flat density C on rewards below c: its integral to x", sp.diff(scale * sp.exp(tau * c) / tau, c), scale * sp.exp(tau * c)),
        TendsTo("and nothing at -oo, so Z = C e^(c tau) / tau", scale * sp.exp(tau * c) / tau, c, -sp.oo, sp.S.Zero),
        Equal("its log", sp.log(scale * sp.exp(tau * c) / tau), log_z),
        Equal("there R = c - a e^H with a = 1/(e C)", flat_reward, c - sp.exp(flat_entropy) / (sp.E * scale)),
        TendsTo("on n responses e^H <= n, but 1/(a tau) has no bound near tau = 0", 1 / (a * tau), tau, sp.S.Zero, sp.oo),
        Argued(
            "R and H of a finite Y are analytic in tau, so what holds on an interval holds for all tau, also near 0, "
            "where it fails",
            by="identity theorem",
            uses=("reward gains what", "on n responses", "maxent-is-kl-to-uniform", "kl-nonnegative"),
        ),
    ]  # fmt: skip


@claim(
    "kl-growth-at-start",
    "Under natural gradient from the reference, KL grows as t^2/2 times the variance of the shaped reward: faster under entropy "
    "than without if and only if Var_q(log(q))*alpha > 2*Cov_q(r,log(q)).",
    latex=r"\mathrm{KL}(\pi_t\|q) = \tfrac{t^2}{2}\mathrm{Var}_q(A) + O(t^3),\quad A = r - \alpha\log q",
    hypotheses="tabular softmax, pi_0 = q",
    source="THEORY 4.1 and 4.8",
    scope="the first rate for three responses; the second derivative for any finite Y, one response's share; the comparison for "
    "three responses with any reference and reward",
    expected="iff",
    depends_on=("natural-gradient-flow", "maxent-is-kl-with-bonus"),
)
def kl_growth_at_start() -> list[Step]:
    weights, starts, advantages, rewards = positives("w", 3), positives("k", 3), reals("A", 3), reals("r", 3)
    policy, reference = normalized(weights), normalized(starts)
    logps, refs = list(map(sp.log, policy)), list(map(sp.log, reference))
    kl = sum(traced_array(KL(ONE).phi, logps, ref_logp=refs).values)
    ratios = [a - b for a, b in zip(logps, refs, strict=True)]
    shaped = list(traced_array(shaped_reward, rewards, refs, regularizer=Entropy(SymArray(alpha))).values)

    def flow(expr: sp.Expr) -> sp.Expr:
        return sum(by_logit(expr, w) * a for w, a in zip(weights, advantages, strict=True))

    pi, (gap, centred), changes = (
        sp.Symbol("pi", positive=True),
        sp.symbols("log(pi/q) A-E[A]", real=True),
        reals("c", 2),
    )
    share = pi * gap * centred
    names = sp.symbols("Var_q(log(q)) Cov_q(r\\,log(q))", real=True)
    where = {names[0]: covariance(reference, refs, refs), names[1]: covariance(reference, rewards, refs)}
    at = dict(zip((*starts, *rewards, alpha), (1, 2, 1, 0, 0, 0, 1), strict=True))
    return [
        Equal("dKL/dt = Cov(log pi/q, A)", flow(kl), covariance(policy, ratios, advantages)),
        Equal(
            "of it a response's share is pi log(pi/q) (A - E[A]), which is 0 at the start", share, sp.S.Zero, {gap: 0}
        ),
        Equal(
            "the share's rate there is pi (A - E[A])^2, however pi and A change, as log(pi/q) moves by A - E[A]",
            sp.diff(share, pi) * changes[0] + sp.diff(share, gap) * centred + sp.diff(share, centred) * changes[1],
            pi * centred**2,
            {gap: sp.S.Zero},
        ),
        Argued(
            "summed over y: the second derivative at the start is Var_q(A)", by="summation", uses=("the share's rate",)
        ),
        Iff(
            "Var_q of the shaped reward exceeds that of the reward",
            covariance(reference, shaped, shaped),
            covariance(reference, rewards, rewards),
            alpha,
            (alpha * names[0] - 2 * names[1],),
            at,
            where=where,
            relation=">",
        ),
    ]
