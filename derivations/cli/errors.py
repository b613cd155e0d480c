"""A user's mistake: one line that says what was got, what was expected and how to mend it; exit status 2."""

import contextlib
import difflib
from collections.abc import Iterator


class InputError(Exception):
    """The user's input was wrong. The message says what was got, where, and how to mend it, in one line.

    Not a ValueError: argument parsers catch those and frame them in words of their own. Control characters and line
    breaks, which names and files may hold and a terminal would obey, are shown as escapes. A very long line loses its
    middle. below: more lines, which stand under it as they are, but for control characters.
    """

    def __init__(self, words: str = "", *, below: str = "") -> None:
        super().__init__(words)
        self.below = below

    def __str__(self) -> str:
        words = _printable(super().__str__())
        words = words if len(words) <= 1500 else f"{words[:1000]} [...] {words[-400:]}"
        return "\n".join([words, *map(_printable, self.below.split("\n"))]) if self.below else words


def _printable(line: str) -> str:
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in line)


@contextlib.contextmanager
def input_errors(prefix: str = "", *, kinds: tuple[type[Exception], ...] = (ValueError,)) -> Iterator[None]:
    """Turn errors of these kinds, raised while reading or using the user's settings, into an InputError."""
    try:
        yield
    except kinds as error:
        raise InputError(f"{prefix}{error}") from error


def reason(error: Exception) -> str:
    """What went wrong with a file, without its name: the system's word for it, or the error's own."""
    return getattr(error, "strerror", None) or str(error)


def suggest(name: str, known: list[str]) -> str:
    """The end of an error message about an unknown name: the nearest known one, and all of them."""
    near = difflib.get_close_matches(name, known, n=1)
    return (f"; did you mean {near[0]!r}?" if near else "") + f" (known: {', '.join(known)})"
