"""Lines of a raw file that may be compressed, inside a zip, cut off or damaged; and the cells of lines of tables."""

from __future__ import annotations

import csv
import gzip
import os
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from logging import getLogger
from typing import Any

from tqdm import tqdm

from recbole_gr.prepare.source import Begun
from recbole_gr.utils.errors import DataError

_BLOCK = 1 << 18
_LINES_UNTIL_WRONG = 1000
_DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile)
_BROKEN = (ValueError, TypeError, LookupError, AttributeError, SyntaxError, OverflowError, RecursionError, MemoryError)


@dataclass
class Tally:
    """What was met while reading a file.

    Args:
        path: of the file.
        lines: that were not empty.
        broken: that could not be understood.
        first_broken: the number of the first of them, counted from 1; None where there is none.
        damage: why reading ended before the file did; None where it did not.
    """

    path: str
    lines: int = 0
    broken: int = 0
    first_broken: int | None = None
    damage: str | None = None

    def warn(self) -> None:
        """Log what was wrong with the file, if anything."""
        if self.damage:
            getLogger().warning(
                f"[{self.path}] is damaged or cut off ({self.damage}); the {self.lines:,} lines before that are used"
            )
        if self.broken:
            getLogger().warning(
                f"[{self.path}] has {self.broken:,} broken lines of {self.lines:,}, the first is line "
                f"{self.first_broken:,}; they are left out"
            )


def parsed_lines(
    path: str, begin: Callable[[str], Begun], encoding: str = "utf-8", member: str | None = None
) -> tuple[Tally, Iterator[Any]]:
    """Read a file line by line, with a progress bar over its bytes.

    A line that cannot be parsed is counted. Where compressed data is cut off or damaged, what came before is used.

    Args:
        path: plain text, gzip (recognised by its content, not by its name) or zip.
        begin: as ``begin`` of :class:`~recbole_gr.prepare.source.RawFile`.
        encoding: of the text.
        member: the file inside the zip.

    Returns:
        The :class:`Tally`, complete when all is read; an iterator over what ``parse`` returned, None left out.

    Raises:
        DataError: the file cannot be opened, or, from the iterator, it is the wrong one: none of the first 1,000 lines
            can be parsed, or of all lines of a shorter file.
    """
    tally = Tally(path if member is None else f"{path}:{member}")
    return tally, _parsed(path, member, begin, encoding, tally)


def _parsed(path: str, member: str | None, begin: Callable, encoding: str, tally: Tally) -> Iterator[Any]:
    parse, broken_line = None, b""
    with _opened(path, member) as (stream, size, position), warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)  # of backslashes in Python literals
        warnings.simplefilter("ignore", DeprecationWarning)
        bar = tqdm(total=size, unit="B", unit_scale=True, desc=os.path.basename(tally.path), disable=None, leave=False)
        with bar:
            for number, line in enumerate(_lines(stream, position, bar, tally), start=1):
                if not line or line.isspace():
                    continue
                if parse is None:
                    parse, is_header = _begin(begin, line.decode(encoding, errors="replace").lstrip("\ufeff"), tally)
                    if is_header:
                        continue
                tally.lines += 1
                try:
                    row = parse(line.decode(encoding))
                except _BROKEN:
                    tally.broken += 1
                    broken_line = line
                    tally.first_broken = tally.first_broken or number
                    if tally.broken == tally.lines == _LINES_UNTIL_WRONG:
                        raise _wrong_file(tally, line) from None
                    continue
                if row is not None:
                    yield row
    if tally.broken == tally.lines:
        raise _wrong_file(tally, broken_line)


def _begin(begin: Callable, first_line: str, tally: Tally) -> Begun:
    try:
        return begin(first_line)
    except DataError as error:
        raise DataError(f"[{tally.path}] is not the file that its name says: {error}") from None


def _wrong_file(tally: Tally, line: bytes) -> DataError:
    if not tally.lines:
        return DataError(f"[{tally.path}] holds no data" + (f" ({tally.damage})" if tally.damage else ""))
    shown = ascii(line[:60].decode("utf-8", errors="replace"))
    return DataError(
        f"[{tally.path}] is not the file that its name says, or of another version of the data: none of its "
        f"{'first ' if tally.lines == _LINES_UNTIL_WRONG else ''}{tally.lines:,} lines can be used, one begins {shown}"
    )


@contextmanager
def _opened(path: str, member: str | None) -> Iterator[tuple[Any, int, Callable[[], int]]]:
    """Yield a binary stream, its size in bytes, and a function for how many of them are read."""
    try:
        with open(path, "rb") as file:
            if member is not None:
                with zipfile.ZipFile(file) as archive, archive.open(member) as stream:
                    yield stream, archive.getinfo(member).file_size, stream.tell
                return
            is_gzip = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            yield gzip.GzipFile(fileobj=file) if is_gzip else file, os.path.getsize(path), file.tell
    except zipfile.BadZipFile as error:
        raise DataError(f"[{path}] is no whole zip file ({error}); delete it and get it again") from error
    except KeyError as error:
        raise DataError(f"[{path}] has no file {member} inside") from error
    except OSError as error:
        raise DataError(f"[{path}] cannot be read ({error.strerror or error})") from error


def _lines(stream: Any, position: Callable[[], int], bar: tqdm, tally: Tally) -> Iterator[bytes]:
    """Lines as bytes without their ends; the rest of a line where the data is cut off is left out."""
    rest = b""
    while True:
        try:
            block = stream.read1(_BLOCK)  # one read of the decompressor, so that none is lost when the next one fails
        except _DAMAGE as error:
            tally.damage = " ".join(str(error).split())
            return
        bar.update(position() - bar.n)
        if not block:
            break
        *lines, rest = (rest + block).split(b"\n")
        yield from lines
    yield rest


def columns_of(header: str, names: Sequence[str]) -> Callable[[str], list[str]]:
    """How to take some columns from the lines of a csv file.

    Args:
        header: the first line.
        names: the columns to take.

    Returns:
        A function that takes a line and returns the cells of those columns; it raises a ValueError where
        the number of cells is not the header's.

    Raises:
        DataError: the header lacks a column.
    """
    found = next(csv.reader([header.strip()]), [])
    for name in names:
        if name not in found:
            raise DataError(f"a csv file with the columns {','.join(names)} was expected, but one begins {header[:60]!r}")
    places = [found.index(name) for name in names]

    def cells(line: str) -> list[str]:
        row = next(csv.reader([line.rstrip("\r")])) if '"' in line else line.rstrip("\r").split(",")
        if len(row) != len(found):
            raise ValueError("another number of cells")
        return [row[place] for place in places]

    return cells


def split_line(line: str, separator: str, least: int) -> list[str]:
    """The cells of a line without a header.

    Raises:
        ValueError: they are fewer than ``least``.
    """
    cells = line.rstrip("\r").split(separator)
    if len(cells) < least:
        raise ValueError("too few cells")
    return cells
