"""Our command in a process of its own that need not import torch and RecBole again: a copy of this one."""

import logging
import os
import signal
import sys
import time
import traceback


class Forked:
    """A copy of this process runs ``recbole-gr`` in a process group of its own, its output appended to files.

    Args:
        arguments: of the command.
        out, err: paths, or open file descriptors.
        path: folders that come first among those that it imports from.
    """

    def __init__(self, arguments, out, err, path=()):
        self.returncode = None
        self.pid = os.fork()
        if not self.pid:
            status = 1
            try:
                os.setsid()
                signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background may ignore Ctrl-C
                _write_to(out, err)
                sys.path[:0] = path
                status = _run(arguments)
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(status)  # the tests end in the first process only

    def poll(self):
        """Its exit status, that of subprocess; None while it runs."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode

    def wait(self, timeout=240):
        end = time.monotonic() + timeout
        while self.poll() is None:
            assert time.monotonic() < end, f"process {self.pid} did not end"
            time.sleep(0.02)
        return self.returncode


def _write_to(out, err):
    for number, place in ((1, out), (2, err)):
        descriptor = place if isinstance(place, int) else os.open(place, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, number)
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False, encoding="utf-8") for number in (1, 2))
    logging.getLogger().handlers.clear()


def _run(arguments):
    from recbole_gr.cli import main

    sys.argv = ["recbole-gr", *arguments]
    return main(arguments)


def finished(arguments, folder=".", path=()):
    """Run the command to its end; returns its exit status, and what it wrote to stdout and stderr."""
    out, err = (os.path.join(folder, name) for name in ("stdout.txt", "stderr.txt"))
    for written in (out, err):
        open(written, "w").close()
    status = Forked(arguments, out, err, path).wait()
    return status, *(open(written, encoding="utf-8").read() for written in (out, err))
