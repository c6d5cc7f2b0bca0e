"""Boards: what a yaml file asks for, cell by cell, and what it may not ask for."""

import datetime
import json
from pathlib import Path

import pytest
import yaml

from recbole_gr.leaderboard.arguments import as_argument
from recbole_gr.leaderboard.board_file import board_names, find_board, read_board
from recbole_gr.settings.values import parse_text
from recbole_gr.utils.errors import RecBoleGRError

ASKED = {
    "dataset": "small",
    "seeds": [1, 2],
    "topk": [5, 10],
    "protocol": {"mask_seen": False},
    "rows": [
        {"name": "popular", "model": "Pop", "seeds": [1]},
        {"model": "SASRec", "settings": {"epochs": 3, "mask_seen": True}},
        {"name": "TIGER (RK-Means)", "model": "TIGER", "settings": {"tokenizer": "rkmeans"}},
    ],
}


@pytest.fixture
def board(tmp_path):
    """Writes a board with some keys changed, and reads it."""

    def read(given=None, **changed):
        (tmp_path / "shelf.yaml").write_text(yaml.safe_dump({**ASKED, **changed}))
        return read_board("shelf.yaml", given)

    return read


def test_cells_and_their_settings(board):
    cells = board().cells()
    assert [(cell.row.name, cell.seed) for cell in cells] == [
        *[("popular", 1), ("SASRec", 1), ("SASRec", 2), ("TIGER (RK-Means)", 1), ("TIGER (RK-Means)", 2)]
    ]
    metrics = ["Recall", "NDCG", "MRR", "Hit", "ItemCoverage", "GiniIndex", "AveragePopularity", "TailPercentage"]
    shared = {"metrics": metrics, "topk": [5, 10], "valid_metric": "ndcg@10"}
    assert cells[2].settings == {"mask_seen": True, "epochs": 3, **shared, "seed": 2}  # a row's setting wins
    assert cells[0].settings == {"mask_seen": False, **shared, "seed": 1}
    assert {cell.settings["epochs"] for cell in board({"epochs": 9}).cells()} == {9}  # the command line wins over all
    assert [row.baseline for row in board().rows] == [True, True, False]
    assert board().name == "shelf" and board().command == "recbole-gr leaderboard shelf.yaml"


def test_keys_name_what_shapes_the_result(board):
    keys = [cell.key for cell in board().cells()]
    assert len(set(keys)) == 5 and keys[3].startswith("TIGER-RK-Means-seed1-")
    assert [cell.key for cell in board({"data_path": "elsewhere", "gpu_id": "3"}).cells()] == keys
    other = [cell.key for cell in board({"train_batch_size": 7}).cells()]
    assert not set(keys) & set(other)
    only_one = [*ASKED["rows"][:2], {**ASKED["rows"][2], "settings": {"tokenizer": "rqvae"}}]
    assert [a == b for a, b in zip(keys, (cell.key for cell in board(rows=only_one).cells()))] == [True] * 3 + [False] * 2
    reordered = {"settings": {"mask_seen": True, "epochs": 3}}
    rows = [ASKED["rows"][0], {**ASKED["rows"][1], **reordered}, ASKED["rows"][2]]
    assert [cell.key for cell in board(rows=rows).cells()] == keys


def test_side_by_side(board):
    both = board(side_by_side=[{"tie_order": "file"}, {"tie_order": "shuffled"}])
    assert [(row.name, row.variant["tie_order"]) for row in both.rows] == [
        (name, order) for order in ("file", "shuffled") for name in ("popular", "SASRec", "TIGER (RK-Means)")
    ]
    assert both.cells()[-1].settings["tie_order"] == "shuffled"
    assert "shuffled" in both.cells()[-1].key


def test_the_command_of_a_cell_is_read_back_by_recbole(board, small_part, monkeypatch):
    """RecBole's Config gets the very settings of the cell from its printed command."""
    import shlex

    from recbole_gr.cli import parse
    from recbole_gr.integration.config import make_config

    cell = board({"data_path": small_part[1]}).cells()[2]
    recbole_gr, run, *arguments = shlex.split(cell.command)
    assert (recbole_gr, run) == ("recbole-gr", "run")
    given = parse(arguments)
    monkeypatch.setattr("sys.argv", ["recbole-gr", *arguments])
    config = make_config(given["model"], given["dataset"], None, {"data_path": small_part[1]})
    assert {key: config[key] for key in cell.settings if key != "data_path"} == {
        key: value for key, value in cell.settings.items() if key != "data_path"
    }


@pytest.mark.parametrize(
    "value",
    [
        *(
            "text",
            "10",
            "1e-3",
            "None",
            "True",
            "true",
            "a=b",
            "it's",
            "{title}, {brand}",
            "1+1",
            "-x",
            "",
            "path/to file.yaml",
        ),
        *(
            10,
            1e-3,
            -1.5,
            True,
            None,
            [5, 10],
            ["it's", "a, b"],
            {"LS": "valid_and_test"},
            {"a": [1, {"b": None}], "c": "x = y"},
        ),
    ],
)
def test_arguments_are_read_back_by_recbole(value, monkeypatch):
    """RecBole's own reading of its command line is the referee."""
    from recbole.config import Config

    monkeypatch.setattr("sys.argv", ["recbole-gr", f"--key={as_argument(value)}"])
    read = Config._load_cmd_line(object.__new__(Config))["key"]
    assert read == value and type(read) is type(value)
    assert parse_text(as_argument(value)) == value


def test_another_first_seed_is_another_search(board):
    rows = [{"model": "BPR", "search": {"choice": {"reg_weight": [0, 1]}}}]
    keys = {cell.seed: cell.key for cell in board(rows=rows, seeds=[1, 2]).cells()}
    assert {cell.seed: cell.key for cell in board(rows=rows, seeds=[1, 2, 3]).cells()}.items() > keys.items()
    assert not keys.items() & {cell.seed: cell.key for cell in board(rows=rows, seeds=[2, 1]).cells()}.items()


def test_config_files_of_the_board_and_of_a_row(board, tmp_path):
    (tmp_path / "all.yaml").write_text("epochs: 4\nlearning_rate: 1e-3\n")
    (tmp_path / "one.yaml").write_text("epochs: 5\n")
    rows = [{"model": "Pop"}, {"model": "BPR", "config_files": ["one.yaml"]}]
    first, second = board(config_files=["all.yaml"], rows=rows, seeds=[0]).cells()
    assert first.settings["epochs"] == 4 and first.settings["learning_rate"] == 0.001
    assert second.settings["epochs"] == 5 and second.settings["learning_rate"] == 0.001


def test_of_a_config_file_for_runs_the_boards_own_keys_hold(board, tmp_path):
    (tmp_path / "one.yaml").write_text("epochs: 5\nvalid_metric: Recall@5\nseed: 7\ntopk: [1]\n")
    (cell,) = board(rows=[{"model": "BPR", "config_files": ["one.yaml"]}], seeds=[3]).cells()
    assert cell.row.settings == {"epochs": 5}
    assert (cell.settings["valid_metric"], cell.settings["seed"], cell.settings["topk"]) == ("ndcg@10", 3, [5, 10])


@pytest.mark.parametrize(
    "text, words", [("a: [", "is not yaml"), ("- a", "must hold keys"), ("record_dir: x", "every cell has its own")]
)
def test_config_files_that_cannot_be_used(board, tmp_path, text, words):
    (tmp_path / "bad.yaml").write_text(text)
    with pytest.raises(RecBoleGRError, match=words) as caught:
        board(rows=[{"model": "BPR", "config_files": ["bad.yaml"]}])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "key, value", [("seed", 7), ("topk", [3]), ("config_files", "x.yaml"), ("nproc", 2), ("tie_order", "file")]
)
def test_what_the_command_line_may_not_set(board, key, value):
    with pytest.raises(RecBoleGRError, match=f"{key}=.*command line"):
        board({key: value}, side_by_side=[{"tie_order": "file"}, {"tie_order": "shuffled"}])


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"rows": []}, ["rows=[]", "must be set in shelf.yaml"]),
        ({"dataset": 5}, ["dataset=5", "must be text"]),
        ({"colour": "red"}, ["colour='red'", "no such key", "side_by_side"]),
        ({"seeds": ["one"]}, ["seeds=['one']", "whole numbers"]),
        ({"seeds": [1, 2, 1]}, ["seeds=[1, 2, 1]", "twice"]),
        ({"topk": [0, 10]}, ["topk=[0, 10]", "at least 1"]),
        ({"metrics": ["NDCG", "NDCG"]}, ["metrics=", "twice"]),
        ({"side_by_side": ["tie_order"]}, ["side_by_side='tie_order'", "settings and their values"]),
        ({"protocol": {"seed": 3}}, ["seed=3", "key seeds", "protocol of shelf.yaml"]),
        ({"protocol": {"since": datetime.date(2020, 1, 1)}}, ["since=datetime.date", "must be text"]),
        ({"rows": [{"model": "BPR", "settings": {"checkpoint_dir": "x"}}]}, ["checkpoint_dir='x'", "every cell", "row 1"]),
        ({"rows": [{"model": "BPR", "search": {"choice": {"seed": [1]}}}]}, ["seed=[1]", "cannot be searched", "row 1"]),
        ({"metrics": ["NDCG", "Recal"]}, ["metrics='Recal'", "Recall, NDCG", "ShannonEntropy"]),
        ({"main_metric": "NDCG@20"}, ["main_metric='ndcg@20'", "ndcg@10"]),
        ({"main_metric": "GiniIndex@10"}, ["main_metric='giniindex@10'", "recall@5"]),
        ({"rows": [{"model": "Pop"}, {"model": "Pop"}]}, ["name='Pop'", "row 2", "another row"]),
        ({"rows": ["Pop"]}, ["rows='Pop'", "row 1"]),
        ({"rows": [{"name": "x"}]}, ["model=None", "row 1 of shelf.yaml"]),
        ({"rows": [{"model": "Pop", "setting": {}}]}, ["setting={}", "row 1", "settings"]),
        ({"config_files": ["none.yaml"]}, ["config_files='none.yaml'", "no such file"]),
        ({"rows": [{"model": "BPR", "search": {"chose": {}}}]}, ["search=", "row 1", "choice, uniform"]),
        ({"rows": [{"model": "BPR", "search": {"uniform": {"reg_weight": [1]}}}]}, ["reg_weight=[1]", "2 numbers"]),
        (
            {"rows": [{"model": "BPR", "search": {"uniform": {"reg_weight": ["a", "b"]}}}]},
            ["reg_weight=['a', 'b']", "2 numbers"],
        ),
        (
            {"rows": [{"model": "BPR", "search": {"uniform": {"reg_weight": [2, 1]}}}]},
            ["reg_weight=[2, 1]", "lower bound first"],
        ),
        ({"rows": [{"model": "BPR", "search": {"choice": {"reg_weight": 1}}}]}, ["reg_weight=1", "a list of values"]),
        ({"search": {"trials": 0}, "rows": [{"model": "BPR", "search": {}}]}, ["trials=0", "at least 1"]),
        ({"search": {"algorithm": "grid"}, "rows": [{"model": "BPR", "search": {}}]}, ["algorithm='grid'", "random, bayes"]),
    ],
)
def test_what_a_board_may_not_ask(board, changed, words):
    with pytest.raises(RecBoleGRError) as caught:
        board(**changed)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_files_that_are_no_boards(tmp_path):
    for text, words in (
        (None, "no such file"),
        ("- Pop", "must hold keys"),
        ("rows: [", "is not yaml"),
        ("a: !!python/name:os.system", "yaml"),
    ):
        if text is not None:
            (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(RecBoleGRError, match=words) as caught:
            read_board("bad.yaml")
        assert "\n" not in str(caught.value)


def test_all_faults_at_once(board):
    """One line each, with the place in the file; a mistyped key has a suggestion."""
    rows = [
        {"model": "Pop", "setings": {"epochs": 1}},
        {"name": "second", "settings": {"checkpoint_dir": "x", "seed": 3}, "search": {"uniform": {"k": [1]}}},
        {"model": "BPR", "seeds": "all", "config_files": ["none.yaml"]},
    ]
    with pytest.raises(RecBoleGRError) as caught:
        board({"nproc": 2}, rows=rows, topk=[5, 5], metric=["NDCG"], search={"trails": 3}, id_level="yes")
    lines = str(caught.value).splitlines()
    expected = [
        "nproc=2: a cell runs in one process, it cannot be a setting (the command line)",
        "setings={'epochs': 1}: no such key in row 1 of shelf.yaml; did you mean settings? there are name, model, ",
        "model=None: must be set in row 2 of shelf.yaml",
        "checkpoint_dir='x': every cell has its own, it cannot be a setting (settings of row 2 of shelf.yaml)",
        "seed=3: is set by the key seeds of the board, it cannot be a setting (settings of row 2 of shelf.yaml)",
        "k=[1]: uniform takes a list of 2 numbers, the lower bound first (row 2 of shelf.yaml)",
        "seeds='all': must be a list of whole numbers of at least 0 (row 3 of shelf.yaml)",
        "config_files='none.yaml': no such file (row 3 of shelf.yaml)",
        "topk=[5, 5]: must not hold the same twice (shelf.yaml)",
        "metric=['NDCG']: no such key in shelf.yaml; did you mean metrics? there are name, dataset, ",
        "trails=3: no such key in search of shelf.yaml; did you mean trials? there are trials, algorithm, seed",
        "id_level='yes': must be True or False in shelf.yaml",
    ]
    assert len(lines) == len(expected), lines
    for line in expected:
        assert any(found.startswith(line) for found in lines), (line, lines)


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"dataset": None}, "dataset=None: must be set in shelf.yaml"),
        ({"rows": {"model": "Pop"}}, "rows={'model': 'Pop'}: must be a list of rows in shelf.yaml"),
        ({"metrics": "NDCG"}, "metrics='NDCG': must be a list of texts in shelf.yaml"),
        ({"metrics": ["NDCG", "Recal"]}, "did you mean Recall?"),
        ({"protocol": ["mask_seen"]}, "protocol=['mask_seen']: must hold keys and values in shelf.yaml"),
        ({"published": ["tigre"]}, "published='tigre': no such block; there are "),
        ({"search": {"algorithm": "exhaustive", "trials": 3}}, "trials=3: has no use with algorithm=exhaustive"),
        (
            {
                "search": {"algorithm": "exhaustive"},
                "rows": [{"model": "BPR", "search": {"uniform": {"reg_weight": [0, 1]}}}],
            },
            "search='uniform': has no end to try, as search: {algorithm: exhaustive} does; use choice (row 1 of shelf.yaml)",
        ),
        ({"search": {"trials": "3"}}, "trials='3': must be a whole number of at least 1 in search of shelf.yaml"),
        ({"rows": [{"model": "BPR", "settings": {1: 2}}]}, "settings="),
    ],
)
def test_faults_of_single_keys(board, changed, words):
    with pytest.raises(RecBoleGRError) as caught:
        board(**changed)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_boards_are_found_by_short_name(tmp_path):
    assert {"ml-100k", "amazon-beauty-2014"} <= set(board_names())
    assert all(read_board(name).rows for name in board_names())
    board = read_board("ml-100k", {"data_path": "elsewhere"})
    assert (
        board.name == board.dataset == "ml-100k" and board.command == "recbole-gr leaderboard ml-100k --data_path=elsewhere"
    )
    assert [cell.key for cell in read_board(str(find_board("ml-100k"))).cells()] == [cell.key for cell in board.cells()]
    (tmp_path / "ml-100k").write_text("rows: []")  # a file of the user's comes first
    assert str(find_board("ml-100k")) == "ml-100k"
    with pytest.raises(RecBoleGRError, match="board='ml-10k': no such file; .*did you mean ml-100k") as caught:
        find_board("ml-10k")
    assert "\n" not in str(caught.value)


def test_the_keys_of_cells_are_those_of_the_kept_records():
    """The digests of kept results must not change; the packaged board names the files in ``results``."""
    folder = Path(__file__).parents[2] / "results" / "ml-100k" / "cells"
    assert {cell.key for cell in read_board("ml-100k").cells()} == {file.stem for file in folder.glob("*.json")}


def test_digest_does_not_depend_on_the_process(board):
    """The key is a file name that another start must find again."""
    settings = json.dumps(["small", "Pop", {**board().cells()[0].settings}], sort_keys=True)
    import hashlib

    assert board().cells()[0].key == "popular-seed1-" + hashlib.sha256(settings.encode()).hexdigest()[:10]
