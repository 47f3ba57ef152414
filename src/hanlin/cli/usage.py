"""`hanlin usage`: what calls came to, by whom or what, and the latest calls one by one. Reads only."""

import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal, TypedDict, TypeVar

import msgspec
import typer
from msgspec.structs import replace

from hanlin.cli import one_call, show, times, usage_views
from hanlin.cli.administering import Where, looked, pages, with_place
from hanlin.cli.help import examples
from hanlin.cli.options import CsvOption, JsonOption
from hanlin.cli.show import Misused
from hanlin.errors import InvalidRequest
from hanlin.service.administration import cursors, tables
from hanlin.service.administration.operations import Administration
from hanlin.service.administration.values import (
    MOST_ROWS,
    WORDS,
    CallPage,
    CallsAsked,
    CallView,
    Usage,
    UsageAsked,
    Word,
)
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
    "hanlin usage --calls --all --csv --since 2026-11-01",
    "hanlin usage --call 0192f3e1-7c2a-7b60-9d1e-3f5a8c4b2e10",
)

Form = Literal["json", "csv", "page"]
Value = TypeVar("Value")

_USUAL_CALLS = 20
_HEAD = tables.head_of(CallView)

_BY_WORDS = ", ".join(WORDS)


class Filters(TypedDict):
    """Which calls a question is about; "" and None leave a field open."""

    since: datetime | None
    until: datetime | None
    key: str
    workspace: str
    model: str


@with_place
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
    everything: Annotated[
        bool, typer.Option("--all", help=say("With --calls: every page.", "与 --calls 连用：全部导出。"))
    ] = False,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
    *,
    place: Where,
) -> None:
    show.one_form(as_json, as_csv)
    filters = _filters(since, until, key, workspace, model)
    form: Form = "json" if as_json else "csv" if as_csv else "page"
    if call:
        if calls or by or as_csv:
            raise Misused(say("--call shows one call; leave the rest out", "--call 仅显示单个调用；请去掉其他选项"))
        one_call.show_call(place, call, as_json=as_json)
        return
    if calls:
        if by:
            raise Misused(say("--by adds calls up; leave it out with --calls", "--by 用于合计；与 --calls 不能连用"))
        if everything:
            if form == "page" or count is not None or before:
                raise Misused(
                    say(
                        "--all exports every call: give --json or --csv, and neither N nor --before",
                        "--all 导出全部调用：请给出 --json 或 --csv，且不与 N、--before 连用",
                    )
                )
            _export(place, filters, form)
            return
        wanted = _USUAL_CALLS if count is None else count
        if not 1 <= wanted <= MOST_ROWS:
            raise Misused(
                say(f"--calls {wanted}: 1 to {MOST_ROWS} make a page", f"--calls {wanted}：每页 1 至 {MOST_ROWS} 条")
            )
        _list_calls(place, filters, before, wanted, form)
    elif count is not None or before or everything:
        raise Misused(say("N, --before and --all go with --calls", "N、--before 与 --all 需与 --calls 连用"))
    else:
        _add_up(place, filters, _words(by or ["model"]), form)


def _add_up(place: Where, filters: Filters, by: tuple[Word, ...], form: Form) -> None:
    asked = UsageAsked(**filters, by=by)
    nothing = Usage(since=asked.since, until=asked.until, by=by, rows=(), total=())
    usage = looked(place, lambda administration: administration.usage(asked), nothing)
    if form == "csv":
        sys.stdout.write(tables.table(usage.rows, tables.usage_head(by)))
    elif form == "json":
        show.data(usage)
    elif not usage.rows:
        _say_nothing(filters)
    else:
        show.page(usage_views.totals_table(usage))
        bars = usage_views.chart(usage.rows)
        if bars is not None:
            show.page("")
            show.page(bars)
        if guessed := sum(total.estimated for total in usage.total):
            show.remark(
                say(
                    f"The tokens of {guessed:,} calls are an estimate: nobody counted to the end.",
                    f"其中 {guessed:,} 次调用的 token 数为估算值。",
                )
            )


def _list_calls(place: Where, filters: Filters, before: str, count: int, form: Form) -> None:
    try:
        cursors.mark_of(before)
    except InvalidRequest as error:
        raise Misused(f"--before: {error}") from error
    asked = CallsAsked(**filters, after=before, limit=count)
    page = looked(place, lambda administration: administration.calls(asked), CallPage(data=(), next=None))
    if form == "json":
        show.data({"since": asked.since, "until": asked.until, "calls": page.data, "next": page.next})
        return
    if form == "csv":
        sys.stdout.write(tables.table(page.data, tables.page_head(page)))
    elif page.data:
        show.page(usage_views.calls_table(page.data))
    else:
        _say_nothing(filters)
    if page.next is not None:
        show.note(say(f"older ones: the same with --before {page.next}", f"更早的：同一命令加 --before {page.next}"))


def _export(place: Where, filters: Filters, form: Form) -> None:
    """Print every call, page by page as they come: there may be more than fit into memory."""
    out = _CsvOut() if form == "csv" else _JsonOut(filters)

    async def act(administration: Administration) -> bool:
        total = (await administration.usage(UsageAsked(**filters, by=()))).total
        out.begin()  # not before it is known that the question makes sense
        with show.counting(sum(row.calls for row in total)) as counted:
            asked = CallsAsked(**filters, limit=MOST_ROWS)
            async for page in pages(lambda after: administration.calls(replace(asked, after=after))):
                out.rows(page.data)
                counted(len(page.data), page.next is None)
        return True

    if not looked(place, act, False):
        out.begin()
    out.end()


class _CsvOut:
    """Writes calls as CSV as they come."""

    def begin(self) -> None:
        sys.stdout.write(tables.table((), _HEAD))

    def rows(self, calls: Sequence[CallView]) -> None:
        sys.stdout.write(tables.table(calls, _HEAD, head=False))

    def end(self) -> None:
        pass


class _JsonOut:
    """Writes calls as one JSON object as they come, a line each."""

    def __init__(self, filters: Filters) -> None:
        self._time = {"since": filters["since"], "until": filters["until"]}
        self._between = "\n"

    def begin(self) -> None:
        sys.stdout.write(msgspec.json.encode(self._time).decode()[:-1] + ',"calls":[')

    def rows(self, calls: Sequence[CallView]) -> None:
        for call in calls:
            sys.stdout.write(self._between + msgspec.json.encode(call).decode())
            self._between = ",\n"

    def end(self) -> None:
        sys.stdout.write('\n],"next":null}\n')


def _words(given: Sequence[str]) -> tuple[Word, ...]:
    known: dict[str, Word] = {word: word for word in WORDS}
    for word in given:
        if word not in known:
            raise Misused(say(f"--by {word!r}: there are {_BY_WORDS}", f"--by {word!r}：可选值为 {_BY_WORDS}"))
    return tuple(dict.fromkeys(known[word] for word in given))


def _filters(since: str, until: str, key: str, workspace: str, model: str) -> Filters:
    """Return which calls a question is about. Raises Misused."""
    now = datetime.now(UTC)
    first, last = (
        _read(option, text, lambda text: times.moment(text, now, "ago")) if text else None
        for option, text in (("--since", since), ("--until", until))
    )
    if first is not None and last is not None and first >= last:
        raise Misused(
            say("--since is not before --until: no time lies between them", "--since 不早于 --until：其间没有时间")
        )
    return {"since": first, "until": last, "key": key, "workspace": workspace, "model": model}


def _read(option: str, text: str, read: Callable[[str], Value]) -> Value:
    try:
        return read(text)
    except ValueError as error:
        raise Misused(say(f"{option} {text!r}: {error}", f"{option} {text!r}：{error}")) from error


def _say_nothing(filters: Filters) -> None:
    if any(filters.values()):
        show.note(say("no call fits this question", "没有符合条件的调用"))
    else:
        show.note(
            say(
                "no call yet: `hanlin chat` makes one once `hanlin serve` runs",
                "尚无调用：启动 `hanlin serve` 后可用 `hanlin chat` 提问",
            )
        )
