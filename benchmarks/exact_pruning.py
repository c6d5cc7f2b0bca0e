"""Whether a model that scores every item could leave some out and still be exact: how many items a bound by clusters must score.

Items are clustered; no item of a cluster scores more than the product of state and centroid, plus the state's length times the cluster's radius. Only
clusters whose bound is below the k-th best score may be left out. Of random items, and of a trained model's with ``--checkpoint``.

``python benchmarks/exact_pruning.py [--items=100000] [--checkpoint=FILE]``
"""

import argparse
import sys

import faiss
import numpy as np
import torch
from machine import describe_machine, print_json

import recbole_gr  # noqa: F401  patches RecBole before it is imported

WIDTH, USERS, K = 64, 200, 10


def share_to_score(items, states, clusters):
    """The mean share of the items, centroids among them, whose scores are needed for the exact first k."""
    kmeans = faiss.Kmeans(items.shape[1], clusters, niter=8, seed=0, min_points_per_centroid=1)
    kmeans.train(items)
    cluster = kmeans.index.search(items, 1)[1][:, 0]
    radius = np.zeros(clusters, np.float32)
    np.maximum.at(radius, cluster, np.linalg.norm(items - kmeans.centroids[cluster], axis=1))
    kth = np.partition(states @ items.T, -K, axis=1)[:, -K, None]
    bound = states @ kmeans.centroids.T + np.linalg.norm(states, axis=1, keepdims=True) * radius
    looked_at = (bound >= kth) @ np.bincount(cluster, minlength=clusters)
    return (looked_at.mean() + clusters) / len(items)


def random_items(n):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, WIDTH)).astype(np.float32), rng.normal(size=(USERS, WIDTH)).astype(np.float32)


@torch.no_grad()
def trained_items(checkpoint):
    """Embeddings of an item model, such as SASRecCausal, and the states of the first users of its test."""
    from recbole.quick_start import load_data_and_model

    _, model, _, _, _, test = load_data_and_model(checkpoint)
    states = model.eval()._ranked_states(next(iter(test))[0][:USERS])
    return np.ascontiguousarray(model.compared(model.item_embedding.weight).numpy()[1:]), states.numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--checkpoint")
    options = parser.parse_args()
    sys.argv = sys.argv[:1]  # RecBole reads the command line for settings
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    cases = {"random": random_items(options.items)}
    if options.checkpoint:
        cases["trained"] = trained_items(options.checkpoint)
    print(describe_machine(), "\n\n         items  clusters  scored")
    figures = []
    for name, (items, states) in cases.items():
        for clusters in (100, 1000, 4000):
            share = float(share_to_score(items, states, clusters))
            print(f"{name:8} {len(items):7,} {clusters:8,}  {share:6.1%}")
            figures.append({"case": name, "items": len(items), "clusters": clusters, "scored": share})
    print_json("exact_pruning", {"users": USERS, "k": K, "width": WIDTH}, figures)


if __name__ == "__main__":
    main()
