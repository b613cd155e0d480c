"""Regularizers phi and their implicit rewards s = phi'(pi): the one idea of the project.

Maximizing E_pi[r] - sum_y phi_y(pi(y)) over the simplex gives an interior policy with
r(y) = s(y) + lambda(x), s(y) = phi_y'(pi(y)) (claim `master-*`, THEORY section 1). Everything else in
the project is built from s: offline losses, online shaped rewards, exact optima.

Every function takes log pi(y|x) (nats, summed over the tokens of y) instead of pi(y|x), because a
probability of e^-1000 cannot be stored and its logarithm can. `length` is |y| in tokens (the bandit
uses units of its own mean length), `ref_logp` is log pi_ref(y|x). Shapes broadcast.
"""

import math
from dataclasses import dataclass
from typing import Any

from derivations.arrays import Array, log_sigmoid, namespace


class Regularizer:
    """phi_y: (0, 1] -> R, strictly convex in p, with phi_y'(0+) = -inf so that the optimum is interior.

    Its methods take log-probs summed over tokens (nats), token counts and log-probs of the reference (nats), of any
    shapes that broadcast, and work elementwise.

    >>> import numpy as np
    >>> regularizer = Entropy(0.5) + KL(0.1)
    >>> regularizer.implicit_reward(np.array([-10.0, -20.0]), ref_logp=np.array([-15.0, -15.0])).tolist()
    [-4.5, -10.5]
    """

    name: str = ""
    needs_length: bool = False
    needs_reference: bool = False

    def phi(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        """phi_y(pi(y)), elementwise, in reward units; the penalty of a policy is its sum over all responses y."""
        raise NotImplementedError

    def implicit_reward(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        """The implicit reward without its constant: s(y) - `constant`, in reward units.

        Losses and advantages use this form: they do not change when every response to a prompt gains
        the same reward, and without the constant float32 keeps small differences. For KL it is the
        reward DPO reports, beta log(pi / pi_ref).
        """
        raise NotImplementedError

    def slope(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        """d s / d log pi, elementwise, > 0: reward units per nat. Claim `implicit-reward-slopes`."""
        raise NotImplementedError

    def below_top(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        """The implicit reward minus its upper limit, if it has one; reward units. Digits survive near the limit."""
        return self.implicit_reward(logp, length=length, ref_logp=ref_logp)

    @property
    def constant(self) -> Any:
        """The part of s that is the same for all responses, so the multiplier lambda absorbs it."""
        return 0.0

    def phi_prime(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        """s(y) = phi_y'(pi(y)), exactly, in reward units."""
        return self.implicit_reward(logp, length=length, ref_logp=ref_logp) + self.constant

    def __add__(self, other: "Regularizer") -> "Regularizer":
        return Sum((*terms(self), *terms(other)))


@dataclass(frozen=True)
class Term(Regularizer):
    """One named regularizer with its strength.

    Args:
        coefficient: >= 0, in reward units per nat (alpha for entropy, beta for the others); a number or an array that
            broadcasts against the log-probs. 0 switches the term off.
    """

    coefficient: Any

    def __post_init__(self) -> None:
        if isinstance(self.coefficient, int | float) and not 0 <= self.coefficient < math.inf:
            raise ValueError(
                f"regularizer {self.name}: coefficient is {self.coefficient}, expected a finite number >= 0"
            )


@dataclass(frozen=True)
class Entropy(Term):
    """phi = alpha p log p: the (negative) Shannon entropy of maximum-entropy RL."""

    name = "entropy"

    def phi(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        return self.coefficient * (namespace(logp).exp(logp) * logp)

    def implicit_reward(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        return self.coefficient * logp

    def slope(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        return self.coefficient + namespace(logp).zeros_like(logp)

    @property
    def constant(self) -> Any:
        return self.coefficient


@dataclass(frozen=True)
class KL(Term):
    """phi = beta p log(p / q): KL(pi || pi_ref). With Bradley-Terry its offline loss is DPO (arXiv:2305.18290)."""

    name = "kl"
    needs_reference = True

    def phi(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        return self.coefficient * (namespace(logp).exp(logp) * (logp - ref_logp))

    def implicit_reward(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        return self.coefficient * (logp - ref_logp)

    def slope(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        return self.coefficient + namespace(logp).zeros_like(logp)

    @property
    def constant(self) -> Any:
        return self.coefficient


@dataclass(frozen=True)
class LengthNormalized(Term):
    """phi = (beta / |y|)(p log p - p): length-weighted generalized entropy.

    With Bradley-Terry its offline loss is SimPO with gamma = 0, exactly (arXiv:2405.14734). The term
    -p, which Shannon's form lacks, is what removes the length-dependent offset.
    """

    name = "length-normalized"
    needs_length = True

    def phi(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        return (self.coefficient / length) * (namespace(logp).exp(logp) * (logp - 1))

    def implicit_reward(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        return (self.coefficient / length) * logp

    def slope(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        return self.coefficient / length + namespace(logp).zeros_like(logp)


@dataclass(frozen=True)
class LengthNormalizedShannon(Term):
    """phi = (beta / |y|) p log p: temperature beta / |y| inside Shannon's entropy.

    Its offline loss is SimPO plus the fixed offset beta (1/|chosen| - 1/|rejected|).
    """

    name = "length-normalized-shannon"
    needs_length = True

    def phi(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        return (self.coefficient / length) * (namespace(logp).exp(logp) * logp)

    def implicit_reward(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        return (self.coefficient / length) * (logp + 1)

    def slope(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        return self.coefficient / length + namespace(logp).zeros_like(logp)


@dataclass(frozen=True)
class ForwardKL(Term):
    """phi = -beta q log(p / q): KL(pi_ref || pi), the f-divergence with f'(u) = -1/u (arXiv:2309.16240).

    s grows like q / p: a response that the policy all but lost gets an enormous implicit penalty.
    """

    name = "forward-kl"
    needs_reference = True

    def phi(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        return self.coefficient * (namespace(logp).exp(ref_logp) * (ref_logp - logp))

    def implicit_reward(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        return -self.coefficient * namespace(logp).exp(ref_logp - logp)

    def slope(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        return self.coefficient * namespace(logp).exp(ref_logp - logp)


@dataclass(frozen=True)
class JensenShannon(Term):
    """phi = beta [p log u - (p + q) log((1 + u) / 2)], u = p / q: f'(u) = log(2u / (1 + u)) (arXiv:2309.16240).

    Twice the Jensen-Shannon divergence of the textbooks. s is bounded above by beta log 2.
    """

    name = "jensen-shannon"
    needs_reference = True

    def phi(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        xp = namespace(logp)
        log_u = logp - ref_logp
        minus_log_half_1_plus_u = log_sigmoid(-log_u) - log_sigmoid(xp.zeros_like(log_u))
        return self.coefficient * (xp.exp(logp) * log_u + (xp.exp(logp) + xp.exp(ref_logp)) * minus_log_half_1_plus_u)

    def implicit_reward(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        log_u = logp - ref_logp
        return self.coefficient * (log_sigmoid(log_u) - log_sigmoid(namespace(logp).zeros_like(log_u)))

    def slope(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        return self.coefficient * namespace(logp).exp(log_sigmoid(ref_logp - logp))

    def below_top(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        return self.coefficient * log_sigmoid(logp - ref_logp)


@dataclass(frozen=True)
class AlphaDivergence(Term):
    """phi = beta ((1 - a) p - p^(1-a) q^a + a q) / (a (1 - a)): f'(u) = (1 - u^-a) / a (arXiv:2309.16240).

    order: a in (0, 1). a -> 0 is KL to the reference, a -> 1 is forward KL, both up to a constant of s.
    """

    order: Any = 0.5

    name = "alpha-divergence"
    needs_reference = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.order, int | float) and not 0 < self.order < 1:
            raise ValueError(
                f"regularizer {self.name}: order is {self.order}, expected a number strictly between 0 and 1 "
                f"(negative orders have no barrier at 0, those above 1 are not offered); its ends are kl and forward-kl"
            )

    def phi(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        xp, a = namespace(logp), self.order
        mixed = xp.exp((1 - a) * logp + a * ref_logp)
        return self.coefficient * (((1 - a) * xp.exp(logp) - mixed + a * xp.exp(ref_logp)) / (a * (1 - a)))

    def implicit_reward(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        return -self.coefficient * (namespace(logp).expm1(-self.order * (logp - ref_logp)) / self.order)

    def slope(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        return self.coefficient * namespace(logp).exp(self.order * (ref_logp - logp))

    def below_top(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        return -self.coefficient * (namespace(logp).exp(self.order * (ref_logp - logp)) / self.order)


@dataclass(frozen=True)
class Sum(Regularizer):
    """phi_1 + phi_2 + ...: a sum of regularizers is a regularizer, and its implicit reward is the sum of theirs.

    The empty sum is the regularizer `none`: phi = 0, s = 0.
    """

    parts: tuple[Regularizer, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", "+".join(part.name for part in self.parts) or "none")
        object.__setattr__(self, "needs_length", any(part.needs_length for part in self.parts))
        object.__setattr__(self, "needs_reference", any(part.needs_reference for part in self.parts))

    def phi(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        return self._total("phi", logp, length, ref_logp)

    def implicit_reward(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        return self._total("implicit_reward", logp, length, ref_logp)

    def slope(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        return self._total("slope", logp, length, ref_logp)

    def below_top(self, logp: Array, *, length: Array = None, ref_logp: Array = None) -> Array:
        return self._total("below_top", logp, length, ref_logp)

    def _total(self, method: str, logp: Array, length: Array, ref_logp: Array) -> Array:
        zero = namespace(logp).zeros_like(logp)
        parts = (getattr(part, method)(logp, length=length, ref_logp=ref_logp) for part in self.parts)
        return sum(parts, start=zero)

    @property
    def constant(self) -> Any:
        return sum((part.constant for part in self.parts), start=0.0)


def terms(regularizer: Regularizer) -> tuple[Regularizer, ...]:
    """The summands of a regularizer: itself, or the parts of a Sum."""
    return regularizer.parts if isinstance(regularizer, Sum) else (regularizer,)


NONE = Sum(())
REGULARIZERS: dict[str, type[Term]] = {
    cls.name: cls
    for cls in (Entropy, KL, LengthNormalized, LengthNormalizedShannon, ForwardKL, JensenShannon, AlphaDivergence)
}
