"""One call of the ledger, whole: every column by its name, and what was said where its workspace keeps that."""

from typing import Any

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from hanlin.cli import show, usage_rows
from hanlin.cli.show import Failed
from hanlin.cli.stored import looked_up
from hanlin.home import Home
from hanlin.store.database import Store
from hanlin.store.rows import Content, LedgerRow
from hanlin.words import say

Found = tuple[LedgerRow | None, Content | None]


def show_call(place: Home, call_id: str, *, as_json: bool) -> None:
    """Print a call. Raises Failed when the ledger has none of this id."""

    async def act(store: Store) -> Found:
        return await store.ledger.find(call_id), await store.contents.find(call_id)

    nobody: Found = (None, None)
    call, content = looked_up(place, act, nobody)
    if call is None:
        raise Failed(
            say(
                f"no call has the id {call_id!r}: `hanlin usage --calls --json` shows the ids, within two seconds of "
                "a call's end",
                f"没有编号为 {call_id!r} 的调用：`hanlin usage --calls --json` 可查看编号；调用结束后两秒内可见",
            )
        )
    kept = None if content is None else {"prompt": _json(content.prompt), "answer": _json(content.answer)}
    if as_json:
        show.data({**usage_rows.call_row(call), "content": kept})
        return
    show.page(view(usage_rows.call_row(call), kept))


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


def _json(text: str) -> Any:
    return msgspec.json.decode(text)
