"""`hanlin workspaces`: who pays, and how much all the keys of one may use together."""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from msgspec import UNSET
from rich.console import RenderableType

from hanlin.cli import show, times
from hanlin.cli.administering import Where, changed, every_workspace, looked, with_place
from hanlin.cli.help import Menu, Page, examples
from hanlin.cli.options import CsvOption, JsonOption
from hanlin.cli.show import Misused
from hanlin.cli.tables import Column, Fitting, table
from hanlin.cli.terms import LIMITS, Given, in_short, limit_terms, limits_change, with_terms
from hanlin.service.administration import tables
from hanlin.service.administration.values import NewWorkspace, WorkspaceChange, WorkspaceView
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
@with_place
@with_terms("name", *LIMITS, "keep_content")
def create(
    as_json: JsonOption = False,
    *,
    given: Given,
    place: Where,
) -> None:
    if not given.get("name"):
        raise Misused(say("--name: a workspace needs one", "--name：业务空间需要名称"))
    keeps = given.get("keep_content", False)
    new = NewWorkspace(name=given["name"], limits=limit_terms(given), keeps_content=keeps)
    row = changed(place, lambda administration: administration.make_workspace(new))
    if as_json:
        show.data(row)
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
@with_place
def list_workspaces(as_json: JsonOption = False, as_csv: CsvOption = False, *, place: Where) -> None:
    show.one_form(as_json, as_csv)
    nothing: list[WorkspaceView] = []
    rows = looked(place, every_workspace, nothing)
    if as_json:
        show.data(rows)
    elif as_csv:
        sys.stdout.write(tables.table(rows, tables.head_of(WorkspaceView)))
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
@with_place
@with_terms("name", *LIMITS, "keep_content")
def change(
    workspace: Annotated[str, typer.Argument(metavar="W", help=say("Its name or id.", "名称或编号。"))],
    as_json: JsonOption = False,
    *,
    given: Given,
    place: Where,
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

    wanted = WorkspaceChange(
        name=given.get("name", UNSET),
        limits=limits_change(given),
        keeps_content=given.get("keep_content", UNSET),
    )
    row = changed(place, lambda administration: administration.change_workspace(workspace, wanted))
    if as_json:
        show.data(row)
        return
    limits = ", ".join(_in_short(row)) or say("no limits", "无限制")
    show.note(say(f"{row.id} {show.plain(row.name)}: {limits}", f"{row.id} {show.plain(row.name)}：{limits}"))


def view(rows: Sequence[WorkspaceView]) -> RenderableType:
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


def _in_short(row: WorkspaceView) -> list[str]:
    return [*in_short(row.limits), *([say("keeps content", "保存内容")] if row.keeps_content else [])]
