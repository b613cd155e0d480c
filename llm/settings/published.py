"""Preference losses that have a name of their own, as `train` holds them: the formulas of
`derivations.preference_losses`, on pairs. Nothing here needs torch.

Which of them are regularized optima is in the claims of `derivations.proofs.preference_losses`.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from derivations import preference_losses
from derivations.arrays import Array
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
ARRAYS = tuple(f"{side}_{what}" for what in ("logp", "length") for side in ("chosen", "rejected"))
REFERENCES = ("ref_chosen_logp", "ref_rejected_logp")


@dataclass(frozen=True)
class Published:
    """A loss of `PUBLISHED` with its options.

    regularizer: gives what is logged as rewards: beta log pi/pi_ref, or (beta/|y|) log pi where the loss asks for no
    reference. options: of the function, beta among them.
    """

    name: str
    regularizer: Regularizer
    options: Mapping[str, float]
    listwise: ClassVar[bool] = False
    top: ClassVar[None] = None

    def rewards(self, logp: Array, *, length: Array, ref_logp: Array | None) -> Array:
        """What is logged as rewards, reward units; same shape as logp. The loss need not be a function of them."""
        return self.regularizer.implicit_reward(logp, length=length, ref_logp=ref_logp)

    def losses(self, logp: Array, *, length: Array, ref_logp: Array | None) -> Array:
        """Loss of each pair.

        Args:
            logp: summed over tokens, chosen first, [n, 2], nats.
            length: tokens, [n, 2].
            ref_logp: of the reference, [n, 2], nats; None for a loss that asks for none.

        Returns:
            [n].
        """
        arrays = dict(zip(ARRAYS, (logp[..., 0], logp[..., 1], length[..., 0], length[..., 1]), strict=True))
        if ref_logp is not None:
            arrays |= dict(zip(REFERENCES, (ref_logp[..., 0], ref_logp[..., 1]), strict=True))
        function = PUBLISHED[self.name]
        return function(**{name: arrays[name] for name in _asked(function) if name in arrays}, **self.options)


def _asked(function: Callable[..., Array]) -> tuple[str, ...]:
    return tuple(inspect.signature(function).parameters)


def make_published(name: str, **options: Any) -> Published:
    """The loss by its command-line name. Raises ValueError for an option that it does not take or out of range."""
    asked = _asked(PUBLISHED[name])
    takes = [option for option in asked if option not in (*ARRAYS, *REFERENCES)]
    given = {option: float(value) for option, value in options.items() if value is not None}
    for option, value in given.items():
        if option not in takes:
            raise ValueError(f"objective {name} takes no {option} (it takes: {', '.join(takes)})")
        if not 0 <= value < math.inf:
            raise ValueError(f"objective {name}: {option} is {value}, expected a number >= 0")
    beta = given.get("beta")
    if not beta:
        raise ValueError(f"objective {name}: beta is {beta}, expected a number > 0")
    return Published(name, KL(beta) if REFERENCES[0] in asked else LengthNormalized(beta), given)
