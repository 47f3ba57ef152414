"""One call of the ledger, whole: every column by its name, and what was said where its workspace keeps that."""

from typing import Any

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hanlin.cli import show
from hanlin.cli.administering import Where, looked
from hanlin.cli.show import Failed
from hanlin.service.administration.operations import Administration
from hanlin.service.administration.values import CallDetail
from hanlin.words import say


def show_call(place: Where, call_id: str, *, as_json: bool) -> None:
    """Print a call. Raises what asking for it raises, and Failed for a home without a database."""
    nobody: CallDetail | None = None
    call = looked(place, lambda administration: _found(administration, call_id), nobody)
    if call is None:
        raise Failed(
            say(f"no call has the id {call_id!r}: there was none yet", f"没有编号为 {call_id!r} 的调用：尚无调用")
        )
    if as_json:
        show.data(call)
        return
    row = msgspec.to_builtins(call)
    kept = row.pop("content")
    show.page(view(row, kept))


async def _found(administration: Administration, call_id: str) -> CallDetail | None:
    return await administration.call(call_id)


def view(row: dict[str, Any], kept: dict[str, Any] | None) -> RenderableType:
    """Return the page: the columns that say something, then the content."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    for name, value in row.items():
        if value not in (None, "", {}, []):
            grid.add_row(name, Text(show.plain(str(value))))
    parts: list[RenderableType] = [grid]
    for title, value in (kept or {}).items():
        parts += [Text(""), Text(say(title, {"prompt": "提示词", "answer": "回答"}[title]), "bold"), _pretty(value)]
    return Group(*parts)


def _pretty(value: Any) -> Text:
    return Text(show.plain(msgspec.json.format(msgspec.json.encode(value), indent=2).decode()))
