"""What recommenders have in common that generate an item token by token and rank by a beam search."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType

from recbole_gr.data.dataloader import TrainingBatch
from recbole_gr.data.seen import interactions_of
from recbole_gr.decoding.beam_search import ROUNDING, Search, SearchLimits, certified_beam_search
from recbole_gr.decoding.protocols import Decoder, ItemTrie
from recbole_gr.decoding.tie_breaking import leaf_ranks
from recbole_gr.utils.arrays import nth_of
from recbole_gr.utils.devices import PerDevice, computes_bfloat16


class BeamSearchRecommender(SequentialRecommender, ABC):
    """Item scores from a beam search over a trie.

    A model sets ``trie`` and ``search`` (as :func:`~recbole_gr.decoding.beam_search.certified_beam_search` takes them),
    calls :meth:`rank_items_that_share`, and offers :meth:`start_decoding` and :meth:`log_likelihood`.
    """

    input_type = InputType.POINTWISE

    #: Beams alive at a time, and the limit for users that need many.
    beams_at_once = PerDevice(cpu=4096, cuda=262144)
    widest_search = PerDevice(cpu=65536, cuda=524288)

    #: What a certificate is about.
    certified_lists = "rankings"

    trie: ItemTrie
    search: Search
    leaf_ranks: torch.Tensor
    certificates: dict[str, int]

    def __init__(self, config: Config, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.precision: str = config["precision"]
        if self.precision == "auto":
            has_bfloat16 = self.device.type == "cuda" and torch.cuda.is_bf16_supported()
            self.precision = "bfloat16" if has_bfloat16 else "float32"
        self.train_precision: str = (
            config["train_precision"] or self.precision
        )  # not every model has it, nor old checkpoints
        if self.train_precision == "auto":
            self.train_precision = "bfloat16" if computes_bfloat16(self.device) else "float32"
        self.beam_size = config["beam_size"]
        self.beam_certify = config["beam_certify"]
        self.max_k = max(config["topk"])
        self.reset_certificates()

    @abstractmethod
    def start_decoding(self, interaction: Interaction, rows: torch.Tensor) -> Decoder:
        """A decoder (:mod:`recbole_gr.decoding.protocols`) for some rows of a batch (int64 indices)."""

    @abstractmethod
    def log_likelihood(self, interaction: Interaction, rows: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Exact log-probabilities of items ``[rows, candidates]`` for some rows of a batch: float32, of the same shape."""

    def rows_at_once(self, interaction: Interaction) -> Sequence[torch.Tensor]:
        """The rows of a batch in groups of similar history length that are searched together: int64 indices."""
        by_length = interaction[self.ITEM_SEQ_LEN].argsort()
        return by_length.split(max(1, self.beams_at_once[self.device.type] // self.beam_size))

    def rank_items_that_share(self, codes: np.ndarray, config: Config, dataset: Any) -> None:
        """Keep ``leaf_ranks``: which item comes first of those with equal rows in ``codes``, as ``leaf_order`` says.

        Args:
            codes: int ``[n_items, L]``, row 0 is the padding item.
        """
        popularity = torch.bincount(torch.from_numpy(interactions_of(dataset)[1]), minlength=self.n_items).numpy()
        ranks = leaf_ranks(codes, popularity, config["leaf_order"], config["seed"])
        self.register_buffer("leaf_ranks", torch.from_numpy(ranks))

    def reset_certificates(self) -> None:
        """Restart the count of certified rankings."""
        self.certificates = {"users": 0, "certified": 0, "certified_by_first_search": 0}

    def full_sort_predict(self, interaction: Interaction) -> torch.Tensor:
        """Item scores ``[users, n_items]`` of :meth:`rank`, as RecBole asks for them; seen items are not excluded."""
        return self.rank(interaction)

    @torch.no_grad()
    def rank(self, interaction: Interaction, seen: tuple[torch.Tensor, torch.Tensor] | None = None) -> torch.Tensor:
        """Item scores of a beam search.

        Args:
            interaction: a batch of histories.
            seen: rows and items, int64 each: ``items[j]`` is not searched for in row ``rows[j]``; None: nothing is excluded.

        Returns:
            float32 ``[users, n_items]``, exact log-probabilities of what the beams found, -inf for the rest. An ID that a
            seen item shares with another one is searched for, and has its score.
        """
        lengths = interaction[self.ITEM_SEQ_LEN]
        scores = torch.full((len(lengths), self.n_items), -torch.inf, device=lengths.device)
        for rows in self.rows_at_once(interaction):
            scores[rows] = self._search(interaction, rows, seen)
        return scores

    def _search(
        self, interaction: Interaction, rows: torch.Tensor, seen: tuple[torch.Tensor, torch.Tensor] | None
    ) -> torch.Tensor:
        limits = SearchLimits(
            beam_size=self.beam_size,
            k=self.max_k,
            certify=self.beam_certify,
            max_beams=self.widest_search[self.device.type],
            rounding=ROUNDING[self.precision],
        )
        with self.autocast():
            available = None if seen is None else self.trie.available_items(len(rows), _seen_by(rows, seen))
            decoder = self.start_decoding(interaction, rows)
            found = certified_beam_search(decoder, self.trie, limits, available=available, search=self.search)
            item_scores = self.rerank(interaction, rows, found.item_scores)
        self.certificates["users"] += len(found.certified)
        self.certificates["certified"] += int(found.certified.sum())
        self.certificates["certified_by_first_search"] += int(found.certified_by_first_search.sum())
        return item_scores

    def rerank(self, interaction: Interaction, rows: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Change the scores of what the beams found, where a model knows more; the certificate is about those before.

        Args:
            interaction, rows: whose they are, as in :meth:`start_decoding`.
            scores: float32 ``[rows, n_items]``, -inf for what was not found, which stays so.
        """
        return scores

    @torch.no_grad()
    def predict(self, interaction: Interaction) -> torch.Tensor:
        """Exact log-probability of each row's item, ``[rows]``; rows with the same history share one pass over it."""
        history, users, items = interaction[self.ITEM_SEQ], interaction[self.USER_ID], interaction[self.ITEM_ID]
        distinct, row_of = torch.unique(torch.cat([users.unsqueeze(1), history], dim=1), dim=0, return_inverse=True)
        # candidates of one history side by side: [histories, most candidates]
        order = row_of.argsort(stable=True)
        counts = torch.bincount(row_of)
        place = nth_of(row_of[order], counts)
        candidates = torch.ones(len(distinct), int(counts.max()), dtype=torch.long, device=items.device)
        candidates[row_of[order], place] = items[order]
        first_row = order[counts.cumsum(0) - counts]

        scores = torch.empty(candidates.shape, device=items.device)
        at_once = max(1, self.beams_at_once[self.device.type] // candidates.shape[1])
        for part in torch.arange(len(distinct), device=items.device).split(at_once):
            with self.autocast():
                scores[part] = self.log_likelihood(interaction, first_row[part], candidates[part])
        result = torch.empty(len(items), device=items.device)
        result[order] = scores[row_of[order], place]
        return result

    def autocast(self) -> AbstractContextManager[Any]:
        """Within, what ``precision`` asks for."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16")

    def training_autocast(self) -> AbstractContextManager[Any]:
        """Within, what ``train_precision`` asks for."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.train_precision == "bfloat16")

    def trimmed_history(
        self, interaction: Interaction, rows: torch.Tensor | slice = slice(None)
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Histories of some rows of a batch, trimmed to the longest of them.

        Returns:
            Item ids int64 ``[rows, t]``, oldest first; their lengths int64 ``[rows]``.
        """
        lengths = interaction[self.ITEM_SEQ_LEN][rows]
        if isinstance(interaction, TrainingBatch):  # whose histories are; to look how long they are a GPU would wait
            return interaction[self.ITEM_SEQ][rows], lengths
        return interaction[self.ITEM_SEQ][rows, : int(lengths.max())], lengths


def _seen_by(here: torch.Tensor, seen: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """The part of ``seen`` that concerns some rows of the batch, which are numbered from 0."""
    rows, items = (index.to(here.device) for index in seen)
    place = torch.full((int(rows.max()) + 1 if len(rows) else 1,), -1, dtype=torch.long, device=here.device)
    known = here < len(place)
    place[here[known]] = torch.nonzero(known).squeeze(1)
    inside = place[rows] >= 0
    return place[rows[inside]], items[inside]
