"""Settings of `online`; see `llm.config` for units and conventions. Nothing here needs torch."""

from dataclasses import dataclass
from pathlib import Path

from derivations.commands import InputError, input_errors
from derivations.regularizers import Regularizer, parse_regularizer
from llm.config import Dtype, Tracker, require_positive
from llm.records import require_out


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
    micro_batch_tokens: int = 1024
    """Most tokens in one forward and backward pass (the samples of one topic stay together)."""
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
    tracker: Tracker = "none"
    """Send the metrics there too, through accelerate (tensorboard writes into `out`; others need their package)."""
    out: Path = Path("runs/online")
    """Run folder. An earlier run there is moved aside."""
    quiet: bool = False
    """Print nothing but errors."""

    def __post_init__(self) -> None:
        require_positive(self, "max_steps", "prompts_per_step", "max_new_tokens", "lr", "max_grad_norm")
        require_positive(self, "micro_batch_tokens")
        require_positive(self, "eval_samples")
        if self.samples < 2:
            raise InputError(f"--samples is {self.samples}; the leave-one-out baseline needs at least 2")
        if self.proxy_pairs < 20:
            raise InputError(f"--proxy-pairs is {self.proxy_pairs}; the fit and its held-out part need at least 20")
        self.make_regularizer()

    def require_places(self) -> None:
        """Refuse (InputError) a run folder that could not be made."""
        require_out(self.out)

    def make_regularizer(self) -> Regularizer:
        """The regularizer with its strength. Raises InputError, with the mend."""
        with input_errors():
            return parse_regularizer(self.regularizer, self.coefficient)
