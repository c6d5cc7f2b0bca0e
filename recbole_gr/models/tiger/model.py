r"""
TIGER
################################################

Reference:
    Shashank Rajput et al. "Recommender Systems with Generative Retrieval." in NeurIPS 2023 (arXiv 2305.05065).
"""

from typing import Any

import torch
from recbole.config import Config
from recbole.data.interaction import Interaction

from recbole_gr.models.semantic_id import SemanticIDRecommender
from recbole_gr.models.tiger.network import BeamDecoder, SequenceModel
from recbole_gr.models.tiger.settings import model_size


class TIGER(SemanticIDRecommender):
    r"""TIGER reads the semantic IDs of a history and generates that of the next item, code by code.

    The encoder-decoder is :class:`~recbole_gr.models.tiger.network.SequenceModel`.
    """

    network: SequenceModel

    def __init__(self, config: Config, dataset: Any) -> None:
        super().__init__(config, dataset)

        # load parameters info
        self.network_options: dict[str, Any] = {
            "size": model_size(config),
            "feed_forward": config["feed_forward"],
            "dropout": config["dropout"],
            "history_position": config["history_position"],
            "separator": config["separator"],
            "user_buckets": config["user_buckets"],
        }

        # define layers and loss
        self.use_semantic_ids(config, dataset)

    def make_network(self, codebook_sizes: tuple[int, ...]) -> SequenceModel:
        return SequenceModel(codebook_sizes, **self.network_options)

    def calculate_loss(self, interaction: Interaction) -> torch.Tensor:
        """Mean cross-entropy over the codes of the next items."""
        history, lengths = self.trimmed_history(interaction)
        target = self.item_codes[interaction[self.POS_ITEM_ID]]
        with self.autocast():
            return self.network(self.item_codes[history], lengths, interaction[self.USER_ID], target)

    def start_decoding(self, interaction: Interaction, rows: torch.Tensor) -> BeamDecoder:
        return self.network.start_decoding(*self._encode(interaction, rows))

    def log_likelihood(self, interaction: Interaction, rows: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        return self.network.log_likelihood(*self._encode(interaction, rows), self.item_codes[items])

    def _encode(self, interaction: Interaction, rows: torch.Tensor) -> tuple[Any, torch.Tensor]:
        history, lengths = self.trimmed_history(interaction, rows)
        return self.network.encode(self.item_codes[history], lengths, interaction[self.USER_ID][rows])
