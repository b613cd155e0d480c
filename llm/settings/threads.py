"""How the threads of torch wait for each other. Nothing here needs torch."""

import os


def sleep_while_waiting() -> None:
    """Let threads that wait for work sleep instead of spinning, where the user's environment does not say.

    Spinning threads take the processor from whatever else runs beside them, and from each other. To be called before
    torch is loaded, whose thread library reads the variable once.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
