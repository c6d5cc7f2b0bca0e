r"""
SASRecCausal
################################################

Reference:
    Wang-Cheng Kang, Julian McAuley. "Self-Attentive Sequential Recommendation." in ICDM 2018.

Its network, causal softmax attention over item embeddings, trained by a softmax over the whole catalogue at every position of a
sequence in one pass. The paper trains every position too, by binary cross-entropy with one sampled item; RecBole's SASRec has the full
softmax, at the last position only, and so reads a sequence as often as it has items.
"""

from typing import Any

import torch
from recbole.config import Config
from recbole.data.interaction import Interaction

from recbole_gr.models.item_sequence import ItemSequenceRecommender
from recbole_gr.models.sasrec_causal.network import CausalTransformer


class SASRecCausal(ItemSequenceRecommender):
    r"""SASRec's network with the same weights as RecBole's gives the same states; what differs is how it is trained."""

    def __init__(self, config: Config, dataset: Any) -> None:
        super().__init__(config, dataset)

        # load parameters info
        std = config["initializer_range"]

        # define layers and loss
        network = CausalTransformer(
            self.hidden_size,
            n_layers=config["n_layers"],
            n_heads=config["n_heads"],
            inner_size=config["inner_size"],
            longest=config["MAX_ITEM_LIST_LENGTH"],
            dropout=config["hidden_dropout_prob"],
            attention_dropout=config["attn_dropout_prob"],
            eps=config["layer_norm_eps"],
            std=std,
        )
        self.use_network(network, std)

    def states(self, interaction: Interaction) -> torch.Tensor:
        items, _ = self.trimmed_history(interaction)
        return self.network(self.item_embedding(items))
