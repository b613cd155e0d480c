"""THEORY 4.5 to 4.7: best-of-n, regressional Goodhart, heavy tails."""

import sympy as sp

from derivations.best_of_n import kl_bound
from derivations.proofs.symbols import p, positives, q
from derivations.prover.claims import claim
from derivations.prover.kinds import Argued, Differs, Equal, Positive, Step, TendsTo
from derivations.prover.symbolic import SymArray
from derivations.prover.tracing import trace
from derivations.regularizers import KL

n = sp.Symbol("n", positive=True)
x = sp.Symbol("x", positive=True)  # quantile of the reward under the reference


def kl_share(policy: sp.Expr, reference: sp.Expr) -> sp.Expr:
    """One response's share of KL(policy || reference), through the traced regularizer."""
    return trace(KL(SymArray(sp.S.One)).phi, sp.log(policy), ref_logp=sp.log(reference))


@claim(
    "best-of-n",
    "Without atoms KL(best-of-n || q) is log n - (n - 1)/n; for n = 2 every atom makes it strictly smaller.",
    latex=r"\mathrm{KL}(\mathrm{BoN}\|q) \le \log n - \frac{n-1}{n}",
    hypotheses="n >= 2; q the reference; an atom: a reward value that q gives positive probability; ties are broken "
    "independently of the response",
    source="THEORY 4.5; arXiv:2401.01879",
    scope="the integral for any n; the gap of an atom decided for n = 2, for other n argued",
)
def best_of_n() -> list[Step]:
    density = n * x ** (n - 1)
    antiderivative = x**n * (sp.log(n) + (n - 1) * sp.log(x)) - (n - 1) * x**n / n
    # n = 2, an atom between the quantiles rho b and b: its share of the bound minus its share of the KL, over b^2
    rho, growth = sp.symbols("rho growth", positive=True)
    gap = sp.log(2) - rho**2 * sp.log(2 * rho) - (1 - rho**2) / 2 - (1 - rho**2) * sp.log(1 + rho)
    b = sp.Symbol("b", positive=True)
    integral = (antiderivative.subs(x, b) - antiderivative.subs(x, rho * b)).subs(n, 2)
    atom = kl_share(b**2 - (rho * b) ** 2, b - rho * b)
    arms = sp.Rational(1, 2)
    return [
        Argued(
            "best-of-n has P(quantile <= x) = x^n, so without atoms its density against q is n x^(n-1)",
            by="largest of n",
        ),
        Equal("antiderivative of that density times its log", sp.diff(antiderivative, x), density * sp.log(density)),
        Equal(
            "from 0 to 1: log n - (n - 1)/n (no atoms: equality)",
            antiderivative,
            trace(kl_bound, n),
            {x: sp.S.One},
            every=(n,),
        ),
        TendsTo("and nothing at 0", antiderivative, x, sp.S.Zero, sp.S.Zero),
        Equal(
            "n = 2, an atom from rho b to b: integral minus KL is b^2 gap(rho)",
            integral - atom,
            b**2 * gap,
            unit=frozenset({rho, b}),
        ),
        Equal("gap(1) = 0", gap, sp.S.Zero, {rho: sp.S.One}, unit=frozenset({rho})),
        Equal(
            "gap'(rho) = -2 rho h(t) with t = (1 + rho) / (2 rho), h(t) = t - 1 - log t",
            sp.diff(gap, rho),
            2 * rho * sp.log((1 + rho) / (2 * rho)) - (1 - rho),
            unit=frozenset({rho}),
        ),
        Equal(
            "and 2 rho (t - 1) = 1 - rho, so gap' = -2 rho h(t)",
            2 * rho * ((1 + rho) / (2 * rho) - 1),
            1 - rho,
            unit=frozenset({rho}),
        ),
        Positive(
            "h is strictly convex (and h(1) = h'(1) = 0)",
            sp.diff(growth - 1 - sp.log(growth), growth, 2),
        ),
        Argued(
            "so gap' < 0 for rho < 1, and gap > gap(1) = 0: an atom makes it strictly smaller",
            by="tangent",
            uses=("h is strictly convex", "gap(1) = 0", "and 2 rho (t - 1)"),
        ),
        Positive("t log t is strictly convex", sp.diff(growth * sp.log(growth), growth, 2)),
        Argued(
            "other n: t log t is strictly convex and n x^(n-1) is not constant on an atom: strictly smaller as well",
            by="jensen",
            uses=("t log t is", "antiderivative of that density"),
        ),
        Positive(
            "two equal arms, n = 2: log 2 - 1/2 - KL > 0",
            sp.log(2) - arms - kl_share(sp.Rational(1, 4), arms) - kl_share(sp.Rational(3, 4), arms),
        ),
    ]


@claim(
    "regressional-goodhart",
    "For Gaussian gold and independent Gaussian noise, gold follows the proxy with slope Var(g) / (Var(g) + Var(noise)).",
    latex=r"E[g \mid r] = \frac{\mathrm{Var}(g)}{\mathrm{Var}(g) + \mathrm{Var}(\epsilon)}\,r",
    hypotheses="r = g + noise, both centred Gaussian, independent",
    source="THEORY 4.6",
    scope="all variances: the joint density's exponent, square completed",
)
def regressional_goodhart() -> list[Step]:
    g, r = sp.symbols("g r", real=True)
    var_g, var_noise = positives("v", 2)
    slope = var_g / (var_g + var_noise)
    joint = -(g**2) / (2 * var_g) - (r - g) ** 2 / (2 * var_noise)
    width = var_g * var_noise / (var_g + var_noise)
    return [
        Equal(
            "log density of (g, r) = that of g around slope r, plus that of r",
            joint,
            -((g - slope * r) ** 2) / (2 * width) - r**2 / (2 * (var_g + var_noise)),
        ),
        Positive("the slope is positive", slope),
        Positive("and below 1: part of every proxy gain is noise", 1 - slope),
        Argued(
            "given r, g is Gaussian around slope r, so that is its conditional mean",
            by="conditional density",
            uses=("log density of (g, r)",),
        ),
    ]


@claim(
    "goodhart-slope-is-gaussian",
    "Gold follows the proxy along a line through 0 whatever the distribution of gold.",
    latex=r"E[g \mid r] = r + \mathrm{Var}(\epsilon)\,\frac{f'(r)}{f(r)},\qquad g = \pm 1:\ E[g \mid r] = \tanh(r / \mathrm{Var}(\epsilon))",
    hypotheses="r = g + noise, noise centred Gaussian with variance v, independent; f the density of r",
    source="THEORY 4.6, remark",
    scope="any distribution of gold (Tweedie's formula, argued); exact counterexample g = +-1 for every v",
    depends_on=("regressional-goodhart",),
    expected="refuted",
)
def goodhart_slope_is_gaussian() -> list[Step]:
    r, var = sp.Symbol("r", real=True), sp.Symbol("v", positive=True)
    var_g, slope = sp.symbols("v_g c", positive=True)
    up, down = sp.exp(-((r - 1) ** 2) / (2 * var)), sp.exp(-((r + 1) ** 2) / (2 * var))
    given_r = (up - down) / (up + down)
    tanh = (sp.exp(2 * r / var) - 1) / (sp.exp(2 * r / var) + 1)
    odds = sp.Symbol("odds", positive=True)  # e^{2 r / v}: E[g | r] = (odds - 1) / (odds + 1)
    line = sp.exp((slope - 1) * r**2 / (2 * var))
    return [
        Argued("E[g | r] = r + v f'/f, as the normal density of the noise obeys v d/dr = -(r - g)", by="tweedie"),
        Equal(
            "g = +-1: the formula gives the conditional mean", r + var * sp.diff(up + down, r) / (up + down), given_r
        ),
        Equal("which is tanh(r / v)", given_r, tanh),
        Equal("in odds e^(2r/v)", given_r, ((odds - 1) / (odds + 1)).subs(odds, sp.exp(2 * r / var))),
        Differs(
            "twice E[g | r] and E[g | 2r], where e^(2r/v) = 2: gold against a line",
            2 * (odds - 1) / (odds + 1),
            (odds**2 - 1) / (odds**2 + 1),
            {odds: sp.Integer(2)},
        ),
        Equal(
            "Gaussian gold: f is Gaussian with variance v_g + v, and the mean is the line of regressional-goodhart",
            r + var * sp.diff(-(r**2) / (2 * (var_g + var)), r),
            var_g / (var_g + var) * r,
        ),
        Equal(
            "a line c r means f'/f = (c - 1) r / v, which exp((c - 1) r^2 / (2 v)) solves",
            sp.diff(line, r) / line,
            (slope * r - r) / var,
        ),
        Argued(
            "and nothing else but its multiples: so r is Gaussian, and so is g", by="cramer", uses=("a line c r means",)
        ),
    ]


@claim(
    "heavy-tails",
    "With a Pareto proxy error that is independent of gold, a KL budget eps > 0, however small, buys unbounded proxy and no gold.",
    latex=r"\pi = (1-d)\,q + d\,q(\cdot \mid X > t):\quad \mathrm{KL}(\pi\|q) \le d\log\frac{1}{P(X>t)}",
    hypotheses="X the error, independent of gold g under q, proxy r = g + X; P(X > t) = t^-k for t >= 1 with k > 1 (Pareto, finite mean)",
    source="THEORY 4.7; arXiv:2407.14503",
    scope="any Y that carries such an X (no finite one does, so claim turning-point is not contradicted); Pareto tails only",
    depends_on=("kl-nonnegative",),
)
def heavy_tails() -> list[Step]:
    d, tail = sp.symbols("d tail", positive=True)  # tail = P(X > t)
    w, exponent, budget = sp.symbols("w k eps", positive=True)
    t = sp.exp(w)
    weight = budget / (exponent * w)  # d = eps / log(1 / P)
    gold = sp.Symbol("E_g", real=True)
    return [
        Equal("KL of q(. | X > t): a response in the tail", kl_share(q / tail, q), q / tail * sp.log(1 / tail), unit=frozenset({tail})),
        Argued(
            "summed over the tail, which has mass `tail` under q: KL(q(. | X > t) || q) = log(1/P(X > t))",
            by="summation",
            uses=("KL of q(. | X > t)",),
        ),
        Positive("p log(p/q) is convex in p", sp.diff(kl_share(p, q), p, 2)),
        Argued(
            "so KL of the mixture is at most (1 - d) 0 + d log(1/P), and d = eps / log(1/P) keeps it below eps",
            by="convex sums",
            uses=("p log(p/q) is convex",),
        ),
        Equal("Pareto, t = e^w: log(1/P) = k w", budget / sp.log(1 / t ** (-exponent)), weight),
        TendsTo("the proxy gains at least d (t - E[X]), E[X] finite, and d t grows without bound", weight * t, w, sp.oo, sp.oo),
        TendsTo("while d itself tends to 0", weight, w, sp.oo, sp.S.Zero),
        Equal("X independent of g: E[g] of the mixture is that of q", (1 - d) * gold + d * gold, gold),
    ]  # fmt: skip
