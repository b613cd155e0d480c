"""What a batch does to its pairs before their losses are taken: scores centred, sorted, or measured by the longest.

Such a function is right, or a constant, on single pairs. Each idea changes the inputs of a loss of single pairs (the
objective that was asked for, or what single pairs showed), which is then held against the function on two batches.
"""

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from derivations.conformance.batches import Batch, raised, size
from derivations.conformance.families import PAIRS
from derivations.conformance.gradient_words import held_words
from derivations.conformance.grid import SIDES
from derivations.conformance.loss_under_test import Subject
from derivations.conformance.other_rows import other_rows
from derivations.conformance.whole_batch import Losses, Whole

Vector = np.ndarray
ROLES = {"the policy": ("",), "the reference": ("ref_",), "policy and reference": ("", "ref_")}
Scores = Callable[[Batch], tuple[Vector, Vector]]


def batch_change(subject: Subject, wholes: list[Whole], losses: Losses) -> str:
    """What happens to a batch of pairs before these losses are taken, in words; nothing if no idea fits."""
    with np.errstate(all="ignore"):
        for score, scores in _scores(subject).items():
            for words, change in _ideas(scores).items():
                if all(whole.is_mean_of(losses(change(whole.batch))) for whole in wholes):
                    return f"{words}{score}{held_words(subject, wholes[0].batch)}"
        if all(whole.mean_is(float(losses(_crossed(whole.batch)).mean())) for whole in wholes):
            return "every chosen response meets every rejected one"
    words = other_rows(wholes, losses)
    return f"{words}{held_words(subject, wholes[0].batch)}" if words else ""


def _crossed(batch: Batch) -> Batch:
    """Every chosen response with every rejected one."""
    rows = np.arange(size(batch))
    return _reordered(batch, np.repeat(rows, len(rows)), np.tile(rows, len(rows)))


def over_the_batch(subject: Subject, wholes: list[Whole]) -> str:
    """What is nothing for a single pair: a cross-entropy of scores over the batch, not of the pair."""
    beta = float(next((v for v in subject.target.options.values() if isinstance(v, int | float)), 1.0))
    for words, score in _everything():
        for factor in dict.fromkeys((beta, 1.0)):
            rows = [factor * score(whole.batch) for whole in wholes]
            losses = [np.log(np.exp(x - x.max()).sum()) - (x - x.max()) for x in rows]
            if all(whole.is_mean_of(x) for whole, x in zip(wholes, losses, strict=True)):
                of = words if factor == 1 else f"{factor:g} x {words}"
                return f"-log of the softmax over the batch of {of}, which is 0 for a single pair"
    return ""


def _everything() -> Iterator[tuple[str, Callable[[Batch], Vector]]]:
    """Scores of pairs and of one response."""
    for name, kind, reference in (("log pi - log ref", "logp", True), ("log pi", "logp", False),
                                  ("log pi/|y|", "mean_logp", False)):  # fmt: skip
        scores = _score(kind, reference)
        yield f"the margin of {name}", lambda b, f=scores: f(b)[0] - f(b)[1]  # type: ignore[misc]
        yield f"{name} of the chosen response", lambda b, f=scores: f(b)[0]  # type: ignore[misc]
        yield f"{name} of the rejected response", lambda b, f=scores: f(b)[1]  # type: ignore[misc]


def _score(kind: str, reference: bool) -> Scores:
    def scores(batch: Batch) -> tuple[Vector, Vector]:
        named = PAIRS.derive(batch)
        w, l = (named[f"{side}_{kind}"] - (named[f"ref_{side}_{kind}"] if reference else 0.0) for side in SIDES)
        return w, l

    return scores


def _scores(subject: Subject) -> dict[str, Scores]:
    """The scores whose difference the objective looks at, then the other usual ones, with what is said of them."""
    own = ("mean_logp" if subject.target.needs_length else "logp", subject.target.needs_reference)
    others = {
        ("logp", True): "log pi - log ref", ("logp", False): "log pi",
        ("mean_logp", True): "(log pi - log ref)/|y|", ("mean_logp", False): "log pi/|y|",
    }  # fmt: skip
    return {"": _score(*own)} | {f" (scores: {words})": _score(*how) for how, words in others.items() if how != own}


def _ideas(scores: Scores) -> dict[str, Callable[[Batch], Batch]]:
    def margin(batch: Batch) -> Vector:
        w, l = scores(batch)
        return w - l

    def set_to(side: str, meant: Callable[[Batch], Vector]) -> Callable[[Batch], Batch]:
        """The scores of one side made these, by their first tokens."""
        place = SIDES.index(side)

        def change(batch: Batch) -> Batch:
            here = scores(batch)[place]
            worth = scores(raised(batch, f"{side}_logps", np.ones(size(batch))))[place] - here
            return raised(batch, f"{side}_logps", (meant(batch) - here) / worth)

        return change

    def margin_to(meant: Callable[[Vector], Vector]) -> Callable[[Batch], Batch]:
        return set_to("chosen", lambda b: meant(margin(b)) + scores(b)[1])

    def by_length(common: Callable[[Vector], float]) -> Callable[[Batch], Batch]:
        def change(batch: Batch) -> Batch:
            for side in SIDES:
                mask = batch[f"{side}_mask"]
                share = mask.sum(-1, keepdims=True) / common(mask)
                batch = batch | {f"{r}{side}_logps": batch[f"{r}{side}_logps"] * share for r in ("", "ref_")}
            return batch

        return change

    def unmasked(roles: tuple[str, ...]) -> Callable[[Batch], Batch]:
        """What stands under the mask, added to the first token."""

        def change(batch: Batch) -> Batch:
            for side, role in itertools.product(SIDES, roles):
                name, mask = f"{role}{side}_logps", batch[f"{side}_mask"]
                batch = raised(batch, name, np.where(mask, 0.0, batch[name]).sum(-1))
            return batch

        return change

    def with_lengths(summary: Callable[[Vector], float]) -> Callable[[Batch], Batch]:
        """The lengths themselves, where a loss uses them beside log-probs."""
        return lambda b: b | {f"{s}_length": np.full(size(b), summary(b[f"{s}_mask"].sum(-1))) for s in SIDES}

    def ordered(descending: bool) -> Callable[[Batch], Batch]:
        def change(batch: Batch) -> Batch:
            orders = [np.argsort(s)[:: -1 if descending else 1] for s in scores(batch)]
            return _reordered(batch, orders[0], orders[1])

        return change

    def sorted_apart(descending: bool) -> Callable[[Batch], Batch]:
        def meant(batch: Batch) -> Vector:
            both = [w - l for w, l in (_score("logp", False)(batch), _score("logp", True)(batch))]
            policy, reference = (np.sort(x)[:: -1 if descending else 1] for x in (both[0], both[0] - both[1]))
            return policy - reference + scores(batch)[1]

        return set_to("chosen", meant)

    def less(shift: Callable[[Vector, Vector], tuple[Vector, Vector]]) -> Callable[[Batch], Batch]:
        """Both scores less some number, which no function of their difference sees."""

        def change(batch: Batch) -> Batch:
            w, l = scores(batch)
            first, second = shift(w, l)
            return set_to("rejected", lambda _: l - second)(set_to("chosen", lambda _: w - first)(batch))

        return change

    def met(partner: Callable[[Vector], Vector]) -> Callable[[Batch], Batch]:
        return lambda b: _reordered(b, np.arange(size(b)), partner(np.arange(size(b))))

    of_margins: dict[str, Callable[[Vector], Vector]] = {
        "the mean margin is taken from every margin": lambda m: m - m.mean(),
        "the mean of the other margins is taken from every margin": lambda m: m - (m.sum() - m) / (len(m) - 1),
        "the median margin is taken from every margin": lambda m: m - np.sort(m)[(len(m) - 1) // 2],
        "the largest margin is taken from every margin": lambda m: m - m.max(),
        "the least margin is taken from every margin": lambda m: m - m.min(),
        "the margins are divided by their mean size": lambda m: m / np.abs(m).mean(),
        "the margins are divided by their largest size": lambda m: m / np.abs(m).max(),
        "every margin is the mean margin": lambda m: 0 * m + m.mean(),
        "every margin is the sum of the margins": lambda m: 0 * m + m.sum(),
        "every margin is multiplied by the number of pairs": lambda m: m * len(m),
        "every margin is divided by the number of pairs": lambda m: m / len(m),
    }
    for kind, ddof in (("sample", 1), ("population", 0)):
        of_margins |= {
            f"the margins are divided by their deviation ({kind})": lambda m, d=ddof: m / m.std(ddof=d),  # type: ignore[misc]
            f"the margins are standardized ({kind} deviation)": lambda m, d=ddof: (m - m.mean()) / m.std(ddof=d),  # type: ignore[misc]
        }
    of_sides: dict[str, Callable[[Vector], Vector]] = {
        "the scores of the {} responses are centred": lambda s: s - s.mean(),
        "every {} score is the mean of the {} scores": lambda s: 0 * s + s.mean(),
        "every {} score is the mean of the {} scores, not below 0": lambda s: 0 * s + max(s.mean(), 0.0),
        "every {} score is the mean of the other {} scores": lambda s: (s.sum() - s) / (len(s) - 1),
        "every {} score is the largest of the {} scores": lambda s: 0 * s + s.max(),
        "every {} score is the least of the {} scores": lambda s: 0 * s + s.min(),
        "every {} score is the sum of the {} scores": lambda s: 0 * s + s.sum(),
        "every {} score is that of the first pair's {} response": lambda s: 0 * s + s[0],
        "every {} score is the log of the mean exponential of the {} scores": lambda s: (
            0 * s + np.log(np.exp(s).mean())
        ),
    }
    return (
        {words: margin_to(change) for words, change in of_margins.items()}
        | {
            words.format(side, side): set_to(side, lambda b, c=change, p=place: c(scores(b)[p]))  # type: ignore[misc]
            for words, change in of_sides.items()
            for place, side in enumerate(SIDES)
        }
        | {
            "every score is less the mean of all scores of the other side": less(lambda w, l: (l.mean(), w.mean())),
            "every score is less the mean of all scores of its side": less(lambda w, l: (w.mean(), l.mean())),
            "every score is less the mean of all scores of the batch": less(lambda w, l: ((w + l).mean() / 2,) * 2),
            "the margins of policy and reference are sorted apart, then subtracted": sorted_apart(False),
            "the margins of policy and reference are sorted apart from the largest, then subtracted": sorted_apart(
                True
            ),
            "both scores are the means of their side": lambda b: set_to(
                "rejected", lambda x: 0 * margin(x) + scores(b)[1].mean()
            )(set_to("chosen", lambda x: 0 * margin(x) + scores(b)[0].mean())(b)),
            "chosen and rejected scores are sorted before they are subtracted, so pairs are torn apart": ordered(False),
            "chosen and rejected scores are sorted from the largest before they are subtracted, so pairs are torn "
            "apart": ordered(True),
            "each chosen response meets the next pair's rejected one": met(lambda i: np.roll(i, -1)),
            "each chosen response meets the pair before's rejected one": met(lambda i: np.roll(i, 1)),
            "each chosen response meets the rejected one from the other end": met(lambda i: i[::-1]),
            "both lengths are the means of their side": with_lengths(np.mean),
            "both lengths are the largest of their side": with_lengths(np.max),
            "both lengths are the sums of their side": with_lengths(np.sum),
            "log-probs are divided by the longest response's length on their side, not by their own": by_length(
                lambda mask: mask.sum(-1).max()
            ),
            "log-probs are divided by the padded width on their side, not by their own length": by_length(
                lambda mask: mask.shape[1]
            ),
            "log-probs are divided by the mean length on their side, not by their own": by_length(
                lambda mask: mask.sum(-1).mean()
            ),
            **{f"the padding counts in the log-probs of {words}": unmasked(roles) for words, roles in ROLES.items()},
        }
    )


def _reordered(batch: Batch, chosen: Vector, rejected: Vector) -> Batch:
    return {name: array[chosen if "chosen" in name else rejected] for name, array in batch.items()}
