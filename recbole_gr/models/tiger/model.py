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

from recbole_gr.data.windows import target_list_field
from recbole_gr.decoding.protocols import CodeDecoder
from recbole_gr.models.semantic_id import SemanticIDRecommender
from recbole_gr.models.tiger.encoder_decoder import EncoderDecoder
from recbole_gr.models.tiger.history import History
from recbole_gr.models.tiger.network import NetworkOptions, SemanticIDNetwork
from recbole_gr.models.tiger.settings import history_is_causal, model_size
from recbole_gr.models.tiger.temporal_depth import TemporalDepth

ARCHITECTURES: dict[str, type[SemanticIDNetwork]] = {
    "encoder_decoder": EncoderDecoder,
    "temporal_depth": TemporalDepth,
}


class TIGER(SemanticIDRecommender):
    r"""TIGER reads the semantic IDs of a history and generates that of the next item, code by code.

    ``architecture`` chooses the network; the paper's is
    :class:`~recbole_gr.models.tiger.encoder_decoder.EncoderDecoder`.
    """

    network: SemanticIDNetwork

    def __init__(self, config: Config, dataset: Any) -> None:
        super().__init__(config, dataset)

        # load parameters info
        self.architecture = config["architecture"] or "encoder_decoder"  # checkpoints from before it was a setting
        self.TARGET_LIST = target_list_field(config)
        self.at_every_item = config["loss_positions"] == "all"
        self.options = NetworkOptions(
            size=model_size(config),
            feed_forward=config["feed_forward"],
            dropout=config["dropout"],
            history_position=config["history_position"],
            separator=config["separator"],
            user_buckets=config["user_buckets"],
            causal=history_is_causal(config),
            label_smoothing=config["label_smoothing"] or 0.0,
            depth_layers=config["depth_layers"] or 1,
        )

        # define layers and loss
        self.use_semantic_ids(config, dataset)

    def make_network(self, codebook_sizes: tuple[int, ...]) -> SemanticIDNetwork:
        return ARCHITECTURES[self.architecture](codebook_sizes, self.options)

    def calculate_loss(self, interaction: Interaction) -> torch.Tensor:
        """Mean cross-entropy over the codes of the next items."""
        if self.at_every_item:
            targets = interaction[self.TARGET_LIST]
        else:
            targets = interaction[self.POS_ITEM_ID].unsqueeze(1)
        history = self._history(interaction)
        with self.autocast():
            loss, _ = self.network(history, self.item_codes[targets], targets > 0, at_every_item=self.at_every_item)
        return loss

    def start_decoding(self, interaction: Interaction, rows: torch.Tensor) -> CodeDecoder:
        return self.network.start_decoding(self.network.encode(self._history(interaction, rows)))

    def log_likelihood(self, interaction: Interaction, rows: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        return self.network.log_likelihood(self.network.encode(self._history(interaction, rows)), self.item_codes[items])

    def _history(self, interaction: Interaction, rows: torch.Tensor | slice = slice(None)) -> History:
        items, lengths = self.trimmed_history(interaction, rows)
        return History(self.item_codes[items], lengths, interaction[self.USER_ID][rows])
