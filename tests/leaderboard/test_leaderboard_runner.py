"""Boards that are really run: failures, searches, kills, and two at once."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
import yaml
from support.forked import Forked

from recbole_gr.cli import main
from recbole_gr.leaderboard.board_file import read_board
from recbole_gr.leaderboard.cell_files import locked
from recbole_gr.leaderboard.plan import TimeLeft, plan
from recbole_gr.leaderboard.runner import Runner
from recbole_gr.leaderboard.search import search_settings
from recbole_gr.leaderboard.summarise import summarise
from recbole_gr.utils.errors import RecBoleGRError

CELLS = os.path.join("results", "shelf", "cells")


@pytest.fixture
def shelf(small_part):
    """Writes a board of the small part; returns the arguments that run it."""

    def write(rows, data_path=small_part[1], **more):
        board = {"dataset": "small", "seeds": [1], "topk": [5, 10], "metrics": ["Recall", "NDCG"], **more}
        board |= {"rows": rows} if rows else {}
        with open("shelf.yaml", "w") as file:
            yaml.safe_dump(board, file)
        return ["shelf.yaml", f"--data_path={data_path}"]

    return write


def start(*arguments):
    """A board in a process group of its own; what it needs is imported here, once for all."""
    import hyperopt  # noqa: F401

    import recbole_gr.experiment.run
    import recbole_gr.leaderboard.command
    import recbole_gr.leaderboard.render.html
    import recbole_gr.leaderboard.summarise  # noqa: F401

    return Forked(["leaderboard", *arguments], "board.out", "board.out")


def cell_files(ending):
    return sorted(name for name in os.listdir(CELLS) if name.endswith(ending))


def read(folder, name):
    with open(os.path.join(folder, name)) as file:
        return json.load(file)


def test_two_boards_at_once_with_a_failure_and_a_search(shelf, smaller_part, capsys):
    """Each cell runs once, and the one that cannot is shown with its error."""
    rows = [
        {"model": "Pop"},
        {"name": "broken", "model": "BPR", "settings": {"embedding_size": "wide"}},
        {"name": "sought", "model": "BPR", "settings": {"epochs": 9}, "search": {"uniform": {"learning_rate": [0.0, 0.1]}}},
    ]
    search = {"trials": 2, "algorithm": "random", "seed": 3}
    arguments = shelf(rows, smaller_part[1], search=search, topk=[5, 50], main_metric="NDCG@50")
    boards = [start(*arguments, "--jobs", "2") for _ in range(2)]
    assert [board.wait(timeout=240) for board in boards] == [2, 2], open("board.out").read()
    printed = open("board.out").read()
    assert printed.count("error: 1 of 3 cells failed; the pages show their errors") == 2

    records = [name for name in cell_files(".json") if name.count(".") == 1]
    assert [name.split("-")[:-1] for name in records] == [
        *[["Pop", "seed1"], ["sought", "seed1"], ["sought", "trial", "seed1"], ["sought", "trial", "seed1"]],
    ]
    for name in records:
        record = read(CELLS, name)
        assert record["test"].keys() == {"recall@5", "recall@50", "ndcg@5", "ndcg@50"}
        whole = record["stages"]["whole"]  # of the cell alone, with its one thread, whatever runs beside it
        assert record["machine"]["torch_threads"] == 1 and 0 < whole["cpu_seconds"] < 1.2 * whole["seconds"] + 0.5
        with open(os.path.join(CELLS, "work", name.replace(".json", ".log"))) as log:
            assert log.read().count("test result") == 1  # no cell ran twice
    (failure,) = cell_files(".failed.json")
    assert failure.startswith("broken-seed1-") and "embedding_size" not in read(CELLS, failure)["error"]
    assert "Error: " in read(CELLS, failure)["error"] and "\n" not in read(CELLS, failure)["error"]
    reason = f"failed: {failure.removesuffix('.failed.json')}: {read(CELLS, failure)['error']}\n"
    repeat = f"  repeat: recbole-gr run --model=BPR --dataset=small --embedding_size=wide {arguments[1]} "
    assert printed.count(reason) == printed.count(repeat) == 2
    (search,) = cell_files(".search.json")
    trials = {trial["settings"]["learning_rate"]: trial["score"] for trial in read(CELLS, search)["trials"]}
    assert len(trials) == 2 and read(CELLS, search)["found"] == {"learning_rate": max(trials, key=trials.get)}
    sought = read(CELLS, next(name for name in records if name.startswith("sought-seed1")))
    assert sought["config"]["learning_rate"] == max(trials, key=trials.get)
    compare_with_recboles_evaluator(arguments)
    compare_with_the_printed_command(arguments[1].partition("=")[2], sought, capsys)


def compare_with_the_printed_command(data_path, sought, capsys):
    """The command of a row, with the reader's folder for DIR, gets the numbers of the cell, to the digit."""
    page = open("results/shelf.md").read()
    assert data_path not in page and "recbole-gr leaderboard shelf.yaml --data_path=DIR --jobs=2\n" in page
    (command,) = re.findall("repeat: `(recbole-gr run --model=BPR .*--learning_rate=.*)`", page)
    arguments = shlex.split(command.replace("=DIR", f"={data_path}"))[1:]
    assert main([*arguments, "--show_progress=False"]) == 0
    (path,) = re.findall("^record +(.*)$", capsys.readouterr().out, re.M)
    again = read(".", path)
    assert 0 < again["test"]["ndcg@50"] < 1
    assert (again["test"], again["valid"]) == (sought["test"], sought["valid"])
    assert pd.read_parquet(path.replace(".json", ".parquet")).equals(
        pd.read_parquet(os.path.join(CELLS, sought["hit_ranks"]["file"]))
    )


def compare_with_recboles_evaluator(arguments):
    """What the pages print of one seed is what RecBole printed, to its four digits."""
    board = read_board("shelf.yaml", {"data_path": arguments[1].partition("=")[2]})
    measured = {row.name: row.measures for row in summarise(board, CELLS).rows}
    assert measured["broken"] == {}
    with open("results/shelf.md") as page:
        lines = page.read().split("## Accuracy")[1].split("## Significance")[0].splitlines()
    for cell in (cell for cell in board.cells() if cell.row.name != "broken"):
        printed = [
            re.sub("[*†]|</?u>", "", word).strip()
            for line in lines
            for word in line.split("|")
            if f"| {cell.row.name} " in line
        ]
        test = read(CELLS, f"{cell.key}.json")["test"]
        for metric, value in test.items():
            assert round(measured[cell.row.name][metric].mean, 4) == value
            assert f"{value:.4f}" in printed, (metric, lines)


def test_cells_at_once_share_the_processors(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3, 4}, raising=False)
    threads = [Runner(CELLS, jobs)._environment()["OMP_NUM_THREADS"] for jobs in (1, 2, 5, 8)]
    assert threads == ["5", "2", "1", "1"]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert Runner(CELLS, 8)._environment()["OMP_NUM_THREADS"] == "3"


def test_a_board_killed_in_the_middle_of_a_cell(shelf):
    """The next start runs that cell and no other, from its last state on."""
    rows = [{"model": "Pop"}, {"name": "slow", "model": "BPR", "settings": {"epochs": 30, "stopping_step": 1000}}]
    arguments = shelf(rows)
    board = start(*arguments)
    wait_for(lambda: "epoch 3 training" in work_log("slow"))
    (child,) = children_of(board.pid)
    os.killpg(board.pid, signal.SIGKILL)
    board.wait()
    assert [name.split("-")[0] for name in cell_files("")] == ["Pop", "Pop", "work"]  # a record and its hit ranks
    (first,) = cell_files(".json")
    before = os.stat(os.path.join(CELLS, first)).st_mtime_ns
    left = os.path.join(CELLS, f"half.json.{child}-{'0' * 32}.tmp")  # as if it had been killed while it wrote
    open(left, "w").close()

    assert start(*arguments).wait(timeout=120) == 0
    assert [name.split("-")[0] for name in cell_files(".json")] == ["Pop", "slow"]
    assert os.stat(os.path.join(CELLS, first)).st_mtime_ns == before
    record = read(CELLS, cell_files(".json")[1])
    assert [epoch["epoch"] for epoch in record["learning_curve"]] == list(range(30))
    assert record["stages"]["training"]["times"] == 30 and record["resumed_after"][0] >= 2
    assert work_log("slow").count("epoch 0 training") == 1 and not os.path.exists(left)
    assert sorted(name.rpartition(".")[2] for name in os.listdir(os.path.join(CELLS, "work"))) == [
        "lock",
        "lock",
        "log",
        "log",
    ]


def test_a_study_killed_and_gone_on(shelf, small_part, capsys):
    """The dry run tells what the cells will cost, and what they cost; the next start runs what is left."""
    sweep = {
        "name": "wide",
        "model": "BPR",
        "settings": {"epochs": 12, "stopping_step": 1000},
        "grid": {"embedding_size": [4, 8]},
    }
    arguments = shelf([], axes=[sweep], main_metric="Recall@10")
    study = Forked(["study", *arguments], "board.out", "board.out")
    wait_for(lambda: "epoch 3 training" in work_log("wide-embedding-size-8"))
    os.killpg(study.pid, signal.SIGKILL)
    study.wait()
    (first,) = cell_files(".json")
    before = os.stat(os.path.join(CELLS, first)).st_mtime_ns

    assert main(["study", *arguments, "--dry-run"]) == 0
    told = {line[:22].strip(): line[22:].split() for line in capsys.readouterr().out.splitlines()}
    done, left = told["wide, embedding_size 4"], told["wide, embedding_size 8"]
    catalogue = 60 + 1 + len(items_of(small_part)) + 1
    assert (done[0], done[-1], left[0], left[-1]) == ("-", "0", f"{8 * catalogue:,}", "1")
    assert (done[2], left[3]) == ("-", "-") and float(done[3]) >= 0 and float(left[2]) > 0  # measured, and by its probe

    assert Forked(["study", *arguments, "--format=csv"], "board.out", "board.out").wait(timeout=120) == 0
    assert os.stat(os.path.join(CELLS, first)).st_mtime_ns == before
    assert work_log("wide-embedding-size-8").count("epoch 0 training") == 1
    table = pd.read_csv("results/shelf.csv")
    assert table["embedding_size"].tolist() == [4, 8] and table["N_RS"].tolist() == [4 * catalogue, 8 * catalogue]
    assert "2 different sizes: too few for a law." in open("results/shelf.md").read()


def items_of(small_part):
    table = pd.read_csv(os.path.join(small_part[1], "small", "small.inter"), sep="\t")
    return table["item_id:token"].unique()


def work_log(name):
    folder = os.path.join(CELLS, "work")
    logs = (
        [log for log in os.listdir(folder) if log.startswith(name) and log.endswith(".log")]
        if os.path.exists(folder)
        else []
    )
    return "".join(open(os.path.join(folder, log)).read() for log in logs)


def wait_for(happened, seconds=60):
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, open("board.out").read()
        time.sleep(0.05)


def test_a_search_that_is_killed_or_stopped_is_no_search(shelf):
    """Its row fails or waits, for the next start; a trial that did not end is not a trial that failed."""
    space = {"choice": {"epochs": [30, 31]}, "loguniform": {"learning_rate": [-9, -2]}}
    arguments = shelf([{"model": "BPR", "search": space}], search={"trials": 2, "seed": 4})
    board = start(*arguments)
    wait_for(lambda: "epoch 0 training" in work_log("BPR-trial"))
    (child,) = children_of(board.pid)
    os.kill(child, signal.SIGKILL)
    assert board.wait(timeout=60) == 2 and cell_files(".search.json") == []
    (failure,) = cell_files(".failed.json")
    assert failure.startswith("BPR-seed1-") and "BPR-trial" in read(CELLS, failure)["error"]
    assert "ended by signal 9" in read(CELLS, failure)["error"]

    logged = len(work_log("BPR-trial"))
    board = start(*arguments)
    wait_for(lambda: " training [" in work_log("BPR-trial")[logged:])
    (child,) = children_of(board.pid)
    os.kill(board.pid, signal.SIGTERM)  # the board alone is told, and ends its cell
    assert board.wait(timeout=60) == 143 and cell_files("") == [failure, "work"]
    assert not os.path.exists(f"/proc/{child}") and work_log("BPR-trial").endswith("terminated\n")
    assert [name for name in os.listdir(os.path.join(CELLS, "work")) if name.endswith(".json")] == []


def children_of(pid):
    """Processes that any thread of a process started."""
    threads = [f"/proc/{pid}/task/{thread}/children" for thread in os.listdir(f"/proc/{pid}/task")]
    return [int(child) for thread in threads for child in open(thread).read().split()]


def test_a_cell_with_damaged_files_runs_again(shelf):
    shelf([{"model": "Pop"}])
    (cell,) = read_board("shelf.yaml").cells()
    runner = Runner(CELLS)
    for text, kept, whole in (
        ("", True, False),
        ('{"hit_ranks": {"file": "ranks.parquet"}}', False, False),
        ('{"hit_ranks": {"file": "ranks.parquet"}}', True, True),
    ):
        with open(runner.path(cell.key, ".json"), "w") as record:
            record.write(text)
        if kept:
            open(os.path.join(CELLS, "ranks.parquet"), "w").close()
        elif os.path.exists(os.path.join(CELLS, "ranks.parquet")):
            os.remove(os.path.join(CELLS, "ranks.parquet"))
        assert (runner.record(cell.key) is not None) == whole


def test_the_time_left_counts_the_trials_of_a_search(shelf):
    rows = [{"model": "BPR"}, {"name": "sought", "model": "BPR", "search": {"choice": {"epochs": [1]}}}]
    shelf(rows, search={"trials": 4}, seeds=[1, 2])
    board, runner = read_board("shelf.yaml"), Runner(CELLS)
    for cell in board.cells()[:2]:
        with open(runner.path(cell.key, ".json"), "w") as file:
            json.dump({"stages": {"whole": {"seconds": 600.0}}}, file)
    assert TimeLeft(runner, board.cells()).words(1) == "1 h 00 min"  # four trials and two seeds
    open(runner.path(board.cells()[2].key, ".search.json"), "w").close()
    assert TimeLeft(runner, board.cells()).words(1) == "20 min"


def test_plan(shelf):
    """What is there, what runs, what is to run; like cells are those of the row, else of the model."""
    rows = [{"model": "Pop", "seeds": [1, 2]}, {"name": "other", "model": "Pop"}, {"model": "BPR"}]
    shelf(rows)
    board, runner = read_board("shelf.yaml"), Runner(CELLS)
    keys = [cell.key for cell in board.cells()]
    with open(runner.path(keys[0], ".json"), "w") as file:
        json.dump({"stages": {"whole": {"seconds": 100.0}}}, file)
    with locked(runner.work_path(keys[3], ".lock"), wait=False):
        lines = [line.split("  ") for line in plan(runner, board, 2).splitlines()]
    words = [[word.strip() for word in line if word.strip()] for line in lines]
    assert words[2:] == [
        ["Pop", "1", "there", "2 min"],
        ["Pop", "2", "to run", "2 min"],
        ["other", "1", "to run", "2 min"],
        ["BPR", "1", "running", "unknown"],
        ["3 of 4 cells to run with 2 at once, time left: 2 min and 1 cell of a kind not timed yet"],
    ]


def test_errors_before_any_cell_runs(shelf, capsys):
    for rows, words, more in (
        (
            [{"model": "Pop"}, {"name": "far", "model": "TIGER", "settings": {"mask_seen": "no way"}}],
            ["mask_seen", "row 'far'"],
            [],
        ),
        ([{"model": "TIGER", "settings": {"tokenizer": "kmeans"}}], ["tokenizer='kmeans'", "row 'TIGER' of shelf.yaml"], []),
        ([{"model": "SASREC"}], ["model='SASREC'", "SASRec"], []),
        (
            [{"model": "Pop"}, {"model": "BPR", "settings": {"mask_seen": False}}],
            ["mask_seen=False", "row 'BPR' of shelf.yaml leaves the protocol", "row 'Pop' has True"],
            [],
        ),
        (
            [
                {"model": "GRU4Rec", "settings": {"MAX_ITEM_LIST_LENGTH": 50}},
                {"model": "Pop"},
                {"model": "TIGER", "settings": {"MAX_ITEM_LIST_LENGTH": 20}},
            ],
            ["MAX_ITEM_LIST_LENGTH=20", "row 'GRU4Rec' has 50"],
            [],
        ),
        ([{"model": "BPR", "search": {"choice": {"learnin_rate": [1]}}}], ["search='learnin_rate'", "row 'BPR'"], []),
        ([{"model": "Pop", "settings": {"eval_args": "full"}}], ["row 'Pop' of shelf.yaml"], []),
        ([{"model": "Pop"}], ["results_dir='shelf.yaml/x/shelf/cells/work'"], ["--results_dir", "shelf.yaml/x"]),
        ([{"model": "Pop"}], ["seed='7'"], ["--seed='7'"]),
        ([{"model": "Pop"}], ["--jobs", "0"], ["--jobs", "0"]),
        ([{"model": "Pop"}], ["--format"], ["--format", "word"]),
    ):
        try:
            status = main(["leaderboard", *shelf(rows), *more])
        except SystemExit as stop:
            status = stop.code
        error = capsys.readouterr().err
        assert status == 2 and all(word.lstrip("-") in error for word in words), error
        assert not os.path.exists(CELLS)


def trial_board(shelf, trials, algorithm="random"):
    space = {"choice": {"layers": [1, 2, 3]}, "loguniform": {"learning_rate": [-8, -1]}}
    shelf([{"model": "BPR", "search": space}], search={"trials": trials, "algorithm": algorithm, "seed": 5})
    return read_board("shelf.yaml").cells()[0]


@pytest.mark.parametrize("algorithm", ["random", "bayes"])
def test_a_search_takes_the_best_of_its_trials_and_draws_the_same_again(shelf, algorithm):
    cell = trial_board(shelf, 12, algorithm)
    seen = []

    def run_trial(trial):
        assert trial.row.search is None and trial.settings["seed"] == 1
        seen.append(trial.key)
        return {"valid": {"ndcg@10": score(trial.found)}} if trial.found["layers"] != 2 else None

    def score(found):
        return found["layers"] - abs(found["learning_rate"] - 0.05)

    result = search_settings(cell, run_trial)
    assert len(result["trials"]) == 12 and {trial["score"] is None for trial in result["trials"]} == {True, False}
    scores = [score(trial["settings"]) for trial in result["trials"] if trial["settings"]["layers"] != 2]
    assert score(result["found"]) == max(scores) and result["found"]["layers"] == 3
    first, seen[:] = seen[:], []
    search_settings(cell, run_trial)
    assert seen == first and len(set(first)) == 12


@pytest.mark.parametrize("algorithm", ["random", "bayes"])
def test_trials_are_those_of_recboles_hypertuning(shelf, algorithm):
    """Its search, given the same random state, draws the same settings."""
    import hyperopt
    import numpy as np
    from recbole.trainer import HyperTuning

    cell = trial_board(shelf, 6, algorithm)
    found = search_settings(cell, lambda trial: {"valid": {"ndcg@10": trial.found["learning_rate"]}})["trials"]
    drawn = []

    def objective(settings, _):
        drawn.append({key: getattr(value, "item", lambda value=value: value)() for key, value in settings.items()})
        result = {"best_valid_score": settings["learning_rate"], "best_valid_result": {}, "test_result": {}}
        return {"model": "BPR", "valid_score_bigger": True, **result}

    tuning = HyperTuning(objective, params_dict=cell.row.search, algo=algorithm, max_evals=6)
    state = np.random.default_rng(cell.board.effort.seed)
    hyperopt.fmin(tuning.trial, tuning.space, algo=tuning.algo, max_evals=6, rstate=state, show_progressbar=False)
    assert [trial["settings"] for trial in found] == drawn


def test_a_lock_is_free_after_its_process_is_killed(tmp_path):
    """And is not while the process lives."""
    path = str(tmp_path / "cell.lock")
    code = (
        "import sys, time; from recbole_gr.leaderboard.cell_files import locked\n"
        "with locked(sys.argv[1], wait=True): print('held', flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    with locked(path, wait=False) as held:
        assert not held
    process.kill()
    process.wait()
    process.stdout.close()
    for _ in range(2):  # and free again after it was held
        with locked(path, wait=False) as held:
            assert held


def test_a_search_without_one_good_trial(shelf):
    with pytest.raises(RecBoleGRError, match="all 3 trials failed"):
        search_settings(trial_board(shelf, 3), lambda trial: None)


def test_a_search_that_fails_is_its_rows_failure(shelf):
    """Whatever the fault, here a metric that the trial's record lacks."""
    cell = trial_board(shelf, 2)
    runner = Runner(CELLS)
    runner.run_cell = lambda trial: {"valid": {}}
    runner.run_with_search(cell)
    assert read(CELLS, f"{cell.key}.failed.json") == {"error": "KeyError: 'ndcg@10'"}
