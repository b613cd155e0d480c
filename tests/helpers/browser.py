"""The real browser of the machine: where it is, and what it answers to `tests/helpers/browse.py`."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = next(filter(None, map(shutil.which, BROWSERS)), None)


def stop(process: subprocess.Popen) -> None:
    """End a process and everything it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def browse(*arguments, seconds=150):
    """The answer of browse.py; a browser that hangs is killed and fails the test."""
    command = [sys.executable, Path(__file__).with_name("browse.py"), BROWSER, *map(str, arguments)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        pytest.fail(f"the browser gave no answer within {seconds} s")
    finally:
        stop(process)
    assert process.returncode == 0, err
    return json.loads(out)
