"""Finitely many cases, each of them looked at: `Enumerated`."""

import dis
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import CodeType, ModuleType
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
        common = shared(first, second)
        if common:
            raise StepFailed(f"`confirm` is no second algorithm: it shares {', '.join(common)} with `holds`")
        if not all(map(looks_at_its_case, (*first, *second))):
            raise StepFailed("no test of the cases: a function that answers without looking at its case")
        if not any(map(looks_at_its_case, self.wrong.values())):
            raise StepFailed("there is no wrong version that the enumeration refutes (one that looks at its case)")
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


def reachable(function: Any) -> set[CodeType]:
    """The code of a function and of everything it can call, outside of libraries.

    By name, as an attribute of a module, as a default, in a closure or a container of one, or as a method of an object.
    """
    found: set[CodeType] = set()
    todo: list[Any] = [function]
    while todo:
        plain = todo.pop()
        if isinstance(plain, list | tuple | set | frozenset | dict):
            todo += [*plain.values()] if isinstance(plain, dict) else [*plain]
            continue
        plain = getattr(plain, "__func__", plain)
        if isinstance(plain, functools.partial):
            todo += [plain.func, *plain.args, *plain.keywords.values()]
        if not hasattr(plain, "__code__"):  # an object that can be called, or a function that is wrapped in C
            todo += [
                part for name in ("__call__", "__wrapped__") if hasattr(part := getattr(plain, name, 0), "__code__")
            ]
            continue
        code = plain.__code__
        if code in found or "site-packages" in code.co_filename:
            continue
        found.add(code)
        names = _names(code)
        for name in names:
            value = plain.__globals__.get(name)
            todo += [vars(value)[n] for n in names if n in vars(value)] if isinstance(value, ModuleType) else [value]
        todo += [plain.__defaults__, plain.__kwdefaults__, *(cell.cell_contents for cell in plain.__closure__ or ())]
        todo.append(getattr(plain, "__wrapped__", None))
    return found


def _names(code: CodeType) -> set[str]:
    """What a function mentions, in functions and comprehensions written inside of it as well."""
    inner = [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return set(code.co_names).union(*map(_names, inner))


def _text(code: CodeType) -> tuple[object, ...]:
    """What a function does, whatever its name and those of its variables are."""
    constants = tuple(_text(c) if isinstance(c, CodeType) else c for c in code.co_consts if not isinstance(c, str))
    return code.co_code, code.co_names, constants


def shared(first: Iterable[Any], second: Iterable[Any]) -> list[str]:
    """Names of the functions that both use, or that do the same step by step."""
    left, right = (set().union(*map(reachable, functions)) for functions in (first, second))
    same = {_text(code) for code in left} & {_text(code) for code in right}
    return sorted({code.co_name for code in left if code in right or _text(code) in same})


def looks_at_its_case(function: Any) -> bool:
    """Whether the function can depend on what it is given: one that never reads its argument is no test of it."""
    code = getattr(function, "__code__", None)
    if code is None or not code.co_argcount:
        return True
    case = code.co_varnames[0]
    reads = any(step.argval == case for step in dis.get_instructions(code) if step.opname.startswith("LOAD_FAST"))
    return reads or case in code.co_cellvars
