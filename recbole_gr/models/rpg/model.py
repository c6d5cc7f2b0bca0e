r"""
RPG
################################################

Reference:
    Yupeng Hou et al. "Generating Long Semantic IDs in Parallel for Recommendation." in KDD 2025 (arXiv 2506.05781).
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from recbole.data.interaction import Interaction

from recbole_gr.data.seen import item_counts
from recbole_gr.data.windows import target_list_field
from recbole_gr.decoding.code_scores import CodeScores
from recbole_gr.decoding.item_lists import ItemLists, every_item
from recbole_gr.models.base import seen_by
from recbole_gr.models.rpg.graph_ranking import GraphOptions, GraphRanking
from recbole_gr.models.rpg.network import RPGNetwork, RPGOptions
from recbole_gr.models.semantic_id import CodeRecommender
from recbole_gr.models.tiger.history import History
from recbole_gr.tokenizers.semantic_ids import number_groups
from recbole_gr.utils.devices import PerDevice
from recbole_gr.utils.errors import SettingError


class RPG(CodeRecommender):
    r"""RPG predicts all codes of the next item at once, and scores an item by the sum of their log-probabilities.

    It scores every item (``ranking: exact``), or those that a walk over a graph of similar items meets (``graph``).
    """

    #: Users that are ranked together.
    users_at_once = PerDevice(cpu=64, cuda=1024)
    #: Scores of all items that are alive at a time, a few times over.
    scores_at_once = PerDevice(cpu=1 << 24, cuda=1 << 28)

    network: RPGNetwork
    id_of_item: torch.Tensor
    id_places: torch.Tensor
    graph: GraphRanking | None

    def __init__(self, config: Config, dataset: Any) -> None:
        super().__init__(config, dataset)

        # load parameters info
        self.TARGET_LIST = target_list_field(config)
        self.at_every_item = config["loss_positions"] == "all"
        self.options = RPGOptions(**{name: config[name] for name in RPGOptions.__dataclass_fields__})
        self.graph = None
        if config["ranking"] == "graph":
            self.graph = GraphRanking(GraphOptions.of(config), config["cache_dir"], item_counts(dataset))

        # define layers and loss
        self.use_semantic_ids(config, dataset)

    def make_network(self, codebook_sizes: tuple[int, ...]) -> RPGNetwork:
        few, most = self.options.digits_per_step, len(codebook_sizes)
        if few is not None and few > most:
            raise SettingError("digits_per_step", few, f"must be at most {most}, the digits of an item, or ~")
        return RPGNetwork(codebook_sizes, self.options)

    def _use_codes(self, codes: np.ndarray, codebook_sizes: tuple[int, ...]) -> None:
        super()._use_codes(codes, codebook_sizes)
        group = number_groups(codes[1:])
        distinct = self.item_codes[1:][torch.from_numpy(np.unique(group, return_index=True)[1]).to(self.item_codes.device)]
        self.register_buffer("id_of_item", torch.from_numpy(np.append(0, group)), persistent=False)
        self.register_buffer("id_places", self.network.places(distinct).int(), persistent=False)

    def calculate_loss(self, interaction: Interaction) -> torch.Tensor:
        """Mean cross-entropy over the codes of the next items."""
        targets = interaction[self.TARGET_LIST] if self.at_every_item else interaction[self.POS_ITEM_ID].unsqueeze(1)
        with self.training_autocast():
            history = self._history(interaction)
            return self.network(history, self.item_codes[targets], targets > 0, at_every_item=self.at_every_item)

    @contextmanager
    def validating(self, config: Config) -> Iterator[None]:
        """Within, rankings are exact: with every epoch the embeddings, and so the graph, are others."""
        graph, self.graph = self.graph, None
        try:
            yield
        finally:
            self.graph = graph

    def rows_at_once(self, interaction: Interaction) -> Sequence[torch.Tensor]:
        kind = self.device.type
        at_once = max(1, min(self.users_at_once[kind], self.scores_at_once[kind] // self.n_items))
        return interaction[self.ITEM_SEQ_LEN].argsort().split(at_once)

    def rank_rows(
        self,
        interaction: Interaction,
        rows: torch.Tensor,
        seen: tuple[torch.Tensor, torch.Tensor] | None,
        most: int | None = None,
    ) -> ItemLists:
        """Of all items, or of those that the walk meets; only of these are there scores of whole rows, of few users at a time."""
        scores = self._scores(interaction, rows, seen)
        if most is None:
            return every_item(scores)
        return self.best_of_every_item(self._without(scores, self._excluded(rows, seen)), most)

    def _excluded(
        self, rows: torch.Tensor, seen: tuple[torch.Tensor, torch.Tensor] | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        return seen_by(rows, seen) if seen is not None else (rows[:0], rows[:0])

    def _scores(
        self, interaction: Interaction, rows: torch.Tensor, seen: tuple[torch.Tensor, torch.Tensor] | None
    ) -> torch.Tensor:
        """Item scores, float32 ``[rows, n_items]``; what is seen is scored as well."""
        with self.autocast():
            tables = self._log_probs(interaction, rows)
        every, none = torch.ones_like(rows, dtype=torch.bool), torch.zeros_like(rows, dtype=torch.bool)
        if self.graph is None:
            self.count_certified(rows, every, every)
            return self._exact(tables)
        items, _ = self.trimmed_history(interaction, rows)
        of_ids = self.graph.scores(
            tables,
            items,
            id_of_item=self.id_of_item,
            ids=CodeScores(self.id_places),
            embeddings=self.network.code_embeddings(),
        )
        scores = self._of_items(of_ids)
        excluded = self._excluded(rows, seen)
        unseen = self._without(scores, excluded)
        too_few = torch.nonzero((unseen > -torch.inf).sum(dim=1) < self.max_k).squeeze(1)
        if len(too_few):  # who has seen nearly all that was met
            scores[too_few] = self._exact(tables[too_few])
            unseen = self._without(scores, excluded)
        proven = none
        if compared := self.graph.to_compare(len(rows)):
            mine = excluded[0] < compared
            exact = self._without(self._exact(tables[:compared]), (excluded[0][mine], excluded[1][mine]))
            proven = none.index_put(
                (torch.arange(compared, device=none.device),), self.graph.compare(unseen[:compared], exact, self.max_k)
            )
        self.count_certified(rows, proven, proven)
        return scores

    def _exact(self, tables: torch.Tensor) -> torch.Tensor:
        return self._of_items(CodeScores(self.id_places).of_all(tables))

    def _of_items(self, of_ids: torch.Tensor) -> torch.Tensor:
        """Items that share an ID share its score."""
        scores = of_ids.index_select(1, self.id_of_item)
        scores[:, 0] = -torch.inf
        return scores

    def _without(self, scores: torch.Tensor, excluded: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """A copy of scores with -inf in some places, rows and columns, and for what nobody may be given."""
        left = scores.clone()
        left[excluded] = -torch.inf
        return left if self.allowed_items is None else left.masked_fill_(~self.allowed_items, -torch.inf)

    def reset_certificates(self) -> None:
        super().reset_certificates()
        graph = getattr(self, "graph", None)  # the base class calls this before there is one
        if graph is not None:
            graph.restart()

    def what_was_proven(self) -> str:
        if self.graph is None:
            return f"every item scored in {self.precision}: {self.certificates['users']} users"
        report = self.graph.report()
        return (
            f"the walk scored {report['scored_per_user']} of {report['distinct_ids']} IDs per user and found "
            f"{report['graph_recall']} of the {self.max_k} best items of {report['users_compared']} users"
        )

    def rankings_report(self) -> dict[str, Any]:
        report = super().rankings_report()
        if self.graph is None:
            return {**report, "ranking": "exact"}
        return {**report, "ranking": "graph", **self.graph.report()}

    def log_likelihood(self, interaction: Interaction, rows: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        log_probs = self._log_probs(interaction, rows)
        places = self.network.places(self.item_codes[items])
        return log_probs.gather(1, places.flatten(1)).view(places.shape).sum(dim=-1)

    def _log_probs(self, interaction: Interaction, rows: torch.Tensor) -> torch.Tensor:
        return self.network.log_probs(self.network.last_states(self._history(interaction, rows)))

    def _history(self, interaction: Interaction, rows: torch.Tensor | slice = slice(None)) -> History:
        items, lengths = self.trimmed_history(interaction, rows)
        return History(self.item_codes[items], lengths)
