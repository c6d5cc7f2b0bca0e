"""What a board decides by itself, and says: one history length, published numbers that fit, what its search tries, its commands."""

import os

import pytest
import yaml
from support.board_files import make_board, make_hit_ranks, make_row, write_cell

from recbole_gr.cli import main
from recbole_gr.leaderboard.arguments import publishable
from recbole_gr.leaderboard.board import NO_BASELINE
from recbole_gr.leaderboard.board_file import read_board
from recbole_gr.leaderboard.measures import slice_bounds
from recbole_gr.leaderboard.row_check import check_rows
from recbole_gr.leaderboard.search import search_settings
from recbole_gr.leaderboard.summarise import summarise
from recbole_gr.utils.errors import RecBoleGRError

LENGTH = "MAX_ITEM_LIST_LENGTH"


@pytest.fixture
def shelf(smaller_part):
    """Writes a board of the smaller part and reads it."""

    def write(rows, **more):
        board = {"dataset": "small", "seeds": [1], "topk": [5, 10], "metrics": ["Recall", "NDCG"], "rows": rows, **more}
        with open("shelf.yaml", "w") as file:
            yaml.safe_dump(board, file)
        return read_board("shelf.yaml", {"data_path": smaller_part[1]})

    return write


def lengths(checked):
    return [config[LENGTH] for config in checked.configs if str(config["MODEL_TYPE"]) == "ModelType.SEQUENTIAL"]


def test_default_rows_get_one_history_length(shelf):
    """TIGER's default is 20, SASRec's 50; general models read no histories."""
    checked = check_rows(shelf([{"model": "TIGER"}, {"model": "SASRec"}, {"model": "BPR"}]))
    assert lengths(checked) == [20, 20]
    assert [cell.settings[LENGTH] for cell in checked.board.cells()] == [20, 20, 20]
    (line,) = checked.notices
    assert line == (
        "MAX_ITEM_LIST_LENGTH=20 for all rows, the shortest of them: the models' defaults differ (TIGER 20, SASRec 50); "
        "set it under protocol"
    )


def test_a_history_length_that_some_rows_set_is_that_of_all(shelf):
    rows = [{"model": "TIGER"}, {"name": "short", "model": "SASRec", "settings": {LENGTH: 30}}, {"model": "SASRec"}]
    checked = check_rows(shelf(rows))
    assert lengths(checked) == [30, 30, 30] and "=30 for all rows, as in the rows that set it" in checked.notices[0]
    rows[2]["settings"] = {LENGTH: 40}
    with pytest.raises(RecBoleGRError, match="MAX_ITEM_LIST_LENGTH=.* leaves the protocol"):
        check_rows(shelf(rows))


@pytest.mark.parametrize("rows", [[{"model": "SASRec"}, {"model": "GRU4Rec"}], [{"model": "TIGER"}, {"model": "BPR"}]])
def test_a_board_that_agrees_is_left_as_it_is(shelf, rows):
    board = shelf(rows)
    checked = check_rows(board)
    assert checked.board is board and checked.notices == []
    variants = [{LENGTH: 10}, {LENGTH: 20}]
    assert lengths(check_rows(shelf([{"model": "TIGER"}, {"model": "SASRec"}], side_by_side=variants))) == [10, 10, 20, 20]


def test_generative_rows_only_are_told_how_to_be_tested(shelf, tmp_path):
    rows = [{"model": "TIGER"}, {"name": "other", "model": "TIGER", "settings": {"dropout": 0.2}}]
    assert check_rows(shelf(rows)).notices == [NO_BASELINE] and "baseline: True" in NO_BASELINE
    assert check_rows(shelf([{**rows[0], "baseline": True}, rows[1]])).notices == []
    board = make_board([make_row("a", "TIGER"), make_row("b", "TIGER")])
    assert summarise(board, str(tmp_path)).significance_note == NO_BASELINE


def test_published_numbers_of_other_data_are_left_out(shelf):
    checked = check_rows(shelf([{"model": "Pop"}], published=["tiger", "grid"]))
    assert [line.split(" is left out")[0] for line in checked.notices] == ["published: tiger", "published: grid"]


def test_slices_are_of_the_data(tmp_path):
    """The groups come from the first row that has a record, for the rows of another variant too."""
    variants = [{"tie_order": "file"}, {"tie_order": "shuffled"}]
    board = make_board([make_row(name, variant=variant) for variant in variants for name in ("a", "b")])
    for number, cell in enumerate(board.cells()[2:]):  # the first row has not run
        write_cell(tmp_path, cell, make_hit_ranks(number, users=60 + 10 * number))
    rows = summarise(board, str(tmp_path)).rows
    bounds = slice_bounds(make_hit_ranks(0))["history length"]
    expected = [f"{low + 1} to {high}" for low, high in zip([-1, *bounds], bounds)] + [f"{bounds[-1] + 1} and more"]
    assert rows[0].slices == {}
    for row in rows[1:]:
        assert [group["label"] for group in row.slices["history length"]] == expected


def test_an_exhaustive_search_tries_every_combination_once(shelf):
    space = {"choice": {"n_layers": [1, 2, 3], "reg_weight": [0.0, 0.1]}}
    board = shelf([{"model": "BPR", "search": space}, {"model": "Pop"}], search={"algorithm": "exhaustive"})
    cell, without = board.cells()
    assert (cell.trials, without.trials) == (6, 0)
    tried = []

    def run_trial(trial):
        tried.append(trial.found)
        return {"valid": {"ndcg@10": trial.found["n_layers"] - trial.found["reg_weight"]}}

    result = search_settings(cell, run_trial)
    assert tried == [{"n_layers": n, "reg_weight": weight} for n in (1, 2, 3) for weight in (0.0, 0.1)]
    assert result["found"] == {"n_layers": 3, "reg_weight": 0.0} and len(result["trials"]) == 6


def test_commands_name_no_place_of_this_machine(shelf, smaller_part, tmp_path):
    """What lies below the current folder is named from there, what lies elsewhere by DIR."""
    given = {
        "data_path": "/elsewhere/data",
        "sid_file": "/elsewhere/ids.npz",
        "llm": "~/models/llama",
        "text_encoder": "org/name",
    }
    assert publishable(given) == {
        **{"data_path": "DIR", "sid_file": "DIR/ids.npz", "llm": "DIR/llama", "text_encoder": "org/name"},
    }
    inside = {"data_path": str(tmp_path / "data"), "item_vector_file": "vectors.npz", "epochs": 3}
    assert publishable(inside) == {"data_path": "data", "item_vector_file": "vectors.npz", "epochs": 3}
    cell = shelf([{"model": "BPR", "settings": {"eval_batch_size": 7}}]).cells()[0]
    assert "--eval_batch_size=7" in cell.command and "--data_path=DIR" in cell.command and "/tmp" not in cell.command
    assert f"--data_path={smaller_part[1]}" in cell.command_here
    assert cell.board.command == "recbole-gr leaderboard shelf.yaml --data_path=DIR"


def test_a_dry_run_finds_what_a_cell_would_find(shelf, smaller_part, llama_folder, capsys):
    """Nothing is encoded, trained or kept; all rows are looked at, and each fault is a line."""
    text = {"text_template": "{movie_title}", "codebook_size": 8, "d_model": 8, "d_ff": 8, "n_layers": 1}
    rows = [
        {"name": "right", "model": "TIGER", "settings": text},
        {"name": "parts", "model": "RPG", "settings": {"tokenizer": "pq", "codebook_num": 7, "codebook_size": 8}},
        {"name": "codes", "model": "TIGER", "settings": {**text, "codebook_size": 4096}},
        {"name": "long", "model": "LLMasRS", "settings": {"llm": llama_folder, "prompt_max_tokens": 599, LENGTH: 5}},
        {"name": "broken", "model": "BPR", "settings": {"embedding_size": 10**20}},
        {"name": "fine", "model": "BPR"},
    ]
    shelf(rows)
    assert main(["leaderboard", "shelf.yaml", "--dry-run", f"--data_path={smaller_part[1]}"]) == 2
    out, err = capsys.readouterr()
    assert "6 of 6 cells to run" in out
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert [line.split("'")[1] for line in lines] == ["parts", "codes", "long", "broken"]
    assert "codebook_num=7: must divide the vectors' dimension 384" in lines[0]
    assert "codebook_size=4096: must be at most the number of items, " in lines[1]
    assert "prompt_max_tokens=599: " in lines[2] and "reads 600 tokens (max_position_embeddings)" in lines[2]
    assert "Error: " in lines[3] and not os.path.exists(os.path.join("saved", "cache"))
    shelf([rows[0], rows[5]])
    assert main(["leaderboard", "shelf.yaml", "--dry-run", f"--data_path={smaller_part[1]}"]) == 0
