"""Numbers near 0 that plain formulas lose: sigmoids, slopes, k3, an alpha-divergence of small order, slow retention."""

from collections.abc import Iterator

import mpmath
import numpy as np
from flint import arb, ctx

from derivations.arrays import sigmoid
from derivations.names import parse_regularizer
from derivations.objectives import kl_k3
from derivations.preference_losses import log_odds
from derivations.preferences import rao_kupper_tie
from derivations.prover.claims import claim
from derivations.prover.kinds import Enumerated, Step
from derivations.regularizers import KL, AlphaDivergence, JensenShannon
from derivations.retention import retention_law
from derivations.slopes import pair_slope

FINE = 1e-13  # a few hundred roundings in float64
ORDER, RATE = 2.0**-20, 2.0**-30  # of the alpha-divergence, and of forgetting
GRID = (-600.0, -80.0, -30.0, -1.0, -1e-4, -1e-9, 1e-9, 1e-4, 1.0, 30.0)
Case = tuple[str, float, float]


def values() -> Iterator[Case]:
    """(function, argument, what it returns in float64)."""
    for x in GRID:
        at, zero = np.array([x]), np.zeros(1)
        yield "sigmoid", x, float(sigmoid(at)[0])
        yield "pair slope", x, float(pair_slope(-at, zero)[0])
        yield "k3", x, float(kl_k3(zero, at)[0])
        if x > -100:
            yield "alpha-divergence", x, float(AlphaDivergence(1.0, ORDER).implicit_reward(at, ref_logp=zero)[0])
            for bounded in (JensenShannon(1.0), JensenShannon(1.0) + KL(0.0)):
                yield "below the top", x, float(bounded.below_top(at, ref_logp=zero)[0])
        if x > 0:
            yield "no pull", x, float(retention_law(at, alpha=0.0, beta=0.0)[1][0])
            yield "retention", x, float(retention_law(at, alpha=RATE, beta=RATE)[1][0])
            yield "tie", x, float(rao_kupper_tie(zero, zero, gamma=x)[0])
        else:
            yield "log-odds", x, float(log_odds(at)[0])
    yield (
        "alpha-divergence",
        1e-7,
        float(
            parse_regularizer(f"alpha-divergence:{ORDER}=1").implicit_reward(np.array([1e-7]), ref_logp=np.zeros(1))[0]
        ),
    )


def size(name: str, x: float, exact: float) -> float:
    """What an error is compared with: the value, or the terms that make it up."""
    return abs(x) if name == "k3" and abs(x) < 1 else 1 + abs(exact) if name in {"tie", "log-odds"} else abs(exact)


def by_balls(case: Case) -> bool:
    name, x, value = case
    before, ctx.prec = ctx.prec, 2000
    try:
        at, order = arb(x), arb(ORDER)
        exact = {
            "sigmoid": lambda: 1 / (1 + (-at).exp()),
            "pair slope": lambda: -1 / (1 + (-at).exp()),
            "k3": lambda: at.exp() - 1 - at,
            "alpha-divergence": lambda: (1 - (-order * at).exp()) / order,
            "below the top": lambda: -((-at).exp() + 1).log(),
            "retention": lambda: (1 - (-2 * arb(RATE) * at).exp()) / (2 * arb(RATE)),
            "no pull": lambda: at,
            "tie": lambda: ((2 * at).exp() - 1).log() - 2 * (1 + at.exp()).log(),
            "log-odds": lambda: at - (1 - at.exp()).log(),
        }[name]()
        return abs(float(exact - arb(value))) <= FINE * size(name, x, float(exact))
    finally:
        ctx.prec = before


def by_mpmath(case: Case) -> bool:
    name, x, value = case
    with mpmath.workdps(700):
        at = mpmath.mpf(x)
        if name in {"sigmoid", "pair slope"}:
            exact = mpmath.exp(at) / (mpmath.exp(at) + 1) * (1 if name == "sigmoid" else -1)
        elif name == "k3":
            exact = mpmath.expm1(at) - at
        elif name in {"alpha-divergence", "retention"}:
            rate = mpmath.mpf(ORDER if name == "alpha-divergence" else 2 * RATE)
            exact = -mpmath.expm1(-rate * at) / rate
        elif name == "no pull":
            exact = at
        elif name == "below the top":
            exact = -mpmath.log1p(mpmath.exp(-at))
        else:
            exact = (
                mpmath.log(mpmath.exp(at) / (1 - mpmath.exp(at)))
                if name == "log-odds"
                else mpmath.log(mpmath.expm1(2 * at) / (1 + mpmath.exp(at)) ** 2)
            )
        scale = abs(at) if name == "k3" and abs(at) < 1 else abs(exact) + (name in {"tie", "log-odds"})
        return bool(abs(exact - mpmath.mpf(value)) <= FINE * scale)


def not_zero(case: Case) -> bool:
    return case[2] > 0


@claim(
    "small-values-keep-their-digits",
    "In float64 sigmoids, slopes of pairs, KL estimates, scores and retention keep their digits also where a plain formula cancels.",
    latex=r"|\hat f(x) - f(x)| \le 10^{-13}\,|f(x)|",
    hypotheses="float64; k3 against |x|, log-odds and ties against 1 + their value",
    source="docstrings of the ground floor",
    scope="a grid from -600 to 30; an order of 2^-20, rates of 2^-30",
)
def small_values() -> list[Step]:
    return [Enumerated("the values at the grid", values, by_balls, by_mpmath, {"they are all positive": not_zero})]
