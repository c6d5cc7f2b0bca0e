import numpy as np
import pytest
import torch

from recbole_gr.decoding.trie import Trie


def random_codes(seed, n_items, sizes):
    rng = np.random.default_rng(seed)
    codes = np.stack([rng.integers(0, size, n_items) for size in sizes], axis=1)
    return np.concatenate([np.full((1, len(sizes)), -1), codes])


def children_of(codes, prefix):
    """Reference: the codes that follow a prefix, from the list of items."""
    length = len(prefix)
    return sorted({int(row[length]) for row in codes[1:] if tuple(row[:length]) == tuple(prefix)})


# the first two give dense tables on top and CSR below, the third is all CSR, the last all dense
@pytest.mark.parametrize("sizes", [(8, 8, 8), (4, 16, 3, 2), (2000, 2000), (2, 2, 2)])
def test_children_are_those_of_the_items(sizes):
    codes = random_codes(0, 200, sizes)
    trie = Trie(codes, sizes)
    level_nodes = {(): 0}
    for level in range(len(sizes)):
        prefixes, nodes = list(level_nodes), torch.tensor(list(level_nodes.values()))
        child, code = trie.children(level, nodes)
        every = trie.all_children(level, nodes)
        next_nodes = {}
        for row, prefix in enumerate(prefixes):
            found = {}
            for position in range(child.shape[1]):
                if child[row, position] >= 0:
                    found[position if code is None else int(code[row, position])] = int(child[row, position])
            assert sorted(found) == children_of(codes, prefix)
            assert {c: int(n) for c, n in enumerate(every[row]) if n >= 0} == found
            next_nodes.update({(*prefix, c): node for c, node in found.items()})
        level_nodes = next_nodes
        assert trie.n_nodes(level + 1) == len(next_nodes)
    for prefix, leaf in level_nodes.items():
        items = trie.items[trie.first_item[leaf] : trie.first_item[leaf + 1]].tolist()
        assert items == [item for item in range(1, len(codes)) if tuple(codes[item]) == prefix]
        assert int(trie.items_of(torch.tensor([leaf]))) == len(items)


def test_dense_and_csr_are_both_used():
    trie = Trie(random_codes(0, 200, (8, 8, 64)), (8, 8, 64))
    assert trie.dense[0] is not None and trie.dense[2] is None


def test_items_below_a_node_are_neighbours():
    codes = random_codes(1, 300, (5, 5, 5))
    trie = Trie(codes, (5, 5, 5))
    for depth in range(4):
        first = trie.first_item_below[depth].tolist()
        assert first[-1] == 300
        for begin, end in zip(first, first[1:]):
            prefixes = {tuple(codes[item][:depth]) for item in trie.items[begin:end].tolist()}
            assert len(prefixes) == 1


def test_no_node_has_no_children():
    trie = Trie(random_codes(2, 50, (4, 4)), (4, 4))
    child, _ = trie.children(1, torch.tensor([-1]))
    assert (child == -1).all()
    assert (trie.all_children(1, torch.tensor([[-1, -1]])) == -1).all()
    assert int(trie.items_of(torch.tensor([-1]))) == 0


def test_memory_grows_with_items_not_with_codes():
    sizes = (256, 256, 256)
    tries = [Trie(random_codes(3, n_items, sizes), sizes) for n_items in (20_000, 40_000)]
    dense = [sum(table.numel() * 8 for table in trie.dense if table is not None) for trie in tries]
    assert max(dense) <= 8 * (256 + 256 * 256)
    rest = [trie.nbytes() - table for trie, table in zip(tries, dense)]
    assert rest[0] < rest[1] < 2 * rest[0]
    assert rest[1] < 40_000 * 8 * 10
