"""References: round trips through every format, and files made by hand as MiniOneRec, LC-Rec and GRID write them."""

import json
import logging
import os
import stat
import sys

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch

from recbole_gr.tokenizers import SemanticIDs
from recbole_gr.tokenizers.semantic_ids import MAX_VOCABULARY
from recbole_gr.tokenizers.sid_file_writer import write_sid_file
from recbole_gr.tokenizers.sid_files import read_sid_file
from recbole_gr.utils.errors import DataError, RecBoleGRError, SettingError

TOKENS = np.array(["[PAD]", "b", "a", "c"])
NAMED_FORMATS = [("ids.json", "numbers"), ("ids.json", "tokens"), ("ids.parquet", "numbers"), ("ids.pt", "numbers")]


def random_ids(n_items=200, levels=3, size=50, seed=0):
    """Semantic IDs whose largest codes are below the codebook sizes, and tokens for them, in no sorted order."""
    rng = np.random.default_rng(seed)
    codes = np.concatenate([np.full((1, levels), -1), rng.integers(0, size, size=(n_items - 1, levels))])
    tokens = np.array(["[PAD]", *(f"item {number} ü" for number in rng.permutation(n_items - 1))])
    return SemanticIDs(codes, (size + 5,) * levels, "digit", {"tokenizer": "by hand"}), tokens


def small_ids():
    return SemanticIDs(np.array([[-1, -1], [3, 1], [5, 0], [3, 1]]), (8, 2), "none", {"tokenizer": "by hand"})


def write_json(content):
    with open("ids.json", "w") as file:
        file.write(content if isinstance(content, str) else json.dumps(content))
    return "ids.json"


def write_pt(content, items=None):
    torch.save(content, "ids.pt")
    if items is not None:
        with open("ids.pt.items.txt", "wb") as file:
            file.write(items)
    return "ids.pt"


def write_parquet(columns, metadata=None):
    pyarrow.parquet.write_table(pyarrow.table(columns, metadata=metadata), "ids.parquet")
    return "ids.parquet"


def message_of(error, *arguments, **settings):
    """The message with which reading fails: one line."""
    with pytest.raises(error) as caught:
        read_sid_file(*arguments, **settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("path, style", NAMED_FORMATS)
def test_a_round_trip_finds_each_item_by_its_token(path, style):
    ids, tokens = random_ids()
    write_sid_file(ids, path, tokens, json_style=style)
    order = np.concatenate([[0], 1 + np.random.default_rng(1).permutation(len(tokens) - 1)])
    again = read_sid_file(path, tokens[order])
    np.testing.assert_array_equal(again.codes, ids.codes[order])
    assert again.codes.dtype == np.int32


def test_an_npz_keeps_the_order_of_item_ids():
    ids, tokens = random_ids()
    write_sid_file(ids, "ids.npz", tokens)
    again = read_sid_file("ids.npz", tokens)
    np.testing.assert_array_equal(again.codes, ids.codes)
    assert again.codebook_sizes == ids.codebook_sizes
    assert (again.collision, again.source) == ("digit", {"tokenizer": "by hand", "sid_file": "ids.npz"})


@pytest.mark.parametrize("path, style", NAMED_FORMATS)
def test_items_unknown_to_the_catalogue_are_left_out_and_counted(path, style, caplog):
    ids, tokens = random_ids(n_items=1301)
    write_sid_file(ids, path, tokens, json_style=style)
    with caplog.at_level(logging.WARNING):
        again = read_sid_file(path, tokens[:101])
    np.testing.assert_array_equal(again.codes, ids.codes[:101])
    (warning,) = [record.getMessage() for record in caplog.records]
    words = f"1,200 of 1,300 items of [{path}] are unknown to the dataset and left out: "
    assert warning == words + f"{tokens[101]}, {tokens[102]}, {tokens[103]}, ..."


@pytest.mark.parametrize("path, style", NAMED_FORMATS)
def test_no_warning_when_all_items_are_known(path, style, caplog):
    ids, tokens = random_ids()
    write_sid_file(ids, path, tokens, json_style=style)
    with caplog.at_level(logging.WARNING):
        read_sid_file(path, tokens)
    assert not caplog.records


@pytest.mark.parametrize("path, style", NAMED_FORMATS)
def test_items_of_the_catalogue_without_codes(path, style):
    ids, tokens = random_ids()
    write_sid_file(ids, path, tokens, json_style=style)
    longer = np.append(tokens, ["new 1", "new 2", "new 3", "new 4"])
    message = message_of(SettingError, path, longer)
    assert message.startswith(f"sid_file='{path}': has no codes for 4 of 203 items of the catalogue")
    assert message.endswith("for example new 1, new 2, new 3, ...")


@pytest.mark.parametrize("path, style", NAMED_FORMATS)
def test_a_file_of_another_dataset(path, style):
    ids, tokens = random_ids()
    write_sid_file(ids, path, tokens, json_style=style)
    message = message_of(SettingError, path, TOKENS)
    assert "looks like a file of another dataset" in message and "none of its 199 items" in message
    assert ", ".join(tokens[1:4]) in message and "3 of the catalogue (b, a, c)" in message


@pytest.mark.parametrize("path, style", [*NAMED_FORMATS, ("ids.npz", "numbers")])
def test_writing_replaces_a_file_and_leaves_nothing_else(path, style, tmp_path):
    for seed in (0, 1):
        ids, tokens = random_ids(seed=seed)
        write_sid_file(ids, path, tokens, json_style=style)
        np.testing.assert_array_equal(read_sid_file(path, tokens).codes, ids.codes)
    expected = {path, "ids.pt.items.txt"} if path == "ids.pt" else {path}
    assert {file.name for file in tmp_path.iterdir()} == expected


@pytest.mark.parametrize("path", ["ids.json", "ids.pt", "ids.npz"])
def test_others_may_read_what_is_written(path):
    before = os.umask(0o022)
    try:
        write_sid_file(small_ids(), path, TOKENS)
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o644


def test_nothing_is_left_where_writing_fails(tmp_path):
    os.mkdir("ids.json")
    for path in ("ids.json", "none/ids.json", "none/ids.pt", "none/ids.npz"):
        with pytest.raises(SettingError, match=f"sid_file='{path}': cannot be written"):
            write_sid_file(small_ids(), path, TOKENS)
    assert [file.name for file in tmp_path.iterdir()] == ["ids.json"]


@pytest.mark.parametrize(
    "style, expected",
    [
        ("numbers", {"b": [3, 1], "a": [5, 0], "c": [3, 1]}),
        ("tokens", {"b": ["<a_3>", "<b_1>"], "a": ["<a_5>", "<b_0>"], "c": ["<a_3>", "<b_1>"]}),
    ],
)
def test_the_json_that_is_written(style, expected):
    write_sid_file(small_ids(), "ids.json", TOKENS, json_style=style)
    with open("ids.json") as file:
        assert json.load(file) == expected


def test_the_tensor_that_is_written_is_as_grid_reads_it():
    write_sid_file(small_ids(), "ids.pt", TOKENS)
    tensor = torch.load("ids.pt", weights_only=True)
    assert tensor.dtype == torch.int64 and tensor.is_contiguous() and tensor.tolist() == [[3, 5, 3], [1, 0, 1]]
    with open("ids.pt.items.txt", "rb") as file:
        assert file.read() == b"b\na\nc\n"


def test_the_parquet_that_is_written():
    write_sid_file(small_ids(), "ids.parquet", TOKENS)
    table = pyarrow.parquet.read_table("ids.parquet")
    assert table.to_pydict() == {"item_id": ["b", "a", "c"], "level_0": [3, 5, 3], "level_1": [1, 0, 1]}
    assert [str(kind) for kind in table.schema.types] == ["string", "int32", "int32"]
    assert json.loads(table.schema.metadata[b"recbole_gr"]) == {
        "codebook_sizes": [8, 2],
        "collision": "none",
        "source": {"tokenizer": "by hand"},
    }


@pytest.mark.parametrize("style, path", [("numbers", "ids.json"), ("tokens", "ids.json"), ("numbers", "ids.pt")])
def test_json_and_tensor_say_where_they_come_from(style, path):
    write_sid_file(small_ids(), path, TOKENS, json_style=style)
    ids = read_sid_file(path, TOKENS)
    assert ids.collision == "as in the file" and ids.source == {"sid_file": path}
    assert ids.codebook_sizes == (6, 2)


def test_parquet_keeps_what_its_metadata_say():
    write_sid_file(small_ids(), "ids.parquet", TOKENS)
    ids = read_sid_file("ids.parquet", TOKENS)
    assert ids.collision == "none" and ids.source == {"tokenizer": "by hand", "sid_file": "ids.parquet"}
    assert ids.codebook_sizes == (8, 2)


def test_parquet_of_another_program():
    columns = {
        "title": ["A", "B", "C"],
        "level_1": pyarrow.array([0, 1, 1], pyarrow.uint8()),
        "level_count": [2, 2, 2],
        "level_0": pyarrow.array([5, 3, 3], pyarrow.int64()),
    }
    tokens = pyarrow.array(["a", "b", "c"])
    for kind in (tokens, tokens.cast(pyarrow.large_string()), tokens.dictionary_encode()):
        ids = read_sid_file(write_parquet({"item_id": kind, **columns}, {"pandas": "{}"}), TOKENS)
        assert ids.codes.tolist() == [[-1, -1], [3, 1], [5, 0], [3, 1]] and ids.codebook_sizes == (6, 2)
        assert ids.collision == "as in the file" and ids.source == {"sid_file": "ids.parquet"}


def test_a_json_file_is_read_in_item_order_and_may_hold_more():
    path = write_json({"a": [5, 0], "b": [3, 1], "c": [3, 1], "unknown": [9, 9]})
    ids = read_sid_file(path, TOKENS)
    assert ids.codes.tolist() == [[-1, -1], [3, 1], [5, 0], [3, 1]] and ids.codebook_sizes == (6, 2)
    assert ids.statistics()["unique_share"] == round(2 / 3, 6)


def test_a_json_file_as_minionerec_writes_it():
    path = write_json('{"0": ["<a_183>", "<b_70>", "<c_7>"], "1": ["<a_12>", "<b_0>", "<c_255>"]}')
    ids = read_sid_file(path, np.array(["[PAD]", "1", "0"]))
    assert ids.codes[1:].tolist() == [[12, 0, 255], [183, 70, 7]] and ids.codebook_sizes == (184, 71, 256)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16])
def test_a_tensor_as_grid_writes_it_follows_the_item_file(dtype):
    grid = torch.tensor([[5, 0], [3, 1], [4, 1]]).to(dtype).transpose(0, 1)
    ids = read_sid_file(write_pt(grid), TOKENS, item_file_tokens=np.array(["a", "c", "b"], dtype=object))
    assert ids.codes[1:].tolist() == [[4, 1], [5, 0], [3, 1]]


def test_of_several_rows_of_the_item_file_the_first_counts(caplog):
    path = write_pt(torch.tensor([[5, 6, 3, 7, 4]]))
    order = np.array(["a", "a", "b", "x", "c"], dtype=object)
    assert read_sid_file(path, TOKENS, item_file_tokens=order).codes[1:].tolist() == [[3], [5], [4]]
    assert "1 of 4 items of [ids.pt] are unknown to the dataset and left out: x" in caplog.text


@pytest.mark.parametrize("names", [b"c\nb\na\n", b"c\nb\na", b"c\r\nb\r\na\r\n"])
def test_the_text_file_beside_a_tensor_goes_before_the_item_file(names):
    path = write_pt(torch.tensor([[5, 3, 4]]), items=names)
    assert read_sid_file(path, TOKENS, item_file_tokens=TOKENS[1:]).codes[1:].tolist() == [[3], [4], [5]]


def test_tokens_of_any_letters_survive_the_text_file():
    tokens = np.array(["[PAD]", "two words", "\u2028", "ünïcode", "", "tab\tbed", "\x85"])
    ids = SemanticIDs(np.arange(-1, 6)[:, None], (6,), "none")
    write_sid_file(ids, "ids.pt", tokens)
    assert read_sid_file("ids.pt", tokens).codes.tolist() == ids.codes.tolist()


def test_a_tensor_without_any_item_tokens():
    message = message_of(SettingError, write_pt(torch.tensor([[0, 1, 2]])), TOKENS)
    assert "has no item tokens" in message and "ids.pt.items.txt" in message and ".item file" in message


@pytest.mark.parametrize("items, order", [(None, "the .item file"), (b"a\nb\nc\n", "ids.pt.items.txt")])
def test_a_tensor_whose_columns_are_not_the_items(items, order):
    codes = torch.zeros(4, 2, dtype=torch.int64)
    message = message_of(SettingError, write_pt(codes.T, items), TOKENS, item_file_tokens=TOKENS[1:])
    assert f"has 4 columns, but {order} has 3 items" in message and "transposed" not in message
    message = message_of(SettingError, write_pt(codes[:3], items), TOKENS, item_file_tokens=TOKENS[1:])
    assert f"has 2 columns, but {order} has 3 items" in message and "must be transposed" in message


class Trap:
    """Loaded with pickle, it makes a file."""

    def __reduce__(self):
        return open, ("sprung", "w")


@pytest.mark.parametrize(
    "content, words",
    [
        (torch.zeros(2, 3), "whole numbers [levels, items], not torch.float32 [2, 3]"),
        (torch.zeros(2, 3, dtype=torch.bool), "not torch.bool"),
        (torch.zeros(3, dtype=torch.int64), "[levels, items], not torch.int64 [3]"),
        ({"codes": torch.zeros(2, 3)}, "must hold one tensor [levels, items], not dict"),
        (torch.zeros(0, 3, dtype=torch.int64), "is empty"),
        (torch.zeros(2, 3, dtype=torch.int64).to_sparse(), "cannot be read"),
        (torch.tensor([[0, -7, 0]]), "item a has code -7 at level 0"),
        (Trap(), "cannot be read"),
    ],
)
def test_tensors_that_cannot_work(content, words):
    message = message_of(DataError, write_pt(content), TOKENS, item_file_tokens=TOKENS[1:])
    assert message.startswith("ids.pt: ") and words in message
    assert not os.path.exists("sprung")


@pytest.mark.parametrize("items, words", [(b"a\nb\na\n", "item a occurs more than once"), (b"\xff\nb\na", "UTF-8")])
def test_item_names_that_cannot_work(items, words):
    message = message_of(DataError, write_pt(torch.tensor([[0, 1, 2]]), items), TOKENS)
    assert message.startswith("ids.pt.items.txt: ") and words in message


@pytest.mark.parametrize(
    "content, error, words",
    [
        ({"a": [1, 2], "b": [1, 2]}, SettingError, "1 of 3 items of the catalogue, for example c"),
        ({"a": [1, 2], "b": [1, 2], "c": [1]}, DataError, "all of one length, but a has [1, 2] and c has [1]"),
        ({"a": [1.5], "b": [1], "c": [2]}, DataError, "item a has code 1.5 at level 0, but the codes must be whole"),
        ({"a": [1, 1], "b": [1, None], "c": [2, 2]}, DataError, "item b has code None at level 1"),
        ({"a": [[1]], "b": [[1]], "c": [[2]]}, DataError, "whole numbers"),
        ({"a": [True], "b": [False], "c": [True]}, DataError, "whole numbers"),
        ({"a": [1, 1], "b": [1, 0], "c": [1, True]}, DataError, "item c has code True at level 1"),
        ({"a": [], "b": [], "c": []}, DataError, "is empty"),
        ({"a": "12", "b": "12", "c": "12"}, DataError, "must have a list of codes"),
        ({"a": 5, "b": 1, "c": 2}, DataError, "must have a list of codes"),
        ({"a": {"0": 1}, "b": [1], "c": [2]}, DataError, "must have a list of codes"),
        ({"a": [2**24], "b": [1], "c": [2]}, DataError, "too large: level 0 has 16777217 codes"),
        ({"a": [1], "b": [1], "c": [10**30]}, DataError, "item c has code 1" + "0" * 30 + " at level 0, which is too"),
        ({"a": [1], "b": [1], "c": [2**63 - 1]}, DataError, "too large: level 0 has 9223372036854775808 codes"),
        ({"a": [-1], "b": [1], "c": [2]}, DataError, "item a has code -1 at level 0"),
        ({"a": ["x"], "b": ["<a_1>"], "c": ["<a_1>"]}, DataError, "item a has code 'x' at level 0, but it must be"),
        ({"a": ["12"], "b": ["5"], "c": ["7"]}, DataError, "item a has code '12' at level 0"),
        ({"a": ["<b_1>"], "b": ["<b_1>"]}, DataError, "it must be like <a_183>, or all codes whole numbers"),
        ({"a": ["<a_1>", "<b_1>"], "b": ["<a_1>", "<c_1>"]}, DataError, "item b has code '<c_1>' at level 1"),
        ({"a": ["<a_-1>"], "b": ["<a_1>"], "c": ["<a_1>"]}, DataError, "item a has code '<a_-1>'"),
        ({"a": ["<a_1>\n"], "b": ["<a_1>"], "c": ["<a_1>"]}, DataError, "item a has code '<a_1>\\n'"),
        ({"a": ["<a_٣>"], "b": ["<a_1>"], "c": ["<a_1>"]}, DataError, "item a has code '<a_٣>'"),
        ({"a": ["<a_1>"], "b": [1], "c": ["<a_1>"]}, DataError, "item b has code 1 at level 0"),
        ({"a": [1], "b": ["<a_1>"], "c": [1]}, DataError, "item b has code '<a_1>' at level 0"),
        ({"a": ["<a_1>"] * 27, "b": ["<a_1>"] * 27}, DataError, "items have 27 codes"),
        ('{"a": [1], "b": [1], "a": [2], "c": [1]}', DataError, "item a occurs more than once"),
        ({}, DataError, "json object"),
        ([1, 2], DataError, "json object"),
        ([], DataError, "json object"),
        ("{", DataError, "not valid json"),
        ("[" * 100_000, DataError, "not valid json"),
    ],
)
def test_json_files_that_cannot_work(content, error, words):
    message = message_of(error, write_json(content), TOKENS)
    assert "ids.json" in message and words in message


def test_a_json_file_that_is_not_utf_8():
    with open("ids.json", "wb") as file:
        file.write('{"ü": [1]}'.encode("latin-1"))
    assert "not valid json" in message_of(DataError, "ids.json", TOKENS)


@pytest.mark.parametrize(
    "columns, words",
    [
        ({"item_id": ["a", "b", "b"], "level_0": [1, 1, 1]}, "item b occurs more than once"),
        ({"item": ["a", "b", "c"], "level_0": [1, 1, 1]}, "item_id, level_0, level_1, ..., has item, level_0"),
        ({"item_id": ["a", "b", "c"]}, "has item_id"),
        ({"item_id": ["a", "b", "c"], "level_1": [1, 1, 1]}, "has item_id, level_1"),
        ({"item_id": ["a", "b", "c"], "level_0": [1, 1, 1], "level_2": [1, 1, 1]}, "has item_id, level_0, level_2"),
        ({"item_id": ["a", "b", "c"], "level_0": [1.0, 2.0, 3.0]}, "level_0 must hold whole numbers, not double"),
        ({"item_id": ["a", "b", "c"], "level_0": [True, False, True]}, "level_0 must hold whole numbers, not bool"),
        ({"item_id": [1, 2, 3], "level_0": [1, 1, 1]}, "item_id must hold strings, not int64"),
        ({"item_id": ["a", "b", "c"], "level_0": [1, None, 1]}, "level_0 has 1 empty cells"),
        ({"item_id": ["a", None, None], "level_0": [1, 1, 1]}, "item_id has 2 empty cells"),
        ({"item_id": ["a", "b", "c"], "level_0": [1, -2, 1]}, "item b has code -2 at level 0"),
        ({"item_id": ["a", "b", "c"], "level_0": np.array([2**63, 1, 1], dtype=np.uint64)}, "cannot be read"),
        ({"item_id": np.array([], dtype=str), "level_0": np.array([], dtype=int)}, "is empty"),
    ],
)
def test_parquet_files_that_cannot_work(columns, words):
    message = message_of(DataError, write_parquet(columns), TOKENS)
    assert message.startswith("ids.parquet: ") and words in message


GOOD_METADATA = {"codebook_sizes": [8], "collision": "none", "source": {}}


@pytest.mark.parametrize(
    "metadata, words",
    [
        ("{", "cannot be read"),
        ("[]", "cannot be read"),
        ({"codebook_sizes": [8], "source": {}}, "collision"),
        ({**GOOD_METADATA, "codebook_sizes": 8}, "codebook_sizes (list of whole numbers"),
        ({**GOOD_METADATA, "collision": 1}, "collision (string)"),
        ({**GOOD_METADATA, "source": "here"}, "source (object)"),
        ({**GOOD_METADATA, "codebook_sizes": [8, 8]}, "items have 1 codes, but there are 2 codebook sizes"),
        ({**GOOD_METADATA, "codebook_sizes": [3]}, "item c has code 3 at level 0, allowed is 0 to 2"),
        ({**GOOD_METADATA, "codebook_sizes": [2**24 + 1]}, "too large: level 0 has 16777217 codes"),
    ],
)
def test_parquet_metadata_that_cannot_work(metadata, words):
    written = metadata if isinstance(metadata, str) else json.dumps(metadata)
    path = write_parquet({"item_id": ["a", "b", "c"], "level_0": [1, 2, 3]}, {"recbole_gr": written})
    message = message_of(DataError, path, TOKENS)
    assert message.startswith("ids.parquet: ") and words in message


@pytest.mark.parametrize("path", ["ids.pt", "ids.parquet", "ids.npz"])
@pytest.mark.parametrize("content", [b"", b"noise", b"PK\x03\x04" + b"\0" * 50])
def test_files_of_noise(path, content):
    with open(path, "wb") as file:
        file.write(content)
    assert message_of(DataError, path, TOKENS, item_file_tokens=TOKENS[1:]).startswith(f"{path}: ")


def test_an_npz_file_must_have_the_catalogues_size():
    SemanticIDs(np.array([[-1], [0], [1], [2]]), (3,), "none").save("ids.npz")
    assert read_sid_file("ids.npz", TOKENS).codes[1:, 0].tolist() == [0, 1, 2]
    with pytest.raises(SettingError, match="holds 3 items, but the catalogue has 2"):
        read_sid_file("ids.npz", TOKENS[:3])


@pytest.mark.parametrize("path", ["ids.json", "ids.parquet", "ids.pt", "ids.npz"])
def test_codebook_sizes_as_set(path):
    write_sid_file(small_ids(), path, TOKENS)
    assert read_sid_file(path, TOKENS, codebook_sizes=16).codebook_sizes == (16, 16)
    assert read_sid_file(path, TOKENS, codebook_sizes=[6, 4]).codebook_sizes == (6, 4)
    for sizes, words in (
        (5, "item a has code 5 at level 0, allowed is 0 to 4"),
        ([8, 1], "item b has code 1 at level 1, allowed is 0 to 0"),
        ([8], "items have 2 codes, but there are 1 codebook sizes"),
        ([8, 2, 2], "items have 2 codes, but there are 3 codebook sizes"),
        ([8, MAX_VOCABULARY - 7], "too large: level 1 has 16777209 codes, and all levels together may have 16777216"),
    ):
        message = message_of(SettingError, path, TOKENS, codebook_sizes=sizes)
        assert message.startswith(f"sid_codebook_sizes={sizes}: in {path} ") and words in message
    assert read_sid_file(path, TOKENS, codebook_sizes=(8, MAX_VOCABULARY - 8)).codebook_sizes == (8, MAX_VOCABULARY - 8)


@pytest.mark.parametrize("sizes", [0, -1, True, 8.0, "8", [], [8, 0], [8, True], [8, "8"], {8: 2}])
def test_codebook_sizes_that_are_none(sizes):
    message = message_of(SettingError, write_json({"a": [1, 1]}), TOKENS, codebook_sizes=sizes)
    assert message.startswith(f"sid_codebook_sizes={sizes!r}: must be a whole number of at least 1, or a list")


def test_files_that_are_not_there():
    for path in ("ids.json", "ids.npz", "ids.pt", "ids.parquet"):
        with pytest.raises(SettingError, match="no such file"):
            read_sid_file(path, TOKENS)


@pytest.mark.parametrize("path", ["ids.txt", "ids", "ids.json.gz", "ids.JSON"])
def test_other_endings(path):
    for use in (lambda: read_sid_file(path, TOKENS), lambda: write_sid_file(small_ids(), path, TOKENS)):
        with pytest.raises(SettingError, match=f"sid_file='{path}': must end in .json, .parquet, .pt or .npz"):
            use()


def test_parquet_without_pyarrow(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # what Python itself takes for "cannot be imported"
    with pytest.raises(SettingError, match="sid_file='ids.parquet': needs pyarrow .*: pip install pyarrow$"):
        write_sid_file(small_ids(), "ids.parquet", TOKENS)
    assert not list(tmp_path.iterdir())
    (tmp_path / "ids.parquet").write_bytes(b"")
    assert message_of(SettingError, "ids.parquet", TOKENS).endswith("pip install pyarrow")


def test_what_cannot_be_written(tmp_path):
    many = SemanticIDs(np.array([[-1] * 27, [0] * 27]), [1] * 27, "none")
    for ids, path, tokens, style, error, words in (
        (small_ids(), "ids.json", TOKENS, "letters", SettingError, "sid_format='letters': must be one of numbers"),
        (many, "ids.json", TOKENS[:2], "tokens", SettingError, "sid_format='tokens': has a letter for each of 26"),
        (small_ids(), "ids.pt", TOKENS, "tokens", SettingError, "sid_format='tokens': is for .json files only"),
        (small_ids(), "ids.json", TOKENS[:3], "numbers", DataError, "there are 3 semantic IDs, but 2 item tokens"),
        (small_ids(), "ids.npz", TOKENS[:3], "numbers", DataError, "there are 3 semantic IDs, but 2 item tokens"),
        (small_ids(), "ids.pt", ["", "b", "a\nc", "d"], "numbers", DataError, "item 'a\\nc' has a line break"),
    ):
        with pytest.raises(RecBoleGRError) as caught:
            write_sid_file(ids, path, tokens, json_style=style)
        assert type(caught.value) is error and words in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_twenty_six_levels_have_letters():
    ids = SemanticIDs(np.array([[-1] * 26, list(range(26))]), [26] * 26, "none")
    write_sid_file(ids, "ids.json", TOKENS[:2], json_style="tokens")
    with open("ids.json") as file:
        assert json.load(file)["b"][-1] == "<z_25>"
    assert read_sid_file("ids.json", TOKENS[:2]).codes[1].tolist() == list(range(26))
