"""What the process of one cell runs: ``python -m recbole_gr.leaderboard.cell_process KEY < JOB.json``.

The process holds a lock on the cell as long as it lives. So the same cell never runs twice at once, whoever started it. Its
checkpoints lie beside the lock until it has a record: the next process that takes the cell goes on from them.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shutil
import sys
import traceback
from typing import Any

from recbole_gr.leaderboard.cell_files import locked, read_record
from recbole_gr.utils.atomic_files import atomic_write
from recbole_gr.utils.errors import DiskError, SettingError
from recbole_gr.utils.signals import ending, signals_stop


def run_cell(job: dict[str, Any]) -> int:
    """Run a model and write its record, unless the record is there; a failure is written in its place.

    Args:
        job: ``folder`` and ``key`` of the cell's files, ``lock``, ``checkpoints``, the folder for those, ``model``, ``dataset``,
            ``settings``.

    Returns:
        The exit status.

    Raises:
        KeyboardInterrupt: the process was asked to end; its checkpoints stay.
    """
    own = os.path.join(job["folder"], job["key"])
    with locked(job["lock"], wait=True):
        if read_record(job["folder"], job["key"]) is not None:
            shutil.rmtree(job["checkpoints"], ignore_errors=True)
            return 0
        with contextlib.suppress(FileNotFoundError):
            os.remove(f"{own}.failed.json")
        try:
            _run_or_go_on(job)
        except Exception as error:
            traceback.print_exc()
            if not isinstance(error, DiskError):  # once there is room, it goes on
                shutil.rmtree(job["checkpoints"], ignore_errors=True)
            write_failure(own, f"{type(error).__name__}: {error}")
            return 1
        shutil.rmtree(job["checkpoints"], ignore_errors=True)
    return 0


def _run_or_go_on(job: dict[str, Any]) -> None:
    """Go on from the training state that a killed process left; where that does not fit any more, from the beginning."""
    for state in glob.glob(os.path.join(glob.escape(job["checkpoints"]), "*.last.pth")):
        try:
            return _run(job, state)
        except SettingError as error:
            if error.key != "resume":
                raise
            print(f"The cell begins anew: {error}", file=sys.stderr, flush=True)
    shutil.rmtree(job["checkpoints"], ignore_errors=True)
    _run(job, None)


def _run(job: dict[str, Any], resume: str | None) -> None:
    from recbole_gr.experiment.run import run

    own = {"checkpoint_dir": job["checkpoints"], "record_dir": job["folder"], "record_name": job["key"], "resume": resume}
    run(job["model"], job["dataset"], config_dict={**job["settings"], **own})


def write_failure(own: str, error: str) -> None:
    """Write, in one line, why a cell has no record."""
    with atomic_write(f"{own}.failed.json") as file:
        json.dump({"error": " ".join(error.split())}, file)


def main() -> int:
    """Run the job that stands in stdin; returns the exit status, as a shell has it where a signal ended the process."""
    sys.argv = sys.argv[:1]  # RecBole's Config would read what stands there
    job = json.load(sys.stdin)
    try:
        with signals_stop():
            return run_cell(job)
    except KeyboardInterrupt as interrupt:
        word, status = ending(interrupt)
        print(word, file=sys.stderr)
        return status


if __name__ == "__main__":
    sys.exit(main())
