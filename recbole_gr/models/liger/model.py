r"""
LIGER
################################################

Reference:
    Liu Yang et al. "Unifying Generative and Dense Retrieval for Sequential Recommendation." in TMLR 2025 (arXiv 2411.18814).
"""

from collections.abc import Mapping
from typing import Any

import torch
from recbole.config import Config
from recbole.data.interaction import Interaction
from torch.nn import functional as F

from recbole_gr.data.catalogue_match import matching, with_value
from recbole_gr.data.seen import item_counts
from recbole_gr.decoding.item_lists import ItemLists, every_item, put_together
from recbole_gr.models.base import seen_by
from recbole_gr.models.liger.candidates import candidates, cosine_logits
from recbole_gr.models.tiger.injection import ItemInjection
from recbole_gr.models.tiger.model import TIGER


class LIGER(TIGER):
    r"""TIGER with text vectors in the input, whose states also find the text vector of the next item.

    The score of an item is the log-probability of a softmax over all items, of the cosines between the state after the history and
    the items' text vectors. Items are ranked by it that are among the ``liger_candidates`` of most probable codes, or cold: without
    any interaction in the training part. The text vectors go through the same MLP where they are read and where they are found.
    """

    item_rows: tuple[str, ...] = (*TIGER.item_rows, "cold")

    injection: ItemInjection
    cold: torch.Tensor
    trained_items: torch.Tensor
    trained_place: torch.Tensor
    _adapted: tuple[Any, torch.Tensor] | None = None

    def __init__(self, config: Config, dataset: Any) -> None:
        super().__init__(config, dataset)

        # load parameters info
        self.temperature: float = config["liger_temperature"]
        self.dense_weight = config["liger_weight"]
        self.searched_k = config["liger_candidates"]
        self.certified_lists = f"the {self.searched_k} items of most probable codes, a part of what the dense score ranks,"

        # which items the training part knows
        counts = torch.from_numpy(item_counts(dataset))
        cold = counts == 0
        cold[0] = False
        trained_items = torch.nonzero(counts).squeeze(1)
        trained_place = torch.full((self.n_items,), -100)  # what cross_entropy leaves out
        trained_place[trained_items] = torch.arange(len(trained_items))
        self.register_buffer("cold", cold)
        self.register_buffer("trained_items", trained_items, persistent=False)
        self.register_buffer("trained_place", trained_place, persistent=False)
        self.logger.info(
            f"LIGER: {self.searched_k} items of the beams and {int(cold.sum())} cold items are ranked by their text vectors"
        )

    def _with_new_items(self, state: Mapping[str, Any]) -> Mapping[str, Any]:
        """Items that the checkpoint was not trained on are cold to it, whatever users did with them since."""
        found, matched = matching(self, state), super()._with_new_items(state)
        if found is not None and len(found[0].unknown):
            new = torch.from_numpy(found[0].place < 0).to(matched["cold"].device)
            matched = with_value(matched, "cold", matched["cold"] | new)
        return matched

    def dense_loss(self, states: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy of the next items among those of the training part; of cold items nothing is learned."""
        logits = cosine_logits(states, self.injection.adapted("text", self.trained_items), self.temperature)
        return F.cross_entropy(logits, self.trained_place[items])

    def dense_log_probs(self, encoded: Any) -> torch.Tensor:
        logits = cosine_logits(self.network.states(encoded).squeeze(1), self._adapted_items(), self.temperature)
        logits[:, 0] = -torch.inf
        return logits.log_softmax(dim=-1)

    def _adapted_items(self) -> torch.Tensor:
        """The text vectors of all items behind their MLP, ``[n_items, d]``; kept for all users of an evaluation."""
        every = torch.arange(self.n_items, device=self.cold.device)
        if torch.is_grad_enabled():
            return self.injection.adapted("text", every)
        made_of = [self.injection.get_buffer("text_vectors"), *self.injection.adapters["text"].parameters()]
        key = torch.is_autocast_enabled(every.device.type), *((one.data_ptr(), one._version) for one in made_of)
        if self._adapted is None or self._adapted[0] != key:
            self._adapted = key, self.injection.adapted("text", every)
        return self._adapted[1]

    def train(self, mode: bool = True) -> "LIGER":
        """As that of every module; what was kept of an evaluation goes."""
        self._adapted = None
        return super().train(mode)

    def log_likelihood(self, interaction: Interaction, rows: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """The dense score of given items, whether or not a ranking would hold them."""
        return self.dense_log_probs(self.network.encode(self.read_history(interaction, rows))).gather(1, items)

    def rerank(
        self,
        interaction: Interaction,
        rows: torch.Tensor,
        lists: ItemLists,
        seen: tuple[torch.Tensor, torch.Tensor] | None,
        most: int | None = None,
    ) -> ItemLists:
        """The dense scores of the short list and of the cold items."""
        parts, groups = [], self.scored_at_once(rows)
        for here in groups:
            excluded = None if seen is None else seen_by(here, seen)
            ranked = candidates(lists.dense(here), self.searched_k, self.cold, excluded)
            dense = self.dense_log_probs(self.network.encode(self.read_history(interaction, rows[here])))
            dense = dense.masked_fill(~ranked, -torch.inf)
            if self.allowed_items is not None:
                dense = dense.masked_fill(~self.allowed_items, -torch.inf)
            parts.append(every_item(dense) if most is None else self.best_of_every_item(dense, most))
        return put_together(parts, groups)
