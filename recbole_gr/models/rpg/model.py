r"""
RPG
################################################

Reference:
    Yupeng Hou et al. "Generating Long Semantic IDs in Parallel for Recommendation." in KDD 2025 (arXiv 2506.05781).
"""

from collections.abc import Sequence
from typing import Any

import torch
from recbole.config import Config
from recbole.data.interaction import Interaction

from recbole_gr.data.windows import target_list_field
from recbole_gr.decoding.code_scores import CodeScores
from recbole_gr.models.rpg.network import RPGNetwork, RPGOptions
from recbole_gr.models.semantic_id import CodeRecommender
from recbole_gr.models.tiger.history import History


class RPG(CodeRecommender):
    r"""RPG predicts all codes of the next item at once, and scores an item by the sum of their log-probabilities."""

    network: RPGNetwork

    def __init__(self, config: Config, dataset: Any) -> None:
        super().__init__(config, dataset)

        # load parameters info
        self.TARGET_LIST = target_list_field(config)
        self.at_every_item = config["loss_positions"] == "all"
        self.options = RPGOptions(**{name: config[name] for name in RPGOptions.__dataclass_fields__})

        # define layers and loss
        self.use_semantic_ids(config, dataset)

    def make_network(self, codebook_sizes: tuple[int, ...]) -> RPGNetwork:
        return RPGNetwork(codebook_sizes, self.options)

    def calculate_loss(self, interaction: Interaction) -> torch.Tensor:
        """Mean cross-entropy over the codes of the next items."""
        targets = interaction[self.TARGET_LIST] if self.at_every_item else interaction[self.POS_ITEM_ID].unsqueeze(1)
        with self.training_autocast():
            history = self._history(interaction)
            return self.network(history, self.item_codes[targets], targets > 0, at_every_item=self.at_every_item)

    def rows_at_once(self, interaction: Interaction) -> Sequence[torch.Tensor]:
        by_length = interaction[self.ITEM_SEQ_LEN].argsort()
        return by_length.split(64)

    def rank_rows(
        self, interaction: Interaction, rows: torch.Tensor, seen: tuple[torch.Tensor, torch.Tensor] | None
    ) -> torch.Tensor:
        scores = CodeScores(self.network.places(self.item_codes)).of_all(self._log_probs(interaction, rows))
        scores[:, 0] = -torch.inf
        for count in self.certificates:
            self.certificates[count] += len(rows)
        return scores

    def log_likelihood(self, interaction: Interaction, rows: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        log_probs = self._log_probs(interaction, rows)
        places = self.network.places(self.item_codes[items])
        return log_probs.gather(1, places.flatten(1)).view(places.shape).sum(dim=-1)

    def _log_probs(self, interaction: Interaction, rows: torch.Tensor) -> torch.Tensor:
        return self.network.log_probs(self.network.last_states(self._history(interaction, rows)))

    def _history(self, interaction: Interaction, rows: torch.Tensor | slice = slice(None)) -> History:
        items, lengths = self.trimmed_history(interaction, rows)
        return History(self.item_codes[items], lengths)
