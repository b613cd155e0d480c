"""The report's frame: its three answers, and how they were made. The parts themselves come from here too."""

from pathlib import Path

from IPython.display import HTML
from report_claims import WORDS, agreement_table, chapters, claims, refuted_table, story_table, tally
from report_files import OUT, RUNS, interval, read_json
from report_html import code, folded, table
from report_runs import toy_figure, toy_summaries, toy_table
from report_training import (
    accuracy,
    entropy_gains,
    evaluation_table,
    kappas,
    learned,
    more_or_less,
    offline_figure,
    offline_measured,
    offline_runs,
    online_figure,
    online_measured,
    online_runs,
)

__all__ = [
    "agreement_table",
    "chapters",
    "evaluation_table",
    "offline_figure",
    "offline_measured",
    "offline_runs",
    "online_figure",
    "online_measured",
    "online_runs",
    "refuted_table",
    "story_table",
    "toy_figure",
    "toy_table",
]


def in_short() -> HTML:
    """The three answers, with this run's numbers."""
    found = claims()
    mutants = sum(claim["mutants"]["refuted"] for claim in found.values())
    entropy, kl, none = (toy_summaries()[name]["overoptimization"] for name in ("entropy", "kl", "none"))
    broken, repaired = found["length-normalized-temperature"], found["repair-generalized"]
    items = [
        f"<strong>Prove.</strong> The step from maximum entropy to SimPO is {WORDS[broken['verdict']]}; with a "
        f"length-weighted entropy instead of Shannon's it is {WORDS[repaired['verdict']]}. In all "
        f"{tally([*found.values()])}; {mutants} deliberately wrong versions were refuted.",
        f"<strong>Simulate.</strong> Where truth and proxy are both known, entropy loses {interval(entropy)} of true "
        f"reward after its peak, KL of the same strength {interval(kl)}, and no regularizer {interval(none)}.",
        f"<strong>Train.</strong> {training_in_short()}",
    ]
    return HTML(f'<ul class="short">{"".join(f"<li>{item}</li>" for item in items)}</ul>')


def training_in_short() -> str:
    """What this run of the language model shows, as far as its intervals allow."""
    before, after = accuracy("before"), accuracy("after")
    gains, kept = entropy_gains(), kappas()
    word = "learns" if learned(after["planted"], after["shuffled"]) else "does not surely learn"
    return (
        f"The same functions train a real language model. Offline SimPO {word} a planted preference: held-out accuracy "
        f"{interval(after['planted'])} after {interval(before['planted'])}, and {interval(after['shuffled'])} with "
        f"shuffled labels. Online, against the run without a regularizer, the entropy of a text under entropy 0.05 is "
        f"{more_or_less(gains['entropy'])}, and under KL 0.05 {more_or_less(gains['kl'])}; κ ends at "
        f"{interval(kept['entropy'])} (entropy), {interval(kept['kl'])} (KL) and {interval(kept['none'])} (none)."
    )


def model_name(model: str) -> str:
    return "SmolLM2-135M-Instruct (bundled)" if model == "bundled" else Path(model).name


def methods_table() -> HTML:
    """What was drawn how often, from the resolved settings of the runs."""
    toy, offline, online = (
        read_json(RUNS / name / "config.json")["config"] for name in ("toy-kl", "offline-planted", "online-kl")
    )
    rows = [
        ["claims", "deterministic: exact arithmetic; random exact points and mutants from fixed seeds"],
        [
            "bandit",
            f"{toy['seeds']} worlds from seed {toy['seed']}, {toy['pairs']} preference draws a prompt, {toy['method']} "
            f"gradient, learning rate {toy['lr']}, {toy['steps']} steps; intervals over worlds (Student, 95 %)",
        ],
        [
            "language model, offline",
            f"SimPO, one seed ({offline['seed']}), {model_name(offline['model'])}, {offline['max_steps']} steps of "
            f"{offline['batch_size']} comparisons, AdamW at {offline['lr']:g}; intervals over held-out comparisons",
        ],
        [
            "language model, online",
            f"one seed ({online['seed']}), {online['max_steps']} steps of {online['prompts_per_step']} topics × "
            f"{online['samples']} samples, AdamW at {online['lr']:g}; proxy fitted to "
            f"{online['proxy_pairs']} noisy pairs",
        ],
    ]
    return table(["stage", "how"], rows, label="Methods and seeds")


def commands_table() -> HTML:
    marks = {path.stem: read_json(path) for path in sorted((OUT / "stages").glob("*.json")) if path.stem != "page"}
    rows = [[name, code(" ".join(m["command"])), f"{m['seconds']:.0f}"] for name, m in marks.items()]
    label = f"All {len(rows)} commands, with the seconds they took"
    return folded(label, table(["stage", "command", "seconds"], rows, label=label, numbers=[2]))


def versions_table() -> HTML:
    found = read_json(RUNS / "toy-kl" / "config.json")["versions"]
    return folded("Versions", table(["what", "version"], [*found.items()], label="Versions"))
