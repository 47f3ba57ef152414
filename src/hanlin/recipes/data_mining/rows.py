"""Records out of tables, a row each: nothing is left out, whatever the length of the table.

Where every field is a column, the model only says which one, and the rows are copied. Where one is not, rows are read
in batches that fit an answer, counted, and asked for again until none is missing.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hanlin.errors import ContextLengthExceeded
from hanlin.metering.estimate import text_tokens
from hanlin.recipes import shaped
from hanlin.recipes.data_mining.forms import loose
from hanlin.recipes.data_mining.verifying import Source, is_empty, says_no_number, typed, unbacked, without
from hanlin.recipes.long_documents.figures import conditions_of, meets
from hanlin.recipes.parallel import each
from hanlin.recipes.recipe import Base
from hanlin.recipes.tables import Row, Table, written
from hanlin.recipes.texts import squeezed
from hanlin.types import Message, Schema

_SAMPLE_ROWS, _SAMPLE_CHARS = 3, 100
_BATCH_ROWS, _BATCH_TOKENS = 16, 700
_PASSES = 3
_AT_ONCE = 4
_NOWHERE = "(none)"
_SCALARS = ("string", "number", "integer", "boolean", None)

_TRANSFORMS = re.compile(
    r"转换|换算|翻译|译成|统一(?:为|成)|格式化|归一|大写|小写|计算|拼接|合并字段|缩写|推断|判断"
    r"|\bconvert|\btranslat|\bnormali[sz]|\bformat\b|\buppercase\b|\blowercase\b|\bcalculat|\binfer|\bjudge",
    re.IGNORECASE,
)
_FILTERS = re.compile(
    r"只[要提保需列]|仅[要提保需列限]|大于|小于|高于|低于|不[少低]于|超过|不超过|[\d元%]以[上下]|状态为|类型为|等于|满足|符合"
    r"|\bonly\b|\bwhere\b|\bgreater\b|\bless than\b|\bat least\b|\babove\b|\bbelow\b|\bmore than\b|\bexcept\b",
    re.IGNORECASE,
)


@dataclass
class Rows:
    """Reads the records of one table. `missed` counts rows that no record came of, `dropped` values without backing.

    Once `goes_on` says no, the base model is asked for no more rows.
    """

    base: Base
    model: str
    instruction: str
    record: Schema
    table: Table
    goes_on: Callable[[], bool] = lambda: True
    missed: int = 0
    dropped: int = 0
    copied: bool = False
    _fields: Mapping[str, Schema] = field(init=False)
    _columns: dict[str, int] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._fields = self.record["properties"]

    async def find(self) -> bool:
        """Find the columns that fields are, and say whether there are any."""
        headers = {squeezed(header): at for at, header in enumerate(self.table.headers)}
        self._columns = {name: headers[squeezed(name)] for name in self._fields if squeezed(name) in headers}
        unknown = [name for name in self._fields if name not in self._columns]
        if unknown:
            self._columns |= await self._named(unknown)
        return bool(self._columns)

    async def records(self) -> list[dict[str, Any]]:
        """Return a record of every row that the instruction is about, in the table's order; after `find`."""
        if self._can_copy() and (rows := await self._wanted()) is not None:
            self.copied = True
            return [made for row in rows if not is_empty(made := self._copied(row))]
        return await self._read()

    # --- every field is a column

    def _can_copy(self) -> bool:
        """Whether every field is a column, and no more than copied is asked for."""
        return (
            len(self._columns) == len(self._fields)
            and not _TRANSFORMS.search(self.instruction)
            and all(self._fits(self._fields[name], at) for name, at in self._columns.items())
        )

    async def _named(self, unknown: Sequence[str]) -> dict[str, int]:
        """Ask which columns some fields are."""
        headers = list(self.table.headers)
        form: Schema = {
            "type": "object",
            "properties": {name: {"enum": [*headers, _NOWHERE]} for name in unknown},
            "required": list(unknown),
            "additionalProperties": False,
        }
        rows = [[cell[:_SAMPLE_CHARS] for cell in row.cells] for row in self.table.rows[:_SAMPLE_ROWS]]
        sample = written(headers, rows)
        prompt = (
            f"{sample}\n\nSay for each field which column of this table holds it, {_NOWHERE} where no column does."
            f"\n\nInstruction: {self.instruction}"
        )
        try:
            named = await shaped.ask(self.base, self.model, [Message("user", prompt)], form, max_tokens=600)
        except (shaped.Unfit, ContextLengthExceeded):
            return {}
        return {name: headers.index(header) for name, header in named.items() if header != _NOWHERE}

    def _fits(self, schema: Schema, column: int) -> bool:
        """Whether a column's cells can be what a field must be."""
        if schema.get("type") not in _SCALARS:
            return False
        cells = [row.cells[column] for row in self.table.rows if row.cells[column]]
        if "enum" in schema:
            return all(cell in schema["enum"] for cell in cells)
        return all(typed(cell, schema) is not None or says_no_number(cell, schema) for cell in cells)

    async def _wanted(self) -> list[Row] | None:
        """Return the rows that the instruction is about; None where that cannot be worked out."""
        rows = list(self.table.rows)
        if not _FILTERS.search(self.instruction):
            return rows
        try:
            conditions = await conditions_of(self.base, self.model, self.instruction, self.table)
        except (shaped.Unfit, ContextLengthExceeded):
            return None
        kept = [row for row in rows if all(meets(row, self.table, condition) for condition in conditions)]
        return kept or None

    def _copied(self, row: Row) -> dict[str, Any]:
        cells = {name: row.cells[self._columns[name]] for name in self._fields}
        return {name: typed(cell, self._fields[name]) if cell else None for name, cell in cells.items()}

    # --- rows are read

    async def _read(self) -> list[dict[str, Any]]:
        """Have the rows read in batches; those that no record came of again, in smaller ones."""
        found: dict[int, dict[str, Any]] = {}
        waiting = list(range(len(self.table.rows)))
        filters = bool(_FILTERS.search(self.instruction))
        for number in range(_PASSES):
            most = max(_BATCH_ROWS >> (2 * number), 1)
            for _, records in await each(self._batch, self._batches(waiting, most), _AT_ONCE, self.goes_on):
                found |= records
            waiting = [row for row in waiting if row not in found]
            if not waiting or filters:  # a row may have been left out on purpose
                break
        self.missed = 0 if filters else len(waiting)
        return [found[row] for row in sorted(found)]

    def _batches(self, rows: Sequence[int], most: int) -> list[tuple[int, ...]]:
        batches: list[list[int]] = []
        left = 0
        for row in rows:
            cost = text_tokens(" ".join(self.table.rows[row].cells)) + 4
            if not batches or len(batches[-1]) >= most or cost > left:
                batches.append([])
                left = _BATCH_TOKENS
            batches[-1].append(row)
            left -= cost
        return [tuple(batch) for batch in batches]

    async def _batch(self, rows: tuple[int, ...]) -> dict[int, dict[str, Any]]:
        """Return the records of some rows, by row."""
        record = loose(self.record)
        sign = "#"
        while sign in self._fields or sign in self.table.headers:
            sign += "#"
        numbered: Schema = {
            "type": "object",
            "properties": {sign: {"enum": [row + 1 for row in rows]}, **record["properties"]},
            "required": [sign, *record["properties"]],
            "additionalProperties": False,
        }
        form: Schema = {
            "type": "object",
            "properties": {"records": {"type": "array", "maxItems": len(rows), "items": numbered}},
            "required": ["records"],
            "additionalProperties": False,
        }
        shown = written([sign, *self.table.headers], [(str(row + 1), *self.table.rows[row].cells) for row in rows])
        prompt = (
            f"{shown}\n\nMake one record of each of these {len(rows)} rows, with its number as {sign}. Take values "
            f"from the row as they are; null for what it does not say.\n\nInstruction: {self.instruction}"
        )
        size = text_tokens(shown)
        limit = min(3 * size + 40 * len(rows) + 200, max(self.base.context_tokens - text_tokens(prompt) - 200, 200))
        try:
            value = await shaped.ask(self.base, self.model, [Message("user", prompt)], form, max_tokens=limit)
        except (shaped.Unfit, ContextLengthExceeded):  # a cell can be longer than all that a model reads
            return {}
        found: dict[int, dict[str, Any]] = {}
        for made in value["records"]:
            row = made.pop(sign) - 1
            bad = list(unbacked(made, self.record, self._source(row)))
            if bad:
                made = without(made, {path for path, _ in bad})
                self.dropped += len(bad)
            if row not in found and not is_empty(made):
                found[row] = made
        return found

    def _source(self, row: int) -> Source:
        return Source("\n".join([*self.table.headers, *self.table.rows[row].cells]))


__all__ = ["Rows"]
