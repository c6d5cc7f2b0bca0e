"""What grows with the catalogue: codes, training and evaluation for 10,000, 100,000 and 1,000,000 random items.

Users have 20 items each, drawn at random; vectors of items are random too, and titles are four random words of 2,000, so that nothing can be learned. That is the hard case
for certificates: no user gets one from the first search. Each row is a process of its own, whose peak of memory is that of all
it did, data and libraries included; the seconds are those of the part that it is about:

- ``tokenise``: the dataset with its codes. TIGER, LIGER: RK-Means over the vectors, 3 levels of 256 codes and a digit, with the
  measures. RPG: 32 product codes. IDGenRec: keyphrases of the titles. LLMasRS: nothing but the dataset.
- ``train``: samples of one epoch, and the best checkpoint.
- ``masked``, ``not masked``: the test without certificates, seen items excluded or not.
- ``certified``: the test with certificates, seen items excluded, within ``certify_budget``.

``python benchmarks/catalogues.py [--items=10000,100000,1000000] [--models=TIGER,LIGER,RPG,...] [--folder=DIR]``
"""

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from time import perf_counter, process_time

import numpy as np
import torch
from machine import describe_machine, print_json

HISTORY, WIDTH, WORDS = 20, 32, 2_000
PHASES = ("tokenise", "train", "masked", "not masked", "certified")
#: What some models have not: codes, or searches that leave anything to be proven.
WITHOUT = {
    "SASRecCausal": ("tokenise", "certified"),
    "HSTU": ("tokenise", "certified"),
    "RPG": ("certified",),
    "LLMasRS": ("tokenise",),
}
BY_VECTORS = ("TIGER", "LIGER", "RPG")
BY_BEAMS = ("TIGER", "LIGER", "IDGenRec", "LLMasRS")


def write_data(folder, items, users):
    """``shop.inter``, ``shop.item`` and ``vectors.npy``; every item is in the item file."""
    name = f"shop{items}"
    place = os.path.join(folder, name)
    if os.path.isdir(place):
        return name
    os.makedirs(place)
    rng = np.random.default_rng(0)
    rows = [
        f"u{user}\ti{item}\t{time}" for user in range(users) for time, item in enumerate(rng.integers(items, size=HISTORY))
    ]
    with open(os.path.join(place, f"{name}.inter"), "w") as file:
        file.write("\n".join(["user_id:token\titem_id:token\ttimestamp:float", *rows]) + "\n")
    words = np.array(["".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), size=6)) for _ in range(WORDS)])
    titles = (" ".join(words[four]) for four in rng.integers(WORDS, size=(items, 4)))
    with open(os.path.join(place, f"{name}.item"), "w") as file:
        file.write("item_id:token\ttitle:token_seq\n" + "\n".join(f"i{n}\t{title}" for n, title in enumerate(titles)) + "\n")
    np.save(os.path.join(place, "vectors.npy"), rng.normal(size=(items, WIDTH)).astype(np.float32))
    return name


def settings(options, name, phase):
    """Of a run of the phase."""
    folder = os.path.join(options.folder, name)
    given = {
        "data_path": options.folder,
        "load_items": "all",
        "mask_seen": phase != "not masked",
        "MAX_ITEM_LIST_LENGTH": HISTORY,
        "epoch_samples": options.samples,
        "epochs": 1,
        "eval_step": 0,
        "checkpoint_dir": os.path.join(folder, "saved"),
        "record_dir": None,
        "use_gpu": False,
        "show_progress": False,
        "topk": [5, 10],
    }
    if options.model in BY_VECTORS:
        given |= {"cache_dir": os.path.join(folder, "cache"), "item_vector_file": os.path.join(folder, "vectors.npy")}
    if options.model in ("TIGER", "LIGER"):
        given |= {"tokenizer": "rkmeans", "codebook_num": 3, "codebook_size": 256}
    if options.model in BY_BEAMS:
        given |= {"beam_certify": phase == "certified", "certify_budget": options.budget}
    if options.model == "LLMasRS":
        given |= {"scratch_size": "tiny"}
    return given


def memory_mb():
    """The peak of this process (Linux)."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 / 1e6 for line in file if line.startswith("VmHWM"))


@contextmanager
def timed(found):
    begin, cpu = perf_counter(), process_time()
    yield
    found["seconds"], found["cpu_seconds"] = perf_counter() - begin, process_time() - cpu


def measure(options):
    """One phase in this process; prints what it cost."""
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_trainer, init_seed

    from recbole_gr.integration.config import make_config
    from recbole_gr.utils.memory import keep_freed_memory

    torch.set_num_threads(options.threads)
    keep_freed_memory()
    name, found = f"shop{options.items}", {}
    config = make_config(options.model, name, config_dict=settings(options, name, options.phase))
    logging.disable(logging.INFO)
    init_seed(config["seed"], config["reproducibility"])
    with timed(found):
        dataset = create_dataset(config)
    if options.phase != "tokenise":
        train, _, test = data_preparation(config, dataset)
        model = config.model_class(config, train._dataset)
        trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
        path = os.path.join(config["checkpoint_dir"], f"{options.model}.pth")
        trainer.saved_model_file = path
        found["build_seconds"] = found["seconds"]
        if options.phase == "train":
            with timed(found):
                trainer.fit(train, None, show_progress=False)
            trainer._save_checkpoint(0, verbose=False)
        else:
            model.load_state_dict(torch.load(path, weights_only=False)["state_dict"])
            trainer.eval_collector.data_collect(train)
            with timed(found):
                found["result"] = trainer.evaluate(test, load_best_model=False)
            found["users"] = len(test._dataset)
            if hasattr(model, "certificates"):
                found |= model.rankings_report()
    found["peak_mb"] = memory_mb()
    print(json.dumps(found))


def run_phase(options, items, model, phase):
    arguments = {
        "items": items,
        "model": model,
        "phase": phase,
        "folder": options.folder,
        "samples": options.samples,
        "budget": options.budget,
        "threads": options.threads,
    }
    command = [sys.executable, __file__, *(f"--{key}={value}" for key, value in arguments.items())]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", default="10000,100000,1000000")
    parser.add_argument("--models", default="TIGER,LIGER,IDGenRec,LLMasRS,RPG,HSTU,SASRecCausal")
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--budget", type=float, default=10.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--folder", help="where data and codes are kept; by default they are not")
    parser.add_argument("--model", help=argparse.SUPPRESS)
    parser.add_argument("--phase", help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    options = parse_arguments()
    if options.phase:
        options.items, sys.argv = int(options.items), sys.argv[:1]  # RecBole reads the command line for settings
        return measure(options)
    torch.set_num_threads(options.threads)
    print(f"{describe_machine()}, histories of {HISTORY} items, {options.users:,} users")
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        options.folder = options.folder or folder
        for model in options.models.split(","):
            print(f"\n{model}\n     items  part           seconds  CPU s  ms/user  peak MB  proven  left open")
            for items in map(int, options.items.split(",")):
                write_data(options.folder, items, options.users)
                for phase in (phase for phase in PHASES if phase not in WITHOUT.get(model, ())):
                    found = run_phase(options, items, model, phase)
                    per_user = f"{1000 * found['seconds'] / found['users']:8.2f}" if "users" in found else " " * 8
                    line = f"{items:10,}  {phase:12} {found['seconds']:9.1f} {found['cpu_seconds']:6.1f} {per_user} {found['peak_mb']:8,.0f}"
                    if "certified" in found and phase == "certified":
                        line += f" {found['certified']:7,} {found['stopped_by_budget']:10,}"
                    print(line, flush=True)
                    figures.append({"model": model, "items": items, "part": phase, **found})
    print_json("catalogues", {**vars(options), "folder": ""}, figures)
    return None


if __name__ == "__main__":
    main()
