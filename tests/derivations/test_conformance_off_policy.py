"""Losses of older samples, unpaired and further preference losses, their names, and the test of somebody's tests."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

torch = pytest.importorskip("torch", reason="the losses on trial here are written in torch")

from derivations import off_policy  # noqa: E402
from derivations.cli.errors import InputError  # noqa: E402
from derivations.conformance import assert_conforms, conform, prepared  # noqa: E402
from derivations.conformance.assertions import assertions  # noqa: E402
from derivations.conformance.loading import load  # noqa: E402
from derivations.conformance.mutants import mutants_of  # noqa: E402
from derivations.conformance.report import FORMATS, headline  # noqa: E402

ROOT = Path(__file__).parents[2]
F = torch.nn.functional


def clipped(reduce, extreme=torch.minimum):
    def loss(logps, old_logps, advantages, mask):
        ratio, advantage = torch.where(mask, logps - old_logps, 0.0).exp(), advantages[:, None]
        per_token = -extreme(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
        return reduce(torch.where(mask, per_token, 0.0), mask)

    return loss


REDUCED = {
    "sum": lambda x, mask: x.sum(-1).mean(),
    "token-mean": lambda x, mask: x.sum() / mask.sum(),
    "sequence-mean": lambda x, mask: (x.sum(-1) / mask.sum(-1)).mean(),
}


@pytest.mark.parametrize("reduction", REDUCED)
def test_a_clipped_loss_conforms_and_its_reduction_is_said(reduction):
    outcome = conform(clipped(REDUCED[reduction]), "ppo-clip")
    assert outcome.ok, [(trial.law.id, trial.verdict) for trial in outcome.broken]
    assert headline(outcome, "f") == f"f conforms to ppo-clip (reduction = {reduction})"


CHANGED = {
    "centred": lambda a: a - a.mean(),
    "whitened": lambda a: (a - a.mean()) / (a.std() + 1e-8),
    "clamped at 10": lambda a: a.clamp(-10, 10),
}


@pytest.mark.parametrize("objective", ["ppo-clip", "rloo"])
@pytest.mark.parametrize("changed", CHANGED)
def test_advantages_that_are_handed_over_are_held_against_any_mean_and_deviation(objective, changed):
    """What examples hand over sums to zero in every prompt, so that to centre it once more changes nothing there."""

    def loss(logps, old_logps, advantages, mask):
        ratio, advantage = torch.where(mask, logps - old_logps, 0.0).exp(), CHANGED[changed](advantages)[:, None]
        per_token = -torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
        return torch.where(mask, per_token, 0.0).sum(-1).mean()

    outcome = conform(loss, objective)
    assert "advantages-as-given" in {trial.law.id for trial in outcome.broken}
    assert f"the advantage {'then ' * (changed == 'whitened')}{changed}" in str(outcome.identity)


def test_a_fixed_denominator_is_given_and_another_one_is_not_taken_for_it():
    loss = clipped(lambda x, mask: x.sum(-1).mean() / 512)
    given = {"reduction": "fixed", "denominator": 512}
    assert conform(loss, "ppo-clip", options=given).ok
    assert not conform(loss, "ppo-clip", options=given | {"denominator": 256}).ok
    with pytest.raises(InputError, match="give the denominator"):
        conform(loss, "ppo-clip", options={"reduction": "fixed"})


def test_a_function_that_never_sees_another_ratio_is_told_so_and_fails_where_it_does():
    wrong = clipped(REDUCED["sum"], torch.maximum)
    at_one, off = conform(wrong, "rloo"), conform(wrong, "ppo-clip")
    assert at_one.ok
    assert [trial.law.id for trial in at_one.advice] == ["ratio-one-only"]
    assert {"gradient", "clip-stops", "clip-returns"} <= {trial.law.id for trial in off.broken}
    assert "at-ratio-one" not in {trial.law.id for trial in off.broken}


@pytest.mark.parametrize("backend", ["torch", "numpy"])
def test_the_ground_floor_s_gspo_conforms_and_its_ratio_is_the_geometric_mean(backend):
    def loss(logps, old_logps, mask, advantages, epsilon=3e-4, epsilon_high=4e-4):
        return off_policy.gspo(logps, old_logps, mask, advantages, epsilon=epsilon, epsilon_high=epsilon_high)

    assert conform(loss, "gspo", backend=backend).ok
    logps, old = np.log([[0.5, 0.2]]), np.log([[0.25, 0.4]])
    ratio = off_policy.sequence_ratios(logps, old, np.ones((1, 2), dtype=bool), per_token=True)
    assert ratio[0] == pytest.approx(np.sqrt(2.0 * 0.5))


def test_what_stands_under_a_mask_reaches_neither_value_nor_gradient_of_any_off_policy_loss():
    mask = torch.tensor([[True, False]])
    for function in (off_policy.ppo_clip, off_policy.grpo, off_policy.gspo, off_policy.cispo, off_policy.rloo_ratio):
        logps = torch.tensor([[-1.0, -torch.inf]], requires_grad=True)
        function(logps, torch.tensor([[-1.1, -torch.inf]]), mask, torch.ones(1)).sum().backward()
        assert torch.isfinite(logps.grad).all(), function.__name__
        assert logps.grad[0, 1] == 0


# ---------------------------------------------------------------- names for what is found


def identity(function, name, **options):
    return str(conform(function, name, options=options or None).identity)


def margin(chosen, rejected, ref_chosen, ref_rejected):
    return (chosen - ref_chosen) - (rejected - ref_rejected)


def test_mistakes_are_named():
    def twice(chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp, beta=0.1):
        return (beta * margin(chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp) - 1 / (2 * beta)) ** 2

    def without(chosen_logp, rejected_logp, beta=0.1):
        return -F.logsigmoid(beta * (chosen_logp - rejected_logp))

    def thrice(chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp, beta=0.1):
        return -F.logsigmoid(3 * beta * margin(chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp) - 0.25)

    def reversed_k3(logps, ref_logps, mask):
        d = torch.where(mask, logps - ref_logps, 0.0)
        return (d.exp() - d - 1).sum(-1)

    def token_mean(logps, ref_logps, mask):
        return (torch.where(mask, logps - ref_logps, 0.0) ** 2 / 2).sum() / mask.sum()

    def whitened(rewards, group_size):
        r = rewards.reshape(-1, group_size)
        a = ((r - r.mean(1, keepdim=True)) / (r.std(1, keepdim=True) + 1e-6)).reshape(-1)
        return (a - a.mean()) / (a.std() + 1e-8)

    assert identity(twice, "ipo") == "IPO, its margin multiplied by beta once more"
    assert identity(without, "dpo") == "DPO whose reference is left out"
    found = identity(thrice, "dpo")
    assert found.startswith("-log sigmoid(0.3 log pi(w) - 0.3 log pi(l) - 0.3 log ref(w) + 0.3 log ref(l) - 0.25)")
    assert found.endswith("(against dpo: its log-probs count 3 times as much; the constant is -0.25, not 0)")
    assert "k3 with policy and reference exchanged" in identity(reversed_k3, "kl-metric")
    assert "averaged over all tokens of the batch" in identity(token_mean, "kl-loss-token")
    assert identity(whitened, "grpo-advantage").endswith("then whitened over the batch (sample deviation)")


# ---------------------------------------------------------------- a test of tests


def dpo_of_sums(chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp, beta=0.1):
    return -F.logsigmoid(beta * margin(chosen_logp, rejected_logp, ref_chosen_logp, ref_rejected_logp))


def test_bugs_are_planted_through_the_user_s_own_signature_and_each_is_noticed_by_an_assertion_or_by_none_alone():
    subject = prepared(dpo_of_sums, "dpo")
    mutants = mutants_of(subject)
    pains = {mutant.bug.pain for mutant in mutants}
    assert {"reference left out", "beta is hard-coded", "margin clamped"} <= pains
    assert "mask shifted by one token" not in pains  # sums have no mask
    wanted, unshown = assertions(subject, mutants)
    noticed = {mutant.bug.pain for notices in wanted.values() for mutant in notices}
    assert noticed | {mutant.bug.pain for mutant in unshown} == pains
    assert len(noticed) > 0.7 * len(pains)


def test_survivors_are_listed_with_tests_that_notice_them(tmp_path):
    """Forked children run a real pytest; one weak test, and the tests that `mutate` hands out."""
    (tmp_path / "mine.py").write_text(
        "import torch.nn.functional as F\n\n\n"
        "def loss(chosen_logp, rejected_logp, alpha=1.0):\n"
        "    return -F.logsigmoid(alpha * (chosen_logp - rejected_logp))\n"
    )
    (tmp_path / "test_mine.py").write_text(
        "import torch\nfrom mine import loss\n\n\n"
        "def test_positive():\n    assert (loss(torch.tensor([-1.0]), torch.tensor([-2.0])) > 0).all()\n"
    )
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv[0] = 'derivations'\n"
    code += "from derivations.conformance import mutation, prepared\nfrom derivations.conformance.loading import load\n"
    code += "subject = prepared(load('mine.py:loss'), 'maxent')\n"
    code += "wrong = lambda chosen_logp, rejected_logp, alpha=1.0: -(chosen_logp + rejected_logp) * 0 - 1\n"
    code += "print(mutation.run_tests('mine.py:loss', None, ['test_mine.py'], 60)[0])\n"
    code += "print(mutation.run_tests('mine.py:loss', wrong, ['test_mine.py'], 60)[0])\n"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert run.stdout.split() == ["0", "1"], run.stdout + run.stderr


def test_one_assertion_is_a_whole_conformance_run():
    assert_conforms(dpo_of_sums, "dpo", beta=0.3)
    with pytest.raises(AssertionError, match="does NOT conform to ipo"):
        assert_conforms(dpo_of_sums, "ipo", beta=0.3)


# ---------------------------------------------------------------- what the documentation shows


def test_the_grpo_example_comes_out_as_printed_in_the_documentation():
    page = (ROOT / "docs" / "conformance.md").read_text()
    place = ROOT / "docs" / "examples" / "my_grpo.py"
    wrong = conform(load(f"{place}:grpo_loss"), "grpo")
    text = FORMATS["text"](wrong, "my_grpo.py:grpo_loss")
    assert text[: text.index("BROKEN  mask-leak")].rstrip() in page
    assert {"clip-stops", "clip-returns", "mask-leak"} <= {trial.law.id for trial in wrong.broken}
    right = conform(load(f"{place}:mended"), "grpo")
    assert headline(right, "my_grpo.py:mended") in page
    assert right.ok


def test_the_action_and_the_hooks_name_commands_that_exist():
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    assert action["runs"]["using"] == "composite"
    hooks = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    tree = ast.parse((ROOT / "derivations" / "__main__.py").read_text())
    commands = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    for hook in hooks:
        assert hook["entry"].split()[:3] == ["python", "-m", "derivations"]
        assert hook["entry"].split()[3] in commands
