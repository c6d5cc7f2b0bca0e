"""Semantic IDs made elsewhere: a file named by ``sid_file``."""

import json
import os

import numpy as np

from recbole_gr.errors import DataError, SettingError
from recbole_gr.tokenizer.semantic_ids import SemanticIDs


def read_sid_file(path, item_tokens):
    """Read semantic IDs for a catalogue.

    Args:
        path (str): ``.json``, ``{item token: [codes]}``, all of one length; or ``.npz`` as :meth:`SemanticIDs.save`
            writes it, in the order of item ids.
        item_tokens (np.ndarray): str ``[n_items]``, RecBole's tokens by item id; entry 0 is the padding item.

    Returns:
        SemanticIDs: rows in item-id order. Items of the file that the catalogue lacks are left out.

    Raises:
        SettingError: the file is missing, of an unknown kind, or does not cover the catalogue.
        DataError: its content is damaged, or its codes have no single length.
    """
    if not path.endswith((".json", ".npz")):
        raise SettingError("sid_file", path, "must end in .json ({item: [codes]}) or .npz (SemanticIDs.save)")
    if not os.path.isfile(path):
        raise SettingError("sid_file", path, "no such file")
    if path.endswith(".json"):
        return _from_json(path, item_tokens)
    ids = SemanticIDs.load(path)
    if ids.n_items != len(item_tokens):
        raise SettingError(
            "sid_file", path, f"holds {ids.n_items - 1} items, but the catalogue has {len(item_tokens) - 1}"
        )
    return ids


def _from_json(path, item_tokens):
    try:
        with open(path, encoding="utf-8") as file:
            by_item = json.load(file)
    except ValueError as error:
        raise DataError(f"{path}: not valid json ({error})") from error
    if not isinstance(by_item, dict) or not by_item:
        raise DataError(f"{path}: must be one json object, {{item: [codes]}}")
    missing = [token for token in item_tokens[1:] if token not in by_item]
    if missing:
        raise SettingError(
            "sid_file",
            path,
            f"has no codes for {len(missing)} of {len(item_tokens) - 1} items of the catalogue, "
            f"for example {', '.join(missing[:3])}",
        )
    rows = [by_item[token] for token in item_tokens[1:]]
    if not all(isinstance(row, list) and len(row) == len(rows[0]) for row in rows):
        raise DataError(f"{path}: every item must have a list of codes, all of one length")
    try:
        found = np.array(rows)
    except ValueError as error:
        raise DataError(f"{path}: the codes must be whole numbers ({error})") from error
    if found.dtype.kind not in "iu" or found.ndim != 2:
        raise DataError(f"{path}: the codes must be whole numbers, not {rows[0]}")
    codes = np.concatenate([np.full((1, found.shape[1]), -1), found])
    return SemanticIDs(codes, found.max(axis=0) + 1, "as in the file", {"sid_file": path})
