"""Every public format of preference data is told by its fields and read as its authors mean it: one row of each."""

import json
from pathlib import Path
from typing import get_args

import pytest

from llm.data.files import read_source
from llm.data.row_formats import FORMATS, NAMES, detect
from llm.data.row_formats.table import markdown
from llm.settings.train import Shape
from tests.llm.test_llm_data import NO, SYSTEM, USER, YES, write

Q, GOOD, BAD, TURNS = "Which is taller?", "The oak.", "Grass.", "\n\nHuman: Which is taller?\n\nAssistant:"
SHAREGPT_YES, SHAREGPT_NO = {"from": "gpt", "value": GOOD}, {"from": "gpt", "value": BAD}
TEXTS = {"chosen": GOOD, "rejected": BAD}
JUDGED = {"helpfulness": {"Rating": "5"}, "honesty": {"Rating": "N/A"}}

# (name, the row, the prompt if it is not the question alone). Responses are GOOD before BAD throughout.
ROWS = [
    ("pairs", {"prompt": Q, "system": "Be brief.", **TEXTS}, [SYSTEM, USER]),
    ("pairs", {"prompt": Q, "prompt_id": "a", "messages": [USER, YES], "chosen": [USER, YES], "rejected": [USER, NO],
               "score_chosen": 8.0, "score_rejected": 4.0}, None),
    ("pairs", {"prompt": [{"role": "user", "content": [{"type": "text", "text": Q}]}],
               "chosen": [{"role": "assistant", "content": [{"type": "text", "text": GOOD}]}], "rejected": [NO]}, None),
    ("pairs", {"prompt": TURNS, "response": GOOD, **TEXTS}, None),
    ("pairs", {"prompt": [USER], "chosen_response": GOOD, "rejected_response": BAD}, None),
    ("pairs", {"prompt": Q, "chosen": {"answer": GOOD, "model": "a", "rank": 1.0},
               "rejected": {"answer": BAD, "model": "b", "rank": 7.0}}, None),
    ("transcripts", {"chosen": f"{TURNS} {GOOD}", "rejected": f"{TURNS} {BAD}"}, None),
    ("transcripts", {"chosen": [SYSTEM, USER, YES], "rejected": [SYSTEM, USER, NO]}, [SYSTEM, USER]),
    ("ultrafeedback", {"source": "a", "instruction": Q, "models": ["a", "b"], "completions": [
        {"response": BAD, "overall_score": 4.0}, {"response": GOOD, "overall_score": 8.5}]}, None),
    ("ultrafeedback", {"instruction": Q, "completions": [
        {"response": GOOD, "annotations": JUDGED}, {"response": BAD, "annotations": {"honesty": {"Rating": "2"}}}]},
     None),
    ("helpsteer2", {"split": "train", "prompt": Q, "response_1": BAD, "response_2": GOOD,
                    "preference_strength": 3}, None),
    ("helpsteer2", {"split": "train", "prompt": f"Hello\n<extra_id_1>Assistant\nHi\n<extra_id_1>User\n{Q}",
                    "response_1": GOOD, "response_2": BAD, "preference_strength": -1},
     [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}, USER]),
    ("helpsteer3", {"domain": "general", "context": [USER], "response1": GOOD, "response2": BAD,
                    "overall_preference": -2, "individual_preference": [{"score": -2}]}, None),
    ("nectar", {"prompt": f"{TURNS} ", "turns": 1, "num_responses": 2, "source": ["a"],
                "answers": [{"answer": BAD, "model": "a", "rank": 2.0}, {"answer": GOOD, "model": "b", "rank": 1.0}]},
     None),
    ("pku-saferlhf", {"prompt": Q, "response_0": BAD, "response_1": GOOD, "is_response_0_safe": True,
                      "is_response_1_safe": True, "better_response_id": 1, "safer_response_id": 0}, None),
    ("orca", {"system": "Be brief.", "question": Q, **TEXTS}, [SYSTEM, USER]),
    ("alpaca", {"instruction": Q, "input": "", **TEXTS}, None),
    ("alpaca", {"instruction": "Which is", "input": "taller?", **TEXTS},
     [{"role": "user", "content": "Which is\ntaller?"}]),
    ("alpaca", {"instruction": Q, "history": [["Hello", "Hi"]], "system": "Be brief.", **TEXTS},
     [SYSTEM, {"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}, USER]),
    ("alpaca-ranked", {"instruction": Q, "input": "", "output": [GOOD, BAD]}, None),
    ("sharegpt", {"conversations": [{"from": "human", "value": Q}], "chosen": SHAREGPT_YES,
                  "rejected": SHAREGPT_NO}, None),
    ("sharegpt", {"id": "a", "trajectory": [{"from": "user", "value": Q}], **TEXTS}, None),
    ("sharegpt", {"system": "Be brief.", "conversation": [{"human": Q, "assistant": None}], **TEXTS}, [SYSTEM, USER]),
    ("ms-swift", {"messages": [SYSTEM, USER, YES], "rejected_response": BAD}, [SYSTEM, USER]),
    ("ms-swift", {"messages": [USER, YES], "rejected_messages": [USER, NO]}, None),
    ("ms-swift", {"system": "Be brief.", "query": Q, "response": GOOD, "rejected_response": BAD, "history": []},
     [SYSTEM, USER]),
    ("axolotl", {"messages": [SYSTEM, USER], "chosen": YES, "rejected": NO}, [SYSTEM, USER]),
    ("argilla", {"system": "Be brief.", "instruction": Q, "chosen_response": GOOD, "rejected_response": BAD},
     [SYSTEM, USER]),
    ("argilla", {"system": "", "input": Q, "generations": [GOOD, BAD], "rating": [9, 7], **TEXTS}, None),
    ("openai", {"input": {"messages": [USER], "tools": [], "parallel_tool_calls": True},
                "preferred_output": [YES], "non_preferred_output": [NO]}, None),
    ("nemo", {"context": [USER], "completions": [{"rank": 1, "completion": [NO]}, {"rank": 0, "completion": [YES]}]},
     None),
    ("argilla-ranking", {"prompt": Q, "reply_1": BAD, "reply_2": GOOD, "reply-ranking": [
        {"user_id": "a", "status": "submitted",
         "value": [{"rank": 2, "value": "reply_1"}, {"rank": 1, "value": "reply_2"}]}]}, None),
    ("rankings", {"instruction": Q, "generations": [BAD, GOOD], "ratings": [2, 5], "rationales": ["a", "b"]}, None),
    ("rankings", {"prompt": Q, "candidates_completions": [BAD, GOOD], "ranks": [1, 0]}, None),
    ("rankings", {"prompt": Q, "responses": [BAD, GOOD], "ranking": [1, 0]}, None),
    ("stack-exchange", {"question": Q, "answers": [{"text": BAD, "pm_score": 1}, {"text": GOOD, "pm_score": 4}]}, None),
    ("shp", {"post_id": "a", "history": Q, "human_ref_A": BAD, "human_ref_B": GOOD, "labels": 0}, None),
    ("arena", {"prompt": Q, "response_a": BAD, "response_b": GOOD, "winner": "model_b"}, None),
    ("arena-conversations", {"conversation_a": [USER, YES], "conversation_b": [USER, NO], "winner": "model_a"}, None),
    ("webgpt", {"question": {"full_text": Q}, "answer_0": BAD, "answer_1": GOOD, "score_0": -0.5,
                "score_1": 0.5}, None),
    ("vertex", {"systemInstruction": {"parts": [{"text": "Be brief."}]},
                "contents": [{"role": "user", "parts": [{"text": "Which is "}, {"text": "taller?"}]}],
                "completions": [{"score": 0.0, "completion": {"role": "model", "parts": [{"text": BAD}]}},
                                {"score": 1.0, "completion": {"role": "model", "parts": [{"text": GOOD}]}}]},
     [SYSTEM, USER]),
    ("oasst", {"message_tree_id": "a", "prompt": {"text": Q, "role": "prompter", "replies": [
        {"text": BAD, "role": "assistant", "rank": 1, "replies": []}, {"text": "?", "rank": None},
        {"text": GOOD, "role": "assistant", "rank": 0, "replies": []}]}}, None),
    ("scored", {"prompt": Q, "responses": [{"text": BAD, "score": 1}, {"text": GOOD, "score": 2.5}]}, None),
    ("scored", {"instruction": Q, "candidates": [{"role": "assistant", "content": BAD, "rank": 2},
                                                 {"role": "assistant", "content": GOOD, "rank": 1}]}, None),
    ("rankings", {"prompt": Q, "all_generated_responses": [BAD, GOOD], "all_rm_scores": [0.1, 0.2]}, None),
    ("arena", {"prompt": Q, "response_a": GOOD, "response_b": BAD, "winner": "A"}, None),
    ("arena-votes", {"id": 1, "prompt": json.dumps([Q]), "response_a": json.dumps([BAD]),
                     "response_b": json.dumps([GOOD]), "winner_model_a": 0, "winner_model_b": 1, "winner_tie": 0},
     None),
    ("arena-votes", {"prompt": json.dumps(["Hello", Q]), "response_a": json.dumps(["Hi", GOOD]), "winner_model_a": "1",
                     "response_b": json.dumps(["Hi", BAD]), "winner_model_b": "0", "winner_tie": "0"},
     [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}, USER]),
    ("choice", {"instruction": "Which is", "input": "taller?", "output_1": BAD, "output_2": GOOD, "preference": 2},
     [{"role": "user", "content": "Which is\ntaller?"}]),
    ("choice", {"prompt": Q, "answer_a": GOOD, "answer_b": BAD, "preferred": "answer_a"}, None),
    ("choice", {"system": "Be brief.", "question": Q, "response_1": BAD, "response_2": GOOD,
                "winner": "Response 2"}, [SYSTEM, USER]),
    ("orca", {"question": Q, "response_j": GOOD, "response_k": BAD}, None),
    ("pairs", {"problem": Q, "accepted": GOOD, "rejected": BAD, "rating_chosen": 5,
               "rating_rejected": 3}, None),
    ("pairs", {"prompt": json.dumps([USER]), "chosen": json.dumps([YES]), "rejected": str([NO])}, None),
    ("axolotl", {"messages": [{"role": "human", "text": Q}], "chosen": {"role": "assistant", "text": GOOD},
                 "rejected": {"role": "assistant", "text": BAD}}, None),
    ("summaries", {"info": {"post": Q}, "summaries": [{"text": BAD}, {"text": GOOD}], "choice": 1}, None),
]  # fmt: skip
UNPAIRED = [
    ({"prompt": Q, "completion": GOOD, "label": True}, 1),
    ({"prompt": [USER], "completion": [YES], "label": False}, 0),
    ({"instruction": Q, "input": "", "output": GOOD, "kto_tag": "false"}, 0),
    ({"messages": [USER, YES], "label": True}, 1),
    ({"prompt": Q, "response": GOOD, "label": "desirable"}, 1),
    ({"prompt": Q, "response": GOOD, "thumbs_up": 0}, 0),
    ({"conversations": [{"from": "human", "value": Q}, SHAREGPT_YES], "kto_tag": True}, 1),
]


@pytest.mark.parametrize(("name", "row", "prompt"), ROWS, ids=[f"{i}-{name}" for i, (name, *_) in enumerate(ROWS)])
def test_a_row_of_each_format_is_told_and_read(name, row, prompt, tmp_path):
    source = read_source(write(tmp_path / "a.jsonl", [row]))
    assert source.skipped == []
    assert source.shape == name
    ((pair),) = source.comparisons
    assert list(pair.prompt) == (prompt or [USER])
    assert pair.responses == (GOOD, BAD)
    assert read_source(tmp_path / "a.jsonl", shape=name).comparisons == [pair]


def test_every_format_has_a_row_here_and_a_name_on_the_command_line():
    assert {name for name, *_ in ROWS} | {"kto", "rated"} == set(NAMES)
    assert get_args(Shape) == ("auto", *NAMES)
    assert len(NAMES) == len(set(NAMES)) == len(FORMATS)


def test_the_page_on_data_lists_the_formats_as_they_are():
    page = Path(__file__).parents[2] / "docs" / "how-to" / "preference-data.md"
    assert markdown() in page.read_text(encoding="utf-8")


def test_scores_beside_a_pair_are_kept_for_the_doctor(tmp_path):
    rows = [row for name, row, _ in ROWS if name in ("pairs", "ultrafeedback", "webgpt")]
    found = [c.scores for c in read_source(write(tmp_path / "a.jsonl", rows)).comparisons]
    assert list(filter(None, found)) == [(8.0, 4.0), (8.5, 4.0), (5.0, 2.0), (0.5, -0.5), (5.0, 3.0)]


@pytest.mark.parametrize(("row", "score"), UNPAIRED)
def test_unpaired_responses_are_read_with_their_verdict(row, score, tmp_path):
    source = read_source(write(tmp_path / "a.jsonl", [row]))
    assert (source.shape, source.comparisons, source.skipped) == ("kto", [], [])
    ((judged),) = source.judged
    assert (list(judged.prompt), judged.response, judged.score, judged.verdict) == ([USER], GOOD, score, True)


def test_rated_responses_to_one_prompt_are_compared_with_their_ties(tmp_path):
    rated = [(Q, BAD, 1), (Q, GOOD, 4), (Q, "Moss.", 1), ("Alone?", "Yes.", 3), ("Tied?", "a", 2), ("Tied?", "b", 2)]
    rows = [{"prompt": p, "response": r, "helpfulness": h, "verbosity": 2} for p, r, h in rated]
    source = read_source(write(tmp_path / "a.jsonl", rows))
    ((comparison),) = source.comparisons
    assert (comparison.responses, comparison.places) == ((GOOD, BAD, "Moss."), (0, 1, 1))
    assert [reason for _, reason in source.skipped] == [
        "the only rated response to its prompt: nothing to compare it with",
        "all responses are tied",
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": Q, "response_1": GOOD, "response_2": BAD, "preference_strength": 0}, "tied"),
        ({"context": [USER], "response1": GOOD, "response2": BAD, "overall_preference": 0}, "tied"),
        ({"prompt": Q, "response_0": GOOD, "response_1": BAD, "better_response_id": 7}, "expected 0 or 1"),
        ({"prompt": Q, "response_a": GOOD, "response_b": BAD, "winner": "tie (bothbad)"}, "tied"),
        ({"question": Q, "answer_0": GOOD, "answer_1": BAD, "score_0": 0, "score_1": 0}, "tied"),
        ({"prompt": Q, "answer_a": GOOD, "answer_b": BAD, "preferred": "Both are good"}, "tied"),
        ({"prompt": Q, "answer_1": GOOD, "answer_2": BAD, "choice": "the second"}, "expected answer_1 or answer_2"),
        ({"prompt": Q, "response_a": GOOD, "response_b": BAD, "winner_model_a": 1, "winner_model_b": 1}, "one of them"),
        ({"prompt": Q, "responses": [BAD] * 501, "scores": list(range(501))}, "501 responses to one prompt"),
        ({"messages": [USER], "rejected_response": BAD}, "ends with a message of the user"),
        ({"context": [USER], "completions": [{"rank": 0, "completion": [YES]}]}, "two or more"),
        ({"prompt": Q, "completion": None, "label": True, "messages": None}, "field 'chosen' is missing"),
    ],
)
def test_a_row_without_a_preference_is_skipped_with_the_reason(row, reason, tmp_path):
    good = {"prompt": Q, **TEXTS}
    ((_, why),) = read_source(write(tmp_path / "a.jsonl", [good, row])).skipped
    assert reason in why


def test_rows_of_several_formats_in_one_file_are_each_read_as_their_own(tmp_path):
    rows = [row for name, row, _ in ROWS if name in ("orca", "openai", "nemo", "pku-saferlhf")]
    source = read_source(write(tmp_path / "a.jsonl", rows))
    assert [c.responses for c in source.comparisons] == [(GOOD, BAD)] * len(rows)
    assert len(rows) > 3


def test_tools_are_left_out_and_counted(tmp_path):
    row = {"input": {"messages": [USER], "tools": [{"type": "function"}]}, "preferred_output": [YES],
           "non_preferred_output": [NO]}  # fmt: skip
    source = read_source(write(tmp_path / "a.jsonl", [row, {"prompt": Q, "tools": "[]", **TEXTS}]))
    assert (len(source.comparisons), source.tools) == (2, 2)


def test_telling_a_format_never_fails_on_rubbish():
    for value in (None, 3, "a", [], {}, {"messages": 3}, {"completions": [3]}, {"answers": {}}, {"ranking": [None]}):
        assert detect(value) is None
        assert detect(json.loads(json.dumps({"x": value}))) is None
