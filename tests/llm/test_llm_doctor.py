"""`inspect-data` finds what is planted in a file, counts it, names the first row of it, and writes data without it."""

import io
import json
import re

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from derivations.cli.errors import InputError
from derivations.evidence.intervals import proportion
from llm.data.files import read_source
from llm.data.inspect import inspect_data
from llm.data.lengths import choose_length
from llm.data.row_formats import Comparison, Judged
from llm.data.tally import Pairing, Tally
from llm.settings.inspect import InspectConfig
from tests.helpers.llm_runs import read_rows, run_offline
from tests.llm.test_llm_data import TEXT, USER, write

PLANTED = {  # what, and the rows of it: (row, the lines on which the fault is counted, from the row's own)
    "duplicates": [TEXT, TEXT],
    "contradictory_pairs": [
        {"prompt": "Q", "chosen": "a", "rejected": "b"},
        {"prompt": "Q", "chosen": "b", "rejected": "a"},
    ],
    "equal_scores": [{"prompt": "E", "chosen": "a", "rejected": "b", "score_chosen": 2, "score_rejected": 2}],
    "swapped_scores": [{"prompt": "S", "chosen": "a", "rejected": "b", "score_chosen": 1, "score_rejected": 2}],
    "leaks": [{"prompt": "In both?", "chosen": "yes", "rejected": "no"}],
    "markers_in_contents": [{"prompt": "M", "chosen": "So.\n\nHuman: and now?", "rejected": "No."}],
}
SKIPPED = {
    "a message of the role 'tool': tools are not trained on": TEXT
    | {"prompt": [USER, {"role": "tool", "content": "1"}]},
    "field 'chosen' is null": TEXT | {"chosen": None},
    "a line of 0 MiB; at most 0 MiB are read": TEXT | {"chosen": "a" * 9000},
}


def longer(n):
    return [{"prompt": f"{i}?", "chosen": "b" * (20 + i % 7), "rejected": "a" * (5 + i % 5)} for i in range(n)]


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """A file with each fault once, among 60 pairs whose longer response is preferred; and the evaluation data."""
    monkeypatch.setattr("llm.data.containers.MAX_LINE", 5000)
    rows = [row for some in PLANTED.values() for row in some] + list(SKIPPED.values()) + longer(60)
    evaluation = write(tmp_path / "eval.jsonl", [{"prompt": "In both? ", "chosen": "x", "rejected": "y"}])
    return {"data": str(write(tmp_path / "a.jsonl", rows)), "eval_data": str(evaluation)}


def as_json(capsys, **options):
    inspect_data(InspectConfig(format="json", **options))
    return json.loads(capsys.readouterr().out)


def test_every_planted_fault_is_found_once_and_named_by_its_row(planted, tiny_folder, capsys):
    found = as_json(capsys, model=str(tiny_folder), **planted)
    assert (found["format"], found["rows"], found["comparisons"], found["skipped"]) == ("pairs", 71, 68, 3)
    assert {r["reason"]: r["count"] for r in found["reasons"]} == dict.fromkeys(SKIPPED, 1)
    line = 0
    for what, rows in PLANTED.items():
        line += len(rows)
        assert found["findings"][what]["count"] == 1, what
        assert found["findings"][what]["first"].endswith(f"a.jsonl line {line}"), what
    words = " ".join(found["advice"])
    for what in PLANTED:
        assert what.replace("_", " ").capitalize() in words
    assert "3 of 71 rows" in words
    assert "Length bias: the longer response is preferred" in words
    share = found["length_bias"]["longer_chosen_tokens"]
    assert 0.9 < share["low"] < share["share"] <= share["high"] <= 1
    difference = found["length_bias"]["mean_difference_tokens"]
    assert f"= {0.1 * 0.01 * difference:+.4f} per pair" in words


def test_clean_data_are_written_without_the_faults_and_have_none_left(planted, tiny_folder, tmp_path, capsys):
    clean = tmp_path / "clean.jsonl"
    written = as_json(capsys, model=str(tiny_folder), write=clean, **planted)["written"]
    assert "wrote 63 comparisons" in written
    assert "left out: 2 contradictory, 1 duplicates, 1 with equal scores, 1 leaks" in written
    again = as_json(capsys, model=str(tiny_folder), data=str(clean), eval_data=planted["eval_data"])
    assert (again["comparisons"], again["skipped"]) == (63, 0)
    left = {what for what, finding in again["findings"].items() if finding["count"]}
    assert left == {"markers_in_contents"}
    with pytest.raises(InputError, match="is the data itself"):
        InspectConfig(data=str(clean), write=clean)


def test_a_file_without_faults_is_told_that_nothing_has_to_be_mended(tiny_folder, tmp_path, capsys):
    rows = [{"prompt": f"{i}?", "chosen": "yes" * (1 + i % 2), "rejected": "oh" * (2 - i % 2)} for i in range(200)]
    found = as_json(capsys, model=str(tiny_folder), data=str(write(tmp_path / "a.jsonl", rows)))
    assert found["advice"] == ["Nothing was found that would have to be mended before training."]
    assert all(not finding["count"] for finding in found["findings"].values())


def test_a_prompt_in_two_splits_of_one_file_is_a_leak(tiny_folder, tmp_path, capsys):
    rows = [TEXT | {"split": "train"}, TEXT | {"split": "train", "chosen": "x"}, TEXT | {"split": "validation"}]
    found = as_json(capsys, model=str(tiny_folder), data=str(write(tmp_path / "a.jsonl", rows)))
    assert found["findings"]["leaks"]["count"] == 1
    assert "split 'train' and in 'validation'" in found["findings"]["leaks"]["detail"]


def test_responses_that_are_the_same_once_cut_are_counted(tiny_folder, tmp_path, capsys):
    rows = [{"prompt": "p", "chosen": "so " * 90 + "good", "rejected": "so " * 90 + "bad"}, TEXT]
    data = str(write(tmp_path / "a.jsonl", rows))
    for length, same in ((100, 1), (400, 0)):
        found = as_json(capsys, model=str(tiny_folder), data=data, max_length=length)
        assert found["lengths"]["same_after_truncation"] == same


def test_unpaired_responses_are_described_and_written_as_pairs(tiny_folder, tmp_path, capsys):
    rows = [{"prompt": p, "completion": c, "label": label}
            for p, c, label in (("a", "1", True), ("b", "2", True), ("a", "3", False), ("a", "4", True))]  # fmt: skip
    data, pairs = str(write(tmp_path / "a.jsonl", rows)), tmp_path / "pairs.jsonl"
    found = as_json(capsys, model=str(tiny_folder), data=data, write=pairs)
    assert found["unpaired"] == {"good": 3, "bad": 1, "pairs": 1}
    assert "unpaired (3 good and 1 bad responses)" in found["advice"][0]
    (pair,) = read_source(pairs).comparisons
    assert pair.responses == ("1", "3")
    alone = str(write(tmp_path / "b.jsonl", rows[:2]))
    assert as_json(capsys, model=str(tiny_folder), data=alone)["unpaired"]["pairs"] == 0


def test_rankings_are_written_with_their_ties(tiny_folder, tmp_path, capsys):
    rows = [{"prompt": "p", "responses": ["c", "a", "b"], "scores": [1, 5, 1]}, TEXT]
    clean = tmp_path / "clean.jsonl"
    as_json(capsys, model=str(tiny_folder), data=str(write(tmp_path / "a.jsonl", rows)), write=clean)
    read = read_source(clean)
    assert (read.shape, [c.responses for c in read.comparisons]) == (
        "rankings",
        [("a", "c", "b"), ("The oak.", "Grass.")],
    )
    assert read.comparisons[0].places == (0, 1, 1)


def test_the_page_is_one_file_with_two_pictures_and_carries_no_markup_of_the_data(planted, tiny_folder, tmp_path):
    rows = [TEXT | {"chosen": "<script>alert(1)</script>"}, *longer(30)]
    page = tmp_path / "page.html"
    config = InspectConfig(data=str(write(tmp_path / "b.jsonl", rows)), model=str(tiny_folder), html=page)
    inspect_data(config, Console(file=io.StringIO()))
    text = page.read_text()
    assert text.count("<svg ") == text.count("</svg>") == 2
    assert not re.search(r"<script|<link|<img|https?://|src=|url\(", text)
    assert "&lt;script&gt;" in text
    assert 'name="viewport"' in text


# ---- the parts


def test_the_sample_of_many_is_fair_and_bounded(monkeypatch):
    monkeypatch.setattr("llm.data.tally.SAMPLE", 50)
    drawn = np.zeros(500)
    for seed in range(60):
        tally = Tally()
        tally._rng.seed(seed)
        for i in range(500):
            tally.add(Comparison((USER,), (f"{i}", "b"), str(i)))
        assert len(tally.sample) == 50
        drawn[[int(c.where) for c in tally.sample]] += 1
    halves = drawn[:250].sum(), drawn[250:].sum()
    assert stats.binomtest(int(halves[0]), int(sum(halves)), 0.5).pvalue > 1e-3


def test_pairs_are_made_of_one_prompt_and_both_kinds_in_any_order():
    def judged(prompt, text, good):
        return Judged(({"role": "user", "content": prompt},), text, text, float(good), True)

    pairing = Pairing()
    items = [judged("p", "1", 0), judged("q", "2", 1), judged("p", "3", 1), judged("q", "2", 0), judged("p", "4", 1)]
    assert [c.responses for c in pairing.pair(items)] == [("3", "1")], "a response is not compared with itself"
    assert (pairing.good, pairing.bad, pairing.pairs) == (3, 2, 1)


@pytest.mark.parametrize("n", [1, 6, 20, 100, 1000])
def test_the_chosen_length_keeps_95_percent_and_no_shorter_step_does(n):
    needs = [int(v) for v in np.random.default_rng(n).integers(2, 5000, size=n)]
    length = choose_length(needs, limit=None)
    assert length % 64 == 0
    assert sum(need <= length for need in needs) >= 0.95 * n > sum(need <= length - 64 for need in needs)
    assert choose_length(needs, limit=100) <= 100


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 24), (24, 24), (12, 24), (37, 300), (2.5, 4)])
def test_the_interval_of_a_proportion_stays_in_0_1_and_is_wilsons(successes, n):
    found = proportion(successes, n)
    assert 0 <= found.low <= found.mean <= found.high <= 1
    assert found.low < found.high
    if isinstance(successes, int):
        oracle = stats.binomtest(successes, n).proportion_ci(0.95, method="wilson")
        assert (found.low, found.high) == pytest.approx((oracle.low, oracle.high), abs=1e-12)


def test_a_proportion_of_nothing_says_nothing_and_of_more_than_all_is_refused():
    assert (proportion(0, 0).low, proportion(0, 0).high) == (0, 1)
    for successes, n in ((2, 1), (-1, 1), (0, -1)):
        with pytest.raises(ValueError, match="successes"):
            proportion(successes, n)


# ---- what train makes of it


def test_train_chooses_the_length_caps_the_evaluation_and_keeps_both_when_resumed(tiny_folder, tmp_path, capsys):
    data = write(tmp_path / "a.jsonl", longer(10))
    out = run_offline(tiny_folder, tmp_path / "run", data=data, max_steps=1, samples=0, quiet=False)
    printed = " ".join(capsys.readouterr().out.split())
    assert "--max-length 64 chosen from the data: 100 % of comparisons fit whole" in printed
    assert "--eval-size 24 is lowered to a fifth of the data" in printed
    assert "8 to train on, 2 to evaluate" in printed
    assert "few comparisons are held out (2)" in printed
    assert json.loads((out / "config.json").read_text())["config"]["max_length"] == 64
    assert not (out / "samples.jsonl").exists() or not read_rows(out, "samples.jsonl")
    accuracy = json.loads((out / "summary.json").read_text())["before"]["rewards/accuracies"]
    assert 0 <= accuracy["low"] <= accuracy["high"] <= 1
    run_offline(tiny_folder, out, data=data, max_steps=1, samples=0, resume=True)
    (out / "summary.json").unlink()
    with pytest.raises(InputError, match="other settings: max_length"):
        run_offline(tiny_folder, out, data=data, max_steps=1, samples=0, resume=True, max_length=80)


def test_the_length_that_is_chosen_is_one_the_model_has_room_for(tiny_folder, tmp_path):
    data = write(
        tmp_path / "a.jsonl", [{"prompt": f"{i}", "chosen": "b" * 900, "rejected": "a" * 900} for i in range(4)]
    )
    out = run_offline(tiny_folder, tmp_path / "run", data=data, max_steps=1, samples=0)
    assert json.loads((out / "config.json").read_text())["config"]["max_length"] == 512
