"""A run folder that exists only if the run succeeded: made first, so a mistake shows at once, removed on failure."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from derivations.cli.errors import InputError
from derivations.cli.run_folder import clear_killed_start, start_run


@contextlib.contextmanager
def run_folder(out: Path, config: Any) -> Iterator[Path]:
    """`start_run`, undone if the body raises: the folder goes, and an earlier run that was moved aside comes back."""
    clear_killed_start(out)
    missing = [path for path in (out, *out.parents) if not path.exists()]
    before = set(out.parent.glob(f"{out.name}.*"))
    try:
        folder = start_run(out, config)
    except InputError:
        remove_empty(missing)
        raise
    aside = set(out.parent.glob(f"{out.name}.*")) - before
    try:
        yield folder
    except BaseException:
        (folder / "config.json").unlink(missing_ok=True)
        remove_empty([folder, *missing])
        for earlier in aside:
            earlier.rename(out)
        raise


def remove_empty(folders: list[Path]) -> None:
    """Remove those of the folders, innermost first, that are empty."""
    for folder in folders:
        with contextlib.suppress(OSError):  # not made, or something else is in it
            folder.rmdir()
