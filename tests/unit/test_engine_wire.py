"""The HTTP client for engines: requests, the connections they share, and bodies of every kind."""

import asyncio
import socket
import tracemalloc
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import pytest
import uvloop

from hanlin.engines.wire import Address, Client, Response
from hanlin.engines.wire.connection import Connection
from hanlin.engines.wire.deadlines import Watch
from hanlin.engines.wire.dialling import Dialler
from hanlin.errors import EngineFailed
from hanlin.testing import free_port
from tests.canned_server import Answer, Asked, CannedServer, RawServer, chunked, whole

HELLO = whole(200, b"hello")
ENDLESS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    """What a test opens is closed with it, the client before its server."""
    async with AsyncExitStack() as stack:
        yield stack


async def meet(
    stack: AsyncExitStack, answer: Answer | bytes, socket: Path | None = None
) -> tuple[CannedServer, Client]:
    """Start a server with these answers and a client of it."""
    server = await stack.enter_async_context(CannedServer(answer, socket))
    client = Client(server.address)
    stack.callback(client.close)
    return server, client


async def get(client: Client, path: str = "/", silence_s: float = 20.0) -> Response:
    return await client.send("GET", path, silence_s=silence_s)


# --- requests and connections ----------------------------------------------------------------------------------------


async def test_a_request_is_whole_and_plain(stack: AsyncExitStack) -> None:
    """What engines need and nothing else."""
    server, client = await meet(stack, HELLO)

    response = await client.send("POST", "/v1/x", b'{"a":1}', headers={"Authorization": "Bearer k"})

    assert (response.status, response.headers["content-length"], await response.body()) == (200, "5", b"hello")
    (asked,) = server.asked
    assert asked.head == (
        f"POST /v1/x HTTP/1.1\r\nHost: 127.0.0.1:{server.address.port}\r\nAuthorization: Bearer k\r\n"
        "Content-Type: application/json\r\nContent-Length: 7\r\n\r\n"
    )
    assert asked.body == b'{"a":1}'


async def test_what_goes_with_every_request_is_said_once(stack: AsyncExitStack) -> None:
    """A key, for instance; what a single request needs comes after it, and its kind of body takes the place of JSON."""
    server = await stack.enter_async_context(CannedServer(HELLO))
    client = Client(server.address, headers={"Authorization": "Bearer k"})
    stack.callback(client.close)

    await (await client.send("POST", "/a", b"x", headers={"X-One": "1", "content-type": "text/plain"})).body()
    await (await client.send("POST", "/a")).body()
    await (await client.send("GET", "/a")).body()

    start = f"/a HTTP/1.1\r\nHost: 127.0.0.1:{server.address.port}\r\nAuthorization: Bearer k\r\n"
    assert [asked.head for asked in server.asked] == [
        f"POST {start}X-One: 1\r\ncontent-type: text/plain\r\nContent-Length: 1\r\n\r\n",
        f"POST {start}Content-Length: 0\r\n\r\n",
        f"GET {start}\r\n",
    ]


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/a b", {}),
        ("/a HTTP/1.1\r\nX: y", {}),
        ("/ä", {}),
        ("/", {"X": "secret\r\nY: z"}),
        ("/", {"X": "secret\n"}),
        ("/", {"X": "secret\0"}),
        ("/", {"X": "secret 翰林"}),
        ("/", {"X\r\nY": "secret"}),
        ("/", {"X: a": "secret"}),
        ("/", {"Content-Length": "secret"}),
        ("/", {"transfer-encoding": "secret"}),
    ],
)
async def test_what_would_break_out_of_its_line_is_not_sent(path: str, headers: dict[str, str]) -> None:
    """A name or a key that somebody put together must not become a second request; nor may a refusal repeat it."""
    client = Client(Address("127.0.0.1", free_port()))

    with pytest.raises(ValueError) as refusal:
        await client.send("GET", path, headers=headers)

    assert "secret" not in str(refusal.value)


async def test_a_connection_is_used_again_once_its_response_was_read(stack: AsyncExitStack) -> None:
    """A new one for each call would cost more than the call's own overhead."""
    server, client = await meet(stack, HELLO)

    for _ in range(3):
        await (await get(client)).body()

    assert (server.connections, len(server.asked)) == (1, 3)


async def test_calls_at_the_same_time_have_connections_of_their_own(stack: AsyncExitStack) -> None:
    """One request at a time on a connection: no answer waits behind another."""
    server, client = await meet(stack, HELLO)

    first, second = await get(client), await get(client)

    assert [await first.body(), await second.body()] == [b"hello", b"hello"]
    assert server.connections == 2


async def test_a_connection_that_the_peer_wants_closed_is_not_kept(stack: AsyncExitStack) -> None:
    """`Connection: close` announces it."""
    server, client = await meet(stack, whole(200, b"x", "Connection: close"))

    for _ in range(2):
        await (await get(client)).body()

    assert server.connections == 2


async def test_a_kept_connection_that_went_stale_is_replaced_without_a_word(stack: AsyncExitStack) -> None:
    """An engine that restarted has closed its end: the next call must not fail for that."""

    async def close_after_the_first(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.path == "/second" and server.connections == 1:
            writer.close()  # in the very moment in which the next request comes
        else:
            writer.write(HELLO)

    server, client = await meet(stack, close_after_the_first)
    await (await get(client, "/first")).body()

    response = await get(client, "/second")

    assert await response.body() == b"hello"
    assert server.connections == 2
    assert [asked.path for asked in server.asked] == ["/first", "/second", "/second"]


async def test_no_more_idle_connections_are_kept_than_the_limit(stack: AsyncExitStack) -> None:
    """A burst of calls must not leave its connections open for ever."""
    server = await stack.enter_async_context(CannedServer(HELLO))
    client = Client(server.address, idle_limit=1)
    stack.callback(client.close)

    responses = [await get(client) for _ in range(3)]
    for response in responses:
        await response.body()
    await server.hung_up.wait()
    for response in [await get(client) for _ in range(2)]:
        await response.body()

    assert server.connections == 4


async def test_a_unix_socket_is_reached_by_its_path(stack: AsyncExitStack, tmp_path: Path) -> None:
    """The embedded engine listens on one."""
    server, client = await meet(stack, HELLO, tmp_path / "s")

    assert await (await get(client)).body() == b"hello"
    assert "Host: localhost\r\n" in server.asked[0].head


# --- bodies ----------------------------------------------------------------------------------------------------------


async def test_a_body_in_chunks_is_put_together(stack: AsyncExitStack) -> None:
    """Streams come so; the connection can be used again."""
    server, client = await meet(stack, chunked(b"he", b"l", b"lo"))

    assert [await (await get(client)).body() for _ in range(2)] == [b"hello"] * 2
    assert server.connections == 1


async def test_a_body_without_a_length_ends_with_its_connection(stack: AsyncExitStack) -> None:
    """HTTP/1.0 style, as small servers speak it."""

    async def say_and_close(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nhel")
        await writer.drain()
        writer.write(b"lo")
        writer.close()

    _, client = await meet(stack, say_and_close)

    assert await (await get(client)).body() == b"hello"


async def test_pieces_are_handed_on_as_they_come(stack: AsyncExitStack) -> None:
    """The first token must not wait for the second."""
    go_on = asyncio.Event()

    async def in_two_steps(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst")
        await go_on.wait()
        writer.write(b"later")

    _, client = await meet(stack, in_two_steps)
    response = await get(client)

    async with aclosing(response.pieces()) as pieces:
        assert await anext(pieces) == b"first"
        go_on.set()
        assert await anext(pieces) == b"later"


async def test_an_empty_body_is_empty(stack: AsyncExitStack) -> None:
    """Nothing to wait for."""
    _, client = await meet(stack, whole(200, b""))

    assert await (await get(client)).body() == b""


async def test_a_body_beyond_the_limit_is_given_up(stack: AsyncExitStack) -> None:
    """An engine gone mad must not fill the memory of the service."""
    server, client = await meet(stack, b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + b"x" * 1000)

    with pytest.raises(EngineFailed, match="larger than 999 bytes"):
        await (await get(client)).body(limit_bytes=999)

    await server.hung_up.wait()


async def test_the_end_of_a_body_stays_its_end(stack: AsyncExitStack) -> None:
    """Also when the connection serves somebody else by then."""
    _, client = await meet(stack, chunked(b"he", b"llo"))
    response = await get(client)

    assert await response.read() == b"hello"
    other = await get(client)
    assert [await response.read() for _ in range(2)] == [b"", b""]
    assert await other.body() == b"hello"


async def test_trailers_are_read_over(stack: AsyncExitStack) -> None:
    """Nobody asked for them, and they are no headers."""
    start, end = (
        b"HTTP/1.1 200 OK\r\nX: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"2\r\nhi\r\n0\r\nX: 2\r\nY: 3\r\n\r\n",
    )
    server, client = await meet(stack, start + end)

    for _ in range(2):
        response = await get(client)
        assert await response.body() == b"hi"
        assert response.headers == {"x": "1", "transfer-encoding": "chunked"}
    assert server.connections == 1


async def test_answers_that_only_announce_the_answer_are_skipped(stack: AsyncExitStack) -> None:
    """100 Continue and 103 Early Hints may come at any time."""
    early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    server, client = await meet(stack, early + HELLO)

    for _ in range(2):
        response = await get(client)
        assert (response.status, response.headers) == (200, {"content-length": "5"})
        assert await response.body() == b"hello"
    assert server.connections == 1


async def test_a_large_request_is_in_memory_once(stack: AsyncExitStack) -> None:
    """Pictures come as ten megabytes of base64, many at a time."""
    received = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        await reader.readuntil(b"\r\n\r\n")
        while received < len(body):
            received += len(await reader.read(65536))
        writer.write(HELLO)

    server = await stack.enter_async_context(RawServer(serve))
    client = Client(server.address)
    stack.callback(client.close)
    body = b"x" * 10_000_000

    tracemalloc.start()
    response = await client.send("POST", "/", body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert await response.body() == b"hello"
    assert received == len(body)
    assert peak < len(body)  # beside the body itself


async def test_who_answers_before_the_end_of_a_request_is_not_sent_the_rest(stack: AsyncExitStack) -> None:
    """ "Too large" is an answer; the connection has half a request on it and is not used again."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(whole(413, b"no"))
        await asyncio.Event().wait()

    server = await stack.enter_async_context(RawServer(serve))
    client = Client(server.address)
    stack.callback(client.close)

    for _ in range(2):
        response = await client.send("POST", "/", b"x" * 50_000_000)
        assert (response.status, await response.body()) == (413, b"no")
    assert server.connections == 2


# --- the end of a stream ----------------------------------------------------------------------------------------------


async def test_a_connection_is_kept_when_the_body_ends_right_after_its_last_word(stack: AsyncExitStack) -> None:
    """A chat's reader stops at `[DONE]`; a new connection for every call would cost each its first token."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ndone\r\n")
            await asyncio.sleep(0.01)
            writer.write(b"0\r\n\r\n")
        await reader.read()

    server = await stack.enter_async_context(RawServer(serve))
    client = Client(server.address)
    stack.callback(client.close)
    for _ in range(2):
        response = await client.send("GET", "/")
        assert await response.read() == b"done"
        await response.finish(5.0)

    assert server.connections == 1


async def test_a_connection_is_given_up_when_the_body_does_not_end_where_it_should(stack: AsyncExitStack) -> None:
    """Waiting for it longer than for a moment would hold up an answer that is complete."""
    server, client = await meet(stack, ENDLESS)
    response = await get(client)
    assert await response.read() == b"x"

    await response.finish(0.05)

    await server.hung_up.wait()
    assert client.open_connections == 0


# --- sockets and loops ------------------------------------------------------------------------------------------------


async def test_a_peer_that_vanishes_is_asked_whether_it_is_there(stack: AsyncExitStack) -> None:
    """A cable that was pulled says nothing; the system's own probes find out while nobody waits."""
    server = await stack.enter_async_context(CannedServer(HELLO))
    made: list[Connection] = []

    class Owner:
        watch = Watch()

        def lost(self, connection: Connection) -> None:
            made.append(connection)

    connection = Connection(Owner())
    await Dialler(server.address, None, None).dial(connection, 5.0)
    assert connection.transport is not None
    options = connection.transport.get_extra_info("socket")

    assert options.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert options.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) <= 60
    connection.close()
    assert made == [connection]


@pytest.mark.parametrize(
    "behaviour",
    [
        test_a_connection_is_used_again_once_its_response_was_read,
        test_a_kept_connection_that_went_stale_is_replaced_without_a_word,
        test_a_body_without_a_length_ends_with_its_connection,
        test_a_large_request_is_in_memory_once,
        test_who_answers_before_the_end_of_a_request_is_not_sent_the_rest,
        test_a_peer_that_vanishes_is_asked_whether_it_is_there,
    ],
)
def test_the_loop_that_serves_behaves_as_the_one_that_tests(
    behaviour: Callable[[AsyncExitStack], Coroutine[None, None, None]],
) -> None:
    """The service runs on uvloop, whose transports are others."""

    async def behave() -> None:
        async with AsyncExitStack() as stack:
            await behaviour(stack)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(behave())
