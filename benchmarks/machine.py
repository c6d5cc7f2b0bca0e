"""What a benchmark ran on, and the line of json that it ends with."""

import json
import os
import platform

import torch


def machine():
    """System, cores, GPU, threads and the versions that matter."""
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def describe_machine():
    """The same as one line of text."""
    found = machine()
    return (
        f"{found['system']}, {found['cores']} cores, {found['gpu'] or 'no GPU'}, {found['threads']} threads, "
        f"Python {found['python']}, torch {found['torch']}"
    )


def print_json(benchmark, sizes, figures):
    """The last line of every benchmark.

    Args:
        benchmark (str): its name.
        sizes (dict): what it was called with; paths are left out.
        figures (dict or list): what it measured; floats are rounded to four digits.
    """
    sizes = {key: value for key, value in sizes.items() if not key.endswith(("folder", "path", "dir"))}
    line = {"benchmark": benchmark, "machine": machine(), "sizes": sizes, "figures": _rounded(figures)}
    print(json.dumps(line), flush=True)


def _rounded(value):
    if isinstance(value, dict):
        return {str(key): _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(inner) for inner in value]
    if isinstance(value, float) or type(value).__module__ == "numpy":
        return float(f"{value:.4g}")
    return value
