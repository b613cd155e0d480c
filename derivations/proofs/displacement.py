"""Whether training on a pair may lower the probability of the chosen response: DPO never does, SimPO can."""

import sympy as sp

from derivations.objectives import dpo, simpo
from derivations.proofs.symbols import beta, by_logit, gamma, len_l, len_w, positives, ref_l, ref_w, rest, sigmoid
from derivations.prover.claims import claim
from derivations.prover.kinds import Argued, Equal, Iff, Positive, Step
from derivations.prover.tracing import trace

w, l, other = positives("w", 3)  # weights of chosen, rejected, and of one response more
total = w + l + other + rest
logps = sp.log(w / total), sp.log(l / total)
a_w, a_l = sp.symbols("a_w a_l", positive=True)  # beta / |w|, beta / |l|
squares = sp.Symbol("squares", positive=True)  # sum of the squared weights of the responses in no pair, over `others`^2
others = sp.Symbol("others", positive=True)  # the sum of their weights
FLOW = "tabular softmax; gradient flow on the loss of one pair: d logit / dt = - d loss / d logit"


def rate(share: sp.Expr = squares) -> sp.Expr:
    """d log pi(w)/dt over sigma(-m): the logits move by +a_w, -a_l in the margin, and by (a_l - a_w) pi_y through log Z."""
    sum_of_weights = w + l + others
    pi_w, pi_l = w / sum_of_weights, l / sum_of_weights
    mean_of_squares = pi_w**2 + pi_l**2 + share * (others / sum_of_weights) ** 2
    return a_w * (1 - pi_w) + a_l * pi_l - (a_l - a_w) * (mean_of_squares - pi_w)


def flows(loss: sp.Expr, pull: sp.Expr, strengths: dict[sp.Symbol, sp.Expr]) -> list[Step]:
    """The traced loss moves log pi(w) by what `rate` says: its moving logits one by one, then their mean."""
    moves = [-by_logit(loss, weight) for weight in (w, l, other)]
    pi = [weight / total for weight in (w, l, other)]
    tilt = (a_l - a_w).subs(strengths)
    of_two = moves[0] - pi[0] * moves[0] - pi[1] * moves[1]
    left = sum(x**2 for x in pi[:2]) - pi[0]
    return [
        Equal("chosen logit", moves[0], pull * (a_w.subs(strengths) + tilt * pi[0])),
        Equal("rejected logit", moves[1], pull * (-a_l.subs(strengths) + tilt * pi[1])),
        Equal("any other logit, the rest summed", moves[2], pull * tilt * pi[2]),
        Equal(
            "their part of d log pi(w)/dt; every other response takes off pi_y times its move, tilt pi_y^2",
            of_two,
            pull * ((a_w * (1 - pi[0]) + a_l * pi[1]).subs(strengths) - tilt * left),
            every=(rest,),
        ),
    ]


@claim(
    "dpo-raises-chosen",
    "On one pair, DPO's gradient flow always raises log pi(w) of a tabular policy.",
    latex=r"\frac{d}{dt}\log\pi(w) = \beta\,\sigma(-m)\,(1 - \pi_w + \pi_l) > 0",
    hypotheses=FLOW,
    source="the displacement of likelihoods (arXiv:2410.08847) needs shared parameters or several pairs",
    scope="any finite Y: the responses in no pair are summed; one pair (others may lower it)",
    depends_on=("dpo-objective", "dpo-leaves-unseen"),
)
def dpo_raises_chosen() -> list[Step]:
    loss = trace(dpo, *logps, ref_chosen_logp=ref_w, ref_rejected_logp=ref_l, beta=beta)
    margin = beta * (logps[0] - ref_w) - beta * (logps[1] - ref_l)
    up = beta * (1 - w / total + l / total)
    return [
        *flows(loss, sigmoid(-margin), {a_w: beta, a_l: beta}),
        Equal("no other logit moves, so the rate is beta (1 - pi_w + pi_l)", rate().subs({a_w: beta, a_l: beta}),
              up.subs({rest: others - other})),
        Positive("which is positive", up),
        Argued("the rate of log pi(w) is its logit's minus the mean of all", by="chain rule",
               uses=("chosen logit", "any other logit", "their part")),
    ]  # fmt: skip


@claim(
    "simpo-lowers-chosen",
    "On one pair, SimPO's gradient flow can lower log pi(w) of a tabular policy if |w| > 2|l|, and raises it otherwise: with "
    "a = beta/|y| it falls if and only if a_l*pi_l + a_w*(1 - pi_w) < (a_l - a_w)*(-pi_w + sum(pi^2)).",
    latex=r"\frac{d}{dt}\log\pi(w) < 0 \iff a_w(1 - \pi_w) + a_l\pi_l < (a_l - a_w)\Big(\sum_y \pi_y^2 - \pi_w\Big),"
    r"\quad a = \tfrac{\beta}{|y|}",
    hypotheses=FLOW
    + "; the policy's other weights sum to `others`, their squares to squares * others^2, 0 < squares <= 1",
    source="the displacement of likelihoods (arXiv:2410.08847), for SimPO's length normalization",
    scope="any finite Y of at least three responses: those in no pair are summed; one pair, any margin",
    expected="iff",
    depends_on=("simpo-objective", "simpo-leaves-unseen"),
)
def simpo_lowers_chosen() -> list[Step]:
    loss = trace(simpo, *logps, chosen_length=len_w, rejected_length=len_l, beta=beta, gamma=gamma)
    margin = beta / len_w * logps[0] - beta / len_l * logps[1] - gamma
    strengths = {a_w: beta / len_w, a_l: beta / len_l}
    less, more, half = sp.symbols("less more half", nonnegative=True)
    beyond = sp.Symbol("beyond", positive=True)
    share = 1 / (1 + more)  # squares <= 1
    names = sp.symbols("pi_w pi_l sum(pi^2)", positive=True)
    sum_of_weights = w + l + others
    where = {names[0]: w / sum_of_weights, names[1]: l / sum_of_weights}
    where[names[2]] = where[names[0]] ** 2 + where[names[1]] ** 2 + squares * (others / sum_of_weights) ** 2
    factor = a_w * (1 - names[0]) + a_l * names[1] - (a_l - a_w) * (names[2] - names[0])
    # |w| = 2|l| + beyond, so a_w = beta/|w| and a_l = beta/|l|; w = l = 1 and one other response of weight `heavy`
    lengths = {a_w: 1 / (2 * len_l + beyond), a_l: 1 / len_l}
    gap = (a_l - 2 * a_w).subs(lengths)
    heavy = 1 + 4 * (a_w + a_l).subs(lengths) / gap
    return [
        *flows(loss, sigmoid(-margin), strengths),
        Argued(
            "the rate of log pi(w) is its logit's minus the mean of all; divided by sigma(-m) > 0 it is the left side below",
            by="chain rule",
            uses=("chosen logit", "any other logit", "their part"),
        ),
        Iff(
            "log pi(w) falls",
            rate(),
            sp.S.Zero,
            sp.S.One,
            (factor,),
            {w: 1, l: 1, others: 98, squares: 1, a_w: 1, a_l: 1},
            where=where,
            relation="<",
        ),
        Positive("|w| <= |l|: it rises", rate(share).subs(a_w, a_l + less)),
        Positive("|l| <= |w| <= 2|l|: it rises", rate(share).subs(a_l, a_w + half).subs(a_w, half + less + beyond)),
        Positive("and at |w| = 2|l| exactly", rate(share).subs(a_l, 2 * a_w)),
        Positive(
            "|w| = 2|l| + beyond: it falls where w and l have weight 1 and one other 1 + 4 (a_w + a_l)/(a_l - 2 a_w)",
            -rate(sp.S.One).subs({w: 1, l: 1}).subs(lengths).subs(others, heavy),
        ),
    ]
