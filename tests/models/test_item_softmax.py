"""Cross-entropy over the items; torch's, of the whole logits, is the reference."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from recbole_gr.models import item_softmax
from recbole_gr.models.item_softmax import full_softmax_loss, sampled_softmax_loss
from recbole_gr.utils.devices import PerDevice


def example(n=23, n_items=41, width=6):
    """States, embeddings, and targets of which some are 0."""
    torch.manual_seed(0)
    states = torch.randn(n, width, requires_grad=True)
    embeddings = torch.randn(n_items, width, requires_grad=True)
    targets = torch.randint(0, n_items, (n,))
    targets[::5] = 0
    return states, embeddings, targets


def with_gradients(loss, *of):
    return [loss.detach(), *torch.autograd.grad(3 * loss, of)]  # whatever it is multiplied by reaches the gradients


@pytest.mark.parametrize("rows", [1, 4, 23, 1000])
def test_full_softmax_is_torchs(rows, monkeypatch):
    monkeypatch.setattr(item_softmax, "LOGITS_AT_ONCE", PerDevice(cpu=1, cuda=1))
    monkeypatch.setattr(item_softmax, "FEWEST_ROWS", rows)
    states, embeddings, targets = example()
    found = with_gradients(full_softmax_loss(states, embeddings, targets), states, embeddings)
    expected = with_gradients(F.cross_entropy(states @ embeddings[1:].T, targets - 1, ignore_index=-1), states, embeddings)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)
    assert not found[2][0].any() and not found[1][::5].any()


def test_logits_of_any_size_are_finite():
    states, embeddings, targets = example()
    found = with_gradients(full_softmax_loss(states * 1e4, embeddings, targets), states, embeddings)
    assert all(torch.isfinite(part).all() for part in found)


def test_without_a_target_it_is_zero():
    states, embeddings, targets = example()
    found = with_gradients(full_softmax_loss(states, embeddings, targets * 0), states, embeddings)
    assert not any(part.any() for part in found)


def test_under_autocast_products_are_in_bfloat16_and_the_rest_is_not():
    states, embeddings, targets = example(n=200)
    expected = with_gradients(full_softmax_loss(states, embeddings, targets), states, embeddings)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = with_gradients(full_softmax_loss(states, embeddings, targets), states, embeddings)
    assert all(part.dtype == torch.float32 for part in found)
    assert not torch.equal(found[0], expected[0]) and found[0] == pytest.approx(expected[0].item(), rel=1e-2)
    for one, other in zip(found[1:], expected[1:]):
        assert (one - other).norm() < 0.02 * other.norm()


def test_a_sample_of_all_items_is_the_full_softmax():
    states, embeddings, targets = example()
    found = with_gradients(sampled_softmax_loss(states, embeddings, targets, 40), states, embeddings)
    expected = with_gradients(full_softmax_loss(states, embeddings, targets), states, embeddings)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("n_negatives", [1, 7])
def test_sampled_softmax_by_hand(n_negatives):
    states, embeddings, targets = example()
    torch.manual_seed(4)
    loss = sampled_softmax_loss(states, embeddings, targets, n_negatives).item()
    torch.manual_seed(4)
    drawn = (1 + torch.randperm(40)[:n_negatives]).tolist()
    scores = (states @ embeddings.T).detach().double().numpy()
    losses = []
    for row, target in enumerate(targets.tolist()):
        if target:
            others = [scores[row, item] for item in drawn if item != target]
            mass = 39 / len(others) * np.exp(others).sum() if others else 0.0
            losses.append(np.log(np.exp(scores[row, target]) + mass) - scores[row, target])
    assert loss == pytest.approx(np.mean(losses), rel=1e-5)


def test_sampled_mass_is_right_in_the_mean():
    """The mean over many draws of what the others weigh is what all others weigh."""
    states, embeddings, targets = example(n=3, n_items=9)
    targets[:] = torch.tensor([2, 5, 8])
    with torch.no_grad():
        scores = (states @ embeddings.T).double()
        own = scores.gather(1, targets[:, None])
        full = scores[:, 1:].exp().sum(1) - own.squeeze(1).exp()
        draws = []
        for _ in range(4000):
            loss = sampled_softmax_loss(states[:1], embeddings, targets[:1], 4).double()
            draws.append((loss.exp() - 1) * own[0, 0].exp())
    assert torch.stack(draws).mean().item() == pytest.approx(full[0].item(), rel=0.03)
