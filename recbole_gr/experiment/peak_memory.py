"""The most memory this process has held."""

import resource
import sys

import torch


def peak_memory():
    """Megabytes of 10^6 bytes: ``peak_memory_mb`` in main memory, ``peak_gpu_memory_mb`` allocated on a GPU; a dict."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, kilobytes on Linux
    peaks = {"peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, 1)}
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        peaks["peak_gpu_memory_mb"] = round(torch.cuda.max_memory_allocated() / 1e6, 1)
    return peaks
