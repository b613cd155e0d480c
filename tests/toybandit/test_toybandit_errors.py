"""Mistakes on the bandit's command line: one line with status 2, and nothing is left behind or lost."""

import pytest

QUICK = ("--seeds", "3", "--steps", "20")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "--regularizer", "entrpy", "--coefficient", "1"], "did you mean 'entropy'?"),
        (["run", "--proxy", "fited", "--coefficient", "1"], "did you mean 'fitted'?"),
        (["run", "--world", "round", "--coefficient", "1"], "unknown world 'round'"),
        (["run", "--regularizer", "kl", "--coefficient", "-1"], "coefficient is -1.0"),
        (["run", "--regularizer", "kl+entropy"], "has no coefficient"),
        (["run", "--regularizer", "entropy=0.5", "--coefficient", "1"], "no part takes the coefficient 1.0"),
        (["run", "--regularizer", "none", "--coefficient", "1"], "no part takes the coefficient 1.0"),
        (["run", "--regularizer", "none", "--pairs", "1000000000000"], "lower --arms, --pairs or --seeds"),
        (["run", "--regularizer", "none", "--arms", "1000000"], "GiB of memory"),
        (["offline", "--beta", "1", "--pairs", "1000000000000"], "GiB of memory"),
        (["sweep", "--grid", "coefficient=0.1,0.9", "--regularizer", "entropy=0.5"], "no part takes the coefficient"),
        (["sweep", "--grid", "coefficient=1", "--arms", "1000000"], "GiB of memory"),
        (["sweep", "--grid", "coefficient=1", "--jobs", "0", "--backend", "joblib"], "--jobs is 0, expected -1"),
        (
            ["sweep", "--grid", "coefficient=0.1,1e39", "--seeds", "2", "--out", "new/a"],
            "the cell coefficient=1e+39 seeds=2: the policy diverged",
        ),
        (["run", "--regularizer", "none", "--seeds", "1"], "--seeds is 1, expected a finite number >= 2"),
        (["run", "--regularizer", "none", "--lr", "0"], "--lr is 0.0"),
        (["run", "--regularizer", "none", "--prior-scale", "nan"], "--prior-scale is nan"),
        (["run", "--regularizer", "none", "--out", "taken/a"], "cannot write taken/a/config.json"),
        (["run", "--regularizer", "entropy", "--coefficient", "1e39", "--seeds", "2"], "the policy diverged by step 1"),
        (["run", "--regularizer", "none", "--arms", "1"], "--arms is 1, expected a finite number >= 2"),
        (["run", "--regularizer", "none", "--knowledge", "1.5"], ">= -1 and <= 1"),
        (["run", "--regularizer", "none", "--proxy", "linear"], "use --world shared"),
        (["run", "--regularizer", "none", "--method", "natural", "--optimizer", "adam"], "--method natural is for"),
        (["run", "--regularizer", "none", "--method", "optimum", "--seeds", "2"], "no barrier at probability 0"),
        (
            ["run", "--regularizer", "kl", "--coefficient", "0", "--method", "optimum", "--seeds", "2"],
            "give it a coefficient > 0",
        ),
        (["run", "--regularizer", "none", "--device", "cuda"], "--device cuda is for --engine compiled"),
        (["run", "--regularizer", "none", "--pairs", "1", "--prompts", "1", "--seeds", "20"], "has no preference pair"),
        (["run", "--regularizer", "none", "--out", "/proc/none/a"], "cannot write /proc/none/a/config.json"),
        (["offline", "--objective", "dpo"], "objective dpo: beta is None"),
        (["offline", "--objective", "dpoo"], "did you mean 'dpo'?"),
        (["offline", "--objective", "apo-zro"], "did you mean 'apo-zero'? (known: dpo, cdpo, ipo, f-dpo,"),
        (["offline", "--objective", "ktoo"], "did you mean 'kto'? (known: dpo, cdpo, ipo, f-dpo,"),
        (
            ["offline", "--objective", "kto", "--gamma", "1"],
            "no gamma (it takes: beta, desirable_weight, undesirable_weight",
        ),
        (
            ["offline", "--objective", "kto", "--desirable-weight", "0"],
            "desirable_weight is 0.0, expected a number > 0",
        ),
        (["offline", "--objective", "dpo", "--beta", "1", "--desirable-weight", "2"], "takes no desirable_weight"),
        (["offline", "--regularizer", "kl=1", "--undesirable-weight", "2"], "leave --undesirable-weight out"),
        (["offline", "--objective", "slic", "--penalty", "3"], "slic takes no penalty (it takes: beta)"),
        (["offline", "--objective", "dpo", "--beta", "0"], "beta is 0.0, expected a number > 0"),
        (["offline", "--objective", "dpo-pl", "--beta", "1", "--gamma", "1"], "takes no gamma"),
        (["offline", "--beta", "1", "--lr", "0"], "--lr is 0.0"),
        (["offline", "--beta", "1", "--lr", "1e300", "--seeds", "2"], "the policy diverged"),
        (["offline", "--objective", "dpo-pl", "--beta", "1", "--responses", "101"], "rankings of 101 responses"),
        (["sweep"], "the grid is empty"),
        (["sweep", "--grid", "coefficient="], "the grid is empty"),
        (["sweep", "--grid", "coefficient=1,x"], "every value of coefficient must be a float"),
        (["sweep", "--grid", "coefficient=1,-1"], "coefficient is -1.0"),
        (["sweep", "--grid", "coefficient=1", "--backend", "rey"], "did you mean 'ray'?"),
        (["sweep", "--file", "taken"], "taken is not TOML"),
        (["experiments", "--only", "11"], "unknown statement '11'"),
        (["experiments", "--protocol", "none.toml"], "none.toml: No such file"),
        (["plot"], "no run folder given"),
        (["plot", "nowhere"], "nowhere/metrics.jsonl: No such file"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(tmp_path, toybandit, arguments, message):
    (tmp_path / "taken").write_text("a file, not a folder")
    done = toybandit(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[grid]\ncoefficient = [[1]]", "--coefficient is [1], expected a number"),
        ('[grid]\npairs = ["a"]', "--pairs is 'a', expected a whole number"),
        ("[grid]\npairs = [30.5]", "--pairs is 30.5, expected a whole number"),
        ("[grid]\ncoefficient = [true, 0.5]", "--coefficient is True, expected a number"),
        ("[settings]\nseeds = 2.5\n[grid]\ncoefficient = [1]", "--seeds is 2.5, expected a whole number"),
        ("[settings]\nsteps = [2]\n[grid]\ncoefficient = [1]", "--steps is [2], expected a whole number"),
        ("[settings]\nproxy = 1\n[grid]\ncoefficient = [1]", "--proxy is 1, expected a text"),
        ("[settings]\nsede = 1\n[grid]\ncoefficient = [1]", "did you mean 'seed'?"),
        ("grid = 1", "expected the tables"),
    ],
)
def test_a_grid_file_with_a_value_of_the_wrong_kind_is_one_line_and_leaves_nothing(tmp_path, toybandit, text, message):
    (tmp_path / "grid.toml").write_text(text)
    done = toybandit("sweep", "--file", "grid.toml", "--out", "a")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["grid.toml"]


def test_a_run_that_fails_leaves_the_earlier_one_in_its_place(tmp_path, toybandit):
    assert toybandit("run", "--coefficient", "0.5", "--out", "a", "--quiet", *QUICK).returncode == 0
    before = (tmp_path / "a/summary.json").read_bytes()
    assert toybandit("run", "--coefficient", "1e39", "--out", "a", "--quiet", *QUICK).returncode == 2
    assert (tmp_path / "a/summary.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_sweep_that_failed_at_once_leaves_its_folder_to_the_mended_one(tmp_path, toybandit):
    assert toybandit("sweep", "--grid", "coefficient=1e39", "--seeds", "2", "--out", "a").returncode == 2
    assert not (tmp_path / "a").exists()
    mended = toybandit("sweep", "--grid", "coefficient=0.1", "--seeds", "2", "--steps", "5", "--out", "a")
    assert mended.returncode == 0, mended.stderr


@pytest.mark.parametrize("command", [["sweep", "--grid", "coefficient=0.1"], ["run", "--coefficient", "0.1"]])
def test_a_kill_within_the_first_write_does_not_block_the_folder(tmp_path, toybandit, command):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/.config.json.4711.tmp").write_text('{"conf')
    done = toybandit(*command, "--seeds", "2", "--steps", "5", "--out", "a")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "a/.config.json.4711.tmp").exists()
    (tmp_path / "b").mkdir()
    (tmp_path / "b/.config.json.4711.tmp").write_text("{")
    (tmp_path / "b/mine.txt").write_text("not of a run")
    assert toybandit(*command, "--seeds", "2", "--out", "b").returncode == 2
    assert len(list((tmp_path / "b").iterdir())) == 2
