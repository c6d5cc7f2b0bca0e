"""Prompts laid out for a batch equal those that plain lists put together, row by row."""

import numpy as np
import pytest
import torch

from recbole_gr.language_model import train_title_tokenizer
from recbole_gr.language_model.item_tokens import ItemTokens
from recbole_gr.language_model.prompt import PromptLayout, template_tokens

N_ITEMS, EOS, VECTOR = 9, 2, "vector"
TEMPLATES = {
    "all": ([50, 51], [60], [70, 71, 72]),
    "no separator": ([50], [], [70]),
    "nothing": ([], [], []),
    "long separator": ([], [60, 61], [70]),
}


def catalogue(rng, ending=1):
    """Titles of 1 to 5 tokens, with ``ending`` times eos behind."""
    lengths = np.append(0, rng.integers(1, 6, N_ITEMS - 1))
    titles = [[*rng.integers(100, 200, length).tolist(), *[EOS] * ending] for length in lengths[1:]]
    return [[], *titles], ItemTokens(np.array(sum(titles, [])), np.cumsum([0, 0, *map(len, titles)]))


def plain_prompt(titles, template, history, most, ending, vector_places):
    """A list of (token or VECTOR, item), and of the items that it holds; the longest that has most tokens at most."""
    before, separator, after = template
    for first in range(len(history)):
        middle = []
        for item in history[first:]:
            middle += [(token, 0) for token in separator] if middle else []
            middle += [(token, item) for token in titles[item][: len(titles[item]) - ending]]
            middle += [(VECTOR, item)] if vector_places else []
        prompt = [(token, 0) for token in before] + middle + [(token, 0) for token in after]
        if len(prompt) <= most:
            return prompt
    raise AssertionError("not even the newest item fits")


def random_histories(rng, rows=12, longest=6):
    lengths = rng.integers(1, longest + 1, rows)
    lengths[0] = longest
    history = torch.tensor(rng.integers(1, N_ITEMS, (rows, longest)))  # beyond the lengths stand items, too
    return history, torch.tensor(lengths), torch.tensor(rng.integers(1, N_ITEMS, rows))


@pytest.mark.parametrize("with_target", [True, False])
@pytest.mark.parametrize("vector_places", [True, False])
@pytest.mark.parametrize("ending", [1, 0])
@pytest.mark.parametrize("template", TEMPLATES)
def test_layout_of_random_histories(template, ending, vector_places, with_target):
    rng = np.random.default_rng(0)
    template = TEMPLATES[template]
    titles, item_tokens = catalogue(rng, ending)
    for most in (1000, 30, 20, 13):
        layout = PromptLayout(item_tokens, *template, most, ending, vector_places)
        history, lengths, target = random_histories(rng)
        laid = layout(history, lengths, target if with_target else None)
        expected = []
        for row in range(len(lengths)):
            prompt = plain_prompt(titles, template, history[row, : lengths[row]].tolist(), most, ending, vector_places)
            end = titles[target[row]] if with_target else []
            assert laid.prompt_lengths[row] == len(prompt) <= most
            assert laid.target_lengths[row] == len(end)
            expected.append(prompt + [(token, 0) for token in end])
        width = max(map(len, expected))
        assert laid.tokens.shape == laid.items.shape == laid.vector_places.shape == (len(lengths), width)
        for row, pieces in enumerate(expected):
            pieces = pieces + [(0, 0)] * (width - len(pieces))
            assert laid.vector_places[row].tolist() == [token == VECTOR for token, _ in pieces]
            assert laid.tokens[row].tolist() == [0 if token == VECTOR else token for token, _ in pieces]
            assert laid.items[row].tolist() == [item for _, item in pieces]


def test_truncation_leaves_out_the_oldest_whole_items():
    """Titles of 2, 3 and 1 tokens without eos, one separator, two tokens of template: worked out by hand."""
    item_tokens = ItemTokens(np.array([11, 12, EOS, 21, 22, 23, EOS, 31, EOS]), np.array([0, 0, 3, 7, 9]))
    history, lengths = torch.tensor([[1, 2, 3]]), torch.tensor([3])
    expected = {
        10: [50, 11, 12, 60, 21, 22, 23, 60, 31, 70],
        9: [50, 21, 22, 23, 60, 31, 70],
        7: [50, 21, 22, 23, 60, 31, 70],
        6: [50, 31, 70],
        3: [50, 31, 70],
    }
    for most, tokens in expected.items():
        laid = PromptLayout(item_tokens, [50], [60], [70], most, 1)(history, lengths)
        assert laid.tokens.tolist() == [tokens] and laid.prompt_lengths.tolist() == [len(tokens)]


def test_an_older_item_does_not_slip_past_one_that_does_not_fit():
    item_tokens = ItemTokens(np.array([11, EOS, 21, 22, 23, EOS, 31, EOS]), np.array([0, 0, 2, 6, 8]))
    laid = PromptLayout(item_tokens, [], [], [], 3, 1)(torch.tensor([[1, 2, 3]]), torch.tensor([3]))
    assert laid.tokens.tolist() == [[31]]  # 11 would fit, but 21, 22, 23 stand between


@pytest.mark.parametrize("template", TEMPLATES)
@pytest.mark.parametrize("vector_places", [True, False])
def test_longest_prompt_with_one_item(template, vector_places):
    titles, item_tokens = catalogue(np.random.default_rng(1))
    layout = PromptLayout(item_tokens, *TEMPLATES[template], 1000, 1, vector_places)
    every_item = torch.arange(1, N_ITEMS)
    laid = layout(every_item.unsqueeze(1), torch.ones_like(every_item))
    assert layout.longest_newest == int(laid.prompt_lengths.max())
    before, _, after = TEMPLATES[template]
    assert layout.longest_newest == len(before) + len(after) + vector_places + max(len(title) - 1 for title in titles[1:])


def test_template_tokens():
    tokenizer = train_title_tokenizer(["watched then next"] * 3, 300)
    before, separator, after = template_tokens(tokenizer, "watched: {history}\nnext:", " then ")
    assert before == tokenizer("watched: ")["input_ids"]
    assert separator == tokenizer(" then ")["input_ids"]
    assert after == tokenizer("\nnext:")["input_ids"]
    assert template_tokens(tokenizer, "{history}", "") == ([], [], [])


@pytest.mark.parametrize(
    "around, beginning", [("<bos> $A", [1]), ("<bos> $A <eos>", [1]), ("<eos> $A", [2]), ("$A <eos>", [])]
)
def test_what_the_tokenizer_begins_a_text_with_begins_the_prompt(around, beginning):
    """Once, at the beginning; with ``<eos> $A`` one token both begins a text and ends a title, as in OPT."""
    from tokenizers.processors import TemplateProcessing

    plain = train_title_tokenizer(["watched then next"] * 3, 300)
    tokenizer = train_title_tokenizer(["watched then next"] * 3, 300)
    special = [("<bos>", 1), ("<eos>", 2)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(around, special_tokens=special)
    before, separator, after = template_tokens(plain, "watched {history} next", " then")
    assert template_tokens(tokenizer, "watched {history} next", " then") == (beginning + before, separator, after)


def test_special_tokens_in_a_template_are_special():
    tokenizer = train_title_tokenizer(["watched then next"] * 3, 300)
    assert template_tokens(tokenizer, "<bos>{history}<eos>", "") == ([1], [], [2])
