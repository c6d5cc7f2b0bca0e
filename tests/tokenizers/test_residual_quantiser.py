"""The residual quantiser's codes, losses, running means and revival of dead codes, against a plain loop in float64."""

import numpy as np
import pytest
import torch
from support.points import codebooks_of, normal, plain_loop, quantiser_with_codes

from recbole_gr.tokenizers.quantiser import ResidualQuantiser


@pytest.mark.parametrize("levels", [range(3), range(1), range(1, 2), range(2, 3)])
def test_forward_equals_a_plain_loop(levels):
    points, quantiser = normal(40, 4), quantiser_with_codes()
    quantised, codebook_loss, commitment_loss = quantiser(torch.from_numpy(points), levels)
    codes, left = plain_loop(points, codebooks_of(quantiser)[: levels.stop])
    np.testing.assert_allclose(quantised, left[0] - left[-1], atol=1e-5)
    expected = sum((left[level + 1] ** 2).sum(axis=1).mean() for level in levels)
    assert codebook_loss.item() == pytest.approx(expected, rel=1e-5)
    assert commitment_loss.item() == pytest.approx(expected, rel=1e-5)
    counted = [np.bincount(codes[:, level], minlength=5) if level in levels else np.zeros(5) for level in range(levels.stop)]
    assert quantiser.taken[: levels.stop].tolist() == np.array(counted).tolist()
    assert not quantiser.taken[levels.stop :].any()


def test_encode_equals_a_plain_loop():
    points, quantiser = normal(200, 4), quantiser_with_codes()
    codes, last_residual = quantiser.encode(torch.from_numpy(points))
    expected, left = plain_loop(points, codebooks_of(quantiser))
    assert codes.tolist() == expected.tolist()
    np.testing.assert_allclose(last_residual, left[2], atol=1e-5)  # before the last code is taken away


@pytest.mark.parametrize("levels", [range(3), range(1, 2)])
def test_only_the_levels_that_learn_get_a_gradient_and_it_is_that_of_the_codebook_loss(levels):
    points, quantiser = normal(40, 4), quantiser_with_codes()
    point_tensor = torch.from_numpy(points).requires_grad_()
    quantised, codebook_loss, _ = quantiser(point_tensor, levels)
    assert not quantised.requires_grad
    codebook_loss.backward()
    assert point_tensor.grad is None  # the codes go to the points, not the points to the codes
    codes, left = plain_loop(points, codebooks_of(quantiser))
    for level, codebook in enumerate(quantiser.codebooks):
        if level not in levels:
            assert codebook.grad is None
            continue
        expected = np.zeros((5, 4))
        for code, residual in zip(codes[:, level], left[level + 1]):
            expected[code] -= 2 * residual / 40
        np.testing.assert_allclose(codebook.grad, expected, atol=1e-5)


def test_the_commitment_draws_the_points_to_their_codes():
    points, quantiser = normal(40, 4), quantiser_with_codes()
    point_tensor = torch.from_numpy(points).requires_grad_()
    quantiser(point_tensor, range(3))[2].backward()
    _, left = plain_loop(points, codebooks_of(quantiser))
    np.testing.assert_allclose(point_tensor.grad, 2 * (left[1] + left[2] + left[3]) / 40, atol=1e-5)
    assert all(codebook.grad is None for codebook in quantiser.codebooks)


def test_one_step_of_the_running_mean():
    points, quantiser = normal(40, 4), quantiser_with_codes(ema_decay=0.9)
    before = codebooks_of(quantiser)
    quantiser(torch.from_numpy(points), range(3))
    codes, left = plain_loop(points, before)
    for level in range(3):
        for code in range(5):
            taken = left[level][codes[:, level] == code]
            weight = 0.9 + 0.1 * len(taken)
            expected = (0.9 * before[level][code] + 0.1 * taken.sum(axis=0)) / weight
            np.testing.assert_allclose(quantiser.codebooks[level][code], expected, atol=1e-5)
            assert quantiser.mean_taken[level, code].item() == pytest.approx(weight, rel=1e-5)


def test_running_means_end_at_the_means_of_their_points():
    points, quantiser = normal(60, 4), quantiser_with_codes(ema_decay=0.8)
    for _ in range(200):
        quantiser(torch.from_numpy(points), range(3))
    codes, left = plain_loop(points, codebooks_of(quantiser))
    for level in range(3):
        for code in np.unique(codes[:, level]):
            mean = left[level][codes[:, level] == code].mean(axis=0)
            np.testing.assert_allclose(quantiser.codebooks[level][code].numpy(), mean, atol=1e-4)


def test_a_running_mean_without_points_stays_where_it_is():
    quantiser = ResidualQuantiser(1, 2, 2, ema_decay=0.5)
    quantiser.place(0, torch.tensor([[0.0, 0.0], [100.0, 7.0]]), torch.tensor([4.0, 4.0]))
    for _ in range(200):  # its weight comes to zero
        quantiser(torch.ones(4, 2), range(1))
    assert quantiser.codebooks[0].tolist() == [[1.0, 1.0], [100.0, 7.0]]


def test_evaluation_changes_nothing():
    quantiser = quantiser_with_codes(ema_decay=0.9).eval()
    before = {name: tensor.clone() for name, tensor in quantiser.state_dict().items()}
    quantiser(torch.from_numpy(normal(40, 4)), range(3))
    assert all((tensor == before[name]).all() for name, tensor in quantiser.state_dict().items())


@pytest.mark.parametrize("levels", [range(3), range(1, 2)])
@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_exactly_the_codes_that_nobody_took_move_onto_what_is_left_of_a_point(levels, ema_decay):
    points, quantiser = torch.from_numpy(normal(12, 4)), quantiser_with_codes(codebook_size=16, ema_decay=ema_decay)
    if ema_decay is None:  # a running mean moves in each pass
        quantiser(points, levels)
    else:
        quantiser.taken[levels.start : levels.stop, :6] = 1
    dead, before = (quantiser.taken == 0).numpy(), codebooks_of(quantiser)
    torch.manual_seed(0)
    revived = quantiser.revive(points, levels)
    after = codebooks_of(quantiser)
    left, n_moved = points.numpy().astype(np.float64), 0
    for level in range(3):
        moved = (after[level] != before[level]).any(axis=1)
        n_moved += moved.sum()
        if level not in levels:
            assert not moved.any()
        else:
            here = np.flatnonzero(dead[level])[: len(points)]  # no more than there are points
            assert np.flatnonzero(moved).tolist() == here.tolist()
            apart = np.linalg.norm(after[level][here][:, None] - left, axis=2)
            assert apart.min(axis=1).max() < 1e-5
            assert (
                len(set(apart.argmin(axis=1))) == len(here) or level > 0
            )  # later levels have points that nothing is left of
        left = plain_loop(left, after[level : level + 1])[1][-1]
    assert revived == n_moved > 0
    assert not quantiser.taken.any()


def test_far_points_get_the_codes_that_are_free():
    """Of 100 points one is far from the only code that is in use."""
    points = 0.01 * torch.from_numpy(normal(100, 4))
    points[37] = 50.0
    quantiser = ResidualQuantiser(1, 2, 4)
    quantiser.taken[0, 0] = 1
    quantiser.codebooks[0].data[1] = 1000.0
    torch.manual_seed(0)
    assert quantiser.revive(points, range(1)) == 1
    assert quantiser.codebooks[0].tolist() == [[0.0] * 4, [50.0] * 4]


def test_a_later_level_is_revived_where_the_moved_codes_of_an_earlier_leave_something():
    """Level 0 has a free code for the one far point, so nothing of it is left for the free code of level 1."""
    points = torch.tensor([[1.0, 0.0]] * 9 + [[0.0, 80.0]])
    quantiser = ResidualQuantiser(2, 2, 2)
    quantiser.taken[:, 0] = 1
    for codebook in quantiser.codebooks:
        codebook.data[1] = 1000.0
    torch.manual_seed(0)
    assert quantiser.revive(points, range(2)) == 2
    assert quantiser.codebooks[0][1].tolist() == [0.0, 80.0]
    assert quantiser.codebooks[1][1].tolist() == [1.0, 0.0]
