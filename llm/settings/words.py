"""Objectives and regularizers in words, as they stand in announcements, model cards and reports."""

from typing import Any

from derivations.names import OBJECTIVES
from derivations.published import PUBLISHED, UNPAIRED, Trained
from derivations.regularizers import Regularizer

TITLES = {
    "dpo": "DPO",
    "cdpo": "conservative DPO",
    "ipo": "IPO",
    "f-dpo": "f-DPO",
    "simpo": "SimPO",
    "simpo-shannon": "SimPO with Shannon's entropy",
    "maxent": "maximum entropy",
    "kto": "KTO",
    "orpo": "ORPO",
    "dpop": "DPO-Positive",
    "apo-zero": "APO-zero",
    "apo-down": "APO-down",
    "slic": "SLiC's hinge",
    "chi-po": "chi-squared PO",
    "r-dpo": "R-DPO",
    "ln-dpo": "length-normalized DPO",
    "wpo": "WPO",
    "sppo": "SPPO",
}


def title(name: str) -> str:
    """The name of an objective in prose: `simpo-pl` -> `SimPO on rankings`."""
    base = name.removesuffix("-pl")
    return TITLES.get(base, base) + (" on rankings" if base != name else "")


def objective_words(objective: Trained) -> str:
    """`SimPO (beta 2, gamma 1)`: its name and every option that does something."""
    known = OBJECTIVES.get(objective.name)
    strength = known.strength if known else "beta" if objective.name in (*UNPAIRED, *PUBLISHED) else "strength"
    term: Any = objective.regularizer
    said = [f"{strength} {term.coefficient:g}"] if hasattr(term, "coefficient") else []
    if objective.name.startswith("f-dpo"):
        said.insert(0, term.name)
        said += [f"order {term.order:g}"] if hasattr(term, "order") else []
    for option, neutral in (("gamma", 0), ("label_smoothing", 0), ("desirable_weight", 1), ("undesirable_weight", 1)):
        value = getattr(objective, option, neutral)
        said += [f"{option.replace('_', ' ')} {value:g}"] if value != neutral else []
    said += [f"{name} {value:g}" for name, value in getattr(objective, "options", {}).items() if name != "beta"]
    said += [f"the first {objective.top} places"] if objective.top is not None else []
    return title(objective.name) + (f" ({', '.join(said)})" if said else "")


def regularizer_words(regularizer: Regularizer) -> str:
    """`KL 0.05`, `entropy 0.02 + KL 0.05`, `no regularizer`: names and strengths (reward units per nat)."""
    parts: Any = getattr(regularizer, "parts", None)
    if parts is not None:
        return " + ".join(map(regularizer_words, parts)) or "no regularizer"
    name = "KL" if regularizer.name == "kl" else regularizer.name
    strength = getattr(regularizer, "coefficient", None)
    return f"{name} {strength:g}" if isinstance(strength, int | float) else name
