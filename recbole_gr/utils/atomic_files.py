"""Atomic writes: a reader sees all of a file or none of it; what a killed process left of one can be told and removed."""

import contextlib
import os
import re
import stat
import uuid
from collections.abc import Iterable, Iterator
from typing import IO, Any

from recbole_gr.utils.errors import as_disk_error, disk_fault
from recbole_gr.utils.file_locks import try_lock
from recbole_gr.utils.signals import signals_wait

#: How the name of a temporary file ends: process, random part; of a probe of the cache the random part alone.
_TEMPORARY = re.compile(r"(\.\d+-|^)[0-9a-f]{32}\.tmp$")


@contextlib.contextmanager
def atomic_write(path: str, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file in the same folder, which is renamed to ``path`` at the end of the block.

    While it is open its file is locked, by which :func:`remove_leftovers` knows that somebody is writing it.

    Args:
        path: where to; a file of this name is replaced.
        mode: ``w`` for UTF-8 text, ``wb`` for bytes.

    Yields:
        The file, open for writing.

    Raises:
        DiskError: an OSError; it cannot be written, and nothing is left behind.
    """
    temporary = f"{path}.{os.getpid()}-{uuid.uuid4().hex}.tmp"
    try:
        with _opened(temporary, path, mode) as file:
            try:
                yield file
                file.flush()
                os.fsync(file.fileno())
            except BaseException as error:
                # torch makes another error of what happens while it writes, also of Ctrl-C
                if isinstance(error.__context__, KeyboardInterrupt):
                    raise error.__context__ from None
                if (fault := disk_fault(error)) is not None and isinstance(error, Exception):
                    raise as_disk_error(fault, path) from error
                raise
            with signals_wait():
                os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)
        raise


@contextlib.contextmanager
def _opened(temporary: str, path: str, mode: str) -> Iterator[IO[Any]]:
    """The temporary file, locked; what fails when it is opened or closed is told of the file that it is to be."""
    try:
        while True:
            file = open(temporary, mode.replace("w", "x"), encoding=None if "b" in mode else "utf-8")
            try_lock(file)
            if os.path.exists(temporary):  # else somebody took it for a leftover before it was locked
                break
            file.close()
    except OSError as error:
        raise as_disk_error(error, path) from error
    try:
        yield file
    finally:
        with contextlib.suppress(OSError):  # what could not be written has been told
            file.close()


def probe(folder: str) -> None:
    """Write a little into a folder and remove it: what access rights do not tell, as that the disk is full or read-only.

    Raises:
        OSError: it cannot be written.
    """
    path = os.path.join(folder, f"{uuid.uuid4().hex}.tmp")
    try:
        with open(path, "xb") as file:
            file.write(bytes(4096))
    finally:
        with contextlib.suppress(OSError):
            os.remove(path)


def remove_leftovers(folders: Iterable[str | None]) -> list[str]:
    """Remove the temporary files of processes that are no more.

    A file that somebody is writing is locked; the system frees the lock when its process ends, in whatever way.

    Args:
        folders: where to look, not below; those that are not there are passed over.

    Returns:
        The paths that were removed.
    """
    removed = []
    for folder in dict.fromkeys(filter(None, folders)):
        with contextlib.suppress(OSError):
            names = [entry.name for entry in os.scandir(folder) if _TEMPORARY.search(entry.name)]
            removed += [path for path in (os.path.join(folder, name) for name in names) if _removed(path)]
    return removed


def _removed(path: str) -> bool:
    with contextlib.suppress(OSError):  # somebody else has removed it, or the folder is not ours to write
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return False
        with open(path, "r+b") as file:
            if try_lock(file):
                os.remove(path)
                return True
    return False
