"""``recbole-gr recommend``: users per second and memory, for a checkpoint and for catalogues of many users.

Rival: scores of all users and items at once, which is what RecBole's ``full_sort_scores`` returns; its memory is computed, not used.

- With ``--checkpoint``: the command itself, all users into parquet, and the peak of memory of the process.
- The synthetic part exports lists of users and items of random vectors, without RecBole's loading: what grows there is the data, not
  the export. Each number of users has a process of its own; memory before the export is that with data and model in place,
  and the peak is that of the export alone.

``python benchmarks/recommend.py [--checkpoint=saved/TIGER-....pth] [--users=10000,100000,1000000] [--items=10000]``
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from time import perf_counter
from types import SimpleNamespace

import numpy as np
import torch
from machine import describe_machine, print_json

WIDTH, HAD, K = 16, 10, 20


def memory_mb(which):
    """Of this process, by the kernel's name: VmRSS now, VmHWM the peak since it was last forgotten (Linux)."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 / 1e6 for line in file if line.startswith(which))


def forget_peak():
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


class Factors(torch.nn.Module):
    """Scores are inner products of random vectors, as those of BPR."""

    def __init__(self, users, items):
        super().__init__()
        self.users = torch.nn.Parameter(torch.randn(users, WIDTH))
        self.items = torch.nn.Parameter(torch.randn(items, WIDTH))

    def full_sort_predict(self, interaction):
        return self.users[interaction["user_id"]] @ self.items.T


class Data:
    """What an export asks a RecBole dataset for: fields, tokens, and ten interactions of each user."""

    uid_field, iid_field, time_field = "user_id", "item_id", "timestamp"
    config = {"LIST_SUFFIX": "_list"}

    def __init__(self, users, items):
        self.user_num, self.item_num = users, items
        tokens = {"user_id": np.arange(users).astype(str), "item_id": np.arange(items).astype(str)}
        self.field2id_token = tokens
        self.field2type = dict.fromkeys(tokens)
        from recbole.data.interaction import Interaction

        user = torch.arange(1, users).repeat_interleave(HAD)
        self.inter_feat = Interaction({"user_id": user, "item_id": torch.randint(1, items, (len(user),))})

    def join(self, interaction):
        return interaction


def export(users, items):
    """Runs in a process of its own; prints what it cost."""
    import recbole_gr  # noqa: F401  patches RecBole
    from recbole_gr.integration.trained import TrainedModel
    from recbole_gr.recommend.recommender import Recommender
    from recbole_gr.recommend.writers import open_writer

    torch.manual_seed(0)
    data, model = Data(users + 1, items + 1), Factors(users + 1, items + 1)
    config = {"model": "factors", "LIST_SUFFIX": "_list", "device": "cpu", "title_template": None, "dataset": "synthetic"}
    config = {**config, "data_path": "", "ITEM_ID_FIELD": "item_id", "field_separator": "\t", "encoding": None}
    config["mask_seen"] = True
    recommender = Recommender(TrainedModel("", config, model, tuple(SimpleNamespace(_dataset=data) for _ in range(3))))
    asked = recommender.asked(k=K, history="train")
    names = recommender.user_tokens
    forget_peak()
    before = memory_mb("VmRSS")
    start = perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "lists.parquet")
        with open_writer(path, "parquet") as write:
            for some, lists in recommender.batches(asked):
                write(recommender.table(names[some.numpy()], lists))
        size = os.path.getsize(path) / 1e6
    seconds = perf_counter() - start
    print(
        json.dumps({"users": users, "seconds": seconds, "before_mb": before, "peak_mb": memory_mb("VmHWM"), "file_mb": size})
    )


def of_checkpoint(checkpoint):
    """The command, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "lists.parquet")
        command = [
            sys.executable,
            "-m",
            "recbole_gr",
            "recommend",
            os.path.abspath(checkpoint),
            f"--k={K}",
            f"--output={path}",
        ]
        start = perf_counter()
        # where its run was: its cache holds the vectors that its dataset is made from
        run_folder = os.path.dirname(os.path.dirname(os.path.abspath(checkpoint)))
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=run_folder)
        seconds = perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6
    for line in done.stdout.splitlines()[:2]:
        print(line)
    print(f"whole command {seconds:.1f} s, peak memory {peak:,.0f} MB")
    return {"seconds": seconds, "peak_mb": peak}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint")
    parser.add_argument("--users", default="10000,100000,1000000")
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--export", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.export:
        return export(options.export, options.items)
    print(describe_machine())
    figures = {}
    if options.checkpoint:
        figures["checkpoint"] = of_checkpoint(options.checkpoint)
    print(f"\n{options.items:,} items, {K} of them for each user, {HAD} had before")
    print("     users  seconds  users/s  MB before  MB added  file MB  MB of all scores")
    figures["synthetic"] = []
    for users in map(int, options.users.split(",")):
        command = [sys.executable, __file__, f"--export={users}", f"--items={options.items}"]
        done = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
        figures["synthetic"].append(done)
        added, dense = done["peak_mb"] - done["before_mb"], users * options.items * 4 / 1e6
        print(
            f"{users:10,} {done['seconds']:8.1f} {users / done['seconds']:8,.0f} {done['before_mb']:10,.0f} "
            f"{added:9,.0f} {done['file_mb']:8,.1f} {dense:17,.0f}"
        )
    sizes = {"users": options.users, "items": options.items, "k": K}
    print_json("recommend", sizes, figures)
    return None


if __name__ == "__main__":
    main()
