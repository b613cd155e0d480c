"""Settings of an online run: the dataclass that is the command line, the sweep's grid and the Python interface."""

import os
from dataclasses import dataclass
from typing import Annotated

from derivations.cli.settings import OneOf, Within, check_settings
from derivations.names import parse_regularizer
from toybandit.compiled import check_device
from toybandit.interventions import SETS
from toybandit.learners import OPTIMIZERS
from toybandit.proxy import PROXIES

WORLDS = ("tabular", "shared", "tree")
DTYPES = ("float32", "float64")
ENGINES = ("numpy", "compiled")
OPTIMUM = "optimum"


@dataclass(frozen=True)
class Settings:
    """An online run in a world whose gold reward is known."""

    world: Annotated[str, OneOf(*WORLDS)] = "tabular"
    """World: tabular (4 prompts, 100 independent arms), shared (a log-linear policy, 6 prompts) or tree (tokens)."""
    proxy: Annotated[str, OneOf(*PROXIES)] = "fitted"
    """Reward that is optimized: fitted (a reward model of preference pairs), exact (the gold reward: the control),
    iid or heavy-tailed (gold plus noise), linear (a reward model on features; shared world)."""
    regularizer: str = "entropy"
    """Penalty: entropy, kl, length-normalized, length-normalized-shannon, forward-kl, jensen-shannon,
    alpha-divergence (with :order), none, a sum such as entropy=0.5+kl=0.1, or a formula that `python -m derivations
    derive` accepts, such as "beta*(p*log(p/q) + p**2/(2*q))"."""
    coefficient: float | None = None
    """Strength of the regularizer, reward units per nat: alpha of entropy, beta of the others, the one
    open strength of a formula. Typical: 0.1 to 1."""
    seeds: Annotated[int, Within(2)] = 100
    """How many worlds are drawn, at least 2; means and 95 % intervals are over them."""
    seed: Annotated[int, Within(0)] = 0
    """Root of all random numbers. The same seed gives the same bits."""
    lr: Annotated[float, Within(0, open=True)] = 0.2
    """Step size of the policy gradient. Time is t = lr * steps, so a smaller one only slows the clock."""
    steps: Annotated[int, Within(0)] = 2500
    """Gradient steps. 0 measures the reference policy."""
    method: Annotated[str, OneOf("softmax", "natural", "rloo", OPTIMUM)] = "softmax"
    """Gradient: softmax (exact, in the logits), natural (exact mirror ascent; tabular world), rloo (sampled), or
    optimum: jump to the exact optimum in one step (its regularizer needs a coefficient > 0)."""
    optimizer: Annotated[str, OneOf(*OPTIMIZERS)] = "sgd"
    """Optimizer: sgd or adam."""
    samples: Annotated[int, Within(2)] = 4
    """Samples per prompt and step, for method rloo; at least 2."""
    pairs: Annotated[int, Within(1)] = 300
    """Preference pairs drawn per prompt, before pairs of one arm with itself are dropped."""
    prior_scale: Annotated[float, Within(0)] = 1.0
    """Spread of the fitted reward model's random initialization, reward units. 0: it shrinks to 0 off the data."""
    noise: Annotated[float, Within(0)] = 1.0
    """Scale of the noise of the iid and heavy-tailed proxies, reward units."""
    pessimism: Annotated[float, Within(0)] = 0.0
    """Standard errors of the fitted reward model that are taken off its rewards."""
    knowledge: Annotated[float, Within(-1, 1)] = 0.6
    """rho, in [-1, 1]: correlation of the reference's scores with the gold reward."""
    quad: Annotated[float, Within(0)] = 1.0
    """Quadratic cost in the shared world that the linear reward model cannot see. 0: the control."""
    prompts: Annotated[int | None, Within(1)] = None
    """Prompts of a world (default: 4; shared world: 6)."""
    arms: Annotated[int | None, Within(2)] = None
    """Responses per prompt, at least 2 (default: 100; the tree has 31)."""
    gold_on: Annotated[str, OneOf(*SETS)] = "none"
    """Intervention: arms on which the proxy is replaced by the gold reward: none, rare (at most 5 comparisons),
    common (the others) or all."""
    gold_level: Annotated[str, OneOf("true", "kept")] = "true"
    """How gold_on places the replaced arms: true (the gold reward itself), or kept (shifted so that their mean stays
    the proxy's: only the order among them is corrected)."""
    regularize_on: Annotated[str, OneOf(*SETS)] = "all"
    """Intervention: arms the regularizer acts on: all, rare, common or none."""
    dtype: Annotated[str, OneOf(*DTYPES)] = "float32"
    """Precision of the gradient steps: float32 or float64. Metrics are always float64."""
    engine: Annotated[str, OneOf(*ENGINES)] = "numpy"
    """numpy, or compiled: the same step through torch.compile (needs torch; pays off for large sweeps)."""
    device: str = "cpu"
    """Device of the compiled engine: cpu or cuda."""

    def __post_init__(self) -> None:
        check_settings(self, Settings)
        parse_regularizer(self.regularizer, self.coefficient)
        self._check_combination()

    def _check_combination(self) -> None:
        if self.proxy == "linear" and self.world != "shared":
            raise ValueError(f"proxy linear needs features, which world {self.world} has not; use --world shared")
        if self.pessimism and self.proxy != "fitted":
            raise ValueError(f"--pessimism needs the standard errors of proxy fitted; {self.proxy} has none")
        if self.arms and self.world == "tree":
            raise ValueError("--arms: the tree always has 31 responses; leave the option out")
        if self.method == "natural" and (self.world != "tabular" or self.optimizer != "sgd"):
            raise ValueError("--method natural is for --world tabular and --optimizer sgd; use softmax here")
        if self.method == OPTIMUM and (self.world == "shared" or self.regularize_on != "all"):
            raise ValueError("--method optimum needs a policy that can be any distribution and a penalty on all arms")
        if self.engine == "compiled":
            if self.method in ("rloo", OPTIMUM) or self.optimizer != "sgd" or self.world != "tabular":
                raise ValueError(
                    "--engine compiled runs softmax and natural gradient with sgd in the tabular world; use numpy here"
                )
            check_device(self.device)
        elif self.device != "cpu":
            raise ValueError(f"--device {self.device} is for --engine compiled; the numpy engine runs on cpu")

    @property
    def label(self) -> str:
        """The regularizer and its strength, for tables and legends."""
        plain = self.coefficient is None or "=" in self.regularizer or self.regularizer == "none"
        return self.regularizer if plain else f"{self.regularizer} {self.coefficient:g}"


def check_size(*, seeds: int, prompts: int, arms: int, pairs: int) -> None:
    """Raise ValueError where a draw would not fit into this machine's memory.

    Bytes: wins of every arm over every other, [seeds, prompts, arms, arms] in float64, twice; and of a pair two arms
    and its label, about 40.
    """
    need = seeds * prompts * (16 * arms**2 + 40 * pairs)
    have = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if need > have:
        raise ValueError(
            f"{seeds} seeds x {prompts} prompts of {arms} arms and {pairs} pairs need about {need / 2**30:.0f} GiB of "
            f"memory, and there are {have / 2**30:.0f}; lower --arms, --pairs or --seeds"
        )
