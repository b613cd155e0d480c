"""Settings for models that need GPUs, as files: `python -m llm train --recipe NAME [--plan]`.

A recipe is a YAML mapping of options of `train`, plus `about` (what it is and whether it was run) and
`architecture` (the transformers config of its model, so that it can be planned without the hub).
"""

from dataclasses import fields
from pathlib import Path
from typing import Any

from derivations.cli.errors import InputError
from llm.data.row_formats import shown
from llm.settings.train import TrainConfig

FOLDER = Path(__file__).parent / "recipes"


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_recipe(name: str) -> dict[str, Any]:
    """A recipe by name or path. Raises InputError if there is none, or it is no mapping."""
    import yaml  # one of the extra's packages: `--help` answers without it

    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        raise InputError(f"no recipe {name!r}; there are: {', '.join(recipe_names())}, or give a path.yaml") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:  # of dates, keys and depth that cannot be
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())[:300]}") from None
    if not isinstance(recipe, dict):
        raise InputError(f"{path}: expected a mapping of options, got {type(recipe).__name__}")
    return recipe


def train_config(name: str) -> TrainConfig:
    """The options of a recipe as settings of `train`. Raises InputError for unknown options."""
    options = {k: v for k, v in load_recipe(name).items() if k not in ("about", "architecture")}
    for option in options:
        if option not in {field.name for field in fields(TrainConfig)}:
            raise InputError(f"recipe {name}: `train` has no option {shown(option)}")
    if "objective" not in options:
        raise InputError(f"recipe {name}: `objective` is missing")
    if isinstance(options.get("out"), str):
        options["out"] = Path(options["out"])
    try:
        return TrainConfig(**options)
    except InputError as error:
        raise InputError(f"recipe {name}: {error}") from None


def architecture_of(model: str) -> dict[str, Any] | None:
    """The architecture that a recipe of the package gives for a model, if any does."""
    for name in recipe_names():
        recipe = load_recipe(name)
        if recipe.get("model") == model and "architecture" in recipe:
            return dict(recipe["architecture"])
    return None
