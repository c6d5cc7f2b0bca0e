"""Item text is read from the atomic file exactly, and what is missing is said."""

import logging
import os
from importlib.util import find_spec

import numpy as np
import pytest

from recbole_gr.data.item_text import TITLE_COLUMNS, find_title_column, read_item_file_tokens, read_item_text
from recbole_gr.utils.errors import DataError, SettingError

ML_100K = os.path.join(find_spec("recbole").submodule_search_locations[0], "dataset_example", "ml-100k", "ml-100k.item")
HEADER = "item_id:token\ttitle:token_seq\tyear:token\tprice:float\ttags:token_seq\tembedding:float_seq"


def tokens(*names):
    return np.array(["[PAD]", *names])


@pytest.fixture
def item_file(tmp_path):
    """Writes an item file of lines and returns its path."""

    def write(*lines, header=HEADER, encoding="utf-8", newline="\n"):
        path = tmp_path / "small.item"
        path.write_bytes(newline.join([header, *lines, ""]).encode(encoding))
        return str(path)

    return write


def test_ml_100k_by_default_joins_all_text_columns():
    texts = read_item_text(ML_100K, tokens("1", "4", "242", "1682"))
    assert texts == [
        "",
        "Toy Story, 1995, Animation Children's Comedy",
        "Get Shorty, 1995, Action Comedy Drama",
        "Kolya, 1996, Comedy",
        "Scream of Stone (Schrei aus Stein), 1991, Drama",
    ]


def test_ml_100k_by_template():
    template = "{movie_title} ({release_year}). Genres: {class}"
    texts = read_item_text(ML_100K, tokens("50", "1", "267"), template)
    assert texts == [
        "",
        "Star Wars (1977). Genres: Action Adventure Romance Sci-Fi War",
        "Toy Story (1995). Genres: Animation Children's Comedy",
        "unkonwn (unkonwn). Genres: unknown",  # spelt so in the file
    ]


def test_ml_100k_by_a_template_of_commas():
    texts = read_item_text(ML_100K, tokens("1", "267"), "{movie_title}, {release_year}, {class}")
    assert texts == ["", "Toy Story, 1995, Animation Children's Comedy", "unkonwn, unkonwn, unknown"]


def test_all_of_ml_100k():
    file_tokens = read_item_file_tokens(ML_100K)
    assert file_tokens.tolist() == [str(number) for number in range(1, 1683)]
    texts = read_item_text(ML_100K, tokens(*file_tokens))
    assert len(texts) == 1683 and texts[0] == "" and all(texts[1:])
    with open(ML_100K, encoding="utf-8") as file:
        lines = [line.rstrip("\n").split("\t") for line in file][1:]
    assert texts[1:] == [", ".join(filter(None, line[1:])) for line in lines]


def test_rows_follow_the_tokens_and_not_the_file(item_file):
    path = item_file("b\tBee\t\t\t\t", "a\tAy\t\t\t\t", "c\tSea\t\t\t\t")
    assert read_item_text(path, tokens("a", "c", "b")) == ["", "Ay", "Sea", "Bee"]
    assert read_item_file_tokens(path).tolist() == ["b", "a", "c"]


def test_default_takes_token_and_token_seq_columns_only(item_file):
    path = item_file("a\tThe Film\t1999\t3.5\tdrama war\t0.1 0.2")
    assert read_item_text(path, tokens("a")) == ["", "The Film, 1999, drama war"]


def test_a_template_may_name_any_column_any_number_of_times(item_file):
    path = item_file("a\tThe Film\t1999\t3.50\tdrama\t0.1 0.2")
    assert read_item_text(path, tokens("a"), "{price} for {title}, {item_id}: {title}!") == [
        "",
        "3.50 for The Film, a: The Film!",
    ]


@pytest.mark.parametrize(
    "line, by_default, by_label, by_sentence",
    [
        ("a\tT\t1999\t\tdrama\t", "T, 1999, drama", "Title: T. Year: 1999.", "A film, T (1999), drama."),
        ("a\tT\t\t\tdrama\t", "T, drama", "Title: T.", "A film, T, drama."),
        ("a\t\t1999\t\tdrama\t", "1999, drama", "Year: 1999.", "(1999), drama."),
        ("a\t\t\t\tdrama\t", "drama", "", "drama."),
        ("a\tT\t1999\t\t\t", "T, 1999", "Title: T. Year: 1999.", "A film, T (1999)."),
        ("a\t-T-\t  \t\t \t", "-T-", "Title: -T-.", "A film, -T-."),
        ("a\t\t1999\t\t- war -\t", "1999, - war -", "Year: 1999.", "(1999), - war -."),
    ],
)
def test_empty_fields_leave_no_separators_behind(item_file, line, by_default, by_label, by_sentence):
    path = item_file(line, "filled\tT\t1\t\tt\t")
    item = tokens("a", "filled")
    assert read_item_text(path, item)[1] == by_default
    assert read_item_text(path, item, "{title}, {year}, {tags}")[1] == by_default
    assert read_item_text(path, item, "Title: {title}. Year: {year}.")[1] == by_label
    assert read_item_text(path, item, "A film, {title} ({year}), {tags}.")[1] == by_sentence


def test_what_stands_in_the_file_is_text(item_file):
    """Quotation marks, words that pandas reads as missing, braces and numbers stay as they are."""
    lines = ['a\t"Quoted" film', 'b\t"open', "c\tNA", "d\tnull", "e\t{title} {0.__class__}", "f\t007", "g\t50% \\n"]
    path = item_file(*lines, header="item_id:token\ttitle:token_seq")
    expected = ["", '"Quoted" film', '"open', "NA", "null", "{title} {0.__class__}", "007", "50% \\n"]
    assert read_item_text(path, tokens(*"abcdefg")) == expected
    assert read_item_text(path, tokens(*"abcdefg"), "{title}") == expected


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_unicode_and_line_ends(item_file, newline):
    lines = "東京\t千と千尋の神隠し", "é\tAmélie 🎬", "x\tnon\u00a0breaking\u2028line"
    path = item_file(*lines, header="item_id:token\ttitle:token_seq", newline=newline)
    assert read_item_text(path, tokens("é", "東京", "x")) == [
        "",
        "Amélie 🎬",
        "千と千尋の神隠し",
        "non\u00a0breaking\u2028line",
    ]


def test_encoding_and_separator(item_file):
    path = item_file("a,Amélie", header="asin:token,title:token_seq", encoding="latin-1")
    options = {"item_field": "asin", "separator": ","}
    assert read_item_text(path, tokens("a"), encoding="latin-1", **options) == ["", "Amélie"]
    with pytest.raises(DataError, match="small.item. is not UTF-8 text .*; the setting is encoding"):
        read_item_text(path, tokens("a"), **options)


def test_the_first_row_of_an_item_counts(item_file):
    path = item_file("a\tfirst", "b\tother", "a\tsecond", header="item_id:token\ttitle:token_seq")
    assert read_item_text(path, tokens("a", "b")) == ["", "first", "other"]
    assert read_item_file_tokens(path).tolist() == ["a", "b", "a"]


def test_items_without_text_are_counted_in_a_warning(item_file, caplog):
    path = item_file("a\tT", "b\t ", "c\tT", header="item_id:token\ttitle:token_seq")
    assert read_item_text(path, tokens("x", "a", "b", "y", "c", "z")) == ["", "", "T", "", "", "T", ""]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        f"4 of 6 items have no text, e.g. x, b, y: 3 are missing from [{path}], 1 have nothing in title."
    )


def test_no_warning_when_all_items_have_text(item_file, caplog):
    read_item_text(item_file("a\tT\t\t\t\t", "unused\t\t\t\t\t"), tokens("a"))
    assert not caplog.records


def test_no_item_with_text_is_an_error(item_file):
    path = item_file("a\t\t1999\t\t\t", "b\t \t\t\t\t")
    with pytest.raises(DataError, match="no item has a text: the columns title, tags of .*small.item. are empty"):
        read_item_text(path, tokens("a", "b"), "{title} {tags}")
    with pytest.raises(DataError, match="no item has a text"):
        read_item_text(item_file("a\t\t\t\t\t"), tokens("a"))
    with pytest.raises(DataError, match="small.item. has a header and no rows"):
        read_item_text(item_file(), tokens("a"))


def test_empty_catalogue(item_file):
    assert read_item_text(item_file("a\tT\t\t\t\t"), tokens()) == [""]
    assert read_item_text(item_file(), tokens()) == [""]


def test_unknown_column(item_file):
    path = item_file("a\tT\t\t\t\t")
    with pytest.raises(DataError) as raised:
        read_item_text(path, tokens("a"), "{title}, {genre}")
    assert str(raised.value) == (
        f"[{path}] has no column 'genre' of text_template; it has item_id, title, year, price, tags, embedding"
    )


def test_unknown_item_column(item_file):
    with pytest.raises(DataError, match="small.item. has no item id column 'asin'; it has item_id, title"):
        read_item_text(item_file("a\tT\t\t\t\t"), tokens("a"), item_field="asin")


def test_no_text_column(item_file):
    path = item_file("a\t1", header="item_id:token\tprice:float")
    with pytest.raises(DataError, match="no column of type token or token_seq beside item_id; it has item_id, price"):
        read_item_text(path, tokens("a"))
    assert read_item_text(path, tokens("a"), "{price}") == ["", "1"]


def test_column_without_type(item_file):
    with pytest.raises(DataError, match="column 'title' without a type"):
        read_item_text(item_file("a\tT", header="item_id:token\ttitle"), tokens("a"))


def test_missing_file(tmp_path):
    with pytest.raises(DataError) as raised:
        read_item_text(str(tmp_path / "none.item"), tokens("a"))
    message = str(raised.value)
    assert "none.item" in message and "item_vector_file" in message and "sid_file" in message and "\n" not in message


@pytest.mark.parametrize(
    "template, reason",
    [("title", "names no column in braces"), ("{title", "lacks its partner"), ("{title} }", "lacks its partner")],
)
def test_template_that_cannot_work(item_file, template, reason):
    with pytest.raises(SettingError, match=f"^text_template=.*{reason}"):
        read_item_text(item_file("a\tT\t\t\t\t"), tokens("a"), template)


def test_templates_do_not_reach_into_attributes(item_file):
    with pytest.raises(DataError, match="has no column 'title.__class__'"):
        read_item_text(item_file("a\tT\t\t\t\t"), tokens("a"), "{title.__class__}")


def test_a_row_with_too_few_fields_has_the_rest_empty(item_file):
    path = item_file("a\tT", "b\tU\t1999\t1\tdrama\t0.5")
    assert read_item_text(path, tokens("a", "b")) == ["", "T", "U, 1999, drama"]


def test_rows_longer_than_the_header_lose_no_text_in_silence(item_file):
    header = "item_id:token\ttitle:token_seq\tyear:token"
    trailing = item_file("a\tT\t1\t", "b\tU\t2\t\t", header=header)
    assert read_item_text(trailing, tokens("a", "b")) == ["", "T, 1", "U, 2"]
    path = item_file("a\tT\t1", "b\tU\t2\tmore", "c\tV\t3\t4\t5", header=header)
    with pytest.raises(
        DataError, match="has 2 rows with more cells than the 3 of its header, the first in line 3: a cell holds"
    ):
        read_item_text(path, tokens("a", "b"))


@pytest.mark.parametrize("name", TITLE_COLUMNS)
def test_title_column_by_its_name(item_file, name):
    assert find_title_column(item_file(header=f"item_id:token\tyear:token\t{name}:token_seq")) == name


def test_the_first_name_of_the_list_is_the_title_column(item_file):
    assert find_title_column(item_file(header="item_id:token\tname:token_seq\tmovie_title:token_seq")) == "movie_title"


def test_no_title_column(item_file):
    path = item_file(header="item_id:token\tfilm:token_seq\tyear:token")
    with pytest.raises(DataError) as raised:
        find_title_column(path)
    assert str(raised.value) == (
        f"[{path}] has no title column; set title_template to text with columns in braces, of item_id, film, year"
    )


def test_the_setting_of_a_template_is_named(item_file, tmp_path):
    path = item_file("a\tT\t\t\t\t")
    with pytest.raises(SettingError, match="^title_template='title': names no column in braces"):
        read_item_text(path, tokens("a"), "title", setting="title_template")
    with pytest.raises(DataError, match="has no column 'film' of title_template"):
        read_item_text(path, tokens("a"), "{film}", setting="title_template")
    for read in (find_title_column, lambda path: read_item_text(path, tokens("a"), "{title}", setting="title_template")):
        with pytest.raises(DataError, match=r"none.item\] to read titles from \(title_template\)$"):
            read(str(tmp_path / "none.item"))
