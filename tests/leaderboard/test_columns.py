"""The registry of columns: a column entered in one place is in all outputs."""

import csv
import io

import pytest
from support.board_files import make_board, make_row, write_all, write_cell

from recbole_gr.leaderboard import columns
from recbole_gr.leaderboard.columns import OUTPUTS, Column, columns_of, register
from recbole_gr.leaderboard.render.csv import as_csv
from recbole_gr.leaderboard.render.html import as_html
from recbole_gr.leaderboard.render.latex import as_latex
from recbole_gr.leaderboard.render.markdown import as_markdown
from recbole_gr.leaderboard.summarise import summarise

WRITERS = {"markdown": as_markdown, "csv": as_csv, "latex": as_latex, "html": as_html}


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """Columns that a test enters are gone after it."""
    monkeypatch.setattr(columns, "RECORDED", dict(columns.RECORDED))


@pytest.fixture
def outputs(tmp_path):
    """Writes a board of two rows in all outputs, from records on disk."""

    def write():
        board = make_board([make_row("Pop", "Pop"), make_row("TIGER", "TIGER")])
        (tmp_path / "cells").mkdir()
        write_all(tmp_path / "cells", board)
        summary = summarise(board, str(tmp_path / "cells"))
        return {output: writer(summary) for output, writer in WRITERS.items()}

    return write


def last_loss(record):
    return record["learning_curve"][-1]["train_loss"] + record["seed"]


def test_a_column_is_added_in_one_place(outputs):
    register(Column("last_loss", "last loss", from_record=last_loss, digits=3))
    written = outputs()
    lines = list(csv.DictReader(io.StringIO(written["csv"])))
    assert [float(line["last_loss"]) for line in lines] == [10.5, 10.5]  # 9 + 1 and 9 + 2
    for output in ("markdown", "latex", "html"):
        assert written[output].count("last loss") == 1 and written[output].count("10.500") == 2
    assert 'data-key="last_loss"' in written["html"] and 'data-group="cost">10.500</td>' in written["html"]
    cost = written["markdown"].split("## Cost\n\n")[1].split("\n\n")[0].splitlines()
    assert [line.split("|")[-2].strip() for line in (cost[0], *cost[2:])] == ["last loss", "10.500", "10.500"]


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_column_of_some_outputs(outputs, output):
    register(Column("last_loss", "last loss", from_record=last_loss, digits=3, outputs=[output]))
    written = outputs()
    title = {"csv": "last_loss"}.get(output, "last loss")
    assert [name for name in OUTPUTS if title in written[name].partition('<script type="application/json"')[0]] == [output]


@pytest.mark.parametrize("group, heading", [("accuracy", "Accuracy"), ("lists", "Beyond accuracy")])
def test_a_column_of_another_group(outputs, group, heading):
    register(Column("last_loss", "last loss", group=group, from_record=last_loss, digits=1, smaller_is_better=True))
    written = outputs()
    assert "last loss" in written["markdown"].split(f"## {heading}\n")[1].split("\n## ")[0]
    assert f'data-group="{group}">10.5</td>' in written["html"] and "last loss</button> <small" in written["html"]
    assert r"last loss $\downarrow$" in written["latex"] and "10.5" in written["latex"]
    assert list(csv.DictReader(io.StringIO(written["csv"])))[0]["last_loss"] == "10.5"


def test_a_column_that_no_record_has(outputs):
    register(Column("absent", "absent column", from_record=lambda record: record.get("absent")))
    register(Column("hidden", "hidden column", from_record=lambda record: None, only_where_recorded=True))
    written = outputs()
    assert all("absent" in text and "hidden column" not in text for text in written.values())


def test_cpu_minutes(tmp_path):
    """By hand: what the cache had counts as if it were made; what is not known is a dash."""
    stages = {
        "training": {"seconds": 100.0, "cpu_seconds": 60.0, "times": 2},
        "test": {"seconds": 10.0, "cpu_seconds": 9.0, "times": 1},
        "whole": {"seconds": 130.0, "cpu_seconds": 90.0, "reused_cpu_seconds": 30.0, "times": 1},
    }
    untimed = {**stages, "whole": {**stages["whole"], "reused_untimed": 1}}
    board = make_board([make_row(name, "TIGER", seeds=(1,)) for name in ("known", "untimed", "old")])
    files = write_all(tmp_path, board)
    for cell, changed in zip(board.cells(), (stages, untimed), strict=False):
        write_cell(tmp_path, cell, files[0, cell.seed], stages=changed)
    summary = summarise(board, str(tmp_path))
    titles = {column.title: column for column in columns_of(summary, "markdown") if column.title.startswith("CPU min")}
    assert {title: [column.text(row) for row in summary.rows] for title, column in titles.items()} == {
        "CPU min (training)": ["1.0", "1.0", "-"],
        "CPU min (test)": ["0.1", "0.1", "-"],
        "CPU min (all)": ["2.0", "-", "-"],
    }
    cost = as_markdown(summary).split("## Cost\n\n")[1]
    assert [line.split("|")[6].strip() for line in cost.splitlines()[2:5]] == ["2.0", "-", "-"]


def test_columns_that_cannot_be_entered():
    with pytest.raises(ValueError, match="is there already"):
        register(Column("parameters", "parameters", from_record=last_loss))
    for wrong in ({}, {"from_record": last_loss, "group": "price"}, {"from_record": last_loss, "outputs": ["pdf"]}):
        with pytest.raises(ValueError, match="column x: needs from_record"):
            register(Column("x", "x", **wrong))


def test_all_outputs_read_the_registry(tmp_path):
    """Each output shows the titles, or in csv the keys, of the columns that the registry has for it."""
    board = make_board([make_row("TIGER", "TIGER")])
    write_all(tmp_path, board)
    summary = summarise(board, str(tmp_path))
    for output, writer in WRITERS.items():
        text = writer(summary)
        for column in columns_of(summary, output):
            assert (column.key if output == "csv" else column.title) in text
