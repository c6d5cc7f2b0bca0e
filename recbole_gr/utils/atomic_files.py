"""Files that are there whole or not at all."""

import contextlib
import os
import uuid


@contextlib.contextmanager
def written_whole(path, mode="w"):
    """A file to write to, under a temporary name in the same folder; it gets its own name when all is written.

    Args:
        path (str): its own name; a file that has it already is replaced.
        mode (str): ``w`` for UTF-8 text, ``wb`` for bytes.

    Yields:
        file: open for writing.

    Raises:
        OSError: it cannot be written.
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
