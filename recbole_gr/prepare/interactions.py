"""Interactions on their way from the raw file to the ``.inter`` file, kept on disk."""

import tempfile
from array import array
from itertools import compress, islice

import numpy as np

from recbole_gr.prepare.core import k_core

_ROWS = 1 << 20


class Interactions:
    """Finished lines of an ``.inter`` file in a temporary file, with users and items as numbers beside them.

    Users and items are told apart by a 64-bit hash, so that memory holds a number and not a string for each: of ten
    million users two share one with a probability of 3 in a million. Their tokens are written from the lines, whatever
    the hashes.

    Args:
        folder (str): where the temporary files lie; they vanish with the process.
    """

    def __init__(self, folder):
        self.rows = 0
        self._lines = tempfile.TemporaryFile("w+", dir=folder, encoding="utf-8", newline="\n")
        self._hashes = [tempfile.TemporaryFile(dir=folder) for _ in range(2)]
        self._codes = [tempfile.TemporaryFile(dir=folder) for _ in range(2)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for file in (self._lines, *self._hashes, *self._codes):
            file.close()

    def add(self, rows):
        """Take in ``(user, item, value, seconds)``, all of them text, in the order that they shall have."""
        users, items = array("q"), array("q")
        for row in rows:
            self._lines.write("\t".join(row) + "\n")
            users.append(hash(row[0]))
            items.append(hash(row[1]))
            if len(users) == _ROWS:
                self._spill(users, items)
                users, items = array("q"), array("q")
        self._spill(users, items)

    def _spill(self, *numbers):
        for file, part in zip(self._hashes, numbers):
            part.tofile(file)
        self.rows += len(numbers[0])

    def keep_core(self, core):
        """Find the k-core.

        Returns:
            tuple: how many users, and how many items are kept.
        """
        sizes = [_number(hashes, codes) for hashes, codes in zip(self._hashes, self._codes)]
        self._kept = k_core(self._chunks, *sizes, core)
        return tuple(int(kept.sum()) for kept in self._kept)

    def _chunks(self):
        return zip(*(_read(file, np.int32) for file in self._codes))

    def kept_lines(self):
        """The lines that are kept, each with its end, in the order they came in."""
        users, items = self._kept
        self._lines.seek(0)
        for user, item in self._chunks():
            yield from compress(islice(self._lines, len(user)), (users[user] & items[item]).tolist())


def _number(hashes, codes):
    """Write a number from 0 for each hash; returns how many there are."""
    distinct = np.zeros(0, dtype=np.int64)
    for part in _read(hashes, np.int64):
        distinct = np.union1d(distinct, part)
    for part in _read(hashes, np.int64):
        codes.write(np.searchsorted(distinct, part).astype(np.int32).tobytes())
    return len(distinct)


def _read(file, dtype):
    """Yield the file's numbers, a part at a time."""
    file.seek(0)
    while part := file.read(_ROWS * np.dtype(dtype).itemsize):
        yield np.frombuffer(part, dtype=dtype)
