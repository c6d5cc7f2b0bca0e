"""What recommenders have in common that generate the semantic ID of the next item code by code."""

from abc import abstractmethod
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from torch import nn

from recbole_gr.decoding.beam_search import beam_search
from recbole_gr.decoding.trie import Trie
from recbole_gr.models.base import BeamSearchRecommender
from recbole_gr.utils.errors import DataError


class SemanticIDRecommender(BeamSearchRecommender):
    """A recommender over the semantic IDs of the dataset.

    ``item_codes`` is part of the state, so that a checkpoint brings its semantic IDs, and so is ``leaf_ranks``, the order
    of items that share an ID. The ranking comes from a beam search over the trie of all semantic IDs.

    A model loads its parameters, calls :meth:`use_semantic_ids`, and offers :meth:`make_network`, ``calculate_loss``,
    :meth:`start_decoding` and :meth:`log_likelihood`.
    """

    item_codes: torch.Tensor
    codebook_sizes: torch.Tensor

    def __init__(self, config: Config, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.torch_compile = config["torch_compile"]
        self.search = partial(beam_search, constrained=config["decoding"] == "constrained")

    @abstractmethod
    def make_network(self, codebook_sizes: tuple[int, ...]) -> nn.Module:
        """The network for semantic IDs with so many codes per level; also called for a checkpoint with others."""

    def use_semantic_ids(self, config: Config, dataset: Any) -> None:
        """Make ``item_codes``, ``codebook_sizes``, ``network``, ``trie`` and ``leaf_ranks`` for a dataset's semantic IDs."""
        codes = dataset.semantic_ids.codes
        self._use_codes(codes, dataset.semantic_ids.codebook_sizes)
        self.rank_items_that_share(codes, config, dataset)

    def _use_codes(self, codes: np.ndarray, codebook_sizes: tuple[int, ...]) -> None:
        self.register_buffer("item_codes", torch.as_tensor(codes, dtype=torch.long))
        self.register_buffer("codebook_sizes", torch.tensor(codebook_sizes))
        self.network = self.make_network(codebook_sizes)
        if self.torch_compile:
            self.network.compile(dynamic=True)
        self.trie = Trie(codes, codebook_sizes, self.device)

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
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
            self._use_codes(codes.cpu().numpy(), tuple(sizes.tolist()))
            self.to(self.device)
        return super().load_state_dict(state_dict, *args, **kwargs)
