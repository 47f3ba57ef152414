"""Tell what a question wants of documents, and where it asks, by its words alone.

Pure. One passage can answer a lookup; the other kinds want all of a document, and a search would miss most of it.
"""

import re
import tomllib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Literal

import msgspec

from hanlin.documents.words import fold

Kind = Literal["lookup", "compare", "count", "list", "summary"]

_CONSIDERED = 4000
"""Characters of a question that are looked at, half of them at its end: what is wanted stands first or last."""


_JOINS_CHARS = 400
_OF_ALL = ("compare", "summary")
_SAYS = re.compile(r"[^\W_]")


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: Kind
    patterns: tuple[str, ...]


class _Asking(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    zh: str
    en: str


class _Joins(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    patterns: tuple[str, ...]
    bare: str


class _Whole(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    zh: tuple[str, ...]
    en: str


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    kind: tuple[_Row, ...]
    asking: _Asking
    whole: _Whole
    joins: _Joins


def kind_of(question: str) -> Kind:
    """Return what a question wants; `lookup` is anything that a few passages can answer."""
    folded = fold(question)
    if len(folded) > _CONSIDERED:
        folded = f"{folded[: _CONSIDERED // 2]}\n{folded[-_CONSIDERED // 2 :]}"
    for kind, pattern in _kinds():
        if pattern.search(folded):
            return kind
    return "lookup"


def asks_for_whole(question: str, names: Sequence[str] = ()) -> bool:
    """Whether a summary or a comparison is of all that documents say: nothing is named that it is to be about.

    `names` are those of the documents. What is not known to say only how it is to be written is taken for a subject.
    """
    folded = fold(question)
    if len(folded) > _CONSIDERED:
        return False
    for name in names:
        for said in (fold(name), fold(name).rpartition(".")[0]):
            folded = folded.replace(said, " ") if len(said) > 1 else folded
    for kind, pattern in _kinds():
        if kind in _OF_ALL:
            folded = pattern.sub(" ", folded)
    return not _SAYS.search(_manner().sub(" ", folded))


def joins(question: str) -> bool:
    """Whether a question speaks of something by what is said of it elsewhere: the budget of the office that X leads.

    By its form alone: one sentence of a document may say both. A question as long as a text is none of these.
    """
    return len(question) <= _JOINS_CHARS and bool(_joining()[0].search(fold(question)))


def asks_barely(question: str) -> bool:
    """Whether a question asks who, where or when, without a word for what kind of thing the answer is."""
    return len(question) <= _JOINS_CHARS and bool(_joining()[1].search(fold(question)))


def asked_in(folded: str) -> list[tuple[int, int]]:
    """Return the places in a folded question that say what kind of thing the answer is, as beginnings and ends."""
    zh, en = _asking()
    places = [match.span(1) for match in en.finditer(folded)]
    if found := zh.search(folded):
        places.append((found.end(), len(folded)))
    return places


@cache
def _table() -> _Table:
    text = files("hanlin.documents").joinpath("questions.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), _Table)


@cache
def _kinds() -> tuple[tuple[Kind, re.Pattern[str]], ...]:
    return tuple([(row.name, re.compile("|".join(row.patterns))) for row in _table().kind])


@cache
def _joining() -> tuple[re.Pattern[str], re.Pattern[str]]:
    joins = _table().joins
    return re.compile("|".join(joins.patterns)), re.compile(joins.bare)


@cache
def _manner() -> re.Pattern[str]:
    whole = _table().whole
    return re.compile(rf"(?:{'|'.join(whole.zh)})|\b(?:{'|'.join(whole.en.split())})\b")


@cache
def _asking() -> tuple[re.Pattern[str], re.Pattern[str]]:
    return re.compile(_table().asking.zh), re.compile(_table().asking.en)


__all__ = ["Kind", "asked_in", "asks_barely", "asks_for_whole", "joins", "kind_of"]
