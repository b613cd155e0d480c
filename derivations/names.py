"""Names: the regularizer or objective that a command line's text stands for.

The formulas do not know their names' spelling; this file does, and the commands, the bandit and the language model
read it. A text that is a formula is handed to `derivations.custom.derive`.
"""

import math
import re
from dataclasses import dataclass
from typing import Any

from derivations.cli.errors import suggest
from derivations.objectives import Objective
from derivations.regularizers import (
    KL,
    NONE,
    REGULARIZERS,
    AlphaDivergence,
    Entropy,
    ForwardKL,
    JensenShannon,
    LengthNormalized,
    LengthNormalizedShannon,
    Regularizer,
    Sum,
    Term,
)


def parse_regularizer(text: str, coefficient: float | None = None) -> Regularizer:
    """Regularizer from its command-line form: `kl` with a coefficient, `entropy=0.5+kl=0.1`, or `none`.

    Args:
        text: parts joined by `+`. `alpha-divergence:0.3=0.1` gives the order (default 0.5) before the coefficient. A
            formula in p, q and length is taken too (`derive.regularizer_of`).
        coefficient: of the parts that are written without `=`, reward units per nat.

    Raises:
        ValueError: an unknown name; a missing, malformed or negative coefficient or order; a coefficient that no part
            uses. The message says how to mend it.
        InputError: a formula that cannot be used.

    >>> parse_regularizer("entropy=0.5+kl=0.1").name
    'entropy+kl'
    """
    if coefficient is not None and not 0 <= coefficient < math.inf:
        raise ValueError(f"regularizer {text!r}: coefficient is {coefficient}, expected a finite number >= 0")
    if re.search(r"[*/(]", text):
        from derivations.custom.derive import regularizer_of  # needs SymPy, which named regularizers do not

        return regularizer_of(text, coefficient)
    # a plus sign joins terms only before a name, so that 1e+2 stays a number
    items = [] if text == "none" else [item.strip() for item in re.split(r"\+(?!\d)", text)]
    parts = [_parse_term(item, coefficient) for item in items]
    if coefficient is not None and not any(not item.partition("=")[2] for item in items):
        raise ValueError(f"regularizer {text!r}: no part takes the coefficient {coefficient}; leave one of the two out")
    if not parts:
        return NONE
    return parts[0] if len(parts) == 1 else Sum(tuple(parts))


def _parse_term(text: str, coefficient: float | None) -> Term:
    head, _, value = text.partition("=")
    name, _, order = head.partition(":")
    if name == "none":
        raise ValueError("regularizer 'none' stands alone: leave it out of the sum")
    if name not in REGULARIZERS:
        raise ValueError(f"unknown regularizer {name!r}{suggest(name, [*REGULARIZERS, 'none'])}")
    if order and name != AlphaDivergence.name:
        raise ValueError(f"regularizer {text!r}: only {AlphaDivergence.name} takes an order (written name:order=0.1)")
    if not value and coefficient is None:
        raise ValueError(f"regularizer {name!r} has no coefficient: write {name}=0.1 or pass --coefficient 0.1")
    strength = _number(value, text) if value else coefficient
    return AlphaDivergence(strength, _number(order, text)) if order else REGULARIZERS[name](strength)


def _number(value: str, text: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"regularizer {text!r}: {value!r} is not a number") from None


DIVERGENCES: dict[str, type[Term]] = {cls.name: cls for cls in (KL, ForwardKL, JensenShannon, AlphaDivergence)}


@dataclass(frozen=True)
class Recipe:
    """What a name stands for. strength: the option that is the regularizer's coefficient. options: the others it takes.

    regularizer None: chosen by the option `divergence`.
    """

    regularizer: type[Term] | None
    strength: str
    options: tuple[str, ...] = ()
    listwise: bool = False
    least_squares: bool = False


OBJECTIVES: dict[str, Recipe] = {
    "dpo": Recipe(KL, "beta"),
    "cdpo": Recipe(KL, "beta", ("label_smoothing",)),
    "ipo": Recipe(KL, "beta", least_squares=True),
    "f-dpo": Recipe(None, "beta", ("divergence", "order", "label_smoothing")),
    "simpo": Recipe(LengthNormalized, "beta", ("gamma", "label_smoothing")),
    "simpo-shannon": Recipe(LengthNormalizedShannon, "beta", ("gamma", "label_smoothing")),
    "maxent": Recipe(Entropy, "alpha", ("gamma", "label_smoothing")),
    "dpo-pl": Recipe(KL, "beta", ("top",), listwise=True),
    "f-dpo-pl": Recipe(None, "beta", ("divergence", "order", "top"), listwise=True),
    "simpo-pl": Recipe(LengthNormalized, "beta", ("top",), listwise=True),
    "simpo-shannon-pl": Recipe(LengthNormalizedShannon, "beta", ("top",), listwise=True),
    "maxent-pl": Recipe(Entropy, "alpha", ("top",), listwise=True),
}


def make_objective(name: str, **options: Any) -> Objective:
    """Objective by its command-line name.

    Args:
        name: one of `OBJECTIVES`.
        **options: None counts as not given. alpha (maxent forms) or beta (the others): strength > 0, reward units per
            nat, required. gamma: margin >= 0, reward units (simpo, simpo-shannon, maxent; default 0). label_smoothing:
            share in [0, 1/2) (default 0; required for cdpo). divergence (f-dpo forms, required): kl, forward-kl,
            jensen-shannon or alpha-divergence; order: of the last, in (0, 1) (default 0.5). top: observed places of a
            ranking (listwise forms).

    Raises:
        ValueError: an unknown name, a missing, superfluous or out-of-range option; the message says how to mend it.
    """
    if name not in OBJECTIVES:
        raise ValueError(f"unknown objective {name!r}{suggest(name, list(OBJECTIVES))}")
    recipe = OBJECTIVES[name]
    given = {option: value for option, value in options.items() if value is not None}
    for option in given:
        if option not in (recipe.strength, *recipe.options):
            takes = ", ".join((recipe.strength, *recipe.options))
            raise ValueError(f"objective {name} takes no {option} (it takes: {takes})")
    strength = given.pop(recipe.strength, None)
    if strength is None or not 0 < strength < math.inf:
        raise ValueError(f"objective {name}: {recipe.strength} is {strength}, expected a number > 0")
    if name == "cdpo" and "label_smoothing" not in given:
        raise ValueError("objective cdpo: give label_smoothing, the share of flipped labels (dpo is cdpo without)")
    regularizer = recipe.regularizer or _divergence(name, given)
    order = {"order": given.pop("order")} if "order" in given else {}
    if order and regularizer is not AlphaDivergence:
        raise ValueError(f"objective {name}: only divergence alpha-divergence takes an order")
    return Objective(
        name, regularizer(strength, **order), listwise=recipe.listwise, least_squares=recipe.least_squares, **given
    )


def _divergence(name: str, given: dict[str, Any]) -> type[Term]:
    """Take `divergence` out of the options and look it up."""
    divergence = given.pop("divergence", None)
    if divergence not in DIVERGENCES:
        raise ValueError(f"objective {name}: divergence is {divergence!r}{suggest(str(divergence), list(DIVERGENCES))}")
    return DIVERGENCES[divergence]
