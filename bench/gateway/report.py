"""Put what was measured into tables, and say beside each bar whether it was reached."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from bench.gateway.measure import Figures, Options, medians

FLAT_MB = 5.0
QUIET_SHARE = 0.01  # of a core: who takes more decides what the slowest hundredth of all calls waits for

Medians = Mapping[str, float]


def flat(figures: Figures) -> dict[str, float]:
    """Return a round's figures by name."""
    return {
        "requests_per_s": figures.plain.per_second,
        "p50_ms": figures.plain.p50_ms,
        "p99_ms": figures.plain.p99_ms,
        "core_share": figures.core_share,
        "half_per_s": figures.half.per_second,
        "added_p50_ms": figures.added_p50_ms,
        "added_p99_ms": figures.added_p99_ms,
        "stolen_share": figures.stolen_share,
        "streams_per_s": figures.streamed.per_second,
        "chunks_per_s": figures.streamed.chunks_per_second,
        "stream_p99_ms": figures.streamed.p99_ms,
        "delay_p50_ms": figures.paced.delay_p50_ms,
        "delay_p99_ms": figures.paced.delay_p99_ms,
        "streams_ended": figures.paced.streams_ended,
        "rss_before_mb": figures.rss_before_mb,
        "rss_peak_mb": figures.rss_peak_mb,
        "rss_after_mb": figures.rss_after_mb,
        "errors": sum(figures.problems.values()),
    }


@dataclass(frozen=True)
class Bar:
    """Something that Hanlin should reach: `value` returns None where this run cannot tell."""

    text: str
    value: Callable[[Mapping[str, Sequence[Medians]], Mapping[str, Medians]], float | None]
    reached: Callable[[float], bool]
    unit: str


def _ratio(figure: str, other: str, one: str = "hanlin") -> Callable[[object, Mapping[str, Medians]], float | None]:
    def value(_rounds: object, middle: Mapping[str, Medians]) -> float | None:
        return ratio(middle[one][figure], middle[other][figure]) if {one, other} <= set(middle) else None

    return value


def _growth(rounds: Mapping[str, Sequence[Medians]], _middle: object) -> float | None:
    after = [figures["rss_after_mb"] for figures in rounds["hanlin"]]
    return after[-1] - after[0] if len(after) > 1 else None


def _added_p99(rounds: Mapping[str, Sequence[Medians]], _middle: object) -> float | None:
    """Return the median of the rounds in which the host left the machine alone."""
    quiet = [one["added_p99_ms"] for one in rounds["hanlin"] if one["stolen_share"] < QUIET_SHARE]
    return statistics.median(quiet) if quiet else None


BARS: Sequence[Bar] = (
    Bar("unstreamed >= 0.7 of vllm-router", _ratio("requests_per_s", "vllm-router"), lambda x: x >= 0.7, "x"),
    Bar("unstreamed >= 80 of LiteLLM", _ratio("requests_per_s", "litellm"), lambda x: x >= 80, "x"),
    Bar("streamed >= 1.5 of vllm-router", _ratio("streams_per_s", "vllm-router"), lambda x: x >= 1.5, "x"),
    Bar(
        "with limits and ledger >= 0.8 of without",
        _ratio("requests_per_s", "hanlin", "hanlin-accounts"),
        lambda x: x >= 0.8,
        "x",
    ),
    Bar(
        f"p99 added at half of its maximum <= 2 ms, where the host takes less than {QUIET_SHARE:.0%} of a core",
        _added_p99,
        lambda x: x <= 2,
        " ms",
    ),
    Bar(
        "resident at most 120 MB",
        lambda _, middle: middle["hanlin"]["rss_peak_mb"],
        lambda x: x <= 120,
        " MB",
    ),
    Bar(
        f"memory flat: after the last round <= {FLAT_MB:.0f} MB above the first", _growth, lambda x: x <= FLAT_MB, " MB"
    ),
)


def ratio(ours: float, theirs: float) -> float | None:
    return ours / theirs if theirs else None


def show(console: Console, rounds: Mapping[str, Sequence[Figures]], options: Options) -> Mapping[str, Medians]:
    """Print everything and return the medians by target."""
    figures = {name: [flat(one) for one in several] for name, several in rounds.items()}
    middle = {name: medians(several) | _whole_run(several) for name, several in figures.items()}
    console.print(_calls(middle, options), _streams(middle, options), _memory(middle))
    for name, several in rounds.items():
        for problem, count in _problems(several).items():
            console.print(f"[red]{name}: {count} x {problem}[/red]", highlight=False)
    if "hanlin" in figures:
        for bar in BARS:
            _judge(console, bar, figures, middle)
    return middle


def _whole_run(several: Sequence[Medians]) -> dict[str, float]:
    """Return the memory of all rounds together: what it was at first, at most, and at last."""
    return {
        "rss_before_mb": several[0]["rss_before_mb"],
        "rss_peak_mb": max(figures["rss_peak_mb"] for figures in several),
        "rss_after_mb": several[-1]["rss_after_mb"],
    }


def _judge(console: Console, bar: Bar, figures: Mapping[str, Sequence[Medians]], middle: Mapping[str, Medians]) -> None:
    value = bar.value(figures, middle)
    if value is None:
        console.print(f"  --  {bar.text}: this run cannot tell", highlight=False)
        return
    word = "[green]pass[/green]" if bar.reached(value) else "[red]fail[/red]"
    console.print(f"{word}  {bar.text}: {value:.2f}{bar.unit}", highlight=False)


def _problems(several: Sequence[Figures]) -> dict[str, int]:
    found: dict[str, int] = {}
    for figures in several:
        for problem, count in figures.problems.items():
            found[problem] = found.get(problem, 0) + count
    return found


def _calls(middle: Mapping[str, Medians], options: Options) -> Table:
    columns = (
        "req/s",
        "p50 ms",
        "p99 ms",
        "core",
        "x vllm-router",
        "x LiteLLM",
        "half req/s",
        "added p50",
        "added p99",
        "stolen",
    )
    table = _table(f"unstreamed, {options.connections} connections; then at half of that rate", columns)
    for name, row in middle.items():
        table.add_row(
            name,
            f"{row['requests_per_s']:,.0f}",
            f"{row['p50_ms']:.2f}",
            f"{row['p99_ms']:.2f}",
            f"{row['core_share']:.0%}" if row["core_share"] else "",
            *_beside(row, middle, "requests_per_s"),
            f"{row['half_per_s']:,.0f}",
            f"{row['added_p50_ms']:.2f}",
            f"{row['added_p99_ms']:.2f}",
            f"{row['stolen_share']:.1%}",
        )
    return table


def _streams(middle: Mapping[str, Medians], options: Options) -> Table:
    written = "in one write" if options.writes == "one" else "a write each"
    columns = ("streams/s", "chunks/s", "p99 ms", "x vllm-router", "x LiteLLM", "delay p50 ms", "delay p99 ms", "ended")
    table = _table(
        f"streamed, {options.chunks} chunks {written}, {options.connections} connections; "
        f"then {options.streams} streams at 20 tokens/s",
        columns,
    )
    for name, row in middle.items():
        table.add_row(
            name,
            f"{row['streams_per_s']:,.0f}",
            f"{row['chunks_per_s']:,.0f}",
            f"{row['stream_p99_ms']:.2f}",
            *_beside(row, middle, "streams_per_s"),
            f"{row['delay_p50_ms']:.2f}",
            f"{row['delay_p99_ms']:.2f}",
            f"{row['streams_ended']:.0f}",
        )
    return table


def _memory(middle: Mapping[str, Medians]) -> Table:
    table = _table(
        "resident memory, all processes; and calls that failed", ("before MB", "peak MB", "after MB", "errors")
    )
    for name, row in middle.items():
        memory = (f"{row[figure]:.0f}" for figure in ("rss_before_mb", "rss_peak_mb", "rss_after_mb"))
        table.add_row(name, *(memory if row["rss_peak_mb"] else ("", "", "")), f"{row['errors']:.0f}")
    return table


def _beside(row: Medians, middle: Mapping[str, Medians], figure: str) -> tuple[str, str]:
    first, second = (
        ratio(row[figure], middle[other][figure]) if other in middle else None for other in ("vllm-router", "litellm")
    )
    return (f"{first:.2f}" if first else "", f"{second:.1f}" if second else "")


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table
