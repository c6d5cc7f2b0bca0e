"""Processes that train together, as copies of this one, which need not import torch and RecBole again."""

import contextlib
import faulthandler
import os
import pickle
import signal
import sys
import time
import traceback

import torch

from recbole_gr.utils.process_group import Place, open_store


class Group:
    """As torchrun would start them: each knows its place by the environment, and they meet at a store of this process.

    Args:
        count: how many processes.
        work: takes nothing; its result goes to ``results`` of rank 0.
        folder: where they work, and where ``0.err``, ``1.err``, ... come.
    """

    def __init__(self, count, work, folder):
        self.folder, self.pids = str(folder), []
        os.makedirs(self.folder, exist_ok=True)
        self.store = open_store("localhost", 0, holds=True)
        for rank in range(count):
            pid = os.fork()
            if not pid:
                self._work(Place(rank, rank, count, count, "localhost", self.store.port), work)
            self.pids.append(pid)

    def _work(self, place, work):
        status = 1
        os.chdir(self.folder)
        with open(f"{place.rank}.err", "w", buffering=1, encoding="utf-8") as file:
            try:
                os.dup2(file.fileno(), 2)
                sys.stderr = file
                faulthandler.enable(file)
                os.environ.update(place.environment())
                torch.set_num_threads(1)
                with contextlib.redirect_stdout(file):
                    result = work()
                with open(f"{place.rank}.result", "wb") as answer:
                    pickle.dump(result, answer)
                status = 0
            except SystemExit as ended:
                status = ended.code
            except BaseException:
                traceback.print_exc()
            finally:
                file.flush()
                os._exit(status)  # the tests end in the first process only

    def wait(self):
        """Until all have ended; returns their exit statuses, in the order of ranks."""
        try:
            return wait_for_copies(self.pids)
        except AssertionError as error:
            said = [read(self.folder, f"{rank}.err")[-3000:] for rank in range(len(self.pids))]
            raise AssertionError("\n".join([str(error), *said])) from None

    def kill(self):
        """SIGKILL all of them, and wait."""
        for pid in self.pids:
            os.kill(pid, signal.SIGKILL)
        self.wait()


def wait_for_copies(pids, timeout=200):
    """Exit statuses of copies of this process, when all have ended; those that hang write their stacks to stderr."""
    end, statuses = time.monotonic() + timeout, dict.fromkeys(pids)
    try:
        while None in statuses.values():
            assert time.monotonic() < end, f"{statuses}: processes that have not ended after {timeout} s have no status"
            for pid in [pid for pid, status in statuses.items() if status is None]:
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended:
                    statuses[pid] = os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
    finally:
        hanging = [pid for pid, status in statuses.items() if status is None]
        for number in (signal.SIGABRT, signal.SIGKILL) if hanging else ():  # faulthandler answers the first one
            for pid in hanging:
                os.kill(pid, number)
            time.sleep(1)
        for pid in hanging:
            os.waitpid(pid, 0)
    return list(statuses.values())


def run_together(count, work, folder):
    """Run to the end; returns what rank 0 returned."""
    group = Group(count, work, folder)
    statuses = group.wait()
    assert not any(statuses), [read(group.folder, f"{rank}.err")[-3000:] for rank in range(count)]
    with open(os.path.join(group.folder, "0.result"), "rb") as file:
        return pickle.load(file)


def read(folder, name):
    with open(os.path.join(folder, name), encoding="utf-8") as file:
        return file.read()
