"""Facts hidden in long documents, and what is asked about them: the table `needles.toml`, put into pages."""

import random
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import msgspec

from tests.big_documents import Language

DEPTHS = 10
DOCUMENTS = 5
"""So many documents of one length and language have all facts between them, ten in each."""


class Needle(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    lang: Language
    fact: str
    question: str
    answer: str


class Unanswerable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    lang: Language
    kind: str
    questions: tuple[str, ...]


class Decoys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    lang: Language
    sentences: tuple[str, ...]


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    needle: tuple[Needle, ...]
    unlike: tuple[Needle, ...]
    unanswerable: tuple[Unanswerable, ...]
    decoys: tuple[Decoys, ...]


@cache
def table() -> Table:
    return msgspec.convert(tomllib.loads(Path(__file__).with_name("needles.toml").read_text("utf-8")), Table)


def needles_of(language: Language, number: int, pages: int) -> dict[int, Needle]:
    """Return the facts of one document by the page that each stands on: the first, the last, and eight between."""
    found = [needle for needle in table().needle if needle.lang == language][number * DEPTHS : (number + 1) * DEPTHS]
    places = [1 + round((pages - 1) * depth / (DEPTHS - 1)) for depth in range(DEPTHS)]
    return {places[(place + 3 * number) % DEPTHS]: needle for place, needle in enumerate(found)}


def sentences_of(language: Language, number: int, pages: int, needles: Mapping[int, Needle]) -> dict[int, str]:
    """Return what to put onto pages: the facts, and on others sentences that have some of the same words."""
    (decoys,) = [decoys.sentences for decoys in table().decoys if decoys.lang == language]
    free = [page for page in range(1, pages + 1) if page not in needles]
    places = random.Random(number).sample(free, len(decoys))
    return dict(zip(places, decoys, strict=True)) | {page: needle.fact for page, needle in needles.items()}


def unanswerable(language: Language, kind: str) -> Sequence[str]:
    return [
        question
        for row in table().unanswerable
        if row.lang == language and row.kind == kind
        for question in row.questions
    ]


__all__ = ["DEPTHS", "DOCUMENTS", "Needle", "needles_of", "sentences_of", "table", "unanswerable"]
