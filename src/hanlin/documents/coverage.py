"""Judge whether passages that were found can hold the answer to a question, by what of the question they speak of.

Pure. A search always finds something. Whether that is about the question shows in its rare words: what names its
subject must stand in a passage, while the words that ask may be others than those that answer. No sign is sure, so
there are three judgements, and only one of them is a reason not to ask a model.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from hanlin.documents import words
from hanlin.documents.questions import asked_in
from hanlin.documents.ranking import rarity
from hanlin.documents.values import Passage
from hanlin.documents.words import Term

Judgement = Literal["covered", "unsure", "absent"]

_LITTLE, _LITTLE_UNSPACED, _COVERED = 0.56, 0.38, 0.7
"""Below the first share of a question's weight in the best stretch of text (the second, for scripts without spaces),
the answer is taken for absent, unless what is there names the subject; from the last on it is taken for there. A
paraphrase shares more English words than pairs of characters. Calibrated with `tests/needles.toml`."""

_NAMED = 0.25
"""The share of a question's weight that words must have which are rare in the document, to name its subject."""

_LEAST_PASSAGES = 100
"""A document of fewer is weighed as one of so many: in three passages every word is either common or unheard of."""

_STRETCH = 40
"""Words, or characters, that stand together: what is further apart is said of different things."""

_RARE = 0.018
"""Of a document's passages: a word in no more of them may be what a question is about."""

_ASKED = 0.5
"""How much a word counts that says what kind of thing the answer is."""

_BEST = 8
"""Passages that are looked at, the best ones: an answer beyond them would not get into a prompt either."""


class Coverage(msgspec.Struct, frozen=True):
    """What passages have of a question, each word weighed by how rare it is in its document.

    `best` is the largest share of its weight in one stretch of text, `together` that in any of the passages; `missing`
    are the question's words that stand in none, `unknown` those that the whole document does not have. `apart` are
    those that the best stretch lacks, although the document has them or they say what kind of thing the answer is: they
    may be said of something else, which the stretch names.
    """

    judgement: Judgement
    best: float
    together: float
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    apart: tuple[str, ...] = ()


class Weighed(msgspec.Struct, frozen=True, gc=False):
    """A part of a question: a word, or one character of a script without spaces. Any of `terms` stands for it.

    `names`: it may name what the question is about, being rare in the document, but there. `asks`: it says what kind of
    thing the answer is.
    """

    said: str
    place: int
    weight: float
    terms: tuple[Term, ...]
    names: bool
    asks: bool


def weighed(
    terms: Sequence[Term], frequencies: Mapping[str, int], count: int, asked: Sequence[tuple[int, int]] = ()
) -> list[Weighed]:
    """Return the parts of a question with what each of them says, in order; what stands where it is `asked` says less.

    `frequencies` are those of the terms in a document of `count` passages. A character belongs to two pairs: it says as
    much as the rarer of them that the document has, because the other may only be where two words meet.
    """
    parts: list[tuple[int, str, tuple[Term, ...]]] = []
    characters: dict[int, list[Term]] = {}
    for term in terms:
        if len(term.said) == 2 and term.said == term.text and not term.said.isascii():
            for offset in (0, 1):
                characters.setdefault(term.place + offset, []).append(term)
        else:
            parts.append((term.place, term.said, (term,)))
    for place, both in characters.items():
        parts.append((place, both[0].said[place - both[0].place], tuple(both)))
    parts.sort(key=lambda part: part[0])
    made = []
    for place, said, pairs in parts:
        frequency = _frequency(pairs, frequencies, count)
        is_asked = any(first <= place < end for first, end in asked)
        weight = rarity(frequency, max(count, _LEAST_PASSAGES)) * (_ASKED if is_asked else 1.0)
        names = not is_asked and 0 < frequency <= max(_RARE * count, 1)
        made.append(Weighed(said, place, weight, pairs, names, is_asked))
    return made


def _frequency(terms: Sequence[Term], frequencies: Mapping[str, int], count: int) -> int:
    known = [frequencies.get(term.text, 0) for term in terms if not term.is_prefix]
    if not known:
        return count // 20 + 1  # a lone character may be part of many words
    return min([frequency for frequency in known if frequency], default=0)


def coverage(question: str, passages: Iterable[Passage], frequencies: Mapping[str, int], count: int) -> Coverage:
    """Return what passages, the best first, have of a question; `frequencies` as in `weighed`.

    A question without any word of its own has nothing that could be missing.
    """
    parts = weighed(words.terms(question), frequencies, count, asked_in(words.fold(question)))
    total = sum([part.weight for part in parts])
    if not total:
        return Coverage("unsure", 1.0, 1.0)
    stretches, seen = [frozenset[int]()], frozenset[int]()
    for passage, _number in zip(passages, range(_BEST), strict=False):
        above = frozenset([part for _place, part in _hits(parts, passage.heading)])
        hits = _hits(parts, passage.text)
        stretches += [above | stretch for stretch in _stretches(hits)]
        seen |= above | {part for _place, part in hits}
    best = max(stretches, key=lambda stretch: sum([parts[part].weight for part in stretch]))
    share = sum([parts[part].weight for part in best]) / total
    named = sum([parts[part].weight for part in best if parts[part].names]) / total
    return Coverage(
        _judged(share, named, parts),
        share,
        sum([parts[part].weight for part in seen]) / total,
        _joined([None if number in seen else part for number, part in enumerate(parts)]),
        _joined([part if _is_unknown(part, frequencies) else None for part in parts]),
        _joined([part if _is_apart(number, part, best, frequencies) else None for number, part in enumerate(parts)]),
    )


def _judged(best: float, named: float, parts: Sequence[Weighed]) -> Judgement:
    is_unspaced = sum([not part.said.isascii() for part in parts]) * 2 > len(parts)
    if best < (_LITTLE_UNSPACED if is_unspaced else _LITTLE) and named < _NAMED:
        return "absent"
    return "covered" if best >= _COVERED else "unsure"


def _hits(parts: Sequence[Weighed], text: str) -> list[tuple[int, int]]:
    """Return where in a text parts of the question stand: the number of the word, and that of the part."""
    wanted: dict[str, list[int]] = {}
    firsts: dict[str, list[int]] = {}
    for number, part in enumerate(parts):
        for term in part.terms:
            (firsts if term.is_prefix else wanted).setdefault(term.text, []).append(number)
    found = []
    for place, word in enumerate(words.cut(text).split()):
        found += [(place, part) for part in wanted.get(word, ())]
        found += [(place, part) for part in firsts.get(word[0], ())]
    return found


def _stretches(hits: Sequence[tuple[int, int]]) -> Iterator[frozenset[int]]:
    """Yield the parts that stand together, from each that stands anywhere on; the empty set where none does."""
    if not hits:
        yield frozenset()
    for number, (begin, _part) in enumerate(hits):
        yield frozenset([part for place, part in hits[number : number + 4 * _STRETCH] if place < begin + _STRETCH])


def _is_unknown(part: Weighed, frequencies: Mapping[str, int]) -> bool:
    return not any(term.is_prefix or frequencies.get(term.text) for term in part.terms)


def _is_apart(number: int, part: Weighed, best: frozenset[int], frequencies: Mapping[str, int]) -> bool:
    known = any(frequencies.get(term.text) for term in part.terms if not term.is_prefix)
    return number not in best and (known or part.asks)


def _joined(parts: Sequence[Weighed | None]) -> tuple[str, ...]:
    """Return what the parts say, characters that follow each other as one word."""
    found: list[str] = []
    joins = False
    for part in parts:
        single = part is not None and len(part.said) == 1 and not part.said.isascii()
        if part is not None and joins and single:
            found[-1] += part.said
        elif part is not None:
            found.append(part.said)
        joins = single
    return tuple(dict.fromkeys(found))


__all__ = ["Coverage", "Judgement", "Weighed", "coverage", "weighed"]
