"""Memory: how much is there, and what the C library does with what was freed."""

from __future__ import annotations

import ctypes
import os
from typing import Any

#: Where Linux says what a container may take, and takes.
_CGROUP = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current")

#: mallopt's numbers (glibc, malloc.h), and bytes: the memory that stays with the process at most, and single blocks that do.
_M_TRIM_THRESHOLD, _MAX_KEPT = -1, 1 << 29
_M_MMAP_THRESHOLD, _MAX_BLOCK = -3, 1 << 28


def available_memory(device: Any) -> int:
    """Bytes that may still be taken where a device computes: of a GPU its own, else those of the machine or the container.

    Args:
        device: a ``torch.device``.
    """
    if device.type == "cuda":
        import torch

        return torch.cuda.mem_get_info(device)[0]
    import psutil

    available = int(psutil.virtual_memory().available)
    try:
        most, taken = (int(_read(path)) for path in _CGROUP)
    except (OSError, ValueError):  # no container, or one without a limit, which says "max"
        return available
    return max(0, min(available, most - taken))


def _read(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()


def keep_freed_memory() -> bool:
    """Let freed memory stay with this process, up to 512 MB, for the next tensors of the same kind.

    A training step on a CPU makes and frees the same activations again and again. By default glibc gives what is freed back to
    the system each time, which clears every page anew: thousands of page faults, an eighth of the time of a step of TIGER
    with large batches. The peak of memory is the same or, by gaps between what is kept, somewhat higher: 15% in such a step.

    Returns:
        Whether it is so now: False where the C library is another, and where ``MALLOC_TRIM_THRESHOLD_`` or
        ``MALLOC_MMAP_THRESHOLD_`` say what is wanted.
    """
    if {"MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_"} & os.environ.keys():
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # no such function; no such library; Windows
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, _MAX_KEPT) and mallopt(_M_MMAP_THRESHOLD, _MAX_BLOCK))
