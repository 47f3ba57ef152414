"""`hanlin keys`: make, list and revoke the keys that callers identify themselves with, also while the service runs."""

import asyncio
import dataclasses
import sys
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

import typer
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from hanlin.cli import show
from hanlin.cli.help import Menu, Page, examples
from hanlin.cli.options import HomeOption, JsonOption, home_of
from hanlin.home import Home, prepare, server_secret
from hanlin.keys import hash_key, hint, new_key
from hanlin.store.database import Store, open_store
from hanlin.store.keys import KeyRow
from hanlin.words import say

Result = TypeVar("Result")

keys = typer.Typer(
    name="keys",
    cls=Menu,
    no_args_is_help=True,
    help=say(
        "Make, list and revoke keys.\n\nWorks on the home's database, whether the service runs or not; a running one "
        "takes notice within a second. Only hashes are kept: a key is shown when it is made and never again.",
        "创建、列出与吊销密钥。\n\n直接操作主目录的数据库，无论服务是否运行；运行中的服务会在一秒内生效。"
        "仅保存哈希：密钥只在创建时显示一次。",
    ),
    epilog=examples("export DASHSCOPE_API_KEY=$(hanlin keys create --name laptop)", "hanlin keys list"),
)


@keys.command(
    cls=Page,
    help=say(
        "Make a key and print it, this once.\n\nThe key alone goes to stdout.",
        "创建密钥并显示，仅此一次。\n\n标准输出只有密钥本身。",
    ),
    epilog=examples("hanlin keys create --name ci", "export DASHSCOPE_API_KEY=$(hanlin keys create)"),
)
def create(
    name: Annotated[
        str, typer.Option("--name", metavar="NAME", help=say("What it is for, to tell keys apart.", "用途，便于区分。"))
    ] = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    place = home_of(home)
    key = new_key()
    prepare(place)
    hashed = hash_key(server_secret(place), key)
    row = _in_store(place, lambda store: store.keys.add(name, hashed, hint(key)))
    if as_json:
        show.data({**described(row), "key": key})
        return
    sys.stdout.write(f"{key}\n")
    show.note(
        say(
            f"{row.id}: shown this once; `hanlin keys revoke {row.id}` ends it",
            f"{row.id}：仅显示这一次；可用 `hanlin keys revoke {row.id}` 吊销",
        )
    )


@keys.command(
    "list",
    cls=Page,
    help=say("List all keys, revoked ones too.", "列出所有密钥，包括已吊销的。"),
    epilog=examples("hanlin keys list", "hanlin keys list --json"),
)
def list_keys(home: HomeOption = None, as_json: JsonOption = False) -> None:
    place = home_of(home)
    # Looking at a home that was never used must not make one.
    rows = _in_store(place, lambda store: store.keys.all()) if place.database.exists() else ()
    if as_json:
        show.data([described(row) for row in rows])
    elif rows:
        show.page(view(rows))
    else:
        show.note(
            say(
                "no key yet: `hanlin keys create` makes one, and so does the first `hanlin serve`",
                "尚无密钥：可用 `hanlin keys create` 创建，首次 `hanlin serve` 也会创建",
            )
        )


@keys.command(
    cls=Page,
    help=say("Stop a key for good.", "永久吊销密钥。"),
    epilog=examples("hanlin keys list", "hanlin keys revoke key-0123456789abcdef"),
)
def revoke(
    key_id: Annotated[
        str,
        typer.Argument(
            metavar="ID", help=say("Its id, as `hanlin keys list` shows it.", "`hanlin keys list` 显示的编号。")
        ),
    ],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    place = home_of(home)
    prepare(place)

    async def act(store: Store) -> tuple[KeyRow, bool]:
        row = await store.keys.revoke(key_id)
        return row, any(other.revoked_at is None for other in await store.keys.all())

    row, others = _in_store(place, act)
    if as_json:
        show.data(described(row))
        return
    show.note(
        say(
            f"{row.id} …{row.hint} is revoked: calls with it are refused within a second",
            f"{row.id} …{row.hint} 已吊销：一秒内，使用它的调用将被拒绝",
        )
    )
    if not others:
        show.note(
            say(
                "no key works any more: `hanlin keys create` makes one",
                "已没有可用的密钥：可用 `hanlin keys create` 创建",
            )
        )


def described(row: KeyRow) -> dict[str, Any]:
    """Return a key's row for programs; not its hash."""
    fields = dataclasses.asdict(row)
    del fields["hash"]
    return fields


def view(rows: tuple[KeyRow, ...]) -> RenderableType:
    """Return the list."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for title in ("id", say("name", "名称"), say("key", "密钥"), say("made", "创建时间"), say("state", "状态")):
        table.add_column(title, overflow="fold")
    for row in rows:
        state = (
            Text(say("works", "有效"), "green")
            if row.revoked_at is None
            else Text(say(f"revoked {row.revoked_at:%Y-%m-%d}", f"已吊销 {row.revoked_at:%Y-%m-%d}"), "dim")
        )
        made = row.created_at.astimezone()
        table.add_row(row.id, Text(row.name), f"…{row.hint}" if row.hint else "", f"{made:%Y-%m-%d %H:%M}", state)
    return table


def _in_store(home: Home, act: Callable[[Store], Awaitable[Result]]) -> Result:
    """Run one step on the home's database. Raises what opening and the step raise."""

    async def run() -> Result:
        async with await open_store(home.database) as store:
            return await act(store)

    return asyncio.run(run())
