"""A KL or entropy term that is no named one: how tokens add up, and what function of a token it is."""

from collections.abc import Callable

import numpy as np

from derivations.conformance.batches import Batch
from derivations.conformance.calls import CallError
from derivations.conformance.families import KL_FAMILY
from derivations.conformance.far import far_tokens
from derivations.conformance.gradient_words import flows
from derivations.conformance.grid import response
from derivations.conformance.laws import number
from derivations.conformance.loss_under_test import Subject
from derivations.conformance.one_score import of_one_score
from derivations.conformance.one_sided import part_of

Vector = np.ndarray
NO_TOKENS = np.zeros((0, 2))
NO_VALUES = np.zeros(0)
Values = Callable[[Vector], float]  # tokens [T, ...] -> value


def token_function(subject: Subject) -> str:
    """The term in words: how it adds up over tokens, and which function of one token it is. Nothing if it does not."""
    make = _kl_batch if subject.target.family is KL_FAMILY else _entropy_batch
    allowed = 1e-4 if subject.single else 1e-7

    def value(tokens: Vector) -> float:
        return subject.run(make(tokens), gradient=False).mean

    try:
        with np.errstate(all="ignore"):
            words = _words(subject, value, allowed)
        return words and words + _gradient(subject, make(_tokens(subject)[:8]), allowed)
    except CallError:
        return ""


def _words(subject: Subject, value: Values, allowed: float) -> str:
    of_kl, tokens = subject.target.family is KL_FAMILY, _tokens(subject)
    each = np.array([value(token[None]) for token in tokens])
    if not np.all(np.isfinite(each)):
        return ""
    if not of_kl and (words := _across_tokens(value, tokens, allowed)):
        return words
    how = _adding_up(value, tokens, each, of_kl, allowed)
    what = _of_token(value, tokens, each, allowed) if of_kl else _of_distribution(tokens, each, allowed)
    return f"{what}, {how}" if how and what else ""


def _tokens(subject: Subject) -> Vector:
    return _kl_tokens() if subject.target.family is KL_FAMILY else _distributions()


def _adding_up(value: Values, tokens: Vector, each: Vector, of_kl: bool, allowed: float) -> str:
    """Sum or mean over tokens, or a function of the response as a whole."""
    chosen = [[0, 1], [2, 3, 4], [5, 6, 7, 8], [9, 3]]
    found = np.array([value(tokens[rows]) for rows in chosen])
    ideas = {
        "summed over tokens": [each[rows].sum() for rows in chosen],
        "averaged over tokens": [each[rows].mean() for rows in chosen],
        "the largest of the tokens": [each[rows].max() for rows in chosen],
        "the least of the tokens": [each[rows].min() for rows in chosen],
        "of the first token alone": [each[rows[0]] for rows in chosen],
        "of the last token alone": [each[rows[-1]] for rows in chosen],
        "summed over tokens, over the square root of the length": [each[r].sum() / len(r) ** 0.5 for r in chosen],
        "summed over tokens, over the squared length": [each[rows].sum() / len(rows) ** 2 for rows in chosen],
        "summed over tokens, times the length": [each[rows].sum() * len(rows) for rows in chosen],
    }
    if of_kl:
        ideas["of whole responses"] = [value(tokens[rows].sum(0, keepdims=True)) for rows in chosen]
        ideas |= {
            f"of whole responses, {words}": [
                value(tokens[rows].sum(0, keepdims=True)) * len(rows) ** k for rows in chosen
            ]
            for words, k in (("over the length", -1), ("over the squared length", -2), ("times the length", 1))
        }
        ideas["of log-probs averaged over tokens"] = [value(tokens[rows].mean(0, keepdims=True)) for rows in chosen]
    scale = max(1e-6, float(np.abs(found).max()))
    return next((words for words, meant in ideas.items() if np.abs(found - meant).max() <= allowed * scale), "")


# ---------------------------------------------------------------- KL


def _kl_batch(tokens: Vector) -> Batch:
    return {"logps": tokens[None, :, 0], "ref_logps": tokens[None, :, 1], "mask": np.ones((1, len(tokens)), dtype=bool)}


def _kl_tokens() -> Vector:
    """Log-probs of policy and reference of single tokens, [n, 2], their ratios on both sides of 1 and of its bounds."""
    return np.concatenate([np.stack(response(700 + i, 5), 1) for i in range(6)])


def _of_token(value: Values, tokens: Vector, each: Vector, allowed: float) -> str:
    p, q = tokens.T
    far, more = far_tokens(), np.array([value(token[None]) for token in far_tokens()])
    if words := _of_single(each, tokens, allowed, far, more):
        return words
    raised = np.array([value(token[None] - 0.37) for token in tokens[:10]])
    alone = np.abs(raised - each[:10]).max() <= allowed * max(1.0, float(np.abs(each).max()))
    if not alone:
        return ""
    d, values = np.concatenate([p - q, far[:, 0] - far[:, 1]]), np.concatenate([each, more])
    words = of_one_score(d, values, (1.0,), allowed)
    return f"{words} for x = log pi - log ref" if words else pieces(d, values, allowed)


def _of_single(each: Vector, tokens: Vector, allowed: float, far: Vector = NO_TOKENS, more: Vector = NO_VALUES) -> str:
    """A number of single tokens as a sum of functions of their log-probs and a constant, which holds far off too."""
    one = np.ones(len(tokens))
    p, q = tokens.T
    part = part_of(each, p, q, one, (1.0,), 10 * allowed)
    if part is None or not part.words:
        return ""
    left = each - part.rule(p, q, one)
    shift, size = float(left.mean()), 1 + np.abs(more)
    beyond = np.abs(part.rule(far[:, 0], far[:, 1], np.ones(len(far))) + shift - more)
    if np.ptp(left) > 1e-6 or np.any(beyond > 1e-5 * size):
        return ""
    return part.words + ("" if abs(shift) < 1e-6 else f" {'-' if shift < 0 else '+'} {number(abs(shift))}")


def pieces(d: Vector, each: Vector, allowed: float) -> str:
    """A function of the log-ratio alone, and where it is a named one."""
    order = np.argsort(d)
    d, each = d[order], each[order]
    named = {"k2": d**2 / 2, "k1": d, "k3": np.expm1(-d) + d, "the squared log-ratio": d**2, "|log-ratio|": np.abs(d)}
    near = np.flatnonzero(np.abs(d) < 4)
    table = ", ".join(f"{each[i]:.4g} at {d[i]:.3g}" for i in near[np.linspace(0, len(near) - 1, 5).astype(int)])
    for words, meant in named.items():
        same = np.abs(each - meant) <= 10 * allowed * np.maximum(1.0, np.abs(meant))
        if 5 <= same.sum() < len(d) and (bounds := _bounds(each[~same], meant[~same])):
            return f"{words} of the log-ratio, {bounds}"
        if 5 <= same.sum() < len(d):
            inside, outside = np.abs(d[same]).max(), np.abs(d[~same]).min()
            where = f"where the log-ratio is within {inside:.2g}, and another beyond" if inside < outside else "in part"
            return f"a function of the log-ratio alone: {words} {where} ({table})"
    return f"a function of the log-ratio alone that is none of the usual ones ({table})"


def _bounds(found: Vector, meant: Vector) -> str:
    """Where the values stop, if those that are others than was meant are all at a bound."""
    high, low = found < meant, found > meant
    if not all(len(set(side.round(9))) <= 1 for side in (found[high], found[low])):
        return ""
    said = [f"not above {number(float(found[high][0]))}"] if high.any() else []
    return " and ".join(said + ([f"not below {number(float(found[low][0]))}"] if low.any() else []))


def _gradient(subject: Subject, batch: Batch, allowed: float) -> str:
    """What the gradient is, where it is not that of the value."""
    if flows(subject, batch):
        return ""
    if all(np.abs(slope).max() < 1e-12 for slope in subject.run(batch).gradient.values()):
        return "; no gradient"
    words = "; its gradient is not that of its value"
    if subject.target.family is not KL_FAMILY:
        return words
    tokens = _kl_tokens()
    slopes = np.array([float(subject.run(_kl_batch(token[None])).gradient["logps"].sum()) for token in tokens])
    said = _of_single(slopes, tokens, allowed) if np.ptp(slopes) > 1e-9 else number(float(slopes[0]))
    return f"{words}: the slope by the log-prob of a single token is {said}" if said else words


# ---------------------------------------------------------------- entropy


def _across_tokens(value: Values, tokens: Vector, allowed: float) -> str:
    """A softmax that runs over the tokens, or over everything, instead of over the vocabulary."""
    chosen = [tokens[rows] for rows in ([0, 1], [2, 3, 4], [5, 6, 7, 8], [9, 3])]
    found = np.array([value(rows) for rows in chosen])
    for axis, over in ((0, "the tokens, not over the vocabulary"), ((0, 1), "tokens and vocabulary at once")):
        logs = [rows - np.log(np.exp(rows).sum(axis, keepdims=True)) for rows in chosen]
        for words, term in (
            ("the sum of p log p", lambda q: np.exp(q) * q),
            ("the sum of log-probs", lambda q: q),
            ("the sum of squared probabilities", lambda q: np.exp(2 * q)),
        ):
            sums = np.array([term(q).sum() for q in logs])
            lengths = np.array([len(rows) for rows in chosen])
            for how, over_tokens in (("summed", 1), ("averaged", lengths)):
                meant = sums / over_tokens
                factor = float(meant @ found) / float(meant @ meant)
                if np.abs(found - factor * meant).max() <= allowed * np.abs(found).max():
                    return f"{number(factor)} x {words}, {how} over tokens, where the softmax runs over {over}"
    return ""


def _entropy_batch(tokens: Vector) -> Batch:
    mask = np.ones((1, len(tokens)), dtype=bool)
    return {"logits": tokens[None], "tokens": np.zeros((1, len(tokens)), dtype=np.int64), "mask": mask}


def _distributions() -> Vector:
    """Logits of single tokens, [n, 4], the first of which is the one that was sampled."""
    return np.random.default_rng(31).normal(size=(24, 4)).round(2) * 1.5


def _of_distribution(logits: Vector, each: Vector, allowed: float) -> str:
    q = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    p = np.exp(q)
    features = {
        "the entropy": -(p * q).sum(-1),
        "the sum of squared probabilities": (p**2).sum(-1),
        "the sum of cubed probabilities": (p**3).sum(-1),
        "ln of the sum of squared probabilities": np.log((p**2).sum(-1)),
        "the largest probability": p.max(-1),
        "ln of the largest probability": q.max(-1),
        "the sampled token's log-prob": q[:, 0],
        "the sampled token's probability": p[:, 0],
        "the sampled token's probability times its log-prob": p[:, 0] * q[:, 0],
        "the sum of log-probs over the vocabulary": q.sum(-1),
        "the sum of p^2 log p": (p**2 * q).sum(-1),
        "the sum of p (log p)^2": (p * q**2).sum(-1),
        "the sum of p times the logit": (p * logits).sum(-1),
        "logsumexp of the logits": np.log(np.exp(logits).sum(-1)),
        "the sum of the logits": logits.sum(-1),
        "the variance of the logits": logits.var(-1),
        "the sum of exp(logit) times logit": (np.exp(logits) * logits).sum(-1),
        "the sum of squared log-probs": (q**2).sum(-1),
        "the squared log-prob of the sampled token": q[:, 0] ** 2,
        "the probability of the runner-up": np.sort(p, -1)[:, -2],
        "exp of the entropy": np.exp(-(p * q).sum(-1)),
        "the squared entropy": (p * q).sum(-1) ** 2,
    }
    names, one = list(features), np.ones(len(p))
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    for chosen in [*((name,) for name in names), *pairs]:
        matrix = np.stack([*(features[name] for name in chosen), one], 1)
        found, *_ = np.linalg.lstsq(matrix, each, rcond=None)
        if np.abs(matrix @ found - each).max() <= 10 * allowed * max(1.0, float(np.abs(each).max())):
            parts = [f"{number(c)} x {name}" for c, name in zip(found, chosen, strict=False) if abs(c) > 1e-6]
            if len(chosen) == 1 and abs(abs(found[0]) * logits.shape[1] - 1) < 1e-6:
                parts[0] += (
                    f" (1/{logits.shape[1]}: over the vocabulary of {logits.shape[1]} it is averaged, not summed)"
                )
            parts += [number(found[-1])] if abs(found[-1]) > 1e-6 else []
            return " + ".join(parts).replace("+ -", "- ")
    return ""
