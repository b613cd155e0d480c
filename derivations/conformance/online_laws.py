"""Laws of policy gradients, KL estimators and entropy bonuses: exact expected gradients by enumeration, and anchors.

THEORY 3.2 to 3.5: what an estimator is worth depends on what is done with it.
"""

import math
from collections.abc import Callable

import numpy as np

from derivations.arrays import Array, namespace
from derivations.conformance.batches import examples
from derivations.conformance.families import ENTROPY, KL_FAMILY, POLICY_GRADIENT
from derivations.conformance.laws import Failure, Skip, Verdict, close, describe, law, number, numbers
from derivations.conformance.loss_under_test import Subject
from derivations.conformance.tree import (
    ONE_TOKEN,
    REWARDS,
    TWO_TOKENS,
    UNIFORM,
    Tree,
    expected_gradient,
    inputs,
    kl,
    mean_reward,
    minus_entropy,
    probabilities,
    same_slope,
    slack,
    slope,
)
from derivations.objectives import kl_k2


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
    # over tokens it is no entropy of a whole response, and for a KL loss `response-kl` speaks of the rest
    for tree in (ONE_TOKEN, TWO_TOKENS) if name == "entropy-sequence" else (ONE_TOKEN,):
        expected = slope(subject, tree, lambda logits, tree=tree: exact(tree, logits))  # type: ignore[misc]
        found = expected_gradient(subject, tree)
        if failure := same_slope(tree, found, expected, "expected gradient of the loss", slack(subject)):
            return failure
    return None


def _expected_policy_gradient(subject: Subject) -> Failure | None:
    for tree, k in ((ONE_TOKEN, 2), (ONE_TOKEN, 3), (TWO_TOKENS, 2)):
        expected = -slope(subject, tree, lambda logits, tree=tree: mean_reward(tree, logits))  # type: ignore[misc]
        found = expected_gradient(subject, tree, samples=k)
        words = f"rewards {REWARDS.tolist()}, k = {k} samples; -grad E[r]"
        if failure := same_slope(tree, found, expected, words, slack(subject)):
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
        if not close(np.asarray(found), np.asarray(expected), slack(subject)):
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
    "response-kl",
    "over responses of two tokens the gradient is that of KL between whole responses, or, for kl-loss-token, the sum "
    "of the tokens' terms, which lacks the change of the prefixes: no average over tokens, no other weight by length",
    claim="token-entropy-drops-prefix",
    objectives=("kl-loss", "kl-loss-token"),
)
def response_kl(subject: Subject) -> Verdict:
    chance, reference = probabilities(TWO_TOKENS), TWO_TOKENS.token_logps(TWO_TOKENS.reference)

    def by_token(logits: Array) -> Array:
        xp, logps = namespace(logits), TWO_TOKENS.token_logps(logits)
        terms = xp.sum(kl_k2(logps, xp.asarray(reference)), axis=-1)
        return sum(float(chance[i]) * terms[i] for i in range(len(chance)))

    whole = subject.target.name == "kl-loss"
    expected = slope(subject, TWO_TOKENS, (lambda logits: kl(TWO_TOKENS, logits)) if whole else by_token)
    words = "grad KL(pi || reference)" if whole else "sum over tokens of grad k2"
    return same_slope(TWO_TOKENS, expected_gradient(subject, TWO_TOKENS), expected, words, slack(subject))


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
        if abs(found) > slack(subject):
            return Failure(describe(subject, equal), "0", number(found))
        if subject.run(batch, gradient=False).mean == 0:
            return Failure(describe(subject, batch), "not 0", "0")
    return None


@law(
    "no-clamp",
    "far from the reference, on either side, the estimate still moves: no clamp on the gradient path",
    claim="kl-estimators-as-loss",
    families=(KL_FAMILY,),
)
def no_clamp(subject: Subject) -> Verdict:
    # k3 is e^20 at -20: further out it drowns the rest, as in float32 it already does there (its last digit is 32)
    above = (-5.0, -11.0) if subject.single else (-8.0, -20.0)
    for near, far in ((12.0, 60.0), (125.0, 250.0), above):
        if failure := _stuck(subject, near, far):
            return failure
    return None


def _stuck(subject: Subject, near: float, far: float) -> Failure | None:
    """Failure if what acts on the policy (gradient of a loss, value of a penalty or metric) does not grow with the
    log-ratio from `near` to `far`."""
    first, results, name = examples(KL_FAMILY)[0], [], subject.target.name
    loss = name in ("kl-loss", "kl-loss-token")
    for ratio in (near, far):
        batch = first | {"logps": np.array([[-0.5 + min(ratio, 0.0)]]), "ref_logps": np.array([[-0.5 - max(ratio, 0)]])}
        result = subject.run(batch)
        results.append(result.gradient["logps"].sum() if loss else result.mean)
    grown, exact = results[1] - results[0], far - near
    given, against = describe(subject, batch), f"a log-ratio of {near:g}"
    if name == "kl-metric":  # any estimator whose mean is right will do, as long as it moves
        return None if abs(grown) > 1e-6 else Failure(given, f"another value than at {against}", "the same")
    if close(np.asarray(grown), np.asarray(exact), 1e-2 * abs(exact) if subject.single else 1e-4):
        return None
    what = "gradient" if loss else "penalty"
    return Failure(f"{given}, against {against}", f"{what} larger by {exact:g}", f"larger by {number(grown)}")


@law(
    "no-gradient",
    "a penalty on the reward is detached: no gradient comes out of it, only through the reward",
    claim="kl-estimators-as-reward",
    objectives=("kl-reward",),
)
def no_gradient(subject: Subject) -> Verdict:
    if subject.backend.name == "numpy":
        return Skip("NumPy has no gradient to detach")
    batch = examples(KL_FAMILY)[1]
    slope = subject.run(batch).gradient["logps"]
    return Failure(describe(subject, batch), "gradient 0 by logps", numbers(slope)) if slope.any() else None


@law(
    "uniform-maximum",
    "entropy is largest for the uniform policy, log V a token, so the term is smallest there: the sign",
    claim="entropy-bonus-without-gradient",
    objectives=("entropy-token",),
    why="an absolute number, and the sign of the term without computing an entropy",
)
def uniform_maximum(subject: Subject) -> Verdict:
    first = examples(ENTROPY)[0]
    flat = first | {"logits": np.zeros_like(first["logits"])}
    found, strength = subject.run(flat), subject.target.options["coefficient"]
    bottom = -strength * math.log(flat["logits"].shape[-1])
    if not close(np.asarray(found.mean), np.asarray(bottom), slack(subject)):
        return Failure(describe(subject, flat), f"-coefficient log V = {number(bottom)}", number(found.mean))
    if not close(found.gradient["logits"], np.zeros_like(flat["logits"]), slack(subject)):
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
        return Failure(
            describe(subject, batch), "gradients that differ", f"both {numbers(with_term.gradient['logits'])}"
        )
    return None
