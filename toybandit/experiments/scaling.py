"""Statement 10: best-of-n and the forms of Gao et al.; and the phase diagrams."""

from typing import Any

import numpy as np

from derivations.arrays import log_softmax
from derivations.best_of_n import kl_bound
from derivations.evidence.intervals import Interval, interval
from derivations.evidence.tables import Table
from derivations.evidence.verdicts import Check, Statement, at_least, at_most, control, show
from toybandit.experiment import drawn
from toybandit.experiments.common import Laboratory, counted, fallen, final
from toybandit.figures import gao_figure, phase_figure, retention_figure
from toybandit.online import Trajectory
from toybandit.scaling import GaoFit, best_of_n, best_of_n_curve, fit_gao

ROUND_OFF = 1e-12  # the bound is met with equality at n = 1
FORMS = ("quadratic", "logarithmic")


def statement_10(lab: Laboratory) -> Statement:
    """Best-of-n."""
    table = lab.table("s10")
    ns, alpha, bound = table["n"], table["alpha"], table["bounds"]
    bounds = kl_bound(np.array(ns, dtype=float))
    bandit = drawn(lab.settings("s10"))
    curve = best_of_n_curve(bandit.world, bandit.proxy, ns)
    arms, largest = table["uniform_arms"], table["uniform_largest_n"]
    uniform_ns = [n for n in ns if n <= largest]
    uniform = _uniform_kl(table, uniform_ns)
    short = bounds[: len(uniform_ns), None] - uniform
    curves = {"best-of-n": (curve["kl"], curve["gold"])}
    for label, changes in (
        (f"softmax gradient, entropy {alpha:g}", {"regularizer": "entropy", "coefficient": alpha}),
        ("softmax gradient, none", {}),
        ("natural gradient, none", {"method": "natural", "lr": table["natural_lr"]}),
    ):
        metrics = lab.run("s10", **changes).trajectory.metrics
        curves[label] = (metrics["kl"], metrics["gold"])
    leads = {label: _lead(*pair, seed=table["seed"]) for label, pair in curves.items()}
    means = {label: (kl.mean(-1), gold.mean(-1)) for label, (kl, gold) in curves.items()}
    fits = {label: {form: fit_gao(kl, gold, form) for form in FORMS} for label, (kl, gold) in means.items()}
    lab.figures["gao"] = gao_figure(means, fits)
    checks: list[Check] = [
        control(
            at_most(
                "largest KL(best-of-n) - (log n - (n - 1)/n) of any seed and n, standard world",
                (curve["kl"] - bounds[:, None]).max(),
                ROUND_OFF,
            )
        ),
        control(at_most(f"the same, near-uniform reference of {arms} arms", (-short).max(), ROUND_OFF)),
        at_most(f"largest shortfall from the bound there, n <= {largest}", short.max(), bound["shortfall"]),
    ]
    checks += [
        at_least(f"R^2 of d(a - b d) minus R^2 of d(a - b log d): {label}", lead, bound["quadratic_lead"])
        for label, lead in leads.items()
    ]
    fit_rows = [[label, *_row(fit["quadratic"]), *_row(fit["logarithmic"])] for label, fit in fits.items()]
    n_rows = [
        [str(n), f"{most:.3f}", *(show(interval(curve[key][i])) for key in ("kl", "proxy", "gold"))]
        for i, (n, most) in enumerate(zip(ns, bounds, strict=True))
    ]
    return Statement(
        "10",
        f"Exact KL of best-of-n is <= log n - (n - 1)/n always, within {bound['shortfall']:g} for near-uniform "
        f"K = {arms}, n <= {largest}. Of the forms of Gao et al. the quadratic one wins in this world, with exact KL.",
        checks,
        tables=[
            Table(
                "Fits of mean gold gain against d = sqrt(mean KL)",
                ("curve", "a", "b", "R^2 of d(a - b d)", "a", "b", "R^2 of d(a - b log d)"),
                fit_rows,
            ),
            Table("Best-of-n by the fitted proxy", ("n", "log n - (n - 1)/n", "KL", "proxy gain", "gold gain"), n_rows),
        ],
        figures=["gao"],
    )


def _lead(kl: np.ndarray, gold: np.ndarray, *, seed: int, draws: int = 400) -> Interval:
    """R^2 of the quadratic form minus that of the logarithmic one, with its 95 % bootstrap interval over worlds."""

    def lead(worlds: np.ndarray) -> float:
        d2, gain = kl[:, worlds].mean(-1), gold[:, worlds].mean(-1)
        return fit_gao(d2, gain, "quadratic").r2 - fit_gao(d2, gain, "logarithmic").r2

    worlds = kl.shape[-1]
    found = [lead(pick) for pick in np.random.default_rng(seed).integers(worlds, size=(draws, worlds))]
    return Interval(lead(np.arange(worlds)), *(float(end) for end in np.quantile(found, [0.025, 0.975])))


def _row(fit: GaoFit) -> tuple[str, str, str]:
    return f"{fit.a:.3f}", f"{fit.b:.3f}", f"{fit.r2:.3f}"


def _uniform_kl(table: dict[str, Any], ns: list[int]) -> np.ndarray:
    """KL(best-of-n || pi_ref) for a near-uniform reference and a reward without ties, [n, seeds]."""
    shape = (2, table["uniform_seeds"], table["uniform_arms"])
    reward, noise = np.random.default_rng(np.random.SeedSequence(table["seed"])).standard_normal(shape)
    ref_logp = log_softmax(table["uniform_spread"] * noise)
    best = (best_of_n(ref_logp, reward, n) for n in ns)
    return np.stack([np.sum(np.exp(logp) * (logp - ref_logp), axis=-1, where=np.isfinite(logp)) for logp in best])


def phases(lab: Laboratory) -> Statement:
    """Phase diagrams: overoptimization over alpha x amount of data, and alpha x quality of the proxy."""
    table = lab.table("phase")
    alphas, alpha, bound = table["alphas"], table["alpha"], table["bounds"]
    grids: dict[str, np.ndarray] = {}
    golds: dict[str, np.ndarray] = {}
    falls: dict[str, np.ndarray] = {}
    for option in ("pairs", "prior_scale"):
        values = table["pairs" if option == "pairs" else "prior_scales"]
        runs: list[Trajectory] = [lab.strengths("phase", "entropy", alphas, **{option: value}) for value in values]
        grids[option] = np.stack([counted(run) for run in runs])
        falls[option] = np.stack([fallen(run) for run in runs])
        golds[option] = np.stack([final(run, "gold") for run in runs])
        lab.figures[f"phase-{option}"] = phase_figure(
            {"overoptimization": grids[option].mean(-1), "final gold gain": golds[option].mean(-1)},
            x=alphas,
            y=values,
            x_label="alpha (entropy)",
            y_label="pairs a prompt" if option == "pairs" else "spread of the prior, s",
        )
    half, scales = alphas.index(alpha), table["prior_scales"]
    return Statement(
        "phase",
        "Overoptimization needs both a proxy that is wrong off the data and a regularizer that goes there: it "
        "vanishes with a prior of no spread; more data makes it smaller.",
        [
            at_most(
                f"overoptimization at alpha {alpha:g}: most data minus least",
                grids["pairs"][-1, half] - grids["pairs"][0, half],
                -table["least_effect"],
            ),
            at_least(
                f"overoptimization at alpha {alpha:g}: s = {scales[-1]:g} minus s = {scales[0]:g}",
                grids["prior_scale"][-1, half] - grids["prior_scale"][0, half],
                bound["prior_spread"],
            ),
        ],
        tables=[
            Table(
                f"By data and by proxy, alpha {alpha:g}",
                ("setting", "value", "overoptimization", "plain fall of gold", "final gold gain"),
                [
                    [option, f"{value:g}", *(show(interval(v[option][i, half])) for v in (grids, falls, golds))]
                    for option, values in (("pairs", table["pairs"]), ("prior_scale", scales))
                    for i, value in enumerate(values)
                ],
            )
        ],
        figures=["phase-pairs", "phase-prior_scale"],
    )


def other_worlds(lab: Laboratory) -> Statement:
    """The question of statement 1 in the token tree and in the shared-parameter world; and where policies go."""
    table = lab.table("others")
    strength, bound, least = table["strength"], table["bounds"], table["least_effect"]
    both = {name: {"regularizer": name, "coefficient": strength} for name in ("entropy", "kl")}
    tree = {name: lab.run("others", world="tree", **how) for name, how in both.items()}
    linear = {"world": "shared", "proxy": "linear", "pairs": table["shared_pairs"], "seeds": table["shared_seeds"]}
    shared = {
        (name, quad): lab.run("others", quad=quad, **linear, **how) for name, how in both.items() for quad in (1.0, 0.0)
    }
    natural = {
        name: lab.run("others", method="natural", lr=table["natural_lr"], **how).trajectory
        for name, how in both.items()
    }
    softmax = {name: lab.run("others", **how).trajectory for name, how in both.items()}
    none = lab.run("others", method="natural", lr=table["natural_none_lr"]).trajectory
    lab.figures["retention"] = retention_figure(
        {
            f"entropy {strength:g}": (softmax["entropy"], natural["entropy"]),
            f"KL {strength:g}": (softmax["kl"], natural["kl"]),
            "none": (None, none),
        },
        laws={f"entropy {strength:g}": strength, f"KL {strength:g}": 0.0, "none": 0.0},
    )
    runs = {f"tree, {name}": run for name, run in tree.items()}
    runs |= {f"shared, quad = {quad:g}, {name}": run for (name, quad), run in shared.items()}
    keys = ("overoptimization", "gold_fall", "gold_gain", "proxy_gain", "kl", "entropy")
    rows = [[name, *(show(interval(run.final[key])) for key in keys)] for name, run in runs.items()]
    over = {key: run.final["overoptimization"] for key, run in shared.items()}
    law = max(
        np.abs(n.metrics["retention/kappa"] - (1 - a * n.metrics["retention/tau"])).max()
        for n, a in ((natural["entropy"], strength), (natural["kl"], 0.0), (none, 0.0))
    )
    return Statement(
        "other worlds",
        "The difference between entropy and KL shows in the token tree too; in the shared-parameter world "
        "overoptimization comes from a cost that the linear reward model cannot see (quad = 1), and without it "
        f"(quad = 0) at most {bound['quad_left']:g} is left; natural gradient obeys kappa = 1 - alpha tau.",
        [
            at_least(
                f"tree: overoptimization, entropy {strength:g} minus KL {strength:g}",
                tree["entropy"].final["overoptimization"] - tree["kl"].final["overoptimization"],
                bound["tree"],
            ),
            at_least(
                f"shared: overoptimization under entropy {strength:g}, quad = 1 minus quad = 0",
                over["entropy", 1.0] - over["entropy", 0.0],
                bound["quad"],
            ),
            control(
                at_most(
                    f"shared, quad = 0: overoptimization under entropy {strength:g}",
                    over["entropy", 0.0],
                    bound["quad_left"],
                )
            ),
            at_least(
                f"shared, quad = 1: overoptimization, entropy {strength:g} minus KL {strength:g}",
                over["entropy", 1.0] - over["kl", 1.0],
                least,
            ),
            control(at_most("largest |kappa - (1 - alpha tau)| along natural gradient", law, bound["law"])),
        ],
        tables=[
            Table(
                f"Final policies, strength {strength:g}",
                ("world and regularizer", "overoptimization", "plain fall of gold", "gold", "proxy", "KL", "entropy"),
                rows,
            )
        ],
        figures=["retention"],
    )
