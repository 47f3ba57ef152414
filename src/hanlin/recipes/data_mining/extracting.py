"""Records out of running text: part by part, held to the form, and every value looked for in the part it came from."""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from hanlin.documents.values import Document, Page
from hanlin.metering.estimate import text_tokens
from hanlin.recipes import shaped
from hanlin.recipes.data_mining.forms import MOST_RECORDS, Form, loose
from hanlin.recipes.data_mining.merging import merged
from hanlin.recipes.data_mining.verifying import Source, is_empty, unbacked, without
from hanlin.recipes.long_documents.parts import Part, parts_of
from hanlin.recipes.parallel import each
from hanlin.recipes.recipe import Base
from hanlin.recipes.tables import Row, tables, written
from hanlin.recipes.texts import is_chinese, squeezed
from hanlin.types import Message, Schema

_LEAST_PART, _MOST_PART = 600, 3000
_OVERLAP_CHARS = 300
_AT_ONCE = 4
_MOST_HALVINGS = 4
_SHOWN = 10
_LEAST_COVERED = 0.5
_MOST_ROWS_AGAIN = 24

_RULES = {
    True: "以上是文件的一部分。请按下面的要求提取，只提取这一部分里确实写着的内容，数值与名称照抄原文；"
    "没有写的填 null，没有记录就给空列表。\n\n要求：{instruction}",
    False: "Above is a part of a document. Extract what the instruction asks for, only what this part does say, values "
    "as they are written; null for what it does not say, an empty list where there are no records."
    "\n\nInstruction: {instruction}",
}
_BAD = {
    True: "这些值不在原文中：{values}。请改正，原文没有的填 null。",
    False: "These values are not in the text: {values}. Correct them; null for what the text does not say.",
}
_MISSED = {
    True: "表格中的这些行还没有提取，请提取：",
    False: "These rows of the table are missing; extract them:",
}


@dataclass
class Extractor:
    """Extracts one form from documents. After `extract`, the counts say how it went.

    `unread` are parts of which a piece was left out, because no answer about it fitted the form.
    """

    base: Base
    model: str
    instruction: str
    form: Form
    limit_s: float
    clock: Callable[[], float] = time.monotonic
    dropped: int = 0
    parts: int = 0
    parts_read: int = 0
    unread: set[int] = field(default_factory=set)
    _schema: Schema = field(init=False)
    _chinese: bool = field(init=False)

    def __post_init__(self) -> None:
        self._schema = self.form.plain
        self._chinese = is_chinese(self.instruction)

    async def extract(self, documents: Sequence[Document]) -> Any:
        """Return what documents hold of the form, merged in their order, without parts that no time was left for."""
        window = self.base.context_tokens
        room = (window - text_tokens(self.instruction) - 400) // 3
        parts = await parts_of(documents, max(min(room, _MOST_PART), min(_LEAST_PART, window // 4)))
        overlaps = ["", *(self._overlap(before, part) for before, part in pairwise(parts))]
        began = self.clock()
        done = await each(
            lambda at: self._part(parts[at], overlaps[at]),
            range(len(parts)),
            _AT_ONCE,
            lambda: self.clock() - began < self.limit_s,
        )
        read = dict(done)
        self.parts, self.parts_read = len(parts), len(read.keys() - self.unread)
        return merged([read[at] for at in sorted(read)], self._schema, [overlaps[at] for at in sorted(read)])

    def _overlap(self, before: Part, part: Part) -> str:
        """Return the end of the part before, where it is of the same document: a record may begin there."""
        if before.document.id != part.document.id:
            return ""
        end = before.pieces[-1].text[-_OVERLAP_CHARS:]
        return end[end.find("\n") + 1 :]

    async def _part(self, part: Part, overlap: str, depth: int = 0) -> Any:
        text = f"{overlap}\n{part.text}" if overlap else part.text
        halves = part.halves()
        try:
            value = await self._asked(text)
        except shaped.Unfit:
            if len(halves) < 2 or depth >= _MOST_HALVINGS:
                self.unread.add(part.number)
                return merged([], self._schema, [])
            value = None
        full = value is not None and len(self._records(value)) >= MOST_RECORDS
        if len(halves) > 1 and depth < _MOST_HALVINGS and (value is None or full):
            first, second = halves
            between = self._overlap(first, second)
            both = [await self._part(first, overlap, depth + 1), await self._part(second, between, depth + 1)]
            return merged(both, self._schema, [overlap, between])
        return await self._completed(value, part, text)

    async def _asked(self, text: str, more: str = "") -> Any:
        """Have a text read once, and once more where values were made up; what still is made up is left out."""
        prompt = f"{text}\n\n{_RULES[self._chinese].format(instruction=self.instruction)}"
        turns = [Message("user", f"{prompt}\n\n{more}" if more else prompt)]
        source = Source(text)
        limit = max(min(4096, self.base.context_tokens - text_tokens(turns[0].text) - 200), 256)
        value = self._opened(await shaped.ask(self.base, self.model, turns, self._part_form(), max_tokens=limit))
        bad = list(unbacked(value, self._schema, source))
        if bad:
            values = ", ".join(dict.fromkeys(f"“{wrong}”" for _, wrong in bad[:_SHOWN]))
            turns = [Message("user", f"{turns[0].text}\n\n{_BAD[self._chinese].format(values=values)}")]
            with contextlib.suppress(shaped.Unfit):  # the first answer was right in all else
                value = self._opened(
                    await shaped.ask(self.base, self.model, turns, self._part_form(), max_tokens=limit)
                )
            bad = list(unbacked(value, self._schema, source))
            self.dropped += len(bad)
            value = without(value, {path for path, _ in bad})
        return value

    def _part_form(self) -> Schema:
        form = loose(self._schema)
        if form.get("type") == "object":
            return form
        return {
            "type": "object",
            "properties": {"records": form},
            "required": ["records"],
            "additionalProperties": False,
        }

    def _opened(self, value: Any) -> Any:
        return value if self._schema.get("type") == "object" else value["records"]

    def _records(self, value: Any) -> list[Any]:
        place = self.form.records
        if place is None:
            return value if isinstance(value, list) else []
        return (value if place[0] is None else value.get(place[0])) or []

    async def _completed(self, value: Any, part: Part, text: str) -> Any:
        """Have the rows of a part's tables read that no record has come of: models tire of long ones."""
        if value is None or self.form.records is None:
            return value
        found = [table for piece in part.pieces for table in tables([Page(piece.first_page, piece.text)])[0]]
        records = list(self._records(value))
        added = False
        for table in found:
            missed = _missed(records, table.rows)
            if not missed or len(missed) > (1 - _LEAST_COVERED) * len(table.rows):
                continue  # all there, or not a table of these records
            for at in range(0, len(missed), _MOST_ROWS_AGAIN):
                rows = written(table.headers, [row.cells for row in missed[at : at + _MOST_ROWS_AGAIN]])
                try:
                    more = await self._asked(f"{_MISSED[self._chinese]}\n\n{rows}")
                except shaped.Unfit:
                    continue
                records += [record for record in self._records(more) if not is_empty(record) and record not in records]
                added = True
        if not added:
            return value
        plain = squeezed(text)
        records.sort(key=lambda record: _place(record, plain))
        key = self.form.records[0]
        return records if key is None else {**value, key: records}


def _missed(records: Sequence[Any], rows: Sequence[Row]) -> list[Row]:
    """Return the rows that none of the records is of: half of a record's values must be in the row."""
    said = [
        [squeezed(str(value)) for value in record.values() if not is_empty(value)]
        for record in records
        if isinstance(record, dict)
    ]
    missed: list[Row] = []
    for row in rows:
        cells = squeezed(" ".join(row.cells))
        if not any(values and 2 * sum(value in cells for value in values) > len(values) for values in said):
            missed.append(row)
    return missed


def _place(record: Any, text: str) -> int:
    values = record.values() if isinstance(record, dict) else [record]
    places = [
        place for value in values if isinstance(value, str) and value and (place := text.find(squeezed(value))) >= 0
    ]
    return min(places, default=len(text))


__all__ = ["Extractor"]
