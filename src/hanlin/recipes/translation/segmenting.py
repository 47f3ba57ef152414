"""A text as pieces that are translated one by one, and everything between them.

What stands before, between and after the pieces (blank space, list marks, blocks of code) is kept to the letter, so
that a translation has the lines of its text whatever a model does.
"""

import re
from collections.abc import Iterator

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
_END = re.compile(rf"[{_WIDE_STOPS}]+[{_CLOSERS}]*[ \t\u3000]*|[.!?]+[{_CLOSERS}]*(?:[ \t]+(?=\S)|$)")

# A full stop behind these ends no sentence.
_SHORT = re.compile(
    r"(?:\b(?:Mr|Mrs|Ms|Dr|Prof|St|No|vs|etc|e\.g|i\.e|Fig|Inc|Ltd|Co|approx|Nr|bzw|z\.B|[A-Z])|\d)\.\s*$"
)


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
    wide = sum(character >= "\u2e80" for character in text)
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
    kept = ""
    for sentence in sentences(text):
        for part in [sentence] if size(sentence) <= budget else _torn(sentence, budget):
            if kept and size(kept) + size(part) > budget:
                yield kept
                kept = ""
            kept += part
    if kept:
        yield kept


def sentences(text: str) -> list[str]:
    """Return the sentences of a line, each with the space behind it; joined they are the line."""
    whole = [match.span() for match in protecting.KEPT.finditer(text)]
    found: list[str] = []
    at = 0
    for match in _END.finditer(text):
        end = match.end()
        inside = any(start < end <= stop and match.start() > start for start, stop in whole)
        if not inside and text[end:].strip() and not _SHORT.search(text[at:end]):
            found.append(text[at:end])
            at = end
    return [*found, text[at:]] if text[at:] else found


def _torn(sentence: str, budget: float) -> Iterator[str]:
    """Cut what has no sentence end for too long."""
    most = max(16, int(budget / (0.75 if is_unspaced(sentence) else 0.27)))
    while len(sentence) > most:
        cut = max(sentence.rfind(mark, most // 2, most) for mark in "，,、；;：")
        if cut < 0:
            cut = sentence.rfind(" ", most // 2, most)
        cut = cut + 1 if cut >= 0 else most
        yield sentence[:cut]
        sentence = sentence[cut:]
    if sentence:
        yield sentence


__all__ = ["Piece", "pieces", "sentences", "size"]
