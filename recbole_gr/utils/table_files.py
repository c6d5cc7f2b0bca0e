"""Tables in text as people have them: what the header says, and what in the file a reader would trip over.

An atomic file of RecBole is such a table; its header has a type behind each name, ``item_id:token``.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO

from recbole_gr.utils.errors import DataError, SettingError

#: The types of columns that RecBole knows.
TYPES = ("token", "token_seq", "float", "float_seq")

_BLOCK = 1 << 20


def encoding_of(path: str, encoding: str | None) -> str:
    """The encoding to read a file with: the one that is set, or UTF-8; a byte-order mark at its beginning is no text.

    Args:
        path: the file.
        encoding: the setting ``encoding``.

    Raises:
        SettingError: there is no such encoding.
        OSError: the file cannot be read.
    """
    chosen = encoding or "utf-8"
    try:
        "".encode(chosen)  # rot13 is known, but no encoding of text
        is_utf8 = codecs.lookup(chosen).name == "utf-8"
    except (LookupError, TypeError, ValueError) as error:
        raise SettingError("encoding", encoding, "no such encoding") from error
    with open(path, "rb") as file:
        marked = file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8
    return "utf-8-sig" if is_utf8 and marked else chosen


def read_header(path: str, separator: str, encoding: str | None) -> dict[str, str]:
    """Types of the columns by name, in the order of the file.

    Args:
        path: an atomic file.
        separator: between the columns, RecBole's ``field_separator``.
        encoding: of the file; UTF-8 when None.

    Raises:
        DataError: the first line is no header of an atomic file, or cannot be decoded; says what is wrong with which column.
        SettingError: there is no such encoding.
    """
    try:
        with open(path, encoding=encoding_of(path, encoding)) as file:
            head = file.readline().rstrip("\n")
    except UnicodeError as error:
        raise undecodable(path, encoding, error) from error
    return parse_header(path, head, separator)


def parse_header(path: str, head: str, separator: str) -> dict[str, str]:
    """As :func:`read_header`, of a first line that has been read."""
    if not head.strip():
        raise DataError(f"[{path}] is empty in its first line, where the columns should be (name:type)")
    columns: dict[str, str] = {}
    for column in head.split(separator):
        name, colon, kind = column.partition(":")
        if not colon:
            near = "; its columns are separated otherwise than field_separator says" if _fewer_than_there(column) else ""
            raise DataError(f"[{path}] has a column {column!r} without a type in its first line (name:type){near}")
        if column != column.strip():
            raise DataError(f"[{path}] has blanks around the column {column!r} in its first line; remove them")
        if column.startswith('"'):
            raise DataError(f"[{path}] has quotation marks around the column {column} in its first line; remove them")
        if kind not in TYPES:
            raise DataError(f"[{path}] has a column {column!r} in its first line; a type is one of {', '.join(TYPES)}")
        if name in columns:
            raise DataError(f"[{path}] has two columns {name!r} in its first line")
        columns[name] = kind
    return columns


def _fewer_than_there(column: str) -> bool:
    return any(mark in column for mark in ("\t", ",", ";", "|"))


@dataclass(frozen=True)
class FileScan:
    """What the bytes of a file hold.

    Args:
        nul_line: the first line, counted from 1, with a NUL byte; 0: none.
        lone_returns: carriage returns that end no line; 0 where they end all lines.
        quoted_cells: whether a cell begins with a double quotation mark.
        has_lines: whether line feeds end lines; else carriage returns do.
    """

    nul_line: int
    lone_returns: int
    quoted_cells: bool
    has_lines: bool


def scan(path: str, separator: str) -> FileScan:
    """Look through a file once, a megabyte at a time.

    Args:
        path: the file, in an encoding that has ASCII as it is.
        separator: between its columns.
    """
    nul_line, returns, line_ends, begins = 0, 0, 0, (f'{separator}"'.encode(), b'\n"')
    quoted, carried = False, b""
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            block = carried + block
            if not nul_line and b"\0" in block:
                nul_line = line_ends + block[: block.index(b"\0")].count(b"\n") + 1
            returns += block.count(b"\r") - block.count(b"\r\n")
            line_ends += block.count(b"\n")
            quoted = quoted or any(begin in block for begin in begins)
            # what may go on in the next block; counted there
            carried = block[-1:] if block[-1:] in (b"\r", b"\n", separator[-1:].encode()) else b""
            returns -= carried == b"\r"
            line_ends -= carried == b"\n"
    returns += carried == b"\r"
    line_ends += carried == b"\n"
    return FileScan(nul_line, returns if line_ends else 0, quoted, line_ends > 0)


def check_no_nul(path: str, scanned: FileScan, encoding: str) -> None:
    """Text has no NUL bytes, but for that in an encoding of several bytes a letter, as UTF-16.

    Raises:
        DataError: names the line.
    """
    if scanned.nul_line and b"\0" not in "a".encode(encoding):
        raise DataError(f"[{path}] is no text: there is a NUL byte in line {scanned.nul_line:,}")


def without_lone_returns(lines: Iterable[str]) -> Iterable[str]:
    """Lines of a file that was opened with ``newline="\\n"``, with a blank for each carriage return that ends no line."""
    for line in lines:
        if "\r" in line:
            ends = len(line) - len(line.rstrip("\r\n"))
            line = line[: len(line) - ends].replace("\r", " ") + line[len(line) - ends :]
        yield line


def lines_with_text(path: str) -> int:
    """How many lines of a file hold more than blanks."""
    file: IO[bytes]
    with open(path, "rb") as file:
        return sum(1 for line in file if line.strip())


def rows_too_long(path: str, n_columns: int, separator: str, encoding: str, scanned: FileScan) -> list[int]:
    """The lines, counted from 1, of rows with more cells than the header; trailing separators are no cells.

    Cells may be in quotation marks where the separator is a comma. Of a separator of several characters, a regular expression
    to pandas, nothing is known.

    Raises:
        csv.Error: a cell in quotation marks does not end.
    """
    if len(separator) > 1:
        return []
    with open(path, encoding=encoding, newline="\n" if scanned.has_lines else None) as file:
        blank = separator + " \r\n"
        found = [n for n, line in enumerate(file, 1) if line.rstrip(blank).count(separator) >= n_columns]
        if separator != "," or not found:
            return found
        file.seek(0)
        reader = csv.reader(without_lone_returns(file))
        return [reader.line_num for cells in reader if any(cells[n_columns:])]


def undecodable(path: str, encoding: str | None, error: UnicodeError) -> DataError:
    """The error of a file that is of another encoding; names the setting."""
    return DataError(f"[{path}] is not {encoding or 'UTF-8'} text ({error}); the setting is encoding")
