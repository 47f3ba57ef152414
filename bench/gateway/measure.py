"""Measure gateways in turns: the servers behind them, the load before them, their memory meanwhile."""

import contextlib
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

import msgspec
import psutil

from bench import peers
from bench.load import Outcome, Spec
from bench.peers import Peer, on_core
from hanlin.testing import free_port

PACE = 20  # tokens a second of a paced stream
_SERVERS = 2
_SAMPLE_S = 0.5
_SETTLE_LIMIT_S = 20.0
_IDLE_SHARE = 0.1
_LONGEST_OVERTIME_S = 120.0


@dataclass(frozen=True)
class Options:
    """How long and how hard to measure."""

    seconds: float = 5.0
    rounds: int = 3
    connections: int = 32
    streams: int = 500
    chunks: int = 50
    writes: str = "one"
    max_body_bytes: int = 64 * 1024 * 1024


@dataclass(frozen=True)
class Cores:
    """Which core is whose. On two cores the servers and the load share one."""

    gateway: int
    servers: int
    load: int

    @classmethod
    def of(cls, available: Sequence[int]) -> "Cores":
        first, second, third = (*available, *[available[-1]] * 2)[:3]
        return cls(first, second, third)


@dataclass(frozen=True)
class Target:
    """Something to call: a gateway, or with pid 0 the server itself."""

    name: str
    port: int
    path: str = "/v1/chat/completions"
    headers: Mapping[str, str] = field(default_factory=dict)
    pid: int = 0

    @classmethod
    def of(cls, peer: Peer, running: peers.Running) -> "Target":
        return cls(peer.name, running.port, peer.path, peer.headers, running.pid)

    def spec(self, **how: object) -> Spec:
        """Return a spec that calls this target."""
        base = {"port": self.port, "path": self.path, "headers": dict(self.headers)}
        return msgspec.convert({**base, **how}, Spec)


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """One target's round. `added` is over the direct call at the same rate; `stolen_share` is how much of a core the
    machine's host took away while that was measured. Memory is 0 for the direct call.
    """

    plain: Outcome
    streamed: Outcome
    paced: Outcome
    half: Outcome
    added_p50_ms: float
    added_p99_ms: float
    stolen_share: float
    core_share: float
    rss_before_mb: float
    rss_peak_mb: float
    rss_after_mb: float

    @property
    def problems(self) -> dict[str, int]:
        """What went wrong in all of its runs, and how often."""
        found: dict[str, int] = {}
        for outcome in (self.plain, self.streamed, self.paced, self.half):
            for problem, count in outcome.errors.items():
                found[problem] = found.get(problem, 0) + count
        return found


class Memory:
    """The resident memory of a process and its children, sampled in a thread within the block."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.before_mb = self.peak_mb = self.after_mb = self.now_mb()

    def now_mb(self) -> float:
        return sum(_resident(process) for process in _tree(self._pid)) / 1e6

    def _sample(self) -> None:
        while not self._over.wait(_SAMPLE_S):
            self.peak_mb = max(self.peak_mb, self.now_mb())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        self.after_mb = self.now_mb()
        self.peak_mb = max(self.peak_mb, self.after_mb)


def _tree(pid: int) -> list[psutil.Process]:
    if not pid:
        return []
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _resident(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.NoSuchProcess):
        return int(process.memory_info().rss)
    return 0


def busy_s(pid: int) -> float:
    """Return how much time a process and its children have spent computing."""
    total = 0.0
    for process in _tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


def stolen_s(cores: Cores) -> list[float]:
    """Return how long a virtual machine's host has kept each of the cores waiting; 0 on a machine of one's own."""
    times = psutil.cpu_times(percpu=True)
    return [getattr(times[core], "steal", 0.0) for core in (cores.gateway, cores.servers, cores.load)]


@contextlib.contextmanager
def servers(core: int) -> Iterator[tuple[int, ...]]:
    """Start the canned upstream on one core and yield its ports."""
    ports = tuple(free_port() for _ in range(_SERVERS))
    command = [sys.executable, "-m", "bench.canned_upstream", *(str(port) for port in ports)]
    with peers.process(command, core, None, None) as pid:
        while peers.answers(ports[-1], "/health") != 200:
            if peers.ended(pid):
                raise RuntimeError("the canned upstream did not start")
            time.sleep(0.05)
        yield ports


def load(spec: Spec, core: int) -> Outcome:
    """Run the load of one spec and return what came of it."""
    with on_core(core):
        child = subprocess.run(
            [sys.executable, "-m", "bench.load"],
            input=msgspec.json.encode(spec),
            stdout=subprocess.PIPE,
            check=True,
            timeout=spec.warm_s + spec.seconds + _LONGEST_OVERTIME_S,
        )
    return msgspec.json.decode(child.stdout, type=Outcome)


def rest(target: Target) -> None:
    """Stop a gateway where it is, so that what it does by itself takes nothing from the one whose turn it is."""
    _signal(target.pid, signal.SIGSTOP)


def wake(target: Target) -> None:
    """Let a gateway go on."""
    _signal(target.pid, signal.SIGCONT)


def _signal(pid: int, what: signal.Signals) -> None:
    for process in _tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(what)


def settle(target: Target) -> None:
    """Wait until a gateway has nothing more to do from its start or from earlier callers, or long enough."""
    until = time.monotonic() + _SETTLE_LIMIT_S
    while time.monotonic() < until:
        before = busy_s(target.pid)
        time.sleep(_SAMPLE_S)
        if busy_s(target.pid) - before < _IDLE_SHARE * _SAMPLE_S:
            return


def turn(target: Target, direct: Target, options: Options, cores: Cores) -> Figures:
    """Measure one target once, everything after each other."""
    about = {"seconds": options.seconds, "connections": options.connections, "chunks": options.chunks}
    with Memory(target.pid) as memory:
        worked = busy_s(target.pid)
        plain = load(target.spec(**about), cores.load)
        share = (busy_s(target.pid) - worked) / (options.seconds + target.spec().warm_s)
        rate = max(plain.per_second / 2, 1.0)
        steady = {**about, "mode": "open", "rate": rate}
        began, stolen = time.monotonic(), stolen_s(cores)
        half = load(target.spec(**steady), cores.load)
        floor = half if target is direct else load(direct.spec(**steady), cores.load)
        stolen = [after - before for before, after in zip(stolen, stolen_s(cores), strict=True)]
        stolen_share = max(stolen) / (time.monotonic() - began)
        streamed = load(target.spec(**about, stream=True, writes=options.writes), cores.load)
        paced = load(paced_spec(target, options), cores.load)
        settle(target)
    return Figures(
        plain=plain,
        streamed=streamed,
        paced=paced,
        half=half,
        added_p50_ms=half.p50_ms - floor.p50_ms,
        added_p99_ms=half.p99_ms - floor.p99_ms,
        stolen_share=stolen_share,
        core_share=share,
        rss_before_mb=memory.before_mb,
        rss_peak_mb=memory.peak_mb,
        rss_after_mb=memory.after_mb,
    )


def paced_spec(target: Target, options: Options) -> Spec:
    """Many streams at once that say 20 tokens a second, for at least as long as everything else is measured."""
    seconds = max(options.seconds, 5.0)
    return target.spec(
        mode="paced",
        stream=True,
        seconds=seconds,
        connections=options.streams,
        chunks=round(seconds * PACE),
        pace=PACE,
    )


def medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the median of every figure."""
    return {name: statistics.median(figures[name] for figures in rounds) for name in rounds[0]}
