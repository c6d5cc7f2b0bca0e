"""The boards that come with the package: their settings are valid, and what they say of themselves is so."""

import pytest

from recbole_gr.cli import main
from recbole_gr.leaderboard.board_file import board_names, read_board
from recbole_gr.leaderboard.published import published_blocks, read_published
from recbole_gr.leaderboard.row_check import check_rows
from recbole_gr.models.tiger.model import ARCHITECTURES
from recbole_gr.models.tiger.network import NetworkOptions
from recbole_gr.models.tiger.settings import TIGERSettings, history_is_causal, model_size

GRID = [name for name in board_names() if name.startswith("grid-")]


@pytest.fixture(scope="module")
def data_path(tmp_path_factory):
    """A folder with the smallest of data, under the names of the sets that boards are about."""
    folder = tmp_path_factory.mktemp("data")
    for dataset in ("amazon-beauty-2014", "amazon-sports-2014", "amazon-toys-2014", "ml-100k"):
        (folder / dataset).mkdir()
        rows = [f"u{user}\ti{item}\t{item}" for user in range(3) for item in range(300)]
        head = "user_id:token\titem_id:token\ttimestamp:float"
        (folder / dataset / f"{dataset}.inter").write_text("\n".join([head, *rows]) + "\n")
        columns = ["title", "text_id", "brand", "categories", "movie_title", "class"]
        head = "\t".join(["item_id:token", *(f"{column}:token_seq" for column in columns)])
        rows = ["\t".join([f"i{item}", *(f"{column} {item}" for column in columns)]) for item in range(300)]
        (folder / dataset / f"{dataset}.item").write_text("\n".join([head, *rows]) + "\n")
    return str(folder)


@pytest.mark.parametrize("name", board_names())
def test_the_settings_of_every_row_are_valid(name, data_path):
    check_rows(read_board(name, {"data_path": data_path}))


def test_dry_run(data_path, capsys):
    assert main(["leaderboard", "grid-user-tokens", "--dry-run", f"--data_path={data_path}"]) == 0
    assert "15 of 15 cells to run" in capsys.readouterr().out


def test_there_is_a_board_for_each_of_grids_tables():
    tables = ("architecture", "augmentation", "collisions", "decoding", "levels-and-codes", "user-tokens")
    assert sorted(GRID) == [f"grid-{table}" for table in tables]


@pytest.mark.parametrize("name", GRID)
def test_grids_boards(name, data_path):
    """GRID's numbers beside, nothing excluded, three seeds, one row that the others are tested against."""
    board = read_board(name, {"data_path": data_path})
    assert board.published == (name.replace("-", "_"),)
    assert (board.topk, board.main_metric, board.protocol["mask_seen"]) == ((5, 10), "recall@5", False)
    assert all(len(row.seeds) == 3 for row in board.rows)
    assert [row.name for row in board.rows if row.baseline] in (
        *(["encoder-decoder"], ["windows"], ["3 x 256"], ["digit"], ["constrained"], ["no user token"]),
    )
    (block,) = read_published(board.published, board.dataset)
    assert {row["name"] for row in block["rows"]} <= {row.name for row in board.rows}


def test_architectures_are_compared_at_the_same_size(data_path):
    """As many parameters in each row, to 1 %, whatever its layers are made of."""
    board = read_board("grid-architecture", {"data_path": data_path})
    counts = {}
    for row in board.rows:
        values = {**TIGERSettings.defaults(), **board.protocol, **row.settings}
        options = NetworkOptions(model_size(values), depth_layers=values["depth_layers"], causal=history_is_causal(values))
        network = ARCHITECTURES[values["architecture"]]((256, 256, 256, 40), options)
        counts[row.name] = sum(weights.numel() for weights in network.parameters())
    assert max(counts.values()) < 1.01 * min(counts.values()), counts


def test_published_rows_have_a_number_per_metric():
    """By hand, two figures of GRID's table 6 and those of table 7 that lack one."""
    for name in published_blocks():
        (block,) = read_published([name], "amazon-beauty-2014")
        assert block["rows"] and all(0 < value < 1 for row in block["rows"] for key, value in row.items() if key != "name")
    (block,) = read_published(["grid_augmentation"], "amazon-beauty-2014")
    assert [row["recall@10"] for row in block["rows"]] == [0.0597, 0.0447]
    (block,) = read_published(["grid_collisions"], "amazon-sports-2014")
    assert "ndcg@5" in block["rows"][0] and "ndcg@5" not in block["rows"][1]
