"""Put what several searches found into one order. Pure."""

from collections.abc import Hashable, Mapping, Sequence
from math import log
from typing import TypeVar

Key = TypeVar("Key", bound=Hashable)

_RRF = 60
"""How much the first places count for more than the next: the constant of the paper that reciprocal ranks are from
(Cormack, Clarke and Büttcher, 2009)."""


def reciprocal(rank: int) -> float:
    """Return what a place in an order is worth, the first being 1."""
    return 1 / (_RRF + rank)


def fused(
    ranks: Sequence[Sequence[Key]], weights: Sequence[float] | None = None, leading: Sequence[int] | None = None
) -> dict[Key, float]:
    """Return each thing with its reciprocal ranks added up, best first; of equals, the one named first comes first.

    So many of each order as `leading` says come before all others: what one order has first, and another does not have
    at all, would otherwise stand behind everything that both have somewhere.
    """
    scores: dict[Key, float] = {}
    for place, rank in enumerate(ranks):
        weight = weights[place] if weights else 1.0
        for number, key in enumerate(rank, 1):
            scores[key] = scores.get(key, 0.0) + weight * reciprocal(number)
    for rank, many in zip(ranks, leading or [0] * len(ranks), strict=True):
        for key in rank[:many]:
            if scores[key] < 1:
                scores[key] += 1.0
    return dict(sorted(scores.items(), key=lambda item: -item[1]))


def rarity(frequency: int, count: int) -> float:
    """Return what a word says that occurs in `frequency` of `count` passages: BM25's weight of it, never below 0."""
    return log(1 + (count - frequency + 0.5) / (frequency + 0.5))


def bm25(found: Mapping[str, int], length: float, rarities: Mapping[str, float], mean: float) -> float:
    """Return the BM25 weight of a text for a question, from how often each of its words is found in it."""
    k, b = 1.2, 0.75
    bend = k * (1 - b + b * length / max(mean, 1.0))
    return sum([rarities[word] * times * (k + 1) / (times + bend) for word, times in found.items()])


__all__ = ["bm25", "fused", "rarity", "reciprocal"]
