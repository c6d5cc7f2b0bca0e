"""From the settings to the tokens in which a language model writes the items of a catalogue."""

from logging import getLogger

from recbole_gr.data.item_text import find_title_column, read_item_text
from recbole_gr.data.item_vectors import item_file, reading
from recbole_gr.language_model.item_tokens import tokenise_titles


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
        template = "{%s}" % find_title_column(item_file(config), **reading(config))
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
