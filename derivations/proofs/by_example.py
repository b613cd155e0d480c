"""Batches of batches: on arrays of shape [2, 3, ...] every function gives each example what it gives it alone."""

import inspect
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from derivations import (
    advantages,
    arrays,
    best_of_n,
    objectives,
    off_policy,
    preference_losses,
    preference_slopes,
    preferences,
    retention,
    slopes,
    tokens,
)
from derivations.names import OBJECTIVES, make_objective
from derivations.proofs.names import TABLE, functions_of, require_rows
from derivations.prover.claims import claim
from derivations.prover.kinds import Enumerated, Step
from derivations.published import PUBLISHED, UNPAIRED, make_published, make_trained
from derivations.regularizers import KL, REGULARIZERS, Entropy, LengthNormalized

SHAPE, PLACES, TOKENS = (2, 3), 4, 3
NEAR = 1e-11
Inputs = dict[str, np.ndarray]
MODULES = (
    advantages,
    arrays,
    best_of_n,
    objectives,
    off_policy,
    preference_losses,
    preference_slopes,
    preferences,
    slopes,
    tokens,
)
# what is no function of examples: of the library, of names, or of what several examples share
OTHERS = {"arrays.namespace", "arrays.is_exact", "off_policy.detached"}


class Case(NamedTuple):
    """One example: what it has in the batch [2, 3], alone, among six rows, and what another example has alone."""

    name: str
    place: tuple[int, int]
    found: np.ndarray
    alone: np.ndarray
    in_rows: np.ndarray
    another: np.ndarray


def numbers(seed: int, *inner: int, outer: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Numbers from -3 to 0, all different, [2, 3, ...]."""
    return -3 * np.random.default_rng(seed).random((*outer, *inner))


def calls() -> dict[str, tuple[Callable[..., Any], Inputs]]:
    """Every function with its strengths, and what it takes of each example."""
    w, l, ref_w, ref_l, n_w, n_l = (numbers(seed) for seed in range(6))
    refs = {"ref_chosen_logp": ref_w, "ref_rejected_logp": ref_l}
    lengths = {"chosen_length": 2 - n_w, "rejected_length": 2 - n_l}
    ranking, one = {"rewards": numbers(6, PLACES)}, {"x": 2 + 2 * w}
    rewards, logps = {"chosen_reward": w, "rejected_reward": l}, {"chosen_logp": w, "rejected_logp": l}
    mask = numbers(7, TOKENS) > -2.5
    mask[..., 0] = True
    sampled = {"logps": numbers(8, TOKENS), "old_logps": numbers(9, TOKENS), "mask": mask}
    weighed, each = sampled | {"advantages": 1.5 + l}, sampled | {"advantages": 1.5 + numbers(10, TOKENS)}
    ratio = {"ratio": np.exp(1.5 + w)}
    clip: dict[str, Any] = {"epsilon": 0.2, "epsilon_high": 0.3}
    kl, losses = {"logp": w, "ref_logp": ref_w}, {"losses": np.where(mask, numbers(11, TOKENS), 0.0), "mask": mask}
    logits, margin = {"logits": numbers(12, PLACES)}, {"gamma": 0.3, "label_smoothing": 0.1}
    found: dict[str, tuple[Callable[..., Any], Inputs]] = {
        "arrays.log_sigmoid": (arrays.log_sigmoid, one),
        "arrays.sigmoid": (arrays.sigmoid, one),
        "arrays.logsumexp": (arrays.logsumexp, {"x": numbers(6, PLACES)}),
        "arrays.logsumexp, one entry": (arrays.logsumexp, {"x": numbers(6, 1)}),
        "arrays.log_softmax": (arrays.log_softmax, logits),
        "arrays.masked_sum": (arrays.masked_sum, {"x": numbers(8, TOKENS), "mask": mask}),
        "advantages.group_mean": (advantages.group_mean, ranking),
        "advantages.standardized": (advantages.standardized, ranking),
        "best_of_n.kl_bound": (best_of_n.kl_bound, {"n": 1 - w}),
        "objectives.pair_loss": (partial(objectives.pair_loss, **margin), rewards),
        "objectives.ipo_loss": (partial(objectives.ipo_loss, beta=0.7), rewards),
        "objectives.ranking_loss": (partial(objectives.ranking_loss, top=2), ranking),
        "objectives.maxent": (partial(objectives.maxent, alpha=0.7), logps),
        "objectives.dpo": (partial(objectives.dpo, beta=0.7), logps | refs),
        "objectives.simpo": (partial(objectives.simpo, beta=0.7, gamma=0.3), logps | lengths),
        "objectives.shaped_reward": (
            partial(objectives.shaped_reward, regularizer=KL(0.7) + LengthNormalized(0.2)),
            kl | {"reward": l, "length": 2 - n_w},
        ),
        "objectives.rloo_advantage": (objectives.rloo_advantage, ranking),
        "objectives.kl_k1": (objectives.kl_k1, kl),
        "objectives.kl_k2": (objectives.kl_k2, kl),
        "objectives.kl_k3": (objectives.kl_k3, kl),
        "objectives.kl_estimate": (partial(objectives.kl_estimate, role="metric"), kl),
        "objectives.preference_metrics": (objectives.preference_metrics, rewards | logps),
        "off_policy.ratios": (off_policy.ratios, sampled),
        "off_policy.sequence_ratios": (partial(off_policy.sequence_ratios, per_token=True), sampled),
        "off_policy.clipped_surrogate": (partial(off_policy.clipped_surrogate, **clip), ratio | {"advantages": 1.5 + l}),
        "off_policy.clip": (partial(off_policy.clip, **clip), ratio),
        "off_policy.ppo_clip": (partial(off_policy.ppo_clip, **clip), weighed),
        "off_policy.ppo_clip, an advantage a token": (partial(off_policy.ppo_clip, **clip), each),
        "off_policy.grpo": (partial(off_policy.grpo, **clip), weighed),
        "off_policy.gspo": (partial(off_policy.gspo, **clip), weighed),
        "off_policy.cispo": (partial(off_policy.cispo, **clip), weighed),
        "off_policy.cispo, an advantage a token": (partial(off_policy.cispo, **clip), each),
        "off_policy.rloo_ratio": (partial(off_policy.rloo_ratio, **clip), weighed),
        **{f"off_policy.reduced, {how}": (partial(off_policy.reduced, reduction=how, denominator=5.0), losses)
           for how in ("sequence-mean", "sum", "fixed")},
        "off_policy.reduced, token-mean": (  # an example is three responses: what is divided by is theirs
            partial(off_policy.reduced, reduction="token-mean"), {"losses": numbers(21, 3, TOKENS), "mask": numbers(22, 3, TOKENS) > -2.5},
        ),
        "preferences.bradley_terry": (preferences.bradley_terry, rewards),
        "preferences.rao_kupper": (partial(preferences.rao_kupper, gamma=0.3), rewards),
        "preferences.rao_kupper_tie": (partial(preferences.rao_kupper_tie, gamma=0.3), {"first_reward": w, "second_reward": l}),
        "preferences.plackett_luce": (preferences.plackett_luce, ranking),
        **{f"{module}.kto": (partial(function, beta=0.7, kl=np.asarray(0.1)), kl | {"desirable": l > -1.5})
           for module, function in (("preference_losses", preference_losses.kto), ("preference_slopes", preference_slopes.kto))},
        "preference_losses.log_odds": (preference_losses.log_odds, {"logp": w}),
        "preference_losses.log_ratios": (
            partial(preference_losses.log_ratios, beta=0.7), {"chosen": w, "rejected": l, "ref_chosen": ref_w, "ref_rejected": ref_l},
        ),
        "slopes.pair_slope": (partial(slopes.pair_slope, **margin), rewards),
        "slopes.ipo_slope": (partial(slopes.ipo_slope, beta=0.7), rewards),
        "slopes.ranking_slope": (partial(slopes.ranking_slope, top=2), ranking),
        "tokens.token_entropy": (tokens.token_entropy, logits),
        "tokens.token_entropy_gradient": (tokens.token_entropy_gradient, logits),
        "tokens.soft_value": (partial(tokens.soft_value, alpha=0.7), {"q": numbers(13, PLACES)}),
        "retention.retention_law": (partial(retention.retention_law, alpha=0.3, beta=0.2), {"t": -w}),
        "retention.fit_retention": (_fit, {"logp": numbers(14, 2, 5), "ref_logp": _normalized(numbers(15, 2, 5)), "reward": numbers(16, 2, 5)}),
    }  # fmt: skip
    scores = {"logp": w, "length": 2 - n_w, "ref_logp": ref_w}
    pairs = logps | refs | lengths | scores
    for module in (preference_losses, preference_slopes):
        for name, function in functions_of(module).items():
            if name not in found:
                found[name] = _with_strengths(function, pairs)
    return found | _of_objects(scores)


def _with_strengths(function: Callable[..., Any], given: Inputs) -> tuple[Callable[..., Any], Inputs]:
    """The function at strengths of 1/2 and so on, and what it takes of a pair."""
    takes = inspect.signature(function).parameters
    strengths = {"beta": 0.5, "alpha": 0.3, "penalty": 2.0}
    return partial(function, **{k: v for k, v in strengths.items() if k in takes}), {
        k: v for k, v in given.items() if k in takes
    }


def _of_objects(scores: Inputs) -> dict[str, tuple[Callable[..., Any], Inputs]]:
    """Methods of regularizers (lengths of the last axis alone broadcast), of objectives and of published losses."""
    found: dict[str, tuple[Callable[..., Any], Inputs]] = {}
    kinds = {name: kind(0.7) for name, kind in REGULARIZERS.items()} | {
        "a sum": Entropy(0.2) + KL(0.3) + LengthNormalized(0.1)
    }
    for name, regularizer in kinds.items():
        for method in ("phi", "implicit_reward", "slope", "below_top", "phi_prime"):
            found[f"{name}.{method}"] = getattr(regularizer, method), scores | {"length": scores["length"][0]}
    for name, (strength, takes) in TABLE.items():
        options: dict[str, Any] = {"divergence": "jensen-shannon"} if "divergence" in takes else {}
        if name == "cdpo":
            options |= {"label_smoothing": 0.1}
        objective = make_objective(name, **{strength: 0.5}, **options)
        size = PLACES if name.endswith("-pl") else 2
        found[f"{name}.loss"] = objective.loss, {"rewards": numbers(17, size)}
        found[f"{name}.slope"] = objective.slope, {"rewards": numbers(17, size)}
    for name in PUBLISHED:
        pair = {"logp": numbers(18, 2), "length": 2 - numbers(19, 2), "ref_logp": numbers(20, 2)}
        for method in ("losses", "slopes", "rewards"):
            found[f"{name}.{method}"] = getattr(make_published(name), method), pair
    single = {"logp": numbers(18, 2), "good": numbers(19, 2) > -1.5, "ref_logp": numbers(20, 2), "kl": -numbers(21, 2)}
    for name in UNPAIRED:
        made: Any = make_trained(name)
        found |= {f"{name}.losses": (made.losses, single), f"{name}.slopes": (made.slopes, single)}
        found[f"{name}.rewards"] = made.rewards, {key: single[key] for key in ("logp", "ref_logp")}
    return found


def _normalized(logits: np.ndarray) -> np.ndarray:
    return np.asarray(logits - np.log(np.sum(np.exp(logits), axis=-1, keepdims=True)))


def _fit(logp: np.ndarray, ref_logp: np.ndarray, reward: np.ndarray) -> np.ndarray:
    """kappa, tau and their errors: of each example, which here is two prompts with five responses."""
    return np.stack([*vars(retention.fit_retention(logp, ref_logp, reward)).values()], axis=-1)


def _parts(answer: Any) -> list[np.ndarray]:
    """What a function returns, as arrays."""
    if isinstance(answer, dict | tuple):
        return [np.asarray(part, dtype=float) for part in (answer.values() if isinstance(answer, dict) else answer)]
    return [np.asarray(answer, dtype=float)]


def examples() -> Iterator[Case]:
    """Every example of every function; an answer without one entry for each example breaks the proof off."""
    table = calls()
    known = {name.partition(",")[0] for name in table} | OTHERS
    require_rows(
        [name for module in MODULES for name in functions_of(module)],
        known,
        "calls() of derivations/proofs/by_example.py",
    )
    require_rows(OBJECTIVES, TABLE, "TABLE of derivations/proofs/names.py")
    for name, (function, given) in table.items():
        whole = {key: np.broadcast_to(value, SHAPE + value.shape[2:]) for key, value in given.items()}
        for one in _parts(function(**{key: value[:, :1] for key, value in whole.items()})):
            if one.shape[:2] != (SHAPE[0], 1):
                raise ValueError(f"{name}: an answer of shape {one.shape} for a batch of shape {(SHAPE[0], 1)}")
        rows = {key: value.reshape(-1, *value.shape[2:]) for key, value in whole.items()}
        alone = {
            place: _parts(function(**{key: np.asarray(value[place]) for key, value in whole.items()}))
            for place in np.ndindex(SHAPE)
        }
        found, in_rows = _parts(function(**given)), _parts(function(**rows))
        for part, values in enumerate(found):
            if values.shape != SHAPE + alone[0, 0][part].shape:
                raise ValueError(
                    f"{name}: an answer of shape {values.shape} for examples of shape {alone[0, 0][part].shape}"
                )
            for row, (i, j) in enumerate(np.ndindex(SHAPE)):
                other = alone[i, (j + 1) % SHAPE[1]][part]
                yield Case(name, (i, j), values[i, j], alone[i, j][part], in_rows[part][row], other)


def the_same(case: Case) -> bool:
    right = np.stack([case.alone, case.in_rows])
    return bool(np.all(np.abs(case.found - right) <= NEAR * (1 + np.abs(right))))


def the_same_one_by_one(case: Case) -> bool:
    numbers = zip(*(np.ravel(values).tolist() for values in (case.found, case.alone, case.in_rows)), strict=True)
    return all(math.isclose(a, b, rel_tol=NEAR, abs_tol=NEAR) and math.isclose(a, c, rel_tol=NEAR, abs_tol=NEAR)
               for a, b, c in numbers)  # fmt: skip


def as_another(case: Case) -> bool:
    return bool(np.allclose(case.found, case.another))


@claim(
    "calls-by-example",
    "In a batch of batches each function of the ground floor gives an example the numbers that it gives it alone.",
    latex=r"f(x)_{ij} = f(x_{ij})",
    hypotheses="float64, relative error 10^-11",
    source="docstrings of the ground floor: [...] and shapes that broadcast",
    scope="arrays of shape [2, 3], [2, 3, 4] and so on, of one set of numbers; against examples alone and six rows; shapes for [2, 1]",
)
def calls_by_example() -> list[Step]:
    return [
        Enumerated(
            "every function at every example", examples, the_same, the_same_one_by_one, {"the next one's": as_another}
        )
    ]
