"""`hanlin usage`: what calls came to, by whom or what, and the latest calls one by one. Reads only."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec
import typer

from hanlin.cli import one_call, show, times, usage_rows, usage_views
from hanlin.cli.help import examples
from hanlin.cli.options import HomeOption, JsonOption, home_of
from hanlin.cli.show import Misused
from hanlin.cli.stored import looked_up, workspace_of
from hanlin.cli.usage_rows import COLUMNS, Names
from hanlin.home import Home
from hanlin.store.database import Store
from hanlin.store.rows import Dimension, Filters, Total
from hanlin.store.rows import Page as Calls
from hanlin.words import say

USAGE_HELP = say(
    "Show what calls came to: how many, their tokens, their cost.\n\n"
    "Costliest first; days in their order, with bars. `cached` is part of the prompt, `reasoning` of the completion; "
    "`list` is what the vendor's list charges for the name. Times without a zone are UTC, as the days of bills are. "
    "With --calls: the latest calls one by one. Calls appear within two seconds of their end.",
    "显示调用的合计：次数、token 数与费用。\n\n"
    "费用高者在前；按日统计时依日期排列并附条形图。“缓存”含于输入，“思考”含于输出；“官方价”为该名称按官方价目应付的费用。"
    "未注明时区的时间均为 UTC，与计费日一致。加 --calls 逐条列出最近的调用。调用结束后两秒内可见。",
)
USAGE_EXAMPLES = examples(
    "hanlin usage --since 7d --by day",
    "hanlin usage --by key --by model --since 2026-11-01 --until 2026-12-01 --csv",
    "hanlin usage --calls 50 --model qwen-plus",
    "hanlin usage --call 0192f3e1-7c2a-7b60-9d1e-3f5a8c4b2e10",
)

Form = Literal["json", "csv", "page"]
Value = TypeVar("Value")

_USUAL_CALLS = 20
_MOST_CALLS = 1000

_BY_WORDS = ", ".join(COLUMNS)


class Asked(NamedTuple):
    """Which calls a question is about, in the caller's words; each is "" where the field is open."""

    since: str = ""
    until: str = ""
    key: str = ""
    workspace: str = ""
    model: str = ""


def usage(
    count: Annotated[
        int | None,
        typer.Argument(
            metavar="N",
            help=say(f"With --calls: how many [{_USUAL_CALLS}].", f"与 --calls 连用：条数 [{_USUAL_CALLS}]。"),
        ),
    ] = None,
    since: Annotated[
        str,
        typer.Option("--since", metavar="DATE", help=say("From then on: 2026-12-01, 7d.", "起始：2026-12-01、7d。")),
    ] = "",
    until: Annotated[
        str, typer.Option("--until", metavar="DATE", help=say("Up to then, not included.", "截止（不含）。"))
    ] = "",
    by: Annotated[
        list[str] | None,
        typer.Option("--by", metavar="WHAT", help=say(f"{_BY_WORDS} [model].", f"{_BY_WORDS} [model]。")),
    ] = None,
    key: Annotated[str, typer.Option("--key", metavar="ID", help=say("Only this key.", "仅此密钥。"))] = "",
    workspace: Annotated[
        str, typer.Option("--workspace", metavar="W", help=say("Only this one, by name or id.", "仅此业务空间。"))
    ] = "",
    model: Annotated[str, typer.Option("--model", metavar="NAME", help=say("Only this name.", "仅此模型名称。"))] = "",
    calls: Annotated[bool, typer.Option("--calls", help=say("List single calls.", "逐条列出调用。"))] = False,
    call: Annotated[
        str,
        typer.Option(
            "--call",
            metavar="ID",
            help=say("One call, whole; with its content if kept.", "单个调用的全部信息；含已保存的内容。"),
        ),
    ] = "",
    before: Annotated[
        str,
        typer.Option("--before", metavar="MARK", help=say("With --calls: the next page.", "与 --calls 连用：下一页。")),
    ] = "",
    home: HomeOption = None,
    as_json: JsonOption = False,
    as_csv: Annotated[bool, typer.Option("--csv", help=say("Print CSV.", "输出 CSV。"))] = False,
) -> None:
    if as_json and as_csv:
        raise Misused(say("--json and --csv: give one of them", "--json 与 --csv 只能选其一"))
    place, asked = home_of(home), Asked(since, until, key, workspace, model)
    filters = _filters(asked)
    form: Form = "json" if as_json else "csv" if as_csv else "page"
    if call:
        if calls or by or as_csv:
            raise Misused(say("--call shows one call; leave the rest out", "--call 仅显示单个调用；请去掉其他选项"))
        one_call.show_call(place, call, as_json=as_json)
        return
    if calls:
        if by:
            raise Misused(say("--by adds calls up; leave it out with --calls", "--by 用于合计；与 --calls 不能连用"))
        wanted = _USUAL_CALLS if count is None else count
        if not 1 <= wanted <= _MOST_CALLS:
            raise Misused(
                say(
                    f"--calls {wanted}: 1 to {_MOST_CALLS} make a page", f"--calls {wanted}：每页 1 至 {_MOST_CALLS} 条"
                )
            )
        _list_calls(place, asked, filters, before, wanted, form)
    elif count is not None or before:
        raise Misused(say("N and --before go with --calls", "N 与 --before 需与 --calls 连用"))
    else:
        _add_up(place, asked, filters, _dimensions(by or ["model"]), form)


def _add_up(place: Home, asked: Asked, filters: Filters, by: Sequence[Dimension], form: Form) -> None:
    async def act(store: Store) -> tuple[tuple[Total, ...], tuple[Total, ...], Names]:
        exact = await _resolved(store, asked, filters)
        rows = await store.ledger.totals(by, exact)
        return in_order(rows), await store.ledger.totals((), exact), await _names(store)

    nothing: tuple[tuple[Total, ...], tuple[Total, ...], Names] = ((), (), Names())
    rows, sums, names = looked_up(place, act, nothing)
    flat = [usage_rows.total_row(total, by, names) for total in rows]
    if form == "csv":
        usage_rows.csv_table(flat, usage_rows.total_head(by))
    elif form == "json":
        total = [usage_rows.total_row(one, (), names) for one in sums]
        show.data({**_time(filters), "by": [*by], "rows": flat, "total": total})
    elif not rows:
        _say_nothing(asked)
    else:
        show.page(usage_views.totals_table(rows, sums, by, names))
        bars = usage_views.chart(rows)
        if bars is not None:
            show.page("")
            show.page(bars)
        if guessed := sum(total.estimated for total in sums):
            show.remark(
                say(
                    f"The tokens of {guessed:,} calls are an estimate: nobody counted to the end.",
                    f"其中 {guessed:,} 次调用的 token 数为估算值。",
                )
            )


def _list_calls(place: Home, asked: Asked, filters: Filters, before: str, count: int, form: Form) -> None:
    mark = _read("--before", before, usage_rows.mark_of) if before else None

    async def act(store: Store) -> tuple[Calls, Names]:
        return await store.ledger.page(await _resolved(store, asked, filters), mark, count), await _names(store)

    page, names = looked_up(place, act, (Calls((), None), Names()))
    onward = usage_rows.written(page.next)
    flat = [usage_rows.call_row(call) for call in page.rows]
    if form == "json":
        show.data({**_time(filters), "calls": flat, "next": onward})
        return
    if form == "csv":
        usage_rows.csv_table(flat, usage_rows.call_head())
    elif page.rows:
        show.page(usage_views.calls_table(page.rows, names))
    else:
        _say_nothing(asked)
    if onward is not None:
        show.note(say(f"older ones: the same with --before {onward}", f"更早的：同一命令加 --before {onward}"))


def in_order(totals: Iterable[Total]) -> tuple[Total, ...]:
    """Return totals as people look for them: days in their order, then the costliest first, then the most tokens."""

    def place(total: Total) -> tuple[date, int, int, int]:
        return total.day or date.min, -total.cost_nanos, -total.usage.total, -total.calls

    return tuple(sorted(totals, key=place))


def _dimensions(words: Sequence[str]) -> tuple[Dimension, ...]:
    unknown = [word for word in words if word not in COLUMNS]
    if unknown:
        raise Misused(say(f"--by {unknown[0]!r}: there are {_BY_WORDS}", f"--by {unknown[0]!r}：可选值为 {_BY_WORDS}"))
    return tuple(dict.fromkeys(COLUMNS[word] for word in words))


def _filters(asked: Asked) -> Filters:
    """Return what can be said without a look into the database. Raises Misused."""
    now = datetime.now(UTC)
    since, until = (
        _read(option, text, lambda text: times.moment(text, now, "ago")) if text else None
        for option, text in (("--since", asked.since), ("--until", asked.until))
    )
    if since is not None and until is not None and since >= until:
        raise Misused(
            say("--since is not before --until: no time lies between them", "--since 不早于 --until：其间没有时间")
        )
    return Filters(key_id=asked.key, model=asked.model, since=since, until=until)


async def _resolved(store: Store, asked: Asked, filters: Filters) -> Filters:
    """Return the filters with a workspace's id for its name. Raises UnknownKey and Failed for what does not exist."""
    if asked.key:
        await store.keys.get(asked.key)
    if not asked.workspace:
        return filters
    found = await workspace_of(store, asked.workspace)
    return msgspec.structs.replace(filters, workspace_id=found.id)


async def _names(store: Store) -> Names:
    return Names(
        {key.id: key for key in await store.keys.all()}, {one.id: one.name for one in await store.workspaces.all()}
    )


def _time(filters: Filters) -> dict[str, Any]:
    return {"since": filters.since, "until": filters.until}


def _read(option: str, text: str, read: Callable[[str], Value]) -> Value:
    try:
        return read(text)
    except ValueError as error:
        raise Misused(say(f"{option} {text!r}: {error}", f"{option} {text!r}：{error}")) from error


def _say_nothing(asked: Asked) -> None:
    if any(asked):
        show.note(say("no call fits this question", "没有符合条件的调用"))
    else:
        show.note(
            say(
                "no call yet: `hanlin chat` makes one once `hanlin serve` runs",
                "尚无调用：启动 `hanlin serve` 后可用 `hanlin chat` 提问",
            )
        )
