"""Semantic IDs made elsewhere: a file named by ``sid_file``, read for a catalogue."""

import logging

import numpy as np
import pandas as pd

from recbole_gr.utils.errors import DataError, SettingError
from recbole_gr.tokenizers.semantic_ids import MAX_VOCABULARY, SemanticIDs
from recbole_gr.tokenizers.sid_formats import are_sizes, is_size, read_content


def read_sid_file(path, item_tokens, item_file_tokens=None, codebook_sizes=None):
    """Read semantic IDs for a catalogue.

    - ``.json``: ``{item token: [codes]}``, all of one length; codes are whole numbers, or tokens with the letter of
      their level, ``["<a_183>", "<b_70>", ...]``, as MiniOneRec and LC-Rec write them.
    - ``.pt``: tensor of whole numbers ``[levels, items]``, as GRID writes it. Its columns follow the lines of the text
      file of the same name plus ``.items.txt``, one item token a line, or where there is none the rows of the
      ``.item`` file; where that has several rows for an item, the first counts.
    - ``.parquet``: columns ``item_id``, ``level_0``, ``level_1``, ..., with or without the metadata that
      :func:`~recbole_gr.tokenizers.sid_export.write_sid_file` adds.
    - ``.npz``: as :meth:`SemanticIDs.save` writes it, without item tokens, in the order of item ids.

    Items of the file that the catalogue lacks are left out and counted in a logged warning.

    Args:
        path (str): the file.
        item_tokens (np.ndarray): str ``[n_items]``, RecBole's tokens by item id; entry 0 is the padding item.
        item_file_tokens (np.ndarray): str ``[rows]``, the item tokens in the order of the ``.item`` file, see
            :func:`recbole_gr.data.item_text.read_item_file_tokens`; needed for ``.pt`` without ``.items.txt`` only.
        codebook_sizes (int or list of int): number of codes of every level, or of each; None takes what the file's
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
    content = read_content(path, item_tokens, item_file_tokens)
    if 0 in content.codes.shape:
        raise DataError(f"{path}: is empty; it must hold at least one item, with at least one code")
    codes = content.codes[_rows_of_catalogue(path, content.items, item_tokens)]
    source = dict(content.source)
    if len(codes) < len(content.items):  # what was counted over all items of the file does not hold for some of them
        for name in ("unique_share_quantised", "largest_collision_quantised", "collapsed_levels"):
            source.pop(name, None)
    sizes = _fitting_sizes(path, codes, item_tokens, codebook_sizes, content.codebook_sizes)
    padding = np.full((1, codes.shape[1]), -1)
    return SemanticIDs(np.concatenate([padding, codes]), sizes, content.collision, source)


def _rows_of_catalogue(path, items, item_tokens):
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


def _first_three(tokens):
    return ", ".join(tokens[:3]) + (", ..." if len(tokens) > 3 else "")


def _fitting_sizes(path, codes, item_tokens, setting, kept):
    """Codebook sizes that hold all codes: as set, else as kept in the file, else as small as they can be."""
    negative = np.argwhere(codes < 0)
    if len(negative):
        row, level = negative[0]
        code = f"code {codes[row, level]} at level {level}"
        raise DataError(f"{path}: item {item_tokens[1 + row]} has {code}, but codes start at 0")
    if setting is None:
        sizes = list(kept or [int(code) + 1 for code in codes.max(axis=0)])
    else:
        sizes = [setting] * codes.shape[1] if is_size(setting) else list(setting)
    reason = _misfit(codes, sizes, item_tokens)
    if reason and setting is None:
        raise DataError(f"{path}: {reason}")
    if reason:
        raise SettingError("sid_codebook_sizes", setting, f"in {path} {reason}")
    return sizes


def _misfit(codes, sizes, item_tokens):
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
