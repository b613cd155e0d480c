"""Whether a positive margin means that the policy ranks the pair rightly: by its own probabilities, per token, or not."""

import sympy as sp

from derivations.objectives import preference_metrics
from derivations.proofs.symbols import beta, len_l, len_w, length, logp_l, logp_w, r_l, ref_l, ref_w
from derivations.prover.claims import claim
from derivations.prover.kinds import Differs, Equal, Iff, Positive, Step
from derivations.prover.symbolic import SymArray
from derivations.prover.tracing import trace, traced_array
from derivations.regularizers import KL, LengthNormalized, Regularizer

m = sp.Symbol("margin", real=True)


def margin(regularizer: Regularizer, **facts: tuple[sp.Expr, sp.Expr]) -> sp.Expr:
    """The logged rewards/margins of the traced implicit rewards; facts: of chosen and rejected."""
    rewards = [
        trace(regularizer.implicit_reward, logp, **{name: pair[side] for name, pair in facts.items()})
        for side, logp in enumerate((logp_w, logp_l))
    ]
    return traced_array(preference_metrics, *rewards, logp_w, logp_l)["rewards/margins"].item()


@claim(
    "dpo-accuracy-is-no-ranking",
    "A positive DPO margin, logged as accuracy 1, does not mean that the policy prefers the chosen response: it does if and only if "
    "beta*ref_w + margin > beta*ref_l.",
    latex=r"\pi(w) > \pi(l) \iff \text{margin} > \beta\log\frac{q(l)}{q(w)}",
    source="arXiv:2405.19534, on ranking accuracy",
    scope="any pair, any reference",
    expected="iff",
    depends_on=("dpo-objective", "preference-metrics"),
)
def dpo_accuracy_is_no_ranking() -> list[Step]:
    logged = margin(KL(SymArray(beta)), ref_logp=(ref_w, ref_l))
    # pi = (2, 8)/10 and q = (1, 9)/10, beta = 1
    policy = {logp_w: sp.log(2) - sp.log(10), logp_l: sp.log(8) - sp.log(10)}
    reference = {ref_w: -sp.log(10), ref_l: sp.log(9) - sp.log(10)}
    lead = sp.Symbol("lead", positive=True)
    logged_lead = traced_array(preference_metrics, r_l + lead, r_l, logp_w, logp_l)["rewards/accuracies"].item()
    return [
        Equal("a positive margin is logged as accuracy 1", logged_lead, sp.S.One),
        Iff(
            "the policy prefers w",
            logp_w,
            logp_l,
            1 / beta,
            (m - (beta * ref_l - beta * ref_w),),
            {logp_w: -2, logp_l: -1, ref_w: -3, ref_l: -1, beta: 1},
            where={m: logged},
            relation=">",
        ),
        Positive("counterexample q = (1/10, 9/10), pi = (2/10, 8/10): the margin is > 0", logged.subs(policy).subs(reference).subs(beta, 1)),
        Positive("and pi(l) > pi(w)", sp.exp(logp_l).subs(policy) - sp.exp(logp_w).subs(policy)),
    ]  # fmt: skip


@claim(
    "simpo-accuracy-is-ranking",
    "With one length, SimPO's margin ranks a pair as the policy does; with any two it is positive if and only if |l|*logp_w > |w|*logp_l.",
    latex=r"\text{margin} > 0 \iff |l|\log\pi(w) > |w|\log\pi(l)",
    source="arXiv:2405.14734, section 4.2, on rewards and generation",
    scope="any pair, gamma left out of the margin",
    expected="iff",
    depends_on=("simpo-objective", "preference-metrics"),
)
def simpo_accuracy_is_ranking() -> list[Step]:
    generalized = LengthNormalized(SymArray(beta))
    zero = sp.S.Zero
    at = {logp_w: -2, logp_l: -1, beta: 1}
    logged = margin(generalized, length=(len_w, len_l))
    return [
        Iff("one length", margin(generalized, length=(length, length)), zero, beta / length, (logp_w - logp_l,),
            {**at, length: 1}, relation=">"),
        Iff("two lengths", logged, zero, beta / (len_w * len_l), (len_l * logp_w - len_w * logp_l,),
            {**at, len_w: 2, len_l: 2}, relation=">"),
        Differs("log pi = (-3, -2), lengths 2 and 1: the margin is 1/2, while log pi(w) - log pi(l) is -1", logged, logp_w - logp_l,
                {logp_w: -3, logp_l: -2, len_w: 2, len_l: 1, beta: 1}),
    ]  # fmt: skip
