"""The named terms of pairs: preference losses under every reading of their options, and what rides along with them."""

from collections.abc import Callable
from typing import Any

from derivations.arrays import Array, log_sigmoid, namespace
from derivations.conformance.derived import Arrays
from derivations.conformance.families import PAIRS
from derivations.conformance.further import PREFERENCE, complete
from derivations.conformance.loss_under_test import Subject
from derivations.names import make_objective
from derivations.objectives import ipo_loss, pair_loss
from derivations.regularizers import KL, LengthNormalized

Term = tuple[str, Callable[[Arrays], Array]]
SWAPPED = ", chosen and rejected swapped"


def _readings(options: dict[str, Any]) -> list[tuple[str, float, float]]:
    """(words, beta, gamma) under the readings that codes give the two options."""
    beta = float(options.get("beta", options.get("alpha", 1.0)))
    gamma = float(options.get("gamma") or 0.0)
    margins = [("", gamma)]
    if gamma:
        margins += [
            (", gamma read as gamma/beta", gamma * beta),
            (", gamma divided by beta", gamma / beta),
            (", gamma left out", 0.0),
            (", gamma with the wrong sign", -gamma),
            (", gamma doubled", 2 * gamma),
        ]
    scales = [("", beta), (" with beta = 1", 1.0), (" with 2 beta", 2 * beta), (" with beta/2", beta / 2)]
    scales.append((" with 1/beta", 1 / beta))
    return [(scale + margin, b, g) for scale, b in scales for margin, g in margins]


def pair_mains(subject: Subject) -> list[Term]:
    """Objectives of pairs under every reading, right way round and swapped."""
    strength = float(subject.target.options.get("beta", 1.0))
    found: list[Term] = []
    if subject.target.needs_reference:  # a DPO without its reference is that, before it is anything else
        found.append(("DPO whose reference is left out", _pair(KL(strength), {}, ref=False)))
        found += [
            (f"DPO, the {side} response's reference left out", _without_reference(_pair(KL(strength), {}), side))
            for side in ("chosen", "rejected")
        ]
    for words, beta, gamma in _readings(subject.target.options):
        margin = {"gamma": gamma}
        scored: list[Term] = [
            ("SimPO" + words, _pair(LengthNormalized(beta), margin)),
            ("DPO" + words, _pair(KL(beta), margin)),
            (
                "MaxEnt (CPO's contrastive part)" + words,
                _pair(make_objective("maxent", alpha=beta).regularizer, margin),
            ),
            ("SimPO-Shannon" + words, _pair(make_objective("simpo-shannon", beta=beta).regularizer, margin)),
            ("length-averaged DPO" + words, _pair(KL(beta), margin, averaged=True)),
        ]
        if gamma == 0:
            scored += [
                ("IPO" + words, _pair(KL(beta), {}, squared=beta)),
                ("IPO of length-averaged log-probs" + words, _pair(KL(beta), {}, squared=beta, averaged=True)),
            ]
        found += scored
        found += [(f"{name}{SWAPPED}", _swapped(f)) for name, f in scored if "IPO" not in name]
    found += [(words, _alone(KL(strength), sides)) for words, sides in ALONE.items()]
    for words, inner, per_token in (
        ("", 1.0, True),
        (" of summed log-probs", 1.0, False),
        (", beta inside", strength, True),
    ):
        found.append((f"ORPO's odds ratio{words}, without the NLL", _odds(inner, per_token)))
        found.append((f"ORPO's odds ratio{words}, without the NLL{SWAPPED}", _swapped(_odds(inner, per_token))))
    twice = _pair(KL(strength**2), {}, squared=strength)
    found.append(("IPO, its margin multiplied by beta once more", twice))
    averaged = _pair(KL(strength**2), {}, squared=strength, averaged=True)
    found.append(("IPO of length-averaged log-probs, its margin multiplied by beta once more", averaged))
    for name, further in PREFERENCE.items():
        if further.family is PAIRS and name != subject.target.name:
            options = {option: subject.target.options.get(option) for option in further.options}
            if all(value is not None or further.options[option] is not None for option, value in options.items()):
                found.append((PUBLISHED[name], _further(name, options)))
    return found


def _pair(
    regularizer: Any, margin: dict[str, float], *, squared: float = 0.0, averaged: bool = False, ref: bool = True
) -> Callable[[Arrays], Array]:
    """Loss of pairs from a regularizer; averaged: log-probs divided by the token count first."""

    def loss(arrays: Arrays) -> Array:
        named, scores = PAIRS.derive(arrays), []
        for side in ("chosen", "rejected"):
            logp, length, reference = (named[n] for n in (f"{side}_logp", f"{side}_length", f"ref_{side}_logp"))
            count = length if averaged else 1.0
            reference = reference / count if ref else reference * 0.0
            scores.append(regularizer.implicit_reward(logp / count, length=length, ref_logp=reference))
        return ipo_loss(*scores, beta=squared) if squared else pair_loss(*scores, **margin)

    return loss


def _odds(inner: float, per_token: bool) -> Callable[[Arrays], Array]:
    """-log sigmoid of the log odds ratio, times `inner`, of mean or summed log-probs."""

    def loss(arrays: Arrays) -> Array:
        named, odds = PAIRS.derive(arrays), []
        for side in ("chosen", "rejected"):
            logp = named[f"{side}_mean_logp" if per_token else f"{side}_logp"]
            xp = namespace(logp)
            odds.append(logp - xp.log(-xp.expm1(logp)))
        return -log_sigmoid(inner * (odds[0] - odds[1]))

    return loss


ALONE = {
    "-log sigmoid of the chosen response's reward alone": (1.0, 0.0),
    "-log sigmoid of minus the rejected response's reward alone": (0.0, 1.0),
    "-log sigmoid of each response's reward alone, summed": (1.0, 1.0),
}


def _alone(regularizer: Any, sides: tuple[float, float]) -> Callable[[Arrays], Array]:
    """Each response classified for itself, without the other."""

    def loss(arrays: Arrays) -> Array:
        named = PAIRS.derive(arrays)
        w, l = (
            regularizer.implicit_reward(
                named[f"{side}_logp"], length=named[f"{side}_length"], ref_logp=named[f"ref_{side}_logp"]
            )
            for side in ("chosen", "rejected")
        )
        return -sides[0] * log_sigmoid(w) - sides[1] * log_sigmoid(-l)

    return loss


PUBLISHED = {
    "orpo": "ORPO", "dpop": "DPO-Positive", "apo-zero": "APO zero", "apo-down": "APO down", "slic": "hinge (SLiC)",
    "chi-po": "chi-PO", "r-dpo": "R-DPO", "ln-dpo": "length-normalized DPO", "wpo": "WPO", "sppo": "SPPO",
}  # fmt: skip


def _further(name: str, options: dict[str, Any]) -> Callable[[Arrays], Array]:
    full = complete(name, options)
    return lambda arrays: PREFERENCE[name].loss(PAIRS.derive(arrays), **full)


def _without_reference(loss: Callable[[Arrays], Array], side: str) -> Callable[[Arrays], Array]:
    name = f"ref_{side}_logps"
    return lambda arrays: loss({**arrays, name: arrays[name] * 0.0})


def _swapped(loss: Callable[[Arrays], Array]) -> Callable[[Arrays], Array]:
    """Loss of the swapped pair under the same names. The margin keeps its sign, so this is the label-smoothing
    partner only for gamma = 0."""

    def other(arrays: Arrays) -> Array:
        names = {n: n.replace("chosen", "\0").replace("rejected", "chosen").replace("\0", "rejected") for n in arrays}
        return loss({names[name]: array for name, array in arrays.items()})

    return other


def extra_terms(subject: Subject) -> list[Term]:
    """Terms that ride along with a preference loss."""
    if subject.target.family is not PAIRS:
        return []
    extras = likelihoods()
    if subject.target.needs_reference:
        extras.append(("DPO-Positive's penalty max(0, log pi_ref/pi) outside of the log-sigmoid", _penalty))
    return [
        *extras,
        ("a constant", lambda arrays: namespace(arrays["chosen_logps"]).ones_like(PAIRS.derive(arrays)["chosen_logp"])),
    ]


def likelihoods() -> list[Term]:
    """Mean and sum of either response, as they are added to a preference loss."""

    def nll(side: str, mean: bool) -> Callable[[Arrays], Array]:
        def term(arrays: Arrays) -> Array:
            named = PAIRS.derive(arrays)
            logp = named[f"{side}_logp"]
            return -(logp / named[f"{side}_length"]) if mean else -logp

        return term

    return [
        (f"NLL of the {side} response ({'mean over' if mean else 'sum over'} tokens)", nll(side, mean))
        for side in ("chosen", "rejected")
        for mean in (True, False)
    ]


def _penalty(arrays: Arrays) -> Array:
    named = PAIRS.derive(arrays)
    fallen = named["ref_chosen_logp"] - named["chosen_logp"]
    return namespace(fallen).maximum(fallen, fallen * 0.0)
