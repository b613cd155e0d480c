"""`Traced.v`: definitions of what the code computes, recorded by calling it; `Code.v` has the theorems about them."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from derivations.names import make_objective
from derivations.objectives import dpo, maxent, pair_loss, ranking_loss, shaped_reward, simpo
from derivations.regularizers import KL, Entropy, ForwardKL, LengthNormalized, LengthNormalizedShannon, Term
from derivations.rocq.terms import TermArray, rows, variable

HEADER = """\
(* Written by derivations.rocq.traced: each definition is what a function of the code did when it was called on Rocq
   terms.  Entries of a batch are functions of row and place; row1 is what the code returns for the second row. *)
Require Import Reals.
Open Scope R_scope.

"""
TERMS: dict[str, type[Term]] = {
    "entropy": Entropy,
    "kl": KL,
    "generalized": LengthNormalized,
    "shannon": LengthNormalizedShannon,
    "forward_kl": ForwardKL,
}
ROWS, PLACES = 2, 4


def source() -> str:
    """The text of `Traced.v`, from the code as it is now."""
    return HEADER + "\n".join(_definitions())


def _definitions() -> Iterator[str]:
    logp_w, logp_l, ref_w, ref_l = map(variable, ("logp_w", "logp_l", "ref_w", "ref_l"))
    len_w, len_l, gamma, eps = map(variable, ("len_w", "len_l", "gamma", "eps"))
    beta = variable("beta", positive=True)
    pair = "logp_w logp_l"
    yield _define("code_maxent", f"beta {pair}", maxent(logp_w, logp_l, alpha=beta))
    loss = dpo(logp_w, logp_l, ref_chosen_logp=ref_w, ref_rejected_logp=ref_l, beta=beta)
    yield _define("code_dpo", f"beta {pair} ref_w ref_l", loss)
    loss = simpo(logp_w, logp_l, chosen_length=len_w, rejected_length=len_l, beta=beta, gamma=gamma)
    yield _define("code_simpo", f"beta gamma {pair} len_w len_l", loss)
    loss = pair_loss(variable("r_w"), variable("r_l"), gamma=gamma, label_smoothing=eps)
    yield _define("code_pair_loss", "gamma eps r_w r_l", loss)
    yield from _batch("code_ranking_loss", "", lambda m: ranking_loss(variable("rewards", ROWS, m)), "rewards")
    for name, options in (("maxent", "alpha"), ("dpo", "beta"), ("simpo", "beta")):
        for suffix in ("", "-pl"):
            yield from _by_name(f"{name}{suffix}", options)
    for name, term in TERMS.items():
        yield from _regularizer(name, term)
    both = Entropy(variable("alpha", positive=True)) + KL(beta)
    shaped = shaped_reward(variable("reward"), variable("logp"), regularizer=both, ref_logp=variable("ref_logp"))
    yield _define("code_shaped_reward", "alpha beta reward logp ref_logp", shaped)


def _by_name(name: str, strength: str) -> Iterator[str]:
    """The loss of an objective made from its name, on a batch of pairs or of rankings, with default options."""
    objective = make_objective(name, **{strength: variable("beta", positive=True)})

    def loss(places: int) -> TermArray:
        logp, length, ref = (variable(word, ROWS, places) for word in ("logp", "length", "ref_logp"))
        return objective.loss(objective.rewards(logp, length=length, ref_logp=ref))

    yield from _batch(
        f"name_{name.replace('-', '_')}", "beta", loss, "logp length ref_logp", PLACES if objective.listwise else 2
    )


def _regularizer(name: str, term: type[Term]) -> Iterator[str]:
    """phi and the implicit reward, at log p."""
    regularizer = term(variable("beta", positive=True))
    options: Mapping[str, Any] = {"length": variable("length"), "ref_logp": variable("ref_logp")}
    yield _define(f"phi_{name}", "beta logp length ref_logp", regularizer.phi(variable("logp"), **options))
    reward = regularizer.phi_prime(variable("logp"), **options)
    yield _define(f"implicit_reward_{name}", "beta logp length ref_logp", reward)


def _batch(
    name: str, scalars: str, loss: Callable[[int], TermArray], arrays: str, places: int = PLACES
) -> Iterator[str]:
    binders = f"({scalars} : R) " if scalars else ""
    texts = rows(loss(places))
    if len(texts) != ROWS:
        raise TypeError(f"{name} returns {len(texts)} values for a batch of {ROWS}")
    for row, text in enumerate(texts):
        yield f"Definition {name}_row{row} {binders}({arrays} : nat -> nat -> R) : R :=\n  {text}.\n"


def _define(name: str, scalars: str, result: TermArray) -> str:
    (text,) = rows(result)
    return f"Definition {name} ({scalars} : R) : R :=\n  {text}.\n"
