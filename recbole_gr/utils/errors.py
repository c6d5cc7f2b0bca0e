"""The errors a user meets: one line each, with what was set, what it was and what is allowed."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any


class RecBoleGRError(ValueError):
    """Base of the errors that the command line prints as one line, without a traceback."""


class SettingError(RecBoleGRError):
    """A setting has a value that cannot work.

    Args:
        key: the config key, as the user writes it.
        value: what it was set to.
        allowed: what is allowed, or what is wrong, in a few words.
    """

    def __init__(self, key: str, value: Any, allowed: str) -> None:
        self.key, self.value, self.allowed = key, value, allowed
        super().__init__(f"{key}={value!r}: {allowed}")

    def __reduce__(self) -> tuple[Any, ...]:  # on its way from a worker process
        return type(self), (self.key, self.value, self.allowed)


class SettingErrors(RecBoleGRError):
    """Several settings cannot work; the message is one line for each.

    Args:
        errors: what was found.
    """

    def __init__(self, errors: Iterable[SettingError]) -> None:
        self.errors = list(errors)
        super().__init__("\n".join(map(str, self.errors)))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.errors,)


class DataError(RecBoleGRError):
    """A data file lacks something or does not fit; the message names the file and the column or field."""


@contextlib.contextmanager
def explain_out_of_memory(key: str, value: Any, advice: str) -> Iterator[None]:
    """Within, an out-of-memory error of a GPU becomes a SettingError that says which setting to change.

    Args:
        key: the setting that asks for the memory.
        value: what it is set to.
        advice: what to do.
    """
    import torch

    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise SettingError(key, value, f"too much for the GPU's memory; {advice}") from error
