"""The objective of single responses, each good or bad: KTO, as `train` holds it. Nothing here needs torch."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from derivations import preference_losses
from derivations.arrays import Array
from derivations.objectives import Objective
from derivations.published import Published
from derivations.regularizers import KL

OPTIONS = ("beta", "desirable_weight", "undesirable_weight")
UNPAIRED = ("kto",)


@dataclass(frozen=True)
class Unpaired:
    """KTO (arXiv:2402.01306).

    regularizer: KL times beta, reward units per nat; gives the implicit reward. desirable_weight, undesirable_weight:
    lambda_D and lambda_U, of the losses of good and of bad responses; > 0.
    """

    name: str
    regularizer: KL
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0
    listwise: ClassVar[bool] = False
    top: ClassVar[None] = None

    def rewards(self, logp: Array, *, ref_logp: Array) -> Array:
        """Implicit rewards, reward units; same shape as logp."""
        return self.regularizer.implicit_reward(logp, ref_logp=ref_logp)

    def losses(self, logp: Array, good: Array, *, ref_logp: Array, kl: Array) -> Array:
        """Loss of each response.

        Args:
            logp, ref_logp: summed over tokens, [n], nats.
            good: bool [n].
            kl: the reference point of the batch, one number >= 0, nats.

        Returns:
            [n].
        """
        return preference_losses.kto(
            logp,
            good,
            ref_logp=ref_logp,
            kl=kl,
            beta=self.regularizer.coefficient,
            desirable_weight=self.desirable_weight,
            undesirable_weight=self.undesirable_weight,
        )


Trained = Objective | Unpaired | Published


def make_unpaired(name: str, **options: Any) -> Unpaired:
    """The objective by its command-line name. Raises ValueError for an option that it does not take or out of range."""
    given = {option: value for option, value in options.items() if value is not None}
    for option, value in given.items():
        if option not in OPTIONS:
            raise ValueError(f"objective {name} takes no {option} (it takes: {', '.join(OPTIONS)})")
        if not 0 < value < math.inf:
            raise ValueError(f"objective {name}: {option} is {value}, expected a number > 0")
    if "beta" not in given:
        raise ValueError(f"objective {name}: beta is None, expected a number > 0")
    return Unpaired(name, KL(given.pop("beta")), **given)
