"""Tokenizers: ours against a plain loop over faiss.Kmeans, all kinds side by side, and how cost grows to a million items.

1. Growth: RK-Means of 10k, 100k and 1M vectors of 768 dimensions in a memory-mapped file, each in a process of its own,
   with its peak memory; and the collision rules on the codes that come out.
2. RK-Means, 3 x 256, 20 iterations on all points, in turns with a plain faiss loop: normalise, ``faiss.Kmeans`` with its
   limit of points lifted, assign, subtract, three times. Same vectors, same process, same threads. The share of distinct
   IDs is before any digit; both are measured with several seeds.
3. All kinds on the same vectors, 3 x 256 before any digit: distinct IDs, codes used and perplexity per level, the
   reconstruction error of one additive decoder for all kinds (``recbole_gr.tokenizers.measures.reconstruct``), seconds.
4. Semantic-ID files that others published, if ``--sid_folder`` is given.

Without ``--data_path`` the vectors of 2. and 3. are made up: 12,101 of 384 dimensions around 2,000 centres.
"""

import argparse
import glob
import os
import resource
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from statistics import median
from time import perf_counter

import numpy as np
import torch
from machine import describe_machine, print_json
from recbole.data.dataset import Dataset

import recbole_gr  # noqa: F401  patches RecBole before it is imported
from recbole_gr.data.dataset import HistoryDataset
from recbole_gr.data.item_vectors import make_item_vectors
from recbole_gr.data.training_part import training_part
from recbole_gr.integration.config import make_config
from recbole_gr.tokenizers import SemanticIDs, read_sid_file, resolve_collisions, tokenize
from recbole_gr.tokenizers.collision import COLLISION_RULES
from recbole_gr.tokenizers.families.rkmeans import faiss_library, rkmeans
from recbole_gr.tokenizers.measures import compare_with_vectors, reconstruct
from recbole_gr.tokenizers.semantic_ids import Quantised, number_groups

LEVELS, CODES, ITERATIONS = 3, 256, 20
SIZES = (10_000, 100_000, 1_000_000)
DIMENSION = 768
KINDS = {
    "rkmeans": {},
    "rkmeans, not normalised": {"normalise_residual": False},
    "rkmeans, balanced": {"kmeans_balanced": True},
    "rvq": {},
    "rvq, layer by layer": {"tokenizer_training": "layerwise"},
    "rqvae": {},
    "rqvae, rotation trick": {"quantiser_gradient": "rotation"},
    "rqvae, EMA codebooks": {"codebook_update": "ema"},
    "rqvae, layer by layer": {"tokenizer_training": "layerwise"},
    "rqvae, Adagrad 0.4": {"tokenizer_learner": "adagrad", "tokenizer_learning_rate": 0.4},
    "opq": {},
    "pq": {},
    "lsh": {},
    "random": {},
}


def plain_faiss_loop(vectors, seed):
    """Residual k-means as one would write it: codes ``[n, LEVELS]``."""
    faiss = faiss_library()
    residual, codes = vectors.copy(), []
    for level in range(LEVELS):
        faiss.normalize_L2(residual)
        options = {"niter": ITERATIONS, "seed": seed + level, "max_points_per_centroid": len(residual)}
        clustering = faiss.Kmeans(residual.shape[1], CODES, **options)
        clustering.train(residual)
        codes.append(clustering.index.search(residual, 1)[1][:, 0])
        residual -= clustering.centroids[codes[-1]]
    return np.stack(codes, axis=1)


def print_speed(vectors, rounds):
    ways = {
        "ours": lambda seed: rkmeans(vectors, LEVELS, CODES, seed=seed, kmeans_iterations=ITERATIONS).codes,
        "plain faiss loop": lambda seed: plain_faiss_loop(vectors, seed),
    }
    seconds, unique, error = ({name: [] for name in ways} for _ in range(3))
    points = vectors / np.linalg.norm(vectors, axis=1, keepdims=True).clip(min=1e-12)
    for seed in range(rounds):
        for name, way in ways.items():
            start = perf_counter()
            codes = way(seed)
            seconds[name].append(perf_counter() - start)
            unique[name].append(distinct(codes))
            error[name].append(reconstruct(codes, points)[0][-1])
    print(f"\nRK-Means, {len(vectors):,} x {vectors.shape[1]}, {LEVELS} x {CODES}, {ITERATIONS} iterations, {rounds} seeds")
    print(f"{'':18} {'seconds':>8}  {'(lowest - highest)':20} {'distinct':>8}  {'(lowest - highest)':18} {'error':>6}")
    for name in ways:
        print(
            f"{name:18} {median(seconds[name]):8.2f}  {spread(seconds[name], '.2f'):20} {median(unique[name]):8.2%}  "
            f"{spread(unique[name], '.2%'):18} {median(error[name]):6.3f}"
        )
    parts = {"seconds": seconds, "distinct": unique, "reconstruction_error": error}
    return {name: {part: median(values[name]) for part, values in parts.items()} for name in ways}


def distinct(codes):
    return (number_groups(codes).max() + 1) / len(codes)


def spread(values, form):
    return f"({min(values):{form}} - {max(values):{form}})"


def print_kinds(vectors, kinds):
    print(f"\nall kinds, {len(vectors) - 1:,} x {vectors.shape[1]}, {LEVELS} x {CODES}, before any digit")
    print(
        f"{'':24} {'distinct':>8} {'most':>5}  {'codes used':16} {'perplexity':17} {'reconstruction error':22} {'seconds':>7}"
    )
    figures = {}
    for name, settings in ((name, KINDS[name]) for name in kinds):
        start = perf_counter()
        sizes = {"codebook_num": LEVELS, "codebook_size": CODES, "collision": "none"}
        ids = tokenize(vectors, tokenizer=name.split(",")[0], allow_zero_vectors=True, **sizes, **settings)
        seconds = perf_counter() - start
        measures = {**ids.statistics(), **compare_with_vectors(ids.codes[1:], vectors[1:])}
        used, errors = words(measures["codes_used"], "d"), words(measures["reconstruction_error"], ".3f")
        print(
            f"{name:24} {measures['unique_share']:8.2%} {measures['largest_collision']:5}  {used:16} "
            f"{words(measures['perplexity'], '.0f'):17} {errors:22} {seconds:7.1f}",
            flush=True,
        )
        kept = ("unique_share", "largest_collision", "perplexity", "reconstruction_error")
        figures[name] = {"seconds": seconds, **{measure: measures[measure] for measure in kept}}
    return figures


def words(values, form):
    return " ".join(f"{value:{form}}" for value in values)


def print_growth(sizes, folder, threads):
    print(f"\ngrowth, {DIMENSION} dimensions in a memory-mapped file, {LEVELS} x {CODES}, {ITERATIONS} iterations")
    rules = "".join(f" {rule + ' s':>10}" for rule in COLLISION_RULES)
    print(
        f"{'items':>9} {'file GB':>8} {'RK-Means s':>10} {'peak GB':>8} {'peak - file':>11} {'measures s':>10} {'distinct':>8}{rules}"
    )
    figures = {}
    for n_items in sizes:
        path = os.path.join(folder, f"vectors-{n_items}.npy")
        in_own_process(write_vectors, path, n_items)
        cost = in_own_process(tokenize_file, path, threads)
        rule_seconds = in_own_process(resolve_all, path, threads)
        size = os.path.getsize(path) / 1e9
        os.remove(path)
        rules = "".join(f" {seconds:10.2f}" for seconds in rule_seconds)
        print(
            f"{n_items:9,} {size:8.2f} {cost['seconds']:10.1f} {cost['peak']:8.2f} {cost['peak'] - size:11.2f} "
            f"{cost['measures']:10.1f} {cost['distinct']:8.2%}{rules}",
            flush=True,
        )
        figures[f"{n_items} items"] = {**cost, **dict(zip(COLLISION_RULES, rule_seconds))}
    return figures


def in_own_process(function, *arguments):
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def write_vectors(path, n_items, n_centres=50_000, rows_at_once=50_000):
    """Vectors around centres, with a padding row; written piece by piece."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(n_centres, DIMENSION)).astype(np.float32)
    file = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(n_items + 1, DIMENSION))
    for start in range(1, n_items + 1, rows_at_once):
        rows = min(rows_at_once, n_items + 1 - start)
        centre = rng.integers(n_centres, size=rows)
        file[start : start + rows] = centres[centre] + 0.7 * rng.normal(size=(rows, DIMENSION)).astype(np.float32)
    file.flush()


def tokenize_file(path, threads):
    """What RK-Means of a file costs: seconds, GB of this process at its highest, and what the measures cost after it."""
    torch.set_num_threads(threads)
    vectors = np.load(path, mmap_mode="r")
    start = perf_counter()
    sizes = {"codebook_num": LEVELS, "codebook_size": CODES, "collision": "none"}
    ids = tokenize(vectors, kmeans_iterations=ITERATIONS, **sizes)
    seconds, peak = perf_counter() - start, peak_gigabytes()
    start = perf_counter()
    compare_with_vectors(ids.codes[1:], vectors[1:])
    measures = perf_counter() - start
    ids.save(path + ".ids.npz")
    return {"seconds": seconds, "peak": peak, "measures": measures, "distinct": ids.statistics()["unique_share"]}


def peak_gigabytes():
    """The highest memory of this process so far, mapped files included, in GB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)


def resolve_all(path, threads):
    """Seconds of each collision rule on the codes of a file; the last level's residual is made anew for them."""
    torch.set_num_threads(threads)
    codes = SemanticIDs.load(path + ".ids.npz").codes[1:]
    os.remove(path + ".ids.npz")
    quantised = with_residual(codes, np.load(path, mmap_mode="r")[1:])
    seconds = []
    for rule in COLLISION_RULES:
        start = perf_counter()
        resolved, _ = resolve_collisions(quantised, (CODES,) * LEVELS, rule)
        seconds.append(perf_counter() - start)
        assert rule == "none" or distinct(resolved) == 1.0, rule
    return seconds


def with_residual(codes, vectors):
    """Codes as a tokenizer hands them over, the codebooks being the means of the residuals."""
    faiss, residual, codebooks = faiss_library(), np.array(vectors), []
    for level in codes.T:
        faiss.normalize_L2(residual)
        last_residual = residual
        codebook = np.zeros((CODES, residual.shape[1]), dtype=np.float32)
        order = np.argsort(level, kind="stable")
        present, first = np.unique(level[order], return_index=True)
        for code, rows in zip(present, np.split(order, first[1:])):
            codebook[code] = residual[rows].mean(axis=0)
        codebooks.append(codebook)
        if len(codebooks) < codes.shape[1]:
            residual -= codebook[level]
    return Quantised(codes, last_residual, codebooks)


def print_published(folder, config):
    dataset = Dataset(config)
    tokens = dataset.field2id_token[dataset.iid_field].astype(str)
    print("\npublished semantic IDs")
    for path in sorted(glob.glob(os.path.join(folder, f"{config['dataset']}.*"))):
        statistics = read_sid_file(path, tokens).statistics()
        count = round(statistics["unique_share"] * statistics["items"])
        print(
            f"{os.path.basename(path):48} {count:,} distinct of {statistics['items']:,}, at most "
            f"{statistics['largest_collision']} with one, codes used {statistics['codes_used']}"
        )


def make_up_vectors():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(2000, 384))[rng.integers(2000, size=12_102)] + 0.7 * rng.normal(size=(12_102, 384))
    vectors[0] = 0
    return vectors.astype(np.float32)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_path", help="folder of datasets; without it the vectors are made up")
    parser.add_argument("--dataset", default="amazon-beauty-2014")
    parser.add_argument("--sid_folder", help="folder of published semantic IDs, DATASET.*.json")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=8, help="seeds of the second part")
    parser.add_argument("--largest", type=int, default=SIZES[-1], help="the most items of the first part; 0 leaves it out")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS, help="of the third part")
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where the first part puts its vectors, 3 GB")
    arguments = parser.parse_args()
    del sys.argv[1:]  # RecBole would read them as its own
    return arguments


def main():
    args = parse_arguments()
    torch.set_num_threads(args.threads)
    print(describe_machine())
    # first: a process inherits the peak memory of the one that starts it
    sizes = [size for size in SIZES if size <= args.largest]
    figures = {}
    if sizes:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            figures["growth"] = print_growth(sizes, folder, args.threads)
    config, vectors = None, make_up_vectors()
    if args.data_path:
        config = make_config("TIGER", args.dataset, config_dict={"data_path": os.path.abspath(args.data_path)})
        vectors = text_vectors(config)
    figures["rkmeans"] = print_speed(vectors[1:], args.rounds)
    figures["kinds"] = print_kinds(vectors, args.kinds)
    if args.sid_folder and config:
        print_published(args.sid_folder, config)
    print_json("tokenizer_kinds", vars(args), figures)


def text_vectors(config):
    dataset = HistoryDataset(config)
    tokens = dataset.field2id_token[dataset.iid_field].astype(str)
    vectors, _ = make_item_vectors(config, tokens, partial(training_part, dataset), {})
    return vectors


if __name__ == "__main__":
    main()
