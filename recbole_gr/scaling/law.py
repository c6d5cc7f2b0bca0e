"""The law ``R = R0 - A / N_SI^a - B / N_CF^b`` and its nested forms, for many sets of parameters at once.

Each term's size is one measured size plus others times a coefficient, as in ``N_SI = N_LoRA + gamma * N_LLM``. Parameters are
logarithms but for ``R0``: all of them are positive. What a term takes off is its height at a reference size, the geometric mean
of its measured sizes; ``A`` follows from height and exponent, and is nearly the same number twice if one of them is off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

#: Bounds of the parameters: R0, the height of a term, an exponent, a coefficient of a size.
CEILING = (0.0, 1.0)
HEIGHT = (1e-6, 10.0)
EXPONENT = (0.01, 5.0)
COEFFICIENT = (1e-6, 1e3)


@dataclass(frozen=True)
class Term:
    """What one kind of information lacks: ``height * (N / reference)^-exponent``.

    Args:
        letter: ``A`` or ``B``; the exponent is its small letter.
        size: the measured size that counts as it is.
        coefficients: by the name of a coefficient the measured size that it is multiplied with.
    """

    letter: str
    size: str
    coefficients: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Law:
    """A ceiling and terms that are taken off.

    Args:
        name: in words.
        terms: none for a constant.
    """

    name: str
    terms: tuple[Term, ...] = ()

    @property
    def parameters(self) -> list[str]:
        """Names in the order of a vector of parameters."""
        names = ["R0"]
        for term in self.terms:
            names += [f"height of {term.letter}", term.letter.lower(), *(name for name, _ in term.coefficients)]
        return names

    @property
    def bounds(self) -> np.ndarray:
        """float64 ``[parameters, 2]``, of the vector as it is fitted: logarithms but for R0."""
        bounds = [np.array(CEILING)]
        for term in self.terms:
            bounds += [np.log(HEIGHT), np.log(EXPONENT), *(np.log(COEFFICIENT) for _ in term.coefficients)]
        return np.array(bounds)

    def sizes(self) -> set[str]:
        """The measured sizes that it needs."""
        return {size for term in self.terms for size in (term.size, *(size for _, size in term.coefficients))}

    def values(self, theta: np.ndarray, sizes: Mapping[str, np.ndarray], references: Mapping[str, float]) -> np.ndarray:
        """What the law says, float64 ``[sets, points]``.

        Args:
            theta: float64 ``[sets, parameters]``.
            sizes: float64 ``[points]`` each, by name.
            references: see :func:`reference_sizes`.
        """
        return self._evaluate(theta, sizes, references, False)[0]

    def values_and_jacobian(
        self, theta: np.ndarray, sizes: Mapping[str, np.ndarray], references: Mapping[str, float]
    ) -> tuple[np.ndarray, np.ndarray]:
        """:meth:`values`, and their derivatives, float64 ``[sets, points, parameters]``."""
        return self._evaluate(theta, sizes, references, True)

    def _evaluate(
        self, theta: np.ndarray, sizes: Mapping[str, np.ndarray], references: Mapping[str, float], with_jacobian: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        points = len(next(iter(sizes.values())))
        value = np.repeat(theta[:, :1], points, axis=1)
        columns = [np.ones_like(value)]
        column = 1
        for term in self.terms:
            height, exponent = theta[:, column, None], np.exp(theta[:, column + 1, None])
            size = np.broadcast_to(sizes[term.size], value.shape)
            for number, (_, other) in enumerate(term.coefficients):
                size = size + np.exp(theta[:, column + 2 + number, None]) * sizes[other]
            log_size = np.log(size) - np.log(references[term.size])
            lost = np.exp(height - exponent * log_size)
            value = value - lost
            if with_jacobian:
                columns += [-lost, lost * exponent * log_size]
                for number, (_, other) in enumerate(term.coefficients):
                    part = np.exp(theta[:, column + 2 + number, None]) * sizes[other]
                    columns.append(lost * exponent * part / size)
            column += 2 + len(term.coefficients)
        return value, np.stack(columns, axis=2) if with_jacobian else value

    def named(self, theta: np.ndarray, references: Mapping[str, float]) -> dict[str, np.ndarray]:
        """Parameters by name, float64 ``[sets]`` each, ``A`` and ``B`` in the paper's units among them."""
        found = {"R0": theta[:, 0]}
        column = 1
        for term in self.terms:
            exponent = np.exp(theta[:, column + 1])
            with np.errstate(over="ignore"):
                found[term.letter] = np.exp(theta[:, column] + exponent * np.log(references[term.size]))
            found[f"height of {term.letter}"] = np.exp(theta[:, column])
            found[term.letter.lower()] = exponent
            for number, (name, _) in enumerate(term.coefficients):
                found[name] = np.exp(theta[:, column + 2 + number])
            column += 2 + len(term.coefficients)
        return found


def reference_sizes(sizes: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The geometric mean of each size, of its values above 0."""
    return {name: float(np.exp(np.log(values[values > 0]).mean())) for name, values in sizes.items() if (values > 0).any()}


CONSTANT = Law("a constant")


def laws_of(size: str, others: Sequence[tuple[str, str, str]]) -> list[Law]:
    """The laws that points with these sizes can tell apart, from the simplest to the richest.

    Args:
        size: the measured size that is in both terms, ``N_RS`` or that of what is trained of a language model.
        others: of each other size that varies: its name, its coefficient in ``N_SI``, and that in ``N_CF``, "" where it has none.

    Returns:
        A constant; one term; with other sizes, one term of both, then both terms without and with each coefficient of ``N_CF``.
    """
    one = Law(f"R0 - A / {size}^a", (Term("A", size),))
    if not others:
        return [CONSTANT, one]
    si = tuple((coefficient, name) for name, coefficient, _ in others)
    cf = tuple((coefficient, name) for name, _, coefficient in others if coefficient)
    laws = [CONSTANT, one, Law("R0 - A / N_SI^a", (Term("A", size, si),))]
    without = "both terms, " + " = ".join([*(name for name, _ in cf), "0"]) if cf else "both terms"
    laws.append(Law(without, (Term("A", size, si), Term("B", size))))
    if cf:
        laws.append(Law("both terms", (Term("A", size, si), Term("B", size, cf))))
    return laws
