"""Preference losses that have a name of their own, as trainers hold them: the formulas of
`derivations.preference_losses` on pairs, or on single responses (`Unpaired`), their slopes, and the options that a
name takes.

Which of them are regularized optima is in the claims of `derivations.proofs.preference_losses` and `inverse`.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from derivations import preference_losses, preference_slopes
from derivations.arrays import Array, namespace
from derivations.cli.errors import suggest
from derivations.names import OBJECTIVES, make_objective
from derivations.objectives import Objective
from derivations.regularizers import KL, LengthNormalized, Regularizer

PUBLISHED: dict[str, Callable[..., Array]] = {
    "orpo": preference_losses.orpo,
    "dpop": preference_losses.dpop,
    "apo-zero": preference_losses.apo_zero,
    "apo-down": preference_losses.apo_down,
    "slic": preference_losses.slic,
    "chi-po": preference_losses.chi_po,
    "r-dpo": preference_losses.r_dpo,
    "ln-dpo": preference_losses.ln_dpo,
    "wpo": preference_losses.wpo,
    "sppo": preference_losses.sppo,
}
# What a user who names only the loss gets: the strengths used most often for it.
PUBLISHED_OPTIONS: dict[str, dict[str, float]] = {
    **{name: {"beta": 0.1} for name in PUBLISHED},
    "r-dpo": {"beta": 0.1, "alpha": 0.05},
    "ln-dpo": {"beta": 5.0},
    "sppo": {"beta": 0.001},
}
# The losses of single responses, each good or bad, and their usual strengths.
UNPAIRED: dict[str, dict[str, float]] = {"kto": {"beta": 0.1}}
UNPAIRED_OPTIONS = ("beta", "desirable_weight", "undesirable_weight")
# Of the losses that are likelihoods of an implicit reward: that reward.
SCORES: dict[str, Callable[..., Array]] = {
    "chi-po": preference_losses.chi_po_score,
    "r-dpo": preference_losses.r_dpo_score,
    "ln-dpo": preference_losses.ln_dpo_score,
}
ARRAYS = tuple(f"{side}_{what}" for what in ("logp", "length") for side in ("chosen", "rejected"))
REFERENCES = ("ref_chosen_logp", "ref_rejected_logp")


@dataclass(frozen=True)
class Published:
    """A loss of `PUBLISHED` with its options.

    regularizer: says whether the loss asks for a reference, and gives what is logged as rewards where the loss has no
    implicit reward of its own. options: of the function, beta among them.
    """

    name: str
    regularizer: Regularizer
    options: Mapping[str, float]
    listwise: ClassVar[bool] = False
    top: ClassVar[None] = None

    def rewards(self, logp: Array, *, length: Array, ref_logp: Array | None) -> Array:
        """What is logged as rewards, reward units; same shape as logp.

        The implicit reward of the losses that are likelihoods of one (`SCORES`). Else beta log pi/pi_ref, or
        (beta/|y|) log pi where the loss asks for no reference: the loss need not be a function of them.
        """
        if self.name not in SCORES:
            return self.regularizer.implicit_reward(logp, length=length, ref_logp=ref_logp)
        score, given = SCORES[self.name], {"length": length, "ref_logp": ref_logp}
        return score(logp, **{name: given[name] for name in _asked(score) if name in given}, **self.options)

    def losses(self, logp: Array, *, length: Array, ref_logp: Array | None) -> Array:
        """Loss of each pair.

        Args:
            logp: summed over tokens, chosen first, [n, 2], nats.
            length: tokens, [n, 2].
            ref_logp: of the reference, [n, 2], nats; None for a loss that asks for none.

        Returns:
            [n].
        """
        return self._call(PUBLISHED[self.name], logp, length, ref_logp)

    def slopes(self, logp: Array, *, length: Array, ref_logp: Array | None) -> Array:
        """d loss / d logp of the two responses of each pair: arguments as of `losses`, [n, 2], loss units per nat."""
        slopes = getattr(preference_slopes, PUBLISHED[self.name].__name__)
        return namespace(logp).stack(self._call(slopes, logp, length, ref_logp), axis=-1)

    def _call(self, function: Callable[..., Any], logp: Array, length: Array, ref_logp: Array | None) -> Any:
        arrays = dict(zip(ARRAYS, (logp[..., 0], logp[..., 1], length[..., 0], length[..., 1]), strict=True))
        if ref_logp is not None:
            arrays |= dict(zip(REFERENCES, (ref_logp[..., 0], ref_logp[..., 1]), strict=True))
        return function(**{name: arrays[name] for name in _asked(function) if name in arrays}, **self.options)


def _asked(function: Callable[..., Array]) -> tuple[str, ...]:
    return tuple(inspect.signature(function).parameters)


def make_published(name: str, **options: Any) -> Published:
    """The loss by its command-line name.

    Args:
        name: one of `PUBLISHED`.
        **options: None counts as not given, and then `PUBLISHED_OPTIONS` has the value. beta: > 0. The others, >= 0:
            alpha (r-dpo), reward units a token; penalty (dpop; 50 if not given).

    Raises:
        ValueError: an option that the loss does not take, or out of range; the message says how to mend it.
    """
    asked = _asked(PUBLISHED[name])
    takes = [option for option in asked if option not in (*ARRAYS, *REFERENCES)]
    given = {option: float(value) for option, value in options.items() if value is not None}
    for option, value in given.items():
        if option not in takes:
            raise ValueError(f"objective {name} takes no {option} (it takes: {', '.join(takes)})")
        if not 0 <= value < math.inf:
            raise ValueError(f"objective {name}: {option} is {value}, expected a number >= 0")
    given = PUBLISHED_OPTIONS[name] | given
    beta = given["beta"]
    if not beta:
        raise ValueError(f"objective {name}: beta is {beta}, expected a number > 0")
    return Published(name, KL(beta) if REFERENCES[0] in asked else LengthNormalized(beta), given)


@dataclass(frozen=True)
class Unpaired:
    """KTO (arXiv:2402.01306), of single responses.

    regularizer: KL times beta, reward units per nat; gives the implicit reward. desirable_weight, undesirable_weight:
    lambda_D and lambda_U, of the losses of good and of bad responses; > 0.
    """

    name: str
    regularizer: KL
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0
    listwise: ClassVar[bool] = False
    top: ClassVar[None] = None

    def rewards(self, logp: Array, *, length: Array = None, ref_logp: Array) -> Array:
        """Implicit rewards, reward units; same shape as logp. Lengths do not matter."""
        return self.regularizer.implicit_reward(logp, ref_logp=ref_logp)

    def losses(self, logp: Array, good: Array, *, ref_logp: Array, kl: Array) -> Array:
        """Loss of each response.

        Args:
            logp, ref_logp: summed over tokens, [...], nats.
            good: bool [...].
            kl: the reference point of the batch, one number >= 0 (or one a response), nats.

        Returns:
            [...].
        """
        return preference_losses.kto(logp, good, ref_logp=ref_logp, kl=kl, **self._strengths())

    def slopes(self, logp: Array, good: Array, *, ref_logp: Array, kl: Array) -> Array:
        """d loss / d logp of each response, kl held: arguments as of `losses`, [...], loss units per nat."""
        return preference_slopes.kto(logp, good, ref_logp=ref_logp, kl=kl, **self._strengths())

    def _strengths(self) -> dict[str, float]:
        beta = self.regularizer.coefficient
        return dict(zip(UNPAIRED_OPTIONS, (beta, self.desirable_weight, self.undesirable_weight), strict=True))


def make_unpaired(name: str, **options: Any) -> Unpaired:
    """The loss of single responses by its command-line name.

    Args:
        name: one of `UNPAIRED`.
        **options: `UNPAIRED_OPTIONS`, each > 0; None counts as not given, and then `UNPAIRED` has beta, and weights
            are 1.

    Raises:
        ValueError: an option that the loss does not take, or out of range; the message says how to mend it.
    """
    given = {option: value for option, value in options.items() if value is not None}
    for option, value in given.items():
        if option not in UNPAIRED_OPTIONS:
            raise ValueError(f"objective {name} takes no {option} (it takes: {', '.join(UNPAIRED_OPTIONS)})")
        if not 0 < value < math.inf:
            raise ValueError(f"objective {name}: {option} is {value}, expected a number > 0")
    given = UNPAIRED[name] | given
    return Unpaired(name, KL(given.pop("beta")), **given)


Trained = Objective | Published | Unpaired


def make_trained(name: str, **options: Any) -> Trained:
    """The loss by its command-line name, whichever kind it is: of `names.OBJECTIVES`, `PUBLISHED` or `UNPAIRED`.

    Args:
        name: as a command takes it.
        **options: of that loss; None counts as not given.

    Raises:
        ValueError: an unknown name (with the nearest known one), or an option that does not fit.
    """
    makers: dict[str, Callable[..., Trained]] = {
        **dict.fromkeys(OBJECTIVES, make_objective),
        **dict.fromkeys(PUBLISHED, make_published),
        **dict.fromkeys(UNPAIRED, make_unpaired),
    }
    if name not in makers:
        raise ValueError(f"unknown objective {name!r}{suggest(name, list(makers))}")
    return makers[name](name, **options)
