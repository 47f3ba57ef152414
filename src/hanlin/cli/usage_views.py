"""How usage looks on a terminal: totals, bars for days, and the latest calls. Values in, renderables out."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import date, timedelta
from typing import NamedTuple

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from hanlin.cli import money
from hanlin.cli.tables import Column, Fitting, table
from hanlin.cli.usage_rows import Names
from hanlin.metering.prices import LIST_CURRENCY
from hanlin.store.rows import Dimension, LedgerRow, Outcome, Total
from hanlin.words import say

_TITLES: dict[str, tuple[str, str]] = {
    "day": ("day", "日期"),
    "key_id": ("key", "密钥"),
    "workspace_id": ("workspace", "业务空间"),
    "model": ("model", "模型"),
    "deployment": ("deployment", "部署"),
    "surface": ("surface", "接口"),
}

_NOBODY = "–"

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_MOST_BARS = 62  # two months of days; what is longer is drawn by month

_CALL_COST_DECIMALS = 6

_SIZES = ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "K"))


def totals_table(rows: Sequence[Total], sums: Sequence[Total], by: Sequence[Dimension], names: Names) -> Fitting:
    """Return the rows with what they come to below them, one line for each currency.

    Where digits do not fit, tokens are written short (1.25M), and what is part of another column is left out.
    """
    currencies = {total.currency for total in (*rows, *sums)}
    mixed = currencies - {LIST_CURRENCY} != set()
    created = any(total.cache_created for total in sums)

    def form(*, short: bool, parts: bool) -> Table:
        def numbers(total: Total) -> list[str]:
            count = brief if short else _grouped
            used = total.usage
            tokens = [used.prompt, used.completion]
            if parts:
                cache = [used.cached, total.cache_created] if created else [used.cached]
                tokens = [used.prompt, *cache, used.completion, used.reasoning]
            cost = money.rounded(total.cost_nanos)
            return [
                *(_grouped(number) for number in (total.calls, total.failed)),
                *(count(number) for number in tokens),
                f"{money.sign(total.currency)} {cost}" if mixed else cost,
                money.rounded(total.list_cost_nanos),
            ]

        columns = [
            *(Column(say(*_TITLES[one])) for one in by),
            *_number_columns(parts=parts, created=created, mixed=mixed),
        ]
        lines = [[*(_shown(total, one, names) for one in by), *numbers(total)] for total in rows]
        last = [
            [*((say("total", "合计") if place == 0 else "") for place in range(len(by))), *numbers(total)]
            for total in sums
        ]
        return table(columns, lines, last)

    forms = [form(short=short, parts=parts) for parts in (True, False) for short in (False, True)]
    return Fitting(*forms)


def _number_columns(*, parts: bool, created: bool, mixed: bool) -> list[Column]:
    prompt, completion = say("prompt", "输入"), say("completion", "输出")
    tokens = [prompt, completion]
    if parts:
        cache = [say("cached", "缓存"), say("created", "建缓存")] if created else [say("cached", "缓存")]
        tokens = [prompt, *cache, completion, say("reasoning", "思考")]
    cost = say("cost", "费用") if mixed else say("cost ¥", "费用 ¥")
    titles = [say("calls", "调用"), say("failed", "失败"), *tokens, cost, say("list ¥", "官方价 ¥")]
    return [Column(title, right=True) for title in titles]


def _shown(total: Total, dimension: Dimension, names: Names) -> str:
    value = getattr(total, dimension)
    return names.shown(dimension, str(value)) if value else _NOBODY


class Bars:
    """A bar for each day or month, as wide as the screen allows; each has its value beside it, so that none is
    guessed."""

    def __init__(self, title: str, values: Sequence[tuple[str, int, str]]) -> None:
        self._title = title
        self._values = values

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        labels = max(cell_len(label) for label, _, _ in self._values)
        words = max(cell_len(word) for _, _, word in self._values)
        room = max(options.max_width - labels - words - 4, 8)
        most = max(value for _, value, _ in self._values) or 1
        yield Text(self._title, "bold")
        for label, value, word in self._values:
            yield Text.assemble(label, "  ", (bar(value, most, room), "cyan"), f"  {word:>{words}}")


def bar(value: int, most: int, cells: int) -> str:
    """Return a bar of `cells` cells whose filled part is to the whole as a value is to the most; eighths count.

    What is not nothing does not look like nothing.
    """
    eighths = value * cells * 8 // most
    if value > 0:
        eighths = max(eighths, 1)
    whole, rest = divmod(eighths, 8)
    return f"{'█' * whole}{_EIGHTHS[rest] if rest else ''}".ljust(cells)


def chart(totals: Iterable[Total]) -> Bars | None:
    """Return the days' costs as bars, or their tokens where nothing was charged or in several currencies.

    Days without a call are drawn, too. None where there is no day.
    """
    days = [total for total in totals if total.day is not None]
    if not days:
        return None
    currencies = {total.currency for total in days}
    by_cost = len(currencies) == 1 and any(total.cost_nanos for total in days)
    sums: Counter[date] = Counter()
    for total in days:
        assert total.day is not None
        sums[total.day] += total.cost_nanos if by_cost else total.usage.total
    first, last = min(sums), max(sums)
    monthly = (last - first).days >= _MOST_BARS
    bars: Counter[str] = Counter()
    for number in range((last - first).days + 1):
        day = first + timedelta(days=number)
        bars[f"{day:%Y-%m}" if monthly else f"{day:%Y-%m-%d}"] += sums[day]
    mark = money.sign(currencies.pop())
    what = say(f"cost, {mark}", f"费用（{mark}）") if by_cost else say("tokens", "token 数")
    title = say(f"{what}, by {'month' if monthly else 'day'} (UTC)", f"每{'月' if monthly else '日'}{what}，UTC")
    return Bars(
        title, [(day, value, money.rounded(value) if by_cost else _grouped(value)) for day, value in bars.items()]
    )


class _CallColumn(NamedTuple):
    """A column of the list of calls, and from which width on it is there: 0 is the narrowest form."""

    column: Column
    shown: Callable[[LedgerRow, Names], str | Text]
    width: int = 0


_CALLS = (
    _CallColumn(
        Column(say("time (UTC)", "时间（UTC）"), whole=True), lambda call, _: f"{call.began_at:%m-%d %H:%M:%S}"
    ),
    _CallColumn(Column(say("model", "模型")), lambda call, _: call.model),
    _CallColumn(Column(say("key", "密钥")), lambda call, names: names.shown("key_id", call.key_id), 1),
    _CallColumn(Column(say("deployment", "部署")), lambda call, _: call.deployment or _NOBODY, 2),
    _CallColumn(Column(say("outcome", "结果")), lambda call, _: _outcome(call)),
    _CallColumn(Column(say("prompt", "输入"), right=True), lambda call, _: _counted(call, call.usage.prompt)),
    _CallColumn(Column(say("compl.", "输出"), right=True), lambda call, _: _counted(call, call.usage.completion)),
    _CallColumn(Column(say("first s", "首字 秒"), right=True), lambda call, _: _seconds(call.first_token_ms), 2),
    _CallColumn(Column(say("s", "秒"), right=True), lambda call, _: _seconds(call.total_ms)),
    _CallColumn(Column(say("cost", "费用"), right=True), lambda call, _: _cost(call)),
    _CallColumn(Column("id", whole=True), lambda call, _: call.id, 3),
)

_CALL_WIDTHS = (3, 2, 1, 0)


def calls_table(calls: Sequence[LedgerRow], names: Names) -> Fitting:
    """Return the calls in their order; wider forms say also whose they were, where they went, and their ids."""

    def form(width: int) -> Table:
        chosen = [each for each in _CALLS if each.width <= width]
        return table([each.column for each in chosen], [[each.shown(call, names) for each in chosen] for call in calls])

    return Fitting(*map(form, _CALL_WIDTHS))


def _counted(call: LedgerRow, count: int) -> str:
    return f"{'~' if call.estimated else ''}{count:,}"


def _cost(call: LedgerRow) -> str:
    mark = money.sign(call.currency)
    return f"{mark}{' ' if len(mark) > 1 else ''}{money.rounded(call.cost_nanos, _CALL_COST_DECIMALS)}"


def _outcome(call: LedgerRow) -> Text:
    word = {
        Outcome.ANSWERED: say("answered", "完成"),
        Outcome.FAILED: say("failed", "失败"),
        Outcome.CANCELLED: say("cancelled", "取消"),
        Outcome.INTERRUPTED: say("interrupted", "中断"),
    }[call.outcome]
    why = f" {call.status}" if call.outcome is Outcome.FAILED else ""
    return Text(f"{word}{why}", "" if call.outcome is Outcome.ANSWERED else "yellow")


def _seconds(ms: float | None) -> str:
    return _NOBODY if ms is None else f"{ms / 1000:.2f}"


def brief(count: int) -> str:
    """Write a count with three digits: 999, 12.3K, 1.25M."""
    step = 10 ** max(len(str(count)) - 3, 0)
    # Rounded before the unit is chosen, so that 999,999 does not become 1000K.
    rounded = (count + step // 2) // step * step
    size, unit = next(((size, unit) for size, unit in _SIZES if rounded >= size), (1, ""))
    digits = max(3 - len(str(rounded // size)), 0) if unit else 0
    return f"{rounded / size:.{digits}f}{unit}"


def _grouped(count: int) -> str:
    return f"{count:,}"
