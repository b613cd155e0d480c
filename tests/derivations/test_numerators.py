"""Numerators over one common denominator, against SymPy's reduced fractions; and positivity seen in the tree alone."""

import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from derivations.prover import zero_test
from derivations.prover.numerators import numerator
from derivations.prover.zero_test import is_positive, is_zero

x, y = sp.symbols("x y", positive=True)
t = sp.Symbol("t", real=True)

LEAVES = st.one_of(st.sampled_from([x, y, t, x + y, 1 - t]), st.fractions(-3, 3, max_denominator=3).map(sp.Rational))


def _joined(parts):
    return st.one_of(
        st.tuples(parts, parts).map(lambda two: two[0] + two[1]),
        st.tuples(parts, parts).map(lambda two: two[0] - two[1]),
        st.tuples(parts, parts).map(lambda two: two[0] * two[1]),
        st.tuples(parts, parts).map(lambda two: two[0] / two[1] if sp.cancel(two[1]) != 0 else two[0]),
        st.tuples(parts, st.integers(1, 3)).map(lambda two: two[0] ** two[1]),
    )


RATIONAL = st.recursive(LEAVES, _joined, max_leaves=8)


@settings(max_examples=150, deadline=None)
@given(RATIONAL)
def test_the_numerator_is_that_of_the_reduced_fraction_times_a_polynomial(expr):
    reduced = sp.numer(sp.cancel(expr))
    found = numerator(expr).as_expr()
    assert (found == 0) == (reduced == 0)
    if reduced != 0:
        assert sp.fraction(sp.cancel(found / reduced))[1].is_number  # nothing but a number is left below


@settings(max_examples=50, deadline=None)
@given(RATIONAL)
def test_an_expression_less_itself_in_another_form_is_zero_and_with_something_added_is_not(expr):
    other = sp.factor(expr)
    assert is_zero(expr - other)
    assert not is_zero(expr - other + x / (1 + y))


def test_a_division_by_what_is_zero_is_no_number():
    with pytest.raises(ZeroDivisionError):
        numerator(1 / sp.Add((x + y) ** 2, -(x**2), -2 * x * y, -(y**2), evaluate=False))


@pytest.mark.parametrize(
    "expr",
    [x - 1, t, -x, t * x, x - y, sp.exp(sp.log(x - 1)), sp.exp(sp.sqrt(t)), x**t * t, 1 / t, sp.S.Zero, (x - 2) ** 3],
)
def test_what_may_be_negative_zero_or_undefined_is_not_positive_by_its_tree(expr):
    assert not zero_test._plain(expr)


def test_what_is_positive_by_its_tree_is_positive_without_a_fraction(monkeypatch):
    monkeypatch.setattr(zero_test, "_forms", lambda _: pytest.fail("the tree alone says it"))
    assert all(map(is_positive, [1 + sp.exp(-t / x), x / (x + y), sp.exp(t) ** -2 * sp.Rational(1, 3)]))
