"""The RecBole dataset of LLMasRS: histories, and the catalogue in the words of a language model."""

from logging import getLogger

import numpy as np
import torch

from recbole_gr.data.dataset import HistoryDataset
from recbole_gr.data.item_text import find_title_column, read_item_text
from recbole_gr.data.item_vectors import item_file, reading
from recbole_gr.data.semantic_id_source import make_semantic_ids
from recbole_gr.data.trained_model import read_checkpoint_vectors
from recbole_gr.language_model import load_tokenizer
from recbole_gr.language_model.item_tokens import codes_as_tokens, tokenise_titles
from recbole_gr.language_model.prompt import template_tokens
from recbole_gr.utils.stopwatch import stopwatch


class LLMasRSDataset(HistoryDataset):
    """Histories, and the catalogue in the words of a language model.

    Attributes:
        tokenizer (transformers.PreTrainedTokenizerFast): the language model's.
        item_tokens (ItemTokens): the tokens of the items' titles or semantic IDs.
        prompt_template (tuple): tokens before the history, between items, and behind it, three lists of int.
        code_tokens (list of int): what the vocabulary grows by with ``item_as: sid``, else empty.
        cf_vectors (np.ndarray): float32 ``[n_items, d]``, with ``cf_injection`` only.
        semantic_ids, semantic_id_measures: as in :class:`SemanticIDDataset`, with ``item_as: sid`` only.
        stages (dict): what making them cost, for the run record.

    Raises:
        RecBoleGRError: a setting or the item file cannot work; raised before any long work.
    """

    def __init__(self, config):
        super().__init__(config)
        item_tokens = self.field2id_token[self.iid_field].astype(str)
        self.stages, self.code_tokens = {}, []
        if config["cf_injection"] != "none":
            where = (config["dataset"], config["data_path"], config["cf_parameter"])
            self.cf_vectors, _ = read_checkpoint_vectors(config["cf_checkpoint"], item_tokens, *where)
        write = self._write_titles if config["item_as"] == "title" else self._write_semantic_ids
        write(config, item_tokens)
        self.prompt_template = template_tokens(self.tokenizer, config["prompt_template"], config["history_separator"])

    def _write_titles(self, config, item_tokens):
        titles = read_titles(config, item_tokens)
        with stopwatch(self.stages, "titles"):
            self.tokenizer = load_tokenizer(config["llm"], config["cache_dir"], titles[1:], config["scratch_vocabulary"])
            self.item_tokens = tokens_of_titles(config, item_tokens, titles, self.tokenizer)

    def _write_semantic_ids(self, config, item_tokens):
        words = [config["prompt_template"]]  # nothing else is written in words
        self.tokenizer = load_tokenizer(config["llm"], config["cache_dir"], words, config["scratch_vocabulary"])
        self.semantic_ids, self.semantic_id_measures, self.stages = make_semantic_ids(config, item_tokens)
        sizes = self.semantic_ids.codebook_sizes
        self.item_tokens = codes_as_tokens(self.semantic_ids.codes, sizes, len(self.tokenizer))
        self.code_tokens = list(range(len(self.tokenizer), len(self.tokenizer) + sum(sizes)))

    @property
    def sample_lengths(self):
        """Tokens of a sample's items, int64 ``[samples]``; those of the template are the same for all."""
        if self.history_end_field not in self.inter_feat:  # the files of ``benchmark_filename`` bring their histories
            return super().sample_lengths
        end, length = self.inter_feat[self.history_end_field], super().sample_lengths
        before = torch.from_numpy(np.append(0, np.cumsum(self.item_tokens.lengths[self.item_sequence.numpy()])))
        return before[end] - before[end - length]


def read_titles(config, item_tokens):
    """The title of every item, as ``title_template`` makes it.

    Args:
        config (recbole.config.Config): the merged settings.
        item_tokens (np.ndarray): str ``[n_items]``, RecBole's tokens by item id; entry 0 is the padding item.

    Returns:
        list of str: ``[n_items]``; items without a title have their item token, which a warning says.

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


def tokens_of_titles(config, item_tokens, titles, tokenizer):
    """The titles' tokens, those that are the same told apart as ``duplicate_titles`` says.

    Args:
        config, item_tokens: as in :func:`read_titles`.
        titles (list of str): from there.
        tokenizer (transformers.PreTrainedTokenizerFast): the language model's.

    Returns:
        ItemTokens
    """
    rule, suffixes = config["duplicate_titles"], None
    if "{" in rule:
        suffixes = read_item_text(item_file(config), item_tokens, rule, setting="duplicate_titles", **reading(config))
    made = tokenise_titles(titles, tokenizer, config["title_max_tokens"], rule, suffixes)
    seen = made.measures
    getLogger().info(
        f"Titles: {len(titles) - 1:,} items, {seen['distinct_titles']:,} distinct; {seen['items_sharing_a_title']} items shared "
        f"one, {seen['items_told_apart']} of them told apart (duplicate_titles: {rule}); {seen['mean_title_tokens']} tokens "
        f"on average, {seen['longest_title_tokens']} at most, {seen['cut_titles']} cut to title_max_tokens"
    )
    return made
