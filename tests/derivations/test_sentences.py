"""Sentences that steps do not give: a theorem for decoration, another formula refuted, the wrong way round.

Each is refused by one rule of `prover.sentences`, `prover.directions`, `prover.theorems` or `prover.mutants`; what is
honest in the same form passes.
"""

import pytest
import sympy as sp

from derivations.objectives import dpo, pair_loss, simpo
from derivations.proofs.symbols import beta, len_l, len_w, logp_l, logp_w, ref_l, ref_w
from derivations.prover.kinds import Argued, Differs, Equal, Iff, Positive, TendsTo
from derivations.prover.sentences import promises
from derivations.prover.theorems import THEOREMS
from derivations.prover.tracing import trace
from tests.helpers.planted_claim import verdict

x, y, t = sp.symbols("x y t", positive=True)
d = sp.Symbol("d", real=True)
PAIR = {logp_w: -2, logp_l: -1, ref_w: -3, ref_l: -1, beta: 1}
MARGIN = beta * (logp_w - ref_w) - beta * (logp_l - ref_l)


def loss(chosen=logp_w):
    return trace(dpo, chosen, logp_l, ref_chosen_logp=ref_w, ref_rejected_logp=ref_l, beta=beta)


def code():
    return Equal("code", loss(), sp.log(1 + sp.exp(-MARGIN)))


def convex():
    return Positive("the loss of a pair is convex", sp.diff(trace(pair_loss, d, sp.S.Zero), d, 2))


def falls(statement="it falls with log pi(w)"):
    return Positive(statement, -sp.diff(loss(), logp_w))


def convex_sum(statement="so the loss of the data is convex"):
    return Argued(statement, by="convex sums", uses=("the loss of a pair is convex",))


def ahead(relation=">"):
    factor = logp_w - ref_w - logp_l + ref_l
    return Iff("ahead", MARGIN, sp.S.Zero, beta, (factor,), PAIR, relation=relation)


def simpo_is_traced():
    pair = {"chosen_length": len_w, "rejected_length": len_l, "beta": beta}
    margin = beta * logp_w / len_w - beta * logp_l / len_l
    return Equal("SimPO", trace(simpo, logp_w, logp_l, **pair), sp.log(1 + sp.exp(-margin)))


def tangent_of_another():
    another = x * sp.log(x)
    return [
        code(),
        Positive("x log x is convex", sp.diff(another, x, 2)),
        Equal("its slope", sp.diff(another, x), sp.log(x) + 1),
        Argued("so DPO's loss lies above its tangent", by="tangent", uses=("x log x is convex", "its slope")),
    ]


WHEN = "if and only if logp_w + ref_l > logp_l + ref_w."
REFUTED = {"expected": "refuted"}
IFF = {"expected": "iff"}
# what -> (steps, the sentence and options, why it is refused)
REFUSED = {
    "a theorem that does not give it": (
        lambda: [code(), convex(), convex_sum("so every step of descent makes the loss smaller")],
        {"title": "Descent lowers DPO's loss."},
        "it does not say what the theorem 'convex sums' gives",
    ),
    "a tangent without convexity": (
        lambda: [
            code(),
            Positive("x + 1 is positive", x + 1),
            Argued("so it lies above its tangent", by="tangent", uses=("x + 1", "code")),
        ],
        {"title": "DPO's loss lies above its tangent."},
        "needs a step of the kind Curved",
    ),
    "a tangent of another function": (
        tangent_of_another,
        {"title": "DPO's loss lies above its tangent."},
        "it says so of DPO, and rests on steps that are the same whatever its code computes",
    ),
    "training that is said to end": (
        lambda: [code(), TendsTo("1/t -> 0", 1 / t, t, sp.oo, sp.S.Zero)],
        {"title": "DPO's training converges."},
        "no step says where a path ends",
    ),
    "a minimum because of convexity": (
        lambda: [code(), convex(), convex_sum()],
        {"title": "DPO's loss has a minimum."},
        "no step shows that there is one",
    ),
    "a minimum because of another limit": (
        lambda: [
            code(),
            TendsTo("1/t -> 0", 1 / t, t, sp.oo, sp.S.Zero),
            Argued("so one exists", by="extreme value", uses=("1/t -> 0",)),
        ],
        {"title": "DPO's loss has a minimum."},
        "it says so of DPO, and rests on steps that are the same whatever its code computes",
    ),
    "another formula refuted": (
        lambda: [code(), Differs("a shift by 1", loss(logp_w + 1), loss(), PAIR)],
        {"title": "DPO's loss does not see a shift of both log-probs.", **REFUTED},
        "no step refutes what the sentence says",
    ),
    "an objective that the refutation does not touch": (
        lambda: [code(), simpo_is_traced(), Differs("here: DPO against SimPO", loss(), loss() + x, {**PAIR, x: 1})],
        {"title": "With the right reference DPO is SimPO.", **REFUTED},
        "the same whatever the code of SimPO computes",
    ),
    "rises for falls": (
        lambda: [code(), falls()],
        {"title": "DPO's loss rises with log pi(w)."},
        "the sentence says up, and what was decided is down",
    ),
    "rises for falls in a step": (
        lambda: [code(), falls("it rises with log pi(w)")],
        {"title": "DPO's loss."},
        "it says up, and what was decided is down",
    ),
    "concave for convex": (
        lambda: [code(), convex()],
        {"title": "DPO's loss is concave in its margin."},
        "the sentence says down, and what was decided is up",
    ),
    "a slope that increases for one that falls": (
        lambda: [Positive("as it is", -sp.diff(x * sp.log(1 + 1 / x), x, 2))],
        {"title": "The slope of x log(1 + 1/x) increases."},
        "the sentence says up, and what was decided is down",
    ),
    "at most for above": (
        lambda: [Positive("the square is above 1 + x", (x + 1) ** 2 - 1 - x)],
        {"title": "The square of 1 + x is at most 1 + x."},
        "the sentence compares downwards",
    ),
    "negative for positive": (
        lambda: [code(), ahead()],
        {"title": f"DPO's margin is negative {WHEN}", **IFF},
        'the sentence says down, "DPO\'s margin is negative", and what was decided is up',
    ),
    "at least for above": (
        lambda: [code(), ahead()],
        {"title": f"DPO's margin is at least 0 {WHEN}", **IFF},
        "the sentence says 'at least' of what a step decides as >",
    ),
    "larger for different": (
        lambda: [Iff("equal", x**2, y**2, x + y, (x - y,), {x: 1, y: 2})],
        {"title": "The square of x is larger than that of y if and only if x = y.", **IFF},
        "and what was decided is an equation",
    ),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_the_steps_do_not_give_is_refused(words, monkeypatch):
    steps, options, reason = REFUSED[words]
    result = verdict(steps, monkeypatch, **options)
    assert result.verdict == "failed"
    assert any(reason in problem for problem in result.problems), result.problems


@pytest.mark.parametrize(
    ("steps", "options"),
    [
        (lambda: [code(), convex(), convex_sum(), falls()], {"title": "DPO's loss falls and is convex."}),
        (lambda: [code(), ahead()], {"title": f"DPO's margin is positive {WHEN}", **IFF}),
        (
            lambda: [code(), Differs("a shift of one: a shift against DPO's loss", loss(logp_w + 1), loss(), PAIR)],
            {"title": "DPO's loss does not see a shift of log pi(w).", **REFUTED},
        ),
        (lambda: [code(), falls()], {"title": "DPO's loss never rises with log pi(w)."}),
    ],
    ids=["falls and convex", "positive", "one shift", "never rises"],
)
def test_what_is_honest_in_the_same_form_passes(steps, options, monkeypatch):
    result = verdict(steps, monkeypatch, **options)
    assert result.problems == []


@pytest.mark.parametrize(("concluded", "refused"), [("so it is unique", 0), ("so it is stationary", 1)])
def test_what_another_claim_gives_counts_where_a_step_that_rests_on_it_says_so(concluded, refused):
    rests = Argued(concluded, by="first order", uses=("another",))
    given = [rests], ("another",), lambda name: {"strict concavity"}
    assert len(promises("Its optimum is unique.", {"Equal"}, *given)) == refused
    assert len(promises("Its optimum is unique.", {"Equal"}, [], *given[1:])) == 1


@pytest.mark.parametrize(("latex", "refused"), [(r"\ell \le \log 7", True), (r"\ell = \log 2, x^{17}, y_{12}", False)])
def test_a_number_of_the_formula_stands_in_a_step(latex, refused, monkeypatch):
    def steps():
        return [code(), Equal("at equal scores: log 2", loss(), sp.log(2), {logp_w: logp_l, ref_w: ref_l})]

    problems = verdict(steps, monkeypatch, latex=latex).problems
    assert problems == (["its formula has 7, a number that no step has"] if refused else [])


@pytest.mark.parametrize("weights", [x * y, x + y])
def test_z_is_a_sum_of_weights(weights, monkeypatch):
    """A condition "Z = 1" is read as one on the partition function, whatever `where` puts there."""
    z, at = sp.Symbol("Z", positive=True), {x: 2, y: 3}
    iff = Iff("it vanishes", sp.log(z), sp.S.Zero, sp.S.One, (sp.log(z),), at, where={z: weights})
    square = Equal("square", (x + 1) ** 2, x**2 + 2 * x + 1)
    problems = verdict([square, iff], monkeypatch, expected="iff").problems
    assert any("no partition function" in problem for problem in problems) == weights.is_Mul


def test_every_theorem_says_in_which_words_its_conclusion_shows():
    assert all(theorem.gives for theorem in THEOREMS.values())
