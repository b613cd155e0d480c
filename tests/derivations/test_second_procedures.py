"""The second procedure: power series for derivatives, balls for equations, and the places where both look."""

import random

import pytest
import sympy as sp

from derivations.proofs.symbols import p
from derivations.prover import claims
from derivations.prover.derivatives import watching, wrong_derivatives
from derivations.prover.kinds import (
    Equal,
    InternalError,
)
from derivations.prover.sampling import points
from tests.helpers.planted_claim import verdict

x, y = sp.symbols("x y", positive=True)
size = sp.Symbol("len", positive=True, integer=True)


def test_a_wrong_derivative_is_caught_by_power_series(monkeypatch):
    right = sp.diff
    monkeypatch.setattr(sp, "diff", lambda expr, *by: right(expr, *by) + 1)

    def steps():
        return [Equal("planted", sp.diff(sp.log(x) + x**2, x), 1 / x + 2 * x + 1)]

    result = verdict(steps, monkeypatch)
    assert any("the power series differs" in problem for problem in result.problems)
    monkeypatch.undo()
    result = verdict(lambda: [Equal("planted", sp.diff(sp.log(x) * x, x), 1 + sp.log(x))], monkeypatch)
    assert result.verdict == "proved"


def test_second_and_mixed_derivatives_are_confirmed_one_variable_at_a_time():
    with watching() as taken:
        sp.diff(sp.exp(x * y) / (1 + x), x, 2, y)
    assert [(item.symbol, item.order) for item in taken] == [(x, 2), (y, 1)]
    assert wrong_derivatives(taken) == []
    wrong = taken[0]._replace(answer=taken[0].answer + sp.Rational(1, 10**9))
    assert "differs" in wrong_derivatives([wrong])[0]


def test_breaking_sympy_s_diff_fails_the_claims_that_take_derivatives(monkeypatch):
    right = sp.diff
    monkeypatch.setattr(sp, "diff", lambda expr, *by: 2 * right(expr, *by))
    (result,) = claims.check_claims(
        [c for c in claims.load_claims("loss-gradients") if c.id == "loss-gradients"], mutants=False
    )
    assert any("the power series differs" in problem for problem in result.problems)


def test_balls_look_at_each_side_by_itself(monkeypatch):
    """A subtraction that always gives 0 deceives the field of kernels, and not the balls."""
    monkeypatch.setattr(Equal, "residual", lambda self: sp.S.Zero)
    with pytest.raises(InternalError, match="field says 0, balls say not"):
        Equal("planted", x + 1, x + 2, {x: y}).check()


def test_places_reach_long_responses_both_sides_of_thresholds_and_the_ends_of_the_unit_interval():
    found = [point for point, _ in points([10 - x, p, size - 500], [x, p, size], random.Random(0), 60)]  # noqa: S311
    assert max(point[size] for point in found) > 1000
    assert min(point[x] for point in found) < 1e-2
    assert max(point[x] for point in found) > 1e3
    assert min(point[p] for point in found) < 1e-3
    assert {point[size] for point in found} >= {500, 501}
    assert any(8 < point[x] < 10 for point in found)
    assert any(10 < point[x] < 12 for point in found)
