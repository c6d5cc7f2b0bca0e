"""Axes of a study: which points there are, their names and baselines, and what a file may not ask."""

import pytest
import yaml

from recbole_gr.cli import main
from recbole_gr.leaderboard.axes import point_name, points_of
from recbole_gr.leaderboard.board_file import read_board, study_names
from recbole_gr.leaderboard.row_check import check_rows
from recbole_gr.utils.errors import RecBoleGRError

SWEEP = {
    "name": "LM",
    "model": "LLMasRS",
    "settings": {"epochs": 1},
    "seeds": [1, 2],
    "baseline": {"scratch_size": "tiny", "tuning": "full"},
    "grid": {
        "scratch_size": ["tiny", "small"],
        "tuning": ["full", "lora"],
        "lora_rank": {"values": [4, 16], "when": {"tuning": "lora"}},
    },
}
POINTS = {
    "model": "TIGER",
    "points": [{"name": "thin", "d_model": 16, "n_heads": 1}, {"model_size": "336K"}],
    "grid": {"inject": ["none", "text"]},
}


@pytest.fixture
def study(tmp_path):
    def read(given=None, axes=(SWEEP, POINTS), **changed):
        asked = {"dataset": "ml-100k", "metrics": ["Recall", "NDCG"], "topk": [5, 10], **changed}
        if axes:
            asked["axes"] = list(axes)
        (tmp_path / "shelf.yaml").write_text(yaml.safe_dump(asked, sort_keys=False))
        return read_board("shelf.yaml", given)

    return read


def test_points_of_a_grid_with_a_condition():
    assert points_of(SWEEP["grid"], []) == [
        {"scratch_size": size, "tuning": tuning, **rank}
        for size in ("tiny", "small")
        for tuning, rank in (("full", {}), ("lora", {"lora_rank": 4}), ("lora", {"lora_rank": 16}))
    ]
    several = {"a": [1, 2, 3], "b": {"values": ["x"], "when": {"a": [1, 3]}}}
    assert points_of(several, [{"c": 0}]) == [{"c": 0, "a": 1, "b": "x"}, {"c": 0, "a": 2}, {"c": 0, "a": 3, "b": "x"}]
    assert point_name("T", {"a": None, "b": [1, 2], "c": "d"}) == "T, a None, b [1,2], c d"


def test_each_point_is_a_row(study):
    board = study(rows=[{"model": "Pop"}])
    assert [row.name for row in board.rows] == [
        "Pop",
        *(
            f"LM, scratch_size {size}, {rest}"
            for size in ("tiny", "small")
            for rest in ("tuning full", "tuning lora, lora_rank 4", "tuning lora, lora_rank 16")
        ),
        *("TIGER, thin, inject none", "TIGER, thin, inject text"),
        *("TIGER, model_size 336K, inject none", "TIGER, model_size 336K, inject text"),
    ]
    lora, thin = board.rows[2], board.rows[7]
    assert lora.settings == {"epochs": 1, "scratch_size": "tiny", "tuning": "lora", "lora_rank": 4}
    assert lora.axes == {"scratch_size": "tiny", "tuning": "lora", "lora_rank": 4} and lora.sweep == "LM"
    assert thin.settings == thin.axes == {"d_model": 16, "n_heads": 1, "inject": "none"} and thin.seeds == (2020,)
    assert [row.name for row in board.rows if row.baseline] == ["Pop", "LM, scratch_size tiny, tuning full"]
    assert board.rows[0].sweep is None and board.is_study and board.command == "recbole-gr study shelf.yaml"
    cells = board.cells()
    assert len(cells) == 1 + 6 * 2 + 4 and len({cell.key for cell in cells}) == len(cells)


def test_a_point_is_the_cell_of_the_same_settings_in_a_row(study):
    row = {"name": "TIGER, thin, inject none", "model": "TIGER", "settings": {"d_model": 16, "n_heads": 1, "inject": "none"}}
    assert study(axes=[POINTS]).cells()[0].key == study(axes=[], rows=[row]).cells()[0].key


@pytest.mark.parametrize(
    "sweep, words",
    [
        (
            {"grid": {"epochs": 3}},
            "epochs=3: an axis must be a list of values, or {values: [...], when: {another axis: value}}",
        ),
        (
            {"grid": {"epochs": [3, 3]}},
            "epochs=[3, 3]: an axis must not hold the same value twice (grid of axes, 1 of shelf.yaml)",
        ),
        ({"grid": {"epochs": {"values": [1]}}}, "when=None: of the axis epochs must hold other axes and their values"),
        ({"grid": {"epochs": {"values": [1], "wen": 2, "when": {"a": 1}}}}, "wen=2: no such key of the axis epochs"),
        (
            {"grid": {"epochs": {"values": [1], "when": {"d_model": 1}}}},
            "when='d_model': when of the axis epochs must be about an axis",
        ),
        ({"grid": {"epochs": [1]}, "settings": {"epochs": 2}}, "epochs=2: is an axis, it cannot be set under settings too"),
        ({"grid": {"epochs": [1]}, "points": [{"epochs": 2}]}, "epochs=[1]: is in grid and in points"),
        ({"points": [{"seed": 2}]}, "seed=2: is set by the key seeds of the board"),
        ({"points": [{"name": 2}]}, "points={'name': 2}: must hold settings and their values, and perhaps a name"),
        (
            {"points": [{"epochs": 2}, {"epochs": 2}]},
            "name='TIGER, epochs 2': row 2 of shelf.yaml has the name of another row",
        ),
        ({}, "grid=None: a sweep must have a grid or points (axes, 1 of shelf.yaml)"),
        ({"gird": {"epochs": [1]}}, "gird={'epochs': [1]}: no such key in axes, 1 of shelf.yaml; did you mean grid?"),
        ({"grid": {"epohcs": [1]}}, "epohcs"),
    ],
)
def test_what_a_sweep_may_not_ask(study, sweep, words):
    with pytest.raises(RecBoleGRError) as caught:
        check_rows(study(axes=[{"model": "TIGER", **sweep}]))
    assert words in str(caught.value)


def test_what_the_command_line_may_not_set(study):
    with pytest.raises(RecBoleGRError, match="lora_rank=8: shelf.yaml varies it, it cannot be set on the command line"):
        study({"lora_rank": 8})


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"axes": ()}, "rows=None: must be set in shelf.yaml, or axes"),
        (
            {"law": {"metric": "MRR@10"}},
            "metric='MRR@10': must be one of recall@5, recall@10, ndcg@5, ndcg@10 (law of shelf.yaml)",
        ),
        ({"law": {"resamples": 3}}, "resamples=3: must be a whole number of at least 20 in law of shelf.yaml"),
    ],
)
def test_faults_of_a_study(study, changed, words):
    with pytest.raises(RecBoleGRError) as caught:
        study(**changed)
    assert words in str(caught.value)


def test_a_board_is_no_study(capsys):
    assert main(["study", "ml-100k", "--dry-run"]) == 2
    assert capsys.readouterr().err == (
        "error: axes=None: must be set in ml-100k, which is a board: recbole-gr leaderboard ml-100k\n"
    )


#: What they need beside the package: a hub, another package, a checkpoint.
NEEDY = {"llm-size-and-lora": 25, "llm-lora-smollm2": 9, "cf-injection-llm": 12}


@pytest.mark.parametrize("name", study_names())
def test_studies_that_come_with_the_package(name, tmp_path):
    """Their axes make rows of different settings; where nothing else is needed, the settings are valid."""
    data_path = tmp_path / "data"
    for dataset in ("amazon-beauty-2014", "ml-100k"):
        (data_path / dataset).mkdir(parents=True)
        rows = [f"u{user}\ti{item}\t{item}" for user in range(3) for item in range(300)]
        (data_path / dataset / f"{dataset}.inter").write_text(
            "user_id:token\titem_id:token\ttimestamp:float\n" + "\n".join(rows)
        )
        head = (
            "item_id:token\ttitle:token_seq\tbrand:token_seq\tcategories:token_seq\tmovie_title:token_seq\tclass:token_seq\n"
        )
        (data_path / dataset / f"{dataset}.item").write_text(
            head + "\n".join(f"i{item}\ta\tb\tc\td\te" for item in range(300))
        )
    board = read_board(name, {"data_path": str(data_path)})
    assert board.is_study and board.description and len({str(row.settings) for row in board.rows}) == len(board.rows)
    if name in NEEDY:
        assert len(board.rows) == NEEDY[name]
    else:
        check_rows(board)
