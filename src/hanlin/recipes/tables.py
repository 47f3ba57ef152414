"""Markdown tables in pages: their headers and rows, as values. Pure."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hanlin.documents.values import Page

_BORDER = re.compile(r"\s*+\|?\s*+:?-+:?\s*+(?:\|\s*+:?-+:?\s*+)*\|?\s*+")
_CELL = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True)
class Row:
    """A row of a table: its cells as they are written, the page it stands on."""

    cells: tuple[str, ...]
    page: int


@dataclass(frozen=True)
class Table:
    """A table with all its rows, over however many pages it goes."""

    headers: tuple[str, ...]
    rows: tuple[Row, ...]

    def column(self, header: str) -> list[str]:
        at = self.headers.index(header)
        return [row.cells[at] for row in self.rows]

    @property
    def pages(self) -> tuple[int, ...]:
        return tuple(sorted({row.page for row in self.rows}))


def tables(pages: Iterable[Page]) -> tuple[list[Table], float]:
    """Return the tables of pages in their order, and what part of all characters they are.

    A table whose headers are those of the one before it goes on with it, as those do that are cut at a page's end.
    """
    found: list[tuple[tuple[str, ...], list[Row]]] = []
    inside = everything = 0
    for page in pages:
        everything += sum(len(line.strip()) for line in page.text.splitlines())
        for headers, rows, size in _of_page(page):
            inside += size
            if found and found[-1][0] == headers:
                found[-1][1].extend(rows)
            else:
                found.append((headers, rows))
    share = inside / everything if everything else 0.0
    return [Table(headers, tuple(rows)) for headers, rows in found if rows], share


def _of_page(page: Page) -> Iterable[tuple[tuple[str, ...], list[Row], int]]:
    lines = page.text.splitlines()
    at = 0
    while at + 1 < len(lines):
        if "|" not in lines[at] or "-" not in lines[at + 1] or not _BORDER.fullmatch(lines[at + 1]):
            at += 1
            continue
        headers = cells(lines[at])
        size = len(lines[at].strip()) + len(lines[at + 1].strip())
        at += 2
        rows: list[Row] = []
        while at < len(lines) and "|" in lines[at]:
            size += len(lines[at].strip())
            row = cells(lines[at])
            if any(row):
                rows.append(Row((*row, *[""] * len(headers))[: len(headers)], page.number))
            at += 1
        yield headers, rows, size


def cells(line: str) -> tuple[str, ...]:
    """Return the cells of a line, without the blanks around them."""
    text = line.strip()
    text = text.removeprefix("|")
    if text.endswith("|") and not text.endswith("\\|"):
        text = text[:-1]
    return tuple(cell.strip().replace("\\|", "|").replace("<br>", "\n") for cell in _CELL.split(text))


def written(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return rows as a Markdown table."""
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join("| " + " | ".join(_escaped(cell) for cell in line) + " |" for line in lines)


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", "<br>")


__all__ = ["Row", "Table", "cells", "tables", "written"]
