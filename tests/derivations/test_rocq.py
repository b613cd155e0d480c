"""The kernel under the claims: what is exported, what Rocq accepts, and that it refuses planted mistakes."""

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest
import sympy as sp

from derivations.__main__ import main
from derivations.cli.command_line import run_command
from derivations.objectives import pair_loss
from derivations.pages import book
from derivations.prover.claims import CLAIMS, Claim, check_claim, load_claims
from derivations.prover.kinds import Equal, Positive, Step
from derivations.regularizers import LengthNormalized
from derivations.rocq import kernel, report, traced
from derivations.rocq.theorems import AXIOMS, BY_CLAIM, THEOREMS, THEORIES

ROOT = Path(__file__).parents[2]
HERE = Path(kernel.__file__).parent
with_coqc = pytest.mark.skipif(
    shutil.which("coqc") is None, reason="coqc is not installed (Debian: apt-get install coq)"
)
x, y = sp.symbols("x y", positive=True)
t = sp.Symbol("t", real=True)
count = sp.Symbol("n", positive=True, integer=True)


def claim_of(*steps: Step) -> tuple[Claim, list[Step]]:
    return Claim("planted", "", "", "", "", "", load_claims, expected="proved"), list(steps)


def words(*steps: Step) -> list[str]:
    verdict = kernel.check([claim_of(*steps)], theories=False)
    return [outcome.word for outcome in verdict.steps["planted"]]


# ---- the files ----


def test_every_theorem_that_is_named_stands_in_its_file_and_its_claim_exists():
    load_claims()
    for theory, names in THEOREMS.items():
        text = (HERE / f"{theory}.v").read_text()
        for name in names:
            assert re.search(rf"^(Theorem|Lemma) {name}\b", text, re.MULTILINE), name
    named = {f"{theory}.{name}" for theory, names in THEOREMS.items() for name in names}
    assert set(BY_CLAIM) <= set(CLAIMS)
    assert {theorem for theorems in BY_CLAIM.values() for theorem in theorems} <= named


def test_the_files_admit_nothing_and_all_of_them_are_compiled_and_shipped():
    files = {path.stem for path in HERE.glob("*.v")}
    assert files == {*THEORIES, "Identities"} - {"Traced"}
    for name in files:
        text = re.sub(r"\(\*.*?\*\)", "", (HERE / f"{name}.v").read_text(), flags=re.DOTALL)
        assert not re.search(r"\b(Admitted|admit|Axioms?|Parameters?|Conjecture|give_up)\b", text), name
    shipped = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"][
        "derivations.rocq"
    ]
    assert {path.stem for pattern in shipped for path in HERE.glob(pattern)} == files


def test_the_book_names_what_the_kernel_checked_of_a_claim():
    (claim,) = load_claims("length-normalized-temperature")
    outcomes = [kernel.Outcome(1, "s", "checked"), kernel.Outcome(2, "s", "refused", "no")]
    found = kernel.Verdict(["SimPO.residual_as_written"], axioms={"Theorems": ()}, steps={claim.id: outcomes})
    page = "\n".join(book._claim(check_claim(claim, mutants=False), found))
    assert (
        "| Rocq's kernel | 1 of 2 identities and signs checked; the whole sentence, for any finite Y: SimPO.residual"
        in page
    )
    found.axioms["Theorems"] = ("easy",)
    assert "the whole sentence" not in "\n".join(book._claim(check_claim(claim, mutants=False), found))
    assert "Rocq's kernel" not in "\n".join(book._claim(check_claim(claim, mutants=False)))


# ---- without coqc ----


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments], capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environment}
    )


def test_without_coqc_make_rocq_is_skipped_with_a_word_and_check_says_what_is_missing(tmp_path):
    done = run("derivations.rocq", "compile", "--folder", str(tmp_path / "out"), PATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (0, "skipped: coqc is not installed\n")
    done = run("derivations", "check", "--only", "kl-nonnegative", "--kernel", PATH=str(tmp_path))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "coqc is not installed" in done.stderr


def test_the_kernel_does_not_speak_junit():
    done = run("derivations", "check", "--only", "kl-nonnegative", "--kernel", "--format", "junit")
    assert done.returncode == 2
    assert "--kernel speaks text and json" in done.stderr


# ---- with it ----


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """One run of the command compiles everything for all tests: its exit status, output, verdict and folder."""
    folder, verdicts = tmp_path_factory.mktemp("compiled"), []

    def check(*arguments, **options):
        verdicts.append(kernel_check(*arguments, **options, folder=folder))
        return verdicts[0]

    kernel_check, out = kernel.check, io.StringIO()
    words = ["derivations", "check", "--only", "kl-nonnegative", "--kernel", "--no-mutants", "--jobs", "2"]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out):
        patch.setattr(kernel, "check", check)
        patch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as left:
            run_command(main)
    return SimpleNamespace(status=left.value.code, output=out.getvalue(), verdict=verdicts[0], folder=folder)


@pytest.fixture
def verdict(compiled) -> kernel.Verdict:
    return compiled.verdict


@with_coqc
def test_every_theorem_compiles_and_rests_on_the_classical_reals_alone(verdict):
    assert verdict.problems() == []
    assert verdict.theorems == [f"{theory}.{name}" for theory, names in THEOREMS.items() for name in names]
    assert all(map(verdict.proves, verdict.theorems))
    assert set(verdict.axioms["Theorems"]) <= AXIOMS


@with_coqc
def test_an_axiom_of_our_own_would_be_seen(tmp_path):
    (tmp_path / "Planted.v").write_text(
        "Require Import Reals. Open Scope R_scope.\nAxiom easy : forall x y : R, x = y.\n"
        "Lemma wrong : 1 = 2. Proof. apply easy. Qed.\nLemma right : True. Proof. exact I. Qed.\n"
        "Print Assumptions wrong.\nPrint Assumptions right.\n"
    )
    printed = kernel._coqc(tmp_path, "Planted")
    assert isinstance(printed, str)
    wrong, right = kernel.axioms(printed)
    assert right == ()
    assert "easy" in wrong
    found = kernel.Verdict(theorems=["Planted.wrong"], axioms={"Theorems": wrong})
    assert not found.proves("Planted.wrong")
    assert found.problems() == ["Theorems rests on easy"]


@with_coqc
def test_true_identities_are_accepted_and_false_ones_refused_one_by_one():
    assert words(
        Equal("product", sp.log(6 * x**2 / y), sp.log(2) + sp.log(3) + 2 * sp.log(x) - sp.log(y)),
        Equal("a wrong sign", sp.exp(t) * x, -sp.exp(t) * x),
        Equal("sigmoid", 1 / (1 + sp.exp(-t)), sp.exp(t) / (1 + sp.exp(t))),
        Equal("a wrong constant", sp.log(2 * x), sp.log(3) + sp.log(x)),
        Equal("halves", sp.exp(x / 2) * sp.exp(x / 2 + y / 3), sp.exp(x + y / 3)),
        Equal("a power", x**t, sp.exp(t * sp.log(x))),
        Equal("one that is alike", x + y, x + y),
        Positive("a sign", sp.exp(t) * x / (x + y) ** 2),
        Positive("a sign that needs rewriting", 1 - 1 / (1 + sp.exp(t))),
    ) == ["checked", "refused", "checked", "refused", *["checked"] * 5]


@with_coqc
def test_a_refused_step_is_a_problem_and_a_step_without_lemma_is_none():
    steps = (Equal("wrong", x + 1, x - 1), Equal("undefined", 1 / (x - y), 1 / (x - y)))
    found = kernel.check([claim_of(*steps)], theories=False)
    assert [outcome.word for outcome in found.steps["planted"]] == ["refused", "not closed"]
    assert len(found.problems()) == 1
    assert "planted, step 1" in found.problems()[0]
    assert not found.ok


def wrong_simpo(chosen_logp, rejected_logp, *, chosen_length, rejected_length, beta, gamma):
    """SimPO with the sign of its margin flipped."""
    s = LengthNormalized(beta).implicit_reward
    return pair_loss(s(chosen_logp, length=chosen_length), s(rejected_logp, length=rejected_length), gamma=-gamma)


@with_coqc
def test_a_wrong_sign_in_the_traced_code_is_refused(compiled, tmp_path, monkeypatch):
    shutil.copytree(compiled.folder, tmp_path / "again")
    monkeypatch.setattr(kernel, "THEORIES", THEORIES[THEORIES.index("Traced") :])  # those before do not rest on it
    monkeypatch.setattr(traced, "simpo", wrong_simpo)
    found = kernel.check([], folder=tmp_path / "again")
    assert set(found.refused) == {"Code"}  # the theorems stand; that the code is their formula does not
    assert not found.proves("Code.code_simpo_is_maximum_entropy")
    assert found.proves("SimPO.simpo_is_maximum_entropy")
    assert not found.ok


@with_coqc
def test_code_that_cannot_be_recorded_is_refused_by_name(monkeypatch):
    monkeypatch.setattr(traced, "dpo", lambda *a, **k: 1 / a[0] > 0)
    monkeypatch.setattr(kernel, "THEORIES", ("Traced", "Code"))
    found = kernel.check([])
    assert found.refused["Traced"].startswith("the code could not be recorded: TypeError")
    assert "rests on" in found.refused["Code"]


@with_coqc
def test_check_says_claim_by_claim_what_the_kernel_checked(verdict, monkeypatch):
    monkeypatch.setattr(kernel, "THEORIES", ())  # compiled by the fixture
    claims = load_claims("length-normalized-temperature")
    found = kernel.check([(claim, claim.steps()) for claim in claims])
    found.theorems, found.axioms["Theorems"] = verdict.theorems, verdict.axioms["Theorems"]
    text = report.as_text(found, claims)
    assert re.search(r"length-normalized-temperature +2 of 3 steps", text)
    assert "the whole sentence, for any finite Y: SimPO.residual_as_written" in text
    facts = json.loads(json.dumps(report.as_json(found)))
    outcomes = [step["kernel"] for step in facts["claims"]["length-normalized-temperature"]["steps"]]
    # the iff's product is not closed; the theorem above is the whole sentence
    assert outcomes == ["checked", "checked", "not closed"]


@with_coqc
def test_the_command_line_ends_with_the_kernels_word(compiled):
    assert compiled.status == 0
    assert re.search(r"kernel: \d+ theorems and \d+ steps checked .* 0 refused\n\Z", compiled.output)
