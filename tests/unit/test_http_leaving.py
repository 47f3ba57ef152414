"""Clients that leave, half or wholly; what takes too long; a server that is full, or ends."""

import asyncio
import json
from collections.abc import Callable

import pytest

from hanlin.errors import EngineUnavailable
from hanlin.http.connection import Connection
from hanlin.http.limits import Limits
from tests.http_echo import Echo, answered, request, settle
from tests.http_peer import Line, read


@pytest.mark.parametrize("path", ["/wait", "/stream"])
async def test_a_client_that_is_gone_ends_its_call_at_once(path: str) -> None:
    """Nobody reads what would be generated."""
    app = Echo()
    line = await answered(request(path), app=app)

    line.hang_up()
    await settle()

    assert app.ended == ["gone"]


@pytest.mark.parametrize("how", [Line.hang_up, Line.end])
async def test_half_a_request_is_none(how: Callable[[Line], None]) -> None:
    """A body without its end is not taken for one, however its client left."""
    app = Echo()
    line = await answered(request("/x", "content-length: 10", method="POST") + b"half", app=app)

    how(line)
    await line.until_closed()
    await settle()

    assert app.ended == ["gone"]
    assert line.arrived == b""


@pytest.mark.parametrize("sent", [b"", b"GET / HT", request("/a")])
@pytest.mark.parametrize("how", [Line.hang_up, Line.end])
async def test_a_client_may_leave_between_calls(how: Callable[[Line], None], sent: bytes) -> None:
    """Pools close what they do not need."""
    line = await answered(sent) if sent else Line(Echo())

    how(line)

    await line.until_closed()


async def test_a_client_that_only_has_nothing_more_to_say_gets_an_answer_that_is_quick() -> None:
    """`nc` closes its sending side after the request, which from here looks like leaving."""
    app = Echo()
    line = Line(app)
    line.send(request("/wait") + request("/b"))
    line.end()
    app.word.set()

    await line.until_closed()

    assert [answer.body for answer in read(line.arrived)] == [b"GET /wait", b"GET /b"]
    assert not line.aborted


async def test_a_client_that_said_its_last_and_gets_no_answer_soon_has_left() -> None:
    """A program that was ended says no more than that; its call must stop within a quarter of a second."""
    app = Echo()
    line = await answered(request("/wait"), app=app)

    line.end()
    await line.until_closed()
    await settle()

    assert app.ended == ["gone"]
    assert Limits().leaving_s < 0.1


# --- limits -----------------------------------------------------------------------------------------------------------


async def test_what_is_overdue_depends_on_what_is_waited_for() -> None:
    """A head, a body, the next request, a slow reader: each has its time, and a call has none."""
    app = Echo()
    limits = Limits(progress_s=10, head_s=15, idle_s=100, flush_s=1000, linger_s=1)
    line = Line(app, limits, high_bytes=10)
    connection, now = line.connection, asyncio.get_running_loop().time

    def left() -> float:
        return connection.due_at - now()

    assert 99 < left() <= 100
    line.send(b"GET /wa")
    assert 9 < left() <= 10
    connection._head_at -= 8
    line.send(b"it HTTP/1.1\r\n")
    assert 6 < left() <= 7
    line.send(b"host: a\r\ncontent-length: 2\r\n\r\n")
    assert 9 < left() <= 10
    line.send(b"ab")
    assert left() > 1e9
    await settle()
    line.reading.clear()
    app.word.set()
    await settle()
    assert 999 < left() <= 1000
    line.send(request("/next"))
    assert 999 < left() <= 1000
    line.read_on()
    await settle()
    assert 99 < left() <= 100
    line.send(b"nonsense\r\n")
    assert 0 < left() <= 1


async def test_a_connection_too_many_is_told_so() -> None:
    """An operator who sees resets looks for a network's fault."""

    class Full(Line):
        def joined(self, _connection: Connection) -> EngineUnavailable:
            return EngineUnavailable("too many connections are open")

    line = Full(Echo())
    line.send(request("/a"))

    (answer,) = read(line.arrived)
    assert (answer.status, answer.headers["retry-after"], answer.headers["connection"]) == (503, "5", "close")
    assert "too many connections" in json.loads(answer.body)["error"]["message"]
    assert line.half_closed


async def test_a_draining_server_answers_and_then_closes() -> None:
    """Whoever calls again must find the service that comes after it."""
    app = Echo()
    line, idle = await answered(request("/wait"), app=app), await answered(request("/a"))

    for one in (line, idle):
        one.draining = True
        one.connection.drain()
    app.word.set()
    await line.until_closed()
    await idle.until_closed()

    (answer,) = read(line.arrived)
    assert answer.headers["connection"] == "close"
    assert not line.aborted
