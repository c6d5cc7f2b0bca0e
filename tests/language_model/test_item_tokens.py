"""The tokens of titles are the tokenizer's own, and items of one title are told apart as the setting says."""

import numpy as np
import pytest

from recbole_gr.language_model import train_title_tokenizer
from recbole_gr.language_model.item_tokens import codes_as_tokens, tokenise_titles

TITLES = ["", "Toy Story", "Heat", "The Toy Soldiers", "Heat", "Heat of the Story", "Heat"]


@pytest.fixture(scope="module")
def tokenizer():
    return train_title_tokenizer(TITLES[1:] * 3, 300)


def of(made, item):
    return made.tokens[made.first[item] : made.first[item + 1]].tolist()


def written(made, tokenizer):
    """The titles as text, without the eos; checks that it stands at the end and nowhere else."""
    texts = []
    for item in range(1, len(made.first) - 1):
        tokens = of(made, item)
        assert tokens.index(tokenizer.eos_token_id) == len(tokens) - 1
        texts.append(tokenizer.decode(tokens[:-1]))
    return texts


def test_tokens_are_the_tokenizers_own_and_eos(tokenizer):
    made = tokenise_titles(TITLES, tokenizer, 32, "tied")
    assert made.tokens.dtype == made.first.dtype == np.int64
    assert of(made, 0) == []
    for item, title in enumerate(TITLES[1:], 1):
        assert of(made, item) == tokenizer(title)["input_ids"] + [tokenizer.eos_token_id]
    assert made.lengths.tolist() == [0] + [len(tokenizer(title)["input_ids"]) + 1 for title in TITLES[1:]]


def test_titles_are_cut_before_the_eos(tokenizer):
    made = tokenise_titles(TITLES, tokenizer, 2, "tied")
    for item, title in enumerate(TITLES[1:], 1):
        assert of(made, item) == tokenizer(title)["input_ids"][:2] + [tokenizer.eos_token_id]


def test_what_a_tokenizer_puts_around_a_text_is_no_part_of_a_title(tokenizer):
    from tokenizers.processors import TemplateProcessing

    around = train_title_tokenizer(TITLES[1:] * 3, 300)
    special = [("<bos>", 1), ("<eos>", 2)]
    around.backend_tokenizer.post_processor = TemplateProcessing("<bos> $A <eos>", special_tokens=special)
    assert around("Heat")["input_ids"] == [1, *tokenizer("Heat")["input_ids"], 2]
    made, plain = (tokenise_titles(TITLES, one, 32, "counter") for one in (around, tokenizer))
    assert made.tokens.tolist() == plain.tokens.tolist()


def test_tied_items_have_the_same_tokens(tokenizer):
    made = tokenise_titles(TITLES, tokenizer, 32, "tied")
    assert of(made, 2) == of(made, 4) == of(made, 6)
    assert made.measures["items_told_apart"] == 0 and made.measures["items_sharing_a_title"] == 3


def test_counters_in_the_order_of_items(tokenizer):
    made = tokenise_titles(TITLES, tokenizer, 32, "counter")
    assert written(made, tokenizer) == [*TITLES[1:4], "Heat (2)", TITLES[5], "Heat (3)"]
    assert of(made, 2) == [*tokenizer("Heat")["input_ids"], 2]  # the first of them stays as it is


def test_a_counter_skips_a_name_that_an_item_has_already(tokenizer):
    titles = ["", "Heat", "Heat", "Heat (2)", "Heat", "Heat (4)"]
    made = tokenise_titles(titles, tokenizer, 32, "counter")
    assert written(made, tokenizer) == ["Heat", "Heat (3)", "Heat (2)", "Heat (5)", "Heat (4)"]
    assert made.measures["items_told_apart"] == 2 and made.measures["distinct_titles"] == 5


def test_counters_behind_cut_titles(tokenizer):
    """Titles that differ in what is cut only are told apart like equal ones."""
    titles = ["", "The Toy Soldiers", "The Toy Story"]
    assert [tokenizer.tokenize(title)[:2] for title in titles[1:]] == [["ĠThe", "ĠToy"]] * 2
    made = tokenise_titles(titles, tokenizer, 2, "counter")
    assert written(made, tokenizer) == ["The Toy", "The Toy (2)"]
    assert made.measures["items_sharing_a_title"] == 2 and made.measures["cut_titles"] == 2


def test_suffixes_then_counters(tokenizer):
    titles = ["", "Heat", "Heat", "Heat", "Heat", "Toy Story", "Heat (1995)"]
    suffixes = ["", "1986", "1995", "1986", "", "1996", "2001"]
    made = tokenise_titles(titles, tokenizer, 32, "{year}", suffixes)
    # The second 1986 gets a counter; "Heat (1995)" is an item's own title, so that it stays and the suffix gets a counter.
    expected = ["Heat (1986)", "Heat (1995)", "Heat (1986) (2)", "Heat", "Toy Story", "Heat (1995) (2)"]
    assert tokenizer("Heat (1995)")["input_ids"] == tokenizer("Heat")["input_ids"] + tokenizer(" (1995)")["input_ids"]
    assert written(made, tokenizer) == expected
    assert made.measures["items_sharing_a_title"] == 4
    assert made.measures["items_told_apart"] == 4  # two with suffixes, one with both, and the last with a counter


@pytest.mark.parametrize("title", ["Heat<eos>", "<eos>", "<bos>Heat", "<pad>"])
def test_what_looks_like_a_special_token_is_text(tokenizer, title):
    made = tokenise_titles(["", title, "Heat"], tokenizer, 32, "tied")
    assert not {0, 1} & set(of(made, 1))
    assert written(made, tokenizer)[0] == title


def test_measures_by_hand(tokenizer):
    lengths = [len(tokenizer(title)["input_ids"]) for title in TITLES[1:]]
    assert sorted(lengths) == sorted([2, 1, 3, 1, 4, 1])  # whole words, each one token
    made = tokenise_titles(TITLES, tokenizer, 3, "tied")
    assert made.measures == {
        "distinct_titles": 4,
        "items_sharing_a_title": 3,
        "items_told_apart": 0,
        "cut_titles": 1,
        "mean_title_tokens": 2.83,  # (2 + 1 + 3 + 1 + 3 + 1) / 6 and the eos
        "longest_title_tokens": 4,
    }


def test_codes_as_words_behind_the_vocabulary():
    codes = np.array([[-1, -1, -1], [0, 4, 1], [2, 0, 0], [0, 4, 1]], dtype=np.int32)
    made = codes_as_tokens(codes, [3, 5, 2], 100)
    # levels begin at 100, 103 and 108
    assert [of(made, item) for item in range(4)] == [[], [100, 107, 109], [102, 103, 108], [100, 107, 109]]
    assert made.measures == {"distinct_titles": 2, "mean_title_tokens": 3.0, "longest_title_tokens": 3}
    assert made.tokens.dtype == made.first.dtype == np.int64
