"""Every format: name, fields in words, how a row of it is told, and its reader. The first that fits is taken."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from llm.data.row_formats import choices, clouds, pairs, rankings, unpaired, verdicts
from llm.data.row_formats.rows import Comparison, Judged, Row, Unusable, require_texts, shown

Reader = Callable[[Row, str], Comparison | Judged]


@dataclass(frozen=True)
class Format:
    """name: of `--shape`. fields: that it has, in words. where: who writes it. fits: whether a row (its nulls left
    out) is of it. read: (row, place) to a comparison or a judged response; raises Unusable."""

    name: str
    fields: str
    where: str
    fits: Callable[[Row], bool]
    read: Reader


def has(*names: str) -> Callable[[Row], bool]:
    """Whether a row has these fields."""
    return lambda row: all(name in row for name in names)


def objects(name: str, *fields: str) -> Callable[[Row], bool]:
    """Whether a field is a list of objects with these fields."""

    def fits(row: Row) -> bool:
        items = row.get(name)
        return isinstance(items, list | tuple) and any(
            isinstance(item, dict) and all(field in item for field in fields) for item in items
        )

    return fits


def both(*tests: Callable[[Row], bool]) -> Callable[[Row], bool]:
    return lambda row: all(test(row) for test in tests)


def sided(*prompts: str) -> Callable[[Row], bool]:
    """Whether a row has a chosen and a rejected response, and one of these fields as its prompt."""
    return lambda row: pairs.sides_of(row) is not None and pairs.prompt_field(row) in prompts


def _ordered(row: Row) -> bool:
    return rankings.lists_of(row) is not None or "responses" in row


def _swift(row: Row) -> bool:
    one = "messages" in row and ("rejected_response" in row or "rejected_messages" in row)
    return one or all(name in row for name in ("query", "response", "rejected_response"))


def _kto(row: Row) -> bool:
    if unpaired.label_of(row) is None or pairs.sides_of(row) is not None:
        return False
    return unpaired.answer_field(row) is not None or any(n in row for n in ("messages", "conversations"))


def _rated(row: Row) -> bool:
    answer = unpaired.answer_field(row)
    return answer in ("response", "completion", "output") and unpaired.rating_of(row) is not None and bool(
        pairs.prompt_field({k: v for k, v in row.items() if k != answer})
    )  # fmt: skip


def _verdict(prompt: str, first: str, second: str, verdict: str, better: Callable[[Any, str], int]) -> Reader:
    return partial(verdicts.read_verdict, prompt=prompt, sides=(first, second), verdict=verdict, better=better)


def _objects(prompt: str, items: str, answer: str, by: str, *, higher: bool = False) -> Reader:
    return partial(rankings.read_objects, prompt=prompt, items=items, answer=answer, by=by, higher=higher)


FORMATS = (
    Format("openai", "input.messages, preferred_output, non_preferred_output", "OpenAI, Azure, Fireworks",
           has("input", "preferred_output", "non_preferred_output"), partial(pairs.read_pair, prompt="input")),
    Format("nemo", "context, completions of {rank, completion}; the lowest rank is best", "NeMo RL",
           both(has("context"), objects("completions", "rank", "completion")),
           _objects("context", "completions", "completion", "rank")),
    Format("nectar", "prompt, answers of {answer, rank}; rank 1 is best", "berkeley-nest/Nectar",
           both(has("prompt"), objects("answers", "answer", "rank")), _objects("prompt", "answers", "answer", "rank")),
    Format("ultrafeedback", "instruction, completions of {response, overall_score or annotations}",
           "openbmb/UltraFeedback, raw ratings", both(has("instruction"), objects("completions", "response")),
           rankings.read_ultrafeedback),
    Format("stack-exchange", "question, answers of {text, pm_score}; the highest is best",
           "HuggingFaceH4/stack-exchange-preferences", both(has("question"), objects("answers", "text", "pm_score")),
           _objects("question", "answers", "text", "pm_score", higher=True)),
    Format("vertex", "contents of {role, parts}, completions of {score, completion}; the highest score is best",
           "Google Vertex AI", has("contents", "completions"), clouds.read_vertex),
    Format("oasst", "prompt.text, prompt.replies of {text, rank}; rank 0 is best; later turns are unused",
           "Open Assistant, trees", clouds.is_tree, clouds.read_tree),
    Format("ms-swift", "messages that end with the chosen answer, rejected_response or rejected_messages; or query, "
           "response, rejected_response", "ms-swift", _swift, pairs.read_swift),
    Format("pairs", "prompt, chosen, rejected: texts, messages, content in parts, or whole conversations",
           "TRL, UltraFeedback binarized, NeMo, OpenRLHF, argilla", 
           sided("prompt", "context", "problem", "user_prompt", "inputs", "user", "post"), pairs.read_pair),
    Format("orca", "question, chosen, rejected, and system", "Intel/orca_dpo_pairs, axolotl chatml.intel",
           sided("question"), partial(pairs.read_pair, prompt="question")),
    Format("argilla", "instruction or input, chosen_response, rejected_response (or chosen, rejected), and system",
           "argilla, distilabel, axolotl chatml.argilla and chatml.icr",
           lambda row: sided("input", "query")(row) or (sided("instruction")(row) and "chosen_response" in row),
           pairs.read_pair),
    Format("alpaca", "instruction, input, chosen, rejected, and system, history", "LLaMA-Factory",
           sided("instruction"), partial(pairs.read_pair, prompt="instruction")),
    Format("alpaca-ranked", "instruction, input, output as a list, best first", "LLaMA-Factory, older data",
           lambda row: "instruction" in row and isinstance(row.get("output"), list | tuple),
           rankings.read_ranked_output),
    Format("sharegpt", "conversations (or conversation, trajectory), chosen, rejected", "LLaMA-Factory, UltraInteract",
           sided("conversations", "conversation", "trajectory"),
           lambda row, where: pairs.read_pair(
               row, where, prompt=next((n for n in ("conversation", "trajectory") if row.get(n)), "conversations"))),
    Format("axolotl", "messages, chosen, rejected", "axolotl chat_template.default", sided("messages"),
           partial(pairs.read_pair, prompt="messages")),
    Format("argilla-ranking", "prompt, responses in fields of their own, a ranking of {rank, value}",
           "exports of argilla", lambda row: rankings.argilla_ranking(row) is not None, rankings.read_argilla_ranking),
    Format("scored", "prompt, responses (or completions, answers, candidates) of {text, score} or {text, rank}",
           "labelling tools, reward models", lambda row: rankings.scored_items(row) is not None, rankings.read_scored),
    Format("rankings", "prompt, responses (or completions, generations) with scores, ratings, ranks, or ranking "
           "(indices, best first)", "distilabel, OpenHermesPreferences", _ordered, rankings.read_lists),
    Format("helpsteer2", "prompt, response_1, response_2, preference_strength; negative for the first",
           "nvidia/HelpSteer2 preference", has("response_1", "response_2", "preference_strength"),
           _verdict("prompt", "response_1", "response_2", "preference_strength", verdicts.by_sign)),
    Format("helpsteer3", "context, response1, response2, overall_preference; negative for the first",
           "nvidia/HelpSteer3", has("response1", "response2", "overall_preference"),
           _verdict("context", "response1", "response2", "overall_preference", verdicts.by_sign)),
    Format("pku-saferlhf", "prompt, response_0, response_1, better_response_id (helpfulness)",
           "PKU-Alignment/PKU-SafeRLHF", has("response_0", "response_1", "better_response_id"),
           _verdict("prompt", "response_0", "response_1", "better_response_id", verdicts.by_index)),
    Format("shp", "history, human_ref_A, human_ref_B, labels (1 for A)", "stanfordnlp/SHP",
           has("history", "human_ref_A", "human_ref_B", "labels"),
           _verdict("history", "human_ref_A", "human_ref_B", "labels", verdicts.by_first)),
    Format("arena", "prompt, response_a, response_b, winner", "Chatbot Arena",
           has("response_a", "response_b", "winner"),
           _verdict("prompt", "response_a", "response_b", "winner", verdicts.by_winner)),
    Format("arena-conversations", "conversation_a, conversation_b, winner", "Chatbot Arena",
           has("conversation_a", "conversation_b", "winner"), verdicts.read_arena),
    Format("arena-votes", "prompt, response_a, response_b, winner_model_a, winner_model_b, winner_tie",
           "lmsys/lmsys-arena-human-preference-55k",
           has("response_a", "response_b", "winner_model_a", "winner_model_b"), choices.read_votes),
    Format("webgpt", "question, answer_0, answer_1, score_0, score_1", "openai/webgpt_comparisons",
           has("question", "answer_0", "answer_1", "score_0", "score_1"), verdicts.read_webgpt),
    Format("summaries", "info.post, summaries of {text}, choice", "openai/summarize_from_feedback",
           has("info", "summaries", "choice"), verdicts.read_summaries),
    Format("choice", "prompt, response_a, response_b (or answer_1, answer_2, ...), and preference, choice or winner "
           "that names the better one", "labelling tools, AlpacaFarm", choices.is_choice, choices.read_choice),
    Format("kto", "prompt, completion, label; or instruction, output, kto_tag; or messages, label", "TRL, "
           "LLaMA-Factory, ms-swift: unpaired", _kto, unpaired.read_judged),
    Format("rated", "prompt, response, and helpfulness, score, rating or reward; rows of one prompt together",
           "nvidia/HelpSteer2, HelpSteer", _rated, unpaired.read_rated),
    Format("transcripts", "chosen and rejected as whole conversations: messages, or turns of Human: and Assistant:",
           "Anthropic/hh-rlhf, Skywork, Capybara", lambda row: pairs.sides_of(row) is not None,
           pairs.read_transcripts),
)  # fmt: skip
BY_NAME = {found.name: found for found in FORMATS}
NAMES = tuple(BY_NAME)


def markdown() -> str:
    """The formats as a table for the pages of the documentation."""
    rows = [f"| `{f.name}` | {f.fields} | {f.where} |" for f in FORMATS]
    return "\n".join(["| format | fields | who writes it |", "|---|---|---|", *rows])


def detect(row: Any) -> str | None:
    """Name of the format of a row by its fields, or None if it has none."""
    if not isinstance(row, dict):
        return None
    filled = {name: value for name, value in row.items() if value is not None}  # a table has every column in every row
    return next((found.name for found in FORMATS if found.fits(filled)), None)


def parse(shape: str, row: Any, where: str) -> Comparison | Judged:
    """What a row of a format holds. Raises Unusable with the reason, naming the field."""
    if not isinstance(row, dict):
        raise Unusable(f"no object with fields; got {shown(row)}")
    found = BY_NAME[shape].read(row, where)
    require_texts(found.prompt, (found.response,) if isinstance(found, Judged) else found.responses)
    return found
