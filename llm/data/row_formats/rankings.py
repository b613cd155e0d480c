"""Formats with several responses and scores, ranks or an order. Ties are kept: only the tied comparison is lost."""

from collections.abc import Sequence
from typing import Any

from llm.data.row_formats.messages import field, number_of, response_of, text_of
from llm.data.row_formats.pairs import prompt_field, prompt_in
from llm.data.row_formats.rows import Comparison, Message, Row, Unusable, shown

LISTS = (
    *("responses", "completions", "generations", "candidates_completions", "candidates", "answers", "outputs"),
    "all_generated_responses",
)
HIGHER = ("scores", "ratings", "rewards", "rating", "all_rm_scores", "reward_scores")  # the higher the better
LOWER = ("ranks",)  # the lower the better
ASPECTS = ("helpfulness", "honesty", "instruction_following", "truthfulness")


def order_by(
    prompt: tuple[Message, ...], texts: Sequence[str], worse: Sequence[float], where: str, *, scored: bool = False
) -> Comparison:
    """The comparison of responses by a number that is lower for the better one. scored: it is a negative score."""
    if len(set(worse)) < 2:
        raise Unusable("all responses are tied")
    order = sorted(range(len(texts)), key=lambda i: worse[i])
    dense = {value: place for place, value in enumerate(sorted(set(worse)))}
    places = tuple(dense[worse[i]] for i in order)
    scores = tuple(-worse[i] for i in order) if scored else ()
    ties = places if len(dense) < len(places) else ()
    return Comparison(prompt, tuple(texts[i] for i in order), where, ties, scores)


def lists_of(row: Row) -> tuple[str, str] | None:
    """Names of the fields of the responses and of what orders them, if the row has both as lists."""
    for name in LISTS:
        for by in (*HIGHER, "ranking", *LOWER):
            if isinstance(row.get(name), list | tuple) and row.get(by) is not None:
                return name, by
    return None


def read_lists(row: Row, where: str) -> Comparison:
    """Responses in any order with scores (higher is better), ranks (lower is better) or a ranking (indices, best
    first)."""
    name, by = lists_of(row) or (next((n for n in LISTS if row.get(n) is not None), LISTS[0]), HIGHER[0])
    responses = field(row, name)
    if not isinstance(responses, list | tuple) or len(responses) < 2:
        raise Unusable(f"field {name!r}: expected a list of two or more; got {shown(responses)}")
    texts = [response_of(response, name) for response in responses]
    prompt = prompt_in(row, prompt_field({k: v for k, v in row.items() if k != name}) or "prompt")
    numbers = field(row, by)
    if by == "ranking":
        indices = isinstance(numbers, list | tuple) and all(type(i) is int for i in numbers)
        if not indices or sorted(numbers) != list(range(len(texts))):
            raise Unusable(
                f"field 'ranking': expected the indices 0 to {len(texts) - 1}, best first; got {shown(numbers)}"
            )
        place = {index: place for place, index in enumerate(numbers)}
        return order_by(prompt, texts, [place[i] for i in range(len(texts))], where)
    if not isinstance(numbers, list | tuple) or len(numbers) != len(texts):
        raise Unusable(f"field {by!r}: expected {len(texts)} numbers; got {shown(numbers)}")
    values = [number_of(value, by) for value in numbers]
    return order_by(prompt, texts, values if by in LOWER else [-v for v in values], where, scored=by in HIGHER)


def items_of(row: Row, name: str) -> list[Row]:
    """The objects in a list. Raises Unusable if it is no list of two or more."""
    found = field(row, name)
    if not isinstance(found, list | tuple) or len(found) < 2 or not all(isinstance(item, dict) for item in found):
        raise Unusable(f"field {name!r}: expected a list of two or more objects; got {shown(found)}")
    return list(found)


def read_objects(
    row: Row, where: str, *, prompt: str, items: str, answer: str, by: str, higher: bool = False
) -> Comparison:
    """A list of objects, each with an answer and a number (Nectar, NeMo, Stack Exchange)."""
    found = items_of(row, items)
    texts = [response_of(field(item, answer), answer) for item in found]
    values = [number_of(field(item, by), by) for item in found]
    return order_by(prompt_in(row, prompt), texts, [-v for v in values] if higher else values, where, scored=higher)


ANSWERS = ("text", "content", "response", "completion", "answer", "output", "generation")
BETTER, WORSE = ("score", "rating", "reward", "overall_score", "quality"), ("rank", "ranking", "place")


def scored_items(row: Row) -> tuple[str, str, str] | None:
    """Names of a list of objects, of the answer in each, and of its score or rank, if the row has such a list."""
    for name in LISTS:
        items = row.get(name)
        first = items[0] if isinstance(items, list | tuple) and items and isinstance(items[0], dict) else {}
        answer = next((n for n in ANSWERS if first.get(n) is not None), None)
        by = next((n for n in (*BETTER, *WORSE) if type(first.get(n)) in (int, float)), None)
        if answer and by:
            return name, answer, by
    return None


def read_scored(row: Row, where: str) -> Comparison:
    """A list of objects, each with an answer and a score (higher is better) or a rank (lower is better)."""
    name, answer, by = scored_items(row) or (LISTS[0], ANSWERS[0], BETTER[0])
    prompt = prompt_field({k: v for k, v in row.items() if k != name}) or "prompt"
    return read_objects(row, where, prompt=prompt, items=name, answer=answer, by=by, higher=by in BETTER)


def read_ultrafeedback(row: Row, where: str) -> Comparison:
    """UltraFeedback's raw ratings: `overall_score` of each completion, else the mean of its aspects."""
    found = items_of(row, "completions")
    texts = [response_of(field(item, "response"), "response") for item in found]
    values = [_rating(item) for item in found]
    return order_by(prompt_in(row, "instruction"), texts, [-v for v in values], where, scored=True)


def _rating(completion: Row) -> float:
    for name in ("overall_score", "fine-grained_score"):
        if completion.get(name) is not None:
            return number_of(completion[name], name)
    annotations = field(completion, "annotations")
    ratings = []
    for aspect in ASPECTS:
        given = annotations.get(aspect) if isinstance(annotations, dict) else None
        given = given[0] if isinstance(given, list) and given else given
        if isinstance(given, dict) and given.get("Rating") not in (None, "N/A"):
            ratings.append(number_of(given["Rating"], "Rating"))
    if not ratings:
        raise Unusable("a completion without a rating")
    return sum(ratings) / len(ratings)


def read_ranked_output(row: Row, where: str) -> Comparison:
    """LLaMA-Factory's older form: `output` is a list, best first."""
    output = field(row, "output")
    if not isinstance(output, list | tuple) or len(output) < 2:
        raise Unusable(f"field 'output': expected a list of two or more, best first; got {shown(output)}")
    texts = [text_of(text, "output") for text in output]
    if len(set(texts)) < len(texts):
        raise Unusable("two responses are the same")
    return order_by(prompt_in(row, "instruction"), texts, list(range(len(texts))), where)


def argilla_ranking(row: Row) -> list[Any] | None:
    """Argilla's ranking question: [{"rank", "value": name of a field}], by a suggestion or the first annotator."""
    for name, value in row.items():
        if isinstance(name, str) and "ranking" in name and isinstance(value, list | tuple) and value:
            first = value[0]
            inner = first.get("value") if isinstance(first, dict) and "rank" not in first else value
            if isinstance(inner, list | tuple) and all(isinstance(i, dict) and "rank" in i for i in inner) and inner:
                return list(inner)
    return None


def read_argilla_ranking(row: Row, where: str) -> Comparison:
    """An export of Argilla: responses in fields of their own, ordered by a ranking question."""
    ranking = argilla_ranking(row)
    if ranking is None or len(ranking) < 2:
        raise Unusable("no ranking of two or more responses")
    names = [item.get("value") for item in ranking]
    if not all(isinstance(name, str) and name in row for name in names):
        raise Unusable(f"a ranking of fields that the row has not; got {shown(names)}")
    texts = [response_of(field(row, name), name) for name in names]
    values = [number_of(item["rank"], "rank") for item in ranking]
    return order_by(prompt_in(row, prompt_field(row) or "prompt"), texts, values, where)
