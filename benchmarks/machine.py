"""What a benchmark ran on. Every script imports this first."""

import os
import platform
import sys

# tokenizers.py beside this file must not hide the package of that name, which transformers needs
sys.path.sort(key=lambda folder: folder == os.path.dirname(os.path.abspath(__file__)))

import torch  # noqa: E402


def describe_machine():
    """One line: system, cores, GPU, threads, versions that matter."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return (
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, {gpu}, {torch.get_num_threads()} threads, "
        f"Python {platform.python_version()}, torch {torch.__version__}"
    )
