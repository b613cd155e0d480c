"""The online experiment's page: from the committed results byte for byte, and honest about runs that are missing."""

import importlib
import json
import shutil

import numpy as np
import pytest
from scipy import stats

from derivations.cli.files import write_json
from derivations.evidence.pictures import save_svg
from llm.experiments.online import RESULTS
from llm.experiments.online_figures import retention_figure
from llm.experiments.online_findings import about, made_on
from llm.experiments.online_plan import PROTOCOL, read_plan
from llm.experiments.online_report import verdict_table, write_report
from llm.experiments.online_results import load, load_kernel
from llm.experiments.online_tables import quoted
from llm.experiments.online_verdicts import judge_all, predictions
from tests.llm.test_online_experiment import as_the_trial_saw, write_results


@pytest.fixture(scope="module")
def plan():
    return read_plan(PROTOCOL)


# ---- missing runs


@pytest.mark.parametrize(
    "keep",
    [
        lambda run: False,
        lambda run: run.name == "kl-0.05-seed1",
        lambda run: run.seed < 2,
    ],
    ids=["none", "one run", "two seeds"],
)
def test_a_report_with_runs_missing_says_so_and_makes_up_no_verdict(plan, tmp_path, keep):
    results = write_results(plan, tmp_path / "results", as_the_trial_saw, keep)
    claims = write_report(plan, tmp_path / "results", tmp_path / "online.md")
    for claim, spoken in zip(claims, plan.protocol["claims"], strict=True):
        arms = {str(c[s]).removesuffix("@half") for c in spoken["checks"] for s in ("arm", "minus") if s in c}
        assert (claim.verdict == "too few seeds") == any(len(results[arm]) < 3 for arm in arms)
    text = (tmp_path / "online.md").read_text()
    assert f"**{123 - sum(map(len, results.values()))} runs are missing**" in text
    assert "nan" not in text
    assert "inf" not in text.replace("information", "")


def write_kernel(plan, folder, ratio):
    rates = {"kappa": 2.0, "tau": 0.1, "r2_change": 0.4, "bend": 0.01}
    for run in plan.kernel:
        found = {name: rates for name in ("along_logq", "along_reward", "along_signs")}
        found |= {"ratio": ratio + 0.01 * run.seed, "clock": 0.1, "clock_signs": 0.9, "norm_ratio": 5.0}
        write_json(folder / f"{run.name}.json", found | {"seed": run.seed, "protocol": plan.fingerprint})


def test_the_kernel_s_predictions_are_judged_by_the_whole_interval(plan, tmp_path):
    for ratio, holds, firm in ((0.1, True, True), (0.48, True, False), (0.7, False, True)):
        write_kernel(plan, tmp_path, ratio)
        own, first, signs = predictions(plan, load_kernel(plan, tmp_path))
        assert (own.holds, own.firm) == (holds, firm)
        assert (first.holds, signs.holds) == (True, False)


def test_the_whole_report_shows_every_arm_and_its_figures(plan, tmp_path, monkeypatch):
    monkeypatch.setitem(plan.protocol["toy"], "seeds", 2)
    monkeypatch.setitem(plan.protocol["toy"], "steps", 3)
    write_results(plan, tmp_path / "results", as_the_trial_saw)
    write_kernel(plan, tmp_path / "results", 0.1)
    monkeypatch.setitem(plan.protocol["toy"]["offline"], "steps", 2)
    monkeypatch.syspath_prepend(str(PROTOCOL.parents[2] / "notebooks"))
    compare_worlds = importlib.import_module("compare_worlds")
    keys = ("rewards/margins", "rewards/accuracies", "logps/chosen", "logps/rejected")
    runs = [
        {"task": "on-policy", "objective": name, "seed": seed, "before": dict.fromkeys(keys, 0.5)}
        | {"after": dict.fromkeys(keys, 0.6 + 0.01 * seed)}
        for name in ("dpo", "simpo")
        for seed in range(3)
    ]
    write_json(tmp_path / "offline.json", {"results": runs})
    write_report(plan, tmp_path / "results", tmp_path / "online.md")
    compare_worlds.draw(plan, load(plan, tmp_path / "results"), runs, tmp_path / "_static" / "online")
    written = {path.name: path.read_bytes() for path in (tmp_path / "_static" / "online").iterdir()}
    text = (tmp_path / "online.md").read_text()
    assert set(written) == {"kappa.svg", "curves.svg", "retention.svg", "same-keys.svg", "same-keys-offline.svg"}
    assert all(f"_static/online/{name}" in text for name in written)
    assert all(f"### {arm}" in text for arm in plan.arms)
    assert "missing" not in text
    assert plan.protocol["groups"]["clocks"]["hypothesis"].strip() in text
    numbers = json.loads((tmp_path / "online.json").read_text())
    assert numbers["runs"] == {"done": 120, "planned": 120}
    kappa = numbers["arms"]["entropy-0.05"]["after"]["retention/kappa"]
    values = np.array([0.76 + 0.003 * (1 + seed + len("entropy-0.05") % 5) for seed in range(6)])
    half = stats.t.ppf(0.975, 5) * values.std(ddof=1) / 6**0.5
    assert kappa["mean"] == pytest.approx(values.mean(), rel=1e-4)
    assert kappa["high"] - kappa["mean"] == pytest.approx(half, rel=1e-3)
    assert b"<dc:date>" not in written["curves.svg"]


def test_the_committed_page_and_its_numbers_come_out_of_the_committed_results_byte_for_byte(plan, tmp_path):
    docs = PROTOCOL.parents[2] / "docs"
    shutil.copy(docs / "offline.json", tmp_path)
    write_report(plan, RESULTS, tmp_path / "online.md")
    for name in ("online.md", "online.json"):
        assert (tmp_path / name).read_bytes() == (docs / name).read_bytes()


def test_a_page_with_remarks_says_them_beside_the_verdict_and_where_the_runs_were_made(plan, tmp_path):
    says = plan.protocol["claims"][0]["says"]
    (tmp_path / "about.toml").write_text(f'made_on = "a cluster"\n[remarks]\n"{says}" = "It rained."\n')
    results = write_results(plan, tmp_path, keep=lambda run: run.group == "main" and run.seed < 3)
    page = made_on([run for own in results.values() for run in own.values()], about(tmp_path))
    assert page == "Runs were made: 24 on a cluster (60 s each)."
    lines = verdict_table(judge_all(plan, results)[:1], about(tmp_path)["remarks"])
    assert "**not reproduced**<br>It rained." in lines[2]


def test_every_remark_is_about_a_claim_of_the_protocol(plan):
    assert set(about(RESULTS)["remarks"]) <= {claim["says"] for claim in plan.protocol["claims"]}


def test_a_figure_drawn_again_has_the_same_bytes(plan, tmp_path):
    results = write_results(plan, tmp_path / "results", as_the_trial_saw, lambda run: run.group == "rate")
    for name in ("a", "b"):
        save_svg(retention_figure(results, list(plan.arms)), tmp_path / name / "retention.svg")
    assert (tmp_path / "a/retention.svg").read_bytes() == (tmp_path / "b/retention.svg").read_bytes()


def test_sample_texts_cannot_break_the_page():
    assert quoted("a `b`\n | c") == "`a 'b' | c`"
    assert quoted(" \n") == "(empty)"
