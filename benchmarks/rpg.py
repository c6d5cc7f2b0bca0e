"""RPG's two ways to rank, in turns in one process on one thread, in CPU time: every item, or a walk over the graph.

Both start from the users' log-probabilities of all codes, which they need alike, and end with the ten best items of each
user; neither makes the matrix ``[users, n_items]`` that RecBole's metrics ask for. ``exact`` is what the model runs: the
items of a chunk are added up for many users at once, from tables in which a code's users lie side by side. ``plain`` is
the way it is written down: for each digit a gather from ``[users, m * codes]``, added up. It is timed on fewer users.
``scored`` is the mean share of the catalogue that a walk scores, its starts included; ``recall`` the share of the ten best
items of ``exact`` that the walk found. Every row of a walk has its own settings.

The catalogue is made up: vectors in clusters within clusters whose dimensions fade as those of text vectors do, and their
product codes by our tokenizer. A user likes what lies near one item and a little nearer to another one, with noise;
the log-probability of a code is a softmax over cosines, with a temperature that gives about the entropy per digit of a
model trained on Amazon Beauty. With ``--checkpoint`` the catalogue, embeddings and users are those of a trained RPG.

The first rows cost the graph: how long it took to make, and its size.
"""

import argparse
from functools import partial
from pathlib import Path
from statistics import median
from time import process_time

import numpy as np
import torch
from machine import describe_machine, print_json
from timing import alternating

from recbole_gr.decoding.code_scores import CodeScores
from recbole_gr.decoding.item_graph import LEAST_STARTS, ItemGraph, Walk, build_graph
from recbole_gr.tokenizers.families.product import pq
from recbole_gr.utils.memory import keep_freed_memory

CODES, DIMENSIONS, K = 256, 128, 10
#: Items per cluster, and how far apart things lie.
PER_CLUSTER, WITHIN, FADING, NOISE, TEMPERATURE = 200, 0.5, -0.3, 0.25, 0.15


def made_up_vectors(n_items):
    """Unit vectors float32 ``[n_items, DIMENSIONS]``."""
    rng = np.random.default_rng(0)
    n_clusters = max(50, n_items // PER_CLUSTER)
    above = rng.normal(size=(50, DIMENSIONS))
    centres = above[rng.integers(0, 50, n_clusters)] + 0.7 * rng.normal(size=(n_clusters, DIMENSIONS))
    vectors = centres.astype(np.float32)[rng.integers(0, n_clusters, n_items)]
    vectors += WITHIN * rng.standard_normal(vectors.shape, dtype=np.float32)
    vectors *= (np.arange(1, DIMENSIONS + 1) ** FADING).astype(np.float32)
    vectors = vectors @ np.linalg.qr(rng.normal(size=(DIMENSIONS, DIMENSIONS)))[0].astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def made_up(args, n_items):
    """Codes int64 ``[n_items, m]``, embeddings ``[m, CODES, d]``, tables ``[users, m * CODES]``; no histories, no counts."""
    vectors = made_up_vectors(n_items)
    quantised = pq(vectors, args.digits, CODES, kmeans_iterations=8)
    books = torch.from_numpy(np.stack(quantised.codebooks))
    rng = np.random.default_rng(1)
    first, second = vectors[rng.integers(0, n_items, (2, args.users))]
    noise = NOISE * rng.normal(size=first.shape) / np.sqrt(DIMENSIONS)
    liked = torch.from_numpy((0.75 * first + 0.25 * second + noise).astype(np.float32)).view(args.users, args.digits, -1)
    units = [torch.nn.functional.normalize(each, dim=-1) for each in (liked, books)]
    log_probs = (torch.einsum("umd,mcd->umc", *units) / TEMPERATURE).log_softmax(-1)
    return torch.from_numpy(quantised.codes).long(), books, log_probs.flatten(1), None, None


def of_checkpoint(args):
    """The same of a trained RPG, users drawn from the test, with their histories and how often items occur in training."""
    from recbole.quick_start import load_data_and_model

    import recbole_gr  # noqa: F401  what RecBole needs to read our checkpoints
    from recbole_gr.data.seen import item_counts

    _, model, _, train, _, test = load_data_and_model(args.checkpoint)
    model.eval()
    network, tables, known = model.network, [], []
    with torch.no_grad():
        for batch in test:  # a batch has users of like histories
            drawn = torch.randperm(len(batch[0]), generator=torch.Generator().manual_seed(0))
            rows = drawn[: -(-args.users * len(batch[0]) // len(test.dataset))]
            tables.append(model._log_probs(batch[0], rows))
            items = torch.nn.functional.pad(batch[0][model.ITEM_SEQ][rows], (0, 100))[:, :100]
            known.append(torch.where(items > 0, model.id_of_item[items], -1))
        codes = model.id_places.long() - network.first_code
        counts = np.bincount(model.id_of_item[1:], item_counts(train.dataset)[1:], len(codes)).astype(np.int64)
        embeddings = network.code_embeddings().detach().clone()
        return codes, embeddings, torch.cat(tables), torch.cat(known), counts


def exact(scores, tables):
    return torch.cat([scores.best(some, K)[1] for some in tables.split(64)])


def plain(places, tables, items_at_once=1 << 12):
    """Digit by digit, a gather from the tables."""
    values, items = tables.new_empty(len(tables), 0), torch.empty(len(tables), 0, dtype=torch.long)
    for start in range(0, len(places), items_at_once):
        some = places[start : start + items_at_once]
        total = sum(tables.gather(1, digit.expand(len(tables), -1)) for digit in some.T)
        found, place = total.topk(min(K, len(some)), dim=1)
        values, items = torch.cat([values, found], dim=1), torch.cat([items, place + start], dim=1)
        values, kept = values.topk(K, dim=1)
        items = items.gather(1, kept)
    return items


def walked(walk, tables, known):
    """The ten best of what a walk meets ``[users, K]``, and how many pairs it scored."""
    best, scored = [], 0
    for some in torch.arange(len(tables)).split(walk.users_at_once):
        users, nodes, values = walk(tables[some], None if known is None else known[some])
        scored += len(nodes)
        order = values.argsort(descending=True)
        order = order[users[order].argsort(stable=True)]
        count = torch.bincount(users, minlength=len(some))
        best.append(nodes[order[(count.cumsum(0) - count).unsqueeze(1) + torch.arange(K)]])
    return torch.cat(best), scored


def n_starts(n_items, one_in):
    return max(LEAST_STARTS, n_items // one_in)


def compare(args, name, codes, embeddings, tables, known, counts):
    """One catalogue: the graph, and a row per way to rank; ``known`` and ``counts`` as :class:`Walk` and build_graph have them."""
    n_items, digits = codes.shape
    places = codes + torch.arange(digits) * embeddings.shape[1]
    scores = CodeScores(places)
    entropy = -(tables.exp() * tables).sum(1).mean() / digits
    print(f"\n{name}: {n_items:,} IDs of {digits} x {embeddings.shape[1]} codes, {len(tables)} users")
    print(f"log-probabilities of {entropy:.2f} nats per digit")
    kept = Path(args.graph_folder, f"graph-{n_items}-{digits}-{args.neighbours}.npz") if args.graph_folder else None
    if kept is not None and kept.exists():
        arrays = np.load(kept)
        graph, build = (
            ItemGraph(*(torch.from_numpy(arrays[part]) for part in ("neighbours", "starts"))),
            float(arrays["build"]),
        )
    else:
        start = process_time()
        most = n_starts(n_items, min(args.one_start_in))
        graph = build_graph(codes, embeddings, args.neighbours, most, seed=0, counts=counts)
        build = process_time() - start
        if kept is not None:
            np.savez(kept, neighbours=graph.neighbours.numpy(), starts=graph.starts.numpy(), build=build)
    megabytes = graph.neighbours.numel() * 4 / 1e6
    print(f"graph of {graph.neighbours.shape[1]} neighbours: {build:.1f} CPU seconds, {megabytes:.1f} MB")

    walks = {}
    for one_in in args.one_start_in:
        some = torch.randperm(len(graph.starts), generator=torch.Generator().manual_seed(0))[: n_starts(n_items, one_in)]
        fewer = ItemGraph(graph.neighbours, graph.starts[some])
        for steps in args.steps:
            walk = Walk(fewer, scores, beam_size=args.beam_size, expand=args.expand, steps=steps)
            walks[f"walk, {len(some):,} starts, {steps} steps"] = walk
    few = tables[: args.plain_users]
    best = exact(scores, tables)
    agree = (plain(places, few) == best[: len(few)]).double().mean()
    contenders = {"exact": partial(exact, scores, tables), "plain": partial(plain, places, few)}
    contenders |= {row: partial(walked, walk, tables, known) for row, walk in walks.items()}
    alternating(contenders, 1)  # the first does not count
    times = alternating(contenders, args.rounds, process_time)
    users = {row: len(few) if row == "plain" else len(tables) for row in contenders}
    per_user = {row: 1e6 * median(of_row) / users[row] for row, of_row in times.items()}
    print(f"{'':34} us/user  exact /  plain /    scored  recall@{K}")
    figures = {"build_cpu_seconds": build, "graph_mb": megabytes, "entropy": float(entropy), "plain_agrees": float(agree)}
    for row in contenders:
        found, scored = (best, n_items * len(tables)) if row not in walks else walked(walks[row], tables, known)
        share = scored / len(tables) / n_items + (len(walks[row].graph.starts) / n_items if row in walks else 0)
        hits = (found.unsqueeze(2) == best.unsqueeze(1)).any(dim=2).double().mean()
        cost = per_user[row]
        line = f"{row:34} {cost:7.0f} {per_user['exact'] / cost:8.2f} {per_user['plain'] / cost:8.2f}  {share:8.2%}  {hits:8.4f}"
        print(line, flush=True)
        figures[row] = {"us_per_user": cost, "scored": share, "recall": float(hits)}
    return figures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, nargs="*", default=[12_000, 1_000_000])
    parser.add_argument("--digits", type=int, default=32)
    parser.add_argument("--users", type=int, default=128)
    parser.add_argument("--plain_users", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--neighbours", type=int, default=48)
    parser.add_argument("--one_start_in", type=int, nargs="+", default=[64, 32], help="IDs per start of the walk")
    parser.add_argument("--beam_size", type=int, default=50)
    parser.add_argument("--expand", type=int, default=8)
    parser.add_argument("--steps", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--checkpoint", help="of a trained RPG, in place of a made-up catalogue")
    parser.add_argument("--graph_folder", help="keep the graphs of made-up catalogues here, and reuse them")
    args = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    print(describe_machine())
    figures = {}
    if args.checkpoint:
        figures["checkpoint"] = compare(args, "trained", *of_checkpoint(args))
    else:
        for n_items in args.items:
            figures[f"{n_items} items"] = compare(args, "made up", *made_up(args, n_items))
    print_json("rpg", vars(args), figures)


if __name__ == "__main__":
    main()
