"""Settings of `train`. One dataclass is the command line, the Python API and the saved config.json.

Nothing here needs torch, so `--help` and every refusal of a wrong option answer at once.

Units: log-probs, entropy and KL are in nats per response, lengths in tokens. A strength (alpha, beta)
is in reward units per nat, a margin (gamma) in reward units.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from derivations.cli.errors import InputError, input_errors
from derivations.cli.settings import Within, check_settings
from derivations.published import PUBLISHED_OPTIONS, UNPAIRED, Trained, make_trained
from llm.data.containers import require_source
from llm.data.row_formats.mapping import read_mapping
from llm.engine.jsonl import require_out

Dtype = Literal["float32", "bf16"]
Shape = Literal[
    "auto", "openai", "nemo", "nectar", "ultrafeedback", "stack-exchange", "vertex", "oasst", "ms-swift", "pairs",
    "orca", "argilla", "alpaca", "alpaca-ranked", "sharegpt", "axolotl", "argilla-ranking", "scored", "rankings",
    "helpsteer2", "helpsteer3", "pku-saferlhf", "shp", "arena", "arena-conversations", "arena-votes", "webgpt",
    "summaries", "choice", "kto", "rated", "transcripts",
]  # fmt: skip
LARGEST = 2**31 - 1
Count = Annotated[int, Within(1, LARGEST)]
Often = Annotated[int, Within(0, LARGEST)]  # a number that may be 0: never, or none
Positive = Annotated[float, Within(0, open=True)]
Seed = Annotated[int, Within(0, 2**32 // 100_003 - 1)]
Tracker = Literal["none", "tensorboard", "wandb", "trackio", "mlflow"]

MOST_COMPARISONS = 10**8  # seen in one run; their order is kept in memory

# What a user who names only the objective gets: the strengths used most often for it.
DEFAULT_OPTIONS: dict[str, dict[str, float]] = {
    "dpo": {"beta": 0.1},
    "cdpo": {"beta": 0.1, "label_smoothing": 0.1},
    "ipo": {"beta": 0.1},
    "f-dpo": {"beta": 0.1},
    "simpo": {"beta": 2.0, "gamma": 1.0},
    "simpo-shannon": {"beta": 2.0, "gamma": 1.0},
    "maxent": {"alpha": 0.05},
    "dpo-pl": {"beta": 0.1},
    "f-dpo-pl": {"beta": 0.1},
    "simpo-pl": {"beta": 2.0},
    "simpo-shannon-pl": {"beta": 2.0},
    "maxent-pl": {"alpha": 0.05},
    **UNPAIRED,
    **PUBLISHED_OPTIONS,
}
OPTIONS = (
    *("alpha", "beta", "gamma", "divergence", "order", "label_smoothing", "top"),
    *("desirable_weight", "undesirable_weight", "penalty"),
)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Train a language model on preference pairs or rankings, offline, with any objective of the ground floor.

    Writes a run folder: config.json, metrics.jsonl (one line per step), examples.jsonl (one line per comparison and
    step), samples.jsonl, summary.json and checkpoints/last. `--recipe NAME` sets defaults for large models.

    Example: python -m llm train --objective simpo --data pairs.jsonl --out runs/simpo

    Example: python -m llm train --objective dpo --lora-rank 16 --dtype bf16 --data pairs.jsonl --out runs/lora
    """

    objective: str
    """On pairs: dpo, cdpo, ipo, f-dpo, simpo, simpo-shannon, maxent. On rankings (and pairs): dpo-pl, f-dpo-pl,
    simpo-pl, simpo-shannon-pl, maxent-pl. THEORY 1 and 2.3 to 2.8. On single responses that are good or bad: kto.
    Published losses on pairs that are no likelihood of an implicit reward, or only of another one: orpo, dpop,
    apo-zero, apo-down, slic, chi-po, r-dpo, ln-dpo, wpo, sppo."""
    data: str | None = None
    """Preferences: a JSON, JSONL (either as .gz), Parquet, CSV or TSV file, or a hub data set owner/name[:split], of
    any format that `--shape` names; `inspect-data` shows how it is read. A pairwise objective takes of a ranking
    every two responses of which one is better. A prompt whose last message is the assistant's is continued: responses
    go on from it in the same turn, as they are. Without it, comparisons are sampled from the model itself, ranked by
    the gold reward, and cached."""
    eval_data: str | None = None
    """Comparisons for evaluation, all of them used. Without it, `eval_size` are split off `data` by the seed."""
    shape: Shape = "auto"
    """Format of the data; auto goes by the fields of each row and prints what it found."""
    map: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Fields of the data by other names, as THEIRS=OURS; OURS: prompt, chosen, rejected, system, messages, responses,
    scores, ranking, completion, label. A dot reaches into an object."""
    eval_size: Count = 24
    """Number of comparisons held out, evaluated before and after training; at most a fifth of the data. Comparisons
    of one prompt stay together."""
    samples: Often = 3
    """Evaluation prompts of which a continuation is sampled at each evaluation; 0: none."""
    model: str = "bundled"
    """`bundled` (SmolLM2-135M-Instruct), a local folder, or a hub id. A folder that `--export adapter` wrote is merged
    into its base, and training goes on from there, with new adapters (`lora_rank`) or without."""
    beta: float | None = None
    """Strength of the dpo, ipo (default 0.1) and simpo forms (default 2.0), reward units per nat; simpo's and ln-dpo's
    (5.0) act on the mean log-prob per token, the others' on the sum over tokens. Of orpo the weight of the odds
    ratio (0.1), of sppo 1/eta (0.001), of the other losses as of dpo."""
    gamma: float | None = None
    """Margin of simpo (default 1.0) and maxent (0), reward units. Codes that take gamma/beta = rho mean gamma =
    beta * rho."""
    alpha: float | None = None
    """Temperature of maxent (default 0.05), reward units per nat, on the sum over tokens. Of r-dpo the price of length
    (default 0.05), reward units per token."""
    divergence: str | None = None
    """Of f-dpo: kl, forward-kl, jensen-shannon or alpha-divergence."""
    order: float | None = None
    """Order of the alpha-divergence, in (0, 1); default 0.5."""
    label_smoothing: float | None = None
    """Assumed share of flipped labels, in [0, 1/2); cdpo's default is 0.1, the others' 0."""
    desirable_weight: float | None = None
    """Of kto: weight of the loss of good responses (default 1)."""
    undesirable_weight: float | None = None
    """Of kto: weight of the loss of bad responses (default 1)."""
    penalty: float | None = None
    """Of dpop: weight of what a chosen response has lost (default 50)."""
    top: int | None = None
    """Of rankings: how many first places were observed (default: all)."""
    reference: Literal["precompute", "every-step"] = "precompute"
    """Reference log-probs once before training (cached by content), or beside the policy at every step."""
    lora_rank: Often = 0
    """Train low-rank adapters of this rank on every linear layer but the head; 0 trains all weights."""
    lora_alpha: Positive = 16.0
    """Scale of the adapters: their product is multiplied by lora_alpha / lora_rank."""
    lr: Positive = 1e-5
    """Peak learning rate of AdamW (no weight decay)."""
    schedule: Literal["cosine", "constant"] = "cosine"
    """cosine: a tenth of the steps up to `lr`, then down to 0 along a cosine; constant: `lr` throughout."""
    max_steps: Count = 20
    """Optimizer steps."""
    batch_size: Count = 4
    """Comparisons per optimizer step, over all processes."""
    micro_batch_size: Count | None = None
    """Most comparisons in one forward pass (default: as many as `micro_batch_tokens` hold). Less memory when
    smaller; the gradient is the same."""
    micro_batch_tokens: Count | None = None
    """Most tokens in one forward pass, unless one comparison alone is longer. Default: 512 on a CPU, 16384 on
    a GPU; config.json keeps what ran as `passes`."""
    max_length: Annotated[int, Within(2, LARGEST, why="prompt and response need a token each")] | None = None
    """Most tokens of prompt and response together. Longer responses are cut (without EOS); prompts longer
    than half of it are skipped and counted where a response would be cut. Default: chosen from the data so that 95 %
    of the comparisons fit whole, within what the model has room for; config.json keeps it."""
    dtype: Dtype = "float32"
    """bf16 runs the layers under autocast; weights, logits and log-probs stay float32."""
    gradient_checkpointing: bool = False
    """Recompute each layer in the backward pass: less memory, about a third more time."""
    shard: bool = False
    """Spread weights, gradients and moments over the processes (FSDP2) instead of a copy in each: for models that one
    GPU cannot hold. The numbers are those of one process."""
    attention: Literal["packed", "flex_attention"] = "packed"
    """packed: on a CPU one call per sequence, on a GPU one masked call. flex_attention (GPU) skips masked blocks."""
    compile_layers: bool = False
    """Compile each decoder layer (torch.compile): a wait at the start, then fewer kernels. float32 log-probs differ
    from uncompiled ones by up to 2e-5 nats per token."""
    max_grad_norm: Positive = 1.0
    """The gradient is scaled down to this norm if it is longer."""
    eval_every: Often = 0
    """Evaluate every so many steps besides before and after; 0: only then."""
    patience: Often = 0
    """Stop after so many evaluations without a new best eval/loss (needs `eval_every`); 0: never."""
    checkpoint_every: Often = 50
    """Write a checkpoint to resume from every so many steps; 0: never. It takes 4 bytes per parameter, and 8 more if
    it is trained."""
    resume: bool = False
    """Go on with the run in `out` from its last checkpoint; the result is that of the uninterrupted run."""
    tracker: Tracker = "none"
    """Send the metrics there too, through accelerate (tensorboard writes into `out`; others need their package)."""
    save: bool = True
    """Save the trained model with its card in checkpoints/last (4 bytes per parameter)."""
    export: Literal["merged", "adapter"] = "merged"
    """Of a model with adapters: fold them into the weights, or save them alone."""
    plan: bool = False
    """Print parameters, memory and tokens per step, and stop; nothing is loaded or written."""
    plan_processes: Count = 1
    """Processes that `plan` counts for; how many really run is the launcher's to say."""
    seed: Seed = 0
    """Seed of data split, order and samples. The same seed gives the same bits on a CPU, and on a GPU with
    `deterministic`."""
    deterministic: bool = False
    """Make a GPU give the same bits at every run, by kernels that are slower. Not with flex_attention or
    `compile_layers`."""
    out: Path = Path("runs/train")
    """Run folder. An earlier run there is moved aside, unless `resume`."""
    quiet: bool = False
    """Print nothing but errors."""
    format: Literal["text", "json"] = "text"
    """How the end is told; `json` prints nothing else, for machines."""

    def __post_init__(self) -> None:
        with input_errors():
            check_settings(self)
        for name, said in (("attention", "--attention flex_attention"), ("compile_layers", "--compile-layers")):
            if self.deterministic and getattr(self, name) in (True, "flex_attention"):
                raise InputError(f"--deterministic cannot be kept by the compiled kernels of {said}; leave one out")
        if self.export == "adapter" and not self.lora_rank:
            raise InputError("--export adapter needs adapters; give --lora-rank")
        if self.shard:
            self._require_shardable()
        if self.patience and not self.eval_every:
            raise InputError(f"--patience {self.patience} needs evaluations in between; give --eval-every")
        if self.max_steps * self.batch_size > MOST_COMPARISONS:
            raise InputError(
                f"--max-steps {self.max_steps} x --batch-size {self.batch_size}: at most {MOST_COMPARISONS:,}"
            )
        read_mapping(self.map)
        self.make_objective()
        if self.objective in UNPAIRED:
            self._require_unpaired()

    def _require_shardable(self) -> None:
        if self.lora_rank:
            raise InputError("--shard trains all weights; adapters are small, so train them with --no-shard")
        if self.reference == "every-step":
            raise InputError("--shard takes --reference precompute: a second model beside the policy is not spread")
        if self.attention != "packed":
            raise InputError("--shard takes --attention packed: rows of one width would have to be as long as a pass")
        if self.plan and self.plan_processes == 1:
            raise InputError("--plan with --shard needs the number of processes; give --plan-processes")
        if self.data is None and not self.plan:
            raise InputError("--shard needs --data: to write comparisons itself, a model must be whole")

    def _require_unpaired(self) -> None:
        if self.batch_size < 2:
            raise InputError(
                f"--batch-size {self.batch_size}: {self.objective} estimates its reference point from prompts with "
                "other prompts' responses, so a step takes 2 or more"
            )
        if self.data is None and not self.plan:
            raise InputError(f"--objective {self.objective} needs --data: responses that are good or bad, or pairs")

    def require_places(self) -> None:
        """Refuse (InputError) data that is not there and a run folder that could not be made."""
        for name in (self.data, self.eval_data):
            if name is not None:
                require_source(name)
        require_out(self.out)

    def make_objective(self) -> Trained:
        """The objective with its options, defaults filled in. Raises InputError, with the mend."""
        given = {name: getattr(self, name) for name in OPTIONS if getattr(self, name) is not None}
        defaults: dict[str, Any] = DEFAULT_OPTIONS.get(self.objective, {})
        with input_errors():
            return make_trained(self.objective, **(defaults | given))
