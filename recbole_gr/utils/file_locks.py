"""A lock on an open file, which the system frees when the process ends."""

from __future__ import annotations

from typing import IO, Any


def try_lock(file: IO[Any]) -> bool:
    """Lock an open file until it is closed.

    Returns:
        Whether it is locked now; False if another process has it, or where the file system knows no locks. On Windows an open
        file cannot be removed, which serves as well: always True.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
