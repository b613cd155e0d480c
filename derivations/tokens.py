"""Token by token: the entropy of the next token, its gradient, and the value of soft Bellman optimality."""

from typing import Any

from derivations.arrays import Array, log_softmax, logsumexp, namespace
from derivations.regularizers import Entropy


def token_entropy(logits: Array) -> Array:
    """Shannon entropy of the next token.

    Args:
        logits: of the tokens of the vocabulary, [..., V].

    Returns:
        H(softmax(logits)), nats, [...]. Claim `token-entropy-drops-prefix`.
    """
    return -namespace(logits).sum(Entropy(1.0).phi(log_softmax(logits)), axis=-1)


def token_entropy_gradient(logits: Array) -> Array:
    """Gradient of `token_entropy` in the logits: -pi (log pi + H), [..., V]. Claim `token-entropy-drops-prefix`."""
    logp = log_softmax(logits)
    return -namespace(logits).exp(logp) * (logp + token_entropy(logits)[..., None])


def soft_value(q: Array, *, alpha: Any) -> Array:
    """V = alpha log sum exp(Q / alpha): what the best policy with entropy bonus alpha is worth at a prefix.

    Args:
        q: values of the next tokens, [..., V], reward units.
        alpha: > 0, reward units per nat.

    Returns:
        The value of the prefix, reward units, [...]. Claim `soft-bellman`.
    """
    return alpha * logsumexp(q / alpha, axis=-1)
