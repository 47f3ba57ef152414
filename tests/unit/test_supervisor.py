"""The life of an engine's process: from its start to being ready, through its deaths and silences, to its end."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from hanlin.engines.supervisor import Exited, Loading, Ready, Starting, Stopped, Supervisor, backoff_s
from hanlin.errors import EngineFailed, EngineUnavailable

BECOME_READY = "import sys; orders = sys.stdin.readline(); print('{\"ready\": 1}', flush=True)\n"
STAY = "sys.stdin.read()"
LONG_S = 60.0
WAIT_S = 20.0


@dataclass(frozen=True)
class Child:
    """A small program in place of an engine."""

    program: str = BECOME_READY + STAY
    orders: Mapping[str, object] = field(default_factory=dict)
    name: str = "small"
    executable: str = sys.executable

    def command(self) -> list[str]:
        return [self.executable, "-I", "-S", "-c", self.program]

    def environment(self) -> dict[str, str]:
        return {"ONLY": "this"}

    def line(self) -> Mapping[str, object]:
        return self.orders


async def nothing() -> None:
    """A preparation that has nothing to do, or a probe that is always answered."""


async def no_answer() -> None:
    raise EngineFailed("no answer")


Supervise = Callable[..., Supervisor]


@pytest.fixture
async def supervise() -> AsyncIterator[Supervise]:
    """Start supervisors; whatever a test leaves running ends with it."""
    started: list[Supervisor] = []

    def start(
        child: Child | None = None,
        prepare: Callable[[], Awaitable[None]] = nothing,
        probe: Callable[[], Awaitable[None]] = nothing,
        stall_s: float = LONG_S,
    ) -> Supervisor:
        supervisor = Supervisor(child or Child(), prepare=prepare, probe=probe, stall_s=stall_s)
        supervisor.start()
        started.append(supervisor)
        return supervisor

    yield start
    for supervisor in started:
        await supervisor.stop()


async def until(condition: Callable[[], Any]) -> Any:
    """Wait until a condition holds, and return what it gave."""
    async with asyncio.timeout(WAIT_S):
        while not (value := condition()):  # noqa: ASYNC110 (what a process does sets no event)
            await asyncio.sleep(0.005)
    return value


def exited(supervisor: Supervisor) -> Exited | None:
    return supervisor.state if isinstance(supervisor.state, Exited) else None


# --- getting ready ---------------------------------------------------------------------------------------------------


async def test_a_child_that_says_so_is_ready(supervise: Supervise) -> None:
    """One line on its stdout is the sign; whoever waited goes on."""
    supervisor = supervise()
    assert isinstance(supervisor.state, Starting)

    await supervisor.ready(WAIT_S)

    assert isinstance(supervisor.state, Ready)
    assert supervisor.pid is not None
    assert psutil.pid_exists(supervisor.pid)


async def test_a_child_gets_its_orders_on_stdin_and_no_environment_but_its_own(
    supervise: Supervise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of the service's environment reaches it: keys live there."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-secret")
    seen = tmp_path / "seen"
    program = BECOME_READY.replace(
        "print", f"import os; open({str(seen)!r}, 'w').write(orders + str(dict(os.environ))); print"
    )

    await supervise(Child(program + STAY, {"slots": 4})).ready(WAIT_S)

    orders, environment = seen.read_text().split("\n")
    assert json.loads(orders) == {"slots": 4}
    assert "'ONLY': 'this'" in environment
    assert "sk-secret" not in environment


async def test_nobody_is_let_in_before_the_preparation_is_over(supervise: Supervise) -> None:
    """It learns what a call needs to be billed right."""
    prepared = asyncio.Event()
    reached = asyncio.Event()

    async def prepare() -> None:
        reached.set()
        await prepared.wait()

    supervisor = supervise(prepare=prepare)
    await asyncio.wait_for(reached.wait(), WAIT_S)
    with pytest.raises(EngineUnavailable, match="small: loading"):
        await supervisor.ready(0)

    prepared.set()
    await supervisor.ready(WAIT_S)


async def test_who_waits_too_long_is_told_what_is_going_on(supervise: Supervise) -> None:
    """503 with the state in words, so that a person knows whether waiting helps."""
    supervisor = supervise(Child("import sys; sys.stdin.read()"))
    await until(lambda: isinstance(supervisor.state, Loading) and supervisor.state.resident_bytes)

    with pytest.raises(EngineUnavailable, match=r"small: loading, \d+ MiB so far") as problem:
        await supervisor.ready(0.01)

    assert problem.value.status == 503


# --- deaths ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("import sys; print('out of memory', file=sys.stderr); sys.exit(3)", "exited with code 3"),
        (
            BECOME_READY + "print('out of memory', file=sys.stderr, flush=True); import os; os.kill(os.getpid(), 9)",
            "was ended by SIGKILL",
        ),
    ],
    ids=["while loading", "once ready"],
)
async def test_a_child_that_ends_leaves_its_reason_and_its_last_words(
    supervise: Supervise, program: str, why: str
) -> None:
    """The reason of a crash stands in its last lines, which are gone with it otherwise."""
    supervisor = supervise(Child(program))

    state = await until(lambda: exited(supervisor))

    assert state.why == why
    assert state.last_lines == ("out of memory",)
    assert str(state) == f"{why}, starting again in 0.5 s"


async def test_a_child_that_ended_is_started_again(supervise: Supervise, tmp_path: Path) -> None:
    """Nobody has to be called at night; who waits for it is served by its successor."""
    died = tmp_path / "died"
    program = f"import os, sys\nif not os.path.exists({str(died)!r}): open({str(died)!r}, 'w'); sys.exit(1)\n"
    supervisor = supervise(Child(program + BECOME_READY + STAY))

    await supervisor.ready(WAIT_S)

    assert supervisor.restarts == 1


async def test_the_pause_grows_with_every_failure_in_a_row(supervise: Supervise) -> None:
    """A child that cannot start must not keep the machine busy with trying."""
    supervisor = supervise(Child("raise SystemExit(1)"))

    first = await until(lambda: exited(supervisor))
    second = await until(lambda: exited(supervisor) if exited(supervisor) is not first else None)

    assert (first.retry_s, second.retry_s) == (0.5, 1.0)


def test_the_pause_is_half_a_second_at_first_and_half_a_minute_at_last() -> None:
    """Short enough for a single crash, long enough for a broken installation."""
    pauses = [backoff_s(failures) for failures in range(1, 9)]

    assert pauses == [0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 30.0, 30.0]


@pytest.mark.parametrize(
    ("child", "prepare"),
    [(Child(executable="/nowhere/python"), nothing), (Child(), no_answer)],
    ids=["no such program", "its preparation fails"],
)
async def test_a_child_that_cannot_start_says_why(
    supervise: Supervise, child: Child, prepare: Callable[[], Awaitable[None]]
) -> None:
    """A supervisor outlives whatever its child does, also what it does before it is there."""
    supervisor = supervise(child, prepare=prepare)

    state = await until(lambda: exited(supervisor))

    assert state.why.startswith("could not start: ")


async def test_of_a_talkative_child_only_the_end_is_kept(supervise: Supervise) -> None:
    """Lines and their length are bounded, and a full pipe must not hold the child up."""
    program = (
        "import sys\nfor number in range(1000): print(number, 'x' * 2000, file=sys.stderr)\n"
        "sys.stderr.write('y' * 3_000_000); print(file=sys.stderr); print('the end', file=sys.stderr); sys.exit(1)"
    )

    supervisor = supervise(Child(program))

    state = await until(lambda: exited(supervisor))

    assert len(state.last_lines) == 40
    assert state.last_lines[-1] == "the end"
    assert max(map(len, state.last_lines)) <= 500


# --- silences --------------------------------------------------------------------------------------------------------


async def test_a_silent_child_is_killed_and_replaced(supervise: Supervise) -> None:
    """A hung engine looks alive from outside; whoever calls it waits for ever."""
    supervisor = supervise(probe=no_answer, stall_s=0.4)
    await supervisor.ready(WAIT_S)
    first = supervisor.pid

    state = await until(lambda: exited(supervisor))
    await supervisor.ready(WAIT_S)

    assert state.why.startswith("gave no sign of life for ")
    assert supervisor.pid != first
    assert not psutil.pid_exists(first)


async def test_a_probe_that_is_never_answered_does_not_hold_the_verdict_up(supervise: Supervise) -> None:
    """A stopped process takes connections and says nothing."""

    async def hang() -> None:
        await asyncio.get_running_loop().create_future()

    supervisor = supervise(probe=hang, stall_s=0.4)
    await supervisor.ready(WAIT_S)

    state = await until(lambda: exited(supervisor))

    assert "no sign of life" in state.why


async def test_a_child_that_answers_its_probes_lives_on(supervise: Supervise) -> None:
    """Idle is not hung."""
    probes = 0

    async def probe() -> None:
        nonlocal probes
        probes += 1

    supervisor = supervise(probe=probe, stall_s=2.0)
    await supervisor.ready(WAIT_S)
    await until(lambda: probes == 5)  # more than two seconds without any other sign

    assert isinstance(supervisor.state, Ready)
    assert supervisor.restarts == 0


async def test_a_child_that_sends_tokens_is_not_asked(supervise: Supervise) -> None:
    """Tokens are signs of life; a probe would wait in the line behind them."""
    probes = 0

    async def probe() -> None:
        nonlocal probes
        probes += 1

    supervisor = supervise(probe=probe, stall_s=8.0)
    await supervisor.ready(WAIT_S)
    for _ in range(40):
        supervisor.alive()
        await asyncio.sleep(0.01)

    assert probes == 0


# --- the end ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("program", [BECOME_READY + STAY, "import sys; sys.stdin.read()"], ids=["ready", "loading"])
async def test_a_stop_ends_the_child(supervise: Supervise, program: str) -> None:
    """Nothing is left behind, whatever the child was doing."""
    supervisor = supervise(Child(program))
    await until(lambda: isinstance(supervisor.state, Ready | Loading) and supervisor.pid)
    pid = supervisor.pid

    await supervisor.stop()

    assert isinstance(supervisor.state, Stopped)
    assert not psutil.pid_exists(pid)


async def test_who_waits_for_a_child_that_is_stopped_is_told_at_once(supervise: Supervise) -> None:
    """A shutdown must not wait for those who wait."""
    supervisor = supervise(Child("import sys; sys.stdin.read()"))
    waiting = asyncio.create_task(supervisor.ready(LONG_S))
    await until(lambda: isinstance(supervisor.state, Loading))

    await supervisor.stop()

    with pytest.raises(EngineUnavailable, match="the service is shutting down"):
        await asyncio.wait_for(waiting, WAIT_S)


async def test_a_stop_during_the_pause_ends_the_pause(supervise: Supervise) -> None:
    """Up to half a minute would be a long shutdown."""
    supervisor = supervise(Child("raise SystemExit(1)"))
    await until(lambda: exited(supervisor))

    await asyncio.wait_for(supervisor.stop(), WAIT_S)

    assert str(supervisor.state) == "stopped"
