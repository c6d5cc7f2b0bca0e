"""Small runs in processes of their own, for the benchmarks that kill them, pair them and fill their disks."""

from __future__ import annotations

import csv
import glob
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

import pandas as pd
import torch

from recbole_gr.cli import main
from recbole_gr.experiment import run as _all_of_it  # noqa: F401  imported once, before the processes are copied

#: Of models whose runs take a second: one of ours, one of RecBole's.
SETTINGS = {
    "SASRecCausal": ["--hidden_size=8", "--n_layers=1", "--n_heads=1", "--MAX_ITEM_LIST_LENGTH=8"],
    "BPR": ["--embedding_size=8"],
}


def write_small_data(data_path: str, users: int = 60, interactions: int = 20) -> None:
    """The last interactions of some users of the ml-100k that RecBole brings, as the dataset ``small``."""
    import recbole

    source = os.path.join(os.path.dirname(recbole.__file__), "dataset_example", "ml-100k", "ml-100k.inter")
    inter = pd.read_csv(source, sep="\t", dtype=str, quoting=csv.QUOTE_NONE)
    inter = inter[inter["user_id:token"].astype(int) <= users]
    inter = (
        inter.iloc[inter["timestamp:float"].astype(float).argsort(kind="stable")].groupby("user_id:token").tail(interactions)
    )
    os.makedirs(os.path.join(data_path, "small"), exist_ok=True)
    columns = ["user_id:token", "item_id:token", "timestamp:float"]
    inter.to_csv(os.path.join(data_path, "small", "small.inter"), sep="\t", index=False, columns=columns)


def arguments_of(model: str, folder: str, seed: int = 1, epochs: int = 6, records: str = "records") -> list[str]:
    """A run that saves and validates after every epoch, with its files in a folder."""
    return [
        *(
            "run",
            f"--model={model}",
            "--dataset=small",
            f"--data_path={folder}/data",
            f"--seed={seed}",
            f"--epochs={epochs}",
        ),
        *(
            f"--checkpoint_dir={folder}/saved",
            f"--record_dir={folder}/{records}",
            "--stopping_step=100",
            "--valid_metric=NDCG@10",
        ),
        *("--train_batch_size=256", *SETTINGS[model]),
    ]


class Process:
    """A copy of this process in a folder and a process group of its own.

    Args:
        arguments: of ``recbole-gr``.
        folder: the current one of the process; its output goes to ``out.txt`` there.
        before: called in the process before the command.
    """

    def __init__(self, arguments: Sequence[str], folder: str, before: Callable[[], Any] | None = None) -> None:
        os.makedirs(folder, exist_ok=True)
        self.pid = os.fork()
        if not self.pid:
            status = 1
            try:
                os.setsid()
                os.chdir(folder)
                out = os.open("out.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.dup2(out, 1)
                os.dup2(out, 2)
                sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))
                torch.set_num_threads(1)
                sys.argv = ["recbole-gr", *arguments]
                if before is not None:
                    before()
                status = main(arguments)
            finally:
                os._exit(status)

    def wait(self) -> int:
        """Its exit status; below 0: the signal that ended it."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def kill(self, whole_group: bool = True) -> None:
        """End it, and the processes that it started, without a word."""
        (os.killpg if whole_group else os.kill)(self.pid, signal.SIGKILL)


def outcome(record: str) -> dict[str, Any]:
    """What two runs of the same settings must have in common, to the bit."""
    with open(record, encoding="utf-8") as file:
        kept = json.load(file)
    ranks = pd.read_parquet(record.removesuffix(".json") + ".parquet")
    return {
        **{key: kept[key] for key in ("valid", "test", "learning_curve")},
        "epochs": kept["stages"]["training"]["times"],
        "ranks": ranks.to_csv(index=False),
    }


def weights(folder: str) -> dict[str, list[bytes]]:
    """The bytes of the tensors of the only checkpoint and training state in a folder."""
    found = {}
    for ending in ("[0-9].pth", ".last.pth"):
        (path,) = glob.glob(os.path.join(folder, f"*{ending}"))
        content = torch.load(path, weights_only=False)
        state = content.get("state_dict", content.get("model"))
        found[ending] = [value.numpy().tobytes() for value in state.values() if isinstance(value, torch.Tensor)]
    return found


def leftovers(folder: str) -> list[str]:
    """Files that only a process that is still running should have."""
    patterns = ("**/*.tmp", "**/*.previous.pth", "**/*.job.json", "**/work/*.saved", "tmp/*")
    found = [path for pattern in patterns for path in glob.glob(os.path.join(folder, pattern), recursive=True)]
    ranks = glob.glob(os.path.join(folder, "**/*.parquet"), recursive=True)
    return sorted([*found, *(path for path in ranks if not os.path.exists(path.replace(".parquet", ".json")))])
