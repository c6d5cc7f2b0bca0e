"""Gradients that pass a quantiser: of straight-through and the rotation trick, against explicit matrices."""

import numpy as np
from support.points import gradient_of, normal

from recbole_gr.tokenizers.quantiser import rotation_trick, straight_through


def unit(rows):
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


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
