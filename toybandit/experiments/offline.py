"""Statement 9: what offline training does to arms that the data never saw, and SimPO against DPO."""

import numpy as np
from scipy.sparse.csgraph import connected_components

from derivations.arrays import log_softmax
from derivations.evidence.intervals import interval
from derivations.evidence.tables import Table
from derivations.evidence.verdicts import Check, Statement, at_least, at_most, control, show
from derivations.names import make_objective
from toybandit.bandit import World
from toybandit.data import Rankings, draw_pairs
from toybandit.experiment import drawn
from toybandit.experiments.common import Laboratory
from toybandit.offline import OfflineTrajectory, default_lr, descend
from toybandit.proxy import map_rewards

LOOSE = 1e-9  # precision of the prior that makes the reward model's estimate the maximum-likelihood one


def statement_9(lab: Laboratory) -> Statement:
    """Offline."""
    return Statement(
        "9",
        "Offline: with equal lengths the logit of an arm in no pair does not move (its mass may); SimPO's converged "
        "policy on the seen arms is the predicted one; stopped early at small beta it is as good as DPO; trained long "
        "at beta = 1 it is worse; gamma helps it; it does not beat DPO here.",
        *_comparison(lab),
    )


def _comparison(lab: Laboratory) -> tuple[list[Check], list[str], list[Table]]:
    table = lab.table("s9")
    bound, least = table["bounds"], table["least_effect"]
    bandit = drawn(lab.settings("s9"))
    held_out = draw_pairs(bandit.world, bandit.streams, count=table["held_out"], held_out=True)
    large, small = table["large_beta"], table["small_betas"]
    equal = bandit.world.with_equal_lengths()
    runs: dict[str, OfflineTrajectory] = {}

    def train(label: str, world: World, name: str, rate: float, **options: float) -> OfflineTrajectory:
        objective = make_objective(name, **options)
        lr = rate * default_lr(world, objective)
        runs[label] = descend(world, bandit.pairs, objective=objective, held_out=held_out, lr=lr, steps=table["steps"])
        return runs[label]

    for beta in small:
        for name in ("dpo", "simpo"):
            train(f"{name} {beta:g}, fine steps", bandit.world, name, table["early_rate"], beta=beta)
        train(f"simpo {beta:g}, equal lengths, fine steps", equal, "simpo", table["early_rate"], beta=beta)
    dpo = train(f"dpo {large:g}", bandit.world, "dpo", 1.0, beta=large)
    simpo = train(f"simpo {large:g}", bandit.world, "simpo", 1.0, beta=large)
    same = train(f"simpo {large:g}, equal lengths", equal, "simpo", 1.0, beta=large)
    margin = train(
        f"simpo {large:g}, gamma {table['gamma']:g}", bandit.world, "simpo", 1.0, beta=large, gamma=table["gamma"]
    )
    for name, options in (
        ("maxent", {"alpha": table["maxent_alpha"]}),
        ("ipo", {"beta": table["ipo_beta"]}),
        ("cdpo", {"beta": large, "label_smoothing": table["label_smoothing"]}),
    ):
        train(f"{name} {next(iter(options.values())):g}", bandit.world, name, 1.0, **options)

    unseen = bandit.comparisons == 0

    def moved(run: OfflineTrajectory) -> float:
        return float(np.abs(run.logits - bandit.world.ref_logp)[unseen].max())

    gold_dpo, gold_simpo = dpo.metrics["gold"][-1], simpo.metrics["gold"][-1]
    lead = {
        label: run.at_stop("gold") - runs[label.replace("simpo", "dpo").replace(", equal lengths", "")].at_stop("gold")
        for label, run in runs.items()
        if label.startswith("simpo") and label.endswith("fine steps")
    }
    best_dpo = max((run.at_stop("gold") for label, run in runs.items() if label.startswith("dpo")), key=np.mean)
    best_simpo = max((run.at_stop("gold") for label, run in runs.items() if label.startswith("simpo")), key=np.mean)
    checks = [
        control(at_most("largest move of an unseen arm's logit, DPO", moved(dpo), 0)),
        control(at_most("the same, SimPO with equal lengths", moved(same), 0)),
        at_least("the same, SimPO with unequal lengths: it moves", moved(simpo), bound["unseen_moves"]),
        at_most(
            "distance of SimPO's converged log-probs on the seen arms from the prediction",
            _prediction_error(lab),
            bound["prediction"],
        ),
        *(
            control(at_least(f"early-stopped gold, {label}, minus DPO's", values, bound["early_lead"]))
            for label, values in lead.items()
        ),
        at_most(f"final gold at beta = {large:g}: SimPO minus DPO", gold_simpo - gold_dpo, -least),
        at_least("final gold, SimPO: gamma minus no gamma", margin.metrics["gold"][-1] - gold_simpo, least),
        control(at_most("early-stopped gold: best SimPO minus best DPO", best_simpo - best_dpo, least)),
    ]
    keys = ("gold", "kl", "eval/rewards/accuracies", "mass/unseen")
    rows = [
        [label, show(interval(run.at_stop("gold"))), *(show(interval(run.metrics[key][-1])) for key in keys)]
        for label, run in runs.items()
    ]
    heads = (
        "objective",
        "gold where stopped early",
        "final gold",
        "final KL",
        "held-out accuracy",
        "mass on unseen arms",
    )
    remark = (
        f"Unseen arms hold {show(interval(np.mean(np.sum(np.exp(bandit.world.ref_logp) * unseen, -1), -1)))} of the "
        "reference's mass; the logits of DPO leave them alone, their mass falls or rises with the others'."
    )
    return checks, [remark], [Table("After early stopping and after the last step", heads, rows)]


def _prediction_error(lab: Laboratory) -> float:
    """Largest |log pi(.|S) - prediction| over prompts, S the largest strongly connected set of compared arms.

    THEORY 4.4: logits on S converge to the Bradley-Terry maximum-likelihood rewards over beta / |y| plus
    a constant, whatever the reference says about arms of S. The maximum-likelihood rewards come from the
    Newton solver of `proxy`, which shares nothing with the descent but the loss.
    """
    table = lab.table("s9")
    settings = lab.settings("s9", arms=table["converged_arms"])
    bandit = drawn(settings)
    world = bandit.world.with_equal_lengths()
    beta = table["large_beta"]
    inside = _strong_sets(bandit.pairs)
    kept = bandit.pairs.kept & np.all(np.take_along_axis(inside[..., None, :], bandit.pairs.ranked, axis=-1), axis=-1)
    data = Rankings(bandit.pairs.ranked, kept, bandit.pairs.arms)
    run = descend(
        world,
        data,
        objective=make_objective("simpo", beta=beta),
        held_out=data,
        steps=table["converged_steps"],
        lr=default_lr(world, make_objective("simpo", beta=beta)),
    )
    error, wins = 0.0, data.wins()
    for s, x in np.ndindex(inside.shape[:2]):
        on = inside[s, x]
        likely = map_rewards(wins[s, x][np.ix_(on, on)], np.zeros(on.sum()), precision=LOOSE)
        found, expected = log_softmax(run.logp[s, x][on]), log_softmax(likely / beta)
        error = max(error, float(np.abs(found - expected).max()))
    return error


def _strong_sets(data: Rankings) -> np.ndarray:
    """The largest strongly connected set of each prompt's winner -> loser graph, bool [seeds, prompts, arms]."""
    wins = data.wins()
    inside = np.zeros(wins.shape[:-1], dtype=bool)
    for s, x in np.ndindex(wins.shape[:2]):
        _, label = connected_components(wins[s, x] > 0, directed=True, connection="strong")
        inside[s, x] = label == np.bincount(label).argmax()
    return inside
