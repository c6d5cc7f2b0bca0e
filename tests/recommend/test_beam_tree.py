"""The tree that is drawn of a search is that search: its prefixes, their exact log-probabilities, and what was pruned."""

import torch

from recbole_gr.decoding.beam_search import beam_search
from recbole_gr.recommend.beam_tree import PRUNED_SHOWN, draw_beams


def paths(prefix, before=()):
    """Every complete prefix below one as its codes, with the node."""
    here = (*before, prefix.code) if prefix.code is not None else before
    if not prefix.children:
        yield here, prefix
    for child in prefix.children:
        yield from paths(child, here)


def test_the_tree_holds_the_beams_and_the_best_that_were_pruned(trained):
    _, recommender = trained("TIGER")
    model, one = recommender.model, torch.tensor([5])
    asked = recommender.asked(history="valid")
    excluded = asked.histories.rows_and_items(one, recommender.item_list)
    interaction = recommender.batch_of(one, asked)
    drawing = draw_beams(model, interaction, excluded, beams=6)
    root, depth = drawing.prefixes[0], model.trie.n_levels

    with torch.no_grad():
        decoder = model.start_decoding(interaction, torch.zeros(1, dtype=torch.long))
        beams = beam_search(decoder, model.trie, 6, excluded=model.trie.exclusion(1, excluded))
    found = [(codes, prefix) for codes, prefix in paths(root) if len(codes) == depth and prefix.kept]
    found.sort(key=lambda pair: -pair[1].log_probability)
    torch.testing.assert_close(torch.tensor([prefix.log_probability for _, prefix in found]), beams.scores[0])
    for codes, prefix in found:
        assert tuple(model.item_codes[prefix.item].tolist()) == codes and prefix.item not in excluded[1].tolist()
        with torch.no_grad():
            exact = model.log_likelihood(interaction, torch.tensor([0]), torch.tensor([[prefix.item]]))
        assert abs(float(exact) - prefix.log_probability) < 1e-4
    assert recommender.lists(one, asked).items[0, 0] == found[0][1].item

    level = [root]
    for _ in range(depth):
        level = [child for prefix in level for child in prefix.children]
        kept = [prefix.log_probability for prefix in level if prefix.kept]
        pruned = [prefix.log_probability for prefix in level if not prefix.kept]
        assert len(kept) <= 6 and len(pruned) <= PRUNED_SHOWN and max(pruned, default=-99) <= min(kept)
        assert all(not prefix.children for prefix in level if not prefix.kept)
    for parent, child in drawing.lines:
        assert child.log_probability <= parent.log_probability and child.x > parent.x
    places = [(prefix.x, prefix.y) for prefix in drawing.prefixes]
    assert len(set(places)) == len(places) and all(0 < x < drawing.width and 0 < y < drawing.height for x, y in places)


def test_candidates_are_all_that_the_tree_leads_to(trained):
    _, recommender = trained("TIGER")
    asked = recommender.asked(candidates=["i3", "i8"], exclude_seen=False)
    drawing = draw_beams(recommender.model, recommender.batch_of(torch.tensor([1]), asked), allowed=asked.allowed)
    named = {prefix.item for prefix in drawing.prefixes if prefix.item}
    assert {recommender.catalogue.tokens[item] for item in named} == {"i3", "i8"}
