"""A run folder that exists only if the run succeeded: made first, so a mistake shows at once, removed on failure."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from derivations.commands import InputError, start_run


@contextlib.contextmanager
def run_folder(out: Path, config: Any) -> Iterator[Path]:
    """`start_run`, undone if the body raises: the folder goes, and an earlier run that was moved aside comes back."""
    missing = [path for path in (out, *out.parents) if not path.exists()]
    before = set(out.parent.glob(f"{out.name}.*"))
    try:
        folder = start_run(out, config)
    except InputError:
        _remove(missing)
        raise
    aside = set(out.parent.glob(f"{out.name}.*")) - before
    try:
        yield folder
    except BaseException:
        (folder / "config.json").unlink(missing_ok=True)
        _remove([folder, *missing])
        for earlier in aside:
            earlier.rename(out)
        raise


def _remove(folders: list[Path]) -> None:
    """Remove those of the folders, innermost first, that are empty."""
    for folder in folders:
        with contextlib.suppress(OSError):  # not made, or something else is in it
            folder.rmdir()
