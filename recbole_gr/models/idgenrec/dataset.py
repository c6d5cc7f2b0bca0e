"""The RecBole dataset of IDGenRec: histories, and the texts that IDs are made from."""

from typing import Any

import numpy as np
from recbole.config import Config

from recbole_gr.data.dataset import HistoryDataset
from recbole_gr.data.item_text import read_item_text
from recbole_gr.data.item_vectors import item_file, reading
from recbole_gr.models.idgenrec.keyphrases import keyphrase_ids
from recbole_gr.models.idgenrec.settings import KEYPHRASES
from recbole_gr.utils.stopwatch import Stages, stopwatch


class IDGenRecDataset(HistoryDataset):
    """Histories, and the texts that IDs are made from.

    Attributes:
        item_texts: one per item id, "" for padding and where there is none.
        keyphrases: the words of each item's ID, with ``id_generator: keyphrases``; else None.
        stages: what making them cost, for the run record.

    Raises:
        RecBoleGRError: a setting or the item file cannot work; raised before any long work.
    """

    item_texts: list[str]
    keyphrases: list[tuple[str, ...]] | None
    stages: Stages

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.stages, self.keyphrases = {}, None
        self.item_texts = read_texts(config, self.field2id_token[self.iid_field].astype(str))
        if config["id_generator"] == KEYPHRASES:
            with stopwatch(self.stages, "textual_ids"):
                words, longest, shared = (config[key] for key in ("id_words", "id_phrase_words", "id_min_items"))
                self.keyphrases = keyphrase_ids(self.item_texts, words, longest, shared)


def read_texts(config: Config, item_tokens: np.ndarray) -> list[str]:
    """The text of every item, as ``text_template`` makes it; str ``[n_items]``, entry 0 is ""."""
    options: dict[str, Any] = reading(config)
    return read_item_text(item_file(config), item_tokens, config["text_template"], **options)
