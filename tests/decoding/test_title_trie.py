"""The reference is the list of titles itself."""

import numpy as np
import pytest
import torch

from recbole_gr.decoding.title_trie import TitleTrie

END = 0


def trie_of(titles):
    """The trie of titles (sequences of tokens); that of item i is ``titles[i - 1]``."""
    lengths = [0] + [len(title) for title in titles]  # item 0 is the padding
    return TitleTrie(np.concatenate([np.array(title) for title in titles]), np.append(0, np.cumsum(lengths)))


def random_titles(seed, n_items=300, vocabulary=5, longest=8):
    """Few words, so that titles share beginnings and many items share a title."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest, n_items)
    return [(*rng.integers(1, vocabulary, length).tolist(), END) for length in lengths]


def node_tokens(trie, node):
    """The tokens of the edge into a node."""
    places = torch.arange(int(trie.edge_begin[node]), int(trie.depth[node]))
    return tuple(trie.token(torch.tensor(node), places).tolist())


def children_of(trie, node):
    first = int(trie.first_child[node])
    return range(first, first + int(trie.n_children[node]))


def prefixes(trie, node=0, before=()):
    """The tokens from the root to every node, by node."""
    found = {node: before}
    for child in children_of(trie, node):
        found.update(prefixes(trie, child, before + node_tokens(trie, child)))
    return found


def leaves_behind(trie, node):
    return range(int(trie.first_leaf[node]), int(trie.last_leaf[node]))


def leaf_items(trie, leaf):
    return trie.items[trie.first_item[leaf] : trie.first_item[leaf + 1]].tolist()


def check(titles):
    """Compare all that a trie holds with the titles; returns the trie."""
    trie = trie_of(titles)
    distinct = sorted(set(titles))
    assert trie.n_nodes(-1) == len(distinct)
    for leaf, title in enumerate(distinct):
        items = [item for item, other in enumerate(titles, start=1) if other == title]
        assert leaf_items(trie, leaf) == items
        assert trie.leaf_of_item[items].tolist() == [leaf] * len(items)
        assert int(trie.items_of(torch.tensor(leaf))) == len(items)
    assert trie.leaf_of_item[0] == -1
    path = prefixes(trie)
    assert sorted(path) == list(range(trie.n_nodes()))
    for node, tokens in path.items():
        assert len(tokens) == int(trie.depth[node])
        assert [distinct[leaf] for leaf in leaves_behind(trie, node)] == [
            title for title in distinct if title[: len(tokens)] == tokens
        ]
        assert bool(trie.is_leaf(torch.tensor(node))) == (tokens in distinct)
        assert node == 0 or len(children_of(trie, node)) != 1
    return trie


@pytest.mark.parametrize("seed, vocabulary, longest", [(0, 5, 8), (1, 3, 12), (2, 40, 5), (3, 2, 60)])
def test_paths_are_the_titles_and_leaves_have_their_items(seed, vocabulary, longest):
    titles = random_titles(seed, vocabulary=vocabulary, longest=longest)
    trie = check(titles)
    assert trie.n_nodes(-1) < len(titles)  # some items share a title
    assert trie.n_nodes() < 2 * trie.n_nodes(-1) + 1  # as many nodes as a tree without stretches can have


def test_a_trie_by_hand():
    trie = check([(7, 8, 9, END), (7, 8, 5, END), (3, END), (7, 8, 9, END)])
    # leaves in the order of their tokens: 3; 7 8 5; 7 8 9. Nodes: root; "3 END", "7 8"; "5 END", "9 END"
    assert [node_tokens(trie, node) for node in range(trie.n_nodes())] == [(), (3, END), (7, 8), (5, END), (9, END)]
    assert trie.n_children.tolist() == [2, 0, 2, 0, 0]
    assert trie.items.tolist() == [3, 2, 1, 4]
    assert trie.leaf_of_item.tolist() == [-1, 2, 1, 0, 2]
    assert trie.items_of(torch.tensor([[0, -1], [2, 1]])).tolist() == [[1, 0], [2, 1]]


def test_a_token_that_begins_like_another_is_another():
    """Titles sort by tokens, not by the bytes or digits of tokens."""
    trie = check([(256, END), (1, END), (1 << 24, END), (2, END), (65536, 1, END)])
    assert trie.leaf_of_item.tolist() == [-1, 2, 0, 4, 1, 3]


def test_one_item():
    trie = check([(4, 4, 6, END)])
    assert trie.n_nodes() == 2 and node_tokens(trie, 1) == (4, 4, 6, END)


def test_all_items_with_one_title():
    assert check([(4, 6, END)] * 3).items.tolist() == [1, 2, 3]


def test_all_titles_begin_alike():
    """The root stays a node, although all go on in the same way."""
    trie = check([(9, 9, 9, word, END) for word in (5, 2, 7)])
    assert trie.n_children[0] == 1 and node_tokens(trie, 1) == (9, 9, 9)


def test_titles_of_one_token():
    trie = check([(5,), (3,), (5,), (8,)])
    assert trie.n_children.tolist() == [3, 0, 0, 0]


def test_titles_equally_long_need_no_end():
    check([(1, 2, 3), (1, 2, 2), (3, 2, 1), (3, 1, 2)])


@pytest.mark.parametrize("titles", [[(1, 2), (1, 2, 3)], [(1,), (2, 2), (2, 2), (2, 2, 1)], [(5, 5, 5, 5, 5), (5, 5)]])
def test_a_title_that_begins_another_is_an_error(titles):
    with pytest.raises(ValueError, match="begins another"):
        trie_of(titles)


@pytest.mark.parametrize("item", [1, 2, 4])
def test_an_item_without_tokens_is_an_error(item):
    titles = [(1, END), (2, END), (1, 2, END), (3, END)]
    titles[item - 1] = ()
    with pytest.raises(ValueError, match=f"item {item} has no tokens"):
        trie_of(titles)


@pytest.mark.parametrize("some_allowed", [False, True])
@pytest.mark.parametrize("seed", range(2))
def test_a_node_is_used_up_if_the_user_has_seen_all_behind_it(seed, some_allowed):
    titles = random_titles(seed, n_items=120, vocabulary=4, longest=5)
    trie = trie_of(titles)
    users, per_user = 4, (0, 10, 100, 400)
    rows = torch.arange(users).repeat_interleave(torch.tensor(per_user))
    items = torch.as_tensor(np.random.default_rng(seed).integers(1, len(titles) + 1, len(rows)))
    allowed = torch.rand(len(titles) + 1) < 0.5 if some_allowed else torch.ones(len(titles) + 1, dtype=torch.bool)
    excluded = trie.exclusion(users, (rows, items), allowed if some_allowed else None)
    every_leaf = torch.arange(trie.n_nodes(-1)).expand(users, -1)
    behind_leaves, used_up = excluded.left_in(trie.first_item, every_leaf), set(trie.used_up(excluded).tolist())
    nobodys = trie.nobodys(excluded)
    path, distinct = prefixes(trie), sorted(set(titles))
    for user in range(users):
        gone = set(items[rows == user].tolist())
        left = [title for item, title in enumerate(titles, start=1) if item not in gone and allowed[item]]
        assert behind_leaves[user].tolist() == [left.count(title) for title in distinct]
        expected = [sum(title[: len(path[node])] == path[node] for title in left) for node in range(trie.n_nodes())]
        for node, count in enumerate(expected):
            nothing = user * trie.n_nodes() + node in used_up or (nobodys is not None and bool(nobodys[node]))
            assert nothing == (count == 0)
    assert (behind_leaves[3] == 0).any() and (some_allowed or (behind_leaves[0] > 0).all())


def test_memory_is_that_of_the_tokens_and_a_few_numbers_per_item():
    titles = random_titles(0, 1000, vocabulary=1000, longest=60)
    tokens, items = sum(map(len, titles)), len(titles)
    # per item at most: its own place, its place among them, two nodes of seven numbers, start and length of its title, where its leaf begins, its node
    assert 8 * tokens < trie_of(titles).nbytes() < 8 * (tokens + 21 * items)
