"""How items are shown: token, title and semantic ID."""

from __future__ import annotations

from logging import getLogger
from typing import Any

import numpy as np

from recbole_gr.data.item_text import find_title_column, read_item_text
from recbole_gr.data.item_vectors import item_file, reading
from recbole_gr.utils.errors import DataError


class Catalogue:
    """What is said of each item, object arrays ``[n_items]``; entry 0 is padding.

    Attributes:
        tokens: of the files.
        titles: of the ``.item`` file; None where there is none.
        semantic_ids: codes joined by hyphens, or the words of a textual ID; None where the model has neither.
    """

    def __init__(self, config: Any, dataset: Any, model: Any) -> None:
        self.tokens = dataset.field2id_token[dataset.iid_field].astype(str).astype(object)
        self.titles = _titles(config, self.tokens)
        self.semantic_ids = _semantic_ids(dataset, model)


def _titles(config: Any, tokens: np.ndarray) -> np.ndarray:
    titles = np.full(len(tokens), None, dtype=object)
    template = config["title_template"]
    try:
        if template is None:
            template = f"{{{find_title_column(item_file(config), **reading(config))}}}"
        texts = read_item_text(item_file(config), tokens, template, setting="title_template", **reading(config))
        titles[:] = [text or None for text in texts]
    except DataError as error:
        getLogger().warning(f"Items are shown without titles: {error}")
    return titles


def _semantic_ids(dataset: Any, model: Any) -> np.ndarray:
    """Those of the checkpoint, where it brings its own."""
    shown = np.full(dataset.item_num, None, dtype=object)
    if hasattr(model, "texts_of_ids"):
        shown[1:] = model.texts_of_ids()[1:]
        return shown
    codes = None
    if hasattr(model, "item_codes"):
        codes = model.item_codes.cpu().numpy()
    elif hasattr(dataset, "semantic_ids"):
        codes = dataset.semantic_ids.codes
    if codes is not None:
        shown[1:] = ["-".join(map(str, row)) for row in codes[1:].tolist()]
    return shown
