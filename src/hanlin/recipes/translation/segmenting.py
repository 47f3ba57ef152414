"""A text as pieces that are translated one by one, and everything between them.

What stands before, between and after the pieces (blank space, list marks, blocks of code) is kept to the letter, so
that a translation has the lines of its text whatever a model does.
"""

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator
from itertools import groupby

import msgspec

from hanlin.recipes.translation import protecting
from hanlin.recipes.translation.languages import is_unspaced

_FENCE = re.compile(r"^[ \t]*(```+|~~~+)")
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|$)")

# What opens a line and is no part of its sentence: indents, quotes, headings, bullets, numbers of lists, table bars.
_MARK = re.compile(
    r"(?:[ \t\u3000]|>|#{1,6}(?=\s)|[-*+•·](?=\s)|\d{1,3}[.)](?=\s)|[（(]?[一二三四五六七八九十]{1,3}[)）、](?=\S)|\|)*"
)

# The end of a sentence: a stop and its closing quotes; where words stand apart, only with a space behind it.
_WIDE_STOPS = "。！？；…।॥။።؟۔"
_CLOSERS = re.escape("\"'”’」』)）】》»")
_END = re.compile(rf"[{_WIDE_STOPS}]+[{_CLOSERS}]*[ \t\u3000]*|(?<![.!?])[.!?]++[{_CLOSERS}]*+(?:[ \t]+(?=\S)|$)")

# A full stop behind these ends no sentence.
_SHORT = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|No|vs|etc|e\.g|i\.e|Fig|Inc|Ltd|Co|approx|Nr|bzw|z\.B|[A-Z])|\d)\.\s*$"
)

_SHORT_CHARS = 16


class Piece(msgspec.Struct, frozen=True, gc=False):
    """Some text to translate with what stands around it; `text` "" means that there is nothing to translate.

    `before`, `text` and `after` of all pieces, joined, are the whole text. `joined`: the next piece goes on in the same
    line, and `after` is nothing but the space between two sentences.
    """

    before: str
    text: str
    after: str
    joined: bool = False


def size(text: str) -> float:
    """Return about how many tokens a text has; the same measure for all scripts, to compare a text and another."""
    wide = sum(map("\u2e80".__le__, text))
    return wide * 0.75 + (len(text) - wide) * 0.27


def pieces(text: str, budget: float) -> tuple[Piece, ...]:
    """Cut a text into its lines, and lines above `budget` at sentence ends; in their order, no character is lost.

    A sentence above the budget is cut at commas, then at spaces, then anywhere.
    """
    return tuple(_pieces(text, budget))


def _pieces(text: str, budget: float) -> Iterator[Piece]:
    fence = ""
    for line in _LINE.findall(text):
        if not line:
            continue
        opens = _FENCE.match(line)
        if fence:
            yield Piece(line, "", "")
            if opens and opens[1].startswith(fence):
                fence = ""
        elif opens:
            fence = opens[1]
            yield Piece(line, "", "")
        else:
            yield from _of_line(line, budget)


def _of_line(line: str, budget: float) -> Iterator[Piece]:
    mark = _MARK.match(line)
    before = mark[0] if mark else ""
    rest = line[len(before) :]
    text = rest.rstrip()
    after = rest[len(text) :]
    if not any(character.isalpha() for character in text):
        yield Piece(line, "", "")
        return
    parts = list(_packed(text, budget))
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        body = part.strip()
        start = part.index(body)
        behind = after if last else part[start + len(body) :]
        yield Piece(before + part[:start], body, behind, joined=not last)
        before = ""


def _packed(text: str, budget: float) -> Iterator[str]:
    """Yield sentences, as many at a time as fit the budget."""
    if size(text) <= budget:
        yield text
        return
    kept: list[str] = []
    tokens = 0.0
    for sentence in sentences(text):
        for part in [sentence] if size(sentence) <= budget else _torn(sentence, budget):
            more = size(part)
            if kept and tokens + more > budget:
                yield "".join(kept)
                kept, tokens = [], 0.0
            kept.append(part)
            tokens += more
    if kept:
        yield "".join(kept)


def apart(piece: Piece, alone: Callable[[str], bool]) -> Iterator[Piece]:
    """Cut a piece around its sentences that are to stand `alone`; joined, the parts are the piece."""
    parts: list[str] = []
    for by_itself, group in groupby(sentences(piece.text), key=lambda sentence: alone(sentence.strip())):
        together = list(group)
        parts += together if by_itself else ["".join(together)]
    before = piece.before
    for number, part in enumerate(parts):
        last = number == len(parts) - 1
        body = part.strip()
        start = part.index(body)
        behind = part[start + len(body) :]
        yield Piece(
            before + part[:start], body, behind + piece.after if last else behind, piece.joined if last else True
        )
        before = ""


def sentences(text: str) -> list[str]:
    """Return the sentences of a line, each with the space behind it; joined they are the line."""
    kept = [match.span() for match in protecting.KEPT.finditer(text)]
    starts = [start for start, _ in kept]
    length = len(text.rstrip())
    found: list[str] = []
    at = 0
    for match in _END.finditer(text):
        end = match.end()
        before = bisect_left(starts, match.start()) - 1
        inside = before >= 0 and end <= kept[before][1]
        if not inside and end < length and not _SHORT.search(text, max(at, match.start() - _SHORT_CHARS), end):
            found.append(text[at:end])
            at = end
    return [*found, text[at:]] if at < len(text) else found


def _torn(sentence: str, budget: float) -> Iterator[str]:
    """Cut what has no sentence end for too long."""
    most = max(16, int(budget / (0.75 if is_unspaced(sentence) else 0.27)))
    at = 0
    while len(sentence) - at > most:
        cut = max(sentence.rfind(mark, at + most // 2, at + most) for mark in "，,、；;：")
        if cut < 0:
            cut = sentence.rfind(" ", at + most // 2, at + most)
        cut = cut + 1 if cut >= 0 else at + most
        yield sentence[at:cut]
        at = cut
    if at < len(sentence):
        yield sentence[at:]


__all__ = ["Piece", "apart", "pieces", "sentences", "size"]
