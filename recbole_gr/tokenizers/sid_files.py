"""Files of semantic IDs, in the formats in which they are exchanged, read for a catalogue."""

import contextlib
import itertools
import json
import logging
import os
import re
import reprlib
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from recbole_gr.tokenizers.semantic_ids import MAX_VOCABULARY, SemanticIDs
from recbole_gr.utils.errors import DataError, SettingError

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
#: How ``.json`` may hold the codes: ``[183, 70]``, or ``["<a_183>", "<b_70>"]`` as MiniOneRec and LC-Rec have them.
JSON_STYLES = ("numbers", "tokens")


@dataclass(frozen=True)
class SidFileContent:
    """What a file holds.

    Args:
        items: item tokens ``[rows]``, each once.
        codes: int ``[rows, levels]``.
        source: where the codes come from.
        collision: how collisions were resolved.
        codebook_sizes: what the file says they are; None where it says nothing.
    """

    items: pd.Index
    codes: np.ndarray
    source: dict[str, Any]
    collision: str = "as in the file"
    codebook_sizes: Sequence[int] | None = None


def read_sid_file(
    path: str,
    item_tokens: np.ndarray,
    item_file_tokens: np.ndarray | None = None,
    codebook_sizes: int | list[int] | None = None,
) -> SemanticIDs:
    """Read semantic IDs for a catalogue.

    - ``.json``: ``{item token: [codes]}``, all of one length; codes are whole numbers, or tokens with the letter of
      their level, ``["<a_183>", "<b_70>", ...]``, as MiniOneRec and LC-Rec have them.
    - ``.pt``: tensor of whole numbers ``[levels, items]``, as GRID has it. Its columns follow the lines of the text
      file of the same name plus ``.items.txt``, one item token a line, or where there is none the rows of the
      ``.item`` file; where that has several rows for an item, the first counts.
    - ``.parquet``: columns ``item_id``, ``level_0``, ``level_1``, ..., with or without the metadata that
      :func:`write_sid_file` adds.
    - ``.npz``: as :meth:`SemanticIDs.save` makes it; one without item tokens is in the order of item ids.

    Items of the file that the catalogue lacks are left out and counted in a logged warning.

    Args:
        path: the file.
        item_tokens: str ``[n_items]``, RecBole's tokens by item id; entry 0 is the padding item.
        item_file_tokens: str ``[rows]``, the item tokens in the order of the ``.item`` file, see
            :func:`recbole_gr.data.item_text.read_item_file_tokens`; needed for ``.pt`` without ``.items.txt`` only.
        codebook_sizes: number of codes of every level, or of each; None takes what the file's
            metadata say, and where they say nothing the largest code of each level plus one.

    Returns:
        SemanticIDs: rows in item-id order.

    Raises:
        SettingError: the file is missing, of an unknown kind or does not cover the catalogue, or ``codebook_sizes``
            does not fit its codes.
        DataError: its content is damaged, names an item twice, or has no whole codes of one length per item.
    """
    if codebook_sizes is not None and not are_sizes(codebook_sizes) and not is_size(codebook_sizes):
        allowed = "must be a whole number of at least 1, or a list of them, one for each level"
        raise SettingError("sid_codebook_sizes", codebook_sizes, allowed)
    content = _read_content(path, item_tokens, item_file_tokens)
    if 0 in content.codes.shape:
        raise DataError(f"{path}: is empty; it must hold at least one item, with at least one code")
    codes = content.codes[_rows_of_catalogue(path, content.items, item_tokens)]
    source = dict(content.source)
    if len(codes) < len(content.items):  # what was counted over all items of the file does not hold for some of them
        for name in ("unique_share_quantised", "largest_collision_quantised", "collapsed_levels"):
            source.pop(name, None)
    sizes = _fitting_sizes(path, codes, item_tokens, codebook_sizes, kept=content.codebook_sizes)
    if len(codes) > 1 and (codes == codes[0]).all():
        raise DataError(
            f"{path}: all {len(codes):,} items have the same codes, {codes[0].tolist()}; they say nothing of an item"
        )
    padding = np.full((1, codes.shape[1]), -1)
    return SemanticIDs(np.concatenate([padding, codes]), tuple(sizes), content.collision, source)


def _rows_of_catalogue(path: str, items: pd.Index, item_tokens: np.ndarray) -> np.ndarray:
    """The row of each item of the catalogue, the padding item left out."""
    catalogue = pd.Index(item_tokens[1:], dtype=object)
    rows = items.get_indexer(catalogue)
    missing = catalogue[rows < 0]
    if len(missing) == len(catalogue):
        raise SettingError(
            "sid_file",
            path,
            f"looks like a file of another dataset: none of its {len(items):,} items ({_first_three(items)}) "
            f"is among the {len(catalogue):,} of the catalogue ({_first_three(catalogue)})",
        )
    if len(missing):
        raise SettingError(
            "sid_file",
            path,
            f"has no codes for {len(missing):,} of {len(catalogue):,} items of the catalogue, "
            f"for example {_first_three(missing)}",
        )
    unknown = items.delete(rows)
    if len(unknown):
        logging.getLogger().warning(
            f"{len(unknown):,} of {len(items):,} items of [{path}] are unknown to the dataset and left out: "
            f"{_first_three(unknown)}"
        )
    return rows


def _first_three(tokens: pd.Index) -> str:
    return ", ".join(tokens[:3]) + (", ..." if len(tokens) > 3 else "")


def _fitting_sizes(
    path: str, codes: np.ndarray, item_tokens: np.ndarray, setting: int | list[int] | None, *, kept: Sequence[int] | None
) -> list[int]:
    """Codebook sizes that hold all codes: as set, else as kept in the file, else as small as they can be."""
    negative = np.argwhere(codes < 0)
    if len(negative):
        row, level = negative[0]
        code = f"code {codes[row, level]} at level {level}"
        raise DataError(f"{path}: item {item_tokens[1 + row]} has {code}, but codes start at 0")
    if setting is None:
        sizes = list(kept or [int(code) + 1 for code in codes.max(axis=0)])
    else:
        sizes = [setting] * codes.shape[1] if isinstance(setting, int) else list(setting)
    reason = _misfit(codes, sizes, item_tokens) or (None if setting is not None or kept else _offset(codes))
    if reason and setting is None:
        raise DataError(f"{path}: {reason}")
    if reason:
        raise SettingError("sid_codebook_sizes", setting, f"in {path} {reason}")
    return sizes


def _offset(codes: np.ndarray) -> str | None:
    """Why codes look as if each level's were put behind those of the level before, as in one vocabulary; None if they do not."""
    least, most = codes.min(axis=0), codes.max(axis=0)
    if len(codes) < 2 or len(least) < 2 or (least[1:] <= most[:-1]).any():
        return None
    begins = ", ".join(f"level {level} at {code}" for level, code in enumerate(least.tolist()) if level)
    return (
        f"the codes of each level begin behind those of the level before ({begins}): codes begin at 0 at every level, so take the "
        "offsets off; if they are meant so, set sid_codebook_sizes"
    )


def _misfit(codes: np.ndarray, sizes: Sequence[int], item_tokens: np.ndarray) -> str | None:
    """Why codebooks of these sizes cannot be those of the codes; None where they can."""
    levels = codes.shape[1]
    if len(sizes) != levels:
        return f"items have {levels} codes, but there are {len(sizes)} codebook sizes"
    for level, size in enumerate(sizes):
        outside = np.flatnonzero(codes[:, level] >= size)
        if len(outside):
            item, code = item_tokens[1 + outside[0]], codes[outside[0], level]
            return f"item {item} has code {code} at level {level}, allowed is 0 to {size - 1}"
    if sum(sizes) > MAX_VOCABULARY:
        level = int(np.argmax(sizes))
        return (
            f"the codebooks are too large: level {level} has {sizes[level]} codes, "
            f"and all levels together may have {MAX_VOCABULARY}"
        )
    return None


def _read_content(path: str, item_tokens: np.ndarray, item_file_tokens: np.ndarray | None) -> SidFileContent:
    """Read a file in the format that the ending of its name says.

    Args:
        path, item_tokens, item_file_tokens: as in :func:`read_sid_file`.

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


def sid_file_ending(path: str) -> str:
    """The ending of the name of a file of semantic IDs, one of :data:`ENDINGS`.

    Raises:
        SettingError: it has another.
    """
    ending = os.path.splitext(path)[1]
    if ending not in ENDINGS:
        raise SettingError("sid_file", path, f"must end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}")
    return ending


def import_pyarrow(path: str) -> Any:
    """The module pyarrow, ``pyarrow.parquet`` loaded, which only ``.parquet`` files need.

    Raises:
        SettingError: it is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise SettingError("sid_file", path, f"needs pyarrow ({error}): pip install pyarrow") from error
    return pyarrow


def are_sizes(value: Any) -> bool:
    """Whether a value is a list of codebook sizes."""
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(map(is_size, value))


def is_size(value: Any) -> bool:
    """Whether a value is the size of a codebook."""
    return type(value) is int and value >= 1


def _read_json(path: str) -> SidFileContent:
    try:
        with open(path, encoding="utf-8") as file:
            pairs = json.load(file, object_pairs_hook=tuple)  # a dict would hide an item that occurs twice
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid json ({error})") from error
    if type(pairs) is not tuple or not pairs:
        raise DataError(f"{path}: must be one json object, {{item: [codes]}}")
    items = _each_once(path, [item for item, _ in pairs])
    return SidFileContent(items, _codes_of_lists(path, items, [row for _, row in pairs]), {"sid_file": path})


def _codes_of_lists(path: str, items: pd.Index, rows: list[Any]) -> np.ndarray:
    for item, row in zip(items, rows, strict=True):
        if type(row) is not list:
            raise DataError(f"{path}: item {item} has {reprlib.repr(row)}, but must have a list of codes, as [183, 70, 12]")
        if len(row) != len(rows[0]):
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


def _codes_of_words(path: str, items: pd.Index, flat: list[str], levels: int) -> np.ndarray:
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
        numbers = {word: int(match[1]) for word, match in matches.items() if match}
        codes[:, level] = [numbers[word] for word in words]
    return codes


def _code_at(items: pd.Index, flat: list[Any], place: int, levels: int) -> str:
    return f"item {items[place // levels]} has code {reprlib.repr(flat[place])} at level {place % levels}"


def _read_parquet(path: str) -> SidFileContent:
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


def _is_text(pyarrow: Any, kind: Any) -> bool:
    kind = kind.value_type if pyarrow.types.is_dictionary(kind) else kind
    return pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)


def _parquet_metadata(path: str, metadata: dict[bytes, bytes]) -> dict[str, Any]:
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


def _read_pt(path: str, item_file_tokens: np.ndarray | None) -> SidFileContent:
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


def _with_items(path: str, codes: np.ndarray, item_file_tokens: np.ndarray | None) -> tuple[pd.Index, np.ndarray]:
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


def _read_lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().split("\n")  # unlike splitlines, no other separator that Unicode knows
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text ({error})") from error
    return lines if lines[-1] else lines[:-1]


def _check_columns(path: str, codes: np.ndarray, expected: int, order: str) -> None:
    columns, levels = codes.shape
    if columns == expected:
        return
    reason = f"has {columns} columns, but {order} has {expected} items"
    if levels == expected:
        reason += ": it is [items, levels] and must be transposed, to [levels, items]"
    raise SettingError("sid_file", path, reason)


def _read_npz(path: str, item_tokens: np.ndarray) -> SidFileContent:
    ids = SemanticIDs.load(path)
    if ids.item_tokens is not None:
        items = _each_once(path, ids.item_tokens[1:].tolist())
        return SidFileContent(items, ids.codes[1:], ids.source | {"sid_file": path}, ids.collision, ids.codebook_sizes)
    if ids.n_items != len(item_tokens):
        raise SettingError("sid_file", path, f"holds {ids.n_items - 1} items, but the catalogue has {len(item_tokens) - 1}")
    items = pd.Index(item_tokens[1:], dtype=object)
    return SidFileContent(items, ids.codes[1:], ids.source | {"sid_file": path}, ids.collision, ids.codebook_sizes)


@contextlib.contextmanager
def _reading(path: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # the libraries meet noise and pickled objects with nearly any exception
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise DataError(f"{path}: cannot be read ({reason})") from error


def _each_once(path: str, tokens: list[str]) -> pd.Index:
    items = pd.Index(tokens, dtype=object)
    if not items.is_unique:
        raise DataError(f"{path}: item {items[items.duplicated()][0]} occurs more than once")
    return items
