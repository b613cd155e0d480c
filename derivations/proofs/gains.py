"""What best-of-n and KL buy where the answer is exact: win rates, and jointly Gaussian gold and proxy."""

import sympy as sp

from derivations.prover.claims import claim
from derivations.prover.kinds import Argued, Equal, Positive, Step, TendsTo

n, x = sp.symbols("n x", positive=True)  # x: quantile of the reward under the reference


@claim(
    "best-of-n-win-rate",
    "Without atoms best-of-n beats a fresh sample of the reference with probability n/(n + 1); for n = 2 each atom costs a sixth of "
    "the cube of its mass.",
    latex=r"\int_0^1 x \, d(x^n) = \frac{n}{n+1},\qquad n = 2:\ \tfrac23 - \tfrac16\sum_a q(a)^3",
    hypotheses="an atom: a reward value that q gives positive probability; a tie counts as half a win",
    source="arXiv:2404.01730, the win rate of best-of-n",
    scope="any Y without atoms, any n; with atoms n = 2, one atom's share",
    depends_on=("best-of-n",),
)
def best_of_n_win_rate() -> list[Step]:
    density = n * x ** (n - 1)
    wins = n * x ** (n + 1) / (n + 1)
    below, mass = sp.symbols("below mass", positive=True)  # an atom between the quantiles below and below + mass
    top = below + mass
    smooth = wins.subs(n, 2).subs(x, top) - wins.subs(n, 2).subs(x, below)
    tied = (top**2 - below**2) * (below + mass / 2)
    excess = sp.Symbol("k", positive=True)
    return [
        Argued("best-of-n has P(quantile <= x) = x^n, so without atoms its density against q is n x^(n-1)", by="largest of n"),
        Equal("its slope: a response at quantile x beats a fresh one with probability x", sp.diff(wins, x), x * density),
        Equal("from 0 to 1: n/(n + 1)", wins, n / (n + 1), {x: sp.S.One}, every=(n,)),
        TendsTo("and nothing at 0", wins, x, sp.S.Zero, sp.S.Zero),
        Equal("n = 2, an atom: wins without ties minus wins with them", smooth - tied, mass**3 / 6),
        Argued("summed over the atoms", by="summation", uses=("n = 2, an atom",)),
        Equal("n = 2, one atom of mass 1: a half", wins.subs(n, 2).subs(x, 1) - mass**3 / 6, sp.S.Half, {mass: sp.S.One}),
        Positive("more samples win more", ((n + excess) / (n + excess + 1) - n / (n + 1))),
        TendsTo("and always in the end: the share lost", 1 / (n + 1), n, sp.oo, sp.S.Zero),
    ]  # fmt: skip


@claim(
    "gaussian-gains",
    "For jointly Gaussian gold and proxy with a positive covariance, gold rises along KL's path as correlation times its standard deviation "
    "times sqrt(2 KL), and never turns down.",
    latex=r"E_{\pi_\tau}[g] - E_q[g] = \tau\,\mathrm{Cov}(g, r) = \rho\,\sigma_g\sqrt{2\,\mathrm{KL}(\pi_\tau\|q)}",
    hypotheses="under q, (g, r) is centred Gaussian with variances v_g, v_r and covariance c > 0, v_g v_r > c^2; pi_tau = q e^(tau r) / Z",
    source="THEORY 4.3 and 4.6; arXiv:2210.10760 (which fits other curves)",
    scope="any Y that carries such a pair (not a finite one); all tau > 0",
    depends_on=("turning-point", "regressional-goodhart"),
)
def gaussian_gains() -> list[Step]:
    g, r = sp.symbols("g r", real=True)
    c, v_r, left, tau, kl = sp.symbols("c v_r left tau KL", positive=True)
    v_g = (left + c**2) / v_r  # left = v_g v_r - c^2 > 0
    gain, divergence = tau * c, tau**2 * v_r / 2
    slope, deviation = c / sp.sqrt(v_g * v_r), sp.sqrt(v_g)

    def log_density(gold: sp.Expr, proxy: sp.Expr) -> sp.Expr:
        return -(v_r * gold**2 - 2 * c * gold * proxy + v_g * proxy**2) / (2 * left)

    return [
        Equal("the tilt e^(tau r) only shifts the density, by (tau c, tau v_r), with log Z = tau^2 v_r / 2",
              log_density(g, r) + tau * r - tau**2 * v_r / 2, log_density(g - tau * c, r - tau * v_r)),
        Equal("KL = tau E[r] - log Z", tau * (tau * v_r) - tau**2 * v_r / 2, divergence),
        Argued("the mean of g under the shifted density is tau c", by="conditional density", uses=("the tilt e^(tau r)",)),
        Equal("so gold gains rho sigma_g sqrt(2 KL)", slope * deviation * sp.sqrt(2 * divergence), gain),
        Positive("it rises with tau", sp.diff(gain, tau)),
        Positive("and with KL", sp.diff(slope * deviation * sp.sqrt(2 * kl), kl)),
        TendsTo("without a bound", sp.sqrt(2 * kl), kl, sp.oo, sp.oo),
    ]  # fmt: skip
