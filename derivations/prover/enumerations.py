"""Finitely many cases, each of them looked at: `Enumerated`."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import CodeType
from typing import Any

from derivations.prover.steps import InternalError, Mutant, Step, StepFailed


@dataclass(frozen=True)
class Enumerated(Step):
    """A statement about finitely many cases; it says nothing about any other.

    cases: what to look at. holds: the statement about one case. confirm: the same by another algorithm, which may
    share no function with `holds`. wrong: named wrong versions of `holds`, at least one; each must fail for some case.
    """

    cases: Callable[[], Iterator[Any]]
    holds: Callable[[Any], bool]
    confirm: Callable[[Any], bool]
    wrong: Mapping[str, Callable[[Any], bool]]

    procedures = ("exhaustive enumeration", "a second algorithm")

    def check(self) -> None:
        first, second = self.algorithms()
        shared = set().union(*map(reachable, first)) & set().union(*map(reachable, second))
        if shared:
            names = ", ".join(sorted(code.co_name for code in shared))
            raise StepFailed(f"`confirm` is no second algorithm: it shares {names} with `holds`")
        if not self.wrong:
            raise StepFailed("there is no wrong version that the enumeration refutes")
        cases = list(self.cases())  # all of them, so that cases which cannot be made break the proof off
        for case in cases:
            if not self.holds(case):
                raise StepFailed(f"does not hold for {case}")
            if not self.confirm(case):
                raise InternalError(f"two algorithms disagree on {case}: {self.statement}")
        if not cases:
            raise StepFailed("there is no case to look at")

    @property
    def count(self) -> int:
        """How many cases there are."""
        return sum(1 for _ in self.cases())

    def algorithms(self) -> tuple[tuple[Callable[[Any], bool], ...], tuple[Callable[[Any], bool], ...]]:
        """The functions of the first and of the second procedure."""
        return (self.holds,), (self.confirm,)

    def mutants(self, per_side: int) -> Iterator[Mutant]:
        for name, holds in self.wrong.items():
            yield Mutant((name,), "survived" if all(map(holds, self.cases())) else "refuted")


def reachable(function: Callable[..., Any]) -> set[CodeType]:
    """The code of a function and of everything it can call by name, outside of libraries."""
    found: set[CodeType] = set()
    todo: list[Any] = [function]
    while todo:
        code = getattr(todo[-1], "__code__", None)
        plain = todo.pop()
        if hasattr(plain, "func"):  # functools.partial
            todo += [plain.func, *plain.args, *plain.keywords.values()]
        if code is None or code in found or "site-packages" in code.co_filename:
            continue
        found.add(code)
        names = set(code.co_names)
        for constant in code.co_consts:  # functions and comprehensions written inside
            if isinstance(constant, CodeType):
                names |= set(constant.co_names)
        space = plain.__globals__
        todo += [space[name] for name in names if callable(space.get(name))]
        todo += [cell.cell_contents for cell in plain.__closure__ or () if callable(cell.cell_contents)]
    return found
