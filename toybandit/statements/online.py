"""TOY's statements 1 to 5: entropy against KL, the inverted U, learning rates, optimizers, KL's spread."""

import numpy as np

from toybandit.figures import strength_figure, trajectories_figure
from toybandit.metrics import Interval, interval
from toybandit.online import Trajectory
from toybandit.statements.common import Laboratory, counted, final, sd_ratio, spearman
from toybandit.verdicts import Check, Statement, Table, at_least, at_most, between, show


def statement_1(lab: Laboratory) -> Statement:
    """Entropy overoptimizes, KL does not."""
    table = lab.table("s1")
    strengths, chosen = table["strengths"], table["strengths"].index(table["strength"])
    entropy, kl = (lab.strengths("s1", name, strengths) for name in ("entropy", "kl"))
    over, over_kl = counted(entropy), counted(kl)
    gold, gold_kl = final(entropy, "gold"), final(kl, "gold")
    lab.figures["entropy-and-kl"] = trajectories_figure(
        {"entropy 0.5": pick(entropy, chosen), "KL 0.5": pick(kl, chosen), "none": pick(entropy, 0)}
    )
    lab.figures["strength"] = strength_figure(
        strengths, {"entropy": over, "KL": over_kl}, "overoptimization (reward units)"
    )
    highest = max(range(chosen, len(strengths)), key=lambda i: gold[i].mean())
    lowest = min(range(len(strengths)), key=lambda i: gold_kl[i].mean())
    checks = [
        at_least("overoptimization, entropy 0.5", over[chosen], 0.45),
        at_most("overoptimization, KL 0.5", over_kl[chosen], 0.05),
        at_least("lower bound of their paired difference", interval(over[chosen] - over_kl[chosen]).low, 0.40),
        at_least("Spearman of mean overoptimization with alpha on [0, 1]", spearman(strengths, over.mean(-1)), 0.9),
        at_most("Spearman of mean overoptimization with beta on [0, 1]", spearman(strengths, over_kl.mean(-1)), 0.3),
        at_most(f"highest final gold gain for alpha >= 0.5 (at {strengths[highest]:g})", gold[highest], 0),
        at_least(f"lowest final gold gain for any beta (at {strengths[lowest]:g})", gold_kl[lowest], 0),
    ]
    rows = [
        [f"{s:g}", *(show(interval(v[i])) for v in (over, gold, over_kl, gold_kl))] for i, s in enumerate(strengths)
    ]
    heads = ("strength", "entropy: overoptimization", "entropy: final gold", "KL: overoptimization", "KL: final gold")
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
    alphas = lab.table("s2")["alphas"]
    entropy = lab.strengths("s2", "entropy", alphas)
    over, plain_gold, proxy = counted(entropy), final(entropy, "gold"), final(entropy, "proxy")
    peak = int(np.argmax(over.mean(-1)))
    two, tenth = alphas.index(2.0), alphas.index(0.1)
    at_gold_peak = np.take_along_axis(
        entropy.metrics["proxy"], np.argmax(entropy.metrics["gold"], axis=0)[None], axis=0
    )[0]
    rises = proxy - at_gold_peak
    lab.figures["inverted-u"] = strength_figure(
        alphas, {"overoptimization": over, "proxy gain": proxy, "final gold gain": plain_gold}, "reward units"
    )
    checks = [
        between("alpha of the largest mean overoptimization", alphas[peak], 0.25, 1.5),
        at_most("overoptimization at the largest alpha minus its largest", over[-1] - over[peak], -0.2),
        at_most("proxy at the end minus proxy at the gold peak, alpha = 2", rises[two], 0),
        at_most("overoptimization at alpha = 0.1 minus at 0", over[tenth] - over[0], 0.05),
        at_least("final gold gain at alpha = 0.1", plain_gold[tenth], 0),
    ]
    rows = [[f"{a:g}", *(show(interval(v[i])) for v in (over, plain_gold, proxy, rises))] for i, a in enumerate(alphas)]
    heads = ("alpha", "overoptimization", "final gold gain", "final proxy gain", "proxy: end minus gold peak")
    return Statement(
        "2",
        "It is an inverted U: near alpha = 2 the proxy no longer rises (drift to uniform, not hacking), and "
        'alpha <= 0.1 is harmless, so the paper\'s "consistently" is too strong here.',
        checks,
        tables=[Table("By alpha", heads, rows)],
        figures=["inverted-u"],
    )


def statement_3(lab: Laboratory) -> Statement:
    """The learning rate only rescales time."""
    table = lab.table("s3")
    lrs, horizon = table["lrs"], table["time"]
    checks: list[Check] = []
    rows = []
    for method, bound in (("softmax", 0.01), ("rloo", 0.08)):
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
        checks.append(at_most(f"largest gap of mean gold at equal t, {method}", _gap(runs, table["from_time"]), bound))
        rows += [
            [method, f"{lr:g}", str(run.step[-1]), show(interval(final(run, "gold")))]
            for lr, run in zip(lrs, runs, strict=True)
        ]
    fixed = [
        lab.run("s3", lr=lr, regularizer="entropy", coefficient=table["alpha"]).trajectory for lr in (lrs[0], lrs[-1])
    ]
    difference = final(fixed[0], "gold") - final(fixed[1], "gold")
    checks.append(at_least(f"gold after {table['steps']} steps: lr {lrs[0]:g} minus lr {lrs[-1]:g}", difference, 0.1))
    return Statement(
        "3",
        "Learning rate only rescales time: gold as a function of lr * steps agrees over a 50-fold range. At a "
        "fixed number of steps a low learning rate is early stopping.",
        checks,
        tables=[Table(f"Final gold gain at t = {horizon:g}", ("method", "lr", "steps", "gold gain"), rows)],
    )


def _gap(runs: list[Trajectory], start: float) -> float:
    """Largest difference between mean gold curves at equal t >= start, interpolated in log t between logged times."""
    times = np.geomspace(start, min(run.t[-1] for run in runs), 40)
    curves = [np.interp(np.log(times), np.log(r.t[1:]), r.metrics["gold"][1:].mean(-1)) for r in runs]
    return float(np.max(np.ptp(curves, axis=0)))


def statement_4(lab: Laboratory) -> Statement:
    """The optimizer decides the sign."""
    table = lab.table("s4")
    alphas = table["alphas"]
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
        checks.append(at_least(f"overoptimization without regularizer, {name}", over[name][0], 0.1))
        checks.append(
            at_most(f"Spearman of overoptimization with alpha, {name}", spearman(alphas, over[name].mean(-1)), -0.9)
        )
    softmax = over["softmax gradient"]
    checks.append(
        at_least("Spearman of overoptimization with alpha, softmax gradient", spearman(alphas, softmax.mean(-1)), 0.9)
    )
    rows = [[name, *(show(interval(v)) for v in values)] for name, values in over.items()]
    gold = [[name, *(show(interval(v)) for v in final(run, "gold"))] for name, run in runs.items()]
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
        tables=[Table("Overoptimization", heads, rows), Table("Final gold gain", heads, gold)],
        figures=["optimizers"],
    )


def statement_5(lab: Laboratory) -> Statement:
    """KL's instability."""
    table = lab.table("s5")
    checks, rows = [], []
    for method in ("softmax", "rloo"):
        entropy, kl = (
            lab.run(
                "s5", method=method, samples=table["samples"], regularizer=name, coefficient=table["strength"]
            ).trajectory
            for name in ("entropy", "kl")
        )
        start = int(np.argmax(kl.t >= table["drift_from"]))
        drift = {
            name: run.metrics["kl"][-1] - run.metrics["kl"][start] for name, run in (("KL", kl), ("entropy", entropy))
        }
        gold_drift = kl.metrics["gold"][-1] - kl.metrics["gold"][start]
        rows.append([method, *(show(interval(v)) for v in (drift["KL"], drift["entropy"], gold_drift))])
        for name in ("gold", "proxy"):
            ratio, low, high = sd_ratio(final(kl, name), final(entropy, name), seed=table["seed"])
            checks.append(
                between(f"spread over seeds of {name}, KL / entropy, {method}", Interval(ratio, low, high), 2, 4)
            )
        if method == "softmax":
            checks.append(at_least("KL to the reference still grows in the last decade of t, nats", drift["KL"], 0.05))
            checks.append(at_most("back-and-forth of gold under KL, reward units", _back_and_forth(kl), 0.05))
        else:
            excess = _back_and_forth(kl) - _back_and_forth(entropy)
            checks.append(at_most("back-and-forth of gold, KL minus entropy, rloo", excess, 0))
    heads = ("method", "drift of KL divergence, KL 0.5", "the same, entropy 0.5", "drift of gold, KL 0.5")
    return Statement(
        "5",
        'KL "instability" is drift (no plateau) and a 2 to 4 times larger spread over seeds, not oscillation.',
        checks,
        tables=[Table(f"Change from t = {table['drift_from']:g} to the end", heads, rows)],
    )


def _back_and_forth(run: Trajectory) -> np.ndarray:
    """Total variation of each seed's gold curve beyond one rise to its peak and one fall, [seeds]."""
    gold = run.metrics["gold"]
    peak = gold.max(axis=0)
    return np.sum(np.abs(np.diff(gold, axis=0)), axis=0) - (peak - gold[0]) - (peak - gold[-1])
