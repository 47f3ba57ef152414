"""Count and add up what stands in tables: the model says which rows and which column, the rows do the rest."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hanlin.documents.values import Document, Page
from hanlin.recipes import shaped
from hanlin.recipes.attachments import has_pages
from hanlin.recipes.long_documents.parts import pages_of
from hanlin.recipes.long_documents.report import ranges
from hanlin.recipes.recipe import Base
from hanlin.recipes.tables import Row, Table, tables, written
from hanlin.recipes.texts import amount, folded
from hanlin.types import Message, Schema

LEAST_SHARE = 0.6
"""What part of a document must be tables for it to count as one."""

_MOST_PAGES = 3000
_FIRST_PAGES = 3
_SAMPLE_ROWS = 3
_FEW_VALUES = 12
_SAID = {
    "count": re.compile(r"(?:多少|几)[个次条种项人家份行处件名笔位]|\bhow many\b|\bnumber of\b", re.IGNORECASE),
    "sum": re.compile(r"合计|总[额和计]|\btotal\b|\bsum\b", re.IGNORECASE),
    "average": re.compile(r"平均|\baverage\b|\bmean\b", re.IGNORECASE),
    "max": re.compile(r"最[大高多贵长]|\b(?:highest|largest|most expensive|maximum)\b", re.IGNORECASE),
    "min": re.compile(r"最[小低少短便]|\b(?:lowest|smallest|cheapest|minimum)\b", re.IGNORECASE),
}
_OPERATIONS = ("count", "sum", "average", "max", "min", "list", "none")
_COMPARISONS = ("=", "!=", ">", ">=", "<", "<=", "contains")
_MOST_LISTED = 400


@dataclass(frozen=True)
class Figures:
    """What was worked out of a table: the sentence that says it, the pages of the rows, the values of a list."""

    text: str
    document: Document
    pages: tuple[int, ...]
    values: tuple[tuple[str, int], ...] = ()
    count: int | None = None


async def table_of(document: Document) -> Table | None:
    """Return the largest table of a document that is little else; None for any other document."""
    if document.pages > _MOST_PAGES:
        return None
    first = await document.read(1, min(_FIRST_PAGES, document.pages))
    if tables(first)[1] < LEAST_SHARE:
        return None
    pages: list[Page] = [page async for page in pages_of(document)]
    found, share = tables(pages)
    if share < LEAST_SHARE or not found:
        return None
    largest = max(found, key=lambda table: len(table.rows))
    return largest if len(set(largest.headers)) == len(largest.headers) else None


async def figures(
    base: Base, model: str, question: str, documents: Sequence[Document], *, chinese: bool
) -> list[Figures]:
    """Return what the tables of documents say to a question; nothing where a document is no table, or it does not fit.

    One call a table: the model fills in a query, of the table's own columns.
    """
    worked: list[Figures] = []
    for document in documents:
        table = await table_of(document)
        if table is None:
            return []
        try:
            query = await shaped.ask(base, model, [_asked(question, table)], _query(table), max_tokens=400)
        except shaped.Unfit:
            return []
        made = _worked_out(_settled(query, question, table), table, document, chinese=chinese)
        if made is None:
            return []
        worked.append(made)
    return worked


async def conditions_of(base: Base, model: str, instruction: str, table: Table) -> list[Any]:
    """Return the conditions that rows must meet to be what an instruction asks for. Raises shaped.Unfit."""
    properties = _query(table)["properties"]
    form: Schema = {
        "type": "object",
        "properties": {"conditions": properties["conditions"]},
        "required": ["conditions"],
        "additionalProperties": False,
    }
    prompt = (
        f"{_shown(table)}Say as JSON which conditions rows must meet to be what the instruction asks for; none where "
        f"it asks for all rows.\n\nInstruction: {instruction}"
    )
    found = (await shaped.ask(base, model, [Message("user", prompt)], form, max_tokens=400))["conditions"]
    return _with_values(found, instruction, table)


def _settled(query: Any, question: str, table: Table) -> Any:
    """Return a query with what the question says outright, whatever a small model made of it."""
    said = [name for name, pattern in _SAID.items() if pattern.search(question)]
    made = dict(query)
    if len(said) == 1 and query["operation"] != "none":
        made["operation"] = said[0]
    named = [header for header in table.headers if header and folded(header) in folded(question)]
    conditions = _with_values(query["conditions"], question, table)
    about = [header for header in named if header not in {condition["column"] for condition in conditions}]
    if len(about) == 1 and query["operation"] != "none":
        made["column"] = about[0]
    made["conditions"] = conditions
    return made


def _with_values(conditions: Sequence[Any], text: str, table: Table) -> list[Any]:
    """Return conditions with those that a text names by a value: the only one of the few values of a column."""
    made = list(conditions)
    plain = folded(text)
    for header in table.headers:
        values = {value for value in table.column(header) if value}
        if not 1 < len(values) <= _FEW_VALUES:
            continue
        named = [value for value in values if folded(value) in plain]
        longest = [value for value in named if not any(value != other and value in other for other in named)]
        if len(longest) == 1 and not any(
            condition["column"] == header and condition["is"] == "!=" for condition in made
        ):
            made = [condition for condition in made if condition["column"] != header]
            made.append({"column": header, "is": "=", "value": longest[0]})
    return made


def _shown(table: Table) -> str:
    """Return how a table begins, and the values of columns that have few."""
    few = [
        f"{header}: {', '.join(values)}"
        for header in table.headers
        if 0
        < len(values := [value for value, _ in Counter(table.column(header)).most_common(_FEW_VALUES + 1)])
        <= _FEW_VALUES
    ]
    sample = written(table.headers, [row.cells for row in table.rows[:_SAMPLE_ROWS]])
    return f"A table of {len(table.rows)} rows begins like this:\n\n{sample}\n\n" + (
        f"Values of columns:\n{chr(10).join(few)}\n\n" if few else ""
    )


def _asked(question: str, table: Table) -> Message:
    return Message(
        "user",
        f"{_shown(table)}Say as JSON how to answer the question from its rows: the operation, the column that it is "
        "about, and conditions that rows must meet (none for all rows). The operation is none if rows cannot answer."
        f"\n\nQuestion: {question}",
    )


def _query(table: Table) -> Schema:
    headers = list(table.headers)
    return {
        "type": "object",
        "properties": {
            "operation": {"enum": list(_OPERATIONS)},
            "column": {"enum": headers},
            "conditions": {
                "type": "array",
                "maxItems": 3,
                "items": {
                    "type": "object",
                    "properties": {
                        "column": {"enum": headers},
                        "is": {"enum": list(_COMPARISONS)},
                        "value": {"type": "string", "maxLength": 80},
                    },
                    "required": ["column", "is", "value"],
                    "additionalProperties": False,
                },
            },
        },
        "required": ["operation", "column", "conditions"],
        "additionalProperties": False,
    }


def _worked_out(query: Any, table: Table, document: Document, *, chinese: bool) -> Figures | None:
    operation, column = query["operation"], query["column"]
    if operation == "none":
        return None
    rows = [row for row in table.rows if all(meets(row, table, condition) for condition in query["conditions"])]
    at = table.headers.index(column)
    pages = tuple(sorted({row.page for row in rows}))
    where = _conditions(query["conditions"], chinese=chinese)
    if operation == "count":
        text = f"{where}共有 {len(rows)} 行" if chinese else f"{len(rows)} rows{where}"
        return Figures(_with_pages(text, document, pages), document, pages, count=len(rows))
    if operation == "list":
        values = tuple(dict.fromkeys((row.cells[at], row.page) for row in rows if row.cells[at]))
        if not values or len(values) > _MOST_LISTED:
            return None
        text = f"{where}“{column}”共 {len(values)} 项" if chinese else f"{len(values)} values of {column}{where}"
        return Figures(text, document, pages, values)
    amounts = [value for row in rows if (value := amount(row.cells[at])) is not None]
    if not amounts or len(amounts) < len([row for row in rows if row.cells[at]]):
        return None
    result = {
        "sum": sum(amounts),
        "average": sum(amounts) / len(amounts),
        "max": max(amounts),
        "min": min(amounts),
    }[operation]
    shown = f"{result:.2f}".rstrip("0").rstrip(".")
    names = {"sum": "合计", "average": "平均值", "max": "最大值", "min": "最小值"}
    text = (
        f"{where}“{column}”的{names[operation]}为 {shown}（{len(amounts)} 行）"
        if chinese
        else f"the {operation} of {column}{where} is {shown} ({len(amounts)} rows)"
    )
    if operation in ("max", "min"):
        rows = [row for row in rows if amount(row.cells[at]) == result]
        pages = tuple(sorted({row.page for row in rows}))
        text += f": {written(table.headers, [row.cells for row in rows[:_SAMPLE_ROWS]])}"
    return Figures(_with_pages(text, document, pages), document, pages)


def _with_pages(text: str, document: Document, pages: Sequence[int]) -> str:
    return f"{text} [{document.name} p.{', '.join(ranges(pages)[:8])}]" if has_pages(document) and pages else text


def _conditions(conditions: Sequence[Any], *, chinese: bool) -> str:
    said = [f"{condition['column']} {condition['is']} {condition['value']}" for condition in conditions]
    if not said:
        return ""
    return f"满足“{'，'.join(said)}”的" if chinese else f" with {', '.join(said)}"


def meets(row: Row, table: Table, condition: Any) -> bool:
    cell, value = row.cells[table.headers.index(condition["column"])], condition["value"]
    if condition["is"] == "contains":
        return folded(value) in folded(cell)
    one, other = amount(cell), amount(value)
    numeric = one is not None and other is not None
    match condition["is"]:
        case "=":
            return one == other if numeric else folded(cell) == folded(value)
        case "!=":
            return one != other if numeric else folded(cell) != folded(value)
    if one is None or other is None:
        left, right = folded(cell), folded(value)  # dates as they are sorted
        return {">": left > right, ">=": left >= right, "<": left < right, "<=": left <= right}[condition["is"]]
    return {">": one > other, ">=": one >= other, "<": one < other, "<=": one <= other}[condition["is"]]


__all__ = ["LEAST_SHARE", "Figures", "conditions_of", "figures", "meets", "table_of"]
