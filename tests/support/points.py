"""Points, quantisers with codes among them, and a reference that quantises by a plain loop."""

import numpy as np
import torch

from recbole_gr.tokenizers.quantiser import ResidualQuantiser


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


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


def gradient_of(estimate, points, quantised, direction):
    points = torch.from_numpy(points).requires_grad_()
    value = estimate(points, torch.from_numpy(quantised))
    value.backward(torch.from_numpy(direction))
    return value.detach().numpy(), points.grad.numpy()
