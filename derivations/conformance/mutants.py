"""Planted bugs in the place of a user's function: the same parameters by the same names, the same shape of answer."""

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from derivations.cli.errors import InputError
from derivations.conformance import Trial, try_laws
from derivations.conformance.batches import batch_of, join
from derivations.conformance.calls import with_loss
from derivations.conformance.conventions import CONVENTIONS
from derivations.conformance.laws import all_laws
from derivations.conformance.loss_under_test import Subject
from derivations.conformance.planted_bugs import BUGS, Bug

# laws that between them see every bug of the zoo, and say how bad it is by how many fail
TELLING = (
    *("value", "gradient", "padding", "mask-leak", "permutation", "pure", "options-live", "conventions", "upstream"),
    "partition",
    *("extremes", "every-token", "expected-gradient", "at-ratio-one", "clip-stops", "clip-returns", "old-policy-live"),
    *("reward-shift", "equal-rewards", "prompts-apart", "standardized", "no-clamp", "no-gradient", "response-kl"),
)


@dataclass(frozen=True)
class Mutant:
    """A planted bug with the signature of the user's function, and the laws that it breaks."""

    bug: Bug
    subject: Subject
    trials: tuple[Trial, ...]

    @property
    def breaks(self) -> tuple[str, ...]:
        """Verdict laws that it breaks."""
        return tuple(trial.law.id for trial in self.trials)


def mutants_of(subject: Subject) -> list[Mutant]:
    """The planted bugs of the objective that the laws see through the user's signature, worst first.

    A function of sums has no mask to get wrong, so the bugs of masks are none of its own. InputError if no bug is left.
    """
    found = []
    quick = [law for law in all_laws() if law.id in TELLING]
    for bug in BUGS:
        if bug.objective != subject.target.name:
            continue
        function = disguised(bug, subject)
        if function is None:
            continue
        mutant = replace(subject, function=function)
        broken = tuple(trial for trial in try_laws(mutant, quick) if trial.failed)
        if broken:
            found.append(Mutant(bug, mutant, broken))
    if not found:
        raise InputError(f"no bug is planted for {subject.target.name} that this signature could show")
    return sorted(found, key=lambda mutant: -len(mutant.trials))


def disguised(bug: Bug, subject: Subject) -> Callable[..., Any] | None:
    """The bug behind the user's parameters; None if they do not have what it reads."""
    wrong = bug.function
    reads = inspect.signature(wrong).parameters
    options = {ours: parameter for parameter, ours in subject.takes.items()}
    given = set(subject.names.values())
    arrays = [name for name in reads if name in subject.target.family.derive(_small(subject))]
    if not {name for name in arrays if name not in given} <= _made_of_sums(given):
        return None
    each = subject.run(join(subject.target.family, batch_of(subject.target.family)[:2]), gradient=False).value.ndim == 1
    signature = inspect.signature(getattr(subject.function, "forward", subject.function))

    @functools.wraps(subject.function)
    def mutant(*args: Any, **kwargs: Any) -> Any:
        loss = wrong_loss(*args, **kwargs)
        return with_loss(subject.function(*args, **kwargs), loss) if subject.part else loss

    def wrong_loss(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        named = {ours: bound.arguments[theirs] for theirs, ours in subject.names.items()}
        named = tokens_from_sums(named) | named
        chosen = {name: bound.arguments[options[name]] for name in reads if name in options}
        for theirs, ours in subject.takes.items():
            if ours in CONVENTIONS and CONVENTIONS[ours][0] in reads:
                known = {o: bound.arguments[t] for t, o in subject.takes.items()}
                chosen[CONVENTIONS[ours][0]] = CONVENTIONS[ours][1](bound.arguments[theirs], known)
        fixed = {n: v for n, v in bug.options.items() if n in reads and n not in chosen}
        result = wrong(**{name: named[name] for name in arrays}, **fixed, **chosen)
        if each and result.ndim == 0:  # it averages: example by example, then
            rows = range(len(next(iter(named.values()))))
            parts = [wrong(**{n: named[n][i : i + 1] for n in arrays}, **fixed, **chosen) for i in rows]
            return _stack(parts)
        return result if each else result.mean()

    return mutant


def _stack(parts: list[Any]) -> Any:
    import torch

    return torch.stack([part.reshape(()) for part in parts])


def _small(subject: Subject) -> dict[str, Any]:
    return {name: subject.backend.array(array) for name, array in subject.examples[0].items()}


def _made_of_sums(given: set[str]) -> set[str]:
    """Per-token arrays that can be made of the sums that are given."""
    made = set()
    for side in ("chosen_", "rejected_", ""):
        for kind in ("logp", "mean_logp"):
            if f"{side}{kind}" in given:
                made |= {f"{side}logps", f"{side}mask"}
            if f"ref_{side}{kind}" in given:
                made.add(f"ref_{side}logps")
    return made


def tokens_from_sums(named: dict[str, Any]) -> dict[str, Any]:
    """Tokens that add up to the given sums: as many as the length says, all alike; one, where no length is given."""
    import torch

    sums = {name.replace("mean_logp", "logp"): array for name, array in named.items() if name.endswith("mean_logp")}
    named, found = named | sums, {}  # a mean is the sum of one token
    for side in ("chosen_", "rejected_", ""):
        if f"{side}logp" not in named:
            continue
        logp = torch.as_tensor(named[f"{side}logp"])
        length = torch.as_tensor(named.get(f"{side}length", torch.ones_like(logp.detach()))).detach()
        width = max(1, int(length.max()))
        mask = torch.arange(width) < length[:, None]
        for prefix in ("", "ref_"):
            if f"{prefix}{side}logp" in named:
                total = torch.as_tensor(named[f"{prefix}{side}logp"])
                found[f"{prefix}{side}logps"] = (total / length)[:, None].expand(-1, width)
        found[f"{side}mask"] = mask
    return found
