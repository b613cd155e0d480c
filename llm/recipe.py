"""Settings for models that need GPUs, as files: `python -m llm train --recipe NAME [--plan]`.

A recipe is a YAML mapping of options of `train`, plus `about` (what it is and whether it was run) and
`architecture` (the transformers config of its model, so that it can be planned without the hub).
"""

from pathlib import Path
from typing import Any

import yaml

from derivations.commands import InputError
from llm.config import TrainConfig

FOLDER = Path(__file__).parent / "recipes"


def recipe_names() -> list[str]:
    """Names of the recipes that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_recipe(name: str) -> dict[str, Any]:
    """A recipe by name or path. Raises InputError if there is none, or it is no mapping."""
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        raise InputError(f"no recipe {name!r}; there are: {', '.join(recipe_names())}, or give a path.yaml") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(recipe, dict):
        raise InputError(f"{path}: expected a mapping of options, got {type(recipe).__name__}")
    return recipe


def train_config(name: str) -> TrainConfig:
    """The options of a recipe as settings of `train`. Raises InputError for unknown options."""
    options = {k: v for k, v in load_recipe(name).items() if k not in ("about", "architecture")}
    if "out" in options:
        options["out"] = Path(options["out"])
    try:
        return TrainConfig(**options)
    except TypeError as error:
        raise InputError(f"recipe {name}: {str(error).split('__init__() ')[-1]}") from None


def architecture_of(model: str) -> dict[str, Any] | None:
    """The architecture that a recipe of the package gives for a model, if any does."""
    for name in recipe_names():
        recipe = load_recipe(name)
        if recipe.get("model") == model and "architecture" in recipe:
            return dict(recipe["architecture"])
    return None
