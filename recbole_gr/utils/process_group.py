"""How processes find each other, and how an error of one ends all of them.

Every process knows its place by the environment, as torchrun sets it; ``--nproc`` starts processes with the same environment.
They meet at a store (torch's TCPStore) that outlives each of them: torchrun's agent holds it, or who started them.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from recbole_gr.utils.errors import RecBoleGRError

#: What torchrun tells a process.
ENVIRONMENT = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
#: Seconds after which processes that have not come are not waited for any longer.
JOINING = 600
#: Seconds between two looks at whether another process has failed.
LOOK = 0.3
#: Seconds that a process whose connection broke waits for the one that failed to say so.
GRACE = 2.0
#: Names of the group's values in a Config, as RecBole has them.
CONFIG_KEYS = ("local_rank", "nproc", "world_size", "offset", "ip", "port")
_FAILED = "failed"
_PREFIX = "recbole_gr/"
#: The store, if this process holds it.
_held: Any = None
#: torch's groups that were joined; see :func:`join`.
_joined: list[Any] = []


class GroupEndedError(RecBoleGRError):
    """Processes that train together have ended, for an error that was already told or that ended another one."""


@dataclass(frozen=True)
class Place:
    """The place of a process in its group.

    Args:
        rank: its number among the processes of all hosts.
        local_rank: its number among those of its host.
        world_size: how many there are on all hosts.
        local_world_size: how many there are on its host.
        address: of the host with the store.
        port: of the store.
    """

    rank: int
    local_rank: int
    world_size: int
    local_world_size: int
    address: str
    port: int

    def settings(self) -> dict[str, Any]:
        """As RecBole's Config has them."""
        numbers = self.local_rank, self.local_world_size, self.world_size, self.rank - self.local_rank
        return dict(zip(CONFIG_KEYS, (*numbers, self.address, str(self.port))))

    def environment(self) -> dict[str, str]:
        """As torchrun sets it."""
        numbers = self.rank, self.local_rank, self.world_size, self.local_world_size, self.address, self.port
        agent = {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
        return {**dict(zip(ENVIRONMENT, map(str, numbers))), **agent}


def own_place() -> Place | None:
    """The place that torchrun, or ``--nproc``, gave this process; None: it is alone."""
    if not all(os.environ.get(name) for name in ENVIRONMENT):
        return None
    rank, local_rank, world_size, local_world_size = (int(os.environ[name]) for name in ENVIRONMENT[:4])
    return Place(rank, local_rank, world_size, local_world_size, os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]))


def without_place(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment for a process that is to be alone, whoever starts it."""
    return {
        name: value
        for name, value in environment.items()
        if name not in ENVIRONMENT and not name.startswith("TORCHELASTIC_")
    }


def open_store(address: str, port: int, holds: bool) -> Any:
    """The store where processes meet.

    Args:
        address: of the host that holds it.
        port: of the store; 0: one that is free, which only its holder can ask for.
        holds: whether this process holds it, or connects to it.

    Raises:
        RecBoleGRError: nobody holds it there, or the port is taken.
    """
    from torch.distributed import TCPStore

    try:
        return TCPStore(address, port, None, holds, timeout=timedelta(seconds=JOINING), wait_for_workers=False)
    except Exception as error:
        what = "cannot be opened" if holds else "is not answered by the first host"
        raise RecBoleGRError(f"ip={address!r}, port={port}: {what} ({' '.join(str(error).split())[:200]})") from error


def store_of(place: Place) -> Any:
    """The store of a group; the first process holds it where nobody outside does."""
    from torch.distributed import PrefixStore

    global _held
    outside = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if place.rank == 0 and not outside and _held is None:
        _held = open_store(place.address, place.port, holds=True)
    store = open_store(place.address, place.port, holds=False)
    # torchrun may start a group again, which must not meet what the last one left
    return PrefixStore(_PREFIX + os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)


def tell_failure(store: Any, who: str) -> bool:
    """Let the processes of a group end, for one has failed; says whether it is the first of which that is told.

    Args:
        store: of the group, from :func:`open_store` or :func:`store_of`.
        who: which one.
    """
    from torch.distributed import PrefixStore

    values = store if isinstance(store, PrefixStore) else PrefixStore(f"{_PREFIX}0", store)
    return bool(values.compare_set(_FAILED, "", who).decode() == who)


def join(place: Place, backend: str) -> None:
    """Join torch's group of processes, when all have come.

    No process waits for another one for a limited time only: the first one may make semantic IDs for hours. Who fails says so
    in the store, see :func:`ends_all`.

    The group is kept until the process ends, also when it was destroyed. Otherwise it goes with the last
    DistributedDataParallel that uses it; then gloo waits for its thread while it holds Python's lock (GIL), and the thread may
    wait for the lock to let go of the last tensors it sent: the process hangs (torch 2.13).

    Raises:
        RecBoleGRError: after :data:`JOINING` seconds some have not come.
    """
    import torch.distributed as dist

    store = store_of(place)
    end = time.monotonic() + JOINING
    came = store.add("came", 1)
    while came < place.world_size:
        if time.monotonic() > end:
            raise RecBoleGRError(f"world_size={place.world_size}: {came} of them came within {JOINING} seconds")
        time.sleep(0.02)
        came = store.add("came", 0)
    forever = timedelta(days=365)
    dist.init_process_group(backend, store=store, rank=place.rank, world_size=place.world_size, timeout=forever)
    _joined.append(dist.group.WORLD)


@contextlib.contextmanager
def ends_all(place: Place) -> Iterator[None]:
    """An error inside, of this process or of another one, ends all of the group within seconds.

    The first that fails raises its error; the others end without a word, so that it is said once.

    Raises:
        RecBoleGRError: what was raised inside, if this process is the first to fail.
        SystemExit: another one failed.
    """
    watch = _Watch(place)
    try:
        yield
        _leave()
        watch.stop()
    except KeyboardInterrupt:
        watch.stop()
        raise
    except BaseException as error:
        watch.stop()
        if watch.lost_others(error):
            time.sleep(GRACE)  # who ended first has the first word
            if watch.first_to_fail():
                line = f"rank {place.rank}: another of the {place.world_size} processes ended without a word"
                raise GroupEndedError(line) from error
        elif watch.first_to_fail():
            raise
        sys.stderr.flush()
        raise SystemExit(1) from None


def _leave() -> None:
    """No process goes before all have come to the end; then it is nobody's loss."""
    import torch.distributed as dist

    if dist.is_initialized():
        dist.all_gather_object([None] * dist.get_world_size(), None)
        dist.destroy_process_group()


def _flush() -> None:
    """Let out what was printed, in a thread: the main one may hold a stream, and write into a pipe that nobody reads."""
    thread = threading.Thread(target=lambda: (sys.stdout.flush(), sys.stderr.flush()), daemon=True)
    thread.start()
    thread.join(1.0)


class _Watch:
    """A thread that ends the process when the store says that another one has failed, or is gone."""

    def __init__(self, place: Place) -> None:
        self.place, self.stopped = place, threading.Event()
        self.store = store_of(place)  # a connection of its own: one that is waited on lets nobody else ask
        self.thread = threading.Thread(target=self._look, name="recbole_gr-watch", daemon=True)
        self.thread.start()

    def _look(self) -> None:
        while not self.stopped.wait(LOOK):
            try:
                failed = self.store.check([_FAILED])
            except Exception:  # the store went with its holder
                failed = not self.stopped.wait(GRACE)
            if failed and not self.stopped.is_set():
                _flush()
                os._exit(1)

    def stop(self) -> None:
        self.stopped.set()
        self.thread.join()

    def first_to_fail(self) -> bool:
        try:
            return tell_failure(self.store, f"rank {self.place.rank}")
        except Exception:  # the store is gone: so is who would have said more
            return False

    @staticmethod
    def lost_others(error: BaseException) -> bool:
        """Whether it is what torch raises where another process has gone."""
        text = "".join(traceback.format_exception_only(error)).lower()
        return isinstance(error, RuntimeError) and any(
            words in text
            for words in ("connection closed by peer", "connection reset by peer", "broken pipe", "gloo", "nccl")
        )
