"""THEORY 2.4, 2.5, 2.8: SimPO on rankings of any number of responses, and the paper's route there."""

import sympy as sp

from derivations.names import make_objective
from derivations.objectives import ranking_loss, simpo
from derivations.proofs.symbols import beta, len_l, len_w, logp_w, positives, reals, rest, shift, u, v
from derivations.prover.claims import claim
from derivations.prover.kinds import Argued, Differs, Equal, Iff, Step
from derivations.prover.symbolic import SymArray
from derivations.prover.tracing import trace, traced_array
from derivations.regularizers import LengthNormalized

z = sp.Symbol("Z", positive=True)


def lengths(count: int) -> list[sp.Symbol]:
    """len_1, ..., len_count: tokens."""
    return [sp.Symbol(f"len_{i + 1}", positive=True, integer=True) for i in range(count)]


def substituted(weight: sp.Expr, tokens: sp.Expr) -> sp.Expr:
    """The paper's score (beta/|y|) log pi(y) of a response with e^r = weight, where pi = e^(|y| r / beta) / Z."""
    logp = tokens * sp.log(weight) / beta - sp.log(z)
    return trace(LengthNormalized(SymArray(beta)).implicit_reward, logp, length=tokens)


@claim(
    "simpo-plackett-luce",
    "For any number of responses and any lengths, SimPO's ranking loss is the Plackett-Luce likelihood of the reward for "
    "which the policy is optimal under the length-weighted generalized entropy, exactly.",
    latex=r"-\log P_{PL}(1 \succ \dots \succ m \mid r = s + \lambda) = \sum_k \log \sum_{j \ge k} "
    r"\exp\Big(\tfrac{\beta}{|j|}\log\pi(j) - \tfrac{\beta}{|k|}\log\pi(k)\Big)",
    source="THEORY 2.5b and 2.8",
    scope="finite Y (master theorem); rankings of 2 and 3 responses written out, the recursion of the code decided for 3 to 5, "
    "one factor decided with any number of responses behind it, more by induction",
    depends_on=("master-theorem", "implicit-reward-length-normalized", "multiplier-cancels", "repair-generalized"),
)
def simpo_plackett_luce() -> list[Step]:
    generalized = LengthNormalized(SymArray(beta))
    steps: list[Step] = []
    for m in (2, 3):
        logps, tokens = reals("logp", m), lengths(m)
        rewards = [trace(generalized.phi_prime, x, length=n) + shift for x, n in zip(logps, tokens, strict=True)]
        scores = [beta * x / n for x, n in zip(logps, tokens, strict=True)]
        by_hand = sum(sp.log(1 + sum(sp.exp(later - own) for later in scores[k + 1 :])) for k, own in enumerate(scores))
        steps.append(Equal(f"m = {m}: rewards s + lambda in the ranking loss", trace(ranking_loss, rewards), by_hand))
    objective = make_objective("simpo-pl", beta=2.0)
    named = trace(objective.loss, traced_array(objective.rewards, logps, length=tokens))
    steps.append(Equal("m = 3: simpo-pl by its name, beta = 2", named, by_hand.subs(beta, 2)))
    for m in (3, 4, 5):
        best, *others = reals("s", m)
        recursion = sp.log(sum(map(sp.exp, (best, *others)))) - best + trace(ranking_loss, others)
        steps.append(
            Equal(f"m = {m}: one factor and a ranking of m - 1", trace(ranking_loss, [best, *others]), recursion)
        )
    (logp,), (count,) = reals("logp", 1), lengths(1)
    own = sp.exp(trace(generalized.phi_prime, logp, length=count) + shift)
    pair = {"chosen_length": len_w, "rejected_length": len_l, "beta": beta}
    two = [beta * logp_w / len_w, beta * logp / len_l]
    return [
        *steps,
        Equal(
            "one factor, any number of responses behind it, whose e^s sum to `rest`",
            own / (own + sp.exp(shift) * rest),
            sp.exp(beta * logp / count) / (sp.exp(beta * logp / count) + rest),
            every=(rest,),
        ),
        Equal("two responses: the pair loss", trace(ranking_loss, two), trace(simpo, logp_w, logp, **pair)),
        Argued(
            "a ranking of m is one factor and a ranking of m - 1, and lambda and Z are in none of the factors",
            by="induction",
            uses=("m = 2: rewards", "m = 3: one factor", "one factor, any number"),
        ),
    ]


@claim(
    "length-normalized-temperature-rankings",
    "Replacing alpha by beta/|y| in the Plackett-Luce form of MaxEnt, after Z has cancelled, gives SimPO's ranking loss, "
    "for any number of responses.",
    latex=r"\log\frac{P(\dots, w, l)}{P(\dots, l, w)} - \Big[\tfrac{\beta}{|w|}\log\pi(w) - \tfrac{\beta}{|l|}\log\pi(l)\Big]"
    r" = \Big(\tfrac{\beta}{|w|} - \tfrac{\beta}{|l|}\Big)\log Z",
    hypotheses="pi(y) = exp(|y| r(y) / beta) / Z, Z = sum_y exp(|y| r(y) / beta) finite; u = e^(r_w), v = e^(r_l); w and l "
    "stand last in the ranking, in the one order or the other",
    source="THEORY 2.4 on rankings; arXiv:2509.20265, abstract of version 1 (pairs): 'with length-normalized temperature'",
    scope="any countable Y with finite Z (`others` is the part of Z that w and l do not give); the odds of the last two places, "
    "any number of places before them",
    expected="refuted",
    depends_on=("simpo-plackett-luce", "multiplier-cancels", "length-normalized-temperature"),
)
def length_normalized_temperature_rankings() -> list[Step]:
    others, (s_1,) = sp.Symbol("others", nonnegative=True), reals("s", 1)
    steps: list[Step] = []
    for m in (3, 4):
        *first, s_w, s_l = reals("s", m)
        odds = trace(ranking_loss, [*first, s_l, s_w]) - trace(ranking_loss, [*first, s_w, s_l])
        steps.append(Equal(f"m = {m}: log odds of exchanging the last two places", odds, s_w - s_l))
    three, tokens = positives("a", 3), lengths(3)
    scores = [substituted(weight, n) for weight, n in zip(three, tokens, strict=True)]
    truth = trace(ranking_loss, list(map(sp.log, three)))
    # one factor: the responses behind it have length len_l and true weights that sum to `rest`
    own = sp.exp(substituted(u, len_w))
    factor = own / (own + rest * sp.exp(-beta / len_l * sp.log(z)))
    at = {u: 3, v: 1, len_w: 1, len_l: 2, beta: 1, others: 0}
    weights = u ** (len_w / beta) + v ** (len_l / beta) + others
    return [
        *steps,
        Equal(
            "one place more in front of any number, whose e^s sum to `rest`: its factor sees u + v alone",
            trace(ranking_loss, [s_1, sp.log(rest), sp.log(u), sp.log(v)], top=1),
            sp.log(1 + (rest + u + v) * sp.exp(-s_1)),
            every=(rest,),
        ),
        Iff(
            "odds of the last two places, true and substituted: the Plackett-Luce form of MaxEnt is SimPO's ranking loss",
            sp.log(u) - sp.log(v),
            substituted(u, len_w) - substituted(v, len_l),
            beta / (len_w * len_l),
            (len_l - len_w, sp.log(z)),
            at,
            where={z: weights},
        ),
        Argued(
            "so it multiplies the probabilities of both orders by one number, and the log odds stay s_w - s_l for any number",
            by="induction",
            uses=("m = 3: log odds", "one place more in front", "simpo-plackett-luce"),
        ),
        Equal(
            "Z = 1: a factor is the true one, any number behind it",
            factor,
            u / (u + rest),
            {z: sp.S.One},
            every=(rest,),
        ),
        Equal("equal lengths: likewise", factor, u / (u + rest), {len_l: len_w}, every=(rest,)),
        Differs(
            "counterexample r = (log 3, 0, 0), lengths 1, 2, 1, beta = 1, Z = 5: the loss of the true ranking model against "
            "the substituted one's",
            truth,
            trace(ranking_loss, scores),
            dict(zip((*three, *tokens, z, beta), (3, 1, 1, 1, 2, 1, 5, 1), strict=True)),
        ),
    ]


@claim(
    "one-ranking-right-by-chance",
    "With three responses of lengths 1, 2, 1, the substituted form gives one ranking its true probability in two cases, "
    "Z = 1 and an accident.",
    latex=r"P(a \succ b \succ c) = P_{\mathrm{subst}} \iff Z = 1 \text{ or } b^2\sqrt{Z} = (a + c)\,c",
    hypotheses="beta = 1; a, b, c = e^r; Z = a + b^2 + c + others",
    source="THEORY 2.4 on rankings: why the condition is about odds, or about all rankings",
    scope="three responses of lengths 1, 2, 1 in a Y with finite Z, any rewards",
    expected="iff",
    depends_on=("length-normalized-temperature-rankings",),
)
def one_ranking_right_by_chance() -> list[Step]:
    a, b, c = sp.symbols("a b c", positive=True)
    others, t = sp.Symbol("others", nonnegative=True), sp.Symbol("sqrt(Z)", positive=True)

    def scores(*names: sp.Symbol) -> list[sp.Expr]:
        return [substituted(w, 2 if w == b else 1).subs({beta: 1, z: t**2}) for w in names]

    def true(*names: sp.Symbol) -> sp.Expr:
        return sp.exp(-trace(ranking_loss, [sp.log(w) for w in names]))

    def false(*names: sp.Symbol) -> sp.Expr:
        return sp.exp(-trace(ranking_loss, scores(*names)))

    bottom = (a + b + c) * (b + c) * (a + b * t + c) * (b * t + c)
    root = sp.sqrt(a + b**2 + c + others)
    accident = b**2 * t - (a + c) * c
    at = {a: 1, b: 2, c: 1, others: 3}
    return [
        Iff("one ranking", true(a, b, c), false(a, b, c), a * b / bottom, (t - 1, accident), at, where={t: root}),
        Equal("the accident: r = 0, Z = 4", true(a, b, c), false(a, b, c), {a: 1, b: 1, c: 1, t: 2}),
        Differs("and there b, c, a is not right", true(b, c, a), false(b, c, a), {a: 1, b: 1, c: 1, t: 2}),
    ]
