"""Settings of the commands. One dataclass is the command line, the Python API and the saved config.json.

Nothing here needs torch, so `--help` and every refusal of a wrong option answer at once.

Units: log-probs, entropy and KL are in nats per response, lengths in tokens. A strength (alpha, beta)
is in reward units per nat, a margin (gamma) in reward units.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from derivations.commands import InputError, input_errors
from derivations.objectives import OBJECTIVES, Objective, make_objective
from derivations.regularizers import Regularizer, parse_regularizer

Dtype = Literal["float32", "bf16"]

# What a user who names only the objective gets: the strengths used most often for it.
DEFAULT_STRENGTHS: dict[str, dict[str, float]] = {
    "dpo": {"beta": 0.1},
    "simpo": {"beta": 2.0, "gamma": 1.0},
    "maxent": {"alpha": 0.05},
}


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Train a language model on preference pairs, offline, with any pairwise objective."""

    objective: str
    """dpo, simpo or maxent (THEORY 2.3 to 2.7)."""
    data: Path | None = None
    """Preference pairs: JSON or JSONL (optionally .gz), as prompt/chosen/rejected (text or chat messages),
    chosen/rejected transcripts, or ShareGPT conversations. Without it, pairs are sampled from the model
    itself, ranked by the gold reward, and cached."""
    eval_data: Path | None = None
    """Pairs for evaluation, all of them used. Without it, `eval_size` pairs are split off `data` by the seed."""
    eval_size: int = 24
    """Number of pairs held out, evaluated before and after training."""
    model: str = "bundled"
    """`bundled` (SmolLM2-135M-Instruct), a local folder, or a hub id."""
    beta: float | None = None
    """Strength of dpo (default 0.1) and simpo (default 2.0), reward units per nat; simpo's acts on the
    mean log-prob per token, dpo's on the sum over tokens."""
    gamma: float | None = None
    """Margin of simpo in reward units (default 1.0). Codes that take gamma/beta = rho mean gamma = beta * rho."""
    alpha: float | None = None
    """Temperature of maxent (default 0.05), reward units per nat, on the sum over tokens."""
    lr: float = 1e-5
    """Peak learning rate of AdamW (no weight decay)."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """cosine: a tenth of the steps up to `lr`, then down to 0 along a cosine; constant: `lr` throughout."""
    max_steps: int = 20
    """Optimizer steps."""
    batch_size: int = 4
    """Pairs per optimizer step."""
    micro_batch_size: int = 2
    """Pairs in one forward pass. Less memory when smaller; the gradient is the same."""
    max_length: int = 256
    """Most tokens of prompt and response together. Longer responses are cut (without EOS); prompts longer
    than half of it are skipped and counted."""
    dtype: Dtype = "float32"
    """bf16 runs the layers under autocast; weights, logits and log-probs stay float32."""
    max_grad_norm: float = 1.0
    """The gradient is scaled down to this norm if it is longer."""
    save: bool = True
    """Save the trained model in checkpoints/last (4 bytes a parameter)."""
    seed: int = 0
    """Seed of data split, order and samples. The same seed gives the same bits."""
    out: Path = Path("runs/train")
    """Run folder. An earlier run there is moved aside."""
    quiet: bool = False
    """Print nothing but errors."""

    def __post_init__(self) -> None:
        _require_positive(
            self, "eval_size", "lr", "max_steps", "batch_size", "micro_batch_size", "max_length", "max_grad_norm"
        )
        _require_files(self.data, self.eval_data)
        self.make_objective()

    def make_objective(self) -> Objective:
        """The objective with its options, defaults filled in. Raises InputError, with the mend."""
        if self.objective in OBJECTIVES and self.objective not in DEFAULT_STRENGTHS:
            why = "takes rankings" if OBJECTIVES[self.objective].listwise else "is not offered here"
            raise InputError(f"objective {self.objective} {why}; train takes: {', '.join(DEFAULT_STRENGTHS)}")
        given = {"alpha": self.alpha, "beta": self.beta, "gamma": self.gamma}
        options = DEFAULT_STRENGTHS.get(self.objective, {}) | {k: v for k, v in given.items() if v is not None}
        with input_errors():
            return make_objective(self.objective, **options)


@dataclass(frozen=True, kw_only=True)
class OnlineConfig:
    """Train a language model on a fitted proxy reward by policy gradient, and watch the gold reward.

    Each step: topics -> samples (temperature 1) -> proxy reward minus the regularizer's implicit reward
    -> leave-one-out advantage -> policy gradient. Gold is logged and never trained on.
    """

    regularizer: str
    """entropy, kl, length-normalized, none, or a sum such as entropy=0.02+kl=0.05."""
    coefficient: float | None = None
    """Strength of the regularizer, reward units per nat (alpha for entropy, beta for kl and length-normalized).
    One reward unit is one standard deviation of the proxy between reference samples of a prompt, where
    log-probs spread by about 17 nats: entropy 0.06 already weighs as much as the reward."""
    proxy_pairs: int = 1000
    """Noisy preference pairs the proxy is fitted on: 1000 gives a good proxy, 100 a weak one."""
    model: str = "bundled"
    """`bundled` (SmolLM2-135M-Instruct), a local folder, or a hub id."""
    max_steps: int = 15
    """Optimizer steps, one per batch of samples."""
    prompts_per_step: int = 8
    """Topics drawn per step."""
    samples: int = 4
    """Responses per topic, at least 2 (leave-one-out baseline)."""
    max_new_tokens: int = 20
    """Longest response, in tokens. A response that does not end by then is truncated: it has no EOS."""
    lr: float = 5e-5
    """Learning rate of AdamW (constant, no weight decay)."""
    dtype: Dtype = "float32"
    """bf16 runs the layers under autocast; weights, logits and log-probs stay float32."""
    max_grad_norm: float = 1.0
    """The gradient is scaled down to this norm if it is longer."""
    save: bool = True
    """Save the trained model in checkpoints/last (4 bytes a parameter)."""
    eval_samples: int = 4
    """Fresh samples per held-out topic in the evaluations before and after."""
    seed: int = 0
    """Seed of topics and samples. The same seed gives the same bits."""
    out: Path = Path("runs/online")
    """Run folder. An earlier run there is moved aside."""
    quiet: bool = False
    """Print nothing but errors."""

    def __post_init__(self) -> None:
        _require_positive(self, "max_steps", "prompts_per_step", "max_new_tokens", "lr", "max_grad_norm")
        _require_positive(self, "eval_samples")
        if self.samples < 2:
            raise InputError(f"--samples is {self.samples}; the leave-one-out baseline needs at least 2")
        if self.proxy_pairs < 20:
            raise InputError(f"--proxy-pairs is {self.proxy_pairs}; the fit and its held-out part need at least 20")
        self.make_regularizer()

    def make_regularizer(self) -> Regularizer:
        """The regularizer with its strength. Raises InputError, with the mend."""
        with input_errors():
            return parse_regularizer(self.regularizer, self.coefficient)


def _require_positive(config: TrainConfig | OnlineConfig, *names: str) -> None:
    if not 0 <= config.seed < 2**32 // 100_003:
        raise InputError(f"--seed is {config.seed}; expected 0 to {2**32 // 100_003 - 1}")
    for name in names:
        value = getattr(config, name)
        if not 0 < value < float("inf"):
            raise InputError(f"--{name.replace('_', '-')} is {value}; expected a number > 0")


def _require_files(*paths: Path | None) -> None:
    for path in paths:
        if path is not None and not path.is_file():
            raise InputError(f"no such file: {path}")
