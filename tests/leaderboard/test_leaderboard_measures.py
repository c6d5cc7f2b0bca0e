"""Accuracy per user and per group of targets, against RecBole's own metric classes and by hand."""

import numpy as np
import pandas as pd
import pytest
from support.board_files import DEPTH, make_board, make_hit_ranks, make_row, recbole_metrics, write_cell

from recbole_gr.experiment.target_ranks import write_target_ranks
from recbole_gr.leaderboard.cell_files import read_cell, read_hit_ranks
from recbole_gr.leaderboard.columns import METRICS
from recbole_gr.leaderboard.measures import PER_RANKING, measure_rankings, slice_bounds, slice_measures
from recbole_gr.utils.errors import DataError

TOPK = (1, 3, 5, 10, 20)


def targets(user_id, rank, **columns):
    """Hit ranks with what a test says of them; a rank of 0 is none."""
    ranks = pd.Series(rank, dtype="Int32").where(np.array(rank) > 0)
    filled = {"item_id": [f"i{number}" for number in range(len(rank))], "history_length": 5, "item_count": 1}
    return pd.DataFrame({"user_id": user_id, "rank": ranks, **filled, **columns})


@pytest.mark.parametrize("per_user", [1, 3, 8])
def test_means_are_those_of_recboles_metrics(per_user):
    hit_ranks = make_hit_ranks(7, users=200, targets=per_user)
    ours = measure_rankings(hit_ranks, PER_RANKING, TOPK).mean()
    theirs = recbole_metrics(hit_ranks, PER_RANKING, TOPK)
    assert ours.to_dict() == pytest.approx(theirs, abs=1e-12)
    assert 0 < ours["recall@1"] < ours["recall@20"] < 1


def test_each_user_has_recboles_value():
    hit_ranks = make_hit_ranks(8, users=30, targets=6)
    users = measure_rankings(hit_ranks, PER_RANKING, TOPK)
    for user, own in hit_ranks.groupby("user_id"):
        assert users.loc[user].to_dict() == pytest.approx(recbole_metrics(own, PER_RANKING, TOPK), abs=1e-12)


def test_each_ranking_of_a_user_has_recboles_value():
    """As for sequential models with several test interactions of a user: one ranking each."""
    hit_ranks = make_hit_ranks(8, users=30, targets=6)
    hit_ranks["ranking"] = np.random.default_rng(5).permutation(len(hit_ranks)).astype("int32")
    hit_ranks["id_rank"] = hit_ranks["rank"]
    rankings = measure_rankings(hit_ranks, PER_RANKING, TOPK)
    assert rankings.index.tolist() == sorted(hit_ranks["user_id"])
    alone = hit_ranks.assign(user_id=hit_ranks["ranking"].map("r{:03d}".format))
    assert rankings.mean().to_dict() == pytest.approx(recbole_metrics(alone, PER_RANKING, TOPK), abs=1e-12)
    by_id = measure_rankings(hit_ranks, ["recall"], [10], rank="id_rank")["recall@10 (ID-level)"]
    assert by_id.tolist() == rankings["recall@10"].tolist()  # equal ranks in two rankings are two targets


def test_a_user_by_hand():
    users = measure_rankings(targets(["a", "a", "a", "b"], [2, 5, 0, 0]), PER_RANKING, [1, 5])
    a, b = users.loc["a"], users.loc["b"]
    ideal = 1 + 1 / np.log2(3) + 1 / np.log2(4)
    assert a["recall@5"] == pytest.approx(2 / 3) and a["mrr@5"] == 0.5 and a["hit@5"] == 1 and a["precision@5"] == 0.4
    assert a["ndcg@5"] == pytest.approx((1 / np.log2(3) + 1 / np.log2(6)) / ideal)
    assert a["map@5"] == pytest.approx((1 / 2 + 2 / 5) / 3)
    assert a.filter(like="@1").sum() == 0 and b.sum() == 0


def test_the_order_of_rows_plays_no_part():
    hit_ranks = make_hit_ranks(9, targets=4)
    mixed = hit_ranks.sample(frac=1, random_state=3)
    pd.testing.assert_frame_equal(measure_rankings(hit_ranks, PER_RANKING, TOPK), measure_rankings(mixed, PER_RANKING, TOPK))


def test_id_level_reads_the_ranks_of_ids():
    hit_ranks = make_hit_ranks(10, semantic_ids=True)
    by_id = measure_rankings(hit_ranks, ["recall", "ndcg"], [10], rank="id_rank")
    assert list(by_id) == ["recall@10 (ID-level)", "ndcg@10 (ID-level)"]
    theirs = recbole_metrics(hit_ranks, ["recall", "ndcg"], [10], rank="id_rank")
    assert by_id.mean().tolist() == pytest.approx(list(theirs.values()), abs=1e-12)
    assert by_id["recall@10 (ID-level)"].mean() > measure_rankings(hit_ranks, ["recall"], [10])["recall@10"].mean()


def test_targets_that_share_an_id_are_one_target_of_the_ranking_of_ids():
    hit_ranks = targets(["a", "a", "a"], [4, 9, 0], id_rank=pd.Series([1, 1, None], dtype="Int32"))
    by_id = measure_rankings(hit_ranks, ["recall", "ndcg"], [5], rank="id_rank").loc["a"]
    assert by_id["recall@5 (ID-level)"] == 0.5
    assert by_id["ndcg@5 (ID-level)"] == pytest.approx(1 / (1 + 1 / np.log2(3)))
    hit_ranks = targets(["a"] * 4, [0] * 4, id_rank=pd.Series([1, 1, None, None], dtype="Int32"))
    assert measure_rankings(hit_ranks, ["recall"], [5], rank="id_rank").loc["a"].tolist() == pytest.approx([1 / 3])


def test_kinds_of_metrics():
    """RecBole's own table is the referee."""
    from recbole.evaluator.register import metrics_dict

    assert {key: (metric.title, metric.smaller_is_better) for key, metric in METRICS.items()} == {
        key: (metric.__name__, metric.smaller) for key, metric in metrics_dict.items()
    }
    assert {key for key, metric in METRICS.items() if metric.of_users} == set(PER_RANKING)
    assert METRICS["recall"].of_users and METRICS["map"].of_users and not METRICS["itemcoverage"].of_users
    assert METRICS["giniindex"].smaller_is_better and METRICS["averagepopularity"].smaller_is_better
    assert not METRICS["ndcg"].smaller_is_better


def test_hit_ranks_are_read_as_they_were_written(tmp_path):
    hit_ranks = make_hit_ranks(11, semantic_ids=True)
    write_target_ranks(hit_ranks, tmp_path / "a.parquet")
    read = read_hit_ranks(str(tmp_path / "a.parquet"), DEPTH, TOPK)
    for column in ("rank", "id_rank"):
        assert read[column].dtype == "float64" and read[column].isna().any()
        np.testing.assert_array_equal(read[column].fillna(0), hit_ranks[column].fillna(0))
    assert read["user_id"].tolist() == hit_ranks["user_id"].tolist()


def test_hit_ranks_that_cannot_serve(tmp_path):
    path = str(tmp_path / "a.parquet")
    with pytest.raises(DataError, match="cannot be read"):
        read_hit_ranks(path, DEPTH, TOPK)
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(DataError, match="cannot be read"):
        read_hit_ranks(path, DEPTH, TOPK)
    write_target_ranks(make_hit_ranks(1).drop(columns="item_count"), path)
    with pytest.raises(DataError, match="has no column item_count"):
        read_hit_ranks(path, DEPTH, TOPK)
    write_target_ranks(make_hit_ranks(1), path)
    with pytest.raises(DataError, match="down to 20 only; k=50"):
        read_hit_ranks(path, DEPTH, [50])


def test_damaged_files_are_an_error_of_their_cell(tmp_path):
    cell = make_board([make_row("A")]).cells()[0]
    assert (read_cell(cell, tmp_path).record, read_cell(cell, tmp_path).error) == (None, None)
    write_cell(tmp_path, cell, make_hit_ranks(1))
    assert read_cell(cell, tmp_path).record["seed"] == 1
    (tmp_path / f"{cell.key}.parquet").unlink()
    files = read_cell(cell, tmp_path)
    assert files.record is None and "cannot be read" in files.error
    (tmp_path / f"{cell.key}.json").write_text('{"seed": ')
    assert "is not json" in read_cell(cell, tmp_path).error


def test_all_seeds_share_the_search_of_the_first(tmp_path):
    first, second = make_board([make_row("A", search={"choice": {"learning_rate": [0.1]}})]).cells()
    assert read_cell(second, tmp_path).found is None
    (tmp_path / f"{first.key}.search.json").write_text('{"found": {"learning_rate": 0.1}, "trials": []}')
    assert read_cell(second, tmp_path).found == read_cell(first, tmp_path).found == {"learning_rate": 0.1}


def test_groups_hold_equal_numbers_of_targets():
    counts = [0, 0, *range(1, 101)]
    hit_ranks = targets([f"u{number}" for number in range(102)], [1] * 102, item_count=counts, history_length=7)
    bounds = slice_bounds(hit_ranks)
    assert bounds == {"item popularity": [25, 50, 75], "history length": []}
    slices = slice_measures([hit_ranks], bounds, ["recall"], 10)
    labels = ["never seen in training", "1 to 25", "26 to 50", "51 to 75", "76 and more"]
    assert [group["label"] for group in slices["item popularity"]] == labels
    assert [group["users"] for group in slices["item popularity"]] == [2, 25, 25, 25, 25]
    assert slices["history length"] == [{"label": "any", "users": 102, "recall@10": 1.0}]


def test_groups_are_fewer_where_many_targets_have_one_value():
    hit_ranks = targets(
        list("abcdefgh"), [1] * 8, item_count=[1, 1, 1, 1, 1, 2, 9, 9], history_length=[4] * 4 + [5, 6, 7, 8]
    )
    bounds = slice_bounds(hit_ranks)
    assert bounds == {"item popularity": [1, 2], "history length": [4, 6]}
    slices = slice_measures([hit_ranks], bounds, ["recall"], 10)
    assert [(group["label"], group["users"]) for group in slices["item popularity"]] == [
        ("1", 5),
        ("2", 1),
        ("3 and more", 2),
    ]
    assert [group["label"] for group in slices["history length"]] == ["0 to 4", "5 to 6", "7 and more"]


def test_groups_are_measured_by_their_own_targets_over_all_seeds():
    tables = [make_hit_ranks(seed, targets=4) for seed in (1, 2)]
    bounds = slice_bounds(tables[0])
    slices = slice_measures(tables, bounds, ["recall", "ndcg"], 10)
    cold, least = slices["item popularity"][:2]
    for group, low, high in ((cold, 0, 0), (least, 1, bounds["item popularity"][0])):
        own = [table[table["item_count"].between(low, high)] for table in tables]
        referee = [recbole_metrics(table, ["recall", "ndcg"], [10]) for table in own]
        for name in ("recall@10", "ndcg@10"):
            assert group[name] == pytest.approx(np.mean([values[name] for values in referee]), abs=1e-12)
        assert group["users"] == own[0]["user_id"].nunique()


def test_a_group_without_targets_is_left_out():
    hit_ranks = targets(["a", "b"], [1, 2], item_count=[3, 8])
    slices = slice_measures([hit_ranks], slice_bounds(hit_ranks), ["recall"], 10)
    assert "never seen in training" not in [group["label"] for group in slices["item popularity"]]
    only_cold = targets(["a", "b"], [1, 0], item_count=[0, 0])
    slices = slice_measures([only_cold], slice_bounds(only_cold), ["recall"], 10)
    assert slices["item popularity"] == [{"label": "never seen in training", "users": 2, "recall@10": 0.5}]
