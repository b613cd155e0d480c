"""Statements 6 to 8: interventions, controls, and the laws at t = 0."""

import numpy as np

from derivations.evidence.intervals import interval
from derivations.evidence.tables import Table
from derivations.evidence.verdicts import Statement, at_least, at_most, between, control, show
from toybandit.experiment import Result, drawn
from toybandit.experiments.common import Laboratory, term
from toybandit.figures import mass_figure, trajectories_figure
from toybandit.learners import Natural
from toybandit.metrics import mass_by_comparisons
from toybandit.online import policy_gradient
from toybandit.proxy import pairwise_accuracy


def statement_6(lab: Laboratory) -> Statement:
    """The mechanism, by intervention."""
    table = lab.table("s6")
    alpha, edges, bound, least = table["alpha"], table["edges"], table["bounds"], table["least_effect"]
    entropy = {"regularizer": "entropy", "coefficient": alpha}
    runs: dict[str, Result] = {
        "standard": lab.run("s6", **entropy),
        "proxy = gold on rare arms": lab.run("s6", gold_on="rare", **entropy),
        "proxy = gold on common arms": lab.run("s6", gold_on="common", **entropy),
        "the same, level of the set kept": lab.run("s6", gold_on="common", gold_level="kept", **entropy),
        "entropy on rare arms only": lab.run("s6", regularize_on="rare", **entropy),
        "entropy on common arms only": lab.run("s6", regularize_on="common", **entropy),
    }
    for c in table["pessimism"]:
        runs[f"pessimistic proxy, {c:g} standard errors"] = lab.run("s6", pessimism=c, **entropy)
    over = {name: run.final["overoptimization"] for name, run in runs.items()}
    kl = lab.run("s6", regularizer="kl", coefficient=alpha)
    bandit = drawn(lab.settings("s6"))
    masses = {
        "reference": bandit.world.ref_logp,
        f"KL {alpha:g}": kl.trajectory.logp,
        f"entropy {alpha:g}": runs["standard"].trajectory.logp,
    }
    lab.figures["mass"] = mass_figure(
        {k: mass_by_comparisons(v, bandit.comparisons, edges) for k, v in masses.items()}, edges
    )
    keys = ("overoptimization", "gold_fall", "gold_gain", "proxy_gain", "mass/rare")
    rows = [
        [
            name,
            *(show(interval(run.final[key])) for key in keys),
        ]
        for name, run in runs.items()
    ]
    standard, kept = over["standard"], bound["common_keep"]
    return Statement(
        "6",
        "Mechanism: replace the proxy by gold on arms with <= 5 comparisons and overoptimization goes to about 0; "
        "replace it on all other arms and it stays.",
        [
            at_least(
                "overoptimization, standard minus proxy = gold on rare arms",
                standard - over["proxy = gold on rare arms"],
                bound["rare_explain"],
            ),
            control(
                at_most(
                    "overoptimization, proxy = gold on rare arms", over["proxy = gold on rare arms"], bound["rare_left"]
                )
            ),
            *(
                at_least(
                    f"overoptimization, {name}, minus {kept:g} of the standard one", over[key] - kept * standard, least
                )
                for name, key in (
                    ("proxy = gold on common arms", "proxy = gold on common arms"),
                    ("the same with the set's mean level kept", "the same, level of the set kept"),
                )
            ),
        ],
        tables=[
            Table(
                f"Entropy {alpha:g}",
                ("intervention", "overoptimization", "plain fall of gold", "gold", "proxy", "mass on rare arms"),
                rows,
            )
        ],
        figures=["mass"],
    )


def statement_7(lab: Laboratory) -> Statement:
    """Controls."""
    table = lab.table("s7")
    bound, least, alpha, beta = table["bounds"], table["least_effect"], table["alpha"], table["beta"]
    entropy = {"regularizer": "entropy", "coefficient": alpha}
    kl = {"regularizer": "kl", "coefficient": beta}
    exact, exact_kl = lab.run("s7", proxy="exact", **entropy), lab.run("s7", proxy="exact", **kl)
    shrunk = lab.run("s7", prior_scale=0.0, **entropy)
    ignorant = lab.run("s7", knowledge=0.0, **entropy)
    heavy, heavy_kl, heavy_none = (
        lab.run("s7", proxy="heavy-tailed", noise=table["noise"], **how)
        for how in (entropy, kl, {"regularizer": "none"})
    )
    standard_kl = lab.run("s7", **kl)
    still = lab.run("s7", steps=0, **entropy)
    bandit = drawn(lab.settings("s7"))
    lab.figures["heavy"] = trajectories_figure(
        {f"KL {beta:g}, heavy-tailed proxy": heavy_kl.trajectory, f"KL {beta:g}, fitted proxy": standard_kl.trajectory}
    )
    worst = max(np.abs(still.final[name]).max() for name in ("proxy_gain", "gold_gain", "overoptimization", "kl"))
    runs = {
        "exact proxy, entropy": exact,
        "exact proxy, KL": exact_kl,
        "s = 0, entropy": shrunk,
        "rho = 0, entropy": ignorant,
        "heavy tails, entropy": heavy,
        "heavy tails, KL": heavy_kl,
        "heavy tails, none": heavy_none,
        "fitted proxy, KL": standard_kl,
    }
    rows = [
        [
            name,
            *(show(interval(run.final[key])) for key in ("overoptimization", "gold_fall", "gold_gain", "proxy_gain")),
        ]
        for name, run in runs.items()
    ]
    return Statement(
        "7",
        "Controls: with the exact proxy gold rises and stays; s = 0 loses at most "
        f"{bound['shrunk_loses']:g}; rho = 0 does not end below pi_ref in the "
        "mean; heavy tails make KL fail too.",
        [
            at_least(f"final gold gain, exact proxy, entropy {alpha:g}", exact.final["gold_gain"], least),
            at_least(f"the same, KL {beta:g}", exact_kl.final["gold_gain"], least),
            *(
                control(
                    at_most(f"plain fall of gold, exact proxy, {name}", run.final["gold_fall"], bound["exact_falls"])
                )
                for name, run in ((f"entropy {alpha:g}", exact), (f"KL {beta:g}", exact_kl))
            ),
            control(at_most("overoptimization, s = 0", shrunk.final["overoptimization"], bound["shrunk_loses"])),
            control(at_least("final gold gain, rho = 0", ignorant.final["gold_gain"], -least)),
            at_least(
                f"overoptimization under KL {beta:g}: heavy tails minus fitted proxy",
                heavy_kl.final["overoptimization"] - standard_kl.final["overoptimization"],
                bound["heavy_loses"],
            ),
            at_most(f"final gold gain under KL {beta:g} with heavy tails", heavy_kl.final["gold_gain"], -least),
            control(
                between(
                    "pairwise accuracy of the standard proxy",
                    pairwise_accuracy(bandit.world, bandit.proxy),
                    *bound["accuracy"],
                )
            ),
            control(at_most("largest effect of any seed with an optimizer of 0 steps", worst, 0)),
        ],
        tables=[
            Table(
                f"Strengths: entropy {alpha:g}, KL {beta:g}",
                ("control", "overoptimization", "plain fall of gold", "final gold gain", "final proxy gain"),
                rows,
            )
        ],
        figures=["heavy"],
    )


def statement_8(lab: Laboratory) -> Statement:
    """The laws at t = 0, against one small step of the simulator's natural gradient."""
    table = lab.table("s8")
    alphas, bound = table["alphas"], table["bounds"]
    bandit = drawn(lab.settings("s8"))
    world, proxy, q = bandit.world, bandit.proxy, np.exp(bandit.world.ref_logp)

    def covariance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        centred = a - np.sum(q * a, axis=-1, keepdims=True)
        return np.sum(q * centred * b, axis=-1)

    step = policy_gradient(
        world,
        proxy,
        regularizer=term("entropy", alphas, "float64"),
        learner=Natural(table["step"]),
        steps=1,
        dtype=np.float64,
    )
    change = np.exp(step.logp) - q
    strength = np.array(alphas).reshape(-1, 1, 1)
    gold_falls = strength * covariance(world.gold, world.ref_logp) > covariance(world.gold, proxy)
    proxy_rises = strength * covariance(proxy, world.ref_logp) < covariance(proxy, proxy)
    gold_agrees = gold_falls == (np.sum(change * world.gold, axis=-1) < 0)
    proxy_agrees = proxy_rises == (np.sum(change * proxy, axis=-1) > 0)
    negative = np.mean(covariance(world.gold, world.ref_logp) < 0, axis=-1)
    return Statement(
        "8",
        "Natural gradient at t = 0: gold falls at once iff alpha Cov(g, log q) > Cov(g, r), the proxy rises iff "
        "alpha Cov(r, log q) < Var(r). Sign agreement 100 %; the divided form fails where a covariance is negative, "
        f"{100 * bound['negative'][0]:g} to {100 * bound['negative'][1]:g} % of standard worlds.",
        [
            at_least(
                "share of prompts and alphas with the predicted sign of the gold change",
                np.mean(gold_agrees),
                bound["agree"],
            ),
            at_least("the same for the proxy", np.mean(proxy_agrees), bound["agree"]),
            control(
                between(
                    "share of prompts with Cov(g, log q) < 0, where the divided form has the wrong sign",
                    negative,
                    *bound["negative"],
                )
            ),
            control(
                between(
                    "share of cases in which gold falls at once (neither sign is trivial)",
                    np.mean(gold_falls),
                    *bound["not_trivial"],
                )
            ),
        ],
    )
