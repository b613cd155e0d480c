"""Tables of the online report: a row per arm, a column per number of a run, each shown as its mean over seeds."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from derivations.evidence.intervals import interval
from derivations.evidence.tables import markdown
from derivations.evidence.verdicts import Check, show_over_seeds
from llm.experiments.online_plan import Plan
from llm.experiments.online_results import Result, value
from llm.experiments.online_verdicts import Results, ratio, said_of

Column = Callable[[Result], float]
METRICS = ("gold", "proxy", "proxy_accuracy", "on_topic", "logq_per_token", "entropy", "kl", "distinct_2", "length")


def of(metric: str, when: str = "after") -> Column:
    """The column of a metric."""
    return lambda run: value(run, metric, when)


def over_seeds(runs: Iterable[Result], column: Column) -> str:
    """A column's mean over runs with its interval, as text."""
    return show_over_seeds(interval(column(run) for run in runs))


def arm_rows(results: Results, arms: Iterable[str], columns: Iterable[Column]) -> list[list[str]]:
    """A row for each arm that has a run."""
    own = {arm: list(results[arm].values()) for arm in arms if results[arm]}
    return [[arm, *(over_seeds(runs, column) for column in columns)] for arm, runs in own.items()]


def arm_table(results: Results, arms: Iterable[str], columns: Mapping[str, Column]) -> list[str]:
    """The table of `arm_rows`; a line in its place if no arm has a run."""
    rows = arm_rows(results, arms, list(columns.values()))
    return markdown(["arm", *columns], rows) if rows else ["Not run yet."]


def after_table(results: Results) -> list[str]:
    """Every metric of held-out topics after the last step, and before the first for the first arm that has runs."""
    first = next(arm for arm, own in results.items() if own)
    ((_, *before),) = arm_rows(results, [first], [of(f"eval/{metric}", "before") for metric in METRICS])
    after = arm_rows(results, results, [of(f"eval/{metric}") for metric in METRICS])
    return markdown(["arm", *METRICS], [[f"before training ({first})", *before], *after])


def drift_table(results: Results, plan: Plan) -> list[str]:
    """KL at half of the steps and at the end, their ratio, and the deviation over seeds."""
    kl, least = "eval-train/kl_k1", plan.protocol["least"]["kl"]
    columns = {
        "KL at T/2 (nats)": of(kl, "half"),
        "KL at T": of(kl),
        "KL(T)/KL(T/2)": lambda run: ratio(value(run, kl), value(run, kl, "half"), least),
    }
    lines = arm_table(results, results, columns)
    spreads = [np.std([value(r, kl) for r in own.values()], ddof=1) for own in results.values() if len(own) > 1]
    several = [arm for arm, own in results.items() if len(own) > 1]
    return [*lines, "", "Deviation over seeds of KL at T: "
            + ("; ".join(f"{arm} {s:.2f}" for arm, s in zip(several, spreads, strict=True)) or "needs 2 seeds")
            + "."]  # fmt: skip


def retention_table(results: Results) -> list[str]:
    """kappa, tau and R^2 over seeds, and the bootstrap intervals over prompts of every run's kappa and tau."""
    names = {"κ": "kappa", "τ (1/reward unit)": "tau", "R² of the change": "r2_change", "R² of the level": "r2_level"}
    lines = arm_table(results, results, {head: of(f"retention/{name}") for head, name in names.items()})
    rows = []
    for own in results.values():
        for run in own.values():
            fit = run["evaluations"][-1]["retention"]
            rows.append([run["run"], *(_bootstrap(fit[name]) for name in names.values())])
    folded = markdown(["run", *names], rows)
    return [*lines, "", "<details><summary>Each run, with bootstrap intervals over prompts</summary>", "", *folded, "",
            "</details>"]  # fmt: skip


def _bootstrap(found: Mapping[str, float | None]) -> str:
    numbers = [x for end in ("mean", "low", "high") if (x := found[end]) is not None]
    return "{:.3f} [{:.3f}, {:.3f}]".format(*numbers) if len(numbers) == 3 else "undefined"


def length_table(results: Results, plan: Plan) -> list[str]:
    """Lengths and the share that ends by itself, of the arms of the group `long`."""
    columns = {
        "length before (tokens)": of("eval/length", "before"),
        "after": of("eval/length"),
        "change": lambda run: value(run, "eval/length") - value(run, "eval/length", "before"),
        "share that ends by itself, before": of("eval/complete", "before"),
        "and after": of("eval/complete"),
    }
    return arm_table(results, arms_of(plan, "long"), columns)


def rate_table(results: Results, plan: Plan) -> list[str]:
    """Arms of the group `rate` at as many steps and at as much time as their arm at the full rate."""
    metrics = ("eval/gold", "eval/proxy", "eval-train/kl_k1", "eval/entropy", "retention/kappa")
    rows = []
    for slow in arms_of(plan, "rate"):
        full = slow.removesuffix("-slow")
        ways = ((full, "after", ""), (slow, "half", ", as many steps"), (slow, "after", ", twice the steps"))
        for arm, when, says in ways:
            if own := list(results[arm].values()):
                rows.append([arm + says, *(over_seeds(own, of(metric, when)) for metric in metrics)])
    heads = ["arm", "gold", "proxy", "KL (nats)", "entropy (nats)", "κ"]
    return markdown(heads, rows) if rows else ["Not run yet."]


def clock_table(results: Results, plan: Plan) -> list[str]:
    """c = alpha tau / (1 - kappa) and its parts, of entropy 0.05 and the arms of the group `clocks`."""
    least, alpha = plan.protocol["least"]["forgotten"], plan.protocol["kernel"]["alpha"]
    columns = {
        "c = ατ/(1 − κ)": lambda run: ratio(
            alpha * value(run, "retention/tau"), 1 - value(run, "retention/kappa"), least
        ),
        "κ": of("retention/kappa"),
        "τ": of("retention/tau"),
        "R² of the change": of("retention/r2_change"),
        "share on topic": of("eval/on_topic"),
        "entropy (nats)": of("eval/entropy"),
    }
    return arm_table(results, [arm for arm in ("entropy-0.05", *arms_of(plan, "clocks")) if arm in results], columns)


def kernel_table(measured: Sequence[Result], checks: Sequence[Check]) -> list[str]:
    """Rates of kappa and tau along each direction, and the predictions with whether they hold."""
    heads = {"along_logq": "g(log q)", "along_reward": "g(r)", "along_signs": "signs of g(r − α log q)"}

    def rate(direction: str, name: str) -> str:
        return over_seeds(measured, lambda run: run[direction][name])

    names = ("kappa", "tau", "r2_change", "bend")
    rows = [[said, *(rate(direction, name) for name in names)] for direction, said in heads.items()]
    judged = [[check.what, show_over_seeds(check.measured), check.target, said_of(check)] for check in checks]
    return [
        *markdown(["weights moved along", "rate of κ", "rate of τ", "R² of the change", "second order / first"], rows),
        "",
        *markdown(["prediction of the hypothesis", "measured", "bound", "outcome"], judged),
    ]


def arms_of(plan: Plan, group: str) -> list[str]:
    """Arms of a group; none if the protocol has no such group."""
    return [arm for arm, own in plan.arms.items() if own == group]


def text_tables(results: Results) -> list[str]:
    """Sample texts of every arm."""
    lines = []
    for arm, own in results.items():
        texts = [text for run in own.values() for text in run["texts"]]
        if texts:
            rows = [[t["topic"], quoted(t["response"]), f"{t['gold']:.2f}", f"{t['proxy']:.2f}"] for t in texts]
            lines += ["", f"### {arm}", "", *markdown(["topic", "response", "gold", "proxy"], rows)]
    return lines


def quoted(text: str) -> str:
    """A response as code, so that nothing in it is read as markup."""
    plain = " ".join(text.split()).replace("`", "'")
    return f"`{plain}`" if plain else "(empty)"


def kappa_at_start(results: Results) -> str:
    """The range of kappa before training, over all runs."""
    start = [value(run, "retention/kappa", "before") for own in results.values() for run in own.values()]
    finite = [k for k in start if math.isfinite(k)]
    return f"between {min(finite):.4f} and {max(finite):.4f} in all {len(start)} runs"
