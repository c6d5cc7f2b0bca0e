"""Disks that fill up at each kind of file of a run: checkpoint, training state, record, log, tensorboard.

For each kind a small disk (tmpfs; the right to mount is needed) is filled by another file once training has begun. Of the first three kinds the run
must end with status 2 and one line that has the command that goes on, and that command, after the disk is emptied, must end as a run whose
disk was never full. Of the last two one warning is told and the run goes on.

    sudo python benchmarks/full_disks.py
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from tiny_runs import Process, arguments_of, leftovers, outcome, write_small_data

MODEL = "BPR"

#: The folder of each kind, and when its disk fills up: once this file is there.
KINDS = {
    "checkpoint": ("saved", "saved/*.last.pth"),
    "training state": ("saved", "saved/*.last.pth"),
    "record": ("records", "saved/*.last.pth"),
    "log": ("log", "saved/*.last.pth"),
    "tensorboard": ("log_tensorboard", "saved/*.last.pth"),
}


@contextlib.contextmanager
def small_disk(folder: str) -> Iterator[None]:
    os.makedirs(folder)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def fill(folder: str, but: int) -> str:
    """Fill a disk up, but for some bytes; returns the path of the file."""
    path = os.path.join(folder, "somebody_elses")
    with open(path, "wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        file.truncate(max(0, os.path.getsize(path) - but))
    return path


def in_the_middle(kind: str, own: str, arguments: list[str]) -> dict[str, Any]:
    """A run whose disk fills up; what came of it."""
    folder, begun = KINDS[kind]
    place = os.path.join(own, folder)
    with small_disk(place):
        process = Process(arguments, own)
        while not glob.glob(os.path.join(own, begun)):
            time.sleep(0.01)
        # a checkpoint of BPR is larger than its state; room for the one, not for the other
        sizes = [os.path.getsize(path) for path in glob.glob(os.path.join(own, "saved", "*.pth"))]
        filler = fill(place, (max(sizes) + 8192) if kind == "training state" else 0)
        status = process.wait()
        with open(os.path.join(own, "out.txt"), encoding="utf-8") as file:
            told = [line for line in file.read().splitlines() if "cannot be written" in line or "Traceback" in line]
        os.remove(filler)
        if status == 2:
            command = told[0].split("to go on after the last validated epoch: ")[1]
            status_after = Process(shlex.split(command)[1:], own).wait()
        else:
            status_after = None
        (record,) = glob.glob(os.path.join(own, "records", "*.json"))
        return {"status": status, "told": told, "resumed": status_after, "outcome": outcome(record), "left": leftovers(own)}


def main() -> None:
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        write_small_data(os.path.join(folder, "data"))
        for number, kind in enumerate(["whole", *KINDS]):
            own = os.path.join(folder, str(number))
            shutil.copytree(os.path.join(folder, "data"), os.path.join(own, "data"))
            arguments = arguments_of(MODEL, own, epochs=200)
            if kind == "whole":
                assert Process(arguments, own).wait() == 0
                expected = outcome(glob.glob(os.path.join(own, "records", "*.json"))[0])
                continue
            found = in_the_middle(kind, own, arguments)
            same = found.pop("outcome") == expected
            print(
                f"{kind:15} status {found['status']}, resumed {found['resumed']}, same result {same}, left {found['left']}"
            )
            print("\n".join(f"    {line[:220]}" for line in found["told"]), flush=True)
            figures[kind] = {
                "status": found["status"],
                "same": same,
                "lines": len(found["told"]),
                "left": len(found["left"]),
            }
    print(json.dumps({"benchmark": "full_disks", "sizes": {}, "figures": figures}))


if __name__ == "__main__":
    main()
