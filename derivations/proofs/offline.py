"""THEORY 4.4: offline training with a tabular policy leaves unseen responses alone, and what it converges to."""

import sympy as sp

from derivations.objectives import dpo, pair_loss, simpo
from derivations.proofs.symbols import (
    beta,
    by_logit,
    gamma,
    len_l,
    len_w,
    length,
    positives,
    reals,
    ref_l,
    ref_w,
    rest,
    sigmoid,
)
from derivations.prover.claims import claim
from derivations.prover.kinds import Argued, Equal, Iff, Positive, Step
from derivations.prover.tracing import trace

w, l, unseen = positives("w", 3)  # weights of chosen, rejected, and of a response that is in no pair
total = w + l + unseen + rest
logps = sp.log(w / total), sp.log(l / total)


def simpo_loss() -> sp.Expr:
    return trace(simpo, *logps, chosen_length=len_w, rejected_length=len_l, beta=beta, gamma=gamma)


@claim(
    "dpo-leaves-unseen",
    "DPO's gradient on the logit of a response that is in no pair is exactly zero.",
    latex=r"\frac{\partial\ell_{\mathrm{DPO}}}{\partial\theta_y} = 0 \quad (y \text{ in no pair})",
    hypotheses="tabular softmax logits",
    source="THEORY 4.4",
    scope="any finite Y: the responses not written out are summed",
    depends_on=("dpo-objective",),
)
def dpo_leaves_unseen() -> list[Step]:
    loss = trace(dpo, *logps, ref_chosen_logp=ref_w, ref_rejected_logp=ref_l, beta=beta)
    margin = beta * (logps[0] - ref_w) - beta * (logps[1] - ref_l)
    return [
        Equal("the unseen logit", by_logit(loss, unseen), sp.S.Zero),
        Equal("the chosen one does move", by_logit(loss, w), -beta * sigmoid(-margin)),
        Equal("and the rejected one by as much the other way", by_logit(loss, l), beta * sigmoid(-margin)),
    ]


@claim(
    "simpo-leaves-unseen",
    "SimPO's gradient on the logit of an unseen response, per pair, vanishes if and only if |l| = |w|.",
    latex=r"\frac{\partial\ell}{\partial\theta_y} = \beta\Big(\frac1{|w|}-\frac1{|l|}\Big)\sigma(-m)\,\pi(y)",
    hypotheses="tabular softmax logits; one pair (over a data set the terms add and may cancel)",
    source="THEORY 4.4",
    scope="any finite Y: the responses not written out are summed",
    depends_on=("simpo-objective",),
    expected="iff",
)
def simpo_leaves_unseen() -> list[Step]:
    gradient = by_logit(simpo_loss(), unseen)
    margin = beta / len_w * logps[0] - beta / len_l * logps[1] - gamma
    pull = beta * sigmoid(-margin) * unseen / total
    return [
        Equal("the gradient", gradient, (1 / len_w - 1 / len_l) * pull),
        Iff(
            "the gradient is zero",
            gradient,
            sp.S.Zero,
            pull / (len_w * len_l),
            (len_l - len_w,),
            {w: 1, l: 1, unseen: 1, rest: 1, len_w: 1, len_l: 2, beta: 1, gamma: 1},
        ),
    ]


@claim(
    "offline-limit",
    "With equal lengths and no margin, SimPO by gradient descent ends at the Bradley-Terry fit on the seen responses.",
    latex=r"\theta_S \to \frac{|y|}{\beta}\hat r_{\mathrm{BT}} + \overline{\theta_S(0)},\qquad \theta_{\text{unseen}} \text{ stays}",
    hypotheses="tabular softmax; one length; gamma = 0; comparison graph on the seen set S strongly connected; small steps",
    source="THEORY 4.4",
    scope="any finite Y: one pair at a time (the loss is their sum), responses not in it as `unseen` and `rest`",
    depends_on=("loss-has-minimum", "simpo-leaves-unseen", "maxent-optimal-policy"),
)
def offline_limit() -> list[Step]:
    r_w, r_l = reals("r", 2)
    scale = beta / length
    options = {"chosen_length": length, "rejected_length": length, "beta": beta}
    loss = trace(simpo, *logps, **options)
    fit = trace(pair_loss, r_w, r_l)  # Bradley-Terry negative log-likelihood of rewards r
    at = {r_w: scale * sp.log(w), r_l: scale * sp.log(l)}
    return [
        Equal(
            "chosen logit: the gradient is beta/|y| times the Bradley-Terry fit's at r = (beta/|y|) theta",
            by_logit(loss, w),
            scale * sp.diff(fit, r_w),
            at,
        ),
        Equal("rejected logit: likewise", by_logit(loss, l), scale * sp.diff(fit, r_l), at),
        Equal("every other logit: 0", by_logit(loss, unseen), sp.S.Zero),
        Equal(
            "so the gradient sums to 0 over the seen logits, and their mean stays",
            by_logit(loss, w) + by_logit(loss, l),
            sp.S.Zero,
        ),
        Argued(
            "strongly connected: the fit exists and is unique up to a shift (loss-has-minimum, strict convexity across "
            "pairs); small gradient steps on a convex loss reach it, and the conserved mean picks the shift",
            by="gradient descent",
            uses=("loss-has-minimum", "so the gradient sums to 0"),
        ),
        Argued(
            "so pi(. | S) is proportional to exp(r_hat |y| / beta): the MaxEnt optimum for the fitted reward",
            by="first order",
            uses=("maxent-optimal-policy",),
        ),
    ]


@claim(
    "unseen-mass-can-rise",
    "The mass of unseen responses can rise although their logits do not move.",
    latex=r"w_S: (4, \tfrac14) \to (1, 1),\quad \pi(\text{unseen}): \tfrac{4}{21} \to \tfrac13",
    source="THEORY 4.4, end",
    scope="exact example; a tie in the data (1 : 1) between two seen responses whose weights were 4 and 1/4",
    depends_on=("offline-limit",),
)
def unseen_mass_can_rise() -> list[Step]:
    x = sp.Symbol("x", positive=True)  # the seen weights are x and 1/x: their logits have mean 0 throughout
    mass = 1 / (1 + x + 1 / x)
    tie = trace(pair_loss, sp.log(x), -sp.log(x)) + trace(pair_loss, -sp.log(x), sp.log(x))
    return [
        Equal("one win each: the loss", tie, sp.log(1 + x**2) + sp.log(1 + 1 / x**2)),
        Equal("one win each: the loss is stationary at equal logits", sp.diff(tie, x), sp.S.Zero, {x: sp.S.One}),
        Equal("unseen mass at the start", mass, sp.Rational(4, 21), {x: sp.Integer(4)}),
        Equal("unseen mass at the end", mass, sp.Rational(1, 3), {x: sp.S.One}),
        Positive("it rose", sp.Rational(1, 3) - sp.Rational(4, 21)),
    ]
