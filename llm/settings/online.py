"""Settings of `online`; see `llm.settings.train` for units and conventions. Nothing here needs torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from derivations.cli.errors import InputError, input_errors
from derivations.cli.settings import Within, check_settings
from derivations.names import parse_regularizer
from derivations.regularizers import Regularizer
from llm.engine.jsonl import require_out
from llm.sampling.topics import PROMPT
from llm.settings.train import LARGEST, Count, Dtype, Often, Positive, Seed, Tracker

if TYPE_CHECKING:
    from llm.sampling.gold import Gold

Optimizer = Literal["adamw", "sgd"]


@dataclass(frozen=True, kw_only=True)
class OnlineConfig:
    """Train a language model on a fitted proxy reward by policy gradient, and watch the gold reward.

    Each step: topics -> samples (temperature 1) -> proxy reward minus the regularizer's implicit reward
    -> leave-one-out advantage -> policy gradient. Gold is logged and never trained on.

    Units: a reward unit is one standard deviation of the proxy between reference samples of one prompt. A
    strength (alpha of entropy, beta of kl) is in reward units per nat of a whole response: alpha = 0.05 pays
    0.05 reward units for each nat by which a response is less likely. Log-probs of reference samples spread by
    about 18 nats within a prompt, so alpha = 0.055 already weighs as much as the reward. beta of length-normalized
    multiplies the mean log-prob per token, which spreads by about 1 nat. The run prints the ratio of the two
    spreads before it starts, and warns where the regularizer's is larger.
    """

    regularizer: str
    """entropy, kl, length-normalized, none, or a sum such as entropy=0.02+kl=0.05."""
    coefficient: float | None = None
    """Strength of the regularizer in reward units per nat: alpha for entropy (nats of the whole response), beta for
    kl (nats of log pi/q of the whole response) and for length-normalized (nats per token, averaged)."""
    regularizer_on: Literal["all", "on-topic"] = "all"
    """on-topic: phi is 0 for responses that do not mention their topic, so these keep the bare reward. A control: the
    level of the implicit reward (constant included) then also pays for being on topic."""
    wrong_bonus: Annotated[float, Within(0)] = 0.0
    """A control that is WRONG: weight, in reward units per nat, of the sampled -log pi that is differentiated
    directly. Its expected gradient is 0: it adds noise, not entropy. --regularizer entropy is the right one."""
    gold: str = "on-topic-sentiment"
    """The true reward: sentiment, on-topic, fluency (log q per token), length (tokens), on-topic-sentiment, or a sum
    of products such as sentiment*on-topic+-0.01*length, or your own as module:function, taking (text, topic)."""
    proxy: str = ""
    """Folder of a saved proxy (a run's `proxy/`), used instead of fitting one."""
    proxy_pairs: Annotated[int, Within(20, LARGEST, why="the fit and its held-out part need as many")] = 1000
    """Noisy preference pairs the proxy is fitted on: 1000 gives a good proxy, 100 a weak one."""
    prompt: str = PROMPT
    """What the model is asked; {topic} is replaced by the topic."""
    model: str = "bundled"
    """`bundled` (SmolLM2-135M-Instruct), a local folder, or a hub id. A folder that `train --export adapter` wrote is
    merged into its base, and training goes on from there."""
    max_steps: Count = 15
    """Optimizer steps, one per batch of samples."""
    prompts_per_step: Count = 8
    """Topics drawn per step."""
    samples: Annotated[int, Within(2, LARGEST, why="the leave-one-out baseline needs at least 2")] = 4
    """Responses per topic, at least 2 (leave-one-out baseline)."""
    max_new_tokens: Count = 20
    """Longest response, in tokens. A response that does not end by then is truncated: it has no EOS."""
    sampler: Literal["transformers", "static"] = "transformers"
    """Engine that draws samples. transformers: its `generate`. static: one decode step of fixed shape, on a GPU a CUDA
    graph; from the same seed the same tokens in float32."""
    optimizer: Optimizer = "adamw"
    """adamw (no weight decay) or sgd (no momentum)."""
    lr: Positive = 5e-5
    """Learning rate (constant)."""
    micro_batch_tokens: Count | None = None
    """Most tokens in one forward and backward pass (the samples of one topic stay together). Default: 1024 on a CPU,
    16384 on a GPU; config.json keeps what ran as `passes`."""
    dtype: Dtype = "float32"
    """bf16 runs the layers under autocast; weights, logits and log-probs stay float32."""
    max_grad_norm: Positive = 1.0
    """The gradient is scaled down to this norm if it is longer."""
    eval_every: Often = 0
    """Evaluate every so many steps besides before and after; 0: only then."""
    eval_samples: Count = 4
    """Fresh samples per topic in evaluations, of held-out topics (eval/) and of training topics (eval-train/)."""
    eval_on: Literal["both", "held-out"] = "both"
    """Topics of the evaluations: held-out and training topics, or held-out ones alone, in half of the time."""
    checkpoint_every: Often = 0
    """Write a checkpoint to resume from every so many steps; 0: never. It takes 12 bytes per parameter."""
    resume: bool = False
    """Go on with the run in `out` from its last checkpoint; the result is that of the uninterrupted run."""
    save: bool = True
    """Save the trained model in checkpoints/last (4 bytes per parameter)."""
    seed: Seed = 0
    """Seed of topics and samples. The same seed gives the same bits on a CPU, and on a GPU with `deterministic`."""
    deterministic: bool = False
    """Make a GPU give the same bits at every run, by kernels that are slower."""
    tracker: Tracker = "none"
    """Send the metrics there too, through accelerate (tensorboard writes into `out`; others need their package)."""
    out: Path = Path("runs/online")
    """Run folder. An earlier run there is moved aside, unless `resume`."""
    quiet: bool = False
    """Print nothing but errors."""
    format: Literal["text", "json"] = "text"
    """How the end is told; `json` prints nothing else, for machines."""

    def __post_init__(self) -> None:
        with input_errors():
            check_settings(self)
        if "{topic}" not in self.prompt:
            raise InputError(f"--prompt {self.prompt!r} does not say where the topic goes; write {{topic}} there")
        self.make_regularizer()
        self.make_gold()

    def require_places(self) -> None:
        """Refuse (InputError) a run folder that could not be made and a proxy that is not there."""
        require_out(self.out)
        if self.proxy and not (Path(self.proxy) / "proxy.json").is_file():
            raise InputError(f"--proxy {self.proxy}: no saved proxy there (a run keeps one in its folder `proxy`)")

    def make_regularizer(self) -> Regularizer:
        """The regularizer with its strength. Raises InputError, with the mend."""
        with input_errors():
            return parse_regularizer(self.regularizer, self.coefficient)

    def make_gold(self) -> "Gold":
        """The gold reward. Raises InputError, with the mend."""
        from llm.sampling.gold import parse_gold  # here, so that --help need not load VADER's lexicon

        return parse_gold(self.gold)
