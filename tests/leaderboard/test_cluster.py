"""A board on a Dask cluster: a real scheduler and two real workers on loopback, one of which is killed."""

import glob
import json
import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
import yaml

from recbole_gr.cli import main
from recbole_gr.leaderboard.board_file import read_board
from recbole_gr.leaderboard.cluster import ClusterRunner, read_resources
from recbole_gr.utils.errors import RecBoleGRError, SettingError

CELLS = os.path.join("results", "shelf", "cells")


def wait_for(happened, seconds=120):
    end = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
    return found


@pytest.fixture
def cluster(tmp_path):
    """The address of a scheduler with two workers, each a process group, and the workers."""
    file = str(tmp_path / "scheduler.json")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "start_new_session": True}
    start = [sys.executable, "-m"]
    scheduler = subprocess.Popen(
        [
            *start,
            "distributed.cli.dask_scheduler",
            "--host=127.0.0.1",
            "--port=0",
            "--no-dashboard",
            f"--scheduler-file={file}",
        ],
        **quiet,
    )
    processes = [scheduler]
    try:
        options = ["--no-nanny", "--nthreads=1", "--no-dashboard", "--resources=SLOT=1", f"--scheduler-file={file}"]
        workers = [
            subprocess.Popen(
                [*start, "distributed.cli.dask_worker", *options, f"--local-directory={tmp_path}/worker{number}"], **quiet
            )
            for number in range(2)
        ]
        processes += workers
        wait_for(lambda: os.path.exists(file))
        yield json.load(open(file))["address"], workers
    finally:
        for process in processes:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.wait(timeout=30)


@pytest.fixture
def shelf(small_part):
    def write(rows):
        board = {"dataset": "small", "seeds": [1], "topk": [5, 10], "metrics": ["Recall", "NDCG"], "rows": rows}
        with open("shelf.yaml", "w") as file:
            yaml.safe_dump(board, file)
        return ["shelf.yaml", f"--data_path={small_part[1]}"]

    return write


def record(name):
    (path,) = glob.glob(os.path.join(CELLS, f"{name}-*.json"))
    return json.load(open(path))


def test_a_cell_of_a_lost_worker_goes_on_at_another_one(cluster, shelf, small_part):
    address, workers = cluster
    slow = {"name": "slow", "model": "BPR", "settings": {"epochs": 25, "stopping_step": 1000}}
    arguments = shelf([{"model": "Pop"}, slow])
    command = [sys.executable, "-m", "recbole_gr", "leaderboard", *arguments, "--jobs=2", "--executor=dask"]
    board = subprocess.Popen(
        [*command, f"--scheduler={address}", "--resources=SLOT=1"], stdout=open("board.out", "w"), stderr=subprocess.STDOUT
    )
    state = os.path.join(CELLS, "work", "slow-*.saved", "*.last.pth")
    wait_for(lambda: glob.glob(state))

    def has_the_cell(worker):
        return any("slow" in " ".join(child.cmdline()) for child in psutil.Process(worker.pid).children())

    (lost,) = (worker for worker in workers if has_the_cell(worker))
    os.killpg(lost.pid, signal.SIGKILL)
    assert board.wait(timeout=200) == 0, open("board.out").read()
    assert record("Pop")["model"] == "Pop"
    assert [epoch["epoch"] for epoch in record("slow")["learning_curve"]] == list(range(25))
    assert record("slow")["resumed_after"] and not glob.glob(state)

    # a worker that does not see the board's folder sends the files
    for path in glob.glob(os.path.join(CELLS, "Pop-*")):
        os.remove(path)
    runner = ClusterRunner(CELLS, 1, address, {"SLOT": 1})
    runner.token = "another machine's"
    try:
        assert runner.run_board(read_board("shelf.yaml", {"data_path": os.path.abspath(small_part[1])})) == []
        assert record("Pop")["hit_ranks"]["file"].startswith("Pop-") and len(glob.glob(os.path.join(CELLS, "Pop-*"))) == 2

        # a board that is stopped takes its cells back
        for path in glob.glob(os.path.join(CELLS, "slow-*")):
            os.remove(path)
        threading.Timer(6.0, runner.stop).start()
        assert [
            cell.row.name
            for cell in runner.run_board(read_board("shelf.yaml", {"data_path": small_part[1], "epochs": 5000}))
        ]
    finally:
        runner.close()


def test_what_cannot_be(shelf, capsys):
    arguments = shelf([{"model": "Pop"}])
    for given, words in (
        (["--executor=dask"], "error: scheduler=None: must be set with --executor dask: tcp://HOST:8786"),
        (["--scheduler=tcp://a:1"], "error: scheduler='tcp://a:1': has no use without --executor dask"),
        (
            ["--executor=dask", "--scheduler=tcp://127.0.0.1:9", "--resources=GPU"],
            "error: resources='GPU': must be names and numbers",
        ),
    ):
        assert main(["leaderboard", *arguments, *given]) == 2
        assert capsys.readouterr().err.splitlines()[-1].startswith(words)
    assert read_resources("GPU=1, memory=8e9") == {"GPU": 1.0, "memory": 8e9} and read_resources("") == {}


def test_a_scheduler_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr("recbole_gr.leaderboard.cluster.TIMEOUT", 1)
    with pytest.raises(SettingError, match="scheduler='tcp://127.0.0.1:9': must be the address of a running Dask") as caught:
        ClusterRunner(str(tmp_path / "cells"), 1, "tcp://127.0.0.1:9", {})
    assert isinstance(caught.value, RecBoleGRError) and "\n" not in str(caught.value)
