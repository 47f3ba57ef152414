"""Two closer looks at Hanlin: what a large request costs, and whether memory stays flat under a constant load."""

import subprocess
import sys
import time
from collections.abc import Sequence

import msgspec
from rich.console import Console

from bench.gateway.measure import Cores, Memory, Options, Target, load
from bench.peers import on_core

_EVERY_S = 10.0
_TELLING_MINUTES = 10.0
_WARM_SHARE = 0.2  # of a soak: caches fill and the allocator finds its size


def large_bodies(console: Console, target: Target, direct: Target, megabytes: float, cores: Cores) -> dict[str, float]:
    """Send large requests one after the other, direct and through the gateway in turns; return the figures."""
    how = {"connections": 1, "seconds": 3.0, "warm_s": 0.5, "body_bytes": round(megabytes * 1024 * 1024)}
    times: dict[str, list[float]] = {direct.name: [], target.name: []}
    load(target.spec(seconds=1.0), cores.load)  # what the first calls of any size take stays
    with Memory(target.pid) as memory:
        for number in range(3):
            for one in (direct, target) if number % 2 else (target, direct):
                outcome = load(one.spec(**how), cores.load)
                times[one.name].append(outcome.p50_ms)
                for problem, count in outcome.errors.items():
                    console.print(f"[red]{one.name}: {count} x {problem}[/red]")
                console.print(f"{one.name:10} {outcome.answered:5} calls, p50 {outcome.p50_ms:.1f} ms")
        time.sleep(1)
    before, through = (sorted(times[one.name])[1] for one in (direct, target))
    console.print(f"a body of {megabytes:g} MB takes {through - before:.1f} ms more at p50 than the direct call")
    console.print(
        f"resident: {memory.before_mb:.0f} MB before, {memory.peak_mb:.0f} peak, {memory.after_mb:.0f} after "
        f"(peak {memory.peak_mb - memory.before_mb:+.0f} MB)"
    )
    return {
        "direct_p50_ms": before,
        "through_p50_ms": through,
        "added_p50_ms": through - before,
        "rss_before_mb": memory.before_mb,
        "rss_peak_mb": memory.peak_mb,
        "rss_after_mb": memory.after_mb,
    }


def soak(
    console: Console, target: Target, minutes: float, options: Options, cores: Cores
) -> dict[str, float | list[tuple[float, float]]]:
    """Load a gateway with half of what it can do, print its memory every 10 s, and return it with its slope."""
    most = load(target.spec(seconds=options.seconds, connections=options.connections), cores.load).per_second
    rate = max(most / 2, 1.0)
    console.print(f"{most:,.0f} req/s at most; {rate:,.0f} req/s for {minutes:g} minutes")
    memory = Memory(target.pid)
    spec = target.spec(mode="open", rate=rate, seconds=minutes * 60, chunks=options.chunks)
    samples: list[tuple[float, float]] = []
    with on_core(cores.load):
        child = subprocess.Popen([sys.executable, "-m", "bench.load"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(msgspec.json.encode(spec))
    child.stdin.close()
    began = time.monotonic()
    while child.poll() is None:
        samples.append((time.monotonic() - began, memory.now_mb()))
        console.print(f"{samples[-1][0]:7.0f} s  {samples[-1][1]:7.1f} MB")
        try:
            child.wait(_EVERY_S)
        except subprocess.TimeoutExpired:
            continue
    console.print_json(child.stdout.read().decode())
    settled = [sample for sample in samples if sample[0] >= _WARM_SHARE * minutes * 60]
    slope = slope_per_s(settled) * 3600
    if minutes < _TELLING_MINUTES:
        console.print(f"[red]shorter than {_TELLING_MINUTES:g} minutes: the slope says little[/red]")
    console.print(f"slope after the first fifth: {slope:+.1f} MB an hour; before the load {memory.before_mb:.1f} MB")
    return {"rate": rate, "slope_mb_per_hour": slope, "samples": samples}


def slope_per_s(samples: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the least squares through the samples, 0 where there are too few."""
    if len(samples) < 2:
        return 0.0
    middle_x = sum(x for x, _ in samples) / len(samples)
    middle_y = sum(y for _, y in samples) / len(samples)
    spread = sum((x - middle_x) ** 2 for x, _ in samples)
    return sum((x - middle_x) * (y - middle_y) for x, y in samples) / spread if spread else 0.0
