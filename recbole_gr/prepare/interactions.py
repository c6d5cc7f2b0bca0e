"""Interactions on their way from the raw file to the ``.inter`` file, kept on disk."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator
from itertools import compress, islice
from typing import BinaryIO

import numpy as np

_ROWS = 1 << 20


class Interactions:
    """Finished lines of an ``.inter`` file in a temporary file, with users and items as numbers beside them.

    Users and items are distinguished by a 64-bit hash, so that memory holds a number and not a string for each: of ten
    million users two share one with a probability of 3 in a million. Their tokens are written from the lines, whatever
    the hashes.

    Args:
        folder: where the temporary files lie; they vanish with the process.
    """

    def __init__(self, folder: str) -> None:
        self.rows = 0
        self._lines = tempfile.TemporaryFile("w+", dir=folder, encoding="utf-8", newline="\n")
        self._hashes = [tempfile.TemporaryFile(dir=folder) for _ in range(2)]
        self._codes = [tempfile.TemporaryFile(dir=folder) for _ in range(2)]

    def __enter__(self) -> Interactions:
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self._lines, *self._hashes, *self._codes):
            file.close()

    def add(self, rows: Iterable[tuple[str, ...]]) -> None:
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

    def _spill(self, *numbers: array) -> None:
        for file, part in zip(self._hashes, numbers):
            part.tofile(file)
        self.rows += len(numbers[0])

    def keep_core(self, core: int) -> tuple[int, int]:
        """Find the k-core.

        Returns:
            How many users, and how many items are kept.
        """
        sizes = [_number(hashes, codes) for hashes, codes in zip(self._hashes, self._codes)]
        users, items = self._kept = k_core(self._chunks, sizes[0], sizes[1], core)
        return int(users.sum()), int(items.sum())

    def _chunks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        users, items = self._codes
        return zip(_read(users, np.int32), _read(items, np.int32))

    def kept_lines(self) -> Iterator[str]:
        """The lines that are kept, each with its end, in the order they came in."""
        users, items = self._kept
        self._lines.seek(0)
        for user, item in self._chunks():
            yield from compress(islice(self._lines, len(user)), (users[user] & items[item]).tolist())


def _number(hashes: BinaryIO, codes: BinaryIO) -> int:
    """Write a number from 0 for each hash; returns how many there are."""
    distinct = np.zeros(0, dtype=np.int64)
    for part in _read(hashes, np.int64):
        distinct = np.union1d(distinct, part)
    for part in _read(hashes, np.int64):
        codes.write(np.searchsorted(distinct, part).astype(np.int32).tobytes())
    return len(distinct)


def _read(file: BinaryIO, dtype: type[np.generic]) -> Iterator[np.ndarray]:
    """Yield the file's numbers, a part at a time."""
    file.seek(0)
    while part := file.read(_ROWS * np.dtype(dtype).itemsize):
        yield np.frombuffer(part, dtype=dtype)


def k_core(
    chunks: Callable[[], Iterable[tuple[np.ndarray, np.ndarray]]], n_users: int, n_items: int, core: int
) -> tuple[np.ndarray, np.ndarray]:
    """The k-core: the largest set in which every user and every item has at least ``core`` interactions.

    Memory grows with users and items, not with interactions. Interactions of one user with one item count each.

    Args:
        chunks: returns an iterator over ``(users, items)``, two int arrays of equal length; it is called once a round.
        n_users, n_items: how many there are; all codes are below.
        core: 0 keeps all.

    Returns:
        bool ``[n_users]`` and ``[n_items]``, who is kept.
    """
    users, items = np.ones(n_users, dtype=bool), np.ones(n_items, dtype=bool)
    while core > 0:
        of_users, of_items = np.zeros(n_users, dtype=np.int64), np.zeros(n_items, dtype=np.int64)
        for user, item in chunks():
            kept = users[user] & items[item]
            of_users += np.bincount(user[kept], minlength=n_users)
            of_items += np.bincount(item[kept], minlength=n_items)
        few_users, few_items = users & (of_users < core), items & (of_items < core)
        if not few_users.any() and not few_items.any():
            break
        users &= ~few_users
        items &= ~few_items
    return users, items
