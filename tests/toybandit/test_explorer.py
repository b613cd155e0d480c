"""The explorer: what the page computes in the browser is what `python -m toybandit run` computes."""

import json
import shlex
import shutil
import subprocess

import numpy as np
import pytest

from derivations.cli.command_line import read_command
from derivations.cli.errors import InputError
from derivations.names import parse_regularizer
from tests.helpers.browser import BROWSER, browse
from toybandit.__main__ import COMMANDS
from toybandit.cli_run import Run
from toybandit.experiment import run
from toybandit.explorer.data import FORMULAS
from toybandit.explorer.page import explorer_page, read

SEEDS = 2
TOLERANCE = 1e-4  # what the page promises; it has the worlds in float32, and the policies amplify their rounding
NAMES = {"proxy": "proxy_gain", "gold": "gold_gain", "lost": "overoptimization", "kl": "kl", "rare": "mass/rare"}
NAMES |= {"kappa": "retention/kappa", "tau": "retention/tau"}
OWN = "0.3*p*log(p/q) + 0.05*p**2/q - 0.1*sqrt(p*q)"

browser = pytest.mark.skipif(BROWSER is None, reason="no chromium: apt-get install chromium")
node = pytest.mark.skipif(shutil.which("node") is None, reason="no node")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("explorer") / "explore.html"
    path.write_text(explorer_page(seeds=SEEDS, seed=7))
    return path


@pytest.mark.parametrize("name", FORMULAS)
def test_a_name_in_the_page_stands_for_the_formula_of_the_code(name):
    rng = np.random.default_rng(0)
    logp, ref, length = -rng.uniform(0.1, 20, 50), -rng.uniform(0.1, 20, 50), rng.uniform(0.3, 3, 50)
    given = {"length": length, "ref_logp": ref}
    shown, code = (parse_regularizer(text, 0.7).phi_prime(logp, **given) for text in (FORMULAS[name], name))
    np.testing.assert_allclose(shown, code, rtol=1e-12, atol=1e-12)  # float64, a few operations


MOVES = (
    {},
    {"strength": "key:End", "steps": "250"},  # the strongest, 3.2
    {"strength": "key:ArrowLeft"},
    *({"regularizer": name, "strength": "-0.5"} for name in FORMULAS if name != "entropy"),
    {"formula": OWN},
    {"optimizer": "adam"},
    {"optimizer": "natural"},
    {"proxy": "heavy-tailed", "error": "3", "pairs": "1"},
    {"proxy": "iid", "regularizer": "kl", "error": "1"},
    {"proxy": "exact", "regularizer": "none"},
)


def command_of(line):
    words = shlex.split(line)
    assert words[:3] == ["python", "-m", "toybandit"]
    return read_command(COMMANDS, prog="p", about="", arguments=words[3:])


@browser
def test_every_setting_shows_the_numbers_of_its_command_and_beside_it_those_of_none(page):
    found = browse("explore", page, json.dumps(MOVES[1:]))
    assert (found["outside"], found["said"]) == ([], [])
    assert len({state["command"] for state in found["seen"]}) == len(MOVES)
    for state in found["seen"]:
        assert state["mistake"] == ""
        command = command_of(state["command"])
        assert isinstance(command, Run)
        own = command.settings()
        kinds = {"setting": own} if own.regularizer != "none" else {}
        none = Run(**vars(own) | {"regularizer": "none", "coefficient": None}).settings()
        for kind, settings in (kinds | {"none": none}).items():
            shown = {cell["name"]: float(cell["mean"]) for cell in state["cells"] if cell["kind"] == kind}
            summary = run(settings).summary
            for name, of in NAMES.items():
                assert shown[name] == pytest.approx(summary[of].mean, abs=TOLERANCE), (state["command"], kind, name)


@browser
def test_a_formula_that_derive_refuses_is_refused_in_the_page_and_nothing_is_run(page):
    found = browse("explore", page, json.dumps([{"formula": "p**2"}, {"formula": "p*log(p)"}]))
    start, refused, mended = found["seen"]
    assert "no barrier at 0" in refused["mistake"]
    assert refused["command"] == start["command"]
    assert mended["mistake"] == ""
    assert '--regularizer "p*log(p)" --proxy' in mended["command"]


REFUSED = (
    "p**2", "-beta*p*log(p)", "p*log(p", "alpha*beta*p*log(p)", "q*log(q)", "order*p*log(p)", "p log(p)", "p*lg(p)",
    "__import__('os')", "p*log(p);alert(1)", "x*log(p)", "p[0]*log(p)", "p*log(p) if p else 0", "",
)  # fmt: skip
TAKEN = (
    "beta*p*log(p/q)", "2*p*ln(p) - -3*p", "-q*log(p/q)/2", "-sqrt(p)", "p**2*.5e0 + p*log(p)", "-alpha*p**0.5*q**0.5",
    "p*log(p)*(1 + exp(-length))", "-log(p*q)*q", "p*log(p) + exp(p)*q**2/3", "(p + q)*log(p + q) + p*log(p)",
)  # fmt: skip


def in_node(formulas):
    """Of each formula what the page's parser says: its slope at three places, or null if it is refused."""
    script = (
        read("formula.js")
        + """
    const places = [[0.3, 0.2, 1.5], [1e-6, 0.1, 0.7], [0.9, 1e-3, 2]];
    const answer = (text) => {
      try {
        const rule = Formula.compile(text);
        if (Formula.objection(rule, 0.4)) return null;
        return places.map(([p, q, n]) => rule.prime(p, q, Math.log(p), Math.log(q), n, 0.4));
      } catch (mistake) {
        if (!(mistake instanceof Formula.Mistake)) throw mistake;
        return null;
      }
    };
    """
    )
    script += f"console.log(JSON.stringify({json.dumps(formulas)}.map(answer)))"
    return json.loads(subprocess.run(["node", "-e", script], capture_output=True, text=True, check=True).stdout)


@node
def test_the_page_reads_formulas_as_derive_does():
    p, q, length = (np.array(column) for column in ((0.3, 1e-6, 0.9), (0.2, 0.1, 1e-3), (1.5, 0.7, 2.0)))
    for formula, found in zip(TAKEN, in_node(TAKEN), strict=True):
        open_strength = 0.4 if "beta" in formula or "alpha" in formula else None
        prime = parse_regularizer(formula, open_strength).phi_prime(np.log(p), ref_logp=np.log(q), length=length)
        assert found == pytest.approx(prime.tolist(), rel=1e-9), formula
    assert in_node(REFUSED) == [None] * len(REFUSED)
    for formula in REFUSED:
        with pytest.raises((InputError, ValueError)):
            parse_regularizer(formula, 0.4)


def test_explore_writes_one_page_and_says_where(tmp_path, capsys):
    out = tmp_path / "page.html"
    read_command(
        COMMANDS, prog="p", about="", arguments=["explore", "--output", str(out), "--no-open", "--seeds", "2"]
    ).run()
    said = capsys.readouterr().out
    assert f"next: open {out}" in said
    text = out.read_text()
    assert text.count("<script") == 2
    assert "/*" not in text.split("<script")[0]  # every part was put in
    assert not any(word in text for word in ("http", "src=", "fetch(", "import(", "@import", "url("))
