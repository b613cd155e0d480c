"""A policy whose responses can all be listed, and exact expectations over them.

A tabular softmax over one token out of three, or over two tokens out of two (a root and a context after
each first token). E_pi[grad loss] is then a finite sum: the function on trial is called on each response, or
on each tuple of samples, and weighted by its probability, held fixed as sampling holds it.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from derivations.arrays import Array, logsumexp, namespace
from derivations.conformance.derived import Arrays
from derivations.conformance.families import ENTROPY, KL_FAMILY, POLICY_GRADIENT
from derivations.conformance.laws import SLOPE, Failure, close, numbers
from derivations.conformance.loss_under_test import Subject
from derivations.regularizers import KL, Entropy

REWARDS = np.array([1.0, -0.5, 2.0, 0.25])


@dataclass(frozen=True)
class Tree:
    """All responses of `depth` tokens: logits of each context [contexts, V], responses [N, depth] of token ids."""

    logits: np.ndarray
    reference: np.ndarray
    depth: int

    @property
    def responses(self) -> np.ndarray:
        return np.array(list(itertools.product(range(self.logits.shape[1]), repeat=self.depth)))

    @property
    def contexts(self) -> np.ndarray:
        """Row of `logits` in which each token of each response is drawn: [N, depth]."""
        later = 1 + self.responses[:, :-1]
        return np.concatenate([np.zeros((len(self.responses), 1), dtype=int), later], axis=1)

    def token_logits(self, logits: Array) -> Array:
        """[N, depth, V], for each response the logits its tokens were drawn from."""
        xp = namespace(logits)
        return xp.stack([xp.stack([logits[int(c)] for c in row], axis=0) for row in self.contexts], axis=0)

    def token_logps(self, logits: Array) -> Array:
        """[N, depth] log-probs of the tokens."""
        xp, logp = namespace(logits), logits - logsumexp(logits)[..., None]
        rows = zip(self.contexts, self.responses, strict=True)
        return xp.stack(
            [xp.stack([logp[int(c), int(y)] for c, y in zip(*row, strict=True)], axis=0) for row in rows], axis=0
        )


ONE_TOKEN = Tree(np.array([[0.5, -0.3, 0.1]]), np.array([[-0.2, 0.4, 0.0]]), 1)
TWO_TOKENS = Tree(np.array([[0.4, -0.2], [0.7, 0.1], [-0.5, 0.3]]), np.array([[0.0, 0.3], [-0.4, 0.2], [0.1, 0.6]]), 2)
UNIFORM = Tree(np.zeros((1, 3)), np.zeros((1, 3)), 1)


def slope(subject: Subject, tree: Tree, function: Callable[[Array], Array]) -> np.ndarray:
    """Gradient of a scalar function of the tree's logits."""

    def scalar(arrays: Arrays) -> Array:
        value = function(arrays["logits"])
        return value if hasattr(value, "shape") else namespace(arrays["logits"]).asarray(value)

    gradient: np.ndarray = subject.backend.gradient(scalar, {"logits": tree.logits}, ("logits",))[1]["logits"]
    return gradient


def probabilities(tree: Tree) -> np.ndarray:
    """pi(y) of every response, as numbers."""
    found: np.ndarray = np.exp(tree.token_logps(tree.logits).sum(axis=-1))
    return found


def inputs(subject: Subject, tree: Tree, logits: Array, rows: list[int]) -> Arrays:
    """Canonical arrays for some responses of a tree, as functions of its logits."""
    array = subject.backend.array
    picked = [int(row) for row in rows]
    found: dict[str, Any] = {"mask": array(np.ones((len(rows), tree.depth), dtype=bool))}
    if subject.target.family is ENTROPY:
        return found | {"logits": tree.token_logits(logits)[picked], "tokens": array(tree.responses[picked])}
    found["logps"] = tree.token_logps(logits)[picked]
    if subject.target.family is KL_FAMILY:
        found["ref_logps"] = array(tree.token_logps(tree.reference)[picked])
    if subject.target.family is POLICY_GRADIENT:
        old = tree.token_logps(tree.logits)[picked]  # numbers: differences by the logits do not move it
        found |= {"rewards": array(REWARDS[picked]), "group": array(np.zeros(len(rows), dtype=int))}
        found["old_logps"] = array(old)
    return found


def expected_gradient(subject: Subject, tree: Tree, samples: int = 1) -> np.ndarray:
    """E[grad loss] over all tuples of `samples` responses, by calling the function on each of them."""
    chance = probabilities(tree)
    tuples = [list(rows) for rows in itertools.product(range(len(chance)), repeat=samples)]

    def total(logits: Array) -> Array:
        terms = [
            float(np.prod(chance[rows])) * subject.call(inputs(subject, tree, logits, rows)).mean() for rows in tuples
        ]
        return sum(terms[1:], start=terms[0])

    return slope(subject, tree, total)


def mean_reward(tree: Tree, logits: Array) -> Array:
    """E_pi[r] as a function of the logits."""
    xp = namespace(logits)
    logp = xp.sum(tree.token_logps(logits), axis=-1)
    return sum(float(REWARDS[i]) * xp.exp(logp[i]) for i in range(len(tree.responses)))


def kl(tree: Tree, logits: Array) -> Array:
    """KL(pi || reference) over whole responses."""
    xp = namespace(logits)
    logp = xp.sum(tree.token_logps(logits), axis=-1)
    ref = xp.asarray(tree.token_logps(tree.reference).sum(axis=-1))
    return xp.sum(KL(1.0).phi(logp, ref_logp=ref), axis=0)


def minus_entropy(tree: Tree, logits: Array) -> Array:
    """-H(pi) over whole responses."""
    xp = namespace(logits)
    return xp.sum(Entropy(1.0).phi(xp.sum(tree.token_logps(logits), axis=-1)), axis=0)


def slack(subject: Subject) -> float:
    """Tolerance of an expected gradient, whose numbers are near 1; as in `conformance.laws.tolerance`."""
    return SLOPE if subject.rough else 1e-5 if subject.single else 1e-6


def same_slope(
    tree: Tree, found: np.ndarray, expected: np.ndarray, words: str, allowed: float = 1e-6
) -> Failure | None:
    """Failure if two gradients by the tree's logits differ by more than is allowed."""
    if close(found, expected, allowed):
        return None
    given = f"all responses of {tree.depth} token(s) of a softmax with logits {numbers(tree.logits)}"
    return Failure(f"{given}; {words}", numbers(expected), numbers(found))
