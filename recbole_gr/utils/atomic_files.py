"""Atomic writes: a reader sees all of a file or none of it."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from typing import IO, Any


@contextlib.contextmanager
def atomic_write(path: str, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file in the same folder, which is renamed to ``path`` at the end of the block.

    Args:
        path: where to; a file of this name is replaced.
        mode: ``w`` for UTF-8 text, ``wb`` for bytes.

    Yields:
        The file, open for writing.

    Raises:
        OSError: it cannot be written; then nothing is left behind.
    """
    temporary = f"{path}.{os.getpid()}-{uuid.uuid4().hex}.tmp"
    try:
        with open(temporary, mode.replace("w", "x"), encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.remove(temporary)
        raise
