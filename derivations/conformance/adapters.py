"""Losses of installed libraries behind the kit's contract, so that `conform` can be pointed at them.

    python -m derivations conform derivations.conformance.adapters:trl_cpo --objective simpo

Each adapter runs the library's own loss code on a model that is made to give the wanted log-probs; nothing
of a formula is written again. Supervised positions are those of the mask, so what the kit's masking laws see
is what the library does with its labels. Defaults are the library's. The libraries come with
`pip install '.[bench]'`; without them an adapter says so (exit status 2). Written for TRL 1.16 and
Liger Kernel 0.8.
"""

import importlib
import math
import os
from collections import defaultdict
from types import SimpleNamespace
from typing import Any

from derivations.cli.errors import InputError


def _import(module: str) -> Any:
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = module.partition(".")[0]
        raise InputError(f"{name} cannot be imported ({error}); pip install '.[bench]'") from error


class _Accelerator:
    """What the trainers ask of accelerate when there is one process."""

    device = "cpu"
    process_index = 0

    def gather_for_metrics(self, value: Any) -> Any:
        return value

    gather = gather_for_metrics


def _both(chosen: Any, rejected: Any, filler: Any) -> Any:
    """[B, T] and [B, T'] one above the other, [2B, max(T, T') + 1]; a first column stands for the prompt."""
    import torch
    from torch.nn.functional import pad

    longest = max(chosen.shape[1], rejected.shape[1])
    return torch.cat([pad(x, (1, longest - x.shape[1]), value=filler) for x in (chosen, rejected)])


def trl_dpo(
    chosen_logps: Any,
    rejected_logps: Any,
    chosen_mask: Any,
    rejected_mask: Any,
    ref_chosen_logps: Any,
    ref_rejected_logps: Any,
    beta: float = 0.1,
    label_smoothing: float = 0.0,
    loss_type: str = "sigmoid",
) -> Any:
    """TRL's DPOTrainer._compute_loss; loss_type as in DPOConfig (its ipo averages over tokens)."""
    import torch

    trainer = _import("trl.trainer.dpo_trainer").DPOTrainer
    mask = _both(chosen_mask.long(), rejected_mask.long(), 0)

    class Model(torch.nn.Module):
        """Answers any input with the given log-probs, as the fused head does: 0 where the label is -100."""

        is_gradient_checkpointing = False

        def __init__(self, log_probs: Any) -> None:
            super().__init__()
            self.shown = torch.where(mask.bool(), log_probs, 0.0)[:, 1:]

        def forward(self, **_: Any) -> Any:
            unused = dict.fromkeys(("entropy", "mean_logits", "log_sum_sq_probs"), self.shown.detach())
            return SimpleNamespace(log_probs=self.shown, is_top1=self.shown.detach() > 0, **unused)

    policy = Model(_both(chosen_logps, rejected_logps, 0.0))
    reference = Model(_both(ref_chosen_logps, ref_rejected_logps, 0.0))
    this = SimpleNamespace(
        accelerator=_Accelerator(),
        model=policy,
        ref_model=reference,
        args=SimpleNamespace(gradient_checkpointing_kwargs=None, discopop_tau=0.05),
        beta=beta,
        label_smoothing=label_smoothing,
        loss_types=[loss_type],
        loss_weights=[1.0],
        f_divergence_type="reverse_kl",
        f_alpha_divergence_coef=0.5,
        ld_alpha=None,
        precompute_ref_logps=False,
        aux_loss_enabled=False,
        use_weighting=False,
        _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0,
        _tp_size=1,
    )
    inputs = {"input_ids": torch.zeros_like(mask), "attention_mask": torch.ones_like(mask), "completion_mask": mask}
    return trainer._compute_loss(this, policy, inputs, False)


def trl_cpo(
    chosen_logps: Any,
    rejected_logps: Any,
    chosen_mask: Any,
    rejected_mask: Any,
    beta: float = 0.1,
    simpo_gamma: float = 0.5,
    cpo_alpha: float = 1.0,
    label_smoothing: float = 0.0,
    loss_type: str = "simpo",
) -> Any:
    """TRL's CPOTrainer.get_batch_loss_metrics with CPOConfig's defaults, but for loss_type.

    The model has two tokens; the supervised one has the wanted log-prob and the other the rest.
    """
    import torch

    trainer = _import("trl.experimental.cpo.cpo_trainer").CPOTrainer
    this = object.__new__(trainer)
    vars(this).update(
        accelerator=_Accelerator(),
        is_encoder_decoder=False,
        pad_token_id=0,
        aux_loss_enabled=False,
        alpha=0.0,
        beta=beta,
        simpo_gamma=simpo_gamma,
        cpo_alpha=cpo_alpha,
        label_smoothing=label_smoothing,
        loss_type=loss_type,
    )
    logps = _both(chosen_logps, rejected_logps, -1.0)
    mask = _both(chosen_mask, rejected_mask, False)
    # logits at a position speak of the next token; the last position speaks of nothing
    logits = torch.nn.functional.pad(_two_tokens(torch.where(mask, logps, -1.0)[:, 1:]), (0, 0, 0, 1))
    batch = {}
    for side, one in zip(("chosen", "rejected"), mask.chunk(2), strict=True):
        batch[f"{side}_labels"] = torch.where(one, 1, -100)
        batch[f"{side}_input_ids"] = torch.ones_like(batch[f"{side}_labels"])
        batch[f"{side}_attention_mask"] = torch.ones_like(batch[f"{side}_labels"])
    loss, _ = trainer.get_batch_loss_metrics(this, lambda *_, **__: SimpleNamespace(logits=logits), batch)
    return loss


def trl_rloo_advantages(rewards: Any, group: Any, normalize_advantages: bool = False) -> Any:
    """The advantages of TRL's RLOOTrainer (equal groups, their samples together), without its KL penalty."""
    return _advantages(
        _import("trl.trainer.rloo_trainer").RLOOTrainer,
        ([],),
        rewards,
        group,
        normalize_advantages=normalize_advantages,
        reward_clip_range=None,
    )


def trl_grpo_advantages(rewards: Any, group: Any, scale_rewards: str = "group") -> Any:
    """The advantages of TRL's GRPOTrainer; scale_rewards as in GRPOConfig."""
    return _advantages(
        _import("trl.trainer.grpo_trainer").GRPOTrainer,
        (None, [], None, {}, None, None),
        rewards,
        group,
        scale_rewards=scale_rewards,
        multi_objective_aggregation="sum_then_normalize",
        environment_factories=None,
        environments=[],
        tools=[],
        use_vllm=False,
        num_iterations=1,
    )


def _advantages(trainer: Any, generated: tuple[Any, ...], rewards: Any, group: Any, **options: Any) -> Any:
    """What the trainer's own method of generating and scoring says, where every completion is one token long.

    generated: what its `_generate` returns after the ids of prompts and of completions; nothing here reads it.
    """
    import torch

    sizes = torch.unique_consecutive(group, return_counts=True)[1]
    if len(set(sizes.tolist())) != 1:
        raise ValueError(f"TRL takes groups of one size, got {sizes.tolist()}")
    ids = [[0]] * len(rewards)
    model = torch.nn.Module()
    model.is_gradient_checkpointing = False  # type: ignore[assignment]
    args = {"per_device_train_batch_size": len(rewards), "gradient_checkpointing_kwargs": None}
    args |= {"steps_per_generation": 1, "gradient_accumulation_steps": 1}
    own = {
        "accelerator": _Accelerator(),
        "model": model,
        "args": SimpleNamespace(**args),
        "_tokenizer": SimpleNamespace(pad_token_id=0),
        "pad_to_multiple_of": None,
        "mask_truncated_completions": False,
        "beta": 0.0,
        "num_generations": int(sizes[0]),
        "reward_weights": torch.ones(1, dtype=rewards.dtype),
        "reward_func_names": [],
        "log_multimodal": False,
        "_metrics": defaultdict(lambda: defaultdict(list)),
        "_logs": defaultdict(list),
        "_pending_extra_logs": {},
        "_pending_metrics": {},
        "_generate": lambda prompts: (ids, ids, *generated),
        "_calculate_rewards": lambda *_: rewards[:, None],
        "_get_per_token_logps_and_entropies": lambda *_, **__: (torch.zeros(len(rewards), 1), None, None),
    }
    this = SimpleNamespace(**own | options)
    return trainer._generate_and_score_completions(this, [{"prompt": "a"}] * len(rewards))["advantages"]


def liger_simpo(
    chosen_logps: Any,
    rejected_logps: Any,
    chosen_mask: Any,
    rejected_mask: Any,
    beta: float = 0.1,
    gamma: float = 0.5,
    alpha: float = 1.0,
    label_smoothing: float = 0.0,
    compute_nll_loss: bool = True,
) -> Any:
    """Liger's fused linear SimPO loss, its chunked path through an identity head, with its own defaults."""
    loss = _import("liger_kernel.chunked_loss").LigerFusedLinearSimPOLoss(
        beta=beta,
        gamma=gamma,
        alpha=alpha,
        label_smoothing=label_smoothing,
        compute_nll_loss=compute_nll_loss,
        compiled=False,
    )
    hidden, target = _two_token_head(chosen_logps, rejected_logps, chosen_mask, rejected_mask)
    return _only_loss(loss(_eye(hidden), hidden, target))


def liger_dpo(
    chosen_logps: Any,
    rejected_logps: Any,
    chosen_mask: Any,
    rejected_mask: Any,
    ref_chosen_logps: Any,
    ref_rejected_logps: Any,
    beta: float = 0.1,
    compute_nll_loss: bool = False,
) -> Any:
    """Liger's fused linear DPO loss through an identity head, with its own defaults."""
    loss = _import("liger_kernel.chunked_loss").LigerFusedLinearDPOLoss(
        beta=beta, compute_nll_loss=compute_nll_loss, compiled=False
    )
    hidden, target = _two_token_head(chosen_logps, rejected_logps, chosen_mask, rejected_mask)
    reference, _ = _two_token_head(ref_chosen_logps, ref_rejected_logps, chosen_mask, rejected_mask)
    return _only_loss(loss(_eye(hidden), hidden, target, ref_input=reference, ref_weight=_eye(hidden)))


def _two_token_head(chosen: Any, rejected: Any, chosen_mask: Any, rejected_mask: Any) -> tuple[Any, Any]:
    """Hidden states [2B, T, 2] that an identity head turns into the wanted log-probs, and labels [2B, T]."""
    import torch

    logps, mask = _both(chosen, rejected, -1.0)[:, 1:], _both(chosen_mask, rejected_mask, False)[:, 1:]
    clean = torch.where(mask, logps, math.log(0.5))
    return _two_tokens(clean), torch.where(mask, 1, -100)


def _two_tokens(logps: Any) -> Any:
    """Logits [..., 2] of the other token and of the supervised one. A certain token is made almost certain: the other
    one's log-prob would be -inf, which no softmax can be differentiated through."""
    import torch

    short = 1e-8 if logps.dtype == torch.float64 else 8 * torch.finfo(logps.dtype).eps
    almost = torch.where(logps == 0, logps - short, logps)
    return torch.stack([torch.log1p(-torch.exp(almost)), almost], dim=-1)


def _eye(hidden: Any) -> Any:
    import torch

    return torch.eye(2, dtype=hidden.dtype)


def _only_loss(result: Any) -> Any:
    return result[0] if isinstance(result, tuple) else result
