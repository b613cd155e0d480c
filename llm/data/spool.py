"""A sequence on disk: what data of any size are read into, in bounded memory."""

import pickle
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar, overload

from derivations.cli.errors import InputError, reason

T = TypeVar("T")
IN_MEMORY = 2**26  # bytes that stay in memory before the file is begun


class Picked(Sequence[T]):
    """The items of a sequence at the given places, each fetched when it is asked for."""

    def __init__(self, items: Sequence[T], places: Sequence[int]) -> None:
        self.items, self.places = items, places

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, slice):
            return Picked(self.items, self.places[index])
        return self.items[int(self.places[index])]


class Spool(Sequence[T]):
    """Items in the order in which they were appended; eight bytes of memory for each, the rest in a temporary file.

    The file has no name and ends with the process. It stands in the folder of temporary files (TMPDIR), once there
    are more than 64 MiB.
    """

    def __init__(self, items: Iterable[T] = ()) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 (closed when it is let go)
        self._ends = array("Q", [0])
        for item in items:
            self.append(item)

    def append(self, item: T, /) -> None:
        """Put an item behind the others. Raises InputError where the disk has no room for it."""
        data = pickle.dumps(item, protocol=pickle.HIGHEST_PROTOCOL)
        with _disk():
            self._file.seek(self._ends[-1])
            self._file.write(data)
        self._ends.append(self._ends[-1] + len(data))

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        places = range(len(self))[index]
        if isinstance(places, range):
            return Picked(self, places)
        with _disk():
            self._file.seek(self._ends[places])  # which may write what was appended
            data = self._file.read(self._ends[places + 1] - self._ends[places])
        found: T = pickle.loads(data)  # noqa: S301 (our own)
        return found


@contextmanager
def _disk() -> Iterator[None]:
    """Says what to do where the disk is full."""
    try:
        yield
    except OSError as error:
        place = tempfile.gettempdir()
        raise InputError(
            f"cannot keep the data in {place}: {reason(error)}; name a folder with more room in TMPDIR"
        ) from error
