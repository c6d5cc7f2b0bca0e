"""What the process of one cell runs: ``python -m recbole_gr.leaderboard.cell_process JOB.json``.

The process holds a lock on the cell as long as it lives. So the same cell never runs twice at once, whoever started it,
and a process that was killed leaves nothing that has to be cleaned up.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import traceback
from typing import Any

from recbole_gr.leaderboard.cell_files import locked, read_record
from recbole_gr.utils.atomic_files import atomic_write


def run_cell(job: dict[str, Any]) -> int:
    """Run a model and write its record, unless the record is there; a failure is written in its place.

    Args:
        job: ``folder`` and ``key`` of the cell's files, ``lock``, ``model``, ``dataset``, ``settings``.

    Returns:
        The exit status.
    """
    own = os.path.join(job["folder"], job["key"])
    with locked(job["lock"], wait=True):
        if read_record(job["folder"], job["key"]) is not None:
            return 0
        with contextlib.suppress(FileNotFoundError):
            os.remove(f"{own}.failed.json")
        try:
            with tempfile.TemporaryDirectory(prefix="recbole_gr-") as checkpoints:
                _run(job, checkpoints)
        except Exception as error:
            traceback.print_exc()
            write_failure(own, f"{type(error).__name__}: {error}")
            return 1
    return 0


def _run(job: dict[str, Any], checkpoints: str) -> None:
    from recbole_gr.experiment.run import run

    own = {"checkpoint_dir": checkpoints, "record_dir": job["folder"], "record_name": job["key"]}
    run(job["model"], job["dataset"], config_dict={**job["settings"], **own})


def write_failure(own: str, error: str) -> None:
    """Write, in one line, why a cell has no record."""
    with atomic_write(f"{own}.failed.json") as file:
        json.dump({"error": " ".join(error.split())}, file)


if __name__ == "__main__":
    with open(sys.argv.pop(), encoding="utf-8") as job_file:  # RecBole's Config would read what stands in sys.argv
        asked = json.load(job_file)
    sys.exit(run_cell(asked))
