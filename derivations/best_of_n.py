"""Best-of-n: how far the best of n samples by any reward is from the policy it samples."""

from derivations.arrays import Array, namespace


def kl_bound(n: Array) -> Array:
    """KL(best-of-n || policy) at most: log n - (n - 1)/n, and equal only without atoms (arXiv:2401.01879).

    Args:
        n: how many samples the best is taken of, >= 1, an array of any shape.

    Returns:
        The bound, nats, in the shape of n. Claim `best-of-n`.

    >>> import numpy as np
    >>> float(kl_bound(np.asarray(1.0)))
    0.0
    """
    return namespace(n).log(n) - (n - 1) / n
