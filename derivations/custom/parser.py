"""Reading a user's formula without evaluating it: Python's `ast` and a whitelist.

SymPy's own parser calls `eval`; this one walks the syntax tree and knows numbers, the arithmetic
operators, three functions and the symbols below, nothing else.
"""

import ast
import math

import sympy as sp

from derivations.cli.errors import InputError, suggest
from derivations.proofs.symbols import alpha, beta, gamma, length, order, p, q

SYMBOLS: dict[str, sp.Symbol] = {
    "p": p, "q": q, "length": length, "alpha": alpha, "beta": beta, "gamma": gamma, "order": order,
}  # fmt: skip
FUNCTIONS = {"log": sp.log, "ln": sp.log, "exp": sp.exp, "sqrt": sp.sqrt}
MAX_LENGTH, MAX_EXPONENT, MAX_DIGITS, MAX_TERMS = 1000, 64, 30, 300


def parse_formula(text: str) -> sp.Expr:
    """SymPy expression of a formula such as `beta*(p*log(p/q) - p)`.

    Symbols: p (policy probability), q (reference probability), length (tokens), alpha, beta, gamma
    (positive strengths), order (in (0, 1)). Functions: log, exp, sqrt. Decimals are read exactly.
    Raises InputError with one line that says what is wrong and where.
    """
    if len(text) > MAX_LENGTH:
        raise InputError(f"the formula has {len(text)} characters; at most {MAX_LENGTH} are read")
    try:
        tree = ast.parse(text.strip(), mode="eval")
        expr = _read(tree.body)
    except SyntaxError as error:
        raise InputError(f"cannot read {text!r}: {error.msg} (character {error.offset})") from None
    except (RecursionError, MemoryError, ValueError) as error:  # nested too deeply, or with a NUL byte
        raise InputError(f"cannot read {text[:40]!r}...: {error}") from None
    if expr.has(sp.zoo, sp.nan, sp.oo, sp.I):
        raise InputError(f"{text!r} divides by zero or leaves the real numbers")
    if expr.has(sp.Abs):
        raise InputError(f"{text!r} contains the root of a square, an absolute value, which has a kink")
    if _terms(expr) > MAX_TERMS:
        raise InputError(f"{text!r} expands into more than {MAX_TERMS} terms; write it in a shorter form")
    return expr


def _terms(expr: sp.Expr) -> int:
    """At most how many terms the expression has once its products and whole powers are multiplied out."""
    if expr.is_Add:
        return sum(map(_terms, expr.args))
    if expr.is_Mul:
        return math.prod(map(_terms, expr.args))
    if expr.is_Pow and expr.exp.is_Integer:
        terms, times = _terms(expr.base), abs(int(expr.exp))
        return math.comb(times + terms - 1, times)
    return max(map(_terms, expr.args), default=1)


def _read(node: ast.expr) -> sp.Expr:
    """One node of the syntax tree, or InputError with its place."""
    match node:
        case ast.Constant(value=bool() | complex() | str() | bytes() | None):
            pass
        case ast.Constant(value=int() | float()):
            return _number(node)
        case ast.Name(id=name):
            if name in SYMBOLS:
                return SYMBOLS[name]
            raise _refused(node, f"unknown symbol {name!r}{suggest(name, [*SYMBOLS])}")
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_read(operand)
        case ast.UnaryOp(op=ast.UAdd(), operand=operand):
            return _read(operand)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _read(left) + _read(right)
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            return _read(left) - _read(right)
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return _read(left) * _read(right)
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return _read(left) / _read(right)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _power(node, _read(left), _read(right))
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]):
            if name in FUNCTIONS:
                value = _read(argument)
                if name == "exp" and value.is_number and not (value.is_Rational and abs(value) <= MAX_EXPONENT):
                    raise _refused(node, f"exp of {value} (numbers up to {MAX_EXPONENT})")
                return FUNCTIONS[name](value)
            raise _refused(node, f"unknown function {name!r}{suggest(name, [*FUNCTIONS])}")
    raise _refused(node, f"{type(node).__name__} is not part of a formula (numbers, + - * / **, log or ln, exp, sqrt)")


def _number(node: ast.Constant) -> sp.Expr:
    value = node.value
    if isinstance(value, int) and value.bit_length() > 4 * MAX_DIGITS:
        raise _refused(node, f"a number of more than {MAX_DIGITS} digits")
    if isinstance(value, float) and not 1e-30 < abs(value) < 1e30 and value:
        raise _refused(node, f"the number {value} is out of range")
    return sp.Rational(repr(value))  # decimals as they are written: 0.1 is 1/10


def _power(node: ast.BinOp, base: sp.Expr, exponent: sp.Expr) -> sp.Expr:
    if exponent.is_number and (not exponent.is_Rational or max(abs(exponent.p), exponent.q) > MAX_EXPONENT):
        raise _refused(node, f"exponent {exponent} (fractions of numbers up to {MAX_EXPONENT})")
    if base.is_Rational and max(abs(base.p), base.q).bit_length() > 4 * MAX_DIGITS:
        raise _refused(node, f"a power of a number of more than {MAX_DIGITS} digits")
    return base**exponent


def _refused(node: ast.expr, why: str) -> InputError:
    return InputError(f"cannot read the formula at character {node.col_offset + 1}: {why}")
