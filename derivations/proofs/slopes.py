"""Slopes: descent without automatic differentiation uses the derivatives of the very losses and implicit rewards."""

from collections.abc import Callable
from functools import partial
from typing import Any

import sympy as sp

from derivations.names import make_objective
from derivations.objectives import Objective, ipo_loss, pair_loss, ranking_loss
from derivations.proofs.regularizers import UNIT, forms, symbolic_sum
from derivations.proofs.symbols import beta, gamma, length, p, positives, q
from derivations.prover.claims import claim
from derivations.prover.kinds import Equal, Positive, Step
from derivations.prover.symbolic import SymArray
from derivations.prover.tracing import trace, traced_array
from derivations.slopes import ipo_slope, pair_slope, ranking_slope


@claim(
    "implicit-reward-slopes",
    "The slope that every regularizer offers is the derivative of its implicit reward in log p, and it is positive; its "
    "`below_top` differs from its implicit reward by one constant.",
    latex=r"\text{slope} = \frac{\partial s}{\partial \log p} = p\,\phi''(p) > 0",
    hypotheses="p, q in (0, 1], strength > 0, length >= 1",
    source="THEORY 1, table",
    scope="any response set: a statement about one response",
    depends_on=("implicit-reward-sum",),
)
def implicit_reward_slopes() -> list[Step]:
    regularizers = {name: form.regularizer for name, form in forms().items()} | {"a sum of four": symbolic_sum()}
    other = dict(zip((p, q), positives("other", 2), strict=True)) | {length: sp.Symbol("len_other", positive=True)}
    steps: list[Step] = []
    for name, regularizer in regularizers.items():
        options = {"length": length, "ref_logp": sp.log(q)}
        score = trace(regularizer.implicit_reward, sp.log(p), **options)
        slope = trace(regularizer.slope, sp.log(p), **options)
        below = trace(regularizer.below_top, sp.log(p), **options)
        steps += [
            Equal(f"{name}: the slope is the derivative in log p", slope, p * sp.diff(score, p), unit=UNIT),
            Positive(f"{name}: the slope is positive", slope, unit=UNIT),
            Equal(
                f"{name}: below_top and the implicit reward differ alike at any two responses",
                score - score.subs(other),
                below - below.subs(other),
                unit=UNIT,
            ),
        ]
    return steps


@claim(
    "loss-slopes",
    "The slopes of the pair loss, of IPO's loss and of the ranking loss are the derivatives of these losses in the "
    "implicit rewards.",
    latex=r"\text{slope}_j = \frac{\partial\,\text{loss}}{\partial s_j}",
    source="THEORY 3.1",
    scope="pairs, with margin and label smoothing; rankings of 2 to 5 responses, whole and of every top",
)
def loss_slopes() -> list[Step]:
    w, l = sp.symbols("s_w s_l", real=True)
    eps = sp.Symbol("epsilon", positive=True)
    pairs: dict[str, tuple[Callable[..., Any], Callable[..., Any], dict[str, Any]]] = {
        "pair": (pair_loss, pair_slope, {"gamma": gamma, "label_smoothing": eps}),
        "ipo": (ipo_loss, ipo_slope, {"beta": beta}),
    }
    steps: list[Step] = []
    for name, (loss, slope, options) in pairs.items():
        value, found = trace(loss, w, l, **options), trace(slope, w, l, **options)
        steps += [
            Equal(f"{name}: the slope in the chosen reward", found, sp.diff(value, w)),
            Equal(f"{name}: the slope in the rejected reward is its negative", -found, sp.diff(value, l)),
        ]
    for m in (2, 3, 4, 5):
        rewards = sp.symbols(f"s_1:{m + 1}", real=True)
        for top in (None, *range(1, m - 1)):
            value = trace(partial(ranking_loss, top=top), list(rewards))
            found = traced_array(partial(ranking_slope, top=top), list(rewards)).values
            steps += [
                Equal(f"ranking of {m}, top {top or 'all'}: the slope in place {j + 1}", found[j], sp.diff(value, s))
                for j, s in enumerate(rewards)
            ]
    return [*steps, *_by_name(w, l)]


def _by_name(w: sp.Symbol, l: sp.Symbol) -> list[Step]:
    """The method that descent calls, on a batch of one: an objective of each kind."""
    objectives: list[Objective] = [
        make_objective("cdpo", beta=2.0, label_smoothing=0.25),
        make_objective("ipo", beta=2.0),
    ]
    objectives.append(make_objective("simpo", beta=2.0, gamma=0.5))
    objectives.append(make_objective("dpo-pl", beta=2.0))
    steps: list[Step] = []
    for objective in objectives:
        rewards = SymArray([[w, l]])
        (loss,), (found,) = traced_array(objective.loss, rewards).values, traced_array(objective.slope, rewards).values
        steps += [
            Equal(f"{objective.name} by name: the slope in reward {place}", found[i], sp.diff(loss, s))
            for i, (place, s) in enumerate((("chosen", w), ("rejected", l)))
        ]
    return [*steps, *_first_place()]


def _first_place() -> list[Step]:
    """The same of a ranking of three of which the first place was seen; of two that would be the whole ranking."""
    rewards = list(sp.symbols("s_1:4", real=True))
    objective = make_objective("dpo-pl", beta=2.0, top=1)
    loss, found = trace(objective.loss, rewards), traced_array(objective.slope, rewards).values
    return [
        Equal(f"dpo-pl by name, top 1: the slope in place {j + 1}", found[j], sp.diff(loss, s))
        for j, s in enumerate(rewards)
    ]
