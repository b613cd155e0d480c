"""Rewards along a sequence: shaping by a potential moves no policy, and KL's implicit reward is a sum of advantages."""

import sympy as sp

from derivations.proofs.symbols import beta, positives, q, r, reals, rest
from derivations.prover.claims import claim
from derivations.prover.kinds import Argued, Differs, Equal, Step
from derivations.prover.symbolic import SymArray
from derivations.prover.tracing import trace
from derivations.regularizers import KL

potential, next_potential = sp.symbols("Phi Phi_next", real=True)
TREE = (
    "tokens in a finite tree, deterministic transitions; pi = q e^((Q - V)/beta), V = beta log sum_a q(a) e^(Q(a)/beta)"
)


def value(best: sp.Expr, others: sp.Expr = rest) -> sp.Expr:
    """Soft V of a node: one token of probability q under the reference, and the others' q e^(Q/beta) summed."""
    return beta * sp.log(q * sp.exp(best / beta) + others)


def choice(best: sp.Expr, others: sp.Expr = rest) -> sp.Expr:
    """What the soft-optimal policy gives the one token."""
    return q * sp.exp((best - value(best, others)) / beta)


@claim(
    "reward-shaping",
    "Shaping the rewards of tokens by a potential that is 0 at the end, r + Phi(next) - Phi(here), leaves the soft-optimal policy as "
    "it is, with any number of tokens to choose from.",
    latex=r"Q' = Q - \Phi,\quad V' = V - \Phi,\quad \pi' = \pi",
    hypotheses=TREE,
    source="Ng, Harada and Russell 1999, for the KL-regularized optimum",
    scope="any finite tree by one step up, with any reference and strength",
    depends_on=("soft-bellman",),
)
def reward_shaping() -> list[Step]:
    own, after = reals("Q", 1)[0], sp.Symbol("V_next", real=True)
    reward = r + next_potential - potential
    moved = rest * sp.exp(-potential / beta)
    first, second = positives("w", 2)
    ends = first * sp.exp(potential / beta) / (first * sp.exp(potential / beta) + second)
    return [
        Equal("a child with V - Phi(next) gives its token Q - Phi(here)", reward + (after - next_potential), r + after - potential),
        Equal("the node's V falls by Phi(here)", value(own - potential, moved), value(own) - potential, every=(rest,)),
        Equal("the policy does not move", choice(own - potential, moved), choice(own), every=(rest,)),
        Equal("at the end Phi = 0: V is what it was", own - potential, own, {potential: sp.S.Zero}),
        Argued("so from the ends up to the start", by="induction",
               uses=("at the end Phi = 0", "a child with V", "the node's V", "the policy does not")),
        Differs("a potential that is not 0 at one of two ends is a reward, and moves the policy", ends,
                ends.subs(potential, 0), {first: sp.S.One, second: sp.S.One, beta: sp.S.One, potential: sp.S.One}),
    ]  # fmt: skip


@claim(
    "implicit-reward-is-advantage",
    "DPO's implicit reward of a sequence is the sum of the soft advantages Q - V of its tokens, however many, and that is its reward "
    "minus V at the start.",
    latex=r"\beta\log\frac{\pi^*(y)}{q(y)} = \sum_t (Q_t - V_t) = \sum_t r_t - V_0",
    hypotheses=TREE + "; Q_t = r_t + V_(t+1), V = 0 at the end",
    source="arXiv:2404.12358, from r to Q*",
    scope="any finite tree: one token more at a time",
    depends_on=("soft-bellman", "dpo-objective"),
)
def implicit_reward_is_advantage() -> list[Step]:
    own, here, after, so_far, start = sp.symbols("Q V V_next so_far V_0", real=True)
    logp, ref, logp_before, ref_before = sp.symbols("logp ref logp_before ref_before", real=True)
    implicit = KL(SymArray(beta)).implicit_reward
    chosen = choice(own)
    tokens = sp.Symbol("tokens", positive=True, integer=True)  # so far; their mean log-ratio is `ratio`
    ratio = sp.Symbol("ratio", real=True)
    return [
        Equal("one token", trace(implicit, sp.log(chosen), ref_logp=sp.log(q)), own - value(own), every=(rest,)),
        Equal("the probabilities of a node sum to 1", chosen + rest * sp.exp(-value(own) / beta), sp.S.One, every=(rest,)),
        Equal(
            "one token more adds its own",
            trace(implicit, logp_before + logp, ref_logp=ref_before + ref),
            trace(implicit, logp_before, ref_logp=ref_before) + trace(implicit, logp, ref_logp=ref),
        ),
        Equal(
            "any number of tokens: their ratios add up",
            trace(implicit, ref_before + tokens * ratio, ref_logp=ref_before),
            beta * tokens * ratio,
            every=(tokens,),
        ),
        Equal("their sum so far, rewards + V - V_0, keeps its form", (so_far + here - start) + (r + after - here), (so_far + r) + after - start),
        Equal("at the start it is 0", so_far + here - start, sp.S.Zero, {so_far: sp.S.Zero, here: start}),
        Equal("at the end V = 0: rewards - V_0", so_far + here - start, so_far - start, {here: sp.S.Zero}),
        Argued("so over the whole sequence", by="induction",
               uses=("at the start it is 0", "one token more", "their sum so far", "at the end V = 0")),
    ]  # fmt: skip
