"""Obligations of what is written down, and gone before a step is made: e^(log a) becomes a, and a/a becomes 1.

SymPy rewrites as it builds. So while a claim makes its steps, `writing` notes the argument of each logarithm, every
power, root and divisor and what a substitution leaves, and `not_allowed` asks the same of them as of what stands
in a step. It notes calls of SymPy's algorithms as well, whose answers nobody looks at a second time.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import sympy as sp

from derivations.prover import derivatives
from derivations.prover.domains import Unit, visibly_positive
from derivations.prover.obligations import power_undefined, undefined

# (log, power, divisor, substituted, replaced or answer; expressions) -> nothing: a set that keeps the order
Written = dict[tuple[str, Any], None]
ROOTS = {"sqrt", "root", "cbrt", "real_root"}  # SymPy's functions that make a power of what they are given
# what SymPy computes, and no second procedure of ours checks
ALGORITHMS = (
    "limit", "integrate", "series", "simplify", "cancel", "together", "apart", "factor", "nsimplify", "radsimp",
    "trigsimp", "powsimp", "logcombine",
)  # fmt: skip
OTHER_ALGORITHMS = (
    "summation", "product", "solve", "solveset", "dsolve", "refine", "powdenest", "expand_log", "minimum", "maximum",
    "Limit", "Integral", "Sum", "Product", "Derivative",
)  # fmt: skip
ASKED = frozenset(ALGORITHMS + OTHER_ALGORITHMS)


@contextlib.contextmanager
def writing() -> Iterator[Written]:
    """Collect what code outside of SymPy writes in the block, and which of SymPy's algorithms it asks."""
    written: Written = {}

    def watched(name: str, note: Callable[..., None]) -> Callable[[Any], Any]:
        def around(original: Any) -> Any:
            def call(*arguments: Any, **options: Any) -> Any:
                found = original(*arguments, **options)
                if (module := _caller(sys._getframe(1))) and (name not in ASKED or _a_proof(module)):
                    note(found, *arguments)
                return found

            return call

        return around

    def note(kind: str, value: Any) -> None:
        if isinstance(value, sp.Expr) and not value.is_Rational:
            written[kind, value] = None

    def power(found: Any, base: Any, exponent: Any, *rest: Any) -> None:
        base, exponent = sp.sympify(base), sp.sympify(exponent)
        if not base.is_Rational and exponent is not sp.nan:
            written["power", (base, exponent)] = None

    def put(found: Any, self: Any, *what: Any) -> None:
        note("substituted", found)
        pairs = (what,) if len(what) == 2 else what[0].items() if hasattr(what[0], "items") else what[0]
        written.update((("replaced", tuple(map(sp.sympify, pair))), None) for pair in pairs)

    places: list[tuple[Any, str, Callable[[Any], Any]]] = [
        (sp.log, "__new__", watched("log", lambda found, cls, inside, *base: note("log", sp.sympify(inside)))),
        (sp.Pow, "__new__", watched("power", lambda found, cls, *parts: power(found, *parts))),
        (sp.Expr, "__pow__", watched("power of", power)),
        (sp.Basic, "subs", watched("subs", put)),
        (sp.Basic, "xreplace", watched("xreplace", put)),
    ]
    for numbers in (sp.Expr, sp.Rational, sp.Integer):
        places.append((numbers, "__truediv__", watched("over", lambda found, self, other: note("divisor", other))))
        places.append((numbers, "__rtruediv__", watched("under", lambda found, self, other: note("divisor", self))))
    for name in (*ALGORITHMS, *OTHER_ALGORITHMS):
        asked = watched(name, lambda found, *_, name=name: written.__setitem__(("answer", name), None))
        places += [(owner, name, asked) for owner in (sp, sp.Expr) if hasattr(owner, name)]
    with contextlib.ExitStack() as patches:
        for owner, name, around in places:
            patches.callback(_patch(owner, name, around))
        yield written


def _patch(owner: Any, name: str, around: Callable[[Any], Any]) -> Callable[[], None]:
    """Put a function in another's place; the answer puts things back."""
    own = name in vars(owner)
    before = vars(owner)[name] if own else getattr(owner, name)
    plain = before.__func__ if isinstance(before, staticmethod) else before
    setattr(owner, name, staticmethod(around(plain)) if name == "__new__" else around(plain))
    return (lambda: setattr(owner, name, before)) if own else (lambda: delattr(owner, name))


def not_allowed(written: Written, unit: Unit = frozenset()) -> list[str]:
    """What was written and is not shown to be defined, or comes from an algorithm without a second, in words."""
    return [reason for kind, what in written if kind != "replaced" and (reason := _reason(kind, what, unit))]


def replacements(written: Written) -> list[tuple[sp.Expr, sp.Expr]]:
    """What a substitution put in the place of what."""
    return [what for kind, what in written if kind == "replaced"]


def _reason(kind: str, what: Any, unit: Unit) -> str | None:
    if kind == "answer":
        return f"the answer of sympy.{what} is used in making its steps, and no second procedure looks at it"
    found = None
    if kind == "log":
        found = None if visibly_positive(what, unit) else f"log({what}): {what} > 0 is not shown"
    elif kind == "divisor":
        signed = visibly_positive(what, unit) or visibly_positive(-what, unit)
        found = None if signed else f"division by {what}: {what} != 0 is not shown"
    elif kind == "power":
        base, exponent = what
        found = power_undefined(base, exponent, unit)
    else:
        found = undefined(what, unit)
    return found and f"it was written, and not shown to be defined: {found}"


def _caller(frame: FrameType | None) -> str:
    """The module that wrote it: empty for SymPy's own; a root that SymPy makes a power of is written by who took it."""
    while frame is not None and (frame.f_globals is globals() or frame.f_globals is derivatives.__dict__):
        frame = frame.f_back
    if frame is not None and _sympy(frame) and frame.f_code.co_name in ROOTS:
        frame = frame.f_back
    return "" if frame is None or _sympy(frame) else str(frame.f_globals.get("__name__", ""))


def _sympy(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith("sympy")


def _a_proof(module: str) -> bool:
    """Whether it is where claims are made; the code that a claim is about may ask SymPy what it likes."""
    return not module.startswith("derivations.") or module.startswith("derivations.proofs")
