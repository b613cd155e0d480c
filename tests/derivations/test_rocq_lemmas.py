"""Lemmas for Rocq: formulas as they are printed, what they assume, and what has none."""

import contextlib

import pytest
import sympy as sp

from derivations.objectives import pair_loss
from derivations.prover.claims import load_claims
from derivations.prover.kinds import Equal, Positive
from derivations.rocq.formulas import Names, NotClosed, NotExpressible, read
from derivations.rocq.identities import lemma
from derivations.rocq.terms import rows, variable

x, y = sp.symbols("x y", positive=True)
t = sp.Symbol("t", real=True)
count = sp.Symbol("n", positive=True, integer=True)


def test_a_formula_is_printed_as_it_stands_with_the_condition_put_in():
    names = Names()
    given = {t: read(x / 2, names)}
    assert read(sp.exp(-t) / (1 + x**3), names, given).text == "((/ (1 + (x ^ 3))) * (exp ((-1) * ((1 / 2) * x))))"


def test_variables_have_names_that_rocq_takes():
    names = Names()
    one, other = sp.Symbol("x", real=True), sp.Symbol("x", positive=True)
    assert [names[s] for s in (one, other, sp.Symbol("exp"), sp.Symbol("K1"), sp.Symbol("1/2"), sp.Symbol("w_1"))] == [
        "x",
        "x_",
        "exp_",
        "K1_",
        "x1_2",
        "w_1",
    ]


def test_a_lemma_assumes_what_the_claim_declares_and_nothing_else():
    length, p = sp.Symbol("len", positive=True, integer=True), sp.Symbol("p", positive=True)
    text = lemma("planted", 1, Equal("ratio", x * t * p / (length * x), t * p / length, unit=frozenset({p}))).source
    assert "(len p t : R) : 1 <= len -> 0 < p < 1 -> \n" in text


@pytest.mark.parametrize(
    ("step", "why"),
    [
        (Equal("s", sp.log(10 - x) + sp.log(10 + x), sp.log(100 - x**2)), "10 .* not known to be positive"),
        (Equal("s", (x - y) / (x - y) ** 2, 1 / (x - y)), "not known to be nonzero"),
        (Equal("s", 1 / sp.log(x), 1 / sp.log(x)), "not known to be nonzero"),
        (Equal("s", sp.log(sp.exp(t) - 1), sp.log(sp.exp(t) - 1)), "not known to be positive"),
        (Equal("s", x**2, sp.Integer(9), {x: sp.Integer(-3)}), "-3.* not known to be positive"),
        (Equal("s", x, x, {x: y + 1}, unit=frozenset({x})), "not known to be positive"),
        (Equal("s", count, count, {count: sp.Rational(1, 2)}), "not known to be an integer"),
        (Positive("s", x - y), "not known to be positive"),
    ],
)
def test_what_is_not_known_to_be_defined_has_no_lemma(step, why):
    with pytest.raises(NotClosed, match=why):
        lemma("planted", 1, step)


def test_a_symbol_that_is_not_declared_real_has_no_lemma():
    with pytest.raises(NotExpressible, match="z is not declared real"):
        lemma("planted", 1, Equal("s", sp.Symbol("z"), sp.Symbol("z")))


def test_code_is_recorded_as_it_runs_with_nothing_simplified():
    loss = pair_loss(variable("a", 2), variable("b", 2), gamma=variable("g"), label_smoothing=0.25)
    assert rows(loss)[1] == (
        "(((-3 / 4) * (- ln (1 + exp (- (((a 1%nat) - (b 1%nat)) - g))))) "
        "- ((1 / 4) * (- ln (1 + exp (- (- (((a 1%nat) - (b 1%nat)) - g)))))))"
    ).replace("(-3 / 4)", "((-3) / 4)")


def test_code_that_asks_for_more_than_the_theorem_assumes_is_not_recorded():
    with pytest.raises(TypeError, match="does not follow from the assumptions"):
        assert variable("beta", positive=True) > 1
    with pytest.raises(TypeError, match="does not follow from the assumptions"):
        assert variable("beta") > 0


def test_at_least_two_hundred_identities_of_the_claims_have_a_lemma():
    written = 0
    for claim in load_claims():
        for number, step in enumerate(claim.steps(), 1):
            if isinstance(step, Equal):
                with contextlib.suppress(NotExpressible):
                    written += bool(lemma(claim.id, number, step))
        if written >= 200:  # a third of the claims have them
            return
    pytest.fail(f"only {written} have one")
