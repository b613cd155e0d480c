"""THEORY 4.1 and 4.2: why entropy fails online. It is KL plus a bonus for the improbable, and it forgets."""

from functools import partial

import sympy as sp

from derivations.objectives import shaped_reward
from derivations.proofs.symbols import (
    alpha,
    beta,
    by_logit,
    length,
    mean,
    moment,
    normalized,
    p,
    positives,
    q,
    r,
    reals,
    rest,
    time,
)
from derivations.prover.claims import claim
from derivations.prover.kinds import Argued, Differs, Equal, Positive, Step, TendsTo
from derivations.prover.symbolic import SymArray
from derivations.prover.tracing import trace, traced_array
from derivations.regularizers import KL, Entropy, LengthNormalized, Regularizer, Sum
from derivations.retention import retention_law as law_of_retention

c = alpha + beta
decay = sp.exp(-c * time)
tau = (1 - decay) / c
log_q = sp.Symbol("log_q", real=True)


def both() -> Regularizer:
    return Sum((Entropy(SymArray(alpha)), KL(SymArray(beta))))


@claim(
    "maxent-is-kl-with-bonus",
    "MaxEnt is KL-regularized RL whose reward got a bonus for what the reference finds improbable.",
    latex=r"E_\pi[r] + \alpha H(\pi) = E_\pi[r - \alpha\log q] - \alpha\,\mathrm{KL}(\pi\|q)",
    source="THEORY 4.1",
    scope="any countable Y: pointwise",
    depends_on=("maxent-optimal-policy",),
)
def maxent_is_kl_with_bonus() -> list[Step]:
    a = SymArray(alpha)
    logp, ref = sp.log(p), sp.log(q)
    bonus = -alpha * ref
    return [
        Equal(
            "one response's share of the two objectives",
            p * r - trace(Entropy(a).phi, logp),
            p * (r + bonus) - trace(KL(a).phi, logp, ref_logp=ref),
        ),
        Equal("and of the two optima", sp.exp(r / alpha), q * sp.exp((r + bonus) / alpha)),
        Equal(
            "and of the two policy gradients",
            trace(shaped_reward, r, logp, regularizer=Entropy(a)),
            trace(shaped_reward, r + bonus, logp, regularizer=KL(a), ref_logp=ref),
        ),
    ]


@claim(
    "natural-gradient-flow",
    "For a tabular softmax the natural gradient moves log pi by the shaped reward minus its mean.",
    latex=r"F\,\dot\theta = \nabla J \ \Rightarrow\ \frac{d}{dt}\log\pi_y = (r - s)_y - E_\pi[r - s]",
    hypotheses="F = diag(pi) - pi pi^T, the Fisher matrix of the logits",
    source="used by THEORY 4.2",
    scope="softmax over any finite Y: one row of F, the other responses summed",
    depends_on=("online-gradient",),
)
def natural_gradient_flow() -> list[Step]:
    (w,) = positives("w", 1)
    three, rewards = positives("v", 3), reals("r", 3)
    policy = normalized(three)
    logps = [sp.log(pi) for pi in policy]
    entropy = Entropy(SymArray(alpha))
    objective = mean(policy, rewards) - sum(traced_array(entropy.phi, logps).values)
    shaped = traced_array(shaped_reward, rewards, logps, regularizer=entropy).values
    fisher = sp.diag(*policy) - sp.Matrix(policy) * sp.Matrix(policy).T
    times_fisher = fisher * sp.Matrix(list(shaped))
    own, other = reals("A", 2)  # shaped reward of one response, and the mean shaped reward of the others
    pi = w / (w + rest)
    average = pi * own + (1 - pi) * other
    row = pi * own - pi * average
    return [
        Equal(
            "three responses, entropy: F (r - s) is the policy gradient", times_fisher[0], by_logit(objective, three[0])
        ),
        Equal("a row of F A is pi (A - E A), the policy gradient", row, pi * (own - average)),
        Equal("also as pi (1 - pi) times the gap to the others", row, pi * (1 - pi) * (own - other)),
        Argued(
            "so the logits move by A (constants lie in the kernel of F), and log pi by A - E_pi[A]",
            by="chain rule",
            uses=("a row of F A",),
        ),
    ]


@claim(
    "retention-law",
    "Under natural gradient flow log pi = kappa log q + tau r + const, with retention kappa = 1 - alpha tau.",
    latex=r"\log\pi_t = \kappa\log q + \tau r + \text{const},\quad \tau = \frac{1-e^{-ct}}{c},\ \kappa = 1-\alpha\tau,\ c=\alpha+\beta",
    hypotheses="flow starts at pi_0 = q; entropy alpha and KL beta",
    source="THEORY 4.2",
    scope="any finite Y: an equation for one response, constants absorbed by normalization",
    depends_on=("natural-gradient-flow",),
)
def retention_law() -> list[Step]:
    path = decay * log_q + tau * (r + beta * log_q)
    k = sp.Symbol("const", real=True)  # what normalization adds; it depends on t alone
    law = traced_array(partial(law_of_retention, alpha=alpha, beta=beta), time)
    shaped = trace(shaped_reward, r, path + k, regularizer=both(), ref_logp=log_q)
    pace = sp.Symbol("eta", positive=True)
    return [
        Equal("the path solves the flow: its rate is the shaped reward, up to a function of t", sp.diff(path, time), shaped + c * k),
        Equal("it starts at log q", path.subs(time, moment), log_q, {moment: sp.S.Zero}),
        Equal("it is kappa log q + tau r with kappa = 1 - alpha tau", path, (1 - alpha * tau) * log_q + tau * r),
        Equal("kappa is what `retention_law` returns", law[0].item(), 1 - alpha * tau),
        Equal("tau is what `retention_law` returns", law[1].item(), tau),
        Equal("a learning rate eta only rescales t", sp.diff(path.subs(time, pace * time), time),
              pace * (shaped + c * k).subs(time, pace * time)),
        Argued(
            "differences of log pi between responses obey a linear equation, so the solution is the only one",
            by="linear flow",
            uses=("the path solves the flow", "it starts at log q"),
        ),
    ]  # fmt: skip


@claim(
    "retention-limits",
    "KL alone keeps the reference whole; entropy alone forgets it as e^(-alpha t); together beta / (alpha + beta) is kept.",
    latex=r"\kappa_{\alpha=0} = 1,\quad \kappa_{\beta=0} = e^{-\alpha t},\quad \kappa \to \frac{\beta}{\alpha+\beta}",
    source="THEORY 4.2",
    scope="any finite Y",
    depends_on=("retention-law",),
)
def retention_limits() -> list[Step]:
    kappa = traced_array(partial(law_of_retention, alpha=alpha, beta=beta), time)[0].item()
    x = sp.Symbol("x", positive=True)
    any_alpha, any_beta = sp.symbols("alpha beta", nonnegative=True)
    return [
        Equal("KL alone", kappa.subs(alpha, any_alpha), sp.S.One, {any_alpha: sp.S.Zero}),
        Equal("entropy alone", kappa.subs(beta, any_beta), sp.exp(-alpha * time), {any_beta: sp.S.Zero}),
        Equal("both", kappa, beta / c + alpha / c * decay),
        TendsTo("e^(-ct) -> 0 for every c > 0, so beta / c is what is kept", decay, time, sp.oo, sp.S.Zero),
        Equal("tau = t (1 - e^(-x)) / x with x = c t", (1 - sp.exp(-x)) / (x / time), tau.subs(c, x / time)),
        TendsTo("and (1 - e^(-x)) / x -> 1, so without regularizer (c -> 0) tau = t", (1 - sp.exp(-x)) / x, x, sp.S.Zero, sp.S.One),
        Positive("forgetting never stops: -d kappa / dt = alpha e^(-ct) > 0", -sp.diff(kappa, time)),
    ]  # fmt: skip


@claim(
    "retention-discrete",
    "Discrete mirror steps keep kappa = 1 - alpha tau exactly, with (1 - eta c)^k in the place of e^(-ct).",
    latex=r"\tau_k = \frac{1-(1-\eta c)^k}{c},\quad \kappa_k = 1-\alpha\tau_k",
    source="THEORY 4.2",
    scope="any finite Y; one step from any state decided, the rest by induction",
    depends_on=("natural-gradient-flow",),
)
def retention_discrete() -> list[Step]:
    eta = sp.Symbol("eta", positive=True)
    power, pressure = sp.symbols("power tau_k", real=True)  # power = (1 - eta c)^k, of either sign
    retention = 1 - alpha * pressure
    k = sp.Symbol("const", real=True)
    here = retention * log_q + pressure * r + k
    step = here + eta * trace(shaped_reward, r, here, regularizer=both(), ref_logp=log_q)
    next_pressure = pressure + eta * (1 - c * pressure)
    return [
        Equal(
            "one step keeps the form, kappa = 1 - alpha tau included; the constant is normalized away",
            step,
            (1 - alpha * next_pressure) * log_q + next_pressure * r + (1 - eta * c) * k,
        ),
        Equal(
            "and tau_k = (1 - (1 - eta c)^k) / c goes on to k + 1",
            next_pressure,
            (1 - power * (1 - eta * c)) / c,
            {pressure: (1 - power) / c},
        ),
        Equal("k = 0: tau = 0, kappa = 1", retention, sp.S.One, {pressure: sp.S.Zero}),
        Argued("so for all k", by="induction", uses=("k = 0", "one step keeps", "and tau_k")),
    ]


@claim(
    "retention-needs-natural-gradient",
    "The softmax policy gradient does not obey the retention law: equal rewards move apart without any regularizer.",
    latex=r"\dot\theta_y = \pi_y (r_y - E_\pi[r]),\qquad r_1 = r_2,\ q_1 \ne q_2 \ \Rightarrow\ \dot\theta_1 \ne \dot\theta_2",
    source="THEORY 4.2, last sentence",
    scope="exact counterexample with three responses, t = 0, no regularizer; Adam is not treated",
    depends_on=("retention-law",),
)
def retention_needs_natural_gradient() -> list[Step]:
    weights, rewards = positives("w", 3), reals("r", 3)
    policy = normalized(weights)
    rates = [by_logit(mean(policy, rewards), weight) for weight in weights]
    average = mean(policy, rewards)
    return [
        Equal("the rate of a logit is pi (r - E[r])", rates[0], policy[0] * (rewards[0] - average)),
        Argued(
            "the law with alpha = beta = 0 moves every log pi by tau r + const, so equal rewards move alike",
            by="linear flow",
            uses=("retention-law",),
        ),
        Differs(
            "q = (1/4, 1/2, 1/4), r = (1, 1, 0): the rates of the first two logits",
            rates[0],
            rates[1],
            dict(zip((*weights, *rewards), map(sp.Integer, (1, 2, 1, 1, 1, 0)), strict=True)),
        ),
    ]


@claim(
    "retention-length",
    "Under the length-normalized regularizer every response forgets at its own rate beta/|y|: long ones retain more.",
    latex=r"\log\pi_t = e^{-a t}\log q + (1-e^{-at})\frac{r}{a} - \int_0^t e^{-a(t-u)}c(u)\,du,\quad a = \frac{\beta}{|y|}",
    source="THEORY 4.2, last part",
    scope="any finite Y; c(t) = E_pi[r - s], whatever it is",
    depends_on=("natural-gradient-flow", "implicit-reward-length-normalized"),
)
def retention_length() -> list[Step]:
    rate, size = beta / length, sp.Symbol("size", positive=True)
    integral, mean_advantage = sp.symbols("I c", real=True)
    free = sp.exp(-rate * time) * log_q + (1 - sp.exp(-rate * time)) * r / rate
    shaped = trace(shaped_reward, r, free - integral, regularizer=LengthNormalized(SymArray(beta)), length=length)
    integral_rate = mean_advantage - rate * integral  # of I = int_0^t e^(-a(t-u)) c(u) du
    return [
        Argued("I(t) = int_0^t e^(-a(t-u)) c(u) du obeys I' = c - a I and I(0) = 0", by="integral rule"),
        Equal("the path solves the flow", sp.diff(free, time) - integral_rate, shaped - mean_advantage),
        Equal("it starts at log q", free.subs(time, moment), log_q, {moment: sp.S.Zero}),
        Positive("retention e^(-beta t / |y|) grows with the length", sp.diff(sp.exp(-beta * time / size), size)),
    ]
