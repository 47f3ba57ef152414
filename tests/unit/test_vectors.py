"""Arithmetic with vectors: what padding keeps, what shortening makes, how windows become one."""

import math
import random

import pytest

from hanlin.engines.vectors import average, fitted, unit
from hanlin.types import Vector


def random_unit(seed: int, dimensions: int = 384) -> Vector:
    draw = random.Random(seed)
    return unit([draw.gauss(0, 1) for _ in range(dimensions)])


def dot(one: Vector, other: Vector) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("dimensions", [384, 512, 768, 1024, 1536, 2048])
def test_padding_changes_no_similarity(dimensions: int) -> None:
    """Zeros add nothing: cosine, dot product and distance are exactly those of the short vectors."""
    one, other = random_unit(1), random_unit(2)

    padded = fitted(one, dimensions), fitted(other, dimensions)

    assert [len(vector) for vector in padded] == [dimensions, dimensions]
    assert dot(*padded) == dot(one, other)
    assert math.dist(*padded) == math.dist(one, other)
    assert list(padded[0][:384]) == list(one)


@pytest.mark.parametrize("dimensions", [64, 128, 256])
def test_a_shortened_vector_has_the_length_1_again(dimensions: int) -> None:
    """Indexes that take the dot product for the cosine rely on it."""
    short = fitted(random_unit(1), dimensions)

    assert len(short) == dimensions
    assert math.hypot(*short) == pytest.approx(1)


def test_windows_count_by_their_weight() -> None:
    """Three tokens of one window against one of the other."""
    assert average([[1.0, 0.0], [0.0, 1.0]], [3, 1]) == [0.75, 0.25]
    assert average([[1.0, 2.0]], [7]) == [1.0, 2.0]


def test_a_vector_of_zeros_stays_one() -> None:
    """Nothing is divided by nothing."""
    assert list(unit([0.0, 0.0])) == [0.0, 0.0]
