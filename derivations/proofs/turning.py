"""THEORY 4.3 and 4.8: when gold turns down, and whether it falls at once."""

import sympy as sp

from derivations.objectives import shaped_reward
from derivations.proofs.symbols import (
    alpha,
    covariance,
    mean,
    normalized,
    positives,
    r,
    reals,
    rest,
)
from derivations.prover.claims import claim
from derivations.prover.kinds import Argued, Equal, Iff, Step
from derivations.prover.symbolic import SymArray
from derivations.prover.tracing import traced_array
from derivations.regularizers import KL, Entropy


@claim(
    "turning-point",
    "On pi proportional to q e^(tau r), three responses, gold falls as tau grows if and only if Cov(g,r) < 0.",
    latex=r"\frac{dE[g]}{d\tau} = \mathrm{Cov}(g, r),\quad \frac{d\mathrm{KL}(\pi_\tau\|q)}{d\tau} = \tau\,\mathrm{Var}(r)",
    source="THEORY 4.3",
    scope="the change of one probability for any finite Y, the others summed; the condition for three responses",
    expected="iff",
)
def turning_point() -> list[Step]:
    pressure = sp.Symbol("tau", positive=True)
    weights, proxy, gold = positives("w", 3), reals("r", 3), reals("g", 3)
    reference = normalized(weights)
    tilted = [w * sp.exp(pressure * x) for w, x in zip(reference, proxy, strict=True)]
    policy = normalized(tilted)
    logps = [sp.log(pi) for pi in policy]
    kl = sum(traced_array(KL(SymArray(sp.S.One)).phi, logps, ref_logp=[sp.log(w) for w in reference]).values)
    (w,), average, cov = positives("w", 1), sp.Symbol("E_r", real=True), sp.Symbol("Cov(g,r)", real=True)
    total = w * sp.exp(pressure * r) + rest
    # d rest / d tau chosen so that d log total / d tau = E[r], which defines E[r]
    change = sp.diff(w * sp.exp(pressure * r), pressure) / total - w * sp.exp(pressure * r) / total * average
    return [
        Equal(
            "one probability: d pi / d tau = pi (r - E[r])", change, w * sp.exp(pressure * r) / total * (r - average)
        ),
        Argued("summed against g: d E[g] / d tau = Cov(g, r)", by="summation", uses=("one probability",)),
        Iff(
            "three responses: gold falls",
            sp.diff(mean(policy, gold), pressure),
            sp.S.Zero,
            sp.S.One,
            (cov,),
            dict(zip((*weights, *proxy, *gold, pressure), (1, 1, 1, 1, 0, 0, 0, 1, 0, 1), strict=True)),
            where={cov: covariance(policy, gold, proxy)},
            relation="<",
        ),
        Equal("three responses: KL", sp.diff(kl, pressure), pressure * covariance(policy, proxy, proxy)),
    ]


@claim(
    "first-step-signs",
    "Under entropy and natural gradient, three responses, gold falls at t = 0 if and only if Cov_q(g,r) < Cov_q(g,log(q))*alpha.",
    latex=r"\dot E[g]\big|_{t=0} = \mathrm{Cov}_q(g, r) - \alpha\,\mathrm{Cov}_q(g, \log q)",
    source="THEORY 4.8",
    scope="three responses with any reference, gold and proxy",
    depends_on=("natural-gradient-flow",),
    expected="iff",
)
def first_step_signs() -> list[Step]:
    weights, proxy, gold = positives("w", 3), reals("r", 3), reals("g", 3)
    reference = normalized(weights)
    logs = [sp.log(w) for w in reference]
    shaped = list(traced_array(shaped_reward, proxy, logs, regularizer=Entropy(SymArray(alpha))).values)
    average = mean(reference, shaped)
    moving = [pi * (a - average) for pi, a in zip(reference, shaped, strict=True)]  # d pi / d t at t = 0
    names = sp.symbols("Cov_q(g\\,r) Cov_q(g\\,log(q)) Var_q(r) Cov_q(r\\,log(q))", real=True)
    pairs = ((gold, proxy), (gold, logs), (proxy, proxy), (proxy, logs))
    where = {name: covariance(reference, *pair) for name, pair in zip(names, pairs, strict=True)}
    at = dict(zip((*weights, *proxy, *gold, alpha), (1, 2, 1, 1, 0, 0, 1, 0, 0, 1), strict=True))
    return [
        Iff(
            "gold falls at once",
            mean(moving, gold),
            sp.S.Zero,
            sp.S.One,
            (names[0] - alpha * names[1],),
            at,
            where=where,
            relation="<",
        ),
        Iff(
            "the proxy rises at once",
            mean(moving, proxy),
            sp.S.Zero,
            sp.S.One,
            (names[2] - alpha * names[3],),
            at,
            where=where,
            relation=">",
        ),
    ]
