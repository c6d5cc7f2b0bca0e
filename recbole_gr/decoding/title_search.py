"""Beam search over the trie of title tokens.

All beams of a step have equally many tokens, as in ``generate`` of transformers, and the best ``beam_size`` of them go
on. A stretch of the trie with a single child is read in one pass of the language model, which is why a step often needs
no pass at all. A log-probability only falls as a title grows, so a beam that scores less than the k-th best complete
title is given up without loss.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from recbole_gr.decoding.beam_search import Beams, kth_score
from recbole_gr.decoding.exclusion import Exclusion, contains
from recbole_gr.decoding.protocols import NextTokens, TitleDecoder
from recbole_gr.decoding.title_trie import TitleTrie
from recbole_gr.utils.arrays import nth_of, ragged
from recbole_gr.utils.devices import PerDevice

#: Most tokens of a stretch that one pass reads: a beam may be given up before it needs them all.
STRETCH = 8
#: Tokens that cost as much as another pass: no more are read ahead of need.
READ_AHEAD = PerDevice(cpu=64, cuda=8192)
#: Tokens of all users and beams that one pass reads, and beams of one user: its attention grows with their square.
TOKENS_AT_ONCE = PerDevice(cpu=4096, cuda=8192)
BEAMS_OF_A_USER_AT_ONCE = 128


def title_beam_search(
    reader: TitleDecoder,
    trie: TitleTrie,
    beam_size: int,
    k: int,
    *,
    excluded: Exclusion | None = None,
    floor: torch.Tensor | None = None,
) -> Beams:
    """Find the titles of highest probability.

    Args:
        reader: reads titles behind prompts, see :class:`recbole_gr.language_model.prompt_reader.PromptReader`.
        trie: the valid titles.
        beam_size: beams kept per user and step, at least k.
        k: the length of the ranking in items, of which a title may have several.
        excluded: from :meth:`TitleTrie.exclusion`; prefixes without an item for the user are left out. None: nothing is.
        floor: float32 ``[users]``; prefixes that score less are of no interest.

    Returns:
        Beams: ``pruned`` is the best prefix given up because there were too few beams; those below the k-th title are
        left out.
    """
    search = _TitleSearch(reader, trie, beam_size, k, excluded=excluded, floor=floor)
    place = 0
    while search.extend(place):
        place += 1
        search.read(place)
    return replace(search.found, steps=search.steps)


def title_log_likelihood(reader: TitleDecoder, trie: TitleTrie, items: torch.Tensor) -> torch.Tensor:
    """Exact log-probabilities of the titles of given items.

    Args:
        reader, trie: as in :func:`title_beam_search`.
        items: int64 ``[users, candidates]``.

    Returns:
        torch.Tensor: float32 ``[users, candidates]``.
    """
    longest = int(trie.title_length.max())
    at_once = max(1, TOKENS_AT_ONCE[trie.device.type] // (len(items) * longest))
    return torch.cat([_log_likelihood(reader, trie, trie.leaf_of_item[part]) for part in items.split(at_once, dim=1)], dim=1)


def _log_likelihood(reader: TitleDecoder, trie: TitleTrie, leaves: torch.Tensor) -> torch.Tensor:
    first = reader.start()
    reader.follow(torch.zeros_like(leaves))  # one beam per candidate, each behind the bare prompt
    place = torch.arange(int(trie.title_length[leaves].max()), device=trie.device)
    inside = place < trie.title_length[leaves].unsqueeze(-1)
    tokens = trie.tokens[trie.title_start[leaves].unsqueeze(-1) + place.where(inside, 0)]
    user = torch.arange(len(leaves), device=trie.device).unsqueeze(1).expand_as(leaves)
    scores = first.log_prob(user, tokens[..., 0])
    if len(place) == 1:
        return scores
    beam = torch.arange(leaves.shape[1], device=trie.device).expand_as(leaves)
    following = reader.read(beam, tokens[..., :-1], torch.zeros_like(leaves), trie.title_length[leaves] - 1)
    later = torch.zeros(tokens[..., 1:].shape, device=trie.device)
    row = torch.arange(following.rows, device=trie.device)
    later[inside[..., 1:]] = following.log_prob(row, tokens[..., 1:][inside[..., 1:]])
    return scores + later.sum(dim=-1)


class _TitleSearch:
    """The state of a search: ``[users, beams]`` tensors, dead beams with score -inf, and flat pools of log-probabilities.

    ``node`` is where the edge leads that a beam stands in, ``have_read`` how many of its tokens the language model has
    read. ``edge_pool.values[edge_base + place]`` is the log-probability of the edge's token at a place, ``child_pool.values[child_base]``
    and what follows those of the children's first tokens.
    """

    def __init__(
        self,
        reader: TitleDecoder,
        trie: TitleTrie,
        beam_size: int,
        k: int,
        *,
        excluded: Exclusion | None,
        floor: torch.Tensor | None,
    ) -> None:
        self.reader, self.trie, self.beam_size, self.k, self.excluded = reader, trie, beam_size, k, excluded
        self.nobodys: torch.Tensor | None = None
        if excluded is not None:
            self.used_up, self.nobodys = trie.used_up(excluded), trie.nobodys(excluded)
        first = reader.start()
        users, device = first.rows, trie.device
        self.user = torch.arange(users, device=device)
        self.node = torch.zeros(users, 1, dtype=torch.long, device=device)
        self.score = torch.zeros(users, 1, device=device)
        self.have_read = torch.zeros_like(self.node)
        self.edge_base = torch.zeros_like(self.node)
        self.edge_pool = _Pool(torch.empty(0, device=device))
        children = trie.first_child[0] + torch.arange(int(trie.n_children[0]), device=device)
        tokens = trie.token(children, 0).repeat(users)
        self.child_base = self.user.unsqueeze(1) * len(children)
        self.child_pool = _Pool(first.log_prob(self.user.repeat_interleave(len(children)), tokens))
        self.floor = torch.full((users,), -torch.inf, device=device) if floor is None else floor
        nothing = torch.empty(users, 0, dtype=torch.long, device=device)
        self.found = Beams(nothing, nothing.float(), self.floor.clone())
        self.steps = users

    def extend(self, place: int) -> bool:
        """Add the token at ``place`` to all beams; returns whether any beam goes on."""
        parent, node, score = self._candidates(place)
        ends = self.trie.is_leaf(node) & (self.trie.depth[node] == place + 1)
        title_scores, at, dropped_titles = _best(score.masked_fill(~ends, -torch.inf), self.beam_size)
        self._add_titles(node.gather(1, at), title_scores)
        self.score, at, dropped = _best(
            score.masked_fill(ends | (score < self.floor.unsqueeze(1)), -torch.inf), self.beam_size
        )
        self.found.pruned = torch.maximum(self.found.pruned, torch.maximum(dropped, dropped_titles))
        parent, self.node = parent.gather(1, at), node.gather(1, at)
        self.have_read, self.edge_base, self.child_base = (
            values.gather(1, parent) for values in (self.have_read, self.edge_base, self.child_base)
        )
        self.reader.follow(parent)
        return self.score.shape[1] > 0

    def _candidates(self, place: int) -> list[torch.Tensor]:
        """What can follow each beam: its place among the beams, its node and its score, each ``[users, most]``."""
        trie, beams = self.trie, self.node.shape[1]
        parts = trie.depth[self.node] == place
        count = torch.where(parts, trie.n_children[self.node], 1).masked_fill(self.score == -torch.inf, 0)
        beam, nth = ragged(count.flatten())
        user, node, parts = beam // beams, self.node.flatten()[beam], parts.flatten()[beam]
        log_prob = torch.empty(len(beam), device=trie.device)
        log_prob[parts] = self.child_pool.values[self.child_base.flatten()[beam[parts]] + nth[parts]]
        log_prob[~parts] = self.edge_pool.values[self.edge_base.flatten()[beam[~parts]] + place]
        node = torch.where(parts, trie.first_child[node] + nth, node)
        score = self.score.flatten()[beam] + log_prob
        if self.excluded is not None:
            score = score.masked_fill(contains(self.used_up, user * trie.n_nodes() + node), -torch.inf)
        if self.nobodys is not None:
            score = score.masked_fill(self.nobodys[node], -torch.inf)

        of_user = count.sum(dim=1)
        column = nth_of(user, of_user)
        shape = (len(self.user), int(of_user.max()))
        padded = [torch.zeros(shape, dtype=torch.long, device=trie.device) for _ in range(2)]
        padded.append(torch.full(shape, -torch.inf, device=trie.device))
        for matrix, values in zip(padded, (beam % beams, node, score), strict=True):
            matrix[user, column] = values
        return padded

    def _add_titles(self, node: torch.Tensor, score: torch.Tensor) -> None:
        leaves = torch.cat([self.found.leaves, self.trie.first_leaf[node].masked_fill(score == -torch.inf, -1)], dim=1)
        score, order = torch.cat([self.found.scores, score], dim=1).sort(dim=1, descending=True, stable=True)
        width = min(self.beam_size, int((score > -torch.inf).sum(dim=1).max()))
        leaves = leaves.gather(1, order)[:, :width]
        self.found = Beams(leaves, score[:, :width], self.found.pruned)
        self.floor = torch.maximum(self.floor, kth_score(self.found, self.trie, self.k, self.excluded))

    def read(self, place: int) -> None:
        """Let the language model read on for the beams whose last token it has not read yet."""
        need = (self.have_read < place) & (self.score > -torch.inf)
        most = int(need.sum(dim=1).max())
        if most == 0:
            return
        beam = (~need).to(torch.uint8).argsort(dim=1, stable=True)[:, :most]
        stretch = min(STRETCH, 1 + READ_AHEAD[self.trie.device.type] // int(need.sum()))
        at_once = max(1, TOKENS_AT_ONCE[self.trie.device.type] // (len(need) * stretch))
        for part in beam.split(min(at_once, BEAMS_OF_A_USER_AT_ONCE), dim=1):
            self._read_beams(part, need.gather(1, part), stretch)
        self.edge_pool.join()
        self.child_pool.join()

    def _read_beams(self, beam: torch.Tensor, need: torch.Tensor, stretch: int) -> None:
        trie = self.trie
        node, begin = self.node.gather(1, beam), self.have_read.gather(1, beam)
        depth, is_leaf = trie.depth[node], trie.is_leaf(node)
        end = torch.minimum(depth - is_leaf.long(), begin + stretch)  # after the last token of a title comes nothing
        count = (end - begin).masked_fill(~need, 0)
        self.steps += int(count.sum())
        within = torch.arange(int(count.max()), device=trie.device)
        inside = within < count.unsqueeze(-1)
        tokens = trie.token(node.unsqueeze(-1), (begin.unsqueeze(-1) + within).masked_fill(~inside, 0))
        following = self.reader.read(beam, tokens, begin, count)

        first_row = (count.flatten().cumsum(0) - count.flatten())[need.flatten()]
        node, depth, is_leaf, begin, end = (values[need] for values in (node, depth, is_leaf, begin, end))
        edge_base = self._keep_edge_scores(following, first_row, node, begin, last=torch.minimum(end, depth - 1))
        child_base = self._keep_child_scores(following, first_row + end - begin - 1, node, (end == depth) & ~is_leaf)
        here = (self.user.unsqueeze(1) * self.node.shape[1] + beam)[need]
        for values, new in ((self.have_read, end), (self.edge_base, edge_base), (self.child_base, child_base)):
            values.view(-1)[here] = new

    def _keep_edge_scores(
        self, following: NextTokens, first_row: torch.Tensor, node: torch.Tensor, begin: torch.Tensor, *, last: torch.Tensor
    ) -> torch.Tensor:
        """Log-probabilities of the edges' tokens at the places ``begin + 1`` to ``last``; returns where they are kept."""
        owner, nth = ragged(last - begin)
        tokens = self.trie.token(node[owner], begin[owner] + 1 + nth)
        kept = self.edge_pool.add(following.log_prob(first_row[owner] + nth, tokens))
        return kept + (last - begin).cumsum(0) - (last - begin) - (begin + 1)

    def _keep_child_scores(
        self, following: NextTokens, row: torch.Tensor, node: torch.Tensor, reached: torch.Tensor
    ) -> torch.Tensor:
        """Log-probabilities of the first tokens of the children of nodes that were reached; returns where they are kept."""
        count = self.trie.n_children[node].masked_fill(~reached, 0)
        owner, nth = ragged(count)
        child = self.trie.first_child[node[owner]] + nth
        tokens = self.trie.token(child, self.trie.edge_begin[child])
        kept = self.child_pool.add(following.log_prob(row[owner], tokens))
        return kept + count.cumsum(0) - count


class _Pool:
    """Numbers to which more are added; they can be read when all of them were joined, once for many additions."""

    def __init__(self, values: torch.Tensor) -> None:
        self.values, self._more, self._length = values, [values], len(values)

    def add(self, values: torch.Tensor) -> int:
        """Returns where they will stand."""
        self._more.append(values)
        self._length += len(values)
        return self._length - len(values)

    def join(self) -> None:
        self.values = torch.cat(self._more)
        self._more = [self.values]


def _best(scores: torch.Tensor, width: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The best finite scores ``[users, at most width]``, where they stand, and the best one left out ``[users]``."""
    width = min(width, int((scores > -torch.inf).sum(dim=1).max()))
    best, at = scores.topk(min(width + 1, scores.shape[1]), dim=1)
    dropped = best[:, width] if best.shape[1] > width else torch.full_like(scores[:, 0], -torch.inf)
    return best[:, :width], at[:, :width], dropped
