"""The token tree: a world of sequences, small enough that every response and every prefix is enumerated.

Vocabulary 3, at most 4 tokens; token 0 ends the response, as does the fourth token. That makes 15
prefixes and 31 responses of 1 to 4 tokens. A policy is one softmax a prefix, theta [..., 15, 3]. It can
represent every distribution over the 31 responses, so sequence-level and token-level statements can be
compared exactly: the chain rule of entropy, soft Bellman values, and which entropy bonuses have the
wrong gradient. Source: THEORY 3.3 and 3.5.
"""

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.random import default_rng

from derivations.arrays import log_softmax
from derivations.tokens import soft_value, token_entropy_gradient
from toybandit.bandit import KNOWLEDGE, SHARPNESS, Streams, World

VOCABULARY, DEPTH, PROMPTS = 3, 4, 4
PREFIXES = [prefix for n in range(DEPTH) for prefix in product(range(1, VOCABULARY), repeat=n)]
RESPONSES = [
    (*prefix, token) for prefix in PREFIXES for token in range(VOCABULARY) if token == 0 or len(prefix) == DEPTH - 1
]
LENGTHS = np.array([len(response) for response in RESPONSES], dtype=float)


def _paths() -> np.ndarray:
    paths = np.zeros((len(RESPONSES), len(PREFIXES), VOCABULARY))
    for y, response in enumerate(RESPONSES):
        for n, token in enumerate(response):
            paths[y, PREFIXES.index(response[:n]), token] = 1
    return paths


PATHS = _paths()  # [responses, prefixes, vocabulary]: 1 where the response takes that token after that prefix
VISITS = PATHS.sum(axis=-1)  # [responses, prefixes]: 1 where the response passes the prefix


def tree_world(streams: Sequence[Streams], *, prompts: int = PROMPTS, knowledge: float = KNOWLEDGE) -> World:
    """Gold reward and reference as in the tabular world, on the 31 responses; lengths in tokens."""
    gold, noise = np.stack(
        [default_rng(stream.world).standard_normal((2, prompts, len(RESPONSES))) for stream in streams], axis=1
    )
    ref_logp = log_softmax(SHARPNESS * (knowledge * gold + np.sqrt(1 - knowledge**2) * noise))
    return World(gold=gold, ref_logp=ref_logp, length=np.broadcast_to(LENGTHS, gold.shape).copy(), policy="tree")


def sequence_logp(theta: np.ndarray) -> np.ndarray:
    """log pi(y) = sum of token log-probs along y: theta [..., prefixes, vocabulary] -> nats [..., responses]."""
    return np.einsum("...nv,ynv->...y", log_softmax(theta), PATHS)


def token_logits(logp: np.ndarray) -> np.ndarray:
    """Token log-probs of the policy with these sequence log-probs [..., responses] -> [..., prefixes, vocabulary]."""
    mass = np.einsum("...y,ynv->...nv", np.exp(logp), PATHS)
    return log_softmax(np.log(mass))


def pull_back(theta: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """sum_y weights(y) grad log pi(y) in theta: weights [..., responses] -> [..., prefixes, vocabulary]."""
    passing = np.einsum("...y,yn->...n", weights, VISITS)
    return np.einsum("...y,ynv->...nv", weights, PATHS) - passing[..., None] * np.exp(log_softmax(theta))


def entropy(theta: np.ndarray) -> np.ndarray:
    """Entropy of the response, nats [...]; by the chain rule the visit-weighted sum of the token entropies."""
    logp = sequence_logp(theta)
    return -np.sum(np.exp(logp) * logp, axis=-1)


def soft_values(reward: np.ndarray, *, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Soft Bellman Q [..., prefixes, vocabulary] and V [..., prefixes] of rewards [..., responses] paid at the end.

    Q(prefix, token) is the reward if the token ends the response, and V of the longer prefix otherwise;
    V is their `soft_value`. Reward units; alpha > 0. The MaxEnt optimum has
    log pi(y) = sum_t (Q_t - V_t) / alpha (THEORY 3.5).
    """
    q = np.zeros((*reward.shape[:-1], len(PREFIXES), VOCABULARY))
    v = np.zeros((*reward.shape[:-1], len(PREFIXES)))
    for n in reversed(range(len(PREFIXES))):  # longer prefixes come later in the list
        for token in range(VOCABULARY):
            sequence = (*PREFIXES[n], token)
            ends = sequence in RESPONSES
            q[..., n, token] = reward[..., RESPONSES.index(sequence)] if ends else v[..., PREFIXES.index(sequence)]
        v[..., n] = soft_value(q[..., n, :], alpha=alpha)
    return q, v


def entropy_gradients(theta: np.ndarray) -> dict[str, np.ndarray]:
    """Expected gradients of three ways to write an entropy bonus; theta [..., prefixes, vocabulary], all that shape.

    exact: grad H = E[-log pi grad log pi]. `sampled log-prob`: the mean of -log pi(sample) differentiated
    directly, -E[grad log pi] = 0. `summed token entropies`: exact token entropies along a sampled
    sequence, differentiated with the sequence held fixed; it lacks the term by which the policy changes
    which prefixes are visited. Source: THEORY 3.3.
    """
    logp = sequence_logp(theta)
    policy = np.exp(logp)
    visited = np.einsum("...y,yn->...n", policy, VISITS)
    return {
        "exact": pull_back(theta, -policy * logp),
        "sampled log-prob": pull_back(theta, -policy),
        "summed token entropies": visited[..., None] * token_entropy_gradient(theta),
    }
