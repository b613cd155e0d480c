"""Laws of policy gradients, advantages, KL estimators and entropy bonuses, most of them by exact enumeration.

The policy is a tabular softmax over one token out of three, or over two tokens out of two (a root and a
context after each first token). Every response can be listed, so E_pi[grad loss] is a finite sum: the
function is called on each response (or on each tuple of samples) and weighted by its probability, held
fixed as sampling holds it. THEORY 3.2 to 3.4.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from derivations.arrays import Array, logsumexp, namespace
from derivations.conformance_batches import Batch, batch_of, examples, join, refill
from derivations.conformance_families import ADVANTAGE, ENTROPY, KL_FAMILY, POLICY_GRADIENT, Arrays, by_group, group_mean
from derivations.conformance_laws import Failure, Verdict, close, describe, law, number, numbers
from derivations.conformance_subject import Subject
from derivations.objectives import rloo_advantage
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
    found: Arrays = {"mask": array(np.ones((len(rows), tree.depth), dtype=bool))}
    if subject.target.family is ENTROPY:
        return found | {"logits": tree.token_logits(logits)[picked], "tokens": array(tree.responses[picked])}
    found["logps"] = tree.token_logps(logits)[picked]
    if subject.target.family is KL_FAMILY:
        found["ref_logps"] = array(tree.token_logps(tree.reference)[picked])
    if subject.target.family is POLICY_GRADIENT:
        found |= {"rewards": array(REWARDS[picked]), "group": array(np.zeros(len(rows), dtype=int))}
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


def same_slope(tree: Tree, found: np.ndarray, expected: np.ndarray, words: str) -> Failure | None:
    """Failure if two gradients by the tree's logits differ; tolerance as in `conformance_laws.tolerance`."""
    if close(found, expected, 1e-6):
        return None
    given = f"all responses of {tree.depth} token(s) of a softmax with logits {numbers(tree.logits)}"
    return Failure(f"{given}; {words}", numbers(expected), numbers(found))


@law(
    "expected-gradient",
    "averaged over every possible sample, the gradient is the exact one",
    claim="rloo-unbiased",
    families=(POLICY_GRADIENT, KL_FAMILY, ENTROPY),
    threads=("verl#2953", "trl#6140", "open-instruct#534"),
)
def exact_expectation(subject: Subject) -> Verdict:
    name = subject.target.name
    if name == "rloo":
        return _expected_policy_gradient(subject)
    if name == "kl-metric":
        return _expected_kl_value(subject)
    if name == "kl-reward":
        return _expected_kl_reward(subject)
    exact: Callable[[Tree, Array], Array] = kl
    if subject.target.family is ENTROPY:
        strength = subject.target.options["coefficient"]
        exact = lambda tree, logits: strength * minus_entropy(tree, logits)  # noqa: E731
    # over tokens it is no entropy of a whole response, and for a KL loss `prefix-term` speaks of the rest
    for tree in (ONE_TOKEN, TWO_TOKENS) if name == "entropy-sequence" else (ONE_TOKEN,):
        expected = slope(subject, tree, lambda logits, tree=tree: exact(tree, logits))  # type: ignore[misc]
        if failure := same_slope(tree, expected_gradient(subject, tree), expected, "expected gradient of the loss"):
            return failure
    return None


def _expected_policy_gradient(subject: Subject) -> Failure | None:
    for tree, k in ((ONE_TOKEN, 2), (ONE_TOKEN, 3), (TWO_TOKENS, 2)):
        expected = -slope(subject, tree, lambda logits, tree=tree: mean_reward(tree, logits))  # type: ignore[misc]
        found = expected_gradient(subject, tree, samples=k)
        if failure := same_slope(tree, found, expected, f"rewards {REWARDS.tolist()}, k = {k} samples; -grad E[r]"):
            return failure
    return None


def _kl_samples(subject: Subject, tree: Tree) -> np.ndarray:
    """The function's value on each response alone."""
    logits = subject.backend.array(tree.logits)
    rows = range(len(tree.responses))
    found = [float(subject.backend.numpy(subject.call(inputs(subject, tree, logits, [i]))).mean()) for i in rows]
    return np.array(found)


def _expected_kl_value(subject: Subject) -> Failure | None:
    for tree in (UNIFORM, ONE_TOKEN, TWO_TOKENS):
        found = float(probabilities(tree) @ _kl_samples(subject, tree))
        expected = float(kl(tree, tree.logits))
        if not close(np.asarray(found), np.asarray(expected), 1e-6):
            given = f"policy logits {numbers(tree.logits)}, reference logits {numbers(tree.reference)}"
            return Failure(f"{given}; mean over all responses", f"KL = {number(expected)}", number(found))
    return None


def _expected_kl_reward(subject: Subject) -> Failure | None:
    """Detached and subtracted from the reward, a penalty acts through E[penalty grad log pi]."""
    for tree in (ONE_TOKEN, TWO_TOKENS):
        weights = probabilities(tree) * _kl_samples(subject, tree)

        def scored(logits: Array, tree: Tree = tree, weights: np.ndarray = weights) -> Array:
            logp = namespace(logits).sum(tree.token_logps(logits), axis=-1)
            return sum(float(weights[i]) * logp[i] for i in range(len(weights)))

        expected = slope(subject, tree, lambda logits, tree=tree: kl(tree, logits))  # type: ignore[misc]
        if failure := same_slope(tree, slope(subject, tree, scored), expected, "E[penalty grad log pi]"):
            return failure
    return None


@law(
    "prefix-term",
    "over responses of two tokens the gradient is that of KL between whole responses; token by token it lacks the "
    "change of the prefixes",
    claim="token-entropy-drops-prefix",
    kind="advice",
    objectives=("kl-loss",),
)
def prefix_term(subject: Subject) -> Verdict:
    expected = slope(subject, TWO_TOKENS, lambda logits: kl(TWO_TOKENS, logits))
    return same_slope(TWO_TOKENS, expected_gradient(subject, TWO_TOKENS), expected, "grad KL(pi || reference)")


@law(
    "zero-iff-equal",
    "a KL estimate is 0 where policy and reference agree, and not where they do not",
    claim="kl-nonnegative",
    families=(KL_FAMILY,),
    why="an anchor that needs no expectation",
)
def zero_iff_equal(subject: Subject) -> Verdict:
    for batch in examples(KL_FAMILY):
        equal = batch | {"ref_logps": batch["logps"]}
        found = subject.run(equal, gradient=False).mean
        if abs(found) > 1e-6:
            return Failure(describe(subject, equal), "0", number(found))
        if subject.run(batch, gradient=False).mean == 0:
            return Failure(describe(subject, batch), "not 0", "0")
    return None


@law(
    "no-clamp",
    "far from the reference the estimate still moves: no clamp on the gradient path",
    claim="kl-estimators-as-loss",
    families=(KL_FAMILY,),
)
def no_clamp(subject: Subject) -> Verdict:
    first, results = examples(KL_FAMILY)[0], []
    for far in (-12.0, -60.0):
        batch = first | {"logps": np.array([[-0.5]]), "ref_logps": np.array([[far]])}
        result = subject.run(batch)
        # what acts on the policy: the gradient of a loss, the value of a penalty or of a metric
        results.append(result.gradient["logps"].sum() if subject.target.name == "kl-loss" else result.mean)
    grown, exact = results[1] - results[0], 48.0
    if subject.target.name == "kl-metric":  # any estimator whose mean is right will do, as long as it moves
        return None if abs(grown) > 1e-6 else Failure(describe(subject, batch), "another value than at -12", "the same")
    if close(np.asarray(grown), np.asarray(exact), 1e-4):
        return None
    what = "gradient" if subject.target.name == "kl-loss" else "penalty"
    return Failure(f"{describe(subject, batch)}, against -12", f"{what} larger by 48", f"larger by {number(grown)}")


@law(
    "reward-shift",
    "adding a constant to all rewards of a prompt changes nothing",
    claim="online-gradient",
    families=(POLICY_GRADIENT, ADVANTAGE),
    threads=("Relax#174",),
    why="says that a baseline is missing, where `expected-gradient` may still pass",
)
def reward_shift(subject: Subject) -> Verdict:
    for batch in examples(subject.target.family):
        moved = batch | {"rewards": batch["rewards"] + 3.0}
        if failure := _same(subject, moved, subject.run(batch), subject.run(moved), 1.0):
            return failure
    return None


@law(
    "reward-scale",
    "doubling all rewards doubles advantages and gradients (divided by their own deviation they stay)",
    claim="rloo-unbiased",
    families=(POLICY_GRADIENT, ADVANTAGE),
    threads=("Relax#174",),
    why="tells advantages that are divided by a deviation from those that are not",
)
def reward_scale(subject: Subject) -> Verdict:
    standardized = subject.target.name == "grpo-advantage"
    for batch in examples(subject.target.family):
        # the 1e-4 beside the deviation is not scale-free; at rewards near 1000 it no longer shows
        start = batch | {"rewards": batch["rewards"] * (1e6 if standardized else 1.0)}
        moved = start | {"rewards": start["rewards"] * 2.0}
        factor = 1.0 if standardized else 2.0
        if failure := _same(subject, moved, subject.run(start), subject.run(moved), factor):
            return failure
    return None


@law(
    "equal-rewards",
    "where all samples of a prompt have the same reward there is nothing to learn: zero, and finite",
    claim="online-gradient",
    families=(POLICY_GRADIENT, ADVANTAGE),
    why="the anchor of advantages, and the place where a deviation of 0 divides",
)
def equal_rewards(subject: Subject) -> Verdict:
    for batch in examples(subject.target.family):
        flat = batch | {"rewards": np.full_like(batch["rewards"], 0.7)}
        found = subject.run(flat)
        values = [found.value] if subject.target.family is ADVANTAGE else list(found.gradient.values())
        for value in values:
            if not close(value, np.zeros_like(value), 1e-6):
                return Failure(describe(subject, flat), "0", numbers(value))
    return None


@law(
    "advantages-sum-to-zero",
    "the advantages of one prompt sum to zero",
    claim="rloo-unbiased",
    families=(ADVANTAGE,),
    threads=("Relax#174",),
    why="tells a wrong baseline from a wrong scale",
)
def sum_to_zero(subject: Subject) -> Verdict:
    for batch in [*examples(ADVANTAGE), join(ADVANTAGE, batch_of(ADVANTAGE))]:
        found = subject.run(batch, gradient=False)
        for prompt in np.unique(batch["group"]):
            total = float(np.sum(found.value[batch["group"] == prompt])) if found.value.ndim else math.nan
            if not close(np.asarray(total), np.zeros(()), 1e-6):
                return Failure(describe(subject, batch), f"sum over prompt {prompt}: 0", number(total))
    return None


@law(
    "prompts-apart",
    "the samples of one prompt say nothing about another prompt: each prompt alone gives what it gives in a batch",
    claim="multiplier-cancels",
    families=(ADVANTAGE,),
    threads=("Relax#174",),
)
def prompts_apart(subject: Subject) -> Verdict:
    parts = batch_of(ADVANTAGE)
    whole = join(ADVANTAGE, parts)
    alone = np.concatenate([np.atleast_1d(subject.run(part, gradient=False).value) for part in parts])
    found = subject.run(whole, gradient=False).value
    if found.shape != alone.shape or not close(found, alone, 1e-6):
        return Failure(describe(subject, whole), f"{numbers(alone)} (prompt by prompt)", numbers(found))
    return None


@law(
    "uniform-maximum",
    "entropy is largest for the uniform policy, log V a token, so the term is smallest there: the sign",
    claim="entropy-bonus-without-gradient",
    objectives=("entropy-token",),
)
def uniform_maximum(subject: Subject) -> Verdict:
    first = examples(ENTROPY)[0]
    flat = first | {"logits": np.zeros_like(first["logits"])}
    found, strength = subject.run(flat), subject.target.options["coefficient"]
    bottom = -strength * math.log(flat["logits"].shape[-1])
    if not close(np.asarray(found.mean), np.asarray(bottom), 1e-6):
        return Failure(describe(subject, flat), f"-coefficient log V = {number(bottom)}", number(found.mean))
    if not close(found.gradient["logits"], np.zeros_like(flat["logits"]), 1e-6):
        return Failure(describe(subject, flat), "gradient 0 by the logits", numbers(found.gradient["logits"]))
    return None


@law(
    "coefficient-live",
    "a coefficient of 0 and one of 1 have different gradients",
    claim="entropy-bonus-without-gradient",
    families=(ENTROPY,),
    threads=("trl#5595", "trl#5596", "trl#6140"),
    why="names the dead term; `expected-gradient` shows a zero",
)
def coefficient_live(subject: Subject) -> Verdict:
    if not subject.takes:
        return None
    batch = examples(ENTROPY)[1]
    with_term = subject.run(batch, target=subject.target.with_options(coefficient=1.0))
    without = subject.run(batch, target=subject.target.with_options(coefficient=0.0))
    if np.array_equal(with_term.gradient["logits"], without.gradient["logits"]):
        return Failure(describe(subject, batch), "gradients that differ", f"both {numbers(with_term.gradient['logits'])}")
    return None


@law(
    "leave-one-out",
    "each sample is measured against the others alone; with its own reward in the baseline the gradient shrinks by "
    "(k - 1)/k",
    claim="group-mean-shrinks",
    objectives=("rloo-advantage",),
    threads=("Relax#174",),
    why="`value` says that a number is off, this law that it is off by exactly (k - 1)/k",
)
def leave_one_out(subject: Subject) -> Verdict:
    for batch in examples(ADVANTAGE):
        found = subject.run(batch, gradient=False).value
        mean = subject.backend.value(lambda a: by_group(a["rewards"], a["group"], group_mean), batch)
        if close(found, subject.backend.numpy(mean), 1e-6):
            alone = subject.backend.value(lambda a: by_group(a["rewards"], a["group"], rloo_advantage), batch)
            return Failure(describe(subject, batch), numbers(subject.backend.numpy(alone)), f"{numbers(found)}: (k-1)/k of it")
    return None


def _same(subject: Subject, batch: Batch, plain: Any, found: Any, factor: float) -> Failure | None:
    """Failure unless advantages, or gradients, are `factor` times what they were."""
    both = (
        [(plain.value, found.value)]
        if subject.target.family is ADVANTAGE
        else [(plain.gradient[leaf], found.gradient[leaf]) for leaf in plain.gradient]
    )
    for before, after in both:
        if not close(after, factor * before, 1e-6 * (1 + np.abs(before).max())):
            return Failure(describe(subject, batch), numbers(factor * before), numbers(after))
    return None
