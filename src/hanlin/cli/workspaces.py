"""`hanlin workspaces`: who pays, and how much all the keys of one may use together."""

from typing import Annotated, Any

import msgspec
import typer
from rich.console import RenderableType

from hanlin.cli import show, times
from hanlin.cli.help import Menu, Page, examples
from hanlin.cli.options import HomeOption, JsonOption, home_of
from hanlin.cli.show import Misused
from hanlin.cli.stored import WHO, in_store, looked_up, workspace_of
from hanlin.cli.tables import Column, Fitting, table
from hanlin.cli.terms import LIMITS, Given, in_short, limits_of, with_terms
from hanlin.home import prepare
from hanlin.store.database import Store
from hanlin.store.rows import UNLIMITED, Workspace
from hanlin.words import say

workspaces = typer.Typer(
    name="workspaces",
    cls=Menu,
    no_args_is_help=True,
    help=say(
        "Make, list and change workspaces: who pays.\n\nLimits hold for all of a workspace's keys together. "
        "Every key is in one; `default` is always there. Works on the service's database, as `hanlin keys` does.",
        "创建、列出与修改业务空间：由谁付费。\n\n业务空间的限制对其全部密钥合计生效。每个密钥都属于一个业务空间；"
        "`default` 始终存在。与 `hanlin keys` 一样直接操作服务的数据库。",
    ),
    epilog=examples(
        "hanlin workspaces create --name research --budget 100 --rpm 600",
        "hanlin keys create --name ci --workspace research",
        "hanlin usage --workspace research",
    ),
)


@workspaces.command(
    cls=Page,
    help=say("Make a workspace.\n\nLimits that are left out do not exist.", "创建业务空间。\n\n未给出的限制即不存在。"),
    epilog=examples(
        "hanlin workspaces create --name research", "hanlin workspaces create --name ci --budget 10 --json"
    ),
)
@with_terms("name", *LIMITS, "keep_content")
def create(home: HomeOption = None, as_json: JsonOption = False, *, given: Given) -> None:
    if not given.get("name"):
        raise Misused(say("--name: a workspace needs one", "--name：业务空间需要名称"))
    limits = limits_of(given, UNLIMITED)
    place = home_of(home)
    prepare(place)
    keeps = given.get("keep_content", False)
    row = in_store(
        place, lambda store: store.workspaces.add(given["name"], limits=limits, keeps_content=keeps, who=WHO)
    )
    if as_json:
        show.data(described(row))
        return
    show.note(
        say(
            f"{row.id}: `hanlin keys create --workspace {row.id}` makes a key in it",
            f"{row.id}：可用 `hanlin keys create --workspace {row.id}` 在其中创建密钥",
        )
    )


@workspaces.command(
    "list",
    cls=Page,
    help=say("List all workspaces with their limits.\n\nDates are UTC.", "列出所有业务空间及其限制。\n\n日期为 UTC。"),
    epilog=examples("hanlin workspaces list", "hanlin workspaces list --json"),
)
def list_workspaces(home: HomeOption = None, as_json: JsonOption = False) -> None:
    nothing: tuple[Workspace, ...] = ()
    rows = looked_up(home_of(home), lambda store: store.workspaces.all(), nothing)
    if as_json:
        show.data([described(row) for row in rows])
    elif rows:
        show.page(view(rows))
    else:
        show.note(
            say(
                "none yet: `hanlin workspaces create` makes one, and the first `hanlin serve` makes `default`",
                "此处尚无数据：可用 `hanlin workspaces create` 创建，首次 `hanlin serve` 会创建 `default`",
            )
        )


@workspaces.command(
    cls=Page,
    help=say(
        "Change a workspace's name, its limits, or whether its prompts and answers are stored.\n\nAn option that is "
        "not given leaves things as they are; `none` takes a limit away (--rpm none). A budget keeps what was spent of "
        "it. What was stored stays until its calls are purged.",
        "修改业务空间的名称、限制，或是否保存其提示词与回答。\n\n未给出的选项保持不变；`none` 表示取消该限制"
        "（--rpm none）。预算的已用部分保留；已保存的内容随账目一并清除。",
    ),
    epilog=examples(
        "hanlin workspaces change default --budget 100 --budget-period day",
        "hanlin workspaces change research --rpm none --keep-content yes",
    ),
)
@with_terms("name", *LIMITS, "keep_content")
def change(
    workspace: Annotated[str, typer.Argument(metavar="W", help=say("Its name or id.", "名称或编号。"))],
    home: HomeOption = None,
    as_json: JsonOption = False,
    *,
    given: Given,
) -> None:
    if not given:
        raise Misused(
            say(
                "nothing to change. See `hanlin workspaces change --help`",
                "没有要修改的内容。请看 `hanlin workspaces change --help`",
            )
        )
    if given.get("name") == "":
        raise Misused(say("--name: a workspace needs one", "--name：业务空间需要名称"))

    def edit(row: Workspace) -> Workspace:
        return msgspec.structs.replace(
            row,
            name=given.get("name", row.name),
            limits=limits_of(given, row.limits),
            keeps_content=given.get("keep_content", row.keeps_content),
        )

    async def act(store: Store) -> Workspace:
        found = await workspace_of(store, workspace)
        return await store.workspaces.change(found.id, edit, who=WHO)

    place = home_of(home)
    prepare(place)
    row = in_store(place, act)
    if as_json:
        show.data(described(row))
        return
    limits = ", ".join(_in_short(row)) or say("no limits", "无限制")
    show.note(say(f"{row.id} {show.plain(row.name)}: {limits}", f"{row.id} {show.plain(row.name)}：{limits}"))


def described(row: Workspace) -> dict[str, Any]:
    """Return a workspace's row for programs."""
    fields: dict[str, Any] = msgspec.to_builtins(row)
    return fields


def view(rows: tuple[Workspace, ...]) -> RenderableType:
    """Return the list."""
    columns = [
        Column("id", whole=True),
        Column(say("name", "名称")),
        Column(say("limits", "限制")),
        Column(say("made", "创建日期"), whole=True),
    ]
    forms = [
        table(
            columns,
            [[row.id, row.name, separator.join(_in_short(row)) or "–", times.day(row.created_at)] for row in rows],
        )
        for separator in (", ", "\n")
    ]
    return Fitting(*forms)


def _in_short(row: Workspace) -> list[str]:
    return [*in_short(row.limits), *([say("keeps content", "保存内容")] if row.keeps_content else [])]
