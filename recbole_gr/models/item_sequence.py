"""What recommenders have in common that score every item of the catalogue from one state of a history."""

from abc import abstractmethod
from typing import Any

import torch
from recbole.config import Config
from recbole.data.interaction import Interaction
from torch import nn
from torch.nn import functional as F

from recbole_gr.data.windows import target_list_field
from recbole_gr.decoding.item_lists import TopItems
from recbole_gr.models.history_recommender import HistoryRecommender
from recbole_gr.models.item_softmax import full_softmax_loss, sampled_softmax_loss
from recbole_gr.utils.devices import PerDevice
from recbole_gr.utils.errors import SettingError

#: Scores of all items that are alive at a time in an evaluation.
SCORES_AT_ONCE = PerDevice(cpu=1 << 24, cuda=1 << 28)


class ItemSequenceRecommender(HistoryRecommender):
    """Items as embeddings, a causal network over them, and a softmax over the catalogue at every position.

    A model loads its parameters, calls :meth:`use_network`, and offers :meth:`states`. Its dataset is a
    :class:`~recbole_gr.data.dataset.HistoryDataset`, which needs no semantic IDs.

    Attributes:
        item_embedding: ``[n_items, hidden_size]``, what the network reads and what its states are compared with; row 0 is padding.
    """

    item_rows = ("item_embedding.weight",)

    item_embedding: nn.Embedding
    network: nn.Module

    def __init__(self, config: Config, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.TARGET_LIST = target_list_field(config)
        self.at_every_item = config["loss_positions"] == "all"
        self.hidden_size = config["hidden_size"]
        self.softmax, self.n_negatives = config["softmax"], config["n_negatives"]
        self.similarity, self.temperature = config["similarity"], config["temperature"]
        self.torch_compile = config["torch_compile"]
        if self.softmax == "sampled" and self.n_negatives >= self.n_items:
            allowed = f"must be below the number of items and padding, {self.n_items:,}"
            raise SettingError("n_negatives", self.n_negatives, allowed)

    def use_network(self, network: nn.Module, initializer_range: float) -> None:
        """Make ``item_embedding``, drawn with this standard deviation, and keep the network."""
        self.item_embedding = nn.Embedding(self.n_items, self.hidden_size, padding_idx=0)
        nn.init.normal_(self.item_embedding.weight, std=initializer_range)
        with torch.no_grad():
            self.item_embedding.weight[0].zero_()
        self.network = network
        if self.torch_compile:
            self.network.compile(dynamic=True)

    @abstractmethod
    def states(self, interaction: Interaction) -> torch.Tensor:
        """The state after each item of the histories of a batch: ``[b, t, hidden_size]``, anything behind them.

        A state must not depend on what follows its item, nor on what else is in the batch.
        """

    def calculate_loss(self, interaction: Interaction) -> torch.Tensor:
        """Mean cross-entropy of the items that follow."""
        with self.training_autocast():
            if self.at_every_item:
                states, targets = self.states(interaction).flatten(0, 1), interaction[self.TARGET_LIST].flatten()
            else:
                states, targets = self.last_states(interaction), interaction[self.POS_ITEM_ID]
            states, embeddings = self.compared(states), self.compared(self.item_embedding.weight)
            if self.similarity == "cosine":
                states = states / self.temperature
            if self.softmax == "full":
                return full_softmax_loss(states, embeddings, targets)
            return sampled_softmax_loss(states, embeddings, targets, self.n_negatives)

    def last_states(self, interaction: Interaction) -> torch.Tensor:
        """The states after whole histories: ``[b, hidden_size]``."""
        last = (interaction[self.ITEM_SEQ_LEN] - 1)[:, None, None]
        states = self.states(interaction)
        return states.gather(1, last.expand(-1, 1, states.shape[-1])).squeeze(1)

    def compared(self, vectors: torch.Tensor) -> torch.Tensor:
        """States or embeddings as their products are the scores, but for ``temperature``: ``[n, hidden_size]``."""
        return F.normalize(vectors.float(), dim=-1) if self.similarity == "cosine" else vectors

    @torch.no_grad()
    def full_sort_predict(self, interaction: Interaction) -> torch.Tensor:
        """Scores of all items, float32 ``[users, n_items]``; -inf for padding, seen items are not excluded."""
        scores = self._ranked_states(interaction) @ self.compared(self.item_embedding.weight).T
        scores[:, 0] = -torch.inf
        return scores

    @classmethod
    def gives_lists(cls, whole_rows: bool) -> bool:
        return not whole_rows

    @torch.no_grad()
    def ranked(self, interaction: Interaction, seen: tuple[torch.Tensor, torch.Tensor] | None, most: int) -> TopItems:
        """The best items of each user, as ``torch.topk`` has them in the scores of all; of few users at a time these are there.

        Args:
            interaction: a batch of histories.
            seen: rows and items, int64 each, that are excluded; None: nothing is.
            most: items of each user.
        """
        states, items = self._ranked_states(interaction), self.compared(self.item_embedding.weight).T
        at_once = max(1, SCORES_AT_ONCE[states.device.type] // self.n_items)
        # one block for all scores: small tensors between blocks that come and go leave gaps, and memory grows
        block = torch.empty(min(at_once, len(states)), self.n_items, device=states.device)
        found = []
        for start in range(0, len(states), at_once):
            here = states[start : start + at_once]
            scores = torch.mm(here, items, out=block[: len(here)])
            scores[:, 0] = -torch.inf
            if seen is not None:
                mine = (seen[0] >= start) & (seen[0] < start + at_once)
                scores[seen[0][mine] - start, seen[1][mine]] = -torch.inf
            found.append(scores.topk(most, dim=-1).indices)
        return TopItems(torch.cat(found), self.n_items)

    @torch.no_grad()
    def predict(self, interaction: Interaction) -> torch.Tensor:
        """The score of each row's item, float32 ``[rows]``."""
        items = self.compared(self.item_embedding(interaction[self.ITEM_ID]))
        return (self._ranked_states(interaction) * items).sum(dim=-1)

    def _ranked_states(self, interaction: Interaction) -> torch.Tensor:
        """``precision`` is for the network; scores are float32, in which few items tie."""
        with self.autocast():
            states = self.compared(self.last_states(interaction)).float()
        return states / self.temperature if self.similarity == "cosine" else states
