"""`hanlin keys`: make, list, change, rotate and revoke the keys of callers, also while the service runs."""

import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.text import Text

from hanlin.cli import show, times
from hanlin.cli.administering import (
    Where,
    changed,
    every_key,
    every_workspace,
    looked,
    with_place,
)
from hanlin.cli.help import Menu, Page, examples
from hanlin.cli.options import CsvOption, JsonOption
from hanlin.cli.show import Misused
from hanlin.cli.tables import Column, Fitting, table
from hanlin.cli.terms import LIMITS, Given, in_short, limit_terms, limits_change, with_terms
from hanlin.service.administration import tables
from hanlin.service.administration.operations import Administration
from hanlin.service.administration.values import KeyChange, KeyView, NewKey, Rotation
from hanlin.words import say

_SOON = timedelta(days=2)

_KEY_TERMS = ("name", "workspace", "model", "surface", "address", *LIMITS, "expires", "role")

_FIELDS = {
    "name": "name",
    "workspace": "workspace",
    "model": "models",
    "surface": "surfaces",
    "address": "addresses",
    "expires": "expires_at",
    "role": "role",
}
"""The fields of a key by the options that set them."""

keys = typer.Typer(
    name="keys",
    cls=Menu,
    no_args_is_help=True,
    help=say(
        "Make, list, change, rotate and revoke keys.\n\nWorks on the service's database, whether it runs or not; "
        "a running one takes notice within a second. With --url it works on a service elsewhere, over its admin API. "
        "Only hashes are kept: a key is shown when it is made and never again.",
        "创建、列出、修改、轮换与吊销密钥。\n\n直接操作服务的数据库，无论服务是否运行；运行中的服务会在一秒内生效。"
        "加 --url 则通过管理 API 操作其他机器上的服务。仅保存哈希：密钥只在创建时显示一次。",
    ),
    epilog=examples(
        "export DASHSCOPE_API_KEY=$(hanlin keys create --name laptop)",
        "hanlin keys list",
        "hanlin keys create --name ci --model 'qwen3-*' --rpm 60 --budget 10",
    ),
)

IdArgument = Annotated[
    str,
    typer.Argument(
        metavar="ID", help=say("Its id, as `hanlin keys list` shows it.", "`hanlin keys list` 显示的编号。")
    ),
]


@keys.command(
    cls=Page,
    help=say(
        "Make a key and print it, this once.\n\nThe key alone goes to stdout. Without options it may call everything "
        "from anywhere; limits that are left out do not exist. --model, --surface and --address can be repeated.",
        "创建密钥并显示，仅此一次。\n\n标准输出只有密钥本身。不带选项时，调用不受限制；未给出的限制即不存在。"
        "--model、--surface 与 --address 可重复。",
    ),
    epilog=examples(
        "export DASHSCOPE_API_KEY=$(hanlin keys create)",
        "hanlin keys create --name ci --model 'qwen3-*' --rpm 60 --tpm 100000",
        "hanlin keys create --name guest --budget 10 --budget-period day --expires 30d",
    ),
)
@with_place
@with_terms(*_KEY_TERMS)
def create(
    as_json: JsonOption = False,
    *,
    given: Given,
    place: Where,
) -> None:
    new = NewKey(**_fields(given), limits=limit_terms(given))
    row = changed(place, lambda administration: administration.make_key(new))
    if as_json:
        show.data(row)
        return
    sys.stdout.write(f"{row.key}\n")
    show.note(
        say(
            f"{row.id}: shown this once; `hanlin keys revoke {row.id}` ends it",
            f"{row.id}：仅显示这一次；可用 `hanlin keys revoke {row.id}` 吊销",
        )
    )


@keys.command(
    "list",
    cls=Page,
    help=say(
        "List all keys with what they may do, revoked ones too.\n\nDates are UTC.",
        "列出所有密钥及其权限，包括已吊销的。\n\n日期为 UTC。",
    ),
    epilog=examples("hanlin keys list", "hanlin keys list --json", "hanlin keys list --csv"),
)
@with_place
def list_keys(as_json: JsonOption = False, as_csv: CsvOption = False, *, place: Where) -> None:
    show.one_form(as_json, as_csv)

    async def act(administration: Administration) -> tuple[list[KeyView], dict[str, str]]:
        rows = await every_key(administration)
        return rows, {one.id: one.name for one in await every_workspace(administration)}

    nothing: tuple[list[KeyView], dict[str, str]] = ([], {})
    rows, workspaces = looked(place, act, nothing)
    if as_json:
        show.data(rows)
    elif as_csv:
        sys.stdout.write(tables.table(rows, tables.head_of(KeyView)))
    elif rows:
        show.page(view(rows, workspaces, datetime.now(UTC)))
    else:
        show.note(
            say(
                "no key yet: `hanlin keys create` makes one, and so does the first `hanlin serve`",
                "尚无密钥：可用 `hanlin keys create` 创建，首次 `hanlin serve` 也会创建",
            )
        )


@keys.command(
    cls=Page,
    help=say(
        "Change what a key may do.\n\nAn option that is not given leaves things as they are; `none` takes a limit away "
        "(--rpm none, --model none). A budget keeps what was spent of it.",
        "修改密钥的权限与限制。\n\n未给出的选项保持不变；`none` 表示取消该限制（--rpm none、--model none）。"
        "预算的已用部分保留。",
    ),
    epilog=examples(
        "hanlin keys change key-0123456789abcdef --rpm 120 --budget 20",
        "hanlin keys change key-0123456789abcdef --rpm none --model none",
    ),
)
@with_place
@with_terms(*_KEY_TERMS)
def change(
    key_id: IdArgument,
    as_json: JsonOption = False,
    *,
    given: Given,
    place: Where,
) -> None:
    if not given:
        raise Misused(
            say(
                "nothing to change. See `hanlin keys change --help`",
                "没有要修改的内容。请看 `hanlin keys change --help`",
            )
        )
    wanted = KeyChange(**_fields(given), limits=limits_change(given))
    row = changed(place, lambda administration: administration.change_key(key_id, wanted))
    if as_json:
        show.data(row)
        return
    may = "; ".join(_may(row)) or say("everything, without limits", "不受限制")
    show.note(say(f"{row.id} …{row.hint} may now: {may}", f"{row.id} …{row.hint} 现在的权限：{may}"))


@keys.command(
    cls=Page,
    help=say(
        "Replace a key by a new one that may the same, and print it, this once.\n\nThe old one works for the overlap "
        "yet, so that programs can change over. Limits and budgets go on and do not begin anew.",
        "以权限相同的新密钥替换旧密钥并显示，仅此一次。\n\n旧密钥在重叠期内仍可使用，便于切换。限制与预算延续，不会重新计算。",
    ),
    epilog=examples(
        "hanlin keys rotate key-0123456789abcdef",
        "hanlin keys rotate key-0123456789abcdef --overlap 7d --json",
    ),
)
@with_place
def rotate(
    key_id: IdArgument,
    overlap: Annotated[
        str,
        typer.Option(
            "--overlap", metavar="LENGTH", help=say("How long the old one works yet [24h].", "旧密钥的保留时长 [24h]。")
        ),
    ] = "24h",
    as_json: JsonOption = False,
    *,
    place: Where,
) -> None:
    try:
        lasting = times.length(overlap)
    except ValueError as error:
        raise Misused(say(f"--overlap {overlap!r}: {error}", f"--overlap {overlap!r}：{error}")) from error
    rotation = Rotation(overlap_s=int(lasting.total_seconds()))
    row = changed(place, lambda administration: administration.rotate_key(key_id, rotation))
    if as_json:
        show.data(row)
        return
    sys.stdout.write(f"{row.key}\n")
    old = row.replaced
    assert old.expires_at is not None  # a rotation sets it
    until = times.shown(old.expires_at)
    show.note(
        say(
            f"{row.id}: shown this once; it replaces {old.id} …{old.hint}, which works until {until} UTC",
            f"{row.id}：仅显示这一次；替换 {old.id} …{old.hint}，后者可用至 {until} UTC",
        )
    )


@keys.command(
    cls=Page,
    help=say("Stop a key for good.", "永久吊销密钥。"),
    epilog=examples("hanlin keys list", "hanlin keys revoke key-0123456789abcdef"),
)
@with_place
def revoke(
    key_id: IdArgument,
    as_json: JsonOption = False,
    *,
    place: Where,
) -> None:
    async def act(administration: Administration) -> tuple[KeyView, bool]:
        row = await administration.revoke_key(key_id)
        return row, any(other.state == "works" for other in await every_key(administration))

    row, others = changed(place, act)
    if as_json:
        show.data(row)
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


def view(rows: Sequence[KeyView], workspaces: Mapping[str, str], now: datetime) -> RenderableType:
    """Return the list. On a narrow screen what a key may do stands in lines below each other."""
    columns = [
        Column("id", whole=True),
        Column(say("name", "名称")),
        Column(say("key", "密钥"), whole=True),
        Column(say("workspace", "业务空间")),
        Column(say("may", "权限与限制")),
        Column(say("state", "状态")),
    ]

    def form(separator: str) -> list[list[str | Text]]:
        return [
            [
                row.id,
                row.name,
                f"…{row.hint}" if row.hint else "",
                workspaces.get(row.workspace_id, row.workspace_id),
                separator.join(_may(row)) or "–",
                state_of(row, now),
            ]
            for row in rows
        ]

    return Fitting(table(columns, form(", ")), table(columns, form("\n")))


def state_of(row: KeyView, now: datetime) -> Text:
    """Return whether a key works, and until when, for people."""
    if row.revoked_at is not None:
        return Text(say(f"revoked {times.day(row.revoked_at)}", f"已吊销 {times.day(row.revoked_at)}"), "dim")
    if row.expires_at is None:
        return Text(say("works", "有效"), "green")
    if row.state == "expired":
        return Text(say(f"expired {times.day(row.expires_at)}", f"已过期 {times.day(row.expires_at)}"), "dim")
    left = row.expires_at - now
    if left < _SOON:
        word = times.left(left)
        return Text(say(f"expires in {word}", f"{word}后过期"), "yellow")
    return Text(say(f"expires {times.day(row.expires_at)}", f"{times.day(row.expires_at)} 过期"), "green")


def _may(row: KeyView) -> list[str]:
    """Return what narrows a key, in short; nothing for one that may everything."""
    found = [", ".join(words) for words in (row.models, row.surfaces, row.addresses) if words]
    if row.role:
        found.append(say(f"role {row.role}", f"角色 {row.role}"))
    return [*found, *in_short(row.limits)]


def _fields(given: Given) -> dict[str, Any]:
    """Return the fields of a key that the options set, its limits apart."""
    return {field: given[option] for option, field in _FIELDS.items() if option in given}
