"""SIGTERM and a closed terminal end a command as Ctrl-C does: by an exception, so that what is open is closed."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

#: What ends a command, and the word for it.
ENDINGS = {"SIGINT": "interrupted", "SIGTERM": "terminated", "SIGHUP": "terminated"}

_waiting = 0
_arrived: int | None = None


class Stopped(KeyboardInterrupt):
    """The process was asked to end.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def ending(interrupt: KeyboardInterrupt) -> tuple[str, int]:
    """The word for what ended a command, and its exit status: 128 and the number of the signal, as a shell has it."""
    number = interrupt.number if isinstance(interrupt, Stopped) else signal.SIGINT
    return ENDINGS[signal.Signals(number).name], 128 + number


@contextlib.contextmanager
def signals_stop() -> Iterator[None]:
    """Within, each of :data:`ENDINGS` raises :class:`Stopped`; those that were ignored, as nohup asks, stay so."""
    before = {}
    if threading.current_thread() is threading.main_thread():
        for name in ENDINGS:
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                before[number] = signal.signal(number, _stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(number: int, _frame: FrameType | None) -> None:
    global _arrived
    if _waiting:
        _arrived = number
    else:
        raise Stopped(number)


@contextlib.contextmanager
def signals_wait() -> Iterator[None]:
    """Within, a signal of :func:`signals_stop` waits until the end of the block: between two steps that belong together."""
    global _waiting, _arrived
    if threading.current_thread() is not threading.main_thread():  # which signals do not reach
        yield
        return
    _waiting += 1
    try:
        yield
    finally:
        _waiting -= 1
        if not _waiting and _arrived is not None:
            number, _arrived = _arrived, None
            raise Stopped(number)
