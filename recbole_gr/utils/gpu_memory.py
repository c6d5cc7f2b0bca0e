"""When the memory of a GPU does not suffice: one line that says which setting to change."""

import contextlib

import torch

from recbole_gr.utils.errors import SettingError


@contextlib.contextmanager
def memory_suffices(key, value, advice):
    """Within, an out-of-memory error of a GPU is raised as a SettingError.

    Args:
        key (str), value: the setting that asks for the memory.
        advice (str): what to do.
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise SettingError(key, value, f"too much for the GPU's memory; {advice}") from error
