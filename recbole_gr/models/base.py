"""What generative recommenders have in common, and those among them that rank by a beam search."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.data.interaction import Interaction

from recbole_gr.data.seen import item_counts
from recbole_gr.decoding.beam_search import ROUNDING, Budget, Search, SearchLimits, certified_beam_search
from recbole_gr.decoding.item_lists import ItemLists, RankedLists, put_together
from recbole_gr.decoding.protocols import Decoder, ItemTrie
from recbole_gr.decoding.tie_breaking import leaf_ranks
from recbole_gr.models.history_recommender import HistoryRecommender
from recbole_gr.utils.arrays import nth_of
from recbole_gr.utils.devices import PerDevice
from recbole_gr.utils.processes import sums_over_processes


class GenerativeRecommender(HistoryRecommender, ABC):
    """Item scores that are exact log-probabilities, of all items or of the best.

    A model calls :meth:`rank_items_that_share`, and offers :meth:`rank_rows` and :meth:`log_likelihood`.
    """

    #: Rows of a batch times candidates of each that are scored at a time.
    beams_at_once = PerDevice(cpu=4096, cuda=262144)

    #: What a certificate is about.
    certified_lists = "rankings"

    leaf_ranks: torch.Tensor
    certificates: dict[str, int]
    #: Of the batch that was ranked last, bool ``[rows]``: whose ranking is proven.
    certified_rows: torch.Tensor | None = None
    #: bool ``[n_items]``, the items that anybody may be given; None: all.
    allowed_items: torch.Tensor | None = None
    #: How many users are about to be ranked, where somebody knows it.
    expected_users = 0

    def __init__(self, config: Config, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.beam_size = config["beam_size"]
        self.max_k = max(config["topk"])
        self.reset_certificates()

    @abstractmethod
    def rank_rows(
        self,
        interaction: Interaction,
        rows: torch.Tensor,
        seen: tuple[torch.Tensor, torch.Tensor] | None,
        most: int | None = None,
    ) -> ItemLists:
        """The items found for some rows of a batch (int64 indices), as :meth:`rank` has them.

        Says by :meth:`count_certified` what was proven of them. ``seen`` is that of the whole batch.
        """

    @abstractmethod
    def log_likelihood(self, interaction: Interaction, rows: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Exact log-probabilities of items ``[rows, candidates]`` for some rows of a batch: float32, of the same shape."""

    @contextmanager
    def validating(self, config: Config) -> Iterator[None]:
        """Within, the model ranks as validations during training do."""
        yield

    @contextmanager
    def ranking_to(self, k: int, allowed: torch.Tensor | None = None) -> Iterator[None]:
        """Within, rankings are right to their k-th item at least, however short those of the run were.

        Args:
            k: how far a ranking is looked at.
            allowed: bool ``[n_items]``, the items that may be recommended; None: all.
        """
        before = self.max_k, self.beam_size, self.allowed_items
        k = max(self.max_k, min(k, self.n_items - 1))
        self.max_k, self.beam_size = k, max(self.beam_size, k)
        self.allowed_items = None if allowed is None else allowed.to(self.device)
        try:
            yield
        finally:
            self.max_k, self.beam_size, self.allowed_items = before

    def rows_at_once(self, interaction: Interaction) -> Sequence[torch.Tensor]:
        """The rows of a batch in groups of similar history length that are searched together: int64 indices."""
        by_length = interaction[self.ITEM_SEQ_LEN].argsort()
        return by_length.split(max(1, self.beams_at_once[self.device.type] // self.beam_size))

    def rank_items_that_share(self, codes: np.ndarray, config: Config, dataset: Any) -> None:
        """Keep ``leaf_ranks``: which item comes first of those with equal rows in ``codes``, as ``leaf_order`` says.

        Args:
            codes: int ``[n_items, L]``, row 0 is the padding item.
        """
        ranks = leaf_ranks(codes, item_counts(dataset), config["leaf_order"], config["seed"])
        self.register_buffer("leaf_ranks", torch.from_numpy(ranks))

    def reset_certificates(self) -> None:
        """Restart the count of certified rankings."""
        self.certificates = {"users": 0, "certified": 0, "certified_by_first_search": 0}

    def count_of_all(self) -> None:
        """Where several processes evaluate together, what they counted becomes that of all of them."""
        self.certificates = sums_over_processes(self.certificates)

    def count_certified(self, rows: torch.Tensor, certified: torch.Tensor, by_first_search: torch.Tensor) -> None:
        """Add to ``certificates`` and to ``certified_rows`` what was proven of some rows of a batch.

        Args:
            rows: int64 ``[r]``.
            certified: bool ``[r]``, whose ranking is proven.
            by_first_search: bool ``[r]``, whose was by the first search already.
        """
        self.certificates["users"] += len(rows)
        self.certificates["certified"] += int(certified.sum())
        self.certificates["certified_by_first_search"] += int(by_first_search.sum())
        if self.certified_rows is not None:
            self.certified_rows[rows] = certified

    def what_was_proven(self) -> str:
        """One line for the log about the rankings since :meth:`reset_certificates`."""
        seen = self.certificates
        line = (
            f"{self.certified_lists} proven equal to scoring every item in {self.precision}: "
            f"{seen['certified']} of {seen['users']} users "
            f"({seen['certified_by_first_search']} with beam_size {self.beam_size})"
        )
        if stopped := seen.get("stopped_by_budget"):
            line += f"; {stopped} were left open by certify_budget"
        return line

    def expect(self, users: int) -> None:
        """Begin with so many users, of whom none has been ranked yet."""
        self.reset_certificates()
        self.expected_users = users

    def rankings_report(self) -> dict[str, Any]:
        """What a record says about the rankings since :meth:`reset_certificates`; plain json values."""
        return {**self.certificates, "precision": self.precision, "of": self.certified_lists}

    def full_sort_predict(self, interaction: Interaction) -> torch.Tensor:
        """Item scores ``[users, n_items]`` of :meth:`rank`, as RecBole asks for them; seen items are not excluded."""
        return self.rank(interaction).dense()

    @torch.no_grad()
    def rank(
        self,
        interaction: Interaction,
        seen: tuple[torch.Tensor, torch.Tensor] | None = None,
        most: int | None = None,
    ) -> ItemLists:
        """What is found for a batch of users; memory grows with what is found, not with the catalogue.

        Args:
            interaction: a batch of histories.
            seen: rows and items, int64 each: ``items[j]`` is not given to row ``rows[j]``; None: nothing is excluded.
            most: a model that scores every item keeps the best of them: so many, and enough that so many IDs are among them. None:
                all that was found.

        Returns:
            Exact log-probabilities, or what the model ranks by, of what was found.
        """
        lengths = interaction[self.ITEM_SEQ_LEN]
        self.certified_rows = torch.zeros(len(lengths), dtype=torch.bool, device=lengths.device)
        groups = self.rows_at_once(interaction)
        lists = put_together([self.rank_rows(interaction, rows, seen, most) for rows in groups], groups)
        if seen is not None:  # an ID that a seen item shares with another one was searched for
            lists = lists.without(seen)
        return lists if self.allowed_items is None else lists.where(self.allowed_items[lists.items])

    @classmethod
    def gives_lists(cls, whole_rows: bool) -> bool:
        return True

    def ranked(self, interaction: Interaction, seen: tuple[torch.Tensor, torch.Tensor] | None, most: int) -> RankedLists:
        """As :meth:`rank`, as an evaluation looks at it."""
        return RankedLists(self.rank(interaction, seen, most), self.leaf_ranks)

    @torch.no_grad()
    def predict(self, interaction: Interaction) -> torch.Tensor:
        """Exact log-probability of each row's item, ``[rows]``; rows with the same history share one pass over it."""
        history, items = interaction[self.ITEM_SEQ], interaction[self.ITEM_ID]
        users = interaction[self.USER_ID] if self.USER_ID in interaction else torch.zeros_like(items)  # of nobody known
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


class BeamSearchRecommender(GenerativeRecommender):
    """Item scores from a beam search over a trie.

    A model sets ``trie`` and ``search`` (as :func:`~recbole_gr.decoding.beam_search.certified_beam_search` takes them),
    calls :meth:`rank_items_that_share`, and offers :meth:`start_decoding` and :meth:`log_likelihood`.
    """

    #: The limit for users that need many beams.
    widest_search = PerDevice(cpu=65536, cuda=524288)

    trie: ItemTrie
    search: Search

    def __init__(self, config: Config, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.beam_certify = config["beam_certify"]
        # a checkpoint from before it was a setting was measured without a bound
        self.certify_budget = config["certify_budget"] if "certify_budget" in config else None
        self.searched_k = self.max_k  # a model that ranks anew what was found may search for more

    @contextmanager
    def ranking_to(self, k: int, allowed: torch.Tensor | None = None) -> Iterator[None]:
        with super().ranking_to(k, allowed):
            before, self.searched_k = self.searched_k, max(self.searched_k, self.max_k)
            try:
                yield
            finally:
                self.searched_k = before

    def reset_certificates(self) -> None:
        super().reset_certificates()
        self.beam_counts = {"beams": 0, "valid_beams": 0}
        self.certificates["stopped_by_budget"] = 0
        self._told = False
        self.budget = Budget(getattr(self, "certify_budget", None))

    @abstractmethod
    def start_decoding(self, interaction: Interaction, rows: torch.Tensor) -> Decoder:
        """A decoder (:mod:`recbole_gr.decoding.protocols`) for some rows of a batch (int64 indices)."""

    @contextmanager
    def validating(self, config: Config) -> Iterator[None]:
        """Within, rankings are those of the plain beam: a model that knows little would need very wide ones for a certificate."""
        before = self.beam_size, self.beam_certify
        self.beam_size, self.beam_certify = config["valid_beam_size"] or self.beam_size, False
        try:
            yield
        finally:
            self.beam_size, self.beam_certify = before

    def rank_rows(
        self,
        interaction: Interaction,
        rows: torch.Tensor,
        seen: tuple[torch.Tensor, torch.Tensor] | None,
        most: int | None = None,
    ) -> ItemLists:
        limits = SearchLimits(
            beam_size=self.beam_size,
            k=self.searched_k,
            certify=self.beam_certify,
            max_beams=self.widest_search[self.device.type],
            rounding=ROUNDING[self.precision],
        )
        with self.autocast():
            here, allowed = None if seen is None else seen_by(rows, seen), self.allowed_items
            excluded = None
            if here is not None or allowed is not None:
                excluded = self.trie.exclusion(len(rows), here or (rows[:0], rows[:0]), allowed)
            decoder = self.start_decoding(interaction, rows)
            found = certified_beam_search(
                decoder, self.trie, limits, excluded=excluded, search=self.search, budget=self.budget
            )
            lists = found.lists
            if allowed is not None:  # an ID that an allowed item shares with another one
                lists = lists.where(allowed[lists.items])
            lists = self.rerank(interaction, rows, lists, here, most)
        self.count_certified(rows, found.certified, found.certified_by_first_search)
        self.certificates["stopped_by_budget"] += int(found.stopped.sum())
        self._tell_estimate()
        self.beam_counts["beams"] += int(found.beams.sum())
        self.beam_counts["valid_beams"] += int(found.valid_beams.sum())
        return lists

    def _tell_estimate(self) -> None:
        """After the first users of a test, what its certificates will take, in a line of the log."""
        if self._told or not self.beam_certify or not self.budget.further:
            return
        self._told = True
        seen, seconds = self.certificates, self.budget.seconds
        open_users, users = seen["users"] - seen["certified"], seen["users"]
        line = (
            f"certificates of the first {users:,} users: {seen['certified_by_first_search']:,} by the first search, "
            f"{seen['certified'] - seen['certified_by_first_search']:,} by further ones, {open_users:,} none; "
            f"{seconds['first']:.1f} s for the first search and {seconds['further']:.1f} s for the further ones"
        )
        if self.expected_users:
            share = self.expected_users / users
            line += f", for all {self.expected_users:,} users about {share * sum(seconds.values()):,.0f} s"
        self.logger.info(f"{line} (certify_budget={self.certify_budget})")

    def rerank(
        self,
        interaction: Interaction,
        rows: torch.Tensor,
        lists: ItemLists,
        seen: tuple[torch.Tensor, torch.Tensor] | None,
        most: int | None = None,
    ) -> ItemLists:
        """Change the scores of what the beams found, where a model knows more; the certificate is about those before.

        Args:
            interaction, rows: whose they are, as in :meth:`start_decoding`.
            lists: of ``rows``.
            seen: places of ``rows`` and items, int64 each, that are excluded; None: nothing is.
            most: as in :meth:`rank`, for a model that adds items which no beam found.
        """
        return lists


def seen_by(here: torch.Tensor, seen: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """The part of ``seen`` that concerns some rows of the batch, which are numbered from 0."""
    rows, items = (index.to(here.device) for index in seen)
    place = torch.full((int(rows.max()) + 1 if len(rows) else 1,), -1, dtype=torch.long, device=here.device)
    known = here < len(place)
    place[here[known]] = torch.nonzero(known).squeeze(1)
    inside = place[rows] >= 0
    return place[rows[inside]], items[inside]
