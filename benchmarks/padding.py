"""How much of a training epoch is padding, and what it costs to build the dataset and to load an epoch, beside RecBole's own.

Padding: the share of the encoder's positions that hold no item, over one epoch of the same samples. Our loader
(``LengthGroupedTrainDataLoader``: histories of like length, trimmed to the batch's longest) against RecBole's
``TrainDataLoader`` (random batches of fixed length MAX_ITEM_LIST_LENGTH), and against random batches trimmed to their
longest, which shows what the grouping adds to the trimming. The share is the same for one position per item and one
per code; user tokens and separators are not counted.

Loading: CPU seconds of one epoch of our loader with each ``augmentation``, and with windows of a target at every position
(``loss_positions: all``), beside RecBole's loader; the first epoch is not counted.

Building: seconds and memory from the atomic files to the training, validation and test parts, ``HistoryDataset``
against RecBole's ``SequentialDataset``. Each build has a process of its own, in turns, and the medians are printed;
memory is the growth of the process's peak. Both read the files in the same way, which is part of both.
"""

import argparse
import os
import resource
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import median
from time import perf_counter, process_time

from machine import describe_machine, print_json
from recbole.data.dataloader import TrainDataLoader
from recbole.data.dataset import SequentialDataset

import recbole_gr  # noqa: F401  patches RecBole before it is imported
from recbole_gr.data.dataloader import LengthGroupedTrainDataLoader
from recbole_gr.data.dataset import HistoryDataset
from recbole_gr.integration.config import make_config


def padding_shares(config):
    """Padding of one epoch, by kind of batches: ``{name: share}``."""
    grouped = LengthGroupedTrainDataLoader(config, HistoryDataset(config).build()[0], None, shuffle=True)
    random = TrainDataLoader(config, SequentialDataset(config).build()[0], None, shuffle=True)
    ours, theirs = epoch_lengths(config, grouped), epoch_lengths(config, random)
    assert sum(map(sum, ours)) == sum(map(sum, theirs)), "the two loaders do not bring the same samples"
    fixed = config["MAX_ITEM_LIST_LENGTH"]
    return {
        "ours: grouped by length, trimmed": padding(ours, max),
        "RecBole: random, fixed length": padding(theirs, lambda lengths: fixed),
        "random, trimmed": padding(theirs, max),
    }


#: What our loader makes, by name: its settings.
KINDS = {
    "augmentation=prefix": {"augmentation": "prefix"},
    "augmentation=window": {"augmentation": "window"},
    "augmentation=none": {"augmentation": "none"},
    "loss_positions=all": {"loss_positions": "all"},
}


def loading_costs(config):
    """Of one epoch, by kind of samples: targets, batches, share of padding, CPU seconds."""
    part = HistoryDataset(config).build()[0]
    costs = {}
    for name, settings in KINDS.items():
        for key in ("augmentation", "loss_positions"):
            config[key] = settings.get(key)
        loader = LengthGroupedTrainDataLoader(config, part, None, shuffle=True)
        costs[name] = {"targets": loader.batches.n_samples, **cost_of_epoch(config, loader)}
    recboles = TrainDataLoader(config, SequentialDataset(config).build()[0], None, shuffle=True)
    costs["RecBole's loader"] = {"targets": recboles.sample_size, **cost_of_epoch(config, recboles)}
    return costs


def cost_of_epoch(config, loader):
    for _ in loader:
        pass
    start, n_batches = process_time(), 0
    for _ in loader:
        n_batches += 1
    seconds = process_time() - start
    items, lengths = config["ITEM_ID_FIELD"] + config["LIST_SUFFIX"], config["ITEM_LIST_LENGTH_FIELD"]
    sizes = [(batch[items].numel(), int(batch[lengths].sum())) for batch in loader]
    places, filled = map(sum, zip(*sizes))
    return {"batches": n_batches, "padding": 1 - filled / places, "cpu_seconds": seconds}


def print_loading_costs(settings):
    config = make_config(**settings)
    at_most, batch_size = config["MAX_ITEM_LIST_LENGTH"], config["train_batch_size"]
    print(f"\n{settings['dataset']}, at most {at_most} items, {batch_size} targets per batch")
    print(f"{'one epoch of':24} {'targets':>9} {'batches':>8} {'padding':>8} {'CPU s':>7}")
    costs = loading_costs(config)
    for name, cost in costs.items():
        numbers = f"{cost['targets']:9,} {cost['batches']:8,} {cost['padding']:8.1%} {cost['cpu_seconds']:7.2f}"
        print(f"{name:24} {numbers}")
    return costs


def epoch_lengths(config, loader):
    """Lengths of the histories in each batch of one epoch."""
    return [batch[config["ITEM_LIST_LENGTH_FIELD"]].tolist() for batch in loader]


def padding(batches, width):
    """Share of positions without an item when each batch is ``width(lengths)`` wide."""
    positions = sum(len(lengths) * width(lengths) for lengths in batches)
    return 1 - sum(map(sum, batches)) / positions


def build_cost(dataset_class, settings):
    """Seconds and MB that building a dataset takes in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(build, dataset_class, settings).result()


def build(dataset_class, settings):
    config = make_config(**settings)
    before, start = peak_memory(), perf_counter()
    dataset_class(config).build()
    return perf_counter() - start, peak_memory() - before


def peak_memory():
    """The highest memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


def print_build_costs(settings, rounds):
    print(f"\nbuilding {settings['dataset']:22} seconds  peak MB")
    costs = {HistoryDataset: [], SequentialDataset: []}
    for _ in range(rounds):
        for dataset_class, of_class in costs.items():
            of_class.append(build_cost(dataset_class, settings))
    for dataset_class, of_class in costs.items():
        taken, memory = map(median, zip(*of_class))
        print(f"{dataset_class.__name__:31} {taken:7.2f} {memory:8.0f}")
        costs[dataset_class] = {"seconds": taken, "peak_mb": memory}
    return {dataset_class.__name__: cost for dataset_class, cost in costs.items()}


def print_padding_shares(settings):
    config = make_config(**settings)
    print(f"\n{settings['dataset']}, histories of at most {config['MAX_ITEM_LIST_LENGTH']} items")
    shares = padding_shares(config)
    for name, share in shares.items():
        print(f"{name:34} {share:6.1%} padding")
    return shares


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_path", help="folder of datasets; without it RecBole's bundled ml-100k is found")
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--max_length", type=int, default=20, help="MAX_ITEM_LIST_LENGTH")
    parser.add_argument("--rounds", type=int, default=5, help="builds of each dataset class")
    arguments = parser.parse_args()
    del sys.argv[1:]  # RecBole would read them as its own
    return arguments


def main():
    args = parse_arguments()
    given = {"MAX_ITEM_LIST_LENGTH": args.max_length, "loss_positions": "last"}
    if args.data_path:
        given["data_path"] = os.path.abspath(args.data_path)
    settings = {"model": "TIGER", "dataset": args.dataset, "config_dict": given}
    print(describe_machine())
    costs = print_build_costs(settings, args.rounds)  # first: a process inherits the peak of the one that starts it
    shares = print_padding_shares(settings)
    print_json("padding", vars(args), {"build": costs, "padding": shares, "loading": print_loading_costs(settings)})


if __name__ == "__main__":
    main()
