"""Item text from the atomic ``.item`` file.

The columns are read here and not through RecBole's features: a token_seq feature builds a vocabulary and a padded
matrix per column, which for a catalogue with descriptions is a thousand times the text.
"""

import csv
import logging
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from recbole_gr.utils.errors import DataError, SettingError
from recbole_gr.utils.table_files import encoding_of, read_header, rows_too_long, scan, undecodable

#: Names of the columns that data sets keep categories in.
CATEGORY_COLUMNS = ("categories", "category", "class", "genres", "genre")

#: Names of the columns that data sets keep titles in.
TITLE_COLUMNS = ("title", "movie_title", "item_title", "book_title", "product_title", "item_name", "app_name", "name")

_TEXT_TYPES = ("token", "token_seq")
# A piece of a template: the text before a field, the field, the brackets and quotes that close right behind it.
# Not str.format, whose fields reach into attributes of what is formatted.
_PIECE = re.compile(r"(?P<before>[^{}]*)\{(?P<column>[^{}]+)\}(?P<after>[)\]\"'»”]*)")
_SEPARATORS = " \t,;:.|/&+-–—"


def read_item_text(
    item_file: str,
    item_tokens: np.ndarray,
    template: str | None = None,
    *,
    item_field: str = "item_id",
    separator: str = "\t",
    encoding: str | None = None,
    setting: str = "text_template",
) -> list[str]:
    """One text per item, from the columns of the ``.item`` file.

    A template is text with column names in braces, e.g. ``"{movie_title}, {release_year}, {class}"``. Each field takes
    along the text before it, and brackets or quotes that close right behind it. An item whose field is empty lacks
    that piece, and separators left over at the start are dropped: ``"{title} ({year}), {class}"`` without a year is
    ``"Toy Story, Comedy"``, without a title ``"(1995), Comedy"``. Text behind the last field stays if any field does.

    Without a template, the columns of type token and token_seq, except the item id, are joined by ``", "`` in the
    order of the file, without the empty ones.

    Where the file has several rows for an item, the first counts, as in RecBole.

    Args:
        item_file: path of the ``.item`` file.
        item_tokens: str ``[n_items]``, the item token per RecBole item id; entry 0 is padding.
        template: how the columns make a text; None joins all text columns.
        item_field: name of the item id column.
        separator: between the columns of the file, RecBole's ``field_separator``.
        encoding: of the file; UTF-8 when None.
        setting: the key that the template was set by, for the errors.

    Returns:
        ``[n_items]`` texts, entry 0 is ``""``. Items that the file lacks, or whose columns are empty, have
        ``""`` and are counted in a logged warning.

    Raises:
        DataError: if the file, the item id column, a column of the template or a text column is missing, if the file
            cannot be read, or if no item at all has a text.
        SettingError: if the template names no column.
    """
    header = _read_header(item_file, item_field, separator, encoding, setting)
    if template is None:
        columns = [name for name, kind in header.items() if kind in _TEXT_TYPES and name != item_field]
        if not columns:
            raise DataError(
                f"[{item_file}] has no column of type token or token_seq beside {item_field}; it has {_listed(header)}"
            )
    else:
        columns = _template_columns(template, header, item_file, setting)
    rows = _read_columns(item_file, header, dict.fromkeys([item_field, *columns]), separator, encoding)
    rows = rows.drop_duplicates(item_field).set_index(item_field, drop=False)
    wanted = pd.Index(item_tokens[1:], dtype=object)
    missing = ~wanted.isin(rows.index)
    if len(wanted) and missing.all():
        _report_items_of_another_form(rows.index, wanted, item_file, separator)
    rows = rows.reindex(wanted, fill_value="")

    fields = [rows[column].str.strip() for column in columns]
    if template is None:
        texts = [", ".join(filter(None, values)) for values in zip(*fields)]
    else:
        texts = _fill_template(template, fields)
    _report_items_without_text(texts, wanted, missing, columns, item_file)
    return [""] * min(len(item_tokens), 1) + texts


def find_title_column(
    item_file: str, item_field: str = "item_id", separator: str = "\t", encoding: str | None = None
) -> str:
    """The first of :data:`TITLE_COLUMNS` that the ``.item`` file has.

    Args:
        item_file: path of the ``.item`` file.
        item_field: name of the item id column.
        separator: between the columns of the file.
        encoding: of the file; UTF-8 when None.

    Raises:
        DataError: the file is missing, or has none of them.
    """
    header = _read_header(item_file, item_field, separator, encoding, "title_template")
    column = next((name for name in TITLE_COLUMNS if name in header), None)
    if column is None:
        hint = f"set title_template to text with columns in braces, of {_listed(header)}"
        raise DataError(f"[{item_file}] has no title column; {hint}")
    return column


def read_item_file_tokens(
    item_file: str, item_field: str = "item_id", separator: str = "\t", encoding: str | None = None
) -> np.ndarray:
    """The item tokens in the order of the ``.item`` file's rows.

    Args:
        item_file: path of the ``.item`` file.
        item_field: name of the item id column.
        separator: between the columns of the file.
        encoding: of the file; UTF-8 when None.

    Returns:
        ``[rows]`` of str (dtype object).

    Raises:
        DataError: if the file or the item id column is missing, or the file cannot be read.
    """
    header = _read_header(item_file, item_field, separator, encoding)
    return _read_columns(item_file, header, [item_field], separator, encoding)[item_field].to_numpy(dtype=object)


def read_item_categories(
    item_file: str,
    item_tokens: np.ndarray,
    column: str | None = None,
    *,
    item_field: str = "item_id",
    separator: str = "\t",
    encoding: str | None = None,
) -> list[str] | None:
    """The category of every item, as it stands in one column of the ``.item`` file.

    Args:
        item_file: path of the ``.item`` file.
        item_tokens: str ``[n_items]``, the item token per RecBole item id; entry 0 is padding.
        column: name of the column; None takes the first of :data:`CATEGORY_COLUMNS` that the file has.
        item_field: name of the item id column.
        separator: between the columns of the file.
        encoding: of the file; UTF-8 when None.

    Returns:
        ``[n_items]`` categories, "" for padding and where it is unknown; None if no column is named and the file, if
        there is one, has none of those.

    Raises:
        DataError: there is no file, or it has no such column, or cannot be read.
    """
    if column is None and not os.path.isfile(item_file):
        return None
    header = _read_header(item_file, item_field, separator, encoding)
    if column is None:
        column = next((name for name in CATEGORY_COLUMNS if name in header), None)
    if column is None:
        return None
    if column not in header:
        raise DataError(f"[{item_file}] has no column {column!r} (category_column); it has {_listed(header)}")
    rows = _read_columns(item_file, header, dict.fromkeys([item_field, column]), separator, encoding)
    rows = rows.drop_duplicates(item_field).set_index(item_field, drop=False)
    return [""] + rows.reindex(pd.Index(item_tokens[1:], dtype=object), fill_value="")[column].str.strip().tolist()


def _read_header(
    item_file: str, item_field: str, separator: str, encoding: str | None, setting: str = "text_template"
) -> dict[str, str]:
    """Types of the columns by name, in the order of the file."""
    if not os.path.isfile(item_file):
        if setting != "text_template":
            raise DataError(f"there is no item file [{item_file}] to read titles from ({setting})")
        raise DataError(
            f"there is no item file [{item_file}] to read item text from; "
            "with item_vector_file or sid_file set, none is needed"
        )
    header = read_header(item_file, separator, encoding)
    if item_field not in header:
        raise DataError(f"[{item_file}] has no item id column {item_field!r}; it has {_listed(header)}")
    return header


def _read_columns(
    item_file: str, header: Mapping[str, str], columns: Iterable[str], separator: str, encoding: str | None
) -> pd.DataFrame:
    """The named columns as a table of str.

    Cells in quotation marks are read as in csv where the separator is a comma; elsewhere the marks are text. A carriage return
    within a cell becomes a blank.
    """
    is_csv = separator == ","
    scanned = scan(item_file, separator)
    options: dict[str, Any] = {"lineterminator": "\n"} if len(separator) == 1 and scanned.has_lines else {}
    try:
        encoding_here = encoding_of(item_file, encoding)
        rows = pd.read_csv(
            item_file,
            sep=separator,
            header=None,
            skiprows=1,
            names=list(header),
            usecols=list(columns),
            index_col=False,
            dtype=str,
            keep_default_na=False,
            quoting=csv.QUOTE_MINIMAL if is_csv else csv.QUOTE_NONE,
            encoding=encoding_here,
            **options,
        )
        too_long = rows_too_long(item_file, len(header), separator, encoding_here, scanned)
    except UnicodeDecodeError as error:
        raise undecodable(item_file, encoding, error) from error
    except (pd.errors.ParserError, csv.Error) as error:
        raise DataError(f"[{item_file}] cannot be read: {' '.join(str(error).split())}") from error
    if too_long:
        advice = "put it in quotation marks" if is_csv else "only where it is a comma are quoted cells read as one"
        raise DataError(
            f"[{item_file}] has {len(too_long):,} rows with more cells than the {len(header)} of its header, the first in line "
            f"{too_long[0]:,}: a cell holds the field_separator {separator!r}; {advice}"
        )
    return rows.fillna("").apply(_of_one_line)


def _of_one_line(cells: pd.Series) -> pd.Series:
    """Cells whose carriage returns, but one at the end of a line, are blanks."""
    return (
        cells.str.rstrip("\r").str.replace("\r", " ", regex=False) if cells.str.contains("\r", regex=False).any() else cells
    )


def _template_columns(template: str, header: Mapping[str, str], item_file: str, setting: str) -> list[str]:
    columns = [piece["column"] for piece in _PIECE.finditer(template)]
    if re.search("[{}]", _PIECE.sub("", template)):
        raise SettingError(setting, template, "a brace lacks its partner; columns are written {name}")
    if not columns:
        raise SettingError(setting, template, f"names no column in braces; [{item_file}] has {_listed(header)}")
    for column in columns:
        if column not in header:
            raise DataError(f"[{item_file}] has no column {column!r} of {setting}; it has {_listed(header)}")
    return columns


def _fill_template(template: str, fields: Sequence[Iterable[str]]) -> list[str]:
    pieces = list(_PIECE.finditer(template))
    before = [piece["before"] for piece in pieces]
    after = [piece["after"] for piece in pieces]
    end = template[pieces[-1].end() :]
    texts = []
    for values in zip(*fields):
        text = ""
        for index, value in enumerate(values):
            if value:
                lead = before[index] if text or index == 0 else before[index].lstrip(_SEPARATORS)
                text += lead + value + after[index]
        texts.append(text + end if text else "")
    return texts


def _report_items_of_another_form(of_file: pd.Index, wanted: pd.Index, item_file: str, separator: str) -> None:
    """No item has a row: the two files write them otherwise, or the file is of other data.

    Raises:
        DataError: names an item of each.
    """
    if not len(of_file):
        raise DataError(f"[{item_file}] has a header and no rows")
    quoted = of_file.str.startswith('"').all()
    why = (
        f"its cells are in quotation marks, which are text with field_separator={separator!r}"
        if quoted
        else ("items must be written alike in both files")
    )
    raise DataError(
        f"[{item_file}] has none of the {len(wanted):,} items of the interactions, e.g. {_listed(of_file[:3])} against "
        f"{_listed(wanted[:3])}: {why}"
    )


def _report_items_without_text(
    texts: Sequence[str], tokens: Iterable[str], missing: np.ndarray, columns: Iterable[str], item_file: str
) -> None:
    without = [token for token, text in zip(tokens, texts) if not text]
    if not without:
        return
    if len(without) == len(texts):
        raise DataError(f"no item has a text: the columns {_listed(columns)} of [{item_file}] are empty for every item")
    logging.getLogger().warning(
        f"{len(without)} of {len(texts)} items have no text, e.g. {_listed(without[:3])}: {missing.sum()} are missing "
        f"from [{item_file}], {len(without) - missing.sum()} have nothing in {_listed(dict.fromkeys(columns))}."
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(str, names))
