"""What is said to Redis, and what is made of its silence: on a connection that says what a test wants."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from hanlin.errors import LimitsUnavailable
from hanlin.metering import redis as redis_module
from hanlin.metering.limits import Admitted, Demand, Subject
from hanlin.metering.periods import NO_SPAN
from hanlin.metering.redis import RedisStore
from hanlin.metering.reserving import Reservation
from hanlin.store.rows import Limits

exceptions = pytest.importorskip("redis.exceptions", reason="NOT TESTED: pip install 'redis>=7'")

Command = tuple[Any, ...]
SUBJECT = Subject("key", "k", Limits(concurrency=1))
ADMITTED = "admitted 1.0\n-inf -inf -inf 1 0 0"


class Connection:
    """Answers each command by `answer`, at once; an answer that is an error is raised, None is silence."""

    def __init__(self, answer: Callable[[Command], Any]) -> None:
        self.answer = answer
        self.heard: list[Command] = []
        self.connections = 1
        self._unread: list[Command] = []

    def pack_commands(self, commands: list[Command]) -> list[Command]:
        return commands

    async def send_packed_command(self, commands: list[Command], check_health: bool = True) -> None:
        self.heard += commands
        self._unread += commands

    async def read_response(self) -> Any:
        answer = self.answer(self._unread.pop(0))
        if answer is None:
            await asyncio.sleep(3600)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def disconnect(self, nowait: bool = False) -> None:
        self._unread = []
        self.connections += 1

    def said(self, what: str) -> list[Command]:
        """Return the calls of the script that did this."""
        return [command for command in self.heard if command[0] == "EVALSHA" and what in command]


def well(command: Command) -> Any:
    if command[0] == "SCRIPT LOAD":
        return "digest"
    return ADMITTED if "take" in command else "done"


def store_on(
    monkeypatch: pytest.MonkeyPatch, answer: Callable[[Command], Any], limit_s: float = 20.0
) -> tuple[RedisStore, Connection]:
    connection = Connection(answer)
    monkeypatch.setattr(redis_module, "connect", lambda _url: connection)
    return RedisStore("redis://fake", limit_s=limit_s), connection


async def test_what_is_asked_at_the_same_time_goes_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand callers are a few round trips."""
    rounds: list[int] = []
    store, connection = store_on(monkeypatch, well)
    send = connection.send_packed_command

    async def counting(commands: list[Command], check_health: bool = True) -> None:
        rounds.append(len(commands))
        await send(commands, check_health)

    monkeypatch.setattr(connection, "send_packed_command", counting)
    takers = [store.take(Reservation([SUBJECT], [NO_SPAN]), Demand()) for _ in range(100)]

    verdicts = await asyncio.gather(*takers)

    assert all(isinstance(verdict, Admitted) for verdict in verdicts)
    assert rounds == [1, 100]  # the script, and everybody
    await store.close()


@pytest.mark.parametrize("is_here", [True, False])
async def test_a_start_finds_out_whether_redis_is_there(monkeypatch: pytest.MonkeyPatch, is_here: bool) -> None:
    """Without changing anything, and without a call that has to wait for it."""
    store, connection = store_on(monkeypatch, well if is_here else lambda _command: OSError("refused"))

    assert await store.greet() is is_here

    assert store.is_away is not is_here
    assert {command[3] for command in connection.heard if command[0] == "EVALSHA"} <= {"renew"}
    await store.close()


async def test_a_redis_that_goes_away_is_missed_although_nobody_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Gauges tell of it before a caller does."""
    monkeypatch.setattr(redis_module, "_LOOK_S", 0.001)
    here = [True]
    store, _ = store_on(monkeypatch, lambda command: well(command) if here[0] else OSError("refused"))
    assert await store.greet()

    here[0] = False

    async with asyncio.timeout(20):
        while not store.is_away:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.001)
    await store.close()


async def test_a_redis_that_forgot_the_script_is_taught_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was restarted between two calls; nobody is refused for it."""
    forgotten = [True]

    def forgetful(command: Command) -> Any:
        if command[0] == "EVALSHA" and forgotten[0]:
            forgotten[0] = False
            return exceptions.NoScriptError("NOSCRIPT")
        return well(command)

    store, connection = store_on(monkeypatch, forgetful)

    assert isinstance(await store.take(Reservation([SUBJECT], [NO_SPAN]), Demand()), Admitted)
    assert [command[0] for command in connection.heard] == ["SCRIPT LOAD", "EVALSHA"] * 2
    await store.close()


@pytest.mark.parametrize(
    "error", [exceptions.ResponseError("OOM"), exceptions.ConnectionError("reset"), OSError("gone"), ValueError("odd")]
)
async def test_whatever_goes_wrong_is_an_outage_and_is_named(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Full, read-only, gone, or something that the client's library raises: nobody decides, and gauges say why."""
    store, connection = store_on(monkeypatch, lambda command: error if command[0] == "EVALSHA" else "digest")

    with pytest.raises(LimitsUnavailable):
        await store.take(Reservation([SUBJECT], [NO_SPAN]), Demand())

    standing = store.standing()
    assert standing.away_since is not None
    assert str(error) in standing.why
    assert connection.connections > 1  # what may still come on the old one is nobody's
    await store.close()


async def test_silence_ends_with_the_deadline_and_then_nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """One caller's deadline is enough to know; the next ones are told at once, without a word to Redis."""
    silent = [True]
    store, connection = store_on(monkeypatch, lambda command: None if silent[0] else well(command), limit_s=0.05)
    with pytest.raises(LimitsUnavailable):
        await store.take(Reservation([SUBJECT], [NO_SPAN]), Demand())
    while store.standing().away_since is None:  # noqa: ASYNC110 - the line notices a moment after its caller
        await asyncio.sleep(0)
    heard = len(connection.heard)

    for _ in range(100):
        with pytest.raises(LimitsUnavailable):
            await store.take(Reservation([SUBJECT], [NO_SPAN]), Demand())

    assert len(connection.heard) == heard
    silent[0] = False
    async with asyncio.timeout(20):
        while store.is_away:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert isinstance(await store.take(Reservation([SUBJECT], [NO_SPAN]), Demand()), Admitted)
    await store.close()


async def test_a_caller_that_is_cancelled_at_any_moment_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in the moment in which its decision comes: it is then settled with nothing."""
    outcomes = set()
    for turns in range(30):
        store, connection = store_on(monkeypatch, well)
        task = asyncio.create_task(store.take(Reservation([SUBJECT], [NO_SPAN]), Demand()))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.close()

        taken, settled = len(connection.said("take")), len(connection.said("settle"))
        outcomes.add((task.cancelled(), taken, settled))

    assert outcomes == {(True, 0, 0), (True, 1, 1), (False, 1, 0)}


async def test_a_settlement_that_may_have_been_heard_is_said_again_in_a_way_that_counts_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first try settles whatever it finds; a later one must not settle what the first did."""
    deaf = [False]

    def answer(command: Command) -> Any:
        return exceptions.ConnectionError("reset") if deaf[0] and "settle" in command else well(command)

    store, connection = store_on(monkeypatch, answer)
    call = Reservation([SUBJECT], [NO_SPAN])
    verdict = await store.take(call, Demand(1, 10))
    assert isinstance(verdict, Admitted)
    call.holds(verdict, Demand(1, 10))
    deaf[0] = True

    store.settle(call, Demand(1, 5))
    async with asyncio.timeout(20):
        while not store.is_away:  # noqa: ASYNC110
            await asyncio.sleep(0)
        deaf[0] = False
        while store.standing().owed:  # noqa: ASYNC110
            await asyncio.sleep(0.01)

    again = [command[command.index("settle") + 3] for command in connection.said("settle")]
    assert again == ["0", "1"]
    await store.close()


async def test_what_is_settled_after_the_end_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream that ends while the service does must not start the conversation anew."""
    store, connection = store_on(monkeypatch, well)
    call = Reservation([SUBJECT], [NO_SPAN])
    await store.take(call, Demand())
    await store.close()

    store.settle(call, Demand())
    await asyncio.sleep(0)

    assert connection.said("settle") == []
