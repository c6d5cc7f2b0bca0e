"""What a benchmark ran on."""

import os
import platform

import torch


def describe_machine():
    """One line: system, cores, GPU, threads, versions that matter."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {gpu}, {torch.get_num_threads()} threads, "
        f"Python {platform.python_version()}, torch {torch.__version__}"
    )
