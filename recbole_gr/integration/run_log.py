"""A log and a tensorboard folder whose disk fills up: one warning, and the run goes on. What it is for is the checkpoint."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

from recbole_gr.utils.errors import as_disk_error, disk_fault


class RunLog(logging.FileHandler):
    """RecBole's log file; one that cannot be written any more is told once, not by a traceback for each line."""

    def handleError(self, record: logging.LogRecord) -> None:
        fault = disk_fault(sys.exc_info()[1])
        if fault is None:
            super().handleError(record)
            return
        logging.getLogger().removeHandler(self)
        with contextlib.suppress(OSError):
            self.close()
        _warn(f"The log {as_disk_error(fault, self.baseFilename)}")


class WatchedWriter:
    """A tensorboard writer; one that cannot write any more is told once, and from then on is silent.

    Args:
        make: makes a writer of a folder.
        folder: where to.

    Raises:
        DiskError: the folder cannot be made.
    """

    def __init__(self, make: Callable[[str], Any], folder: str) -> None:
        self._folder, self._dead = folder, False
        _tell_nothing_of_writing_threads()
        try:
            self._writer = make(folder)
        except OSError as error:
            raise as_disk_error(error, folder) from error

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._writer, name)
        return self._watched(found) if callable(found) else found

    def _watched(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            if self._dead:
                return None
            try:
                return method(*args, **kwargs)
            except Exception as error:  # a thread of tensorboard writes, and hands on what it met
                fault = disk_fault(error)
                if fault is None:
                    raise
                self._dead = True
                _warn(f"Tensorboard's folder {as_disk_error(fault, self._folder)}")

        return call


def _tell_nothing_of_writing_threads() -> None:
    """Tensorboard's thread hands its fault on, to be told in one line; Python prints its traceback as well."""
    before = threading.excepthook
    if getattr(before, "recbole_gr", False):
        return

    def excepthook(args: Any) -> None:
        if type(args.thread).__module__.startswith("tensorboard.") and disk_fault(args.exc_value) is not None:
            return
        before(args)

    vars(excepthook)["recbole_gr"] = True
    threading.excepthook = excepthook


def _warn(what: str) -> None:
    logging.getLogger().warning(f"{what}; the run goes on without.")
