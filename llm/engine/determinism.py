"""Equal bits from equal seeds on a GPU, where sums are otherwise taken in the order in which threads come by."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from derivations.cli.errors import InputError

WORKSPACES = (":4096:8", ":16:8")  # of cuBLAS, with which its products are always added up in one order


_asked: list[bool] = []  # whether an earlier run in this process asked for it


def set_determinism(wanted: bool) -> None:
    """Ask torch for kernels that give equal bits at every run, or (False) take back what an earlier run asked.

    Call before the first product on a GPU: cuBLAS reads its variable once.

    Args:
        wanted: `--deterministic`.

    Raises:
        InputError: the environment asks cuBLAS for workspaces with which it cannot be kept.
    """
    if wanted:
        space = os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", WORKSPACES[0])
        if space not in WORKSPACES:
            raise InputError(
                f"--deterministic cannot be kept with CUBLAS_WORKSPACE_CONFIG={space}; "
                f"set it to {' or '.join(WORKSPACES)}, or unset it"
            )
        _asked.append(True)
        torch.use_deterministic_algorithms(True)
    elif _asked:
        _asked.clear()
        torch.use_deterministic_algorithms(False)


@contextmanager
def unchecked() -> Iterator[None]:
    """A region in which torch does not refuse what it has no deterministic kernel for; the caller answers for it."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def cumulative(probabilities: Tensor) -> Tensor:
    """Cumulative sums of each row, float64: [rows, n] -> [rows, n].

    torch refuses this sum on a GPU under `--deterministic`, but only that of a single row depends on how its threads
    come by; so a single row is taken twice.
    """
    one = len(probabilities) == 1 and torch.are_deterministic_algorithms_enabled()
    rows = probabilities.expand(2, -1) if one else probabilities
    with unchecked():
        return rows.cumsum(-1, dtype=torch.float64)[: len(probabilities)]
