"""How usage looks on a terminal: totals, bars for days, and the latest calls. Values in, renderables out."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, timedelta
from typing import NamedTuple

from msgspec import UNSET
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from hanlin.cli import money
from hanlin.cli.tables import Column, Fitting, table
from hanlin.metering.prices import LIST_CURRENCY
from hanlin.service.administration.values import CallView, Usage, UsageRow, Word
from hanlin.store.rows import Outcome
from hanlin.words import say

_TITLES: Mapping[Word, tuple[str, str]] = {
    "day": ("day", "日期"),
    "key": ("key", "密钥"),
    "workspace": ("workspace", "业务空间"),
    "model": ("model", "模型"),
    "deployment": ("deployment", "部署"),
    "surface": ("surface", "接口"),
}

_NOBODY = "–"

_EIGHTHS = " ▏▎▍▌▋▊▉█"
_MOST_BARS = 62  # two months of days; what is longer is drawn by month

_CALL_COST_DECIMALS = 6

_SIZES = ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "K"))


def totals_table(usage: Usage) -> Fitting:
    """Return the rows of usage with what they come to below them, one line for each currency.

    Where digits do not fit, tokens are written short (1.25M), and what is part of another column is left out.
    """
    rows, sums, by = usage.rows, usage.total, usage.by
    currencies = {total.currency for total in (*rows, *sums)}
    mixed = currencies - {LIST_CURRENCY} != set()
    created = any(total.cache_created_tokens for total in sums)

    def form(*, short: bool, parts: bool) -> Table:
        def numbers(total: UsageRow) -> list[str]:
            count = brief if short else _grouped
            tokens = [total.prompt_tokens, total.completion_tokens]
            if parts:
                cached, made = total.cached_tokens, total.cache_created_tokens
                cache = [cached, made] if created else [cached]
                tokens = [total.prompt_tokens, *cache, total.completion_tokens, total.reasoning_tokens]
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
        lines = [[*(_shown(total, one) for one in by), *numbers(total)] for total in rows]
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


def _shown(total: UsageRow, word: Word) -> str:
    """Return what a total is told apart by: several keys may have one name."""
    if word == "key":
        return _key(str(total.key_id), str(total.key_name), str(total.key_hint)) or _NOBODY
    value = total.workspace_name or total.workspace_id if word == "workspace" else getattr(total, word)
    return str(value) if value else _NOBODY


def _key(key_id: str, name: str, hint: str) -> str:
    return f"{name} …{hint}" if name else key_id


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


def chart(totals: Iterable[UsageRow]) -> Bars | None:
    """Return the days' costs as bars, or their tokens where nothing was charged or in several currencies.

    Days without a call are drawn, too. None where there is no day.
    """
    days = [(total.day, total) for total in totals if total.day is not UNSET]
    if not days:
        return None
    currencies = {total.currency for _, total in days}
    by_cost = len(currencies) == 1 and any(total.cost_nanos for _, total in days)
    sums: Counter[date] = Counter()
    for day, total in days:
        sums[day] += total.cost_nanos if by_cost else total.prompt_tokens + total.completion_tokens
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
    shown: Callable[[CallView], str | Text]
    width: int = 0


_CALLS = (
    _CallColumn(Column(say("time (UTC)", "时间（UTC）"), whole=True), lambda call: f"{call.began_at:%m-%d %H:%M:%S}"),
    _CallColumn(Column(say("model", "模型")), lambda call: f"↳ {call.model}" if call.parent_id else call.model),
    _CallColumn(Column(say("key", "密钥")), lambda call: _key(call.key_id, call.key_name, call.key_hint), 1),
    _CallColumn(Column(say("deployment", "部署")), lambda call: call.deployment or _NOBODY, 2),
    _CallColumn(Column(say("outcome", "结果")), lambda call: _outcome(call)),
    _CallColumn(Column(say("prompt", "输入"), right=True), lambda call: _prompt(call)),
    _CallColumn(Column(say("compl.", "输出"), right=True), lambda call: _completion(call)),
    _CallColumn(Column(say("first s", "首字 秒"), right=True), lambda call: _seconds(call.first_token_ms), 2),
    _CallColumn(Column(say("s", "秒"), right=True), lambda call: _seconds(call.total_ms)),
    _CallColumn(Column(say("cost", "费用"), right=True), lambda call: _cost(call)),
    _CallColumn(Column("id", whole=True), lambda call: call.id, 3),
)

_CALL_WIDTHS = (3, 2, 1, 0)


def calls_table(calls: Sequence[CallView]) -> Fitting:
    """Return the calls in their order; wider forms say also whose they were, where they went, and their ids.

    Of a scenario's call it is what its caller was told; what was used stands in the calls made for it, marked by ↳.
    """

    def form(width: int) -> Table:
        chosen = [each for each in _CALLS if each.width <= width]
        return table([each.column for each in chosen], [[each.shown(call) for each in chosen] for call in calls])

    return Fitting(*map(form, _CALL_WIDTHS))


def _prompt(call: CallView) -> str:
    return _counted(call, call.prompt_tokens if call.told_prompt_tokens is None else call.told_prompt_tokens)


def _completion(call: CallView) -> str:
    told = call.told_completion_tokens
    return _counted(call, call.completion_tokens if told is None else told)


def _counted(call: CallView, count: int) -> str:
    return f"{'~' if call.estimated else ''}{count:,}"


def _cost(call: CallView) -> str:
    mark = money.sign(call.currency)
    return f"{mark}{' ' if len(mark) > 1 else ''}{money.rounded(call.cost_nanos, _CALL_COST_DECIMALS)}"


def _outcome(call: CallView) -> Text:
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
