"""Runs the cells of a board that have no record yet, one process each."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from time import monotonic, sleep
from typing import Any

from tqdm import tqdm

from recbole_gr.leaderboard.board import Board, Cell
from recbole_gr.leaderboard.cell_files import locked, read_json, read_record
from recbole_gr.leaderboard.cell_process import write_failure
from recbole_gr.leaderboard.plan import TimeLeft
from recbole_gr.leaderboard.search import BoardStopped, CellKilled, search_settings
from recbole_gr.utils.atomic_files import atomic_write, probe, remove_leftovers
from recbole_gr.utils.errors import SettingError

#: Seconds between two looks at a cell that another board is running.
LOOK_AGAIN = 2.0

#: Seconds that a process has to end by itself when the board is stopped.
TIME_TO_END = 30.0


class Runner:
    """Runs cells and keeps their files in one folder.

    Args:
        folder: where records and hit ranks are, and below it in ``work`` logs and locks; boards may share it.
        jobs: how many processes run at once.

    Raises:
        SettingError: the folder cannot be made or written.
    """

    def __init__(self, folder: str, jobs: int = 1) -> None:
        self.folder, self.jobs = folder, jobs
        self.processes: set[subprocess.Popen[bytes]] = set()
        self.stopped = False
        self.places = list(range(jobs))  # which of the GPUs a process gets
        self.lock = threading.Lock()
        _make_folder(os.path.join(folder, "work"))
        remove_leftovers([os.path.dirname(os.path.dirname(folder)), folder, os.path.join(folder, "work")])

    def path(self, key: str, ending: str) -> str:
        """Of a file of a cell that is kept."""
        return os.path.join(self.folder, key + ending)

    def work_path(self, key: str, ending: str) -> str:
        """Of a file of a cell that only its run needs."""
        return os.path.join(self.folder, "work", key + ending)

    def record(self, key: str) -> dict[str, Any] | None:
        """The record of a cell; None if it has to run: there is none, or its files are damaged."""
        return read_record(self.folder, key)

    def run_board(self, board: Board) -> list[Cell]:
        """Run what is missing; a cell that fails does not stop the others.

        Returns:
            Those that failed.
        """
        cells = board.cells()
        time_left = TimeLeft(self, cells)
        with tqdm(total=len(cells), desc=board.name, unit="cell", dynamic_ncols=True) as bar:

            def run(cell: Cell) -> None:
                if not self.stopped:
                    self.run_with_search(cell)
                    with self.lock:
                        bar.set_postfix_str(f"{time_left.words(self.jobs)} left, {cell.key}")
                        bar.update()

            with ThreadPoolExecutor(self.jobs) as threads:
                try:
                    for done in [threads.submit(run, cell) for cell in self.in_order(cells)]:
                        done.result()
                except BaseException:
                    self.stop()
                    raise
        return [cell for cell in cells if self.record(cell.key) is None]

    def in_order(self, cells: Sequence[Cell]) -> list[Cell]:
        """The order to run them in: last those that another board is running."""
        return sorted(cells, key=self.is_running)

    def is_running(self, cell: Cell) -> bool:
        """Whether a process holds the cell's lock."""
        if not os.path.exists(self.work_path(cell.key, ".lock")):
            return False
        with locked(self.work_path(cell.key, ".lock"), wait=False) as free:
            return not free

    def run_with_search(self, cell: Cell) -> None:
        """Run a cell, the search of its row before it."""
        if self.record(cell.key) is not None:
            return
        try:
            found = self.found(cell)["found"] if cell.row.search else None
            self.run_cell(replace(cell, found=found))
        except BoardStopped:
            return
        except Exception as error:  # the other rows go on
            write_failure(self.path(cell.key, ""), f"{type(error).__name__}: {error}")

    def found(self, cell: Cell) -> dict[str, Any]:
        """What the search of a row found; all its seeds share the search with the first one."""
        path = self.path(cell.first.key, ".search.json")
        with locked(self.work_path(cell.first.key, ".search.lock"), wait=True):
            result = read_json(path)
            if result is None:
                result = search_settings(cell.first, self.run_cell)
                with atomic_write(path) as file:
                    json.dump(result, file, indent=1)
        return result

    def searched(self, cell: Cell) -> bool:
        """Whether the search of a row is done."""
        return os.path.exists(self.path(cell.first.key, ".search.json"))

    def run_cell(self, cell: Cell) -> dict[str, Any] | None:
        """Run one cell in a process of its own, and wait for it.

        Returns:
            Its record; None if it failed.

        Raises:
            BoardStopped: before it ended.
            CellKilled: it was ended from outside.
        """
        if self.record(cell.key) is None:
            with self.lock:
                place = self.places.pop(0)
            try:
                self._run_process(cell, place)
            finally:
                with self.lock:
                    self.places.append(place)
        return self.record(cell.key)

    def _run_process(self, cell: Cell, place: int) -> None:
        job = {
            **{"folder": self.folder, "key": cell.key, "lock": self.work_path(cell.key, ".lock")},
            **{"checkpoints": self.work_path(cell.key, ".saved"), "model": cell.row.model, "dataset": cell.board.dataset},
            "settings": {"show_progress": False, **self.device_of(place), **cell.settings},
        }
        status = self._wait_for(cell.key, job)
        while self.is_running(cell) and not self.stopped:  # killed from outside, and another board has taken the cell
            sleep(LOOK_AGAIN)
        if self.record(cell.key) is not None:
            return
        # below 0: the signal ended it; above 128: it ended itself, being told by the signal
        number = -status if status < 0 else status - 128 if status > 128 else 0
        if self.stopped or number == signal.SIGINT:  # Ctrl-C reaches the processes too, and may reach them first
            raise BoardStopped
        if number:
            raise CellKilled(f"the process of {cell.key} was ended by signal {number}")
        if not os.path.exists(self.path(cell.key, ".failed.json")):
            write_failure(self.path(cell.key, ""), f"the process ended with status {status}")

    def device_of(self, place: int) -> dict[str, str]:
        """Settings that give a cell one of the GPUs."""
        return _device(place)

    def _wait_for(self, key: str, job: dict[str, Any]) -> int:
        """Start the process of a cell and wait for its exit status."""
        command = [sys.executable, "-m", "recbole_gr.leaderboard.cell_process", key]
        with open(self.work_path(key, ".log"), "a", encoding="utf-8") as log:
            with self.lock:
                if self.stopped:
                    raise BoardStopped
                process = subprocess.Popen(
                    command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.PIPE, env=self._environment()
                )
                self.processes.add(process)
            process.communicate(json.dumps(job).encode())  # a file of it would be left where the board is killed
            self.processes.discard(process)
        return process.returncode

    def _environment(self) -> dict[str, str]:
        """Cells that run at once share the processors; a number of threads that the user set holds."""
        threads = max(1, _processors() // self.jobs)
        return {"OMP_NUM_THREADS": str(threads), **os.environ}

    def stop(self) -> None:
        """End all processes; what they had not finished has no record, and goes on from its last state at the next start."""
        with self.lock:
            self.stopped = True
            processes = list(self.processes)
        for process in processes:
            process.terminate()
        deadline = monotonic() + TIME_TO_END
        while any(process.poll() is None for process in processes) and monotonic() < deadline:
            sleep(0.05)
        for process in processes:
            process.kill()  # nothing happens to one that has ended

    def close(self) -> None:
        """Leave what the runner holds besides its processes; here nothing."""


def _processors() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # which macOS and Windows lack
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _device(place: int) -> dict[str, str]:
    """Of the GPUs that this process may use, the one for a cell; cells beyond their number share them."""
    import torch

    gpus = torch.cuda.device_count()
    visible: list[str] = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")  # RecBole replaces it by gpu_id
    names: Sequence[Any] = visible if len(visible) == gpus else range(gpus)
    return {"gpu_id": str(names[place % gpus])} if gpus > 1 else {}


def _make_folder(folder: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise SettingError("results_dir", folder, f"the folder cannot be made ({error.strerror})") from error
    try:
        probe(folder)
    except OSError as error:
        raise SettingError("results_dir", folder, f"the folder cannot be written ({error.strerror})") from error
