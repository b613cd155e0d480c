"""Which versions of libraries this package works with. Nothing here imports them."""

import importlib.metadata
import re

from derivations.cli.errors import InputError

TRANSFORMERS = (5, 20)  # older ones convert the bundled model with a wrong end of sequence


def require_transformers() -> None:
    """Refuse (InputError) a transformers that is too old; none at all is another matter."""
    try:
        version = importlib.metadata.version("transformers")
    except importlib.metadata.PackageNotFoundError:
        return
    if tuple(map(int, re.findall(r"\d+", version)[:2])) < TRANSFORMERS:
        oldest = ".".join(map(str, TRANSFORMERS))
        raise InputError(f"transformers {version} is too old; pip install 'transformers>={oldest}'")
