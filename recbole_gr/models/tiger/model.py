r"""
TIGER
################################################

Reference:
    Shashank Rajput et al. "Recommender Systems with Generative Retrieval." in NeurIPS 2023 (arXiv 2305.05065).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from recbole.config import Config
from recbole.data.interaction import Interaction

from recbole_gr.data.catalogue_match import matching, with_value
from recbole_gr.data.windows import target_list_field
from recbole_gr.decoding.item_lists import ItemLists
from recbole_gr.decoding.protocols import CodeDecoder
from recbole_gr.models.semantic_id import SemanticIDRecommender
from recbole_gr.models.tiger.decoder_only import DecoderOnly
from recbole_gr.models.tiger.dense_head import DenseHead
from recbole_gr.models.tiger.encoder_decoder import EncoderDecoder
from recbole_gr.models.tiger.history import History
from recbole_gr.models.tiger.injection import ItemInjection, on_the_scale_of
from recbole_gr.models.tiger.network import NetworkOptions, SemanticIDNetwork
from recbole_gr.models.tiger.settings import ONE_STACK, history_is_causal, history_position, model_size
from recbole_gr.models.tiger.temporal_depth import TemporalDepth
from recbole_gr.utils.devices import PerDevice

#: Scores of all items by the dense head, of all rows that are scored at a time.
SCORES_AT_ONCE = PerDevice(cpu=1 << 24, cuda=1 << 28)

ARCHITECTURES: dict[str, type[SemanticIDNetwork]] = {
    "encoder_decoder": EncoderDecoder,
    "decoder_only": DecoderOnly,
    "prefix_lm": DecoderOnly,
    "temporal_depth": TemporalDepth,
}


class TIGER(SemanticIDRecommender):
    r"""TIGER reads the semantic IDs of a history and generates that of the next item, code by code.

    ``architecture`` chooses the network; the paper's is
    :class:`~recbole_gr.models.tiger.encoder_decoder.EncoderDecoder`.
    """

    item_rows: tuple[str, ...] = (
        *SemanticIDRecommender.item_rows,
        *("injection.embedding.weight", "injection.text_vectors", "injection.cf_vectors", "dense_head.embedding.weight"),
    )
    user_rows = ("user_numbers",)

    network: SemanticIDNetwork
    user_numbers: torch.Tensor
    injection: ItemInjection | None
    dense_head: DenseHead | None

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
            scaled_attention=config["scaled_attention"] or False,
            history_position=history_position(config),
            separator=config["separator"],
            user_buckets=config["user_buckets"],
            causal=history_is_causal(config),
            label_smoothing=config["label_smoothing"] or 0.0,
            code_temperature=config["code_temperature"] or 1.0,
            depth_layers=config["depth_layers"] or 1,
            depth_dropout=config["depth_dropout"] or 0.0,
        )

        self.dense_weight = config["dense_weight"] or 0.0
        self.rerank_weight = config["rerank_weight"] or 0.0
        if self.rerank_weight:
            self.certified_lists = f"the {self.max_k} items of most probable codes, before they are re-ranked,"

        # define layers and loss
        self.use_semantic_ids(config, dataset)
        d_model = self.options.size.d_model
        n_embeddings = self.n_items if config["item_embedding"] else 0
        self.injection = None
        if dataset.injected_vectors or n_embeddings:
            vectors = {name: torch.from_numpy(rows) for name, rows in dataset.injected_vectors.items()}
            dropout = config["item_embedding_dropout"]
            self.injection = ItemInjection(vectors, d_model, n_items=n_embeddings, embedding_dropout=dropout)
        self.dense_head = DenseHead(d_model, self.n_items) if self.dense_weight else None
        if self.options.user_buckets:  # the buckets of users are those of the numbers that they had in training
            self.register_buffer("user_numbers", torch.arange(dataset.num(self.USER_ID)))
        self.logger.info(self.in_one_line())

    def in_one_line(self) -> str:
        """What is trained, and how: the name TIGER stands for several architectures."""
        options, size = self.options, self.options.size
        layers = (
            f"{size.n_layers} + {options.depth_layers if self.architecture == 'temporal_depth' else size.n_layers} layers"
        )
        parts = [
            self.architecture.replace("_", "-"),
            f"{size.n_layers} layers" if self.architecture in ONE_STACK else layers,
            f"{size.d_model} wide",
            f"{'causal' if options.causal else 'bidirectional'} history with a position per {options.history_position}",
            f"trained at {'every position' if self.at_every_item else 'the last position'} in {self.train_precision}",
            f"semantic IDs of {' x '.join(map(str, self.codebook_sizes.tolist()))} codes",
        ]
        beside = list(self.injection.names) if self.injection else []
        if self.injection is not None and self.injection.embedding is not None:
            beside.append("an embedding of each item")
        if beside:
            parts.append(f"with {' and '.join(beside)} beside the codes")
        if self.dense_head is not None:
            parts.append("and a softmax over the items" + (", which re-ranks the beams" if self.rerank_weight else ""))
        return f"{type(self).__name__}: {', '.join(parts)}"

    def make_network(self, codebook_sizes: tuple[int, ...]) -> SemanticIDNetwork:
        return ARCHITECTURES[self.architecture](codebook_sizes, self.options)

    def calculate_loss(self, interaction: Interaction) -> torch.Tensor:
        """Mean cross-entropy over the codes of the next items, and ``dense_weight`` times that over the items."""
        targets = interaction[self.TARGET_LIST] if self.at_every_item else interaction[self.POS_ITEM_ID].unsqueeze(1)
        present = targets > 0
        with self.training_autocast():
            loss, states = self.network(
                self.read_history(interaction), self.item_codes[targets], present, at_every_item=self.at_every_item
            )
            if self.dense_weight:
                loss = loss + self.dense_weight * self.dense_loss(states.flatten(0, 1), targets.flatten())
        return loss

    def start_decoding(self, interaction: Interaction, rows: torch.Tensor) -> CodeDecoder:
        return self.network.start_decoding(self.network.encode(self.read_history(interaction, rows)))

    def log_likelihood(self, interaction: Interaction, rows: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        encoded = self.network.encode(self.read_history(interaction, rows))
        scores = self.network.log_likelihood(encoded, self.item_codes[items])
        if self.rerank_weight:
            scores = scores + self.rerank_weight * self.dense_log_probs(encoded).gather(1, items)
        return scores

    def rerank(
        self,
        interaction: Interaction,
        rows: torch.Tensor,
        lists: ItemLists,
        seen: tuple[torch.Tensor, torch.Tensor] | None,
        most: int | None = None,
    ) -> ItemLists:
        """With ``rerank_weight``, add that times the dense log-probabilities to the scores of what the beams found."""
        if not self.rerank_weight:
            return lists
        dense = [
            self.dense_log_probs(self.network.encode(self.read_history(interaction, rows[here]))).gather(
                1, lists.items[here]
            )
            for here in self.scored_at_once(rows)
        ]
        return ItemLists(lists.items, lists.scores + self.rerank_weight * torch.cat(dense), self.n_items)

    def scored_at_once(self, rows: torch.Tensor) -> Sequence[torch.Tensor]:
        """Places of rows, int64 each, of whose scores of all items there are few enough to be alive at a time."""
        return torch.arange(len(rows), device=rows.device).split(max(1, SCORES_AT_ONCE[rows.device.type] // self.n_items))

    def dense_loss(self, states: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """The loss that ``dense_weight`` is the weight of.

        Args:
            states: ``[n, d]``.
            items: int64 ``[n]``, which follow them; 0 where none does.
        """
        assert self.dense_head is not None  # there is one where there is a weight
        return self.dense_head.loss(states, items)

    def dense_log_probs(self, encoded: Any) -> torch.Tensor:
        """Log-probabilities of all items by what is trained by :meth:`dense_loss`, float32 ``[b, n_items]``."""
        assert self.dense_head is not None  # a setting sees to it
        return self.dense_head.log_probs(self.network.states(encoded).squeeze(1))

    def read_history(self, interaction: Interaction, rows: torch.Tensor | slice = slice(None)) -> History:
        """The histories of some rows of a batch, as the network reads them."""
        items, lengths = self.trimmed_history(interaction, rows)
        injected = None if self.injection is None else self.injection(items)
        users = self.user_numbers[interaction[self.USER_ID][rows]] if self.options.user_buckets else None
        return History(self.item_codes[items], lengths, users, injected)

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """As that of every model of semantic IDs; a checkpoint from before users kept their numbers has those of the dataset."""
        if self.options.user_buckets and "user_numbers" not in state_dict:
            state_dict = with_value(state_dict, "user_numbers", self.user_numbers)
        return super().load_state_dict(state_dict, *args, **kwargs)

    def _with_new_items(self, state: Mapping[str, Any]) -> Mapping[str, Any]:
        found, matched = matching(self, state), super()._with_new_items(state)
        if found is not None and self.injection is not None and len(found[0].unknown):
            for name in self.injection.names:
                key = f"injection.{name}_vectors"
                known = torch.from_numpy(found[0].place >= 0)
                matched = with_value(matched, key, on_the_scale_of(self.state_dict()[key], matched[key], known))
        return matched
