r"""
HSTU
################################################

Reference:
    Jiaqi Zhai et al. "Actions Speak Louder than Words: Trillion-Parameter Sequential Transducers for Generative
    Recommendations." in ICML 2024 (arXiv 2402.17152).
"""

from typing import Any

import torch
from recbole.config import Config
from recbole.data.interaction import Interaction

from recbole_gr.models.hstu.network import HSTUNetwork
from recbole_gr.models.item_sequence import ItemSequenceRecommender
from recbole_gr.utils.errors import DataError


class HSTU(ItemSequenceRecommender):
    r"""HSTU as a sequential recommender over items (section 4.1.1 of the paper), trained at every position.

    The time of a position is that of its own item: that of the next one, which is to be predicted, is not known.

    Raises:
        DataError: with ``time_bias``, all times are equal when rounded to whole units, as after a normalisation.
    """

    network: HSTUNetwork

    def __init__(self, config: Config, dataset: Any) -> None:
        super().__init__(config, dataset)

        # load parameters info
        self.time_bias = config["time_bias"]
        self.TIME_LIST = f"{config['TIME_FIELD']}{config['LIST_SUFFIX']}"
        if self.time_bias and dataset.time_sequence.min() == dataset.time_sequence.max():
            words = "are all one when rounded; time_bias=True needs whole units, such as seconds, or set it to False"
            raise DataError(f"the values of column {config['TIME_FIELD']!r} of {dataset.dataset_name} {words}")
        std = config["initializer_range"]

        # define layers and loss
        network = HSTUNetwork(
            self.hidden_size,
            n_layers=config["n_layers"],
            n_heads=config["n_heads"],
            longest=config["MAX_ITEM_LIST_LENGTH"],
            time_buckets=config["time_buckets"] if self.time_bias else 0,
            dropout=config["hidden_dropout_prob"],
            attention_dropout=config["attn_dropout_prob"],
            eps=config["layer_norm_eps"],
            std=std,
        )
        self.use_network(network, std)

    def states(self, interaction: Interaction) -> torch.Tensor:
        items, _ = self.trimmed_history(interaction)
        times = interaction[self.TIME_LIST][:, : items.shape[1]] if self.time_bias else None
        return self.network(self.item_embedding(items), times)
