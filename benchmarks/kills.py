"""Runs and boards that are killed at random moments and go on: what they end with, against those that nobody killed.

A run is killed by SIGKILL at a random moment of the time it takes or of its epochs, up to three times, and goes on by ``--resume`` where there is a
training state, else from the beginning. Its metrics, learning curve, target ranks, best weights and last weights must be those of a
run that was not killed, bit for bit, and no file of a dead process may be left. Of boards the whole process group is killed, or
(every second one) the board's process alone.

    python benchmarks/kills.py --runs 50 --boards 20
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import random
import shutil
import tempfile
import time
from typing import Any

import yaml
from tiny_runs import Process, arguments_of, leftovers, outcome, weights, write_small_data

MODELS = ("SASRecCausal", "BPR")
EPOCHS = 30


def record_in(folder: str) -> str:
    (record,) = glob.glob(os.path.join(folder, "records", "*.json"))
    return record


def finished(arguments: list[str], folder: str) -> float:
    """Run to the end; returns the seconds."""
    start = time.perf_counter()
    status = Process(arguments, folder).wait()
    assert status == 0, open(os.path.join(folder, "out.txt"), encoding="utf-8").read()[-2000:]
    return time.perf_counter() - start


def resumed(arguments: list[str], folder: str) -> list[str]:
    """The arguments that go on with what a killed run left."""
    states = glob.glob(os.path.join(folder, "saved", "*.last.pth"))
    if not states:
        shutil.rmtree(os.path.join(folder, "saved"), ignore_errors=True)  # checkpoints without a state: another run's name
        return arguments
    (state,) = states
    return [*arguments, f"--resume={state}"]


def wait(process: Process, folder: str, draw: random.Random, seconds: float) -> None:
    """Until a random moment: every second time of the whole process, else of its epochs behind the first state."""
    if draw.random() < 0.5:
        time.sleep(draw.uniform(0.1, 1.0) * seconds)
        return
    deadline = time.monotonic() + seconds
    while not glob.glob(os.path.join(folder, "*.last.pth")) and time.monotonic() < deadline:
        time.sleep(0.002)
    time.sleep(draw.uniform(0.0, 1.0))


def kill_runs(folder: str, number: int, draw: random.Random) -> dict[str, Any]:
    """Kill runs; returns the figures."""
    expected, seconds = {}, {}
    for model in MODELS:
        whole = os.path.join(folder, f"whole-{model}")
        shutil.copytree(os.path.join(folder, "data"), os.path.join(whole, "data"))
        seconds[model] = finished(arguments_of(model, whole, epochs=EPOCHS), whole)
        expected[model] = outcome(record_in(whole)), weights(os.path.join(whole, "saved"))
    kills = from_state = differ = 0
    left: list[str] = []
    for trial in range(number):
        model = MODELS[trial % len(MODELS)]
        own = os.path.join(folder, f"run-{trial}")
        shutil.copytree(os.path.join(folder, "data"), os.path.join(own, "data"))
        arguments = arguments_of(model, own, epochs=EPOCHS)
        for _ in range(draw.randint(1, 3)):
            asked = resumed(arguments, own)
            from_state += asked != arguments
            process = Process(asked, own)
            wait(process, os.path.join(own, "saved"), draw, seconds[model])
            process.kill()
            ended = process.wait() == 0
            kills += not ended
            if glob.glob(os.path.join(own, "records", "*.json")):  # it may be killed behind its record
                break
        else:
            asked = resumed(arguments, own)
            from_state += asked != arguments
            finished(asked, own)
        found = outcome(record_in(own)), weights(os.path.join(own, "saved"))
        differ += found != expected[model]
        left += leftovers(own)
        shutil.rmtree(own)
    return {"runs": number, "kills": kills, "starts_from_a_state": from_state, "differ": differ, "leftovers": left}


def kill_boards(folder: str, number: int, draw: random.Random) -> dict[str, Any]:
    """Kill boards; returns the figures."""
    board = {"dataset": "small", "seeds": [1], "topk": [5, 10], "metrics": ["Recall", "NDCG"]}
    rows = [{"model": "BPR", "settings": {"embedding_size": 8, "epochs": 100, "stopping_step": 100}}, {"model": "Pop"}]
    whole = os.path.join(folder, "whole-board")

    def prepared(own: str) -> list[str]:
        os.makedirs(own)
        with open(os.path.join(own, "shelf.yaml"), "w", encoding="utf-8") as file:
            yaml.safe_dump({**board, "rows": rows}, file)
        return ["leaderboard", "shelf.yaml", f"--data_path={folder}/data"]

    def results(own: str) -> dict[str, Any]:
        paths = glob.glob(os.path.join(own, "results", "shelf", "cells", "*.json"))
        return {os.path.basename(path): outcome(path) for path in paths}

    arguments = prepared(whole)
    seconds = finished(arguments, whole)
    expected = results(whole)
    kills = went_on = differ = 0
    left: list[str] = []
    for trial in range(number):
        own = os.path.join(folder, f"board-{trial}")
        process = Process(prepared(own), own)
        wait(process, os.path.join(own, "results", "shelf", "cells", "work", "*.saved"), draw, seconds)
        process.kill(whole_group=trial % 2 == 0)
        kills += process.wait() != 0
        states = glob.glob(os.path.join(own, "results", "shelf", "cells", "work", "*.saved", "*.last.pth"))
        went_on += bool(states)
        finished(arguments, own)
        differ += results(own) != expected
        left += leftovers(own)
        shutil.rmtree(own)
    return {"boards": number, "kills": kills, "cells_with_a_state": went_on, "differ": differ, "leftovers": left}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--boards", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        write_small_data(os.path.join(folder, "data"))
        for name, kill, number in (("runs", kill_runs, asked.runs), ("boards", kill_boards, asked.boards)):
            if number:
                figures[name] = kill(folder, number, random.Random(asked.seed))
                print(name, figures[name], flush=True)
    print(json.dumps({"benchmark": "kills", "sizes": vars(asked), "figures": figures}))


if __name__ == "__main__":
    main()
