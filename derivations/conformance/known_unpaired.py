"""The named terms of unpaired losses: KTO with its parts exchanged, left out, or of another sign."""

import itertools
from collections.abc import Callable
from typing import Any

from derivations.arrays import Array, log_sigmoid, namespace, sigmoid
from derivations.conformance.derived import Arrays
from derivations.conformance.families import UNPAIRED
from derivations.conformance.further import complete
from derivations.conformance.loss_under_test import Subject

Term = tuple[str, Callable[[Arrays], Array]]


OUTER: dict[str, Callable[[Array], Array]] = {
    "": lambda x: 1 - sigmoid(x),
    "-log sigmoid for 1 - sigmoid": lambda x: -log_sigmoid(x),
    "a hinge for 1 - sigmoid": lambda x: (1 - x + namespace(x).abs(1 - x)) / 2,
    "a line for 1 - sigmoid": lambda x: -x,
    "-sigmoid for 1 - sigmoid": lambda x: -sigmoid(x),
}
LEADS: dict[str, Callable[[Arrays, Any], Array]] = {
    "": lambda a, b: a["logp"] - a["ref_logp"] - a["kl"],
    "reference point left out": lambda a, b: a["logp"] - a["ref_logp"],
    "reference point with the wrong sign": lambda a, b: a["logp"] - a["ref_logp"] + a["kl"],
    "reference point doubled": lambda a, b: a["logp"] - a["ref_logp"] - 2 * a["kl"],
    "reference point without beta": lambda a, b: a["logp"] - a["ref_logp"] - a["kl"] / b,
    "reference policy left out": lambda a, b: a["logp"] - a["kl"],
    "reference policy and reference point left out": lambda a, b: a["logp"],
    "reference policy added": lambda a, b: a["logp"] + a["ref_logp"] - a["kl"],
    "log-ratio averaged over tokens": lambda a, b: (a["logp"] - a["ref_logp"]) / a["length"] - a["kl"],
    "log-ratio and reference point averaged over tokens": lambda a, b: (
        (a["logp"] - a["ref_logp"] - a["kl"]) / a["length"]
    ),
    "log-ratio averaged over tokens, no reference point": lambda a, b: (a["logp"] - a["ref_logp"]) / a["length"],
}
SIDES: dict[str, tuple[float, float]] = {  # signs of the lead for what is liked and what is not
    "": (1, -1),
    "desirable and undesirable exchanged": (-1, 1),
    "both pushed up": (1, 1),
    "both pushed down": (-1, -1),
}
WEIGHTS = {
    "": (0, 1),
    "weights exchanged": (1, 0),
    "the desirable weight for both": (0, 0),
    "the undesirable weight for both": (1, 1),
}


def unpaired_mains(subject: Subject) -> list[Term]:
    """KTO under every reading of its parts; the fewest words first."""
    options = complete("kto", subject.target.options)
    beta, weights = options["beta"], (options["desirable_weight"], options["undesirable_weight"])
    scales = {"": beta, "beta = 1": 1.0, "2 beta": 2 * beta, "beta/2": beta / 2, "1/beta": 1 / beta}
    kinds: list[dict[str, Any]] = [OUTER, LEADS, SIDES, {"": None, "only desirable": 0, "only undesirable": 1}, scales]
    kinds.append(WEIGHTS if weights[0] != weights[1] else {"": (0, 1)})
    found = [
        _named(dict(zip(PARTS, parts, strict=True)), weights)
        for parts in itertools.product(*(k.items() for k in kinds))
    ]
    return sorted((term for term in found if term[0].count(",") <= 2), key=lambda term: term[0].count(","))


PARTS = ("outer", "lead", "side", "only", "scale", "weight")


def _named(parts: dict[str, Any], weights: tuple[Any, Any]) -> Term:
    """One reading: its words, and the loss."""

    def loss(arrays: Arrays) -> Array:
        named = UNPAIRED.derive(arrays)
        (up, down), (first, second), only = parts["side"][1], parts["weight"][1], parts["only"][1]
        lead, xp = parts["scale"][1] * parts["lead"][1](named, parts["scale"][1]), namespace(named["logp"])
        good, bad = weights[first] * parts["outer"][1](up * lead), weights[second] * parts["outer"][1](down * lead)
        good, bad = (good if only != 1 else 0 * good), (bad if only != 0 else 0 * bad)
        return xp.where(named["desirable"], good, bad)

    return ", ".join(["KTO", *filter(None, (word for word, _ in parts.values()))]), loss
