"""Two runs that begin in the same second over one ``checkpoint_dir``: does each record its own result?

RecBole names a checkpoint by the second; of two runs in one second each was tested with what the other had saved last. Here the clock
of both stands still while they name their files, so that they meet whatever the machine does.

    python benchmarks/pairs.py --pairs 20
"""

from __future__ import annotations

import argparse
import glob
import json
import os
import shutil
import tempfile
from datetime import datetime
from typing import Any

from tiny_runs import Process, arguments_of, outcome, write_small_data

MODEL = "BPR"


def stop_the_clock() -> None:
    """All names of files have one time, RecBole's and ours."""
    import recbole.trainer.trainer
    import recbole.utils.logger

    from recbole_gr.integration import run_files

    class Frozen(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return cls(2026, 11, 28, 12, 0, 0)

    vars(run_files)["datetime"] = Frozen
    for module in (recbole.trainer.trainer, recbole.utils.logger):
        vars(module)["get_local_time"] = lambda: "Nov-28-2026_12-00-00"


def recorded(folder: str) -> Any:
    (record,) = glob.glob(os.path.join(folder, "*.json"))
    return outcome(record)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=20)
    asked = parser.parse_args()
    right = files = 0
    with tempfile.TemporaryDirectory() as folder:
        write_small_data(os.path.join(folder, "data"))

        def start(seed: int) -> Process:
            return Process(arguments_of(MODEL, folder, seed, records=f"records-{seed}"), folder, stop_the_clock)

        alone = {}
        for seed in (1, 2):
            assert start(seed).wait() == 0
            alone[seed] = recorded(f"{folder}/records-{seed}")
        assert alone[1]["test"] != alone[2]["test"]
        for _ in range(asked.pairs):
            for name in ("saved", "records-1", "records-2", "log", "log_tensorboard"):
                shutil.rmtree(os.path.join(folder, name), ignore_errors=True)
            pair = [start(seed) for seed in (1, 2)]
            ended = [process.wait() for process in pair] == [0, 0]
            right += ended and all(recorded(f"{folder}/records-{seed}") == alone[seed] for seed in (1, 2))
            patterns = ("saved/*[0-9].pth", "log/BPR/*.log", "log_tensorboard/*")
            files += all(len(glob.glob(os.path.join(folder, pattern))) == 2 for pattern in patterns)
    print(f"{right} of {asked.pairs} pairs right, {files} with files of their own")
    figures = {"right": right, "own_files": files}
    print(json.dumps({"benchmark": "pairs", "sizes": vars(asked), "figures": figures}))


if __name__ == "__main__":
    main()
