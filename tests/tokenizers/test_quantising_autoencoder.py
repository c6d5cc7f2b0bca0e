"""The autoencoder around a residual quantiser: its layers, its loss and its gradient, worked out by hand."""

import numpy as np
import pytest
import torch
from support.points import codebooks_of, gradient_of, normal, plain_loop, quantiser_with_codes

from recbole_gr.tokenizers.quantiser import QuantisingAutoencoder, ResidualQuantiser, rotation_trick, straight_through


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
