"""R-VQ and RQ-VAE, and what they are made of. Referees: numpy in float64, hand computation, torch autograd, scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from recbole_gr.errors import SettingError
from recbole_gr.tokenizer import tokenize
from recbole_gr.tokenizer.diagnostics import reconstruct
from recbole_gr.tokenizer.gradient_estimators import rotation_trick, straight_through
from recbole_gr.tokenizer.quantiser_training import Training, _batches, _place_codes, train
from recbole_gr.tokenizer.quantising_autoencoder import QuantisingAutoencoder
from recbole_gr.tokenizer.residual_quantiser import ResidualQuantiser
from recbole_gr.tokenizer.trained import rqvae, rvq


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def clustered(n=2000, d=16, seed=0):
    """Items around 20 centres, in each of which 10 finer ones lie: something for each of two levels to find."""
    rng = np.random.default_rng(seed)
    coarse, fine = rng.normal(size=(20, d)), 0.3 * rng.normal(size=(10, d))
    rows = coarse[rng.integers(20, size=n)] + fine[rng.integers(10, size=n)] + 0.05 * rng.normal(size=(n, d))
    return rows.astype(np.float32)


def plain_loop(points, codebooks):
    """Codes, and what is left over before each level and after the last, one point at a time in float64."""
    codes, left = [], [points.astype(np.float64)]
    for codebook in codebooks:
        codes.append([int(((codebook - point) ** 2).sum(axis=1).argmin()) for point in left[-1]])
        left.append(left[-1] - codebook[codes[-1]])
    return np.array(codes).T, left


def quantiser_with_codes(codebook_num=3, codebook_size=5, dimension=4, **options):
    made = ResidualQuantiser(codebook_num, codebook_size, dimension, **options)
    for level in range(codebook_num):
        codebook = torch.from_numpy(normal(codebook_size, dimension, seed=10 + level) / (level + 1))
        made.place(level, codebook, torch.ones(codebook_size))
    return made


def codebooks_of(quantiser):
    return [codebook.detach().numpy().astype(np.float64) for codebook in quantiser.codebooks]


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def gradient_of(estimate, points, quantised, direction):
    points = torch.from_numpy(points).requires_grad_()
    value = estimate(points, torch.from_numpy(quantised))
    value.backward(torch.from_numpy(direction))
    return value.detach().numpy(), points.grad.numpy()


# --- gradient estimators


def test_straight_through_has_the_values_of_the_codes_and_the_gradient_of_the_points():
    points, quantised, direction = normal(50, 8), normal(50, 8, seed=1), normal(50, 8, seed=2)
    value, gradient = gradient_of(straight_through, points, quantised, direction)
    np.testing.assert_allclose(value, quantised, atol=1e-6)
    assert (gradient == direction).all()


def test_the_rotation_trick_turns_the_gradient_as_an_explicit_matrix_does():
    points, quantised, direction = normal(50, 8), 2 * normal(50, 8, seed=1), normal(50, 8, seed=2)
    value, gradient = gradient_of(rotation_trick, points, quantised, direction)
    np.testing.assert_allclose(value, quantised, atol=1e-5)
    for row in range(50):
        e, q = points[row].astype(np.float64), quantised[row].astype(np.float64)
        start, end, middle = unit(e), unit(q), unit(unit(e) + unit(q))
        rotation = np.eye(8) - 2 * np.outer(middle, middle) + 2 * np.outer(end, start)
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(8), atol=1e-12)
        np.testing.assert_allclose(rotation @ start, end, atol=1e-12)
        stretch = np.linalg.norm(q) / np.linalg.norm(e)
        np.testing.assert_allclose(gradient[row], stretch * rotation.T @ direction[row], atol=1e-4)


def test_the_rotation_trick_keeps_the_angle_between_gradient_and_point():
    """What the trick is for: the gradient lies to the point as the one that came lies to the code."""
    points, quantised, direction = normal(50, 8), normal(50, 8, seed=1), normal(50, 8, seed=2)
    _, gradient = gradient_of(rotation_trick, points, quantised, direction)
    before, after = (unit(points) * unit(gradient)).sum(axis=1), (unit(quantised) * unit(direction)).sum(axis=1)
    np.testing.assert_allclose(before, after, atol=1e-5)


def test_the_rotation_trick_at_its_limits():
    """Opposite vectors, a point that is its code, a point of zeros, a code of zeros."""
    point = normal(1, 8)[0]
    points = np.stack([point, point, 0 * point, point])
    quantised = np.stack([-3 * point, point, point, 0 * point])
    value, gradient = gradient_of(rotation_trick, points, quantised, np.ones_like(points))
    np.testing.assert_allclose(value, quantised, atol=1e-5)
    assert np.isfinite(gradient).all()
    half_turn = np.eye(8) - 2 * np.outer(unit(point), unit(point))  # maps the point's direction to its opposite
    np.testing.assert_allclose(gradient[0], 3 * half_turn @ np.ones(8), atol=1e-3)
    np.testing.assert_allclose(gradient[1], 1, atol=1e-5)
    assert (gradient[3] == 0).all()


def test_the_gradient_keeps_its_length_where_vectors_are_nearly_opposite():
    points = normal(50, 8)
    quantised = -points + 1e-5 * normal(50, 8, seed=1)
    value, gradient = gradient_of(rotation_trick, points, quantised, np.ones_like(points))
    np.testing.assert_allclose(value, quantised, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(gradient, axis=1), np.sqrt(8), rtol=1e-3)


# --- residual quantiser


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
            assert len(set(apart.argmin(axis=1))) == len(here) or level > 0  # later levels have points that nothing is left of
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


# --- autoencoder


def test_encoder_and_decoder_mirror_each_other():
    model = QuantisingAutoencoder(ResidualQuantiser(1, 2, 3), [10, 7, 5, 3])
    for layers, widths in ((model.encoder, [(10, 7), (7, 5), (5, 3)]), (model.decoder, [(3, 5), (5, 7), (7, 10)])):
        names = [type(layer).__name__ for layer in layers]
        assert names == ["Linear", "ReLU", "Linear", "ReLU", "Linear"]
        assert [(layer.in_features, layer.out_features) for layer in layers[::2]] == widths


def by_hand(layers, rows):
    for number, layer in enumerate(layers):
        weight, bias = (part.detach().numpy().astype(np.float64) for part in (layer.weight, layer.bias))
        rows = rows @ weight.T + bias
        rows = np.maximum(rows, 0) if number + 1 < len(layers) else rows
    return rows


@pytest.mark.parametrize("levels", [range(3), range(1, 2)])
@pytest.mark.parametrize("estimator", ["straight_through", "rotation"])
def test_the_loss_by_hand(estimator, levels):
    torch.manual_seed(0)
    model = QuantisingAutoencoder(quantiser_with_codes(), [6, 5, 4], estimator, commitment=0.4)
    vectors = normal(30, 6)
    points = by_hand(model.encoder[::2], vectors.astype(np.float64))
    _, left = plain_loop(points, codebooks_of(model.quantiser)[: levels.stop])
    decoded = by_hand(model.decoder[::2], left[0] - left[-1])
    expected = ((decoded - vectors) ** 2).sum(axis=1).mean()
    expected += 1.4 * sum((left[level + 1] ** 2).sum(axis=1).mean() for level in levels)
    assert model.loss(torch.from_numpy(vectors), levels).item() == pytest.approx(expected / 6, rel=1e-5)


@pytest.mark.parametrize("estimator", ["straight_through", "rotation"])
def test_the_encoder_learns_by_the_estimator_and_the_commitment_alone(estimator):
    """Its gradient is put together by hand from that of the decoder's input, and compared with autograd's."""
    torch.manual_seed(0)
    model = QuantisingAutoencoder(quantiser_with_codes(), [6, 4], estimator, commitment=0.4)
    vectors = torch.from_numpy(normal(30, 6))
    model.loss(vectors, range(3)).backward()

    points = model.encoder(vectors).detach().numpy()
    _, left = plain_loop(points, codebooks_of(model.quantiser))
    quantised = torch.from_numpy((left[0] - left[3]).astype(np.float32)).requires_grad_()
    (model.decoder(quantised) - vectors).square().mean().backward()
    estimate = {"straight_through": straight_through, "rotation": rotation_trick}[estimator]
    _, arriving = gradient_of(estimate, points, quantised.detach().numpy(), quantised.grad.numpy())
    arriving = arriving + 0.4 * 2 * (left[1] + left[2] + left[3]) / (30 * 6)
    np.testing.assert_allclose(model.encoder[0].weight.grad, arriving.T @ vectors.numpy(), atol=1e-4)
    np.testing.assert_allclose(model.encoder[0].bias.grad, arriving.sum(axis=0), atol=1e-4)


def test_without_an_autoencoder_the_loss_is_that_of_the_codebooks():
    model = QuantisingAutoencoder(quantiser_with_codes(), [4], commitment=100.0)
    vectors = torch.from_numpy(normal(30, 4))
    assert model.loss(vectors, range(3)).item() == pytest.approx(model.quantiser(vectors, range(3))[1].item() / 4, rel=1e-6)
    assert len(list(model.parameters())) == 3  # the codebooks, nothing else


# --- training


def how(**changes):
    settings = {"steps": 30, "batch_size": 64, "learner": "adam", "learning_rate": 0.01, "order": "joint", "dead_code_steps": 10}
    return Training(**{**settings, **changes})


def model_for(dimension, ema_decay=None, widths=None):
    torch.manual_seed(0)
    widths = widths or [dimension]
    return QuantisingAutoencoder(ResidualQuantiser(3, 8, widths[-1], ema_decay), widths)


@pytest.mark.parametrize("ema_decay", [None, 0.9])
@pytest.mark.parametrize("widths", [[16], [16, 12, 6]])
def test_layerwise_training_leaves_the_levels_before_as_they_are(widths, ema_decay):
    """Training is repeated with the steps of the first stages only; codebooks of finished stages are the same to the bit."""
    vectors, after = torch.from_numpy(clustered(400)), []
    for stages in (1, 2, 3):
        model, training = model_for(16, ema_decay, widths), how(order="layerwise", steps=10 * stages)
        model.quantiser.codebooks = model.quantiser.codebooks[:stages]
        train(model, vectors, training, 0, False)
        after.append([codebook.detach().clone() for codebook in model.quantiser.codebooks])
    for earlier, later in zip(after, after[1:]):
        assert all(torch.equal(a, b) for a, b in zip(earlier, later))
    placed = model_for(16, ema_decay, widths)
    _place_codes(placed, vectors, range(1), 64, 0)
    assert not torch.equal(placed.quantiser.codebooks[0], after[0][0])  # the first stage did train its own


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_joint_training_trains_every_level(ema_decay):
    vectors = torch.from_numpy(clustered(400))
    placed, model = model_for(16, ema_decay), model_for(16, ema_decay)
    _place_codes(placed, vectors, range(3), 64, 0)
    train(model, vectors, how(), 0, False)
    for before, after in zip(placed.quantiser.codebooks, model.quantiser.codebooks):
        assert not torch.equal(before, after)


def test_codes_are_placed_at_clusters_of_what_the_levels_before_leave_over():
    vectors, model = normal(400, 16), model_for(16, 0.9)
    _place_codes(model, torch.from_numpy(vectors), range(3), 64, 0)
    codes, left = plain_loop(vectors, codebooks_of(model.quantiser))
    for level in range(3):
        inertia = KMeans(8, n_init=3, random_state=0).fit(left[level]).inertia_
        assert (left[level + 1] ** 2).sum() < 1.1 * inertia
        assert model.quantiser.mean_taken[level].sum().item() == pytest.approx(64, rel=1e-5)
        share = np.bincount(codes[:, level], minlength=8) / 400
        np.testing.assert_allclose(model.quantiser.mean_taken[level], 64 * share, atol=64 * 0.02)


@pytest.mark.parametrize("learner", ["adam", "adagrad"])
@pytest.mark.parametrize("order", ["joint", "layerwise"])
def test_the_loss_falls(learner, order):
    rate = {"adam": 0.003, "adagrad": 0.3}[learner]
    model = model_for(16, widths=[16, 32, 8])
    report = train(model, torch.from_numpy(clustered(400)), how(learner=learner, learning_rate=rate, order=order, steps=300), 0, False)
    assert report["steps"] == 300 and len(report["loss"]) == 20
    assert report["loss"][-1] < 0.6 * report["loss"][0]


def test_the_losses_told_are_means_over_shares_of_the_steps():
    """With a rate of next to nothing the model stays, and its losses on the batches can be told beforehand."""
    vectors, model, placed = torch.from_numpy(clustered(100)), model_for(16), model_for(16)
    report = train(model, vectors, how(steps=40, batch_size=30, learning_rate=1e-20, dead_code_steps=0), 0, False)
    _place_codes(placed, vectors, range(3), 30, 0)
    losses = [placed.loss(vectors[rows], range(3)).item() for rows in _batches(100, 30, 40, 0)]
    np.testing.assert_allclose(report["loss"], np.reshape(losses, (20, 2)).mean(axis=1), rtol=2e-5)
    assert report["revived_codes"] == 0


@pytest.mark.parametrize("dead_code_steps", [0, 1, 2])
@pytest.mark.parametrize("order", ["joint", "layerwise"])
@pytest.mark.parametrize("learner", ["adam", "adagrad"])
@pytest.mark.parametrize("quantise", [rvq, rqvae])
def test_a_training_that_diverges_is_one_line(quantise, learner, order, dead_code_steps):
    settings = {"tokenizer_learner": learner, "tokenizer_training": order, "dead_code_steps": dead_code_steps}
    with pytest.raises(SettingError) as raised:
        quantise(normal(200, 8), 2, 8, tokenizer_steps=6, tokenizer_batch_size=32, tokenizer_learning_rate=1e30, **settings)
    assert raised.value.key == "tokenizer_learning_rate" and raised.value.value == 1e30
    assert "tokenizer_learning_rate=1e+30: the training diverged within" in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_training_that_diverges_where_anomalies_are_detected():
    with torch.autograd.set_detect_anomaly(True), pytest.raises(SettingError, match="the training diverged within"):
        rqvae(normal(200, 8), 2, 8, tokenizer_steps=6, tokenizer_batch_size=32, tokenizer_learning_rate=1e30)


def test_a_training_that_diverges_at_its_last_step():
    with pytest.raises(SettingError, match="diverged within 1 steps"):
        rvq(normal(200, 8), 2, 8, tokenizer_steps=1, tokenizer_learning_rate=1e30)


@pytest.mark.parametrize("n, batch_size", [(10, 3), (10, 10), (10, 7), (7, 1), (100, 33)])
def test_every_item_comes_once_before_any_comes_again(n, batch_size):
    batches = list(_batches(n, batch_size, 50, seed=0))
    assert [len(rows) for rows in batches] == [batch_size] * 50
    order = torch.cat(batches)
    for start in range(0, len(order) - n + 1, n):
        assert sorted(order[start : start + n].tolist()) == list(range(n))
    assert torch.equal(order, torch.cat(list(_batches(n, batch_size, 50, seed=0))))
    assert not torch.equal(order, torch.cat(list(_batches(n, batch_size, 50, seed=1)))) or n == 1


def test_a_batch_larger_than_the_catalogue_is_the_catalogue():
    assert [sorted(rows.tolist()) for rows in _batches(5, 100, 3, seed=0)] == [[0, 1, 2, 3, 4]] * 3


@pytest.mark.parametrize("quantise", [rvq, rqvae])
@pytest.mark.parametrize("update", ["loss", "ema"])
def test_the_seed_decides_whatever_was_drawn_before_and_nothing_is_drawn_from_the_outside(quantise, update):
    vectors, made = clustered(300), []
    untouched = vectors.copy()
    for before in (1, 2):
        torch.manual_seed(before)
        np.random.seed(before)
        state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
        settings = {"codebook_update": update, "tokenizer_steps": 25, "tokenizer_batch_size": 32, "dead_code_steps": 5}
        made.append(quantise(vectors, 2, 32, seed=5, **settings))
        assert torch.equal(torch.get_rng_state(), state) and (np.random.get_state()[1] == numpy_state).all()
    first, again = made
    assert (first.codes == again.codes).all() and first.training["loss"] == again.training["loss"]
    assert all((a == b).all() for a, b in zip(first.codebooks, again.codebooks))
    assert (vectors == untouched).all()


# --- rvq and rqvae


@pytest.mark.parametrize("order", ["joint", "layerwise"])
@pytest.mark.parametrize("update", ["loss", "ema"])
def test_rvq_is_about_as_good_as_kmeans_level_by_level(update, order):
    vectors = clustered()
    settings = {"codebook_update": update, "tokenizer_training": order, "tokenizer_steps": 400, "tokenizer_batch_size": 512}
    made = rvq(vectors, 2, 32, seed=0, **settings)
    rows = vectors / np.sqrt((vectors.astype(np.float64) ** 2).sum(axis=1).mean())
    codes, left = plain_loop(rows, made.codebooks)
    assert (made.codes == codes).mean() > 0.999 and made.codes.dtype == np.int32
    np.testing.assert_allclose(made.last_residual, left[1], atol=1e-3)
    errors = np.mean([kmeans_errors(rows, random_state) for random_state in range(4)], axis=0)
    assert (left[1] ** 2).sum() < 1.05 * errors[0] and (left[2] ** 2).sum() < 1.1 * errors[1]


def kmeans_errors(residual, random_state):
    """The error after each of two levels of scikit-learn's k-means from one start."""
    errors = []
    for _ in range(2):
        fitted = KMeans(32, n_init=1, random_state=random_state).fit(residual)
        residual = residual - fitted.cluster_centers_[fitted.labels_]
        errors.append((residual**2).sum())
    return errors


def test_vectors_of_any_scale_give_the_same_codes():
    vectors = clustered(500)
    small, large = (rvq(scale * vectors, 2, 16, seed=0, tokenizer_steps=50) for scale in (2.0**-10, 2.0**10))
    assert (small.codes == large.codes).all()


def rqvae_of_clusters(order, update, gradient):
    settings = {"tokenizer_steps": 600, "tokenizer_batch_size": 256, "rqvae_hidden": (64, 32), "rqvae_latent": 8}
    settings.update(tokenizer_training=order, codebook_update=update, quantiser_gradient=gradient, dead_code_steps=50)
    return rqvae(clustered(), 3, 32, seed=0, **settings)


def codes_used(made):
    return [len(np.unique(level)) for level in made.codes.T]


@pytest.mark.parametrize("update", ["loss", "ema"])
@pytest.mark.parametrize("gradient", ["straight_through", "rotation"])
def test_rqvae_uses_its_codes_and_they_tell_the_clusters(gradient, update):
    vectors, made = clustered(), rqvae_of_clusters("joint", update, gradient)
    assert min(codes_used(made)) >= 0.95 * 32
    variance = ((vectors - vectors.mean(axis=0)) ** 2).sum()
    best = KMeans(32, n_init=1, random_state=0).fit(vectors).inertia_ / variance
    errors, _ = reconstruct(made.codes, vectors)
    assert errors[0] < best + 0.15 and errors[2] < errors[1] < errors[0]
    assert made.training["loss"][-1] < 0.5 * made.training["loss"][0]


@pytest.mark.parametrize("update", ["loss", "ema"])
@pytest.mark.parametrize("gradient", ["straight_through", "rotation"])
def test_layer_by_layer_the_level_that_was_trained_last_uses_its_codes(gradient, update):
    """Those before it are frozen while the encoder goes on, and so may lose some."""
    assert codes_used(rqvae_of_clusters("layerwise", update, gradient))[-1] >= 0.95 * 32


def test_revival_saves_a_codebook_that_collapses_without_it(caplog):
    """A rate so high that codes fly apart; without revival most never get a point again."""
    rows = np.concatenate([np.zeros((1, 16), np.float32), clustered(600)])
    settings = {
        "tokenizer": "rqvae", "codebook_num": 2, "codebook_size": 64, "collision": "none", "seed": 0, "tokenizer_steps": 200,
        "tokenizer_batch_size": 128, "tokenizer_learning_rate": 0.2, "rqvae_hidden": [32], "rqvae_latent": 8,
    }
    collapsed = tokenize(rows, dead_code_steps=0, **settings)
    used = collapsed.statistics()["codes_used"]
    assert 0 in collapsed.source["collapsed_levels"] and used[0] < 0.8 * 64
    assert f"tokenizer=rqvae: level 0 uses {used[0]} of its 64 codes" in caplog.text
    assert collapsed.source["training"]["revived_codes"] == 0
    revived = tokenize(rows, dead_code_steps=10, **settings)
    assert revived.source["training"]["revived_codes"] > 0
    assert min(revived.statistics()["codes_used"]) > max(used)


@pytest.mark.parametrize("name, settings", [("rqvae", {}), ("rqvae", {"codebook_update": "ema"}), ("rvq", {})])
def test_several_threads_give_the_same_codes_every_time(name, settings):
    """Gradients of codes that many items of a batch take are sums, which threads must not add up in any order."""
    torch.set_num_threads(2)
    rows = np.random.default_rng(0).normal(size=(4000, 32)).astype(np.float32)
    shape = {"codebook_num": 3, "codebook_size": 16, "tokenizer_steps": 40, "tokenizer_batch_size": 2000, "collision": "none"}
    first, *others = (tokenize(rows, tokenizer=name, **shape, **settings).codes for _ in range(4))
    assert all((other == first).all() for other in others)
