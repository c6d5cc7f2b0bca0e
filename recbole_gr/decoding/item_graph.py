"""A graph of similar semantic IDs, and a walk over it to those of the highest scores (RPG, arXiv 2506.05781, section 3.3).

Its nodes are distinct semantic IDs. Two are similar if their codes have similar embeddings, digit by digit; so where a node
scores high, its neighbours do too, and a walk from good nodes to their neighbours meets the best without scoring the rest.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from recbole_gr.decoding.code_scores import CodeScores
from recbole_gr.tokenizers.families.rkmeans import faiss_library

#: Up to so many nodes, each is compared with all others; beyond, with those in the nearest cells of a clustering.
COMPARED_WITH_ALL = 1 << 15
NODES_AT_ONCE = 64
#: How similarities are approximated beyond: dimensions of the nodes' vectors, cells that are looked at, points per cell.
DIMENSIONS, CELLS_LOOKED_AT, PER_CELL, TRAINING_POINTS = 96, 4, 256, 50_000
#: Where it is not said how many starts a walk has: one in so many nodes, and so many at least.
ONE_START_IN, LEAST_STARTS = 32, 256
#: Numbers in the table of what each user has met, which is kept for all users of a walk.
MARKS = 1 << 25


@dataclass(frozen=True)
class ItemGraph:
    """Who is similar to whom.

    Args:
        neighbours: int32 ``[nodes, k]``, the most similar nodes of each, itself left out.
        starts: int64 ``[s]``, nodes at which every walk begins.
    """

    neighbours: torch.Tensor
    starts: torch.Tensor


def build_graph(
    codes: torch.Tensor,
    embeddings: torch.Tensor,
    n_neighbours: int,
    n_starts: int | None,
    seed: int,
    counts: np.ndarray | None = None,
) -> ItemGraph:
    """Join every node to its most similar ones.

    The similarity of two nodes is the sum over their digits of the cosines of their codes' embeddings. Of up to
    :data:`COMPARED_WITH_ALL` nodes all pairs are compared, a few nodes at a time; of more, those that lie near each other
    by vectors whose inner products are about these similarities. Memory grows with nodes, never with pairs of them.

    Args:
        codes: int64 ``[nodes, m]`` on the CPU.
        embeddings: float32 ``[m, codes, d]`` on the CPU.
        n_neighbours: of each node; fewer where there are fewer nodes.
        n_starts: nodes to start at; all if there are fewer. None: as :data:`ONE_START_IN` says. Groups of nodes that are joined
            among themselves only are not found without a start in them.
        seed: of what is drawn.
        counts: how often each node occurs in training: half of the starts are the most frequent, which are among the best of
            many users, and the others drawn at random; None: all are.
    """
    units = F.normalize(embeddings.float(), dim=-1)
    k = min(n_neighbours, len(codes) - 1)
    neighbours = (_of_all_pairs if len(codes) <= COMPARED_WITH_ALL else _of_near_cells)(codes, units, k, seed)
    n_starts = n_starts or max(LEAST_STARTS, len(codes) // ONE_START_IN)
    frequent = np.zeros(0, dtype=np.int64) if counts is None else np.argsort(-counts, kind="stable")[: n_starts // 2]
    drawn = np.random.default_rng(seed).permutation(len(codes))
    drawn = drawn[~np.isin(drawn, frequent)][: n_starts - len(frequent)]
    return ItemGraph(neighbours, torch.from_numpy(np.sort(np.append(frequent, drawn))))


def _of_all_pairs(codes: torch.Tensor, units: torch.Tensor, k: int, seed: int) -> torch.Tensor:
    m, n_codes, _ = units.shape
    cosines = torch.bmm(units, units.transpose(1, 2))
    scores = CodeScores(codes + torch.arange(m) * n_codes)
    neighbours = torch.empty(len(codes), k, dtype=torch.int32)
    for here in torch.arange(len(codes)).split(NODES_AT_ONCE):
        tables = cosines[torch.arange(m), codes[here]].flatten(1)
        _, nearest = scores.best(tables, k + 1)
        neighbours[here] = _without(nearest, here)
    return neighbours


def _without(nearest: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
    """Rows ``[n, k + 1]`` without the row's own number, or without their last entry where it is not there."""
    other = nearest != own.unsqueeze(1)
    other[:, -1] &= ~other.all(dim=1)
    return nearest[other].view(len(own), -1).int()


def _of_near_cells(codes: torch.Tensor, units: torch.Tensor, k: int, seed: int) -> torch.Tensor:
    faiss = faiss_library()
    points = _points(codes, units, seed).numpy()
    n_cells = max(1, len(points) // PER_CELL)
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(points.shape[1]), points.shape[1], n_cells, faiss.METRIC_L2)
    index.cp.seed, index.cp.niter, index.cp.max_points_per_centroid = seed % (1 << 31), 4, 39
    index.train(points)
    index.add(points)
    index.nprobe = min(CELLS_LOOKED_AT, n_cells)
    neighbours = torch.empty(len(codes), k, dtype=torch.int32)
    for here in torch.arange(len(codes)).split(1 << 14):
        nearest = torch.from_numpy(index.search(points[here], k + 1)[1])
        nearest = torch.where(nearest < 0, nearest[:, :1], nearest)  # the cells held fewer
        neighbours[here] = _without(nearest, here)
    return neighbours


def _points(codes: torch.Tensor, units: torch.Tensor, seed: int) -> torch.Tensor:
    """Vectors float32 ``[nodes, d']`` whose distances are about those of the nodes' joined embeddings.

    A node's embeddings, one of each digit, are turned to their principal axes: first those of each digit, of which a few are
    kept, then those of all together. Both are linear, so that a node is the sum of one row per digit.
    """
    m, n_codes, d = units.shape
    few = max(1, min(d, 4 * DIMENSIONS // m))
    centred = units - units.mean(dim=1, keepdim=True)
    axes = torch.linalg.eigh(centred.transpose(1, 2) @ centred).eigenvectors[..., -few:]
    rows = centred @ axes  # [m, codes, few]
    drawn = torch.from_numpy(np.random.default_rng(seed).permutation(len(codes))[:TRAINING_POINTS])
    joined = rows[torch.arange(m), codes[drawn]].flatten(1)
    joined -= joined.mean(dim=0)
    kept = torch.linalg.eigh(joined.T @ joined).eigenvectors[:, -DIMENSIONS:]
    table = (rows @ kept.view(m, few, -1)).flatten(0, 1)
    places = codes + torch.arange(m) * n_codes
    return torch.cat([F.embedding_bag(some, table, mode="sum") for some in places.split(1 << 15)])


class Walk:
    """Walks over a graph for several users at a time.

    From the best of the starts and the nodes that a user knows, each step goes to the neighbours of the ``expand`` best
    nodes whose neighbours were not met yet, among the ``beam_size`` best met so far. But for starts that are not among the
    best of them, no node is scored twice for a user.

    Args:
        graph: who is similar to whom.
        scores: of the nodes' codes.
        beam_size: nodes that are remembered.
        expand: nodes whose neighbours are met in a step.
        steps: how many.
    """

    def __init__(self, graph: ItemGraph, scores: CodeScores, *, beam_size: int, expand: int, steps: int) -> None:
        self.graph, self.scores = graph, scores
        self.beam_size, self.expand, self.steps = beam_size, min(expand, beam_size), steps
        self.starts = CodeScores(scores.places[graph.starts])
        self.users_at_once = max(1, min(256, MARKS // len(scores)))
        self.marks = torch.zeros(self.users_at_once * len(scores), dtype=torch.int32, device=scores.places.device)

    def __call__(
        self, tables: torch.Tensor, known: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The nodes that are met.

        Args:
            tables: float32 ``[users, V]``, as :class:`CodeScores` takes them; at most ``users_at_once`` users.
            known: int64 ``[users, h]``, nodes that the walks begin at besides, those of a user's history; -1 where there is none.

        Returns:
            Users int64, nodes int64 and their scores float32, ``[pairs]`` each: every pair once, in no order.
        """
        walks = _Walks(self, tables)
        if known is not None:
            walks.meet(known.clamp(min=0), known >= 0)
        for _ in range(self.steps):
            walks.step()
        return walks.end()


class _Walks:
    """The walks of some users: what they have met, and the best of it. A user and a node are one number, a pair."""

    def __init__(self, walk: Walk, tables: torch.Tensor) -> None:
        self.walk, self.tables = walk, tables
        self.n_nodes, n_users = len(walk.scores), len(tables)
        self.first = torch.arange(n_users, dtype=torch.int32, device=tables.device).unsqueeze(1) * self.n_nodes
        self.best, place = walk.starts.of_all(tables).topk(min(walk.beam_size, len(walk.starts)), dim=1)
        self.pairs = walk.graph.starts[place].int() + self.first
        self.done = torch.zeros_like(self.pairs, dtype=torch.bool)  # whose neighbours were met
        self.met, self.values = [self.pairs.flatten().long()], [self.best.flatten()]
        walk.marks[self.met[0]] = 1

    def step(self) -> None:
        """Go to the neighbours of the best nodes that were not gone on from yet."""
        expand, neighbours = min(self.walk.expand, self.best.shape[1]), self.walk.graph.neighbours
        scores, chosen = self.best.masked_fill(self.done, -torch.inf).topk(expand, dim=1)
        self.done.scatter_(1, chosen, True)
        nodes = (self.pairs.gather(1, chosen) - self.first).flatten()
        reached = neighbours.index_select(0, nodes).view(len(nodes) // expand, -1)
        self.meet(reached, (scores > -torch.inf).repeat_interleave(neighbours.shape[1], dim=1))

    def meet(self, nodes: torch.Tensor, present: torch.Tensor) -> None:
        """Score those nodes int ``[users, r]`` that are ``present``, bool, and new; and keep the best of them and those before."""
        pairs = nodes.int() + self.first
        position = self._not_met(pairs.flatten(), present.flatten())
        fresh = pairs.flatten().index_select(0, position).long()
        users = fresh // self.n_nodes
        scores = self.walk.scores.of_some(self.tables, users, fresh - users * self.n_nodes)
        self.met.append(fresh)
        self.values.append(scores)
        # places without a score hold nothing to go on from
        of_all = self.best.new_full((pairs.numel(),), -torch.inf).index_copy_(0, position, scores).view_as(pairs)
        candidates = torch.cat([self.best, of_all], dim=1)
        self.best, kept = candidates.topk(min(self.walk.beam_size, candidates.shape[1]), dim=1)
        self.pairs = torch.cat([self.pairs, pairs], dim=1).gather(1, kept)
        self.done = torch.cat([self.done, torch.zeros_like(pairs, dtype=torch.bool)], dim=1).gather(1, kept)

    def _not_met(self, pairs: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
        """Where pairs stand that were not met before, each once: int64; from now on they are met."""
        marks = self.walk.marks
        position = torch.nonzero((marks.index_select(0, pairs) == 0) & allowed).squeeze(1)
        fresh = pairs.index_select(0, position).long()
        number = torch.arange(1, len(fresh) + 1, dtype=torch.int32, device=pairs.device)
        marks[fresh] = number  # of equal pairs one stays
        return position[marks.index_select(0, fresh) == number]

    def end(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """What :class:`Walk` returns; its marks are as before."""
        every = torch.cat(self.met)
        self.walk.marks[every] = 0
        users = every // self.n_nodes
        return users, every - users * self.n_nodes, torch.cat(self.values)
