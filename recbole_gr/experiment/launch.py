"""One training on several processes of this host, each with a GPU or all on the CPU."""

from __future__ import annotations

import contextlib
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
    children = []
    for local_rank in range(nproc):
        place = Place(group_offset + local_rank, local_rank, total, nproc, ip, port)
        arguments = max(1, processors // nproc), model, dataset, config_file_list, config_dict
        children.append(_Child(place, arguments))
    try:
        for child in children:
            child.start()
        _wait_for(children, store)
    except KeyboardInterrupt as interrupt:
        _hear_until(children, 1.5)  # Ctrl-C reaches all processes of a terminal, and other signals this one only
        for child in children:
            child.tell(getattr(interrupt, "number", SIGINT))
        _hear_until(children, TO_END)
        told = [child.answer[1] for child in children if child.answer and child.answer[0] == "interrupt"]
        vars(interrupt)["checkpoint"] = next(iter(told), None)
        raise
    finally:
        _end(children)
    return _outcome(children)


class _Child:
    """One process, and what it has said: a word for it and what it is about, or nothing.

    Args:
        place: of the process.
        arguments: of :func:`_run_at`, without the first and the last one.
    """

    def __init__(self, place: Place, arguments: tuple[Any, ...]) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.name = f"rank {place.rank}"
        self.reader, self.writer = spawn.Pipe(duplex=False)
        self.process = spawn.Process(target=_run_at, args=(place, *arguments, self.writer), name=self.name)
        self.answer: tuple[str, Any] | None = None
        self.killed_here = False

    def start(self) -> None:
        self.process.start()
        self.writer.close()  # here: a process that is killed in the middle of a word leaves an end, for which nobody waits

    def is_alive(self) -> bool:
        return self.process.pid is not None and self.process.is_alive()

    def tell(self, signal: int) -> None:
        if self.process.pid is not None and self.process.is_alive():
            os.kill(self.process.pid, signal)

    def kill(self) -> None:
        """So that its end is not taken for its own."""
        self.killed_here = True
        self.process.kill()

    def hear(self, until: float | None) -> None:
        """Wait for its end or its word, until a time of the monotonic clock; a word longer than a pipe holds waits for us."""
        if not self.reader.closed:
            left = None if until is None else max(0.0, until - time.monotonic())
            wait([self.reader, self.process.sentinel], left)
            if self.reader.poll():
                with contextlib.suppress(EOFError):
                    self.answer = self.reader.recv()
                self.reader.close()


def _run_at(
    place: Place, threads: int, model: Any, dataset: str, config_file_list: Any, config_dict: Any, answer: Any
) -> None:
    """One process: as torchrun would have started it, with its share of the processors."""
    os.environ.update(place.environment())
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(threads)
    try:
        with signals_stop():
            result = run(model, dataset, config_file_list, config_dict)
        if place.rank == 0:
            answer.send(("result", result))
    except KeyboardInterrupt as interrupt:
        if place.rank == 0:
            answer.send(("interrupt", getattr(interrupt, "checkpoint", None)))
        raise SystemExit(130) from None
    except RecBoleGRError as error:
        answer.send(("error", error))
        raise SystemExit(_TOLD) from None
    except Exception:
        traceback.print_exc()
        answer.send(("bug", f"rank {place.rank} failed with what is printed above; the others were ended"))
        raise SystemExit(1) from None


def _wait_for(children: list[_Child], store: Any) -> None:
    """Until all have ended, or one has failed and the others have had time to notice; of one that was killed they are told."""
    running = list(children)
    end: float | None = None
    while running and (end is None or time.monotonic() < end):
        ends = [child.process.sentinel for child in running]
        words = [child.reader for child in running if not child.reader.closed]
        wait([*ends, *words], None if end is None else max(0.0, end - time.monotonic()))
        for child in running:
            child.hear(time.monotonic())
        failed = [child for child in running if child.process.exitcode]
        running = [child for child in running if child.process.exitcode is None]
        if failed and end is None:
            tell_failure(store, failed[0].name)
            end = time.monotonic() + TO_END


def _end(children: list[_Child]) -> None:
    """End those that still run."""
    for child in children:
        if child.is_alive():
            child.process.terminate()
    _hear_until(children, 2.0)
    for child in children:
        if child.is_alive():
            child.kill()
    _hear_until(children, 2.0)


def _hear_until(children: list[_Child], seconds: float) -> None:
    """Until all have ended, or for so long."""
    end = time.monotonic() + seconds
    for child in children:
        if child.process.pid is not None:  # it was started
            child.hear(end)
            child.process.join(max(0.0, end - time.monotonic()))


def _outcome(children: list[_Child]) -> dict[str, Any] | None:
    told: dict[str, Any] = {}
    for child in children:
        if child.answer:
            told.setdefault(*child.answer)
    statuses = {child.name: child.process.exitcode or 0 for child in children if not child.killed_here}
    for name, status in statuses.items():  # who was killed said nothing: first of all, whatever the others saw of it
        if status < 0 and status != -SIGTERM:
            raise GroupEndedError(f"{name} was killed by signal {-status} (9: perhaps for its memory)")
    if "error" in told:
        raise told["error"]
    if "bug" in told:
        sys.stderr.flush()
        raise ChildProcessError(told["bug"])
    failed = [f"{name} with status {status}" for name, status in statuses.items() if status]
    if failed:
        raise GroupEndedError(f"ended for an error that another process, or another host, tells: {', '.join(failed)}")
    return told.get("result")
