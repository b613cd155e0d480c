"""One namespace for NumPy, torch, SymPy and exact balls, and the only three functions that branch.

Every formula of this project is written with the array namespace of its arguments, so one function
object trains the model, runs the bandit and is traced by the proofs. Branches that exist for
floating-point stability live here and nowhere else: `log_sigmoid`, `logsumexp`, `masked_sum`. A
namespace of exact quantities (see `derivations.prover.symbolic`) supplies functions of the same names with
their textbook meaning, and the tests hold the two together, in value and gradient, to 50 digits.
"""

from typing import Any

from array_api_compat import array_namespace, is_array_api_obj

# NumPy array, torch tensor, or a symbolic array: whatever brings an array namespace.
Array = Any


def namespace(*arrays: Array) -> Any:
    """Array namespace of the arguments; Python numbers and None are ignored.

    Raises:
        TypeError: no argument is an array, or arrays of two libraries are mixed.
    """
    found = [a for a in arrays if is_array_api_obj(a)]
    if not found:
        kinds = ", ".join(type(a).__name__ for a in arrays)
        raise TypeError(f"expected at least one array (NumPy, torch or symbolic), got: {kinds}")
    return array_namespace(*found)


def is_exact(xp: Any) -> bool:
    """True for a namespace without rounding (symbols, balls): it brings `log_sigmoid`, `logsumexp`, `masked_sum`."""
    return getattr(xp, "is_exact", False)


def log_sigmoid(x: Array) -> Array:
    """log(1 / (1 + exp(-x))), elementwise; finite value and gradient for every finite x."""
    xp = namespace(x)
    if is_exact(xp):
        return xp.log_sigmoid(x)
    # At x = 0 `minimum` passes half of the gradient and `abs` none: together sigma(0) = 1/2, as it should be.
    return xp.minimum(x, xp.zeros_like(x)) - xp.log1p(xp.exp(-xp.abs(x)))


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x), accurate for any finite x: small values keep their digits."""
    return namespace(x).exp(log_sigmoid(x))


def logsumexp(x: Array, *, axis: int = -1) -> Array:
    """log sum exp(x) along `axis`; entries of -inf count as probability zero."""
    xp = namespace(x)
    if is_exact(xp):
        return xp.logsumexp(x, axis=axis)
    top = xp.max(x, axis=axis, keepdims=True)
    top = xp.where(xp.isfinite(top), top, xp.zeros_like(top))  # a row of -inf has log-sum -inf, not NaN
    return xp.squeeze(top, axis=axis) + xp.log(xp.sum(xp.exp(x - top), axis=axis))


def log_softmax(logits: Array) -> Array:
    """Log-probs (nats) of logits over the last axis, in their shape. Claim `score-mean-zero`."""
    return logits - logsumexp(logits, axis=-1)[..., None]


def masked_sum(x: Array, mask: Array, *, axis: int = -1) -> Array:
    """Sum of x where mask is true. What stands under a false mask is never read: not in value, not in gradient."""
    xp = namespace(x)
    if is_exact(xp):
        return xp.masked_sum(x, mask, axis=axis)
    return xp.sum(xp.where(mask, x, xp.zeros_like(x)), axis=axis)
