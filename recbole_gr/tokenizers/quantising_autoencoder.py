"""Encoder, codebooks and decoder as one module with one loss."""

import itertools

from torch import nn

from recbole_gr.tokenizers.gradient_estimators import ESTIMATORS
from recbole_gr.tokenizers.residual_quantiser import squared_length


class QuantisingAutoencoder(nn.Module):
    """What R-VQ and RQ-VAE have in common; R-VQ leaves out the autoencoder.

    Args:
        quantiser (ResidualQuantiser): the codebooks.
        widths (list of int): of the layers from a vector to what is quantised; the decoder mirrors them. One width: the
            vectors themselves are quantised.
        estimator (str): a key of :data:`ESTIMATORS`.
        commitment (float): weight of the commitment loss.
    """

    def __init__(self, quantiser, widths, estimator="straight_through", commitment=0.25):
        super().__init__()
        self.quantiser, self.commitment = quantiser, commitment
        self.estimate = ESTIMATORS[estimator]
        self.has_autoencoder = len(widths) > 1
        self.encoder, self.decoder = perceptron(widths), perceptron(widths[::-1])

    def loss(self, vectors, levels):
        """Squared reconstruction error, codebook loss and weighted commitment loss, per dimension of the vectors.

        Means over the batch. Per dimension, so that Adagrad at TIGER's rate of 0.4 trains; summed over the dimensions, the
        gradients are so large that it diverges; Adam hardly depends on it.

        Args:
            vectors (torch.Tensor): float32 ``[B, d]``.
            levels (range): the levels that learn, see :meth:`ResidualQuantiser.forward`.
        """
        points = self.encoder(vectors)
        quantised, codebook_loss, commitment_loss = self.quantiser(points, levels)
        if not self.has_autoencoder:  # the other losses are those of an encoder
            return codebook_loss / vectors.shape[1]
        error = squared_length(self.decoder(self.estimate(points, quantised)) - vectors).mean()
        return (error + codebook_loss + self.commitment * commitment_loss) / vectors.shape[1]


def perceptron(widths):
    """Linear layers of these widths with ReLU between them; one width is no layer at all."""
    layers = [(nn.Linear(before, after), nn.ReLU()) for before, after in itertools.pairwise(widths)]
    return nn.Sequential(*itertools.chain.from_iterable(layers))[:-1] if layers else nn.Identity()
