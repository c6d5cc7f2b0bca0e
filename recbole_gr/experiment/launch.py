"""One training on several processes of this host, each with a GPU or all on the CPU."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Sequence
from multiprocessing.connection import wait
from signal import SIGINT, SIGTERM
from typing import Any

import torch
from torch import multiprocessing

from recbole_gr.experiment.run import run
from recbole_gr.utils.errors import RecBoleGRError, SettingError
from recbole_gr.utils.process_group import GroupEndedError, Place, open_store, tell_failure
from recbole_gr.utils.signals import signals_stop

#: Seconds that processes have to end by themselves, when one has failed.
TO_END = 6.0
#: Exit status of a process whose error is the user's, and which its starter tells.
_TOLD = 2


def spawn_runs(
    model: str | type,
    dataset: str,
    config_file_list: Sequence[str] | None = None,
    config_dict: dict[str, Any] | None = None,
    *,
    nproc: int,
    world_size: int | None = None,
    group_offset: int = 0,
    ip: str = "localhost",
    port: int = 0,
) -> dict[str, Any] | None:
    """Run one training on several processes.

    Args:
        model: as for :func:`~recbole_gr.experiment.run.run`, and so the next three.
        dataset: name of a folder under ``data_path``.
        config_file_list: yaml files, or names of recipes.
        config_dict: settings.
        nproc: processes on this host.
        world_size: processes on all hosts; None: there is this one only.
        group_offset: processes on the hosts before this one.
        ip: the address of the first host.
        port: on the first host; 0: one that is free, where there is one host.

    Returns:
        What :func:`~recbole_gr.experiment.run.run` returned on rank 0, or None on a host without it.

    Raises:
        RecBoleGRError: of the first process that failed; the others have been ended.
        SettingError: the numbers do not fit.
    """
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if not 1 <= nproc <= processors:
        raise SettingError("nproc", nproc, f"must be from 1 to {processors}, the processors of this machine")
    total = nproc if world_size is None else world_size
    if total < nproc + group_offset:
        raise SettingError("world_size", total, f"must be at least nproc + group_offset, here {nproc + group_offset}")
    if total > nproc and not port:
        raise SettingError("port", port, "must be set where there are several hosts, the same on all")
    store = open_store(ip, port, holds=group_offset == 0)
    port = store.port
    spawn = multiprocessing.get_context("spawn")
    answers = spawn.SimpleQueue()
    processes = []
    for local_rank in range(nproc):
        place = Place(group_offset + local_rank, local_rank, total, nproc, ip, port)
        arguments = place, max(1, processors // nproc), model, dataset, config_file_list, config_dict, answers
        processes.append(spawn.Process(target=_run_at, args=arguments, name=f"rank {place.rank}"))
    try:
        for process in processes:
            process.start()
        _wait_for(processes, store)
    except KeyboardInterrupt as interrupt:
        _join_until(processes, 1.5)  # Ctrl-C reaches all processes of a terminal, and other signals this one only
        for process in processes:
            if process.pid is not None and process.is_alive():
                os.kill(process.pid, getattr(interrupt, "number", SIGINT))
        _join_until(processes, TO_END)
        vars(interrupt)["checkpoint"] = next((answer for kind, answer in _read(answers) if kind == "interrupt"), None)
        raise
    finally:
        _end(processes)
    return _outcome(processes, _read(answers))


def _run_at(
    place: Place, threads: int, model: Any, dataset: str, config_file_list: Any, config_dict: Any, answers: Any
) -> None:
    """One process: as torchrun would have started it, with its share of the processors."""
    os.environ.update(place.environment())
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(threads)
    try:
        with signals_stop():
            result = run(model, dataset, config_file_list, config_dict)
        if place.rank == 0:
            answers.put(("result", result))
    except KeyboardInterrupt as interrupt:
        if place.rank == 0:
            answers.put(("interrupt", getattr(interrupt, "checkpoint", None)))
        raise SystemExit(130) from None
    except RecBoleGRError as error:
        answers.put(("error", error))
        raise SystemExit(_TOLD) from None
    except Exception:
        traceback.print_exc()
        answers.put(("bug", f"rank {place.rank} failed with what is printed above; the others were ended"))
        raise SystemExit(1) from None


def _wait_for(processes: list[Any], store: Any) -> None:
    """Until all have ended, or one has failed and the others have had time to notice; of one that was killed they are told."""
    running = {process.sentinel: process for process in processes}
    end: float | None = None
    while running and (end is None or time.monotonic() < end):
        for sentinel in wait(list(running), None if end is None else max(0.0, end - time.monotonic())):
            process = running.pop(sentinel)
            process.join()
            if process.exitcode and end is None:
                tell_failure(store, process.name)
                end = time.monotonic() + TO_END


def _end(processes: list[Any]) -> None:
    """End those that still run."""
    for ask in ("terminate", "kill"):
        for process in processes:
            if process.is_alive():
                getattr(process, ask)()
        _join_until(processes, 2.0)


def _join_until(processes: list[Any], seconds: float) -> None:
    end = time.monotonic() + seconds
    for process in processes:
        if process.pid is not None:  # it was started
            process.join(max(0.0, end - time.monotonic()))


def _read(answers: Any) -> list[tuple[str, Any]]:
    read = []
    while not answers.empty():
        read.append(answers.get())
    return read


def _outcome(processes: list[Any], answers: list[tuple[str, Any]]) -> dict[str, Any] | None:
    told: dict[str, Any] = {}
    for kind, answer in answers:
        told.setdefault(kind, answer)
    killed = [process for process in processes if (process.exitcode or 0) < 0 and process.exitcode != -SIGTERM]
    for process in killed:  # which said nothing: first of all, whatever the others saw of it
        raise GroupEndedError(f"{process.name} was killed by signal {-process.exitcode} (9: perhaps for its memory)")
    if "error" in told:
        raise told["error"]
    if "bug" in told:
        sys.stderr.flush()
        raise ChildProcessError(told["bug"])
    failed = [f"{process.name} with status {process.exitcode}" for process in processes if process.exitcode]
    if failed:
        raise GroupEndedError(f"ended for an error that another process, or another host, tells: {', '.join(failed)}")
    return told.get("result")
