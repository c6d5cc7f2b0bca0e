"""What a summary tells of the cells' files, computed from them by hand or by RecBole's classes; published numbers."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.board_files import (
    json_summary,
    make_board,
    make_hit_ranks,
    make_record,
    make_row,
    recbole_metrics,
    write_all,
    write_cell,
)
from support.example_board import data_of

from recbole_gr.leaderboard.measures import measure_rankings
from recbole_gr.leaderboard.published import published_blocks, published_elsewhere, read_published
from recbole_gr.leaderboard.significance import NOTHING_TESTED
from recbole_gr.leaderboard.summarise import summarise
from recbole_gr.leaderboard.summary import Summary
from recbole_gr.utils.errors import SettingError

KEYS = (
    *("name", "dataset", "description", "command", "protocol", "statistics", "environment", "metrics", "main_metric"),
    *("smaller_is_better", "list_metrics", "significance_note", "rows", "published"),
)
ROW_KEYS = (
    *("name", "model", "variant", "baseline", "state", "errors", "seeds", "seeds_done", "measures", "best", "second"),
    *("significance", "slices", "cost", "learning_curves", "settings", "configuration", "chosen", "search"),
    *("reproduce", "records"),
)


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "cells"
    made.mkdir()
    return made


def three_rows(**changes):
    return make_board([make_row("Pop", "Pop"), make_row("SASRec (CE)"), make_row("TIGER", "TIGER")], **changes)


def test_measures_are_those_of_recboles_classes(folder):
    board = three_rows()
    written = write_all(folder, board)
    summary = json_summary(board, folder)
    accuracy = ("Recall", "NDCG", "MRR", "Hit")
    for number, row in enumerate(summary["rows"]):
        referees = [recbole_metrics(written[number, seed], accuracy, board.topk) for seed in (1, 2)]
        for name in referees[0]:
            values = [referee[name] for referee in referees]
            assert row["measures"][name]["values"] == pytest.approx(values, abs=1e-12)
            assert row["measures"][name]["mean"] == pytest.approx(np.mean(values), abs=1e-12)
            assert row["measures"][name]["std"] == pytest.approx(abs(values[0] - values[1]) / np.sqrt(2), abs=1e-12)
        assert row["state"] == "complete" and row["errors"] == []


def test_keys_are_those_of_the_contract_and_all_is_json(folder):
    board = three_rows(published=("tiger",), dataset="amazon-beauty-2014")
    write_all(folder, board)
    summary = json_summary(board, folder)
    assert tuple(summary) == KEYS and all(tuple(row) == ROW_KEYS for row in summary["rows"])
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["metrics"][:5] == ["recall@5", "ndcg@5", "mrr@5", "hit@5", "recall@10"]
    assert summary["metrics"][-2:] == ["recall@10 (ID-level)", "ndcg@10 (ID-level)"]
    assert summary["list_metrics"][:2] == ["itemcoverage@5", "giniindex@5"]
    assert summary["smaller_is_better"] == ["giniindex@5", "giniindex@10", "giniindex@20"]
    assert summary["published"] == read_published(["tiger"], "amazon-beauty-2014")


def test_a_summary_is_read_back_from_its_json(folder):
    """Also one that was written before a key was added, and one with a key that is not known any more."""
    board = three_rows()
    write_all(folder, board)
    summary = summarise(board, str(folder))
    values = json.loads(json.dumps(summary.as_json()))
    assert Summary.from_json(values) == summary
    del values["significance_note"], values["rows"][0]["learning_curves"]
    values["rows"][1]["colour"] = "red"
    read = Summary.from_json(values)
    assert read.significance_note == "" and read.rows[0].learning_curves == [] and read.rows[1] == summary.rows[1]


@pytest.mark.parametrize("name", ["ml-100k", "tiger-beauty", "tiger-sports", "tiger-toys"])
def test_the_summaries_in_kept_pages_are_readable(name):
    page = (Path(__file__).parents[2] / "results" / f"{name}.html").read_text(encoding="utf-8")
    values = data_of(page)
    summary = Summary.from_json(values)
    assert summary.name == name and len(summary.measured) == len(values["rows"])
    assert {key: value for key, value in values.items() if key in KEYS} == summary.as_json()


def test_metrics_of_lists_come_from_the_record(folder):
    board = three_rows()
    write_all(folder, board)
    row = json_summary(board, folder)["rows"][0]
    assert row["measures"]["itemcoverage@10"]["values"] == pytest.approx([0.2, 0.3])
    assert row["measures"]["giniindex@20"]["mean"] == pytest.approx(0.885)


def test_id_level_only_where_there_are_ids_and_asked_for(folder):
    board = three_rows()
    written = write_all(folder, board)
    rows = json_summary(board, folder)["rows"]
    referee = recbole_metrics(written[2, 1], ["Recall"], [10], rank="id_rank")["recall@10"]
    assert rows[2]["measures"]["recall@10 (ID-level)"]["values"][0] == pytest.approx(referee, abs=1e-12)
    assert "recall@10 (ID-level)" not in rows[1]["measures"]
    assert not any("ID-level" in name for name in (*rows[2]["best"], *rows[2]["significance"]))
    summary = json_summary(replace(board, id_level=False), folder)
    assert "ID-level" not in json.dumps(summary)


def test_best_and_second_at_the_printed_digits(folder):
    board = make_board([make_row(name) for name in "ABCD"], metrics=("Recall", "GiniIndex"))
    told = {"A": 0.70001, "B": 0.70002, "C": 0.8, "D": 0.6}
    for cell in board.cells():
        hit_ranks = make_hit_ranks(1 if cell.row.name != "D" else 2, places=40)
        write_cell(folder, cell, hit_ranks)
        record = json.loads((folder / f"{cell.key}.json").read_text())
        record["test"]["giniindex@10"] = told[cell.row.name]
        (folder / f"{cell.key}.json").write_text(json.dumps(record))
    rows = {row["name"]: row for row in json_summary(board, folder)["rows"]}
    assert [name for name, row in rows.items() if "giniindex@10" in row["best"]] == ["D"]
    assert [name for name, row in rows.items() if "giniindex@10" in row["second"]] == ["A", "B"]
    by_recall = sorted({row["measures"]["recall@20"]["mean"] for row in rows.values()}, reverse=True)
    for place, value in zip(("best", "second"), by_recall):
        expected = [name for name, row in rows.items() if row["measures"]["recall@20"]["mean"] == value]
        assert [name for name, row in rows.items() if "recall@20" in row[place]] == expected


def test_significance_pairs_means_over_seeds(folder):
    board = three_rows()
    written = write_all(folder, board)
    summary = json_summary(board, folder)
    pop, sasrec, tiger = summary["rows"]
    test = tiger["significance"]["ndcg@10"]
    means = {row["name"]: row["measures"]["ndcg@10"]["mean"] for row in (pop, sasrec)}
    assert test["against"] == max(means, key=means.get) == "SASRec (CE)"
    per_user = {
        number: (measure_rankings(written[number, 1], ["ndcg"], [10]) + measure_rankings(written[number, 2], ["ndcg"], [10]))
        / 2
        for number in (1, 2)
    }
    difference = (per_user[2] - per_user[1])["ndcg@10"]
    assert test["difference"] == pytest.approx(difference.mean()) and test["users"] == 60
    standard_error = difference.std() / np.sqrt(60)
    assert test["high"] - test["low"] == pytest.approx(2 * 1.96 * standard_error, rel=0.1)
    assert "ndcg@10" in pop["significance"] and "ndcg@10" not in sasrec["significance"]
    assert set(test) == {"against", "difference", "low", "high", "p", "p_holm", "users"}


def test_rankings_by_interaction_and_by_user_are_compared_apart(folder):
    """RecBole ranks a sequential model once per test interaction, the others once per user."""
    names = ("Pop", "ItemKNN", "SASRec", "GRU4Rec")
    board = make_board([make_row(name, name) for name in names], metrics=("Recall", "NDCG"))
    written = {}
    for cell in board.cells():
        hit_ranks = make_hit_ranks(len(cell.row.name), targets=5)
        if cell.row.name in names[2:]:
            hit_ranks["ranking"] = np.arange(len(hit_ranks), dtype="int32")
        written[cell.row.name] = hit_ranks
        write_cell(folder, cell, hit_ranks)
    summary = json_summary(board, folder)
    rows = {row["name"]: row for row in summary["rows"]}
    assert [row["errors"] for row in rows.values()] == [[]] * 4
    sasrec, gru = ((written[name]["rank"] <= 10).fillna(False).astype(float) for name in ("SASRec", "GRU4Rec"))
    assert rows["SASRec"]["measures"]["recall@10"]["mean"] == pytest.approx(sasrec.mean())
    against = {name: {test["against"] for test in row["significance"].values()} for name, row in rows.items()}
    assert against["Pop"] | against["ItemKNN"] <= {"Pop", "ItemKNN"}
    assert against["SASRec"] | against["GRU4Rec"] <= {"SASRec", "GRU4Rec"}
    (test,) = (
        rows[name]["significance"].get("recall@10") for name in names[2:] if "recall@10" in rows[name]["significance"]
    )
    by_user = (sasrec - gru).groupby(written["SASRec"]["user_id"]).mean().mean()
    assert abs(test["difference"]) == pytest.approx(abs(by_user)) and test["users"] == 60
    assert [sum("recall@10" in row["best"] for row in list(rows.values())[part]) for part in (slice(2), slice(2, 4))] == [
        1,
        1,
    ]
    assert summary["protocol"]["rankings"] == (
        "one per test interaction for SASRec, GRU4Rec, paired by the user's mean; "
        "one per user for the others, which are compared apart"
    )


def test_users_that_one_row_lacks_are_not_compared(folder):
    board = make_board([make_row("Pop", "Pop"), make_row("TIGER", "TIGER")])
    for cell in board.cells():
        users = 60 if cell.row.name == "Pop" else 50 - cell.seed
        write_cell(folder, cell, make_hit_ranks(cell.seed, users=users))
    assert json_summary(board, folder)["rows"][1]["significance"]["ndcg@10"]["users"] == 48


def test_states(folder):
    rows = [make_row(name) for name in ("complete", "incomplete", "failed", "missing")]
    board = make_board(rows)
    write = {("complete", 1), ("complete", 2), ("incomplete", 2)}
    for cell in board.cells():
        if (cell.row.name, cell.seed) in write:
            write_cell(folder, cell, make_hit_ranks(cell.seed))
        elif cell.row.name in ("incomplete", "failed") and cell.seed == 1:
            (folder / f"{cell.key}.failed.json").write_text(json.dumps({"error": "out of memory", "log": "x.log"}))
    found = {row["name"]: row for row in json_summary(board, folder)["rows"]}
    assert all(row["state"] == name for name, row in found.items())
    assert found["incomplete"]["errors"] == found["failed"]["errors"] == ["seed 1: out of memory"]
    assert found["incomplete"]["seeds_done"] == [2] and found["incomplete"]["seeds"] == [1, 2]
    assert found["incomplete"]["measures"]["recall@5"]["std"] is None
    for name in ("failed", "missing"):
        row = found[name]
        nothing = (row["measures"], row["best"], row["significance"], row["slices"], row["learning_curves"], row["records"])
        assert not any(nothing) and row["reproduce"].startswith("recbole-gr run --model=SASRec")


def test_nothing_measured(folder):
    summary = json_summary(three_rows(), folder / "not made yet")
    assert tuple(summary) == KEYS and {row["state"] for row in summary["rows"]} == {"missing"}
    assert summary["statistics"] == summary["protocol"] == {} and summary["significance_note"] == NOTHING_TESTED


def test_a_record_that_the_hit_ranks_contradict_is_told(folder):
    board = make_board([make_row("A", seeds=(1,))])
    [cell] = board.cells()
    record = write_cell(folder, cell, make_hit_ranks(1))
    assert json_summary(board, folder)["rows"][0]["errors"] == []
    told = {**record["test"], "recall@5": record["test"]["recall@5"] + 0.0001}
    write_cell(folder, cell, make_hit_ranks(1), test=told)
    [error] = json_summary(board, folder)["rows"][0]["errors"]
    assert error.startswith("seed 1: recall@5 is 0.") and f"{told['recall@5']:.4f} by RecBole's evaluator" in error


def test_variants_stand_by_themselves(folder):
    variants = [{"tie_order": "file"}, {"tie_order": "shuffled"}]
    board = make_board(
        [make_row(name, model, variant=v) for v in variants for name, model in (("P", "Pop"), ("T", "TIGER"))]
    )
    written = write_all(folder, board, targets=3)
    summary = json_summary(board, folder)
    assert summary["protocol"]["tie order"] == "as in the file or shuffled"
    for number, row in enumerate(summary["rows"]):
        assert row["variant"] == variants[number // 2]
        first = written[number // 2 * 2, 1]
        seen = first["item_count"][first["item_count"] > 0]
        ends = [group["label"].split()[-1] for group in row["slices"]["item popularity"][1:4]]
        assert ends == [str(int(np.quantile(seen, share, method="inverted_cdf"))) for share in (0.25, 0.5, 0.75)]
    for name in ("recall@10", "giniindex@5"):
        assert sum(name in row["best"] for row in summary["rows"]) >= 2
    assert [row["significance"] != {} for row in summary["rows"]] == [False, True, False, True]


def test_protocol_cost_curves_and_environment(folder):
    board = three_rows()
    write_all(folder, board)
    summary = json_summary(board, folder)
    assert summary["protocol"] == {
        "split": "leave one out: a user's last interaction is for test, the one before for validation",
        "order": "by time",
        "ranking": "all items",
        "history length": "20",
        "seen items": "masked for all models",
        "timestamps": "in the file's full precision",
        "tie order": "as in the file",
    }
    assert list(summary["statistics"]) == ["users", "items", "interactions", "mean_length", "sparsity"]
    assert summary["environment"] == {
        **{"recbole_gr": "0.4.0", "recbole": "1.2.1", "torch": "2.13.0", "device": ["cpu (x86_64, torch threads: 2)"]},
        **{"git_revision": ["abc"], "created": ["2026-11-21T00:00:00+00:00", "2026-11-22T00:00:00+00:00"]},
    }
    row = summary["rows"][0]
    cost = {"parameters": 1000, "training_seconds": 15.0, "users_per_second": 60.0, "peak_memory_mb": 501.5}
    assert row["cost"] == cost
    curve = {"epochs": [0, 1], "valid_score": [0.1, None], "train_loss": [9.5, 9.0]}
    assert row["learning_curves"] == [{"seed": 1, **curve}, {"seed": 2, **curve}]
    assert row["settings"] == {"learning_rate": 0.001} and row["search"] is None and row["chosen"] == {}
    assert row["reproduce"] == board.cells()[0].command
    assert row["configuration"] == make_record(board.cells()[0], make_hit_ranks(1))["config"]
    assert [os.path.dirname(path) for path in row["records"]] == [f"{folder.parent.name}/cells"] * 2
    assert all((folder.parent.parent / path).is_file() for path in row["records"])


def test_a_gpu_is_named_and_its_memory_told(folder):
    board = make_board([make_row("A")])
    machine = {"processor": "x86_64", "device": "NVIDIA H100", "torch_threads": 2}
    for cell in board.cells():
        gpu = {"peak_gpu_memory_mb": 1000.0 * cell.seed, "machine": machine, "git_revision": None}
        write_cell(folder, cell, make_hit_ranks(cell.seed), **gpu)
    summary = json_summary(board, folder)
    assert summary["rows"][0]["cost"]["peak_gpu_memory_mb"] == 1500.0
    assert summary["environment"]["device"] == ["NVIDIA H100"] and summary["environment"]["git_revision"] == []


def test_protocols_that_differ_are_all_told(folder):
    board = make_board([make_row("Pop", "Pop", seeds=(1,)), make_row("A", seeds=(1,)), make_row("B", seeds=(1,))])
    lengths = {"Pop": 999, "A": 20, "B": 50}
    for cell in board.cells():
        kind = "GENERAL" if cell.row.name == "Pop" else "SEQUENTIAL"
        config = make_record(cell, make_hit_ranks(1))["config"]
        config = {**config, "MAX_ITEM_LIST_LENGTH": lengths[cell.row.name], "MODEL_TYPE": f"ModelType.{kind}"}
        write_cell(folder, cell, make_hit_ranks(1), config={**config, "mask_seen": "recbole"})
    protocol = json_summary(board, folder)["protocol"]
    assert protocol["history length"] == "20 or 50"
    assert protocol["seen items"] == "masked for general models only, as in RecBole"


@pytest.mark.parametrize(
    ("per_cell", "told"),
    [
        ([{"tie_interval": 86400, "tie_seed": 7}], {}),  # the order of the file depends on neither
        ([{"tie_order": "shuffled", "tie_interval": 0, "tie_seed": 7}], {"tie seed": "7"}),
        (
            [{"tie_order": "shuffled", "tie_interval": 86400, "tie_seed": 7}],
            {"tie interval": "86,400 seconds", "tie seed": "7"},
        ),
        (
            [{"tie_order": "shuffled", "tie_interval": length, "tie_seed": 7 + length} for length in (0, 60)],
            {"tie interval": "equal timestamps only or 60 seconds", "tie seed": "7 or 67"},
        ),
        (
            [{"user_inter_num_interval": "[5,inf)", "item_inter_num_interval": "[3,9]", "rm_dup_inter": "last"}],
            {
                **{"users kept": "those with [5,inf) interactions", "items kept": "those with [3,9] interactions"},
                "repeated interactions": "last kept",
            },
        ),
        (
            [{"rm_dup_inter": None, "val_interval": None}, {"rm_dup_inter": False}],
            {"repeated interactions": "all or none kept"},
        ),
        (
            [{"val_interval": {"rating": "(3,inf)", "class": ["Drama", "War"]}}],
            {"values kept": "rating in (3,inf); class in Drama, War"},
        ),
    ],
)
def test_filters_and_ties_are_told_where_they_are_set(folder, per_cell, told):
    board = make_board([make_row("A", seeds=tuple(range(len(per_cell))))])
    for cell, settings in zip(board.cells(), per_cell, strict=True):
        config = make_record(cell, make_hit_ranks(1))["config"]
        write_cell(folder, cell, make_hit_ranks(1), config={**config, **settings})
    protocol = json_summary(board, folder)["protocol"]
    always = {"split", "order", "ranking", "history length", "seen items", "timestamps", "tie order"}
    assert {name: protocol[name] for name in protocol if name not in always} == told


def test_a_split_in_files_is_told(folder):
    (cell,) = (board := make_board([make_row("A", seeds=(1,))])).cells()
    config = {**make_record(cell, make_hit_ranks(1))["config"], "benchmark_filename": ["train", "valid", "test"]}
    write_cell(folder, cell, make_hit_ranks(1), config=config)
    assert json_summary(board, folder)["protocol"]["split"] == "as the data's files give it: train, valid, test"


def test_what_a_search_found(folder):
    space = {"choice": {"learning_rate": [0.01, 0.1]}}
    board = make_board([make_row("A", search=space)])
    row = json_summary(board, folder)["rows"][0]
    assert row["search"] == {"trials": 3, "algorithm": "random", "seed": 2020, "space": space} and row["chosen"] == {}
    write_all(folder, board)
    found = {"found": {"learning_rate": 0.1}, "trials": []}
    (folder / f"{board.cells()[0].key}.search.json").write_text(json.dumps(found))
    row = json_summary(board, folder)["rows"][0]
    assert row["chosen"] == {"learning_rate": 0.1} and "--learning_rate=0.1 " in row["reproduce"]


def test_published_numbers_are_those_of_their_sources():
    [tiger] = read_published(["tiger"], "amazon-beauty-2014")
    assert "2305.05065" in tiger["source"] and "not masked" in tiger["differences"] and "S3-Rec" in tiger["differences"]
    names = ["P5", "Caser", "HGN", "GRU4Rec", "BERT4Rec", "FDSA", "SASRec (BCE)", "S3-Rec", "TIGER"]
    assert [row["name"] for row in tiger["rows"]] == names
    assert tiger["rows"][-1] == {
        "name": "TIGER",
        "recall@5": 0.0454,
        "ndcg@5": 0.0321,
        "recall@10": 0.0648,
        "ndcg@10": 0.0384,
    }
    [grid] = read_published(["grid"], "amazon-toys-2014")
    rkmeans = {"name": "TIGER, RK-Means", "recall@5": 0.0376, "recall@10": 0.0577, "ndcg@5": 0.0243, "ndcg@10": 0.0308}
    assert grid["rows"][0] == rkmeans
    cornac = read_published(["cornac"], "amazon-sports-2014")[0]
    assert cornac["rows"][1] == {"name": "TIGER, GRID's recipe", "recall@5": 0.0188}


@pytest.mark.parametrize("name", published_blocks())
def test_published_blocks_are_whole(name):
    [block] = read_published([name], "amazon-beauty-2014")
    assert block["source"] and block["differences"] and block["rows"]
    for row in block["rows"]:
        assert all(0 < value < 0.1 for key, value in row.items() if key != "name")
        for metric in ("recall", "ndcg"):
            assert row.get(f"{metric}@5", 0) < row.get(f"{metric}@10", 1)
        for k in (5, 10):
            assert row.get(f"ndcg@{k}", 0) < row.get(f"recall@{k}", 1)


def test_published_numbers_that_there_are_not():
    with pytest.raises(SettingError, match=r"published='tigre': no such block; there are .*grid, .*tiger") as error:
        read_published(["tigre"], "amazon-beauty-2014")
    assert "\n" not in str(error.value)
    assert read_published(["letter"], "ml-100k") == []
    assert len(read_published(["letter", "tiger"], "amazon-beauty-2014")) == 2 and not published_elsewhere(
        ["tiger"], "amazon-beauty-2014"
    )
    (line,) = published_elsewhere(["letter"], "ml-100k")
    assert line.startswith(
        "published: letter is left out, it has no numbers for ml-100k; it has some for amazon-beauty-2014"
    )
