r"""
TIGER
################################################

Reference:
    Shashank Rajput et al. "Recommender Systems with Generative Retrieval." in NeurIPS 2023 (arXiv 2305.05065).
"""

from functools import partial

import torch

from recbole_gr.data.dataloader import TrainingBatch
from recbole_gr.decoding.beam_search import beam_search
from recbole_gr.decoding.trie import Trie
from recbole_gr.utils.errors import DataError
from recbole_gr.models.base import BeamSearchRecommender
from recbole_gr.models.tiger.network import SequenceModel
from recbole_gr.models.tiger.settings import model_size


class TIGER(BeamSearchRecommender):
    r"""TIGER writes the semantic ID of the next item, code by code, after reading those of the history.

    The encoder-decoder is :class:`~recbole_gr.models.tiger.network.SequenceModel`, the ranking comes from a beam search
    over the trie of all semantic IDs. ``item_codes`` is part of the state, so a checkpoint brings its semantic IDs, and
    so is ``leaf_ranks``, which item comes first among those that share an ID, as ``leaf_order`` says.
    """

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
        self.search = partial(beam_search, constrained=config["decoding"] == "constrained")

        # define layers and loss
        codes = dataset.semantic_ids.codes
        self._use_semantic_ids(codes, dataset.semantic_ids.codebook_sizes)
        self.rank_items_that_share(codes, config, dataset)

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

    def calculate_loss(self, interaction):
        history, lengths = self._history(interaction)
        target = self.item_codes[interaction[self.POS_ITEM_ID]]
        with self.autocast():
            return self.network(self.item_codes[history], lengths, interaction[self.USER_ID], target)

    def start_decoding(self, interaction, rows):
        return self.network.start_decoding(*self._encode(interaction, rows))

    def log_likelihood(self, interaction, rows, items):
        return self.network.log_likelihood(*self._encode(interaction, rows), self.item_codes[items])

    def _encode(self, interaction, rows):
        history, lengths = self._history(interaction, rows)
        return self.network.encode(self.item_codes[history], lengths, interaction[self.USER_ID][rows])

    def _history(self, interaction, rows=slice(None)):
        """Histories trimmed to the longest of the rows, and their lengths."""
        lengths = interaction[self.ITEM_SEQ_LEN][rows]
        if isinstance(interaction, TrainingBatch):  # whose histories are; to look how long they are a GPU waits
            return interaction[self.ITEM_SEQ][rows], lengths
        return interaction[self.ITEM_SEQ][rows, : int(lengths.max())], lengths
