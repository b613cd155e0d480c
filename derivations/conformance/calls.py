"""What can go wrong while somebody else's code runs: it raises, it leaves, or it never comes back."""

import contextlib
import copy
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from derivations.cli.errors import InputError


class CallError(Exception):
    """The function raised, left, or returned something that is no loss; the message says which."""


class OutOfTime(BaseException):
    """The function did not come back in time. No Exception, so that code which catches those cannot swallow it."""


def reason(error: BaseException) -> str:
    """The error in one line, with the line of the user's code that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    last = next((frame for frame in reversed(frames) if Path(frame.filename).suffix == ".py"), None)
    where = f" ({Path(last.filename).name}, line {last.lineno})" if last else ""
    try:
        words = str(error)
    except Exception as other:
        words = f"(its message raises {type(other).__name__})"
    return f"{type(error).__name__}: {' '.join(words.split())[:300]}{where}"


def guarded(function: Callable[[], Any], words: str) -> Any:
    """function(), with whatever it raises as a CallError; `sys.exit` counts, the user's own interrupt does not."""
    try:
        return function()
    except (CallError, InputError, KeyboardInterrupt, OutOfTime):  # InputError: an adapter without its library
        raise
    except BaseException as error:
        raise CallError(f"{words} {reason(error)}") from error


def loss_of(result: Any) -> tuple[Any, str]:
    """The loss in what a function returns, and the code that takes it out: `[0]` of a tuple, `["loss"]`, `.loss`."""
    if isinstance(result, tuple) and result:
        return result[0], "[0]"
    if isinstance(result, Mapping) and "loss" in result:
        return result["loss"], '["loss"]'
    if hasattr(result, "loss"):
        return result.loss, ".loss"
    return result, ""


def with_loss(result: Any, loss: Any) -> Any:
    """What a function returned, with another loss in it."""
    if isinstance(result, tuple) and result:
        parts = (loss, *result[1:])
        return type(result)(*parts) if hasattr(result, "_fields") else parts
    if isinstance(result, Mapping) and "loss" in result:
        return {**result, "loss": loss}
    if hasattr(result, "loss"):
        changed = copy.copy(result)
        object.__setattr__(changed, "loss", loss)  # it may be a frozen dataclass
        return changed
    return loss


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise OutOfTime in the body after `seconds`; 0, or a thread or system without alarms: no limit."""
    if not seconds or not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(signum: int, frame: Any) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
