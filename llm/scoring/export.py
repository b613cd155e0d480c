"""What a run gives to others: a folder that `AutoModelForCausalLM.from_pretrained` loads, with its model card."""

import shutil
import tempfile
from pathlib import Path
from typing import Any

from derivations.cli.files import to_json, write_text
from derivations.evidence.tables import markdown
from derivations.published import Trained
from llm.scoring.adapters import merged_copy
from llm.settings.words import objective_words, title


def save_model(model: Any, tokenizer: Any, folder: Path, *, card: str = "", weights: Any = None) -> None:
    """Write model (or peft adapter) and tokenizer as one folder: beside its place, then renamed.

    weights: its state dict, if the model itself holds only a part of it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        # no embedding has an adapter; peft would look for the base's vocabulary, on the hub if need be
        own = {"save_embedding_layers": False} if hasattr(model, "peft_config") else {"state_dict": weights}
        model.save_pretrained(temporary, **own)
        tokenizer.save_pretrained(temporary)
        if card:
            write_text(temporary / "README.md", card)
        temporary.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def export(model: Any, tokenizer: Any, folder: Path, *, form: str, card: str, weights: Any = None) -> None:
    """Save what was trained. form: `merged` (adapters folded into a copy of the weights) or `adapter`; weights: as
    for `save_model`."""
    if hasattr(model, "peft_config") and form == "merged":
        model = merged_copy(model)
    save_model(model, tokenizer, folder, card=card, weights=weights)


def model_card(*, base: str, objective: Trained, data: str, settings: dict[str, Any], summary: dict[str, Any]) -> str:
    """README.md of a trained model: what it is, how it was made, what was measured and what was not."""
    rows = [
        (
            name,
            *(f"{summary[when][name]['mean']:.4f}" for when in ("before", "after")),
            f"{change['mean']:+.4f} [{change['low']:+.4f}, {change['high']:+.4f}]",
        )
        for name, change in summary["change"].items()
    ]
    return "\n".join(
        [
            "---",
            "library_name: transformers",
            "tags: [preference-optimization, maxent-rlhf]",
            "---",
            f"# {_named(base)}, trained with {title(objective.name)}",
            "",
            f"Objective: {objective_words(objective)}. Data: {data}. Trained on {summary['train_pairs']} comparisons "
            f"for {summary['steps']} optimizer steps.",
            "",
            f"Measured on {summary['eval_pairs']} held-out comparisons; intervals are 95 % (Student) over them, "
            "for this one run:",
            "",
            *markdown(("metric", "before", "after", "change"), rows),
            "",
            "Nothing was measured about safety, truth or any other task; the licence of the base model holds.",
            "",
            "## Settings",
            "",
            "```json",
            to_json(settings, indent=1),
            "```",
            "",
        ]
    )


def _named(base: str) -> str:
    """The base model as a reader knows it: not the folder above it, and what the bundled one is."""
    return "SmolLM2-135M-Instruct" if base == "bundled" else Path(base).name
