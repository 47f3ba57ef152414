"""`hanlin limits`: what each model may be used, by all callers together."""

from collections.abc import Sequence
from typing import Annotated

import typer
from msgspec import UNSET
from rich.console import RenderableType

from hanlin.cli import show
from hanlin.cli.administering import Where, changed, looked, with_place
from hanlin.cli.help import Menu, Page, examples
from hanlin.cli.options import JsonOption
from hanlin.cli.show import Misused
from hanlin.cli.tables import Column, Fitting, table
from hanlin.cli.terms import LIMITS, Given, in_short, limits_change, with_terms
from hanlin.service.administration.values import (
    ModelLimitsChange,
    ModelLimitsNamed,
    ModelLimitsPage,
    ModelLimitsView,
)
from hanlin.words import say

_FEW_NAMES = 3

limits = typer.Typer(
    name="limits",
    cls=Menu,
    no_args_is_help=True,
    help=say(
        "Set, list and remove the limits of models, all callers together.\n\nA pattern counts for each of its names "
        "apart; the very name comes before a pattern, a longer pattern before a shorter one. A running service keeps "
        "to a change within a second. Keys and workspaces have limits of their own.",
        "设置、列出与取消模型的限额（所有调用方合计）。\n\n模式对其匹配的每个名称分别计数；同名优先于模式，较长的模式优先于较短的。"
        "运行中的服务在一秒内生效。密钥与业务空间另有各自的限额。",
    ),
    epilog=examples(
        "hanlin limits set 'qwen3-*' --rpm 600", "hanlin limits set qwen3-max --budget 100", "hanlin limits list"
    ),
)

PatternArgument = Annotated[
    str,
    typer.Argument(
        metavar="PATTERN", help=say("A name, or a pattern of names (qwen3-*).", "名称，或名称模式（qwen3-*）。")
    ),
]


@limits.command(
    "set",
    cls=Page,
    help=say(
        "Set or change the limits of a name or pattern.\n\nAn option that is not given leaves things as they are; "
        "`none` takes a limit away. A name with nothing but `none` is free of what a pattern would hold it to.",
        "设置或修改某个名称或模式的限额。\n\n未给出的选项保持不变；`none` 表示取消该项。"
        "仅设为 `none` 的名称不受模式约束。",
    ),
    epilog=examples("hanlin limits set 'qwen3-*' --rpm 600 --tpm 1000000", "hanlin limits set qwen3-max --rpm none"),
)
@with_place
@with_terms(*LIMITS)
def set_command(pattern: PatternArgument, as_json: JsonOption = False, *, given: Given, place: Where) -> None:
    terms = limits_change(given)
    if terms is UNSET:
        raise Misused(
            say(
                "nothing to set. See `hanlin limits set --help`",
                "没有要设置的内容。请看 `hanlin limits set --help`",
            )
        )
    wanted = ModelLimitsChange(pattern=pattern, limits=terms)
    row = changed(place, lambda administration: administration.change_limits(wanted))
    if as_json:
        show.data(row)
        return
    words = ", ".join(in_short(row.limits)) or say("no limits", "无限制")
    count = len(row.names)
    each = say(f" (each of {count} names)", f"（{count} 个名称各自计数）") if count > 1 else ""
    show.note(say(f"{row.pattern}: {words}{each}", f"{row.pattern}：{words}{each}"))


@limits.command(
    "list",
    cls=Page,
    help=say("List the limits of models, and the names that they count for.", "列出模型的限额及其适用的名称。"),
    epilog=examples("hanlin limits list", "hanlin limits list --json"),
)
@with_place
def list_command(as_json: JsonOption = False, *, place: Where) -> None:
    rows = looked(place, lambda administration: administration.limits(), ModelLimitsPage(data=())).data
    if as_json:
        show.data(rows)
    elif rows:
        show.page(view(rows))
    else:
        show.note(say("none: `hanlin limits set` makes one", "暂无：可用 `hanlin limits set` 设置"))


@limits.command(
    cls=Page,
    help=say("Remove the limits of a name or pattern.", "取消某个名称或模式的限额。"),
    epilog=examples("hanlin limits remove 'qwen3-*'"),
)
@with_place
def remove(pattern: PatternArgument, as_json: JsonOption = False, *, place: Where) -> None:
    named = ModelLimitsNamed(pattern=pattern)
    row = changed(place, lambda administration: administration.remove_limits(named))
    if as_json:
        show.data(row)
        return
    show.note(say(f"{row.pattern}: no limits any more", f"{row.pattern}：已取消限额"))


def view(rows: Sequence[ModelLimitsView]) -> RenderableType:
    """Return the list."""
    columns = [
        Column(say("pattern", "模式")),
        Column(say("limits, each", "限额（每个名称）")),
        Column(say("names", "名称")),
    ]
    forms = [
        table(columns, [[row.pattern, separator.join(in_short(row.limits)) or "–", _some(row.names)] for row in rows])
        for separator in (", ", "\n")
    ]
    return Fitting(*forms)


def _some(names: tuple[str, ...]) -> str:
    more = len(names) - _FEW_NAMES
    listed = ", ".join(names[:_FEW_NAMES]) or say("none now", "暂无")
    return listed if more <= 0 else say(f"{listed} and {more} more", f"{listed} 等 {len(names)} 个")
