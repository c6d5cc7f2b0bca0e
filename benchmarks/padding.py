"""How much of a training epoch is padding, and what it costs to build the dataset: ours against RecBole's own.

Padding: the share of the encoder's positions that hold no item, over one epoch of the same samples. Our loader
(``LengthGroupedTrainDataLoader``: histories of like length, trimmed to the batch's longest) against RecBole's
``TrainDataLoader`` (random batches of fixed length MAX_ITEM_LIST_LENGTH), and against random batches trimmed to their
longest, which shows what the grouping adds to the trimming. The share is the same for one position per item and one
per code; user tokens and separators are not counted.

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
from time import perf_counter

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
    given = {"MAX_ITEM_LIST_LENGTH": args.max_length}
    if args.data_path:
        given["data_path"] = os.path.abspath(args.data_path)
    settings = {"model": "TIGER", "dataset": args.dataset, "config_dict": given}
    print(describe_machine())
    costs = print_build_costs(settings, args.rounds)  # first: a process inherits the peak of the one that starts it
    print_json("padding", vars(args), {"build": costs, "padding": print_padding_shares(settings)})


if __name__ == "__main__":
    main()
