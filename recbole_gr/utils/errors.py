"""The errors a user meets: one line each, with what was set, what it was and what is allowed."""

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator
from typing import Any

#: What a disk says that is full, over its quota, broken, read-only or not ours.
DISK_FAULTS = {
    *(errno.ENOSPC, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM),
    *(number for number in (getattr(errno, name, None) for name in ("EDQUOT", "ESTALE")) if number is not None),
}


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


class DiskError(RecBoleGRError, OSError):
    """A file cannot be written: the disk is full, read-only, or not ours.

    Args:
        path: the file.
        reason: in a few words, as the system says it.
        number: the system's number for it.
        fault: what cannot be done with it.
    """

    #: What the run that it ended can be resumed from; None: nothing.
    checkpoint: str | None = None

    def __init__(self, path: str, reason: str, number: int | None = None, fault: str = "cannot be written") -> None:
        self.path, self.reason, self.fault = path, reason, fault
        super().__init__(f"[{path}] {fault} ({reason})")
        self.errno, self.strerror = number, reason

    def __str__(self) -> str:  # OSError has its own, with the number
        return str(self.args[0])

    def __reduce__(self) -> tuple[Any, ...]:  # on its way from a worker process
        return type(self), (self.path, self.reason, self.errno, self.fault), {"checkpoint": self.checkpoint}


def disk_fault(error: BaseException | None) -> OSError | None:
    """The fault of a disk behind an error, which a library may have made another error of; None if there is none."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in DISK_FAULTS:
            return error
        error = error.__cause__ or error.__context__
    return None


def as_disk_error(error: OSError, path: str | None = None) -> DiskError:
    """The error in one line that names the file.

    Args:
        error: what happened.
        path: of the file that was being written; None: the one that the error names, read or written.
    """
    if isinstance(error, DiskError):
        return error
    number = error.errno
    both = path is None and number in (errno.EACCES, errno.EPERM, errno.EIO)
    reason = os.strerror(number) if number else str(error)
    return DiskError(
        path or str(error.filename or "a file"), reason, number, "cannot be used" if both else "cannot be written"
    )


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
