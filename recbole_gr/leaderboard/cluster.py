"""A board over many hosts: its cells go to the workers of a Dask cluster that is running.

The board's own process stays the one that knows what is missing and writes pages. A worker that shares the board's folder writes there,
and a cell that it was lost with goes on from its last state on another worker; one that does not sends its files when the cell is done.
"""

from __future__ import annotations

import os
import uuid
from time import sleep
from typing import Any

from recbole_gr.leaderboard.remote_cell import run_remote
from recbole_gr.leaderboard.runner import Runner
from recbole_gr.leaderboard.search import BoardStopped, CellKilled
from recbole_gr.utils.atomic_files import atomic_write
from recbole_gr.utils.errors import RecBoleGRError, SettingError

#: Seconds until a scheduler that does not answer is one that is not there.
TIMEOUT = 20

#: Seconds between two looks at a cell.
LOOK_AGAIN = 0.2


class ClusterRunner(Runner):
    """Runs cells on the workers of a Dask cluster.

    Args:
        folder: as of :class:`Runner`.
        jobs: cells that are handed over at once; the scheduler spreads them.
        scheduler: its address, ``tcp://host:8786``.
        resources: what a cell takes of a worker's, by name, ``{"GPU": 1}``.

    Raises:
        SettingError: the scheduler does not answer, or distributed is not installed.
    """

    def __init__(self, folder: str, jobs: int, scheduler: str, resources: dict[str, float]) -> None:
        super().__init__(folder, jobs)
        try:
            from distributed import Client, Event
        except ImportError as error:
            raise SettingError("executor", "dask", "needs the package distributed: pip install distributed") from error
        try:
            self.client = Client(scheduler, timeout=TIMEOUT, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            why = " ".join(str(error).split())
            raise SettingError("scheduler", scheduler, f"must be the address of a running Dask scheduler ({why})") from error
        self.resources = resources
        self.token = uuid.uuid4().hex
        self.stop_event = Event(f"recbole_gr-stop-{self.token}", client=self.client)
        self.marker = os.path.abspath(self.work_path(f"board-{self.token}", ".marker"))
        with atomic_write(self.marker) as file:
            file.write(self.token)

    def device_of(self, place: int) -> dict[str, str]:
        """A worker has its own GPUs, by ``CUDA_VISIBLE_DEVICES``."""
        return {}

    def _wait_for(self, key: str, job: dict[str, Any]) -> int:
        """Hand the cell to the cluster and wait for its exit status; a worker that is lost hands it to another one."""
        paths = {name: os.path.abspath(job[name]) for name in ("folder", "lock", "checkpoints")}
        job = {**job, **paths, "marker": self.marker, "cwd": os.getcwd()}
        if self.stopped:
            raise BoardStopped
        future = self.client.submit(
            run_remote,
            job,
            self.token,
            self.stop_event.name,
            key=f"{key}-{uuid.uuid4().hex[:8]}",
            pure=False,
            resources=self.resources or None,
        )
        while not future.done():
            if self.stopped and future.status == "pending":
                self._cancel(future)
            sleep(LOOK_AGAIN)
        if future.cancelled():
            raise BoardStopped
        error = future.exception()
        if error is not None:
            if type(error).__name__ == "KilledWorker":
                raise CellKilled(f"the workers that ran {key} were lost, one after the other")
            raise RecBoleGRError(f"on the cluster: {type(error).__name__}: {' '.join(str(error).split())}")
        return self._take(key, future.result())

    def _take(self, key: str, told: dict[str, Any]) -> int:
        """Keep what the worker sent: the log, and its files, the record after the hit ranks."""
        with open(self.work_path(key, ".log"), "a", encoding="utf-8") as log:
            log.write(told["log"])
        for name in sorted(told["files"], key=lambda name: name.endswith(".json")):
            with atomic_write(os.path.join(self.folder, os.path.basename(name)), "wb") as file:
                file.write(told["files"][name])
        return told["status"]

    def _cancel(self, future: Any) -> None:
        """Cells that wait are taken back; workers end those that run when they see the event."""
        self.stop_event.set()
        if self.client.processing() and future.key not in {
            key for keys in self.client.processing().values() for key in keys
        }:
            future.cancel()

    def stop(self) -> None:
        """End all cells."""
        self.stopped = True
        self.stop_event.set()

    def close(self) -> None:
        """Leave the cluster as it is."""
        self.client.close()
        os.remove(self.marker)


def read_resources(text: str) -> dict[str, float]:
    """``GPU=1,memory=8e9`` as numbers by name.

    Raises:
        SettingError: it is not of that form.
    """
    found = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            equals = ""
        if not equals or not name.strip() or found[name.strip()] <= 0:
            raise SettingError("resources", text, "must be names and numbers above 0, GPU=1,memory=8e9")
    return found
