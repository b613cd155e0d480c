"""What the online experiment is made of: its protocol, checked whole before anything runs, and its runs in order."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from derivations.cli.errors import InputError, input_errors, suggest
from derivations.evidence.protocol import read_protocol_file
from derivations.names import make_objective, parse_regularizer
from llm.settings.online import OnlineConfig

PROTOCOL = Path(__file__).with_name("online.toml")
EXPECTED = ("at_least", "at_most", "between")
HOW = ("change", "after", "drift", "clock", "kept", "spread")
ROLES = ("headline", "control", "condition")
PREFIXES = ("eval/", "eval-train/", "retention/")
# How a run is made and kept is the runner's business.
OURS: dict[str, Any] = {"out": Path("run"), "save": False, "quiet": True}


@dataclass(frozen=True)
class Run:
    """One run: its arm, the group of arms it belongs to, its seed, and the options of `llm online`."""

    arm: str
    group: str
    seed: int
    options: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.arm}-seed{self.seed}"

    def config(self, out: Path) -> OnlineConfig:
        return OnlineConfig(**self.options, seed=self.seed, **(OURS | {"out": out}))


@dataclass(frozen=True)
class Plan:
    """A protocol and its runs, group by group and within a group seed by seed.

    fingerprint: of the file's text. kernel: measurements without training, one per seed (`online_kernel`).
    """

    protocol: dict[str, Any]
    fingerprint: str
    runs: tuple[Run, ...]
    kernel: tuple[Run, ...]

    @property
    def arms(self) -> dict[str, str]:
        """Group of every arm, in the order of the protocol."""
        return {run.arm: run.group for run in self.runs}


def read_plan(path: Path) -> Plan:
    """The plan of a protocol file. Raises InputError for settings, arms or checks that could not be run or judged."""
    found = read_protocol_file(path)
    protocol, fingerprint = found.tables, found.fingerprint
    for name in ("seeds", "least_seeds", "texts", "seconds", "common", "groups", "kernel", "toy", "claims", "least"):
        if name not in protocol:
            raise InputError(f"{path} has no {name!r}; start from {PROTOCOL.name}")
    runs = tuple(
        Run(arm, name, seed, protocol["common"] | group["options"] | options)
        for name, group in protocol["groups"].items()
        for seed in range(protocol["seeds"])
        for arm, options in group["arms"].items()
    )
    if len({run.name for run in runs}) < len(runs):
        raise InputError(f"{path}: an arm stands in two groups")
    for run in runs:
        try:
            run.config(Path("run"))
        except (TypeError, InputError) as error:
            raise InputError(f"{path}: arm {run.arm}: {error}") from None
    kernel = tuple(Run("kernel", "kernel", seed, {}) for seed in range(protocol["kernel"]["seeds"]))
    plan = Plan(protocol, fingerprint, runs, kernel)
    for arm, regularizer in protocol["toy"]["pairs"].items():
        with input_errors(f"{path}: [toy]: "):
            require_arm(arm, plan.arms)
            parse_regularizer(regularizer, None)
    with input_errors(f"{path}: [toy.offline]: "):
        for name, options in protocol["toy"]["offline"]["objectives"].items():
            make_objective(name, **options)
    for claim in protocol["claims"]:
        for check in claim["checks"]:
            with input_errors(f"{path}: claim {claim['says']!r}: "):
                require_judgeable(check, plan.arms)
    return plan


def require_arm(name: str, arms: Iterable[str]) -> None:
    """Raise ValueError for an arm that the protocol does not have."""
    if name not in arms:
        raise ValueError(f"unknown arm {name!r}{suggest(name, list(arms))}")


def require_judgeable(check: dict[str, Any], arms: Iterable[str]) -> None:
    """Raise ValueError for a check whose arm, metric, way or bound is none."""
    for side in ("arm", "minus"):
        name = check.get(side, "" if side == "minus" else None)
        if name != "":
            require_arm(str(name).removesuffix("@half"), arms)
    how = check.get("how", "change")
    if how not in HOW:
        raise ValueError(f"unknown how {how!r}{suggest(str(how), list(HOW))}")
    if check.get("role", "headline") not in ROLES:
        raise ValueError(f"role is {check['role']!r}, expected one of {', '.join(ROLES)}")
    if how != "clock" and not str(check.get("metric")).startswith(PREFIXES):
        raise ValueError(f"metric is {check.get('metric')!r}, expected one under {', '.join(PREFIXES)}")
    if how == "clock" and "alpha" not in check:
        raise ValueError("how = clock needs alpha")
    if how in ("kept", "spread") and "minus" not in check:
        raise ValueError(f"how = {how} compares two arms; give minus")
    if sum(name in check for name in EXPECTED) != 1:
        raise ValueError(f"a check needs one of {', '.join(EXPECTED)}")
