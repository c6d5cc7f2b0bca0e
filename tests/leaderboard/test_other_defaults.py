"""Records of a board that today's defaults would not make."""

from types import SimpleNamespace

from support.board_files import make_board, make_row

from recbole_gr.leaderboard.other_defaults import changed_settings, other_defaults

NOW = {
    "numbering": "file",
    "epochs": 30,
    "train_batch_size": 1024,
    "history_position": "auto",
    "rqvae_hidden": (512, 256),
    "gpu_id": "1",
}
THEN = {"epochs": 8, "train_batch_size": 1024, "history_position": "item", "rqvae_hidden": [512, 256], "gpu_id": "0"}


class Config(dict):
    """RecBole's Config gives None for a key it lacks."""

    def __missing__(self, key):
        return None


def test_only_what_shapes_a_run_and_was_set_counts():
    assert changed_settings("TIGER", THEN, Config(NOW)) == {"epochs": (8, 30)}  # auto, devices and tuples are no change


def test_what_runs_did_before_there_was_a_setting_counts():
    now = Config({**NOW, "numbering": "token"})
    assert changed_settings("TIGER", THEN, now) == {"epochs": (8, 30), "numbering": ("file", "token")}
    assert changed_settings("TIGER", {**THEN, "numbering": "token"}, now) == {"epochs": (8, 30)}


def test_each_row_with_such_records_is_named():
    board = make_board([make_row("old", "TIGER"), make_row("new", "TIGER"), make_row("not run", "TIGER")])
    kept = {board.cells()[1].key: {"config": THEN}, board.cells()[2].key: {"config": {**THEN, "epochs": 30}}}
    runner = SimpleNamespace(record=kept.get, folder="results/small/cells")
    assert other_defaults(board, runner, [Config(NOW)] * 3) == [
        "row 'old': its records were made with epochs=8 (now 30); remove them from results/small/cells to run again"
    ]
