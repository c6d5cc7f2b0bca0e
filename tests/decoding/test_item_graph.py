"""The graph of similar semantic IDs, and the walk over it."""

import numpy as np
import pytest
import torch

from recbole_gr.decoding import item_graph
from recbole_gr.decoding.code_scores import CodeScores
from recbole_gr.decoding.item_graph import ItemGraph, Walk, build_graph

M, CODES, WIDTH = 8, 16, 12


def catalogue(n=2000, seed=0):
    """IDs in clusters, embeddings of their codes, and the tables of users who like what lies between two items."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(n // 20, M, 3))
    vectors = centres[rng.integers(0, len(centres), n)] + 0.4 * rng.normal(size=(n, M, 3))
    books = rng.normal(size=(M, CODES, 3))
    codes = np.stack([((vectors[:, d, None] - books[d]) ** 2).sum(-1).argmin(1) for d in range(M)], axis=1)
    codes = torch.from_numpy(np.unique(codes, axis=0))
    embeddings = torch.from_numpy(books @ rng.normal(size=(3, WIDTH))).float()
    liked = vectors[rng.integers(0, n, 30)] + 0.2 * rng.normal(size=(30, M, 3))
    distances = ((liked[:, :, None] - books) ** 2).sum(-1)
    return codes, embeddings, torch.from_numpy(-distances / 0.5).float().log_softmax(-1).flatten(1)


def similarities(codes, embeddings):
    units = torch.nn.functional.normalize(embeddings.double(), dim=-1)
    joined = units[torch.arange(M), codes].flatten(1)
    return (joined @ joined.T).fill_diagonal_(-torch.inf)


def test_neighbours_are_the_most_similar_others():
    codes, embeddings, _ = catalogue(400)
    graph = build_graph(codes, embeddings, 7, 20, seed=0)
    expected = similarities(codes, embeddings)
    found = expected.gather(1, graph.neighbours.long())
    torch.testing.assert_close(found.sort(descending=True).values, expected.topk(7).values, atol=1e-5, rtol=0)
    assert all(len(set(row.tolist())) == 7 for row in graph.neighbours)
    assert len(graph.starts) == 20 == len(graph.starts.unique())


def test_a_large_catalogue_gets_nearly_the_same_neighbours(monkeypatch):
    monkeypatch.setattr(item_graph, "COMPARED_WITH_ALL", 100)
    codes, embeddings, _ = catalogue()
    graph = build_graph(codes, embeddings, 10, 20, seed=0)
    expected = similarities(codes, embeddings).topk(10)
    own = torch.arange(len(codes)).unsqueeze(1)
    assert (graph.neighbours != own).all()
    found = similarities(codes, embeddings).gather(1, graph.neighbours.long())
    assert (found >= expected.values[:, -1:] - 1e-4).double().mean() > 0.9


def test_half_of_the_starts_are_the_most_frequent():
    codes, embeddings, _ = catalogue(400)
    counts = np.random.default_rng(1).permutation(len(codes))
    starts = build_graph(codes, embeddings, 7, 21, seed=0, counts=counts).starts.tolist()
    assert len(set(starts)) == 21 and set(np.argsort(-counts)[:10]) < set(starts)
    drawn = build_graph(codes, embeddings, 7, 21, seed=0).starts.tolist()
    assert len(set(drawn) & set(starts)) >= 10
    every = build_graph(codes, embeddings, 7, 10_000, seed=0, counts=counts).starts
    assert every.tolist() == list(range(len(codes)))


@pytest.mark.parametrize("n, asked, got", [(2, 5, 1), (30, 40, 29)])
def test_a_small_catalogue_has_fewer_neighbours(n, asked, got):
    codes, embeddings, _ = catalogue()
    graph = build_graph(codes[:n], embeddings, asked, 100, seed=0)
    assert graph.neighbours.shape == (n, got) and len(graph.starts) == n


def test_a_walk_scores_few_and_finds_the_best():
    codes, embeddings, tables = catalogue()
    scores = CodeScores(codes + torch.arange(M) * CODES)
    walk = Walk(build_graph(codes, embeddings, 24, 100, seed=0), scores, beam_size=30, expand=4, steps=8)
    users, nodes, values = walk(tables)
    expected = scores.of_all(tables)
    torch.testing.assert_close(values, expected[users, nodes], atol=1e-4, rtol=0)
    assert len(torch.unique(users * len(codes) + nodes)) == len(users)  # no pair twice
    met = torch.zeros_like(expected, dtype=torch.bool)
    met[users, nodes] = True
    best = expected.topk(10).indices
    assert met.gather(1, best).double().mean() >= 0.98
    assert met.double().mean() < 0.25
    again = walk(tables)
    assert all(torch.equal(one, other) for one, other in zip(again, (users, nodes, values)))  # nothing is left of the first


def walked_by_hand(graph, scores, known, *, steps, expand, beam_size):
    """The walk of one user in sets and loops."""
    pool = sorted(graph.starts.tolist(), key=lambda node: -scores[node])[:beam_size]
    met, expanded = {*pool, *known}, set()
    pool = sorted(met, key=lambda node: -scores[node])[:beam_size]
    for _ in range(steps):
        chosen = [node for node in pool if node not in expanded][:expand]
        expanded |= set(chosen)
        new = {int(other) for node in chosen for other in graph.neighbours[node]} - met
        met |= new
        pool = sorted({*pool, *new}, key=lambda node: -scores[node])[:beam_size]
    return met


@pytest.mark.parametrize("steps, expand, beam_size", [(1, 1, 3), (3, 2, 5), (6, 4, 20)])
def test_a_walk_meets_what_a_plain_loop_meets(steps, expand, beam_size):
    codes, embeddings, tables = catalogue(500)
    scores = CodeScores(codes + torch.arange(M) * CODES)
    graph = build_graph(codes, embeddings, 6, 15, seed=0)
    known = torch.randint(len(codes), (len(tables), 4), generator=torch.Generator().manual_seed(0))
    known[:, 3] = known[:, 0]  # the same item again
    known[::3, 2:] = -1
    known[0] = -1
    walk = Walk(graph, scores, beam_size=beam_size, expand=expand, steps=steps)
    expected = scores.of_all(tables)
    for known_to_all in (None, known):
        users, nodes, _ = walk(tables, known_to_all)
        for user in range(len(tables)):
            own = [] if known_to_all is None else [node for node in known[user].tolist() if node >= 0]
            by_hand = walked_by_hand(graph, expected[user].tolist(), own, steps=steps, expand=expand, beam_size=beam_size)
            assert sorted(nodes[users == user].tolist()) == sorted(by_hand)


def test_a_walk_that_has_nowhere_to_go_ends_where_it_is():
    ring = ItemGraph(torch.tensor([[1], [0], [3], [2]], dtype=torch.int32), torch.tensor([0]))
    scores = CodeScores(torch.arange(4).unsqueeze(1))
    users, nodes, values = Walk(ring, scores, beam_size=2, expand=2, steps=5)(torch.tensor([[0.1, 0.2, 0.3, 0.4]]))
    assert users.tolist() == [0, 0] and sorted(nodes.tolist()) == [0, 1]
