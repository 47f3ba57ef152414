"""CSV and its relatives: a Markdown table, a page at a time, each beginning with the header row."""

import csv
import itertools
import re
from collections.abc import Iterator

from hanlin.documents.parsers import flow, plain
from hanlin.documents.parsers.work import Work
from hanlin.documents.values import Page

_DELIMITERS = ",\t;|，"
_SAID = re.compile(r'"?sep=([^\w\s"]|\t)"?\s*')  # what Excel is told in a first line
_SAMPLE_LINES = 50
_LINE_CHARACTERS = 1_000_000
_COLUMNS = 2_000


def pages(work: Work) -> Iterator[Page]:
    """Yield tables; what has lines or rows that no table has is told as the text that it is."""
    lines = _lines(plain.text(work))
    sample = list(itertools.islice(lines, _SAMPLE_LINES))
    if any(len(line) > _LINE_CHARACTERS for line in sample):
        yield from flow.paged(itertools.chain(sample, lines))
        return
    csv.field_size_limit(_LINE_CHARACTERS)
    said = _SAID.fullmatch(sample[0]) if sample else None
    delimiter = said[1] if said else _delimiter(sample)
    yield from flow.paged(flow.tables(_rows(itertools.chain(sample[1:] if said else sample, lines), delimiter)))


def _rows(lines: Iterator[str], delimiter: str) -> Iterator[list[str]]:
    """Yield rows that are not empty. After a quotation that never ends, quotation marks are characters like others."""
    taken: list[str] = []  # the lines of the row that is being read

    def noted() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            yield line

    try:
        for row in csv.reader(noted(), delimiter=delimiter):
            taken.clear()
            yield from _filled(row)
    except csv.Error:
        for line in itertools.chain(list(taken), lines):
            yield from _filled(line.rstrip("\n").split(delimiter))


def _filled(row: list[str]) -> Iterator[list[str]]:
    if any(value.strip() for value in row):
        yield row if len(row) <= _COLUMNS else [*row[:_COLUMNS], " ".join(row[_COLUMNS:])]


def _lines(texts: Iterator[str]) -> Iterator[str]:
    """Yield lines with their ends; a line beyond all measure comes in pieces."""
    held = ""
    for text in texts:
        *whole, held = (held + text).lstrip("\ufeff").split("\n")
        for line in whole:
            yield f"{line}\n"
        if len(held) > _LINE_CHARACTERS:
            yield held
            held = ""
    if held:
        yield held


def _delimiter(lines: list[str]) -> str:
    """Return the character that divides these lines into the same number of columns most often, and into most."""

    def fitness(delimiter: str) -> tuple[float, int]:
        try:
            widths = [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
        except csv.Error:  # a quotation beyond all measure
            return (0.0, 0)
        usual = max(set(widths), key=widths.count, default=1)
        return (widths.count(usual) / len(widths), usual) if usual > 1 else (0.0, 0)

    return max(_DELIMITERS, key=fitness)


__all__ = ["pages"]
