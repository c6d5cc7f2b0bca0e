"""``recbole-gr prepare csv FILE``: RecBole's atomic files from a table of one's own."""

from __future__ import annotations

import csv
import os
import shlex
import warnings
import zlib
from collections.abc import Mapping

import pandas as pd

from recbole_gr.data.atomic_writer import WrittenFiles, write_atomic_files
from recbole_gr.prepare.table_options import checked_table_options
from recbole_gr.utils.errors import DataError, RecBoleGRError, SettingError
from recbole_gr.utils.table_files import check_no_nul, encoding_of, scan, undecodable

_PARQUET = (".parquet", ".pq")
_COMPRESSED = (".gz", ".bz2", ".xz", ".zip", ".zst", ".tar")


def prepare_table(given: Mapping[str, str]) -> str:
    """Make the files.

    Args:
        given: values by key, all of them text; ``file`` is the table.

    Returns:
        What was made and what to run next, in lines of text.

    Raises:
        SettingError, SettingErrors: an option cannot work; a line for each.
        DataError: a table cannot be read, or holds nothing that can be used.
    """
    options = checked_table_options(given)
    name = options.name or os.path.basename(str(options.file)).split(".")[0]
    items = None if options.items is None else read_table("items", options.items, options.separator, options.encoding)
    try:
        written = write_atomic_files(
            read_table("file", str(options.file), options.separator, options.encoding),
            name,
            options.output_dir,
            user=options.user,
            item=options.item,
            time=options.time,
            time_unit=options.time_unit,
            split=options.split,
            columns=options.columns,
            items=items,
            item_columns=options.item_columns,
        )
    except OSError as error:
        reason = f"the folder {name} in it cannot be written ({error.strerror or error})"
        raise SettingError("output_dir", options.output_dir, reason) from error
    return report(written, name, options.output_dir)


def read_table(key: str, path: str, separator: str | None = None, encoding: str | None = None) -> pd.DataFrame:
    """A table from a file; cells of a csv are text as it stands there, empty ones are missing.

    Args:
        key: the option that names the file, for the errors.
        path: ends in .parquet or .pq, or is a csv, perhaps compressed.
        separator: between the columns of a csv; None: a tab where the name says .tsv, else a comma.
        encoding: of a csv; None: UTF-8.

    Raises:
        DataError: it cannot be read.
        SettingError: there is no such encoding, or parquet needs a package.
    """
    if path.endswith(_PARQUET):
        try:
            return pd.read_parquet(path)
        except ImportError as error:
            raise SettingError(key, path, "needs pyarrow, which is not installed: pip install pyarrow") from error
        except (OSError, ValueError) as error:
            raise DataError(f"[{path}] cannot be read: {' '.join(str(error).split())}") from error
    if separator is None:
        separator = "\t" if ".tsv" in os.path.basename(path) else ","
    try:
        chosen = encoding_of(path, encoding)
        _check_bytes(path, separator, chosen)
        with warnings.catch_warnings():
            # where every row is too long, pandas leaves out what is too much, with a warning
            warnings.filterwarnings("error", "Length of header", pd.errors.ParserWarning)
            table = pd.read_csv(
                path,
                sep=separator,
                dtype=str,
                keep_default_na=False,
                na_values=[""],
                index_col=False,
                encoding=chosen,
            )
    except UnicodeError as error:
        raise undecodable(path, encoding, error) from error
    except pd.errors.ParserWarning as error:
        raise DataError(
            f"[{path}] has rows with more cells than its header; a cell may hold the separator {separator!r}"
        ) from error
    except RecBoleGRError:
        raise
    except (OSError, ValueError, EOFError, csv.Error, zlib.error) as error:  # pandas' errors are ValueErrors
        raise DataError(f"[{path}] cannot be read: {' '.join(str(error).split())}") from error
    if table.empty:
        raise DataError(f"[{path}] has a header and no rows")
    return table


def _check_bytes(path: str, separator: str, encoding: str) -> None:
    """Of a file that is not compressed: pandas reads a cell up to its first NUL byte, and renames the second of two columns.

    Raises:
        DataError: there is a NUL byte, or two columns have one name.
    """
    if path.endswith(_COMPRESSED):
        return
    check_no_nul(path, scan(path, separator), encoding)
    with open(path, encoding=encoding, newline="") as file:
        names = next(csv.reader(file, delimiter=separator), []) if len(separator) == 1 else []
    for name in names:
        if name.strip() and names.count(name) > 1:
            raise DataError(f"[{path}] has two columns {name!r}; one must have another name")


def report(written: WrittenFiles, name: str, data_path: str) -> str:
    """What was written, in lines of text."""
    left_out = ", ".join(f"{n:,} without {column}" for column, n in written.left_out.items() if n)
    lines = [
        name,
        f"  users              {written.users:,}",
        f"  items              {written.items:,}",
        f"  interactions       {written.interactions:,}",
        f"  left out           {left_out or 'none'}",
    ]
    if written.first is not None:
        lines.append(f"  times              {written.first} to {written.last}")
    if written.described is not None:
        lines.append(f"  items with a row   {written.described:,} ({written.described / written.items:.1%})")
    settings = "".join(f" --{key}={value}" for key, value in written.settings.items())
    command = f"recbole-gr run --dataset={name} --data_path={shlex.quote(data_path)}{settings}"
    return "\n".join([*lines, f"  files              {os.path.dirname(written.inter)}", f"next: {command}"])
