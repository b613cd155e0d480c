"""What a step asks of a GPU, counted on shapes alone: few passes, few waits, and no loop over comparisons."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from benchmarks.llm_kernels import META, Counter, count_step, dialogue, meta_model, without_autocast
from llm.offline.metrics import losses_and_rows
from llm.online.setup import Batch
from llm.online.train import accumulate
from llm.scoring.logprobs import sequence_logps
from llm.scoring.packing import Example
from llm.scoring.passes import scored
from llm.settings.online import OnlineConfig
from llm.settings.train import TrainConfig


@pytest.mark.parametrize("seed", range(3))
def test_a_step_of_64_dialogues_is_at_most_3_passes_of_at_most_2_waits(seed):
    count = count_step(dialogue(64, seed=seed), layers=2)
    assert 1 <= count.passes <= 3
    assert 1 <= count.synchronizations <= 2 * count.passes
    assert count.kernels < 600 * count.passes  # two layers; the loops this replaced took thousands
    assert count.cpu_operations <= 2 * count.passes


def test_more_comparisons_in_a_pass_are_no_more_kernels():
    few, many = (count_step(dialogue(n), layers=2, micro_batch_size=64) for n in (8, 32))
    assert few.passes == many.passes == 1
    assert abs(many.kernels - few.kernels) <= 40  # chunks of the head


def losses(objective, groups, **options):
    made = TrainConfig(objective=objective, **options).make_objective()
    logp = torch.empty(sum(len(g.examples) for g in groups), device=META, requires_grad=True)
    with Counter() as count:
        found, rows = losses_and_rows(made, groups, logp, logp.detach())
        found.sum().backward()
    assert len(rows) == len(groups)
    return count


@pytest.mark.parametrize("objective", ["dpo", "simpo", "maxent", "ipo", "dpo-pl", "simpo-shannon"])
def test_losses_take_as_many_kernels_for_64_comparisons_as_for_4(objective):
    few, many = (losses(objective, dialogue(n)) for n in (4, 64))
    assert many.kernels == few.kernels < 120
    assert many.synchronizations == few.synchronizations == 1


def test_batched_losses_are_those_of_one_comparison_at_a_time():
    """Rankings of several sizes between one another, in the order they came in."""
    groups = dialogue(12)
    sizes = [(2, 3, 5, 2)[i % 4] for i in range(len(groups))]
    groups = [type(g)((g.examples * 3)[:n], str(i)) for i, (g, n) in enumerate(zip(groups, sizes, strict=True))]
    logp = torch.randn(sum(sizes), generator=torch.Generator().manual_seed(0)).mul(9).requires_grad_()
    objective = TrainConfig(objective="simpo-pl").make_objective()
    together, rows = losses_and_rows(objective, groups, logp, None)
    (gradient,) = torch.autograd.grad(together.sum(), logp)
    alone = [losses_and_rows(objective, [g], own, None) for g, own in zip(groups, logp.split(sizes), strict=True)]
    torch.testing.assert_close(together, torch.cat([one for one, _ in alone]), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradient, torch.autograd.grad(sum(one.sum() for one, _ in alone), logp)[0])
    assert [row["where"] for row in rows] == [str(i) for i in range(12)]
    assert together.std() > 0.1


def test_scoring_64_comparisons_is_few_passes_without_a_wait():
    model, passes = meta_model(2), []
    model.base_model.register_forward_pre_hook(lambda *_: passes.append(1))

    def score(part):
        sizes = [len(g.examples) for g in part]
        return sequence_logps(model, [e for g in part for e in g.examples]).split(sizes)

    with torch.no_grad(), without_autocast(), Counter() as count:
        assert len(scored(dialogue(64), 16_384, score)) == 64
    assert len(passes) <= 3
    assert count.synchronizations == 0


def test_an_online_step_is_one_pass_and_one_wait():
    """8 topics, 4 samples each, of 20 tokens: gradient and the row of metrics."""
    model, passes = meta_model(2), []
    model.base_model.register_forward_pre_hook(lambda *_: passes.append(1))
    examples = [Example((topic,) * 30, (n,) * 20, False) for topic in range(8) for n in range(4)]
    numbers = {name: torch.empty(32, device=META) for name in ("logq", "proxy", "gold", "sentiment")}
    batch = Batch(examples, [], [], **numbers, on_topic=torch.empty(32, dtype=torch.bool, device=META))
    config = OnlineConfig(regularizer="kl=0.1")
    engine = SimpleNamespace(
        device=META,
        micro_steps=nullcontext,
        loss_logps=lambda own, last: sequence_logps(model, own),
        backward=lambda loss, last: loss.backward(),
    )
    with without_autocast(), Counter() as count:
        row = accumulate(engine, batch, config.make_regularizer(), config)
    assert len(passes) == count.synchronizations == 1
    assert count.kernels < 600
    assert row.keys() == {"loss", "proxy", "gold", "kl", "entropy", "length"}


# ---- the instrument


def test_what_is_counted():
    x = torch.empty(6, device=META, requires_grad=True)
    with Counter() as count:
        (x * 2).sum().backward()
    assert count.kernels == 4  # product and sum; ones to begin with and a product, backward (expand is a view)
    assert count.synchronizations == 0
    with Counter() as count:
        for part in x.split(2):
            part.sum().item()
            (part > 0).any().tolist()
    assert count.synchronizations == 6
    assert count.kernels == 9
    with Counter() as count:
        torch.tensor([1, 2], device=META)
        torch.ones(2).to(META)
        torch.ones(2).to(META, non_blocking=True)
        x[torch.tensor([0, 1])]
        torch.empty(2, device=META).cpu()
    assert count.synchronizations == 4  # all but the copy that is not waited for
