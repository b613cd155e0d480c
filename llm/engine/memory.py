"""Memory of a training process: what keeps it small on a CPU, and how much there was."""

import ctypes
import os
import resource
import sys
from typing import Any

import torch


def keep_memory() -> None:
    """Let glibc keep freed memory: giving pages back and faulting them in again costs more than the arithmetic.

    And let oneDNN, which compiles a kernel for every shape it meets, keep only the last: packed shapes hardly repeat.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "100")  # read at its first product in bf16
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        m_trim_threshold, m_mmap_threshold = -1, -3  # <malloc.h>
        libc.mallopt(m_mmap_threshold, 1 << 25)  # larger blocks between small ones would only break the heap up
        libc.mallopt(m_trim_threshold, (1 << 31) - 1)


def sparse_embedding(model: Any) -> None:
    """Let an embedding that is also the head give a gradient of the rows it read alone.

    It is added to the dense one, which the head has made by then; a second of the vocabulary's size is not.

    Args:
        model: a transformers model, changed in place; one whose head is a matrix of its own stays as it is.
    """
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if isinstance(embedding, torch.nn.Embedding) and embedding.weight is head.weight:
        embedding.sparse = True


def peak_memory_gib() -> float:
    """The most memory this process has held: of the GPU where there is one."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_reserved() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
