"""Temporary folders that can be told from those of processes that are no more."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator

from recbole_gr.utils.file_locks import try_lock

#: A file in the folder that its process keeps locked.
LOCK = ".in_use"


@contextlib.contextmanager
def temporary_folder(prefix: str) -> Iterator[str]:
    """As ``tempfile.TemporaryDirectory``; those of the same prefix that killed processes left are removed first.

    Args:
        prefix: of its name, which nobody else uses.

    Yields:
        Its path.
    """
    remove_left_folders(prefix)
    with (
        tempfile.TemporaryDirectory(prefix=prefix) as folder,
        open(os.path.join(folder, LOCK), "xb") as lock,
    ):
        try_lock(lock)
        yield folder


def remove_left_folders(prefix: str) -> list[str]:
    """Remove the folders of :func:`temporary_folder` whose process has ended; returns their paths."""
    removed = []
    for entry in os.scandir(tempfile.gettempdir()):
        if not entry.name.startswith(prefix) or not entry.is_dir(follow_symlinks=False):
            continue
        with contextlib.suppress(OSError):  # another user's, without a lock, or removed by somebody else
            lock = os.path.join(entry.path, LOCK)
            with open(lock, "r+b") as file:
                if not try_lock(file):
                    continue
                os.remove(lock)  # Windows refuses it where the file is open
            shutil.rmtree(entry.path, ignore_errors=True)
            removed.append(entry.path)
    return removed
