"""THEORY 2.1 to 2.3: the maximum-entropy optimum, its reward form, and Bradley-Terry."""

import sympy as sp

from derivations.objectives import dpo, maxent
from derivations.proofs.symbols import Z, alpha, p, positives, q, r, r_l, r_w, reals, rest, shift, sigmoid
from derivations.prover.claims import claim
from derivations.prover.kinds import Argued, Equal, Positive, Step, TendsTo
from derivations.prover.symbolic import SymArray
from derivations.prover.tracing import trace
from derivations.regularizers import Entropy


def entropy() -> Entropy:
    return Entropy(SymArray(alpha))


@claim(
    "kl-nonnegative",
    "KL(pi || q) >= 0 with equality only for pi = q.",
    latex=r"p \log\frac{p}{q} - p + q \ge 0,\quad = 0 \iff p = q",
    source="used by THEORY 2.1",
    scope="any countable Y: pointwise inequality, then summed",
)
def kl_nonnegative() -> list[Step]:
    t = sp.Symbol("t", positive=True)
    h = t * sp.log(t) - t + 1
    return [
        Equal(
            "p log(p/q) - p + q = q h(p/q) with h(t) = t log t - t + 1", q * h.subs(t, p / q), p * sp.log(p / q) - p + q
        ),
        Equal("h(1) = 0", h.subs(t, 1), sp.S.Zero),
        Equal("h'(t) = log t, so h'(1) = 0", sp.log(t), sp.diff(h, t)),
        Positive("h'' > 0", sp.diff(h, t, 2)),
        TendsTo("h(0) = 1: a response with p = 0 adds q > 0", h, t, sp.S.Zero, sp.S.One),
        Argued(
            "h lies above its tangent at t = 1, which is 0, and touches it only there",
            by="tangent",
            uses=("h'' > 0", "h(1) = 0", "h'(t) = log t"),
        ),
        Argued(
            "summing over Y: sum p log(p/q) >= sum p - sum q = 0, equality only if p = q everywhere",
            by="summation",
            uses=("p log(p/q) - p + q = q h",),
        ),
    ]


@claim(
    "maxent-optimal-policy",
    "exp(r / alpha) / Z is the unique maximizer of expected reward plus alpha times entropy.",
    latex=r"E_\pi[r] + \alpha H(\pi) = \alpha\log Z - \alpha\,\mathrm{KL}(\pi\|\pi^*)",
    hypotheses="Z = sum_y exp(r/alpha) finite; E_pi[r] > -oo; for attainment E_pi*[r] > -oo (always for finite Y)",
    source="THEORY 2.1; arXiv:2509.20265, its optimal policy",
    scope="any countable Y: pointwise identity, then summed",
    depends_on=("kl-nonnegative",),
)
def maxent_optimal_policy() -> list[Step]:
    log_optimum = r / alpha - sp.log(Z)
    return [
        Equal(
            "pointwise: p r - phi(p) = p alpha log Z - alpha p (log p - log pi*)",
            p * r - trace(entropy().phi, sp.log(p)),
            alpha * p * sp.log(Z) - alpha * p * (sp.log(p) - log_optimum),
        ),
        TendsTo("at p = 0 both sides are 0, as 0 log 0 = 0", p * sp.log(p), p, sp.S.Zero, sp.S.Zero),
        Argued(
            "summed over Y with sum p = 1: E[r] + alpha H = alpha log Z - alpha KL(pi || pi*); both sums converge "
            "absolutely where E_pi[r] > -oo, because Z is finite; elsewhere J = -oo or pi is not in the race",
            by="summation",
            uses=("pointwise:", "at p = 0"),
        ),
        Argued(
            "summed over Y: KL >= 0 with equality only at pi*, so pi* is the only maximizer",
            by="summation",
            uses=("kl-nonnegative",),
        ),
    ]


@claim(
    "maxent-stationarity",
    "Second proof: pi* is stationary and the objective is strictly concave.",
    latex=r"r_y - \alpha(\log\pi^*_y + 1) = \lambda,\quad \nabla^2 J = -\alpha\,\mathrm{diag}(1/\pi)",
    source="THEORY 2.1, second proof",
    scope="finite Y of any size: one response at a time, the others summed",
    depends_on=("implicit-reward-entropy",),
)
def maxent_stationarity() -> list[Step]:
    total = sp.exp(r / alpha) + rest
    s = trace(entropy().phi_prime, r / alpha - sp.log(total))
    phi = trace(entropy().phi, sp.log(p))
    return [
        Equal(
            "r - s at pi* is the same multiplier for every response (the others have weight `rest`)",
            r - s,
            alpha * sp.log(total) - alpha,
            every=(rest,),
        ),
        Equal("d2 phi / dp2 = alpha / p", alpha / p, sp.diff(phi, p, 2)),
        Positive("alpha / p > 0", sp.diff(phi, p, 2)),
        Argued(
            "J is separable, so its Hessian is diagonal: -alpha diag(1/pi), negative definite, and J strictly concave",
            by="convex sums",
            uses=("alpha / p > 0",),
        ),
    ]


@claim(
    "reward-from-policy",
    "The reward is recovered from the optimal policy up to a constant, and exactly rewards that differ by a constant share it.",
    latex=r"r = \alpha\log\pi^* + \alpha\log Z",
    source="THEORY 2.2; arXiv:2509.20265, the reward from the policy",
    scope="any Y with finite Z",
)
def reward_from_policy() -> list[Step]:
    log_optimum = r / alpha - sp.log(Z)
    moved = sp.exp((r + shift) / alpha)
    other = sp.Symbol("Z_other", positive=True)
    return [
        Equal("r = alpha log pi* + alpha log Z", trace(entropy().implicit_reward, log_optimum) + alpha * sp.log(Z), r),
        Equal(
            "r + c has the same pi* (the others have weight `rest`, which the shift scales alike)",
            moved / (moved + sp.exp(shift / alpha) * rest),
            sp.exp(r / alpha) / (sp.exp(r / alpha) + rest),
        ),
        Equal(
            "one pi* for two rewards: their difference is alpha (log Z - log Z'), the same for all y",
            (alpha * sp.log(p) + alpha * sp.log(Z)) - (alpha * sp.log(p) + alpha * sp.log(other)),
            alpha * sp.log(Z / other),
        ),
    ]


@claim(
    "maxent-bradley-terry",
    "With Bradley-Terry preferences the MaxEnt policy's own log-probabilities predict them: Z cancels.",
    latex=r"P(w \succ l) = \sigma(\alpha\log\pi^*(w) - \alpha\log\pi^*(l))",
    source="THEORY 2.3; arXiv:2509.20265, its Bradley-Terry form",
    scope="any Y with finite Z",
    depends_on=("reward-from-policy",),
)
def maxent_bradley_terry() -> list[Step]:
    log_w, log_l = r_w / alpha - sp.log(Z), r_l / alpha - sp.log(Z)
    return [
        Equal(
            "the maxent loss at pi* is -log sigma(r_w - r_l)",
            trace(maxent, log_w, log_l, alpha=alpha),
            -sp.log(sigmoid(r_w - r_l)),
        ),
        Equal(
            "in weights: P = u/(u+v) with u = e^r",
            sp.exp(-trace(maxent, log_w, log_l, alpha=alpha)),
            sp.exp(r_w) / (sp.exp(r_w) + sp.exp(r_l)),
        ),
    ]


@claim(
    "maxent-is-kl-to-uniform",
    "On a finite Y the entropy regularizer and KL to the uniform reference have the same losses.",
    latex=r"\alpha\log\pi(w) - \alpha\log\pi(l) = \alpha\log\frac{\pi(w)}{1/n} - \alpha\log\frac{\pi(l)}{1/n}",
    source="THEORY 2.9 for one length",
    scope="finite Y of any size n",
)
def maxent_is_kl_to_uniform() -> list[Step]:
    (n,) = positives("n", 1)
    logp_w, logp_l = reals("logp", 2)
    uniform = -sp.log(n)
    return [
        Equal(
            "dpo with a uniform reference is maxent",
            trace(dpo, logp_w, logp_l, ref_chosen_logp=uniform, ref_rejected_logp=uniform, beta=alpha),
            trace(maxent, logp_w, logp_l, alpha=alpha),
            every=(n,),
        )
    ]
