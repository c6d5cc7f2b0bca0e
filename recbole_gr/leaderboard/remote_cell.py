"""What a worker of a Dask cluster does with a cell: it runs the cell's process and, where it shares no folder with the board, sends its files."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from typing import Any

#: Seconds between two looks at whether the board was stopped.
LOOK_AGAIN = 1.0


def run_remote(job: dict[str, Any], token: str, stop: str) -> dict[str, Any]:
    """Run a cell here.

    Args:
        job: as :func:`recbole_gr.leaderboard.cell_process.run_cell` takes it, paths absolute, and ``cwd``, the board's folder.
        token: what the file ``marker`` of the job holds if this machine sees the board's folder.
        stop: the name of the event that says that the board was stopped.

    Returns:
        ``status``, the exit status; ``shared``, whether the files are where they belong; ``log``; and ``files``, bytes by name, of
        a folder that is not shared.
    """
    shared = _reads(job["marker"]) == token
    with contextlib.ExitStack() as stack:
        cwd = job["cwd"] if shared else os.getcwd()
        if not shared:
            own = stack.enter_context(tempfile.TemporaryDirectory(prefix="recbole_gr-cell-"))
            job = {**job, "folder": own, "lock": os.path.join(own, "lock"), "checkpoints": os.path.join(own, "saved")}
        log = stack.enter_context(tempfile.TemporaryFile())
        command = [sys.executable, "-m", "recbole_gr.leaderboard.cell_process", job["key"]]
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, cwd=cwd, env=_environment()
        )
        try:
            _wait(process, json.dumps(job).encode(), stop)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        log.seek(0)
        files: dict[str, bytes] = {}
        if not shared:
            for name in sorted(os.listdir(job["folder"])):
                if name.startswith(job["key"]):
                    with open(os.path.join(job["folder"], name), "rb") as file:
                        files[name] = file.read()
        return {
            "status": process.returncode,
            "shared": shared,
            "log": log.read().decode(errors="replace"),
            "files": files,
        }


def _wait(process: subprocess.Popen[bytes], job: bytes, stop: str) -> None:
    """Wait until the process ends; it is told to end if the board was stopped."""
    from distributed import Event, get_client

    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(job)
        process.stdin.close()
    stopped = Event(stop, client=get_client())
    while True:
        try:
            process.wait(timeout=LOOK_AGAIN)
            return
        except subprocess.TimeoutExpired:
            if stopped.is_set():
                process.send_signal(signal.SIGTERM)
                process.wait(timeout=30)
                return


def _environment() -> dict[str, str]:
    """The cells of a worker share its processors; a number of threads that the worker was started with holds."""
    from distributed import get_worker

    threads = max(1, (os.cpu_count() or 1) // max(1, get_worker().state.nthreads))
    return {"OMP_NUM_THREADS": str(threads), **os.environ}


def _reads(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return None
