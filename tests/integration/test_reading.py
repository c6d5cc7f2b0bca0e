"""RecBole's reader on files as people have them: headers, quotation marks, rows of another length, lists of numbers."""

from pathlib import Path

import pytest
from recbole.data import create_dataset
from support.cases import case_config

from recbole_gr.utils.errors import RecBoleGRError
from recbole_gr.utils.table_files import read_header, scan

ROWS = "".join(f"u{n % 4}\ti{n % 5}\t{n}\n" for n in range(20))
HEADER = "user_id:token\titem_id:token\ttimestamp:float\n"


def dataset_of(inter, item=None, model="BPR", **settings):
    folder = Path("data/made")
    folder.mkdir(parents=True)
    (folder / "made.inter").write_bytes(inter.encode())
    if item is not None:
        (folder / "made.item").write_bytes(item.encode())
    return create_dataset(case_config(model, "made", "data", load_col=None, **settings))


@pytest.mark.parametrize(
    "header, words",
    [
        ("user_id\titem_id\ttimestamp", r"has a column 'user_id' without a type in its first line \(name:type\)"),
        ("user_id:token\titem_id:token\ttimestamp:float ", "has blanks around the column 'timestamp:float '"),
        ("user_id:token \titem_id:token\ttimestamp:float", "has blanks around the column 'user_id:token '"),
        ('"user_id:token"\t"item_id:token"\t"timestamp:float"', 'has quotation marks around the column "user_id:token"'),
        (
            "user_id:token\titem_id:token\ttimestamp:int",
            "has a column 'timestamp:int' in its first line; a type is one of token,",
        ),
        ("user_id:token\titem_id:token\titem_id:token", "has two columns 'item_id' in its first line"),
        ("", "is empty in its first line"),
        (
            "user_id:token,item_id:token,timestamp:float",
            "has a column 'user_id:token,item_id:token,timestamp:float' in its first",
        ),
    ],
)
@pytest.mark.parametrize("file", ["inter", "item"])
def test_a_header_that_is_none_is_one_line(header, words, file):
    with pytest.raises(RecBoleGRError, match=words) as error:
        if file == "inter":
            dataset_of(f"{header}\n{ROWS}")
        else:
            dataset_of(HEADER + ROWS, f"{header}\ni1\ta\tb\n")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_all_ends_of_lines_are_read(end):
    dataset = dataset_of((HEADER + ROWS).replace("\n", end))
    assert (len(dataset.inter_feat), dataset.user_num, dataset.item_num) == (20, 5, 6)


def test_a_quotation_mark_that_would_swallow_rows_is_one_line():
    item = 'item_id:token\ttitle:token\ni0\t"a\ni1\tb\ni2\tc"\ni3\td\n'
    with pytest.raises(
        RecBoleGRError, match="has 4 rows, of which RecBole's reader makes 2: a cell that begins with a double"
    ):
        dataset_of(HEADER + ROWS, item)


def test_quotation_marks_around_a_cell_are_no_text_and_within_one_they_are():
    item = 'item_id:token\ttitle:token\n"i0"\t"A side"\ni1\tthe "B"\ni2\tc\ni3\td\ni4\te\n'
    dataset = dataset_of(HEADER + ROWS, item)
    assert dataset.item_num == 6 and {"A side", 'the "B"'} <= set(dataset.field2id_token["title"])


def test_a_quotation_mark_that_ends_within_a_cell_is_one_line():
    item = 'item_id:token\ttitle:token\ni0\t"A" side\n'
    with pytest.raises(
        RecBoleGRError, match="expected after .*; a cell that begins with a double quotation mark is read as"
    ):
        dataset_of(HEADER + ROWS, item)


def test_a_row_with_more_cells_is_one_line_and_no_shift_of_columns():
    with pytest.raises(
        RecBoleGRError, match="has 1 rows with more cells than its header, the first in line 2: a cell holds"
    ):
        dataset_of(HEADER + "u9\ti9\t5\tmore\n" + ROWS)


def test_a_trailing_separator_changes_nothing():
    dataset = dataset_of(HEADER + ROWS.replace("\n", "\t\n"))
    assert dataset.field2id_token["user_id"].tolist() == ["[PAD]", "u0", "u1", "u2", "u3"]


def test_a_list_of_numbers_that_holds_text_is_one_line():
    with pytest.raises(RecBoleGRError, match=r"made.item\] cannot be read: could not convert string to float: 'x'"):
        dataset_of(HEADER + ROWS, "item_id:token\tsizes:float_seq\ni0\t1 2\ni1\tx\n")


def test_what_a_file_holds_is_found_across_blocks(monkeypatch, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b'a\tb\r\n"c"\rx\td\r\n')
    whole = scan(str(path), "\t")
    assert (whole.lone_returns, whole.quoted_cells, whole.has_lines) == (1, True, True)
    for size in range(1, 9):
        monkeypatch.setattr("recbole_gr.utils.table_files._BLOCK", size)
        assert scan(str(path), "\t") == whole
    path.write_bytes(b"a\rb\r")
    assert scan(str(path), "\t").lone_returns == 0


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    path = tmp_path / "file"
    path.write_bytes("user_id:token\titem_id:token\n".encode("utf-8-sig"))
    assert read_header(str(path), "\t", None) == {"user_id": "token", "item_id": "token"}
