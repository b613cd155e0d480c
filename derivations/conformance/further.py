"""Objectives beside those of `derivations.names`: more preference losses, unpaired ones, and off-policy ones.

Each is one function of the ground floor, called on the arrays of its family; `contracts.Target` looks here.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from derivations import off_policy, preference_losses
from derivations.arrays import Array, namespace
from derivations.conformance.derived import Arrays
from derivations.conformance.families import OFF_POLICY, PAIRS, UNPAIRED, Family

HOW = (
    "reduction",
    "scale",
    "denominator",
)  # options of the kit, not of the function: read off it if they are not given
NEEDS_EPSILON = ("ppo-clip", "grpo", "gspo", "cispo")


@dataclass(frozen=True)
class Further:
    """One objective. options: name -> default; None: has to be given, or may be left out if `optional` names it."""

    family: Family
    loss: Callable[..., Array]
    options: dict[str, Any]
    optional: tuple[str, ...] = ()
    needs_length: bool = False
    needs_reference: bool = True


def _pair(
    function: Callable[..., Array], options: dict[str, Any], *, length: bool = False, reference: bool = True
) -> Further:
    """A preference loss of pairs, called with what it reads."""
    lengths = ("chosen_length", "rejected_length") if length else ()
    references = ("ref_chosen_logp", "ref_rejected_logp") if reference else ()

    def loss(named: Arrays, **given: Any) -> Array:
        arrays = {name: named[name] for name in (*lengths, *references)}
        return function(named["chosen_logp"], named["rejected_logp"], **arrays, **given)

    return Further(PAIRS, loss, options, needs_length=length, needs_reference=reference)


def _kto(named: Arrays, **options: Any) -> Array:
    return preference_losses.kto(
        named["logp"], named["desirable"], ref_logp=named["ref_logp"], kl=named["kl"], **options
    )


BETA: dict[str, Any] = {"beta": None}
PREFERENCE: dict[str, Further] = {
    "orpo": _pair(preference_losses.orpo, BETA, length=True, reference=False),
    "dpop": _pair(preference_losses.dpop, BETA | {"penalty": 50.0}),
    "apo-zero": _pair(preference_losses.apo_zero, BETA),
    "apo-down": _pair(preference_losses.apo_down, BETA),
    "slic": _pair(preference_losses.slic, BETA),
    "chi-po": _pair(preference_losses.chi_po, BETA),
    "r-dpo": _pair(preference_losses.r_dpo, BETA | {"alpha": None}, length=True),
    "ln-dpo": _pair(preference_losses.ln_dpo, BETA, length=True),
    "wpo": _pair(preference_losses.wpo, BETA, length=True),
    "sppo": _pair(preference_losses.sppo, BETA),
    "kto": Further(UNPAIRED, _kto, BETA | {"desirable_weight": 1.0, "undesirable_weight": 1.0}),
}


SCALES = (
    "leave-one-out", "mean",
    *(f"{kind}+{epsilon}" for kind in ("std", "population-std") for epsilon in ("1e-4", "1e-6", "1e-8", "1e-5")),
)  # fmt: skip
SCALE = re.compile(r"leave-one-out|mean|(population-)?std\+\d*\.?\d+(e-?\d+)?")


def _of_tokens(function: Callable[..., Array]) -> Callable[..., Array]:
    """A loss of tokens [N, T], reduced."""

    def loss(named: Arrays, *, reduction: str, denominator: Any, **clip: Any) -> Array:
        advantages = named["advantages"]
        losses = function(named["logps"], named["old_logps"], named["mask"], advantages, **clip)
        if losses.ndim == 1:  # one value a sample: that of each of its tokens
            xp, mask = namespace(losses), named["mask"]
            blank = xp.zeros_like(named["old_logps"])
            losses = xp.where(mask, losses[:, None] + blank, blank)
        return off_policy.reduced(losses, named["mask"], reduction, denominator=denominator)  # type: ignore[arg-type]

    return loss


def _of_responses(named: Arrays, *, reduction: str, denominator: Any, **clip: Any) -> Array:
    arrays = (named["logps"], named["old_logps"], named["mask"], named["advantages"])
    return off_policy.rloo_ratio(*arrays, **clip)


def _off(function: Callable[..., Array], reduction: str, scale: str, epsilon: Any = 0.2, high: Any = None) -> Further:
    how = {"reduction": reduction, "scale": scale, "denominator": None}
    return Further(
        OFF_POLICY, function, {"epsilon": epsilon, "epsilon_high": high} | how, ("epsilon", "epsilon_high", *HOW)
    )


OFF: dict[str, Further] = {
    "ppo-clip": _off(_of_tokens(off_policy.ppo_clip), "token-mean", "leave-one-out"),
    "grpo": _off(_of_tokens(off_policy.ppo_clip), "sequence-mean", "std+1e-4"),
    "gspo": _off(_of_tokens(off_policy.gspo), "sequence-mean", "std+1e-4", 3e-4, 4e-4),
    "cispo": _off(_of_tokens(off_policy.cispo), "token-mean", "std+1e-4", 1.0, 4.0),
    "rloo-ratio": _off(_of_responses, "sequence-mean", "leave-one-out", None),
}
FURTHER = PREFERENCE | OFF


def complete(name: str, options: dict[str, Any]) -> dict[str, Any]:
    """The options of a further objective with their defaults. Raises ValueError for one that is out of range."""
    further = FURTHER[name]
    found = further.options | {key: value for key, value in options.items() if value is not None}
    if "epsilon_high" in found and options.get("epsilon") is not None and options.get("epsilon_high") is None:
        found["epsilon_high"] = None  # one bound that is given is that of both sides
    for key, value in found.items():
        if value is None and key not in further.optional:
            raise ValueError(f"objective {name} needs {key} (--option {key}=number)")
        if key in ("reduction", "scale") or value is None:
            continue
        least, most = (0.0, 1.0) if key == "epsilon" else (0.0, float("inf"))
        fine = least <= value <= most if key in ("alpha", "penalty") else least < value <= most
        if not fine:
            raise ValueError(
                f"objective {name}: {key} is {value}, expected a number {'in (0, 1]' if most == 1 else '> 0'}"
            )
    if further.family is OFF_POLICY:
        if found["reduction"] not in off_policy.REDUCTIONS:
            known = ", ".join(off_policy.REDUCTIONS)
            raise ValueError(f"objective {name}: reduction is {found['reduction']!r} (known: {known})")
        if found["reduction"] == "fixed" and found["denominator"] is None:
            raise ValueError(f"objective {name}: give the denominator (--option denominator=tokens a response)")
        if found["scale"] != "given" and not SCALE.fullmatch(found["scale"]):
            raise ValueError(f"objective {name}: scale is {found['scale']!r} (known: {', '.join(SCALES[:3])}, ...)")
    return found
