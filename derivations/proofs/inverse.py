"""The master theorem backwards: which published scores are the slope of a regularizer, and of which one."""

import sympy as sp

from derivations.objectives import dpo, pair_loss
from derivations.preference_losses import chi_po, ln_dpo, r_dpo
from derivations.proofs.symbols import (
    alpha,
    beta,
    len_l,
    len_w,
    length,
    logp_l,
    logp_w,
    p,
    q,
    ref_l,
    ref_w,
    shift,
)
from derivations.prover.claims import claim
from derivations.prover.kinds import Argued, Equal, Positive, Step, TendsTo
from derivations.prover.symbolic import SymArray
from derivations.prover.tracing import trace
from derivations.regularizers import KL, LengthNormalized

UNIT = frozenset({p, q})
REFS = {"ref_chosen_logp": ref_w, "ref_rejected_logp": ref_l}
LENGTHS = {"chosen_length": len_w, "rejected_length": len_l}
u = sp.Symbol("u", positive=True)  # p / q


def kl(strength: sp.Expr, what: str) -> sp.Expr:
    """The traced regularizer of KL, or its slope, at p and q."""
    return trace(getattr(KL(SymArray(strength)), what), sp.log(p), ref_logp=sp.log(q))


def likelihood(score: sp.Expr) -> sp.Expr:
    """The traced Bradley-Terry loss of a pair whose rewards are that score of each response, plus a common shift."""
    at_w = {p: sp.exp(logp_w), q: sp.exp(ref_w), length: len_w}
    at_l = {p: sp.exp(logp_l), q: sp.exp(ref_l), length: len_l}
    return trace(pair_loss, score.subs(at_w) + shift, score.subs(at_l) + shift)


def is_regularized(name: str, score: sp.Expr, phi: sp.Expr) -> list[Step]:
    """The score is phi' of a strictly convex phi with a barrier."""
    return [
        Equal(f"{name}: the score is the slope of phi", score, sp.diff(phi, p), unit=UNIT),
        Positive(f"{name}: phi is strictly convex", sp.diff(score, p), unit=UNIT),
        TendsTo(f"{name}: its slope at 0 is -oo", score, p, sp.S.Zero, -sp.oo),
    ]


@claim(
    "inverse-master-theorem",
    "A score s(p) that increases strictly and falls to -oo at 0 is the slope of a regularizer that meets the master theorem's "
    "conditions, so an interior policy is the one optimum for its own scores as the reward.",
    latex=r"\phi(p) = \int_{1/2}^p s(v)\,dv,\quad \phi' = s,\ \phi'' = s' > 0,\ \phi'(0+) = -\infty",
    hypotheses="s continuously differentiable on (0, 1), each response's score a function of its own probability",
    source="THEORY 1, the converse; `python -m derivations derive --from-score`",
    scope="finite Y (master theorem); log p and -1/p as examples, and two scores that are not: p - p^2 falls, p has no barrier",
    depends_on=("master-theorem", "interior-needs-barrier"),
)
def inverse_master_theorem() -> list[Step]:
    plain = trace(LengthNormalized(SymArray(beta)).implicit_reward, sp.log(p), length=length)
    top = p - p**2
    return [
        *is_regularized("(beta/|y|) log p", plain, beta / length * (p * sp.log(p) - p)),
        *is_regularized("-1/p", -1 / p, -sp.log(p)),
        Argued("a continuous s has phi(p) = int_(1/2)^p s as its antiderivative, convex as s increases",
               by="fundamental theorem", uses=("(beta/|y|) log p: the score",)),
        Argued("so the master theorem applies: the interior policy is stationary for r = s with multiplier 0, and unique",
               by="first order", uses=("master-theorem",)),
        Positive("p - p^2 falls at p = 3/4: its phi is not convex", -sp.diff(top, p).subs(p, sp.Rational(3, 4))),
        TendsTo("p is increasing, but 0 at 0: no barrier", p, p, sp.S.Zero, sp.S.Zero),
    ]  # fmt: skip


@claim(
    "chi-po-is-regularized",
    "chi-PO is the Bradley-Terry likelihood of a regularized optimum, of KL plus the chi-square divergence: its score is beta (log u + u) "
    "with u = pi/q, whose mean E[u] is 1 + chi-square.",
    latex=r"\phi = \beta\Big(p\log\tfrac pq + \tfrac{(p-q)^2}{2q}\Big),\quad E_\pi[u] = 1 + \chi^2(\pi\|q)",
    source="arXiv:2407.13399, the link phi(z) = z + log z",
    scope="finite Y (master theorem); the mean for any countable Y, a response's share",
    depends_on=("master-theorem", "implicit-reward-kl", "inverse-master-theorem", "multiplier-cancels"),
)
def chi_po_is_regularized() -> list[Step]:
    phi = kl(beta, "phi") + beta * (p - q) ** 2 / (2 * q)
    score = kl(beta, "implicit_reward") + beta * p / q
    return [
        *is_regularized("chi-PO", score, phi),
        Equal("chi-PO's loss", trace(chi_po, logp_w, logp_l, **REFS, beta=beta), likelihood(score)),
        Equal("a response's share of E[u]: pi u = 2 p - q + (p - q)^2 / q", p * (p / q), 2 * p - q + (p - q) ** 2 / q, unit=UNIT),
        Argued("summed over y: 2 - 1 + chi-square", by="summation", uses=("a response's share",)),
        TendsTo("chi-square alone has no barrier", beta * (u - 1), u, sp.S.Zero, -beta),
    ]  # fmt: skip


@claim(
    "length-dpo-is-regularized",
    "The losses of R-DPO and of length-normalized DPO are Bradley-Terry likelihoods of regularized optima: of KL plus a price alpha per "
    "token, and of KL whose strength is beta/|y| with a linear term that takes its offset away.",
    latex=r"\phi_{R} = \beta p\log\tfrac pq + \alpha|y|p,\qquad \phi_{LN} = \tfrac{\beta}{|y|}\Big(p\log\tfrac pq - p\Big)",
    source="arXiv:2403.19159 (R-DPO); arXiv:2405.14734, table of losses, and arXiv:2411.15124 (length-normalized DPO)",
    scope="finite Y (master theorem), any lengths and any reference",
    depends_on=("master-theorem", "implicit-reward-kl", "multiplier-cancels"),
)
def length_dpo_is_regularized() -> list[Step]:
    rdpo = kl(beta, "implicit_reward") + alpha * length
    normalized = kl(beta / length, "implicit_reward")
    strength = beta / length
    pair = {**REFS, **LENGTHS, "beta": beta}
    return [
        *is_regularized("R-DPO", rdpo, kl(beta, "phi") + alpha * length * p - beta * p),
        Equal("R-DPO's loss", trace(r_dpo, logp_w, logp_l, **pair, alpha=alpha), likelihood(rdpo)),
        Equal("R-DPO at equal lengths is DPO", likelihood(rdpo), trace(dpo, logp_w, logp_l, **REFS, beta=beta), {len_l: len_w}),
        *is_regularized("length-normalized DPO", normalized, kl(strength, "phi") - strength * p),
        Equal("length-normalized DPO's loss", trace(ln_dpo, logp_w, logp_l, **pair), likelihood(normalized)),
        Equal("without the linear term the offset beta/|y| stays", sp.diff(kl(strength, "phi"), p), normalized + strength, unit=UNIT),
    ]  # fmt: skip
