"""How much two short texts have in common, and the likeliest few of many offers: by their words, or by vectors."""

import re
import unicodedata
from collections.abc import Sequence

from hanlin.recipes.recipe import Base
from hanlin.types import Vector

_LATIN = re.compile(r"[^\W\d_]+|\d+")
_HAN = re.compile("[\u3400-\u9fff\u3040-\u30ff\uac00-\ud7af]+")
_ENDING = re.compile(r"(?:ing|ed|es|s)$")


def folded(text: str) -> str:
    """Return a text as it is compared: full and half width, small and large letters are the same."""
    return unicodedata.normalize("NFKC", text).casefold()


def terms(text: str) -> frozenset[str]:
    """Return what a text is about: its words without endings, and pairs of Chinese characters."""
    text = folded(text).replace("_", " ")
    runs = _HAN.findall(text)
    pairs = {run[at : at + 2] for run in runs for at in range(len(run) - 1)}
    single = {run for run in runs if len(run) == 1}
    words = {_ENDING.sub("", word) if len(word) > 4 else word for word in _LATIN.findall(_HAN.sub(" ", text))}
    return frozenset(pairs | single | words)


def likeness(text: str, other: str) -> float:
    """Return the share of what two texts are about that both are about."""
    ours, theirs = terms(text), terms(other)
    return len(ours & theirs) / (len(ours) * len(theirs)) ** 0.5 if ours and theirs else 0.0


async def likeliest(base: Base, text: str, offers: Sequence[str], most: int) -> list[int]:
    """Return the places of the offers that are likeliest meant, in the order of the offers; at most so many."""
    if len(offers) <= most:
        return list(range(len(offers)))
    by_words = [likeness(text, offer) for offer in offers]
    ranked = sorted(range(len(offers)), key=lambda at: -by_words[at])
    asked = await _vectors(base, [text], "query")
    made = await _vectors(base, offers, "document") if asked is not None else None
    if asked is not None and made is not None:
        near = [_cosine(asked[0], one) for one in made]
        ranked = _together(_ranks(by_words), _ranks(near))
    return sorted(ranked[:most])


async def _vectors(base: Base, texts: Sequence[str], purpose: str) -> Sequence[Vector] | None:
    made = await base.vectors(texts, purpose)
    return made if made is not None and len(made) == len(texts) else None


def _cosine(one: Vector, other: Vector) -> float:
    return sum(a * b for a, b in zip(one, other, strict=False))


def _ranks(scores: Sequence[float]) -> list[int]:
    """Return the rank of each score, from 0."""
    order = sorted(range(len(scores)), key=lambda at: -scores[at])
    ranks = [0] * len(scores)
    for rank, at in enumerate(order):
        ranks[at] = rank
    return ranks


_RANK_FLOOR = 20
"""Ranks are joined by their reciprocals; this keeps one first place from counting more than two good ones."""


def _together(*rankings: Sequence[int]) -> list[int]:
    """Return places by several rankings at once."""
    joined = [sum(1 / (_RANK_FLOOR + ranks[at]) for ranks in rankings) for at in range(len(rankings[0]))]
    return sorted(range(len(joined)), key=lambda at: -joined[at])


__all__ = ["folded", "likeliest", "likeness", "terms"]
