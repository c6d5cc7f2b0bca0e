r"""
TIGER
################################################

Reference:
    Shashank Rajput et al. "Recommender Systems with Generative Retrieval." in NeurIPS 2023 (arXiv 2305.05065).
"""

import torch
from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType

from recbole_gr.data.seen import interactions_of
from recbole_gr.decoding.beam_search import available_items, certified_beam_search
from recbole_gr.decoding.leaf_order import leaf_ranks
from recbole_gr.decoding.trie import Trie
from recbole_gr.errors import DataError
from recbole_gr.model.sequence_model import SequenceModel
from recbole_gr.settings import model_size

#: Beams alive at a time: few enough for the processor's cache, and the limit for users that need many.
BEAMS_AT_ONCE = {"cpu": 4096, "cuda": 262144}
WIDEST_SEARCH = {"cpu": 65536, "cuda": 524288}


class TIGER(SequentialRecommender):
    r"""TIGER writes the semantic ID of the next item, code by code, after reading those of the history.

    The encoder-decoder is :class:`~recbole_gr.model.sequence_model.SequenceModel`, the ranking comes from a beam search
    over the trie of all semantic IDs. ``item_codes`` is part of the state, so a checkpoint brings its semantic IDs, and
    so is ``leaf_ranks``, which item comes first among those that share an ID, as ``leaf_order`` says.
    """

    input_type = InputType.POINTWISE

    def __init__(self, config, dataset):
        super(TIGER, self).__init__(config, dataset)

        # load parameters info
        self.network_options = {
            "size": model_size(config),
            "feed_forward": config["feed_forward"],
            "dropout": config["dropout"],
            "history_position": config["history_position"],
            "separator": config["separator"],
            "user_buckets": config["user_buckets"],
        }
        self.torch_compile = config["torch_compile"]
        self.bfloat16 = config["precision"] == "bfloat16" or (
            config["precision"] == "auto" and self.device.type == "cuda" and torch.cuda.is_bf16_supported()
        )
        self.beam_size = config["beam_size"]
        self.beam_certify = config["beam_certify"]
        self.constrained = config["decoding"] == "constrained"
        self.largest_k = max(config["topk"])

        # define layers and loss
        codes = dataset.semantic_ids.codes
        self._use_semantic_ids(codes, dataset.semantic_ids.codebook_sizes)
        popularity = torch.bincount(torch.from_numpy(interactions_of(dataset)[1]), minlength=self.n_items).numpy()
        ranks = leaf_ranks(codes, popularity, config["leaf_order"], config["seed"])
        self.register_buffer("leaf_ranks", torch.from_numpy(ranks))
        self.reset_certificates()
        self.seen = None

    def _use_semantic_ids(self, codes, codebook_sizes):
        self.register_buffer("item_codes", torch.as_tensor(codes, dtype=torch.long))
        self.register_buffer("codebook_sizes", torch.tensor(codebook_sizes))
        self.network = SequenceModel(codebook_sizes, **self.network_options)
        if self.torch_compile:
            self.network.compile(dynamic=True)
        self.trie = Trie(codes, codebook_sizes, self.device)

    def load_state_dict(self, state_dict, *args, **kwargs):
        """Load a checkpoint together with the semantic IDs it was trained on.

        Raises:
            DataError: it was trained on another catalogue.
        """
        codes, sizes = state_dict["item_codes"], state_dict["codebook_sizes"]
        if len(codes) != self.n_items:
            raise DataError(
                f"the checkpoint was trained on a catalogue of {len(codes) - 1} items, this one has {self.n_items - 1}"
            )
        if not torch.equal(codes.cpu(), self.item_codes.cpu()):
            self.logger.warning("The semantic IDs of the checkpoint differ from those just made; the checkpoint's are used.")
            self._use_semantic_ids(codes.cpu().numpy(), sizes.tolist())
            self.to(self.device)
        return super().load_state_dict(state_dict, *args, **kwargs)

    def reset_certificates(self):
        """Begin to count anew how many rankings are certified."""
        self.certificates = {"users": 0, "certified": 0, "certified_by_first_search": 0}

    def calculate_loss(self, interaction):
        history, lengths = self._history(interaction)
        target = self.item_codes[interaction[self.POS_ITEM_ID]]
        with self._autocast():
            return self.network(self.item_codes[history], lengths, interaction[self.USER_ID], target)

    @torch.no_grad()
    def full_sort_predict(self, interaction):
        """Item scores ``[users, n_items]``: exact log-probabilities of what the beams found, -inf for the rest.

        Items in ``seen`` (rows and items, set by the trainer where ``mask_seen`` is on) are not searched for.
        """
        lengths = interaction[self.ITEM_SEQ_LEN]
        scores = torch.full((len(lengths), self.n_items), -torch.inf, device=lengths.device)
        by_length = lengths.argsort()
        for users in by_length.split(max(1, BEAMS_AT_ONCE[self.device.type] // self.beam_size)):
            scores[users] = self._search(interaction, users)
        return scores

    def _search(self, interaction, users):
        history, lengths = self._history(interaction, users)
        with self._autocast():
            encoded = self.network.encode(self.item_codes[history], lengths, interaction[self.USER_ID][users])
            decoder = self.network.start_decoding(*encoded)
            available = None if self.seen is None else available_items(self.trie, len(users), self._seen_by(users))
            scores, sure, first_sure = certified_beam_search(
                decoder,
                self.trie,
                self.beam_size,
                self.largest_k,
                self.constrained,
                self.beam_certify,
                WIDEST_SEARCH[self.device.type],
                available,
            )
        self.certificates["users"] += len(sure)
        self.certificates["certified"] += int(sure.sum())
        self.certificates["certified_by_first_search"] += int(first_sure.sum())
        return scores

    def _seen_by(self, users):
        """The part of ``seen`` that concerns some rows of the batch, with rows counted anew."""
        rows, items = (index.to(users.device) for index in self.seen)
        place = torch.full((int(rows.max()) + 1 if len(rows) else 1,), -1, dtype=torch.long, device=users.device)
        known = users < len(place)
        place[users[known]] = torch.nonzero(known).squeeze(1)
        here = place[rows] >= 0
        return place[rows[here]], items[here]

    @torch.no_grad()
    def predict(self, interaction):
        """Exact log-probability of each row's item, ``[rows]``; rows with the same history share one encoder pass."""
        history, lengths = self._history(interaction)
        users, items = interaction[self.USER_ID], interaction[self.ITEM_ID]
        distinct, row_of = torch.unique(torch.cat([users.unsqueeze(1), history], dim=1), dim=0, return_inverse=True)
        # candidates of one history side by side: [histories, most candidates]
        order = row_of.argsort(stable=True)
        counts = torch.bincount(row_of)
        place = torch.arange(len(order), device=order.device) - (counts.cumsum(0) - counts)[row_of[order]]
        candidates = torch.ones(len(distinct), int(counts.max()), dtype=torch.long, device=items.device)
        candidates[row_of[order], place] = items[order]
        first_row = order[counts.cumsum(0) - counts]

        scores = torch.empty(candidates.shape, device=items.device)
        for rows in torch.arange(len(distinct), device=items.device).split(
            max(1, BEAMS_AT_ONCE[self.device.type] // candidates.shape[1])
        ):
            with self._autocast():
                encoded = self.network.encode(
                    self.item_codes[history[first_row[rows]]], lengths[first_row[rows]], users[first_row[rows]]
                )
                scores[rows] = self.network.log_likelihood(*encoded, self.item_codes[candidates[rows]])
        result = torch.empty(len(items), device=items.device)
        result[order] = scores[row_of[order], place]
        return result

    def _history(self, interaction, users=slice(None)):
        """Histories trimmed to the longest of the batch, and their lengths."""
        lengths = interaction[self.ITEM_SEQ_LEN][users]
        return interaction[self.ITEM_SEQ][users, : int(lengths.max())], lengths

    def _autocast(self):
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bfloat16)
