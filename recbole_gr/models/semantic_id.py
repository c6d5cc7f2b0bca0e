"""What recommenders over semantic IDs have in common, and those among them that generate the next one code by code."""

from abc import abstractmethod
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from recbole.config import Config
from torch import nn

from recbole_gr.data.catalogue_match import Rows, matched_state, matching, some_of, with_value
from recbole_gr.decoding.beam_search import beam_search
from recbole_gr.decoding.item_lists import ItemLists, best_of_every_item
from recbole_gr.decoding.trie import Trie
from recbole_gr.models.base import BeamSearchRecommender, GenerativeRecommender
from recbole_gr.tokenizers.measures import quantised_levels
from recbole_gr.tokenizers.semantic_ids import number_groups
from recbole_gr.utils.errors import DataError


class CodeRecommender(GenerativeRecommender):
    """A recommender over the codes of the dataset's semantic IDs, however it ranks by them.

    ``item_codes`` is part of the state, so that a checkpoint brings its semantic IDs, and so is ``leaf_ranks``, the order
    of items that share an ID.

    A model loads its parameters, calls :meth:`use_semantic_ids`, and offers :meth:`make_network`, ``calculate_loss``,
    :meth:`rank_rows` and :meth:`log_likelihood`.
    """

    item_rows: tuple[str, ...] = ("item_codes", "leaf_ranks")

    item_codes: torch.Tensor
    codebook_sizes: torch.Tensor

    def __init__(self, config: Config, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.torch_compile = config["torch_compile"]

    @abstractmethod
    def make_network(self, codebook_sizes: tuple[int, ...]) -> nn.Module:
        """The network for semantic IDs with so many codes per level; also called for a checkpoint with others."""

    def use_semantic_ids(self, config: Config, dataset: Any) -> None:
        """Make ``item_codes``, ``codebook_sizes``, ``network`` and ``leaf_ranks`` for a dataset's semantic IDs."""
        codes = dataset.semantic_ids.codes
        self.n_quantised = quantised_levels(dataset.semantic_ids)
        self._use_codes(codes, dataset.semantic_ids.codebook_sizes)
        self.rank_items_that_share(codes, config, dataset)

    def _use_codes(self, codes: np.ndarray, codebook_sizes: tuple[int, ...]) -> None:
        self._quantised: torch.Tensor | None = None  # which items a tokenizer gave one ID, where that is asked for
        self.register_buffer("item_codes", torch.as_tensor(codes, dtype=torch.long))
        self.register_buffer("codebook_sizes", torch.tensor(codebook_sizes))
        self.network = self.make_network(codebook_sizes)
        if self.torch_compile:
            self.network.compile(dynamic=True)

    def best_of_every_item(self, scores: torch.Tensor, most: int) -> ItemLists:
        """Of scores of all items, float32 ``[users, n_items]``, the best, as :meth:`rank` has them."""
        if self._quantised is None:
            groups = number_groups(self.item_codes[1:, : self.n_quantised].cpu().numpy())
            self._quantised = torch.from_numpy(np.append(0, 1 + groups)).to(scores.device)
        return best_of_every_item(scores, most, self.leaf_ranks, self._quantised)

    def load_state_dict(self, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        """Load a checkpoint together with the semantic IDs it was trained on, which are matched by item token.

        Items that it does not know have the semantic IDs of the dataset, if those are the checkpoint's and more.

        Raises:
            DataError: it was trained on another catalogue, or on IDs that say nothing of the items that are new.
        """
        state_dict = self._with_new_items(state_dict)
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

    def _with_new_items(self, state: Mapping[str, Any]) -> Mapping[str, Any]:
        """A state by this catalogue's numbers, with the dataset's semantic IDs for items that it does not know."""
        found = matching(self, state)
        if found is not None and len(found[0].unknown):
            self._check_codes_of_new(found[0], state["item_codes"].cpu(), state["codebook_sizes"].cpu())
        matched = matched_state(self, state)
        if found is not None and len(found[0].unknown):
            # items that are new may share IDs, and all are those of the dataset
            matched = with_value(matched, "leaf_ranks", self.leaf_ranks)
        return matched

    def _check_codes_of_new(self, items: Rows, codes: torch.Tensor, sizes: torch.Tensor) -> None:
        known, own = items.place >= 0, self.item_codes.cpu()
        new = f"the checkpoint has no semantic IDs for {len(items.unknown):,} items ({some_of(items.unknown)})"
        same = own.shape[1] == codes.shape[1] and torch.equal(own[known], codes[torch.from_numpy(items.place[known])])
        if not same:
            raise DataError(
                f"{new}, and those of the dataset are others than it was trained on; make codes for new items by "
                "`recbole-gr tokenize --extend`, and set sid_file to them"
            )
        too_large = (own >= sizes).any(dim=1).numpy() & ~known
        if too_large.any():
            raise DataError(
                f"{new}, and those of the dataset have larger codes for {int(too_large.sum())} of them "
                f"({some_of(items.here[too_large])}) than the {sizes.tolist()} that it was trained with"
            )


class SemanticIDRecommender(CodeRecommender, BeamSearchRecommender):
    """A recommender that generates semantic IDs code by code; the ranking comes from a beam search over the trie of all IDs.

    Beside what :class:`CodeRecommender` says, a model offers :meth:`start_decoding`; :meth:`rank_rows` is here.
    """

    def __init__(self, config: Config, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.constrained = config["decoding"] == "constrained"
        self.search = partial(beam_search, constrained=self.constrained)

    def valid_beams(self) -> dict[str, float]:
        """With ``decoding: free``, how many beams there were since :meth:`reset_certificates`, and how many of them were items."""
        if self.constrained:
            return {}
        share = self.beam_counts["valid_beams"] / max(1, self.beam_counts["beams"])
        return {**self.beam_counts, "valid_beam_share": round(share, 4)}

    def what_was_proven(self) -> str:
        line = super().what_was_proven()
        if found := self.valid_beams():
            line += f"; decoding=free: {found['valid_beams']:,} of {found['beams']:,} beams were items"
            line += f" ({found['valid_beam_share']:.2%})"
        return line

    def rankings_report(self) -> dict[str, Any]:
        return {**super().rankings_report(), **self.valid_beams()}

    def _use_codes(self, codes: np.ndarray, codebook_sizes: tuple[int, ...]) -> None:
        super()._use_codes(codes, codebook_sizes)
        self.trie = Trie(codes, codebook_sizes, self.device)
