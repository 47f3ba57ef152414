"""Connections: one request after the other, and their answers."""

import asyncio

import pytest

from hanlin.http.exchange import Exchange
from hanlin.http.limits import Limits
from tests.http_echo import LIMIT_BYTES, Echo, answered, request, settle, until
from tests.http_peer import Line, Reader, read

# --- one after the other ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("together", [True, False])
async def test_requests_sent_ahead_are_answered_in_their_order(together: bool) -> None:
    """Pipelining (RFC 9112 §9.3.2): the second answer must not overtake the first."""
    app = Echo()
    line = Line(app)
    sent = [request("/wait"), request("/b", method="POST", body=b"x" * 500), request("/c")]
    for packet in [b"".join(sent)] if together else sent:
        line.send(packet)
    await settle()
    assert app.asked == ["GET /wait"]

    app.word.set()
    await settle()

    assert [answer.body for answer in read(line.arrived)] == [b"GET /wait", b"POST /b", b"GET /c"]
    assert not line.closed


async def test_any_number_of_requests_may_be_sent_ahead() -> None:
    """Thousands in one packet, of every size: each is answered, in order."""
    app = Echo()
    sent = b"".join(request(f"/{number}", method="POST", body=b"x" * (number % 700)) for number in range(3000))
    line = Line(app)

    for at in range(0, len(sent), 250_000):
        line.send(sent[at : at + 250_000])
        await until(lambda: not line.connection._held)
    await settle()

    assert [answer.body for answer in read(line.arrived)] == [f"POST /{number}".encode() for number in range(3000)]


async def test_a_client_that_sends_ahead_without_end_is_not_read() -> None:
    """What it sends would fill the memory while its first call is answered."""
    app = Echo()
    line = Line(app)
    line.send(request("/wait"))
    await settle()
    while not line.paused:
        line.send(request("/b") * 100)
    assert line.connection._held_bytes < 128 * 1024

    app.word.set()
    await settle()
    for _ in range(20_000):
        await asyncio.sleep(0)

    assert not line.paused
    assert len(read(line.arrived)) == len(app.asked) > 1000


async def test_a_client_that_reads_no_answers_gets_no_more_of_them() -> None:
    """Requests are small and answers are not."""
    app = Echo()
    line = Line(app, high_bytes=1000)
    line.reading.clear()

    for _ in range(100):
        if not line.paused:
            line.send(request("/b") * 100)
        await settle()

    assert sum(map(len, line.unread)) < 1500
    line.read_on()
    await settle()
    assert len(app.asked) > 5


@pytest.mark.parametrize(
    ("version", "line", "keeps", "said"),
    [
        ("1.1", "x: y", True, None),
        ("1.1", "connection: close", False, "close"),
        ("1.1", "connection: keep-alive, Close", False, "close"),
        ("1.0", "x: y", False, "close"),
        ("1.0", "connection: keep-alive", True, "keep-alive"),
    ],
)
async def test_a_connection_is_kept_as_its_client_wishes(
    version: str, line: str, keeps: bool, said: str | None
) -> None:
    """RFC 9112 §9.3: what is usual depends on the version."""
    wire = await answered(request("/a", line, version=version))

    (answer,) = read(wire.arrived)
    assert answer.headers.get("connection") == said
    assert wire.closed is not keeps
    assert not wire.aborted


async def test_a_connection_goes_on_after_an_answer_that_refuses() -> None:
    """A wrong key or path is no reason to connect anew."""
    line = await answered(request("/unread", method="POST", body=b"abc"), request("/next"))

    assert [answer.status for answer in read(line.arrived)] == [401, 200]


async def test_a_refusal_waits_for_its_turn() -> None:
    """Answers come in the order of requests, also when what follows one is no request."""
    app = Echo()
    line = Line(app)
    line.send(request("/wait") + b"nonsense\r\n\r\n")
    await settle()
    assert line.arrived == b""

    app.word.set()
    await settle()

    assert [answer.status for answer in read(line.arrived)] == [200, 400]
    assert line.half_closed


async def test_what_is_left_of_an_answered_request_is_thrown_away_when_it_is_little() -> None:
    """Simple clients send head and body in two packets; a wrong key is known after the first."""
    app = Echo()
    line = await answered(request("/unread", "content-length: 9", method="POST"), b"half", app=app)
    (answer,) = read(line.arrived)
    assert (answer.status, answer.headers.get("connection")) == (401, None)
    assert line.connection.due_at - asyncio.get_running_loop().time() <= Limits().progress_s

    line.send(b" more")
    assert line.connection.due_at - asyncio.get_running_loop().time() > Limits().progress_s
    line.send(request("/unread", "content-length: 2", method="POST"))
    await settle()
    line.send(b"ab" + request("/next"))
    await settle()

    assert app.asked == ["POST /unread", "POST /unread", "GET /next"]
    assert [answer.status for answer in read(line.arrived)] == [401, 401, 200]


# --- answers ----------------------------------------------------------------------------------------------------------


async def test_an_answer_leaves_in_one_piece() -> None:
    """Two packets would cost two system calls, and readers a wait."""
    line = await answered(request("/a"))

    assert len(line.pieces) == 1
    assert line.arrived.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"server" not in line.arrived.lower()


async def test_a_stream_is_chunked_and_its_head_leaves_with_its_first_piece() -> None:
    """So a client sees nothing before there is something to see."""
    app = Echo()
    line = await answered(request("/stream"), app=app)
    assert len(line.pieces) == 1
    assert line.arrived.endswith(b"\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")

    app.word.set()
    await settle()

    assert line.pieces[1:] == [b"3\r\ntwo\r\n", b"0\r\n\r\n"]
    assert not line.closed


async def test_a_stream_to_an_old_client_ends_with_its_connection() -> None:
    """HTTP/1.0 knows no chunks (RFC 9112 §6.1)."""
    app = Echo()
    app.word.set()
    line = await answered(request("/stream", "connection: keep-alive", version="1.0"), app=app)

    head, _, body = line.arrived.partition(b"\r\n\r\n")
    assert b"connection: close" in head
    assert b"transfer-encoding" not in head
    assert body == b"onetwo"
    assert line.closed


@pytest.mark.parametrize("path", ["/a", "/stream"])
async def test_a_head_request_has_an_answer_without_a_body(path: str) -> None:
    """RFC 9110 §9.3.2: its length is the one that a GET would have, and the next answer follows the head."""
    app = Echo()
    app.word.set()
    line = await answered(request(path, method="HEAD"), app=app)

    head, _, body = line.arrived.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert (b"content-length: 7" in head) is (path == "/a")
    assert body == b""


async def test_a_client_that_asks_first_is_told_to_go_on() -> None:
    """curl holds a large body back until then, for a second at most."""
    app = Echo()
    line = await answered(request("/x", "expect: 100-continue", "content-length: 5", method="POST"), app=app)
    assert line.arrived == b"HTTP/1.1 100 Continue\r\n\r\n"

    line.send(b"hello")
    await settle()

    reader = Reader()
    reader.feed(line.arrived)
    assert (reader.interim, [answer.status for answer in reader.answers]) == ([100], [200])
    assert app.bodies == [b"hello"]


@pytest.mark.parametrize("path", ["/unread", "/x"])
async def test_a_client_that_asks_first_may_be_refused_without_its_body(path: str) -> None:
    """That is what it asked for. Whether the body comes after all cannot be known: nothing more is read."""
    lines = ("expect: 100-continue", f"content-length: {LIMIT_BYTES + 1}")  # beyond the limit
    line = await answered(request(path, *lines, method="POST"))

    (answer,) = read(line.arrived)
    assert answer.status in (400, 401)
    assert answer.headers["connection"] == "close"
    assert line.half_closed


async def test_an_early_answer_can_be_read_by_a_client_that_still_sends() -> None:
    """A connection that is closed under a sender is reset, and the reset overtakes the answer."""
    app = Echo()
    line = await answered(
        request("/x", "content-length: 500000", method="POST"), b"x" * 100_000, b"x" * 100_000, app=app
    )

    (answer,) = read(line.arrived)
    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert line.half_closed
    assert not line.closed
    assert app.ended == ["too large"]

    line.end()
    await line.until_closed()


async def test_a_body_nobody_asks_for_is_not_taken_in() -> None:
    """It would fill the memory while its key is looked up."""
    started = asyncio.Event()

    async def idle(_exchange: Exchange) -> None:
        started.set()
        await asyncio.get_running_loop().create_future()

    line = Line(idle)
    line.send(request("/x", "content-length: 5000000", method="POST"))
    while not line.paused:
        line.send(b"x" * 10_000)
    await started.wait()

    assert line.connection._current is not None
    assert line.connection._current.size < 100_000


async def test_an_answer_that_was_not_finished_ends_its_connection() -> None:
    """A client must not take half of it for the whole."""

    async def breaks(exchange: Exchange) -> None:
        await exchange.start(200, "text/plain")
        await exchange.write(b"half")
        raise ValueError("a defect")

    line = Line(breaks)
    line.send(request("/x"))
    await settle()

    assert line.arrived.endswith(b"4\r\nhalf\r\n")
    assert line.aborted
