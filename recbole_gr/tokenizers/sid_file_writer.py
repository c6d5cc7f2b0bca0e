"""Writing files of semantic IDs, in the formats that :mod:`recbole_gr.tokenizers.sid_files` reads."""

import json
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch

from recbole_gr.settings.field import check_value
from recbole_gr.tokenizers.semantic_ids import SemanticIDs
from recbole_gr.tokenizers.sid_files import (
    ITEMS_ENDING,
    JSON_STYLES,
    LEVEL_LETTERS,
    PARQUET_METADATA,
    import_pyarrow,
    sid_file_ending,
)
from recbole_gr.utils.atomic_files import atomic_write
from recbole_gr.utils.errors import DataError, SettingError


def write_sid_file(ids: SemanticIDs, path: str, item_tokens: np.ndarray, json_style: str = "numbers") -> None:
    """Write semantic IDs, with the items named by their tokens.

    The ending of the name decides the format:

    - ``.json``: ``{item token: [codes]}``.
    - ``.pt``: tensor int64 ``[levels, items]`` in the order of item ids, as GRID wants it, and beside it the text file
      of the same name plus ``.items.txt``, which names the item of each column, one a line.
    - ``.parquet``: columns ``item_id`` (string) and ``level_0``, ``level_1``, ... (int32), with codebook sizes,
      collision and source as json in the metadata of the schema, under ``recbole_gr``.
    - ``.npz``: :meth:`SemanticIDs.save`, the only one with what gives new items their codes.

    Every file is an atomic write: a reader sees all of it or none.

    Args:
        ids: of ``n_items`` items.
        path: the file; one of this name is replaced.
        item_tokens: str ``[n_items]``, RecBole's tokens by item id; entry 0 is the padding item.
        json_style: one of :data:`JSON_STYLES`; ``tokens`` is for ``.json`` and at most 26 levels.

    Raises:
        SettingError: the name has another ending, the style cannot work, or the file cannot be written.
        DataError: the tokens are not those of the items, or one cannot be a line of ``.items.txt``.
    """
    ending = sid_file_ending(path)
    check_value("sid_format", json_style, Literal[tuple(JSON_STYLES)])
    if json_style == "tokens":
        _check_tokens_can_be_written(ids, path, ending)
    if len(item_tokens) != ids.n_items:
        raise DataError(f"{path}: there are {ids.n_items - 1} semantic IDs, but {len(item_tokens) - 1} item tokens")
    items = [str(token) for token in item_tokens[1:]]
    try:
        if ending == ".json":
            _write_json(ids, path, items, json_style)
        elif ending == ".parquet":
            _write_parquet(ids, path, items)
        elif ending == ".pt":
            _write_pt(ids, path, items)
        else:
            replace(ids, item_tokens=np.append(str(item_tokens[0]), items)).save(path)
    except OSError as error:
        raise SettingError("sid_file", path, f"cannot be written ({error})") from error


def _check_tokens_can_be_written(ids: SemanticIDs, path: str, ending: str) -> None:
    if ending != ".json":
        raise SettingError("sid_format", "tokens", f"is for .json files only, not for {path}")
    if ids.n_levels > len(LEVEL_LETTERS):
        raise SettingError(
            "sid_format",
            "tokens",
            f"has a letter for each of {len(LEVEL_LETTERS)} levels at most, but the semantic IDs have {ids.n_levels}",
        )


def _write_json(ids: SemanticIDs, path: str, items: list[str], json_style: str) -> None:
    rows: list[Any] = ids.codes[1:].tolist()
    if json_style == "tokens":
        levels = ids.codes[1:].T.tolist()
        words = ([f"<{letter}_{code}>" for code in codes] for letter, codes in zip(LEVEL_LETTERS, levels, strict=False))
        rows = list(zip(*words, strict=True))
    with atomic_write(path) as file:
        file.write(json.dumps(dict(zip(items, rows, strict=True))))


def _write_parquet(ids: SemanticIDs, path: str, items: list[str]) -> None:
    pyarrow = import_pyarrow(path)
    columns = {"item_id": pyarrow.array(items, pyarrow.string())}
    for level in range(ids.n_levels):
        columns[f"level_{level}"] = pyarrow.array(ids.codes[1:, level], pyarrow.int32())
    metadata = {"codebook_sizes": ids.codebook_sizes, "collision": ids.collision, "source": ids.source}
    table = pyarrow.table(columns, metadata={PARQUET_METADATA: json.dumps(metadata).encode()})
    with atomic_write(path, "wb") as file:
        pyarrow.parquet.write_table(table, file)


def _write_pt(ids: SemanticIDs, path: str, items: list[str]) -> None:
    for item in items:
        if "\n" in item or "\r" in item:
            raise DataError(f"{path}{ITEMS_ENDING}: item {item!r} has a line break and cannot be one line")
    tensor = torch.from_numpy(ids.codes[1:].T.astype("int64", order="C"))
    names = "".join(f"{item}\n" for item in items).encode()  # as bytes, so that no system changes the line ends
    with atomic_write(path, "wb") as file, atomic_write(path + ITEMS_ENDING, "wb") as items_file:
        torch.save(tensor, file)
        items_file.write(names)
