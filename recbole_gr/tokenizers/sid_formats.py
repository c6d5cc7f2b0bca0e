"""The formats that semantic IDs are exchanged in, read as they are."""

import contextlib
import itertools
import json
import os
import re
import reprlib
import string
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from recbole_gr.utils.errors import DataError, SettingError
from recbole_gr.tokenizers.semantic_ids import SemanticIDs

#: How the name of a file of semantic IDs may end.
ENDINGS = (".json", ".parquet", ".pt", ".npz")
#: Added to the name of a ``.pt`` file: the text file that names the items of its columns.
ITEMS_ENDING = ".items.txt"
#: Under this key the schema of a ``.parquet`` file keeps codebook sizes, collision and source, as json.
PARQUET_METADATA = b"recbole_gr"
#: The letters of the levels in tokens like ``<a_183>``, ``<b_70>``.
LEVEL_LETTERS = string.ascii_lowercase

_UNSIGNED = (torch.uint8, torch.uint16, torch.uint32, torch.uint64)
_SIGNED = (torch.int8, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True)
class SidFileContent:
    """What a file holds.

    Args:
        items (pd.Index): item tokens ``[rows]``, each once.
        codes (np.ndarray): int ``[rows, levels]``.
        source (dict): where the codes come from.
        collision (str): how collisions were resolved.
        codebook_sizes (sequence of int): what the file says they are; None where it says nothing.
    """

    items: pd.Index
    codes: np.ndarray
    source: dict
    collision: str = "as in the file"
    codebook_sizes: tuple = None


def read_content(path, item_tokens, item_file_tokens):
    """Read a file in the format that the ending of its name tells.

    Args:
        path, item_tokens, item_file_tokens: as in :func:`recbole_gr.tokenizers.sid_file.read_sid_file`.

    Returns:
        SidFileContent

    Raises:
        SettingError, DataError: as there.
    """
    ending = sid_file_ending(path)
    if not os.path.isfile(path):
        raise SettingError("sid_file", path, "no such file")
    if ending == ".json":
        return _read_json(path)
    if ending == ".parquet":
        return _read_parquet(path)
    if ending == ".pt":
        return _read_pt(path, item_file_tokens)
    return _read_npz(path, item_tokens)


def sid_file_ending(path):
    """The ending of the name of a file of semantic IDs, one of :data:`ENDINGS`.

    Raises:
        SettingError: it has another.
    """
    ending = os.path.splitext(path)[1]
    if ending not in ENDINGS:
        raise SettingError("sid_file", path, f"must end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")
    return ending


def import_pyarrow(path):
    """The module pyarrow, ``pyarrow.parquet`` loaded, which only ``.parquet`` files need.

    Raises:
        SettingError: it is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise SettingError("sid_file", path, f"needs pyarrow ({error}): pip install pyarrow") from error
    return pyarrow


def are_sizes(value):
    """Whether a value is a list of codebook sizes."""
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(map(is_size, value))


def is_size(value):
    """Whether a value is the size of a codebook."""
    return type(value) is int and value >= 1


def _read_json(path):
    try:
        with open(path, encoding="utf-8") as file:
            pairs = json.load(file, object_pairs_hook=tuple)  # a dict would hide an item that occurs twice
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid json ({error})") from error
    if type(pairs) is not tuple or not pairs:
        raise DataError(f"{path}: must be one json object, {{item: [codes]}}")
    items = _each_once(path, [item for item, _ in pairs])
    return SidFileContent(items, _codes_of_lists(path, items, [row for _, row in pairs]), {"sid_file": path})


def _codes_of_lists(path, items, rows):
    for item, row in zip(items, rows):
        if type(row) is not list or len(row) != len(rows[0]):
            raise DataError(
                f"{path}: every item must have a list of codes, all of one length, "
                f"but {items[0]} has {reprlib.repr(rows[0])} and {item} has {reprlib.repr(row)}"
            )
    levels = len(rows[0])
    flat = list(itertools.chain.from_iterable(rows))
    kind = str if flat and type(flat[0]) is str else int
    if set(map(type, flat)) - {kind}:  # bool counts as a type of its own
        place = next(place for place, code in enumerate(flat) if type(code) is not kind)
        raise DataError(
            f"{path}: {_code_at(items, flat, place, levels)}, "
            "but the codes must be whole numbers, or for every item tokens like <a_183>, <b_70>"
        )
    if kind is str:
        return _codes_of_words(path, items, flat, levels)
    try:
        return np.array(flat, dtype=np.int64).reshape(len(rows), levels)
    except OverflowError:
        place = flat.index(max(flat, key=abs))
        raise DataError(f"{path}: {_code_at(items, flat, place, levels)}, which is too large") from None


def _codes_of_words(path, items, flat, levels):
    """Codes from the tokens of all items, one after the other."""
    if levels > len(LEVEL_LETTERS):
        raise DataError(f"{path}: tokens like <a_183> go to level <z_...>, but items have {levels} codes")
    codes = np.empty((len(items), levels), dtype=np.int64)
    for level, letter in enumerate(LEVEL_LETTERS[:levels]):
        words = flat[level::levels]
        pattern = re.compile(f"<{letter}_([0-9]{{1,18}})>")  # int64 holds every number of 18 digits
        matches = {word: pattern.fullmatch(word) for word in dict.fromkeys(words)}
        for word, match in matches.items():
            if match is None:
                place = words.index(word) * levels + level
                raise DataError(
                    f"{path}: {_code_at(items, flat, place, levels)}, "
                    f"but it must be like <{letter}_183>, or all codes whole numbers"
                )
        numbers = {word: int(match[1]) for word, match in matches.items()}
        codes[:, level] = [numbers[word] for word in words]
    return codes


def _code_at(items, flat, place, levels):
    return f"item {items[place // levels]} has code {reprlib.repr(flat[place])} at level {place % levels}"


def _read_parquet(path):
    pyarrow = import_pyarrow(path)
    with _reading(path):
        schema = pyarrow.parquet.read_schema(path)
    numbered = [name for name in schema.names if re.fullmatch("level_[0-9]+", name)]
    levels = [f"level_{level}" for level in range(len(numbered))]
    if not levels or not {"item_id", *levels} <= set(schema.names):
        names = ", ".join(schema.names)
        raise DataError(f"{path}: must have the columns item_id, level_0, level_1, ..., has {names or 'none'}")
    for name in levels:
        if not pyarrow.types.is_integer(schema.field(name).type):
            raise DataError(f"{path}: column {name} must hold whole numbers, not {schema.field(name).type}")
    if not _is_text(pyarrow, schema.field("item_id").type):
        raise DataError(f"{path}: column item_id must hold strings, not {schema.field('item_id').type}")
    with _reading(path), pyarrow.parquet.ParquetFile(path) as file:
        table = file.read(columns=["item_id", *levels])
        tokens = table.column("item_id").cast(pyarrow.large_string()).to_pylist()
    for name in table.column_names:
        if table.column(name).null_count:
            raise DataError(f"{path}: column {name} has {table.column(name).null_count} empty cells")
    with _reading(path):
        codes = np.stack([table.column(name).cast(pyarrow.int64()).to_numpy() for name in levels], axis=1)
    metadata = _parquet_metadata(path, schema.metadata or {})
    return SidFileContent(_each_once(path, tokens), codes, metadata.pop("source", {}) | {"sid_file": path}, **metadata)


def _is_text(pyarrow, kind):
    kind = kind.value_type if pyarrow.types.is_dictionary(kind) else kind
    return pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)


def _parquet_metadata(path, metadata):
    """What our metadata say, as arguments of :class:`SidFileContent`; an empty dict without them."""
    if PARQUET_METADATA not in metadata:
        return {}
    try:
        ours = json.loads(metadata[PARQUET_METADATA])
        kept = {name: ours[name] for name in ("codebook_sizes", "collision", "source")}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: its metadata recbole_gr cannot be read ({error!r})") from error
    if not are_sizes(kept["codebook_sizes"]) or type(kept["collision"]) is not str or type(kept["source"]) is not dict:
        raise DataError(
            f"{path}: its metadata recbole_gr must have codebook_sizes (list of whole numbers of at least 1), "
            f"collision (string) and source (object), not {reprlib.repr(kept)}"
        )
    return kept


def _read_pt(path, item_file_tokens):
    with _reading(path):
        content = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(content, torch.Tensor):
        raise DataError(f"{path}: must hold one tensor [levels, items], not {type(content).__name__}")
    if content.dtype not in _UNSIGNED + _SIGNED or content.dim() != 2:
        found = f"{content.dtype} {list(content.shape)}"
        raise DataError(f"{path}: must hold a tensor of whole numbers [levels, items], not {found}")
    with _reading(path):
        codes = content.to(torch.int64).numpy().T
    return SidFileContent(*_with_items(path, codes, item_file_tokens), {"sid_file": path})


def _with_items(path, codes, item_file_tokens):
    """The items of the rows of codes ``[rows, levels]``, each once, and their codes."""
    items_path = path + ITEMS_ENDING
    if os.path.isfile(items_path):
        tokens = _read_lines(items_path)
        _check_columns(path, codes, len(tokens), items_path)
        return _each_once(items_path, tokens), codes
    if item_file_tokens is None:
        raise SettingError(
            "sid_file",
            path,
            f"has no item tokens, so it needs the text file {os.path.basename(items_path)} beside it, "
            "or else the .item file whose rows its columns follow, and there is neither",
        )
    _check_columns(path, codes, len(item_file_tokens), "the .item file")
    items = pd.Index(item_file_tokens, dtype=object)
    first = ~items.duplicated()
    return items[first], codes[first]


def _read_lines(path):
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().split("\n")  # unlike splitlines, no other separator that Unicode knows
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text ({error})") from error
    return lines if lines[-1] else lines[:-1]


def _check_columns(path, codes, expected, order):
    columns, levels = codes.shape
    if columns == expected:
        return
    reason = f"has {columns} columns, but {order} has {expected} items"
    if levels == expected:
        reason += ": it is [items, levels] and must be transposed, to [levels, items]"
    raise SettingError("sid_file", path, reason)


def _read_npz(path, item_tokens):
    ids = SemanticIDs.load(path)
    if ids.n_items != len(item_tokens):
        raise SettingError(
            "sid_file", path, f"holds {ids.n_items - 1} items, but the catalogue has {len(item_tokens) - 1}"
        )
    items = pd.Index(item_tokens[1:], dtype=object)
    return SidFileContent(items, ids.codes[1:], ids.source | {"sid_file": path}, ids.collision, ids.codebook_sizes)


@contextlib.contextmanager
def _reading(path):
    try:
        yield
    except Exception as error:  # the libraries meet noise and pickled objects with nearly any exception
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise DataError(f"{path}: cannot be read ({reason})") from error


def _each_once(path, tokens):
    items = pd.Index(tokens, dtype=object)
    if not items.is_unique:
        raise DataError(f"{path}: item {items[items.duplicated()][0]} occurs more than once")
    return items
