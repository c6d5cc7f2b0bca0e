"""The RecBole dataset of LLMasRS: histories, and the catalogue in the words of a language model."""

from collections.abc import Sequence
from functools import partial
from logging import getLogger
from typing import Any

import numpy as np
import torch
from recbole.config import Config

from recbole_gr.data.dataset import HistoryDataset
from recbole_gr.data.item_text import find_title_column, read_item_text
from recbole_gr.data.item_vectors import item_file, reading
from recbole_gr.data.semantic_id_source import make_semantic_ids
from recbole_gr.data.trained_model import read_checkpoint_vectors
from recbole_gr.data.training_part import training_part
from recbole_gr.language_model import load_tokenizer
from recbole_gr.language_model.item_tokens import ItemTokens, codes_as_tokens, tokenise_titles
from recbole_gr.language_model.prompt import template_tokens
from recbole_gr.tokenizers import SemanticIDs
from recbole_gr.utils.errors import DataError
from recbole_gr.utils.stopwatch import Stages, stopwatch


class LLMasRSDataset(HistoryDataset):
    """Histories, and the catalogue in the words of a language model.

    Attributes:
        tokenizer: the language model's, a ``transformers.PreTrainedTokenizerFast``.
        item_tokens: the tokens of the items' titles or semantic IDs.
        prompt_template: tokens before the history, between items, and behind it, three lists of int.
        alignment_titles: the tokens of the items' titles, with ``alignment_tasks`` only; else None.
        code_tokens: what the vocabulary grows by with ``item_as: sid``, else empty.
        cf_vectors: float32 ``[n_items, d]``, with ``cf_injection`` only.
        semantic_ids: as in :class:`SemanticIDDataset`, with ``item_as: sid`` only.
        semantic_id_measures: as in :class:`SemanticIDDataset`, with ``item_as: sid`` only.
        stages: what making them cost, for the run record.

    Raises:
        RecBoleGRError: a setting or the item file cannot work; raised before any long work.
    """

    tokenizer: Any
    item_tokens: ItemTokens
    prompt_template: tuple[list[int], list[int], list[int]]
    alignment_titles: ItemTokens | None
    code_tokens: list[int]
    cf_vectors: np.ndarray
    semantic_ids: SemanticIDs
    semantic_id_measures: dict[str, Any]
    stages: Stages

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        item_tokens = self.field2id_token[self.iid_field].astype(str)
        self.stages, self.code_tokens, self.alignment_titles = {}, [], None
        if config["cf_injection"] != "none":
            self.cf_vectors, _ = read_checkpoint_vectors(
                config["cf_checkpoint"],
                item_tokens,
                config["dataset"],
                config["data_path"],
                parameter=config["cf_parameter"],
            )
        make_item_tokens = self._tokenise_titles if config["item_as"] == "title" else self._tokenise_semantic_ids
        make_item_tokens(config, item_tokens)
        self.prompt_template = template_tokens(self.tokenizer, config["prompt_template"], config["history_separator"])

    def _tokenise_titles(self, config: Config, item_tokens: np.ndarray) -> None:
        titles = read_titles(config, item_tokens)
        with stopwatch(self.stages, "titles"):
            self.tokenizer = load_tokenizer(config["llm"], config["cache_dir"], titles[1:], config["scratch_vocabulary"])
            self.item_tokens = tokens_of_titles(config, item_tokens, titles, self.tokenizer)

    def _tokenise_semantic_ids(self, config: Config, item_tokens: np.ndarray) -> None:
        words, titles = [config["prompt_template"]], self._titles_to_align(config, item_tokens)
        if titles is not None:
            words += [*config["alignment_templates"].values(), *titles[1:]]
        self.tokenizer = load_tokenizer(config["llm"], config["cache_dir"], words, config["scratch_vocabulary"])
        self.semantic_ids, self.semantic_id_measures, self.stages = make_semantic_ids(
            config, item_tokens, partial(training_part, self)
        )
        sizes = self.semantic_ids.codebook_sizes
        self.item_tokens = codes_as_tokens(self.semantic_ids.codes, sizes, len(self.tokenizer))
        self.code_tokens = list(range(len(self.tokenizer), len(self.tokenizer) + sum(sizes)))
        if titles is not None:
            self.alignment_titles = tokenise_titles(titles, self.tokenizer, config["title_max_tokens"], "tied")

    def _titles_to_align(self, config: Config, item_tokens: np.ndarray) -> list[str] | None:
        if not config["alignment_tasks"]:
            return None
        try:
            return read_titles(config, item_tokens)
        except DataError as error:
            raise DataError(f"alignment_tasks={', '.join(config['alignment_tasks'])} needs titles: {error}") from error

    @property
    def sample_lengths(self) -> torch.Tensor:
        """Tokens of a sample's items, int64 ``[samples]``; those of the template are the same for all."""
        if self.history_end_field not in self.inter_feat:  # the files of ``benchmark_filename`` bring their histories
            return super().sample_lengths
        end, length = self.inter_feat[self.history_end_field], super().sample_lengths
        before = torch.from_numpy(np.append(0, np.cumsum(self.item_tokens.lengths[self.item_sequence.numpy()])))
        return before[end] - before[end - length]


def read_titles(config: Config, item_tokens: np.ndarray) -> list[str]:
    """The title of every item, as ``title_template`` makes it.

    Args:
        config: the merged settings.
        item_tokens: str ``[n_items]``, RecBole's tokens by item id; entry 0 is the padding item.

    Returns:
        ``[n_items]`` titles; items without one have their item token, which a warning says.

    Raises:
        RecBoleGRError: there is no such column or file, or no item has a title.
    """
    template = config["title_template"]
    if template is None:
        template = f"{{{find_title_column(item_file(config), **reading(config))}}}"
    titles = read_item_text(item_file(config), item_tokens, template, setting="title_template", **reading(config))
    without = sum(not title for title in titles[1:])
    if without:
        getLogger().warning(f"The item tokens stand in for the titles of {without} items.")
    return [""] + [title or str(token) for title, token in zip(titles[1:], item_tokens[1:])]


def tokens_of_titles(config: Config, item_tokens: np.ndarray, titles: Sequence[str], tokenizer: Any) -> ItemTokens:
    """The titles' tokens, those that are the same made distinct as ``duplicate_titles`` says.

    Args:
        config: the merged settings.
        item_tokens: str ``[n_items]``, RecBole's tokens by item id; entry 0 is the padding item.
        titles: from :func:`read_titles`.
        tokenizer: the language model's, a ``transformers.PreTrainedTokenizerFast``.
    """
    rule, suffixes = config["duplicate_titles"], None
    if "{" in rule:
        suffixes = read_item_text(item_file(config), item_tokens, rule, setting="duplicate_titles", **reading(config))
    made = tokenise_titles(titles, tokenizer, config["title_max_tokens"], rule, suffixes)
    seen = made.measures
    getLogger().info(
        f"Titles: {len(titles) - 1:,} items, {seen['distinct_titles']:,} distinct; {seen['items_sharing_a_title']} items shared "
        f"one, {seen['items_told_apart']} of them made distinct (duplicate_titles: {rule}); {seen['mean_title_tokens']} tokens "
        f"on average, {seen['longest_title_tokens']} at most, {seen['cut_titles']} truncated to title_max_tokens"
    )
    return made
