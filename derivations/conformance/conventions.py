"""Options that other codes call differently, or mean differently: theirs -> ours."""

from collections.abc import Callable
from typing import Any

# Options that other codes call differently: theirs -> (ours, to ours, from ours), each given the options in our names.
Conversion = tuple[str, Callable[[float, dict[str, Any]], float], Callable[[dict[str, Any]], float]]
LOWER = (
    "clip clip_range cliprange clip_eps eps_clip epsilon_clip clip_ratio clip_epsilon clip_param eps "
    "epsilon_low clip_ratio_low clip_eps_low eps_clip_low clip_low cliprange_low clip_range_low eps_low"
)
UPPER = "clip_ratio_high clip_eps_high eps_clip_high eps_clip_higher clip_high cliprange_high clip_range_high eps_high"
RENAMED = {
    "epsilon": LOWER.split(),
    "epsilon_high": UPPER.split(),
    "penalty": ["lam", "lambda_", "dpop_lambda"],
    "beta": ["lambda_orpo", "orpo_lambda", "dpo_beta", "tau", "simpo_beta", "ipo_tau"],
    "gamma": ["simpo_margin"],
}


def _renamed(ours: str) -> Conversion:
    """The same option by another name."""
    return ours, lambda v, o: v, lambda o: o[ours]


CONVENTIONS: dict[str, Conversion] = {
    "simpo_gamma": ("gamma", lambda v, o: v, lambda o: o["gamma"]),  # TRL, LLaMA-Factory: reward units
    "gamma_beta_ratio": ("gamma", lambda v, o: v * o["beta"], lambda o: o["gamma"] / o["beta"]),  # SimPO's own code
    "pref_beta": ("beta", lambda v, o: v, lambda o: o["beta"]),  # LLaMA-Factory
    "dpo_label_smoothing": ("label_smoothing", lambda v, o: v, lambda o: o["label_smoothing"]),  # LLaMA-Factory
    **{theirs: _renamed(ours) for ours, names in RENAMED.items() for theirs in names},
}
