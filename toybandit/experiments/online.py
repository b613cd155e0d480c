"""Statements 1 to 5: entropy against KL, the inverted U, learning rates, optimizers, KL's spread."""

import numpy as np

from derivations.evidence.intervals import Interval, interval
from derivations.evidence.tables import Table
from derivations.evidence.verdicts import Check, Statement, at_least, at_most, between, control, show
from toybandit.experiments.common import Laboratory, counted, fallen, final, sd_ratio, spearman_interval
from toybandit.figures import strength_figure, trajectories_figure
from toybandit.online import Trajectory


def statement_1(lab: Laboratory) -> Statement:
    """Entropy overoptimizes, KL does not."""
    table = lab.table("s1")
    bound, least, strength = table["bounds"], table["least_effect"], table["strength"]
    strengths, chosen = table["strengths"], table["strengths"].index(strength)
    entropy, kl = (lab.strengths("s1", name, strengths) for name in ("entropy", "kl"))
    over, over_kl = counted(entropy), counted(kl)
    gold, gold_kl = final(entropy, "gold"), final(kl, "gold")
    lab.figures["entropy-and-kl"] = trajectories_figure(
        {f"entropy {strength:g}": pick(entropy, chosen), f"KL {strength:g}": pick(kl, chosen), "none": pick(entropy, 0)}
    )
    lab.figures["strength"] = strength_figure(
        strengths, {"entropy": over, "KL": over_kl}, "overoptimization (reward units)"
    )
    highest = max(range(chosen, len(strengths)), key=lambda i: gold[i].mean())
    lowest = min(range(len(strengths)), key=lambda i: gold_kl[i].mean())
    ends = f"on [{strengths[0]:g}, {strengths[-1]:g}]"
    checks = [
        at_least(f"overoptimization, entropy {strength:g}", over[chosen], bound["entropy_loses"]),
        control(at_most(f"overoptimization, KL {strength:g}", over_kl[chosen], bound["kl_loses"])),
        at_least(
            "lower bound of their paired difference",
            interval(over[chosen] - over_kl[chosen]).low,
            bound["difference"],
        ),
        at_least(
            f"Spearman of mean overoptimization with alpha {ends}",
            spearman_interval(strengths, over, seed=table["seed"], least=least),
            bound["spearman_alpha"],
        ),
        control(
            at_most(
                f"Spearman of mean overoptimization with beta {ends}",
                spearman_interval(strengths, over_kl, seed=table["seed"], least=least),
                bound["spearman_beta"],
            )
        ),
        at_most(
            f"highest final gold gain for alpha >= {strength:g} (at {strengths[highest]:g})", gold[highest], -least
        ),
        control(at_least(f"lowest final gold gain for any beta (at {strengths[lowest]:g})", gold_kl[lowest], -least)),
    ]
    columns = (over, fallen(entropy), gold, over_kl, fallen(kl), gold_kl)
    rows = [[f"{s:g}", *(show(interval(v[i])) for v in columns)] for i, s in enumerate(strengths)]
    kinds = ("overoptimization", "plain fall of gold", "final gold")
    heads = ("strength", *(f"{name}: {kind}" for name in ("entropy", "KL") for kind in kinds))
    return Statement(
        "1",
        "Under entropy the gold reward falls while the proxy rises, more so for larger alpha; under KL it does not.",
        checks,
        tables=[Table("By strength", heads, rows)],
        figures=["entropy-and-kl", "strength"],
    )


def pick(trajectory: Trajectory, configuration: int) -> Trajectory:
    """One configuration of a run over several strengths."""
    metrics = {name: values[:, configuration] for name, values in trajectory.metrics.items()}
    return Trajectory(trajectory.step, trajectory.t, metrics, trajectory.logp[configuration])


def statement_2(lab: Laboratory) -> Statement:
    """An inverted U in alpha."""
    table = lab.table("s2")
    alphas, bound, least = table["alphas"], table["bounds"], table["least_effect"]
    turned, harmless = table["turned_alpha"], table["harmless_alpha"]
    entropy = lab.strengths("s2", "entropy", alphas)
    over, plain_gold, proxy = counted(entropy), final(entropy, "gold"), final(entropy, "proxy")
    peak = int(np.argmax(over.mean(-1))) if np.ptp(over.mean(-1)) > least else 0
    two, tenth = alphas.index(turned), alphas.index(harmless)
    at_gold_peak = np.take_along_axis(
        entropy.metrics["proxy"], np.argmax(entropy.metrics["gold"], axis=0)[None], axis=0
    )[0]
    rises = proxy - at_gold_peak
    lab.figures["inverted-u"] = strength_figure(
        alphas, {"overoptimization": over, "proxy gain": proxy, "final gold gain": plain_gold}, "reward units"
    )
    checks = [
        between("alpha of the largest mean overoptimization", alphas[peak], *bound["peak_alpha"]),
        at_most("overoptimization at the largest alpha minus its largest", over[-1] - over[peak], bound["falls_again"]),
        at_most(f"proxy at the end minus proxy at the gold peak, alpha = {turned:g}", rises[two], -least),
        control(
            at_most(
                f"overoptimization at alpha = {harmless:g} minus at {alphas[0]:g}",
                over[tenth] - over[0],
                bound["harmless_loses"],
            )
        ),
        at_least(f"final gold gain at alpha = {harmless:g}", plain_gold[tenth], least),
    ]
    columns = (over, fallen(entropy), plain_gold, proxy, rises)
    rows = [[f"{a:g}", *(show(interval(v[i])) for v in columns)] for i, a in enumerate(alphas)]
    heads = (
        "alpha",
        "overoptimization",
        "plain fall of gold",
        "final gold gain",
        "final proxy gain",
        "proxy: end minus gold peak",
    )
    return Statement(
        "2",
        f"It is an inverted U: near alpha = {turned:g} the proxy no longer rises (drift to uniform, not hacking), and "
        f'alpha <= {harmless:g} is harmless, so the paper\'s "consistently" is too strong here.',
        checks,
        tables=[Table("By alpha", heads, rows)],
        figures=["inverted-u"],
    )


def statement_3(lab: Laboratory) -> Statement:
    """The learning rate only rescales time."""
    table = lab.table("s3")
    lrs, horizon, bound = table["lrs"], table["time"], table["bounds"]
    checks: list[Check] = []
    rows = []
    for method in ("softmax", "rloo"):
        runs = [
            lab.run(
                "s3",
                method=method,
                lr=lr,
                steps=round(horizon / lr),
                samples=table["samples"],
                regularizer="entropy",
                coefficient=table["alpha"],
            ).trajectory
            for lr in lrs
        ]
        gap = _gap(runs, table["from_time"])
        checks.append(control(at_most(f"largest gap of mean gold at equal t, {method}", gap, bound[f"gap_{method}"])))
        rows += [
            [method, f"{lr:g}", str(run.step[-1]), *(show(interval(v)) for v in (final(run, "gold"), fallen(run)))]
            for lr, run in zip(lrs, runs, strict=True)
        ]
    fixed = [
        lab.run("s3", lr=lr, regularizer="entropy", coefficient=table["alpha"]).trajectory for lr in (lrs[0], lrs[-1])
    ]
    difference = final(fixed[0], "gold") - final(fixed[1], "gold")
    what = f"gold after {table['steps']} steps: lr {lrs[0]:g} minus lr {lrs[-1]:g}"
    checks.append(at_least(what, difference, bound["early_stopping"]))
    return Statement(
        "3",
        f"Learning rate only rescales time: gold as a function of lr * steps agrees over a "
        f"{lrs[-1] / lrs[0]:g}-fold range. At a fixed number of steps a low learning rate is early stopping.",
        checks,
        tables=[
            Table(
                f"Final gold gain at t = {horizon:g}",
                ("method", "lr", "steps", "gold gain", "plain fall of gold"),
                rows,
            )
        ],
    )


def _gap(runs: list[Trajectory], start: float) -> float:
    """Largest difference between mean gold curves at equal t >= start, interpolated in log t between logged times."""
    times = np.geomspace(start, min(run.t[-1] for run in runs), 40)
    curves = [np.interp(np.log(times), np.log(r.t[1:]), r.metrics["gold"][1:].mean(-1)) for r in runs]
    return float(np.max(np.ptp(curves, axis=0)))


def statement_4(lab: Laboratory) -> Statement:
    """The optimizer decides the sign."""
    table = lab.table("s4")
    alphas, bound, least = table["alphas"], table["bounds"], table["least_effect"]
    ways: dict[str, dict[str, object]] = {
        "softmax gradient": {},
        "natural gradient": {"method": "natural", "lr": table["natural_lr"]},
        "exact gradient, Adam": {"optimizer": "adam", "lr": table["adam_lr"]},
        "RLOO, SGD": {"method": "rloo", "samples": table["samples"]},
        "RLOO, Adam": {"method": "rloo", "optimizer": "adam", "lr": table["adam_lr"], "samples": table["samples"]},
    }
    runs = {name: lab.strengths("s4", "entropy", alphas, **changes) for name, changes in ways.items()}
    over = {name: counted(run) for name, run in runs.items()}
    lab.figures["optimizers"] = strength_figure(alphas, over, "overoptimization (reward units)")
    checks = []
    for name in ("natural gradient", "exact gradient, Adam"):
        checks.append(at_least(f"overoptimization without regularizer, {name}", over[name][0], bound["none_loses"]))
        trend = spearman_interval(alphas, over[name], seed=table["seed"], least=least)
        checks.append(at_most(f"Spearman of overoptimization with alpha, {name}", trend, bound["spearman_falls"]))
    name = "softmax gradient"
    trend = spearman_interval(alphas, over[name], seed=table["seed"], least=least)
    checks.append(at_least(f"Spearman of overoptimization with alpha, {name}", trend, bound["spearman_rises"]))
    rows = [[name, *(show(interval(v)) for v in values)] for name, values in over.items()]
    gold = [[name, *(show(interval(v)) for v in final(run, "gold"))] for name, run in runs.items()]
    falls = [[name, *(show(interval(v)) for v in fallen(run))] for name, run in runs.items()]
    heads = ("optimizer", *(f"alpha = {a:g}" for a in alphas))
    return Statement(
        "4",
        "Under natural gradient and exact-gradient Adam the unregularized run overoptimizes too, and more entropy "
        "means less of it: the sign of the paper's correlation depends on the optimizer.",
        checks,
        remarks=[
            "Softmax gradient moves arm y at rate pi(y): a hidden prior to stay on the reference's support, "
            "which the entropy bonus removes."
        ],
        tables=[
            Table("Overoptimization", heads, rows),
            Table("Plain fall of gold", heads, falls),
            Table("Final gold gain", heads, gold),
        ],
        figures=["optimizers"],
    )


def statement_5(lab: Laboratory) -> Statement:
    """KL's instability."""
    table = lab.table("s5")
    bound, least, strength = table["bounds"], table["least_effect"], table["strength"]
    (few, many), since = bound["spread"], table["drift_from"]
    checks, rows = [], []
    for method in ("softmax", "rloo"):
        entropy, kl = (
            lab.run("s5", method=method, samples=table["samples"], regularizer=name, coefficient=strength).trajectory
            for name in ("entropy", "kl")
        )
        start = int(np.argmax(kl.t >= since))
        drift = {
            name: run.metrics["kl"][-1] - run.metrics["kl"][start] for name, run in (("KL", kl), ("entropy", entropy))
        }
        gold_drift = kl.metrics["gold"][-1] - kl.metrics["gold"][start]
        shown = (drift["KL"], drift["entropy"], gold_drift, counted(kl), fallen(kl))
        rows.append([method, *(show(interval(v)) for v in shown)])
        for name in ("gold", "proxy"):
            ratio = Interval(*sd_ratio(final(kl, name), final(entropy, name), seed=table["seed"], least=least))
            checks.append(between(f"spread over seeds of {name}, KL / entropy, {method}", ratio, few, many))
        if method == "softmax":
            what = f"KL to the reference still grows after t = {since:g}, nats"
            checks.append(at_least(what, drift["KL"], bound["drift"]))
            what = "back-and-forth of gold under KL, reward units"
            checks.append(control(at_most(what, _back_and_forth(kl), bound["back_and_forth"])))
        else:
            excess = _back_and_forth(kl) - _back_and_forth(entropy)
            what = "back-and-forth of gold, KL minus entropy, rloo"
            checks.append(control(at_most(what, excess, bound["back_and_forth_excess"])))
    heads = (
        "method",
        f"drift of KL divergence, KL {strength:g}",
        f"the same, entropy {strength:g}",
        f"drift of gold, KL {strength:g}",
        "overoptimization, KL",
        "plain fall of gold, KL",
    )
    return Statement(
        "5",
        f'KL "instability" is drift (no plateau) and a {few:g} to {many:g} times larger spread over seeds, '
        "not oscillation.",
        checks,
        tables=[Table(f"Change from t = {since:g} to the end", heads, rows)],
    )


def _back_and_forth(run: Trajectory) -> np.ndarray:
    """Total variation of each seed's gold curve beyond one rise to its peak and one fall, [seeds]."""
    gold = run.metrics["gold"]
    peak = gold.max(axis=0)
    return np.sum(np.abs(np.diff(gold, axis=0)), axis=0) - (peak - gold[0]) - (peak - gold[-1])
