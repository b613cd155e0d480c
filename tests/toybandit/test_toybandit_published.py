"""Offline training on published losses and on KTO: gradients against autograd, and the measured step size."""

import numpy as np
import pytest

from derivations.arrays import log_softmax
from derivations.names import make_objective
from derivations.published import PUBLISHED, UNPAIRED, make_published, make_trained
from tests.helpers.small_world import small
from toybandit.bandit import seed_streams, shared_world, tabular_world
from toybandit.data import Rankings, draw_pairs
from toybandit.offline import (
    Scored,
    collect,
    default_lr,
    descend,
    loss_gradient,
    losses,
    measured_lr,
    reference_point,
)
from toybandit.policies import make_policy


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_gradient_of_a_published_loss_is_what_autograd_finds_on_a_softmax_table(name):
    torch = pytest.importorskip("torch")
    world, _, data = small()
    objective = make_published(name, beta=0.5)
    logits = np.random.default_rng(1).normal(size=world.gold.shape)
    tensor = torch.tensor(logits, requires_grad=True)
    logp, total = torch.log_softmax(tensor, -1), 0.0
    for s, x in np.ndindex(data.kept.shape[:2]):  # one draw at a time, from the definition
        kept = data.ranked[s, x][data.kept[s, x]]
        given = {"length": torch.tensor(world.length[s, x][kept]), "ref_logp": torch.tensor(world.ref_logp[s, x][kept])}
        total = total + objective.losses(logp[s, x][torch.tensor(kept)], **given).mean()
    total.backward()
    found = loss_gradient(world, collect(data), objective, log_softmax(logits))
    assert found == pytest.approx(tensor.grad.numpy(), rel=1e-9, abs=1e-12)
    assert np.abs(found).max() > 1e-3


KTO = {"beta": 0.6, "desirable_weight": 1.5, "undesirable_weight": 0.7}


def judged(data, s, x):
    """The arms of a prompt's kept pairs and whether each is good: the rows that `llm train` takes pairs apart into."""
    conversion, files, formats = (pytest.importorskip(f"llm.data.{n}") for n in ("unpair", "files", "row_formats"))
    kept = data.ranked[s, x][data.kept[s, x]]
    pairs = [formats.Comparison((), tuple(map(str, arms)), f"row {i}") for i, arms in enumerate(kept)]
    rows = list(conversion.unpaired(files.Source("", "", pairs, [])).comparisons)
    assert len(rows) == 2 * len(kept)
    return [int(row.responses[0]) for row in rows], [row.scores[0] == 1 for row in rows]


@pytest.mark.parametrize("held", [True, False], ids=["held", "moving"])
def test_the_gradient_of_kto_is_what_autograd_finds_for_single_responses_with_the_exact_kl_held(held):
    torch = pytest.importorskip("torch")
    world, _, data = small()
    logits = np.random.default_rng(1).normal(size=world.gold.shape)
    tensor, ref = torch.tensor(logits, requires_grad=True), torch.tensor(world.ref_logp)
    logp, total = torch.log_softmax(tensor, -1), 0.0
    for s in range(len(world.gold)):
        point = torch.nn.functional.kl_div(ref[s], logp[s], log_target=True, reduction="none").sum(-1).mean()
        for x in range(2):
            arms, good = judged(data, s, x)
            lead = KTO["beta"] * ((logp - ref)[s, x][arms] - (point.detach() if held else point))
            value = torch.where(torch.tensor(good), torch.sigmoid(lead), torch.sigmoid(-lead))
            weight = np.where(good, KTO["desirable_weight"], KTO["undesirable_weight"])
            total = total + (torch.tensor(weight) * (1 - value)).mean()
    total.backward()
    objective, examples = make_trained("kto", **KTO), collect(data)
    found = loss_gradient(world, examples, objective, log_softmax(logits))
    if held:
        assert found == pytest.approx(tensor.grad.numpy(), rel=1e-9, abs=1e-12)
    else:  # the point weighs: the gradient with it is another one
        assert np.abs(found - tensor.grad.numpy()).max() > 0.01
    run = descend(world, data, objective=objective, held_out=data, steps=1)
    at_end = Scored(*(array.ravel()[examples.index] for array in (run.logp, world.length, world.ref_logp)),
                    kl=np.repeat(run.metrics["kl"][-1], 2)[examples.prompt, None])  # fmt: skip
    assert run.metrics["loss"][-1] == pytest.approx(examples.per_seed(losses(objective, at_end)), rel=1e-12)


def test_kto_pulls_on_shared_parameters_as_differences_of_its_loss_with_the_point_held_do():
    world = shared_world(seed_streams(1, 2), prompts=2, arms=10)
    examples, objective = collect(draw_pairs(world, seed_streams(1, 2), count=30)), make_trained("kto", **KTO)
    policy = make_policy(world, np.float64)
    theta = np.random.default_rng(0).normal(size=(2, 16))
    logp = log_softmax(policy.logits(theta))
    kl = reference_point(world, examples, logp)
    assert kl == pytest.approx(np.sum(np.exp(logp) * (logp - world.ref_logp), axis=-1).mean(axis=-1), rel=1e-12)
    assert kl.min() > 0.05

    def loss(theta):
        at = (
            array.ravel()[examples.index] for array in (log_softmax(policy.logits(theta)), world.length, world.ref_logp)
        )
        return examples.per_seed(losses(objective, Scored(*at, kl=kl[examples.prompt // 2, None])))

    found = policy.pull_back(theta, loss_gradient(world, examples, objective, logp))
    for j in range(16):
        step = 1e-5 * np.eye(16)[j]
        assert found[:, j] == pytest.approx((loss(theta + step) - loss(theta - step)) / 2e-5, abs=1e-8)
    assert np.abs(found).max() > 0.01


def test_kto_s_reference_point_leaves_out_a_prompt_without_data():
    world = tabular_world(seed_streams(0, 2), prompts=3, arms=5)
    pairs = np.broadcast_to([[0, 1], [2, 3]], (2, 3, 2, 2))
    kept = np.ones((2, 3, 2), dtype=bool)
    kept[1, 0] = False
    logp = log_softmax(np.random.default_rng(0).normal(size=world.gold.shape))
    kl = np.sum(np.exp(logp) * (logp - world.ref_logp), axis=-1)
    found = reference_point(world, collect(Rankings(pairs, kept, 5)), logp)
    assert found == pytest.approx([kl[0].mean(), kl[1, 1:].mean()])


@pytest.mark.parametrize("name", [*PUBLISHED, *UNPAIRED])
def test_a_published_loss_descends_at_its_own_step_size_and_default_strength(name):
    world, streams, data = small(arms=12)
    objective = make_trained(name)
    run = descend(world, data, objective=objective, held_out=draw_pairs(world, streams, count=40), steps=200)
    loss = run.metrics["loss"]
    assert np.all(loss[-1] < loss[0])
    # corners are stepped over (dpop, slic), far from the reference softmax is curved too (apo-zero, sppo), and the
    # weight of wpo and the reference point of kto are held in the gradient and grow in the loss
    most = {"dpop": 0.03, "slic": 0.03, "sppo": 0.03, "apo-zero": 1e-3, "wpo": np.inf, "kto": 0.01}.get(name, 0.0)
    assert np.all(np.diff(loss, axis=0) <= most * loss[0])
    assert np.all(np.isfinite(run.logp))


def test_the_measured_step_of_a_loss_that_is_dpo_is_the_stated_share_of_dpo_s():
    world, _, data = small()
    world, examples = world.with_equal_lengths(), collect(data)
    for beta in (0.1, 2.0):
        dpo = default_lr(world, make_objective("dpo", beta=beta))
        for same in (make_published("ln-dpo", beta=beta), make_published("r-dpo", beta=beta)):
            # Polyak's step, halved: log 2 / (2 (beta/2)^2) / 2 at the reference, beside it 1 % less
            assert measured_lr(world, examples, same) == pytest.approx(np.log(2) / 2 * dpo, rel=0.01)
    # of kto half of apo-zero's loss a pair, with half of its slopes
    zero, kto = (measured_lr(world, examples, make_trained(name, beta=0.1)) for name in ("apo-zero", "kto"))
    assert kto == pytest.approx(2 * zero, rel=1e-3)
    below = make_published("dpop", beta=0.1, penalty=9.0)  # on the steep side of its corner
    assert measured_lr(world, examples, below) == pytest.approx(np.log(2) / (0.1 * 10) ** 2, rel=0.01)
    down = make_trained("apo-down", beta=0.1)  # at the reference, sigma(0) - sigma(0) + 1 with slopes 0 and 0.1/4
    assert measured_lr(world, examples, down) == pytest.approx(1.0 / (2 * 0.025**2) / 2, rel=0.01)
