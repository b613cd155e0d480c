"""Preferences that need no reward: Psi-PO with two choices of Psi, and the constant that SPPO puts for log Z."""

import sympy as sp

from derivations.objectives import ipo_loss
from derivations.preference_losses import sppo
from derivations.preferences import bradley_terry
from derivations.proofs.symbols import (
    beta,
    logp_l,
    logp_w,
    mean,
    normalized,
    positives,
    r_l,
    r_w,
    reals,
    ref_l,
    ref_w,
    shift,
)
from derivations.prover.claims import claim
from derivations.prover.kinds import Argued, Differs, Equal, Iff, Positive, Step, TendsTo
from derivations.prover.tracing import trace

mu = sp.Symbol("mu", positive=True)  # the comparison policy's probability of one response, whose reward is `against`
against = sp.Symbol("r_2", real=True)


def prefers(reward: sp.Expr, other: sp.Expr) -> sp.Expr:
    """P(y > y'), traced."""
    return sp.exp(trace(bradley_terry, reward, other))


@claim(
    "psi-po-logit",
    "With Psi = logit and Bradley-Terry preferences, Psi-PO's objective is the expected reward minus a constant: its optimum is that "
    "of RLHF, under every comparison policy.",
    latex=r"E_{y' \sim \mu}\big[\mathrm{logit}\,P(y \succ y')\big] = r(y) - E_\mu[r]",
    hypotheses="Bradley-Terry preferences; mu the comparison policy",
    source="arXiv:2310.12036, the case Psi = logit",
    scope="any countable Y with finite E_mu[r]: one comparison response's share, then summed",
    depends_on=("maxent-bradley-terry", "multiplier-cancels"),
)
def psi_po_logit() -> list[Step]:
    chance = prefers(r_w, against)
    logit = sp.log(chance) - sp.log(prefers(against, r_w))
    policy, rewards = normalized(positives("m", 2)), reals("r", 2)
    both = [sp.log(prefers(r_w, x)) - sp.log(prefers(x, r_w)) for x in rewards]
    return [
        Equal("P(y' > y) = 1 - P(y > y')", prefers(against, r_w), 1 - chance),
        Equal("one comparison response's share", mu * logit, mu * r_w - mu * against, unit=frozenset({mu})),
        Argued("summed over mu: r(y) - E_mu[r]", by="summation", uses=("one comparison response",)),
        Equal("two comparison responses", mean(policy, both), r_w - mean(policy, rewards)),
        Equal("a constant moves no difference of shares", (r_w + shift) - (r_l + shift), r_w - r_l),
    ]


@claim(
    "psi-po-identity",
    "With Psi = identity the optimum's log-ratios to the reference differ by less than 1/beta, whatever the preferences; for one pair "
    "with w always preferred they differ by 1/(2 beta), which is IPO's target.",
    latex=r"0 < P_\mu(y) < 1 \Rightarrow \Big|\log\tfrac{\pi^*(w)}{q(w)} - \log\tfrac{\pi^*(l)}{q(l)}\Big| < \tfrac1\beta",
    hypotheses="P_mu(y) = E_mu[P(y > y')]; pi* = q e^(P_mu/beta) / Z; P of each comparison in [0, 1], not all 0 or all 1",
    source="arXiv:2310.12036, the case Psi = identity",
    scope="any countable Y: one comparison response's share; the pair with mu on it",
    depends_on=("ipo-objective", "ipo-optimum"),
)
def psi_po_identity() -> list[Step]:
    low, gap = sp.symbols("P_l excess", positive=True)
    odds, log_z = sp.symbols("odds logZ", real=True)
    chance = 1 / (1 + sp.exp(odds))
    upper, lower = 1 / (1 + gap), low / (1 + low) / (1 + gap)  # two numbers of (0, 1), the upper first
    h, (m,) = sp.Symbol("h", real=True), positives("m", 1)  # mu is m on w and 1 - m on l; P(w > l) = 1, P(y > y) = 1/2
    win, lose = m / 2 + (1 - m), (1 - m) / 2
    ratio = upper / beta - log_z - (lower / beta - log_z)
    return [
        Positive("a comparison's share is > 0", mu * chance),
        Positive("and below mu", mu - mu * chance),
        Argued("summed over mu: 0 < P_mu < 1", by="summation", uses=("a comparison's share", "and below mu")),
        Equal("log-ratios are P_mu/beta - log Z: Z cancels", ratio, (upper - lower) / beta),
        Positive("their difference is > 0 here", ratio),
        Positive("and below 1/beta", 1 / beta - ratio),
        Equal("one pair, w always preferred, any mu on it: P_mu differs by 1/2", win - lose, sp.S.Half, unit=frozenset({m})),
        Equal("IPO's loss is 0 at the log-ratio difference 1/(2 beta)", trace(ipo_loss, beta * h, sp.S.Zero, beta=beta), sp.S.Zero,
              {h: sp.S.Half / beta}),
        TendsTo("with Psi = logit, the log of the odds of winning, it has no bound", sp.log(gap), gap, sp.oo, sp.oo),
    ]  # fmt: skip


@claim(
    "sppo-constant",
    "SPPO's constant eta/2 for log Z is a lower bound of it; for two responses, the first of them preferred with probability prob, it "
    "is exact if and only if 2*prob = 1.",
    latex=r"\log E_\pi\big[e^{\eta P(y \succ \pi)}\big] \ge \tfrac{\eta}{2},\qquad P(1 \succ \pi) - P(2 \succ \pi) = P(1 \succ 2) - \tfrac12",
    hypotheses="P(y > y') + P(y' > y) = 1; win rates against the policy itself",
    source="arXiv:2405.00675, eta/2 in place of log Z",
    scope="the bound for any finite Y (two responses' share of the mean win rate, then summed); the condition for two responses",
    expected="iff",
)
def sppo_constant() -> list[Step]:
    first, chance, eta, x = sp.symbols("p prob eta x", positive=True)
    pi_1, pi_2 = sp.symbols("pi_1 pi_2", positive=True)
    win_1 = first / 2 + (1 - first) * chance
    win_2 = first * (1 - chance) + (1 - first) / 2
    z = first * sp.exp(eta * win_1) + (1 - first) * sp.exp(eta * win_2)
    plain = {"ref_chosen_logp": ref_w, "ref_rejected_logp": ref_l, "beta": 1 / eta}
    by_hand = (logp_w - ref_w - (eta - eta / 2)) ** 2 + (logp_l - ref_l - (0 - eta / 2)) ** 2
    return [
        Equal("the code regresses log(pi/pi_old) on eta P - eta/2, with P = 1 and P = 0", trace(sppo, logp_w, logp_l, **plain), by_hand),
        Equal("two different responses win half of their encounters", pi_1 * pi_2 * chance + pi_2 * pi_1 * (1 - chance), pi_1 * pi_2),
        Equal("and so does a response against itself: the pairs give half of (sum pi)^2 = 1", pi_1**2 / 2 + pi_2**2 / 2 + pi_1 * pi_2,
              (pi_1 + pi_2) ** 2 / 2),
        Equal("two responses: the mean win rate is 1/2", first * win_1 + (1 - first) * win_2, sp.S.Half),
        Argued("any number: summed over the pairs", by="summation", uses=("two different responses", "and so does")),
        Positive("e^(eta x) is strictly convex", sp.diff(sp.exp(eta * x), x, 2)),
        Argued("so Z exceeds e^(eta/2) unless all win rates are equal", by="jensen",
               uses=("e^(eta x)", "two responses: the mean")),
        Iff("the two win rates are equal", win_1, win_2, sp.S.Half, (2 * chance - 1,), {first: sp.S.Half, chance: sp.Rational(3, 4)}),
        Equal("a tie: Z is e^(eta/2)", z, sp.exp(eta / 2), {chance: sp.S.Half}),
        Differs("prob = 3/4, p = 1/2, eta = 2: Z against e^(eta/2)", z, sp.exp(eta / 2),
                {chance: sp.Rational(3, 4), first: sp.S.Half, eta: sp.Integer(2)}),
    ]  # fmt: skip
