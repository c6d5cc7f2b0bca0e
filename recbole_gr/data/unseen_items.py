"""Items of the ``.item`` file that nobody interacted with: counted, and with ``load_items: all`` part of the catalogue."""

from __future__ import annotations

import os
from logging import getLogger
from typing import Any

import numpy as np

from recbole_gr.data.catalogue_match import some_of
from recbole_gr.data.item_text import read_item_file_tokens
from recbole_gr.data.item_vectors import item_file, reading
from recbole_gr.utils.errors import DataError, SettingError

#: The values of ``load_items``.
INTERACTED, ALL = "interacted", "all"


def take_in_items(dataset: Any) -> None:
    """Give the items of the ``.item`` file that have no number yet the numbers behind all others, or count them.

    Does nothing where ``load_items`` is no setting, as in RecBole's own runs of its own models.

    Args:
        dataset: a RecBole ``Dataset`` whose tokens have just become numbers.

    Raises:
        SettingError: ``load_items: all``, and there is no such file, or the model has entities whose numbers follow the items'.
    """
    config, field = dataset.config, dataset.iid_field
    if config["load_items"] not in (INTERACTED, ALL) or field not in dataset.field2id_token:
        return
    path, wanted = item_file(config), config["load_items"] == ALL
    if wanted and not os.path.isfile(path):
        raise SettingError("load_items", ALL, f"there is no item file [{path}]")
    if wanted and hasattr(dataset, "entity_field"):
        raise SettingError("load_items", ALL, f"{config['model']} has entities whose numbers follow those of the items")
    try:
        listed = read_item_file_tokens(path, **reading(config)) if os.path.isfile(path) else np.array([], dtype=object)
    except DataError:
        if wanted:
            raise
        return  # who reads the file says what is wrong with it
    tokens = dataset.field2id_token[field]
    known = dataset.field2token_id[field]
    new = [token for token in dict.fromkeys(listed) if token and token not in known]
    if config["numbering"] == "token":
        new.sort()
    loaded = len(tokens) - 1 - dataset.inter_feat[field].nunique()
    if dataset.item_feat is not None and loaded > 0:
        getLogger().info(f"{loaded:,} items without interactions are in the catalogue: load_col loads the .item file")
    if not new:
        return
    if not wanted:
        getLogger().info(
            f"{len(new):,} items of [{path}] have no interactions here and are left out ({some_of(new)}); load_items=all "
            "takes them into the catalogue"
        )
        return
    more = np.append(tokens, np.array(new))
    for other, kept in dataset.field2id_token.items():
        if kept is tokens:  # columns that share the numbers of the items, as lists of them do
            dataset.field2id_token[other] = more
            dataset.field2token_id[other].update({token: len(tokens) + place for place, token in enumerate(new)})
    getLogger().info(f"{len(new):,} items of [{path}] without interactions are in the catalogue ({some_of(new)})")
