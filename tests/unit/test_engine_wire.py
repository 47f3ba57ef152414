"""The HTTP client for engines: connections kept and given up, bodies of every kind, silence, cuts, back-pressure."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import pytest

from hanlin.engines.wire import Address, Client, Response
from hanlin.errors import EngineFailed, EngineStalled, EngineUnavailable
from hanlin.testing import free_port
from tests.canned_server import Answer, Asked, CannedServer, chunked, whole

HELLO = whole(200, b"hello")


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    """What a test opens is closed with it, the client before its server, and no test waits for ever."""
    async with asyncio.timeout(20), AsyncExitStack() as stack:
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

    async with aclosing(response.pieces()) as pieces:  # type: ignore[type-var]
        assert await anext(pieces) == b"first"
        go_on.set()
        assert await anext(pieces) == b"later"


async def test_an_empty_body_is_empty(stack: AsyncExitStack) -> None:
    """Nothing to wait for."""
    _, client = await meet(stack, whole(200, b""))

    assert await (await get(client)).body() == b""


async def test_a_body_beyond_the_limit_is_given_up(stack: AsyncExitStack) -> None:
    """An engine gone mad must not fill the memory of the service."""
    server, client = await meet(stack, whole(200, b"x" * 1000))

    with pytest.raises(EngineFailed, match="larger than 999 bytes"):
        await (await get(client)).body(limit_bytes=999)

    await server.hung_up.wait()


# --- failures --------------------------------------------------------------------------------------------------------


async def test_silence_before_the_answer_is_a_stall(stack: AsyncExitStack) -> None:
    """An engine that takes a request and says nothing is hung; its connection is given up."""

    async def nothing(asked: Asked, writer: asyncio.StreamWriter) -> None:
        pass

    server, client = await meet(stack, nothing)

    with pytest.raises(EngineStalled, match=r"silent for 0\.05 s"):
        await get(client, silence_s=0.05)

    await server.hung_up.wait()


async def test_silence_within_the_answer_is_a_stall(stack: AsyncExitStack) -> None:
    """The deadline counts from the last byte, not from the start."""
    server, client = await meet(stack, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    response = await get(client, silence_s=0.05)

    with pytest.raises(EngineStalled):
        await response.body()

    await server.hung_up.wait()


@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ],
)
async def test_an_answer_that_breaks_off_is_a_failure(stack: AsyncExitStack, start: bytes) -> None:
    """Half an answer must not pass for a whole one."""

    async def cut(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        writer.close()

    _, client = await meet(stack, cut)

    with pytest.raises(EngineFailed, match="broke off"):
        await (await get(client)).body()


async def test_a_fresh_connection_that_is_closed_without_an_answer_is_a_failure(stack: AsyncExitStack) -> None:
    """Trying again could go on for ever: an engine may die of the very request."""

    async def hang_up(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server, client = await meet(stack, hang_up)

    with pytest.raises(EngineFailed, match="hung up before answering"):
        await get(client)
    assert server.connections == 1


@pytest.mark.parametrize("nonsense", [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 banana\r\n\r\n"])
async def test_what_is_not_http_is_a_failure(stack: AsyncExitStack, nonsense: bytes) -> None:
    """A wrong port, for instance."""
    _, client = await meet(stack, nonsense)

    with pytest.raises(EngineFailed, match="hung up before answering"):
        await get(client)


async def test_an_engine_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    """The message says where nobody was met; the caller may come again."""
    port = free_port()

    with pytest.raises(EngineUnavailable, match=f"no connection to the engine at 127.0.0.1:{port}") as problem:
        await get(Client(Address("127.0.0.1", port)))
    with pytest.raises(EngineUnavailable, match="at its socket"):
        await get(Client(Address(socket=str(tmp_path / "none"))))
    assert problem.value.status == 503


# --- giving up -------------------------------------------------------------------------------------------------------

ENDLESS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"


async def test_a_response_that_is_closed_unread_closes_its_connection(stack: AsyncExitStack) -> None:
    """The only signal that makes an engine stop generating."""
    server, client = await meet(stack, ENDLESS)
    response = await get(client)

    response.close()

    await server.hung_up.wait()


async def test_a_response_that_is_left_half_read_closes_its_connection(stack: AsyncExitStack) -> None:
    """A client hung up in the middle of its answer."""
    server, client = await meet(stack, ENDLESS)

    async with aclosing((await get(client)).pieces()) as pieces:  # type: ignore[type-var]
        assert await anext(pieces) == b"x"

    await server.hung_up.wait()


async def test_a_call_that_is_cancelled_closes_its_connection(stack: AsyncExitStack) -> None:
    """Also before there is a response."""
    asked = asyncio.Event()

    async def nothing(_: Asked, writer: asyncio.StreamWriter) -> None:
        asked.set()

    server, client = await meet(stack, nothing)
    task = asyncio.create_task(get(client))
    await asked.wait()

    task.cancel()
    await asyncio.wait([task])

    await server.hung_up.wait()


async def test_closing_the_client_closes_connections_in_use_too(stack: AsyncExitStack) -> None:
    """Nothing is left open when an engine goes."""
    server, client = await meet(stack, ENDLESS)
    response = await get(client)

    client.close()

    await server.hung_up.wait()
    with pytest.raises(EngineFailed):
        await response.body()


async def test_a_reader_that_never_reads_stops_the_socket(stack: AsyncExitStack) -> None:
    """The engine is held up by it; without this, a slow client would have its whole answer in our memory."""
    sent = 0
    size = 64 * 1024
    chunk = b"%x\r\n%b\r\n" % (size, b"x" * size)

    async def pour(asked: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(2000):  # 128 MB, of which the system's own buffers hold a few
            writer.write(chunk)
            await writer.drain()
            sent += size
        writer.write(b"0\r\n\r\n")

    _, client = await meet(stack, pour)
    response = await get(client)

    before = -1
    while before != sent:  # until nothing moves any more
        before = sent
        await asyncio.sleep(0.1)
    held_up_at = sent
    received = 0
    async for piece in response.pieces():
        received += len(piece)
        assert len(piece) < 4 * 1024 * 1024

    assert 0 < held_up_at < 32 * 1024 * 1024
    assert received == 2000 * size


# --- addresses -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "address", "authority"),
    [
        ("http://127.0.0.1:9000/v1", Address("127.0.0.1", 9000, base="/v1"), "127.0.0.1:9000"),
        ("http://gpu/v1/", Address("gpu", 80, base="/v1"), "gpu"),
        ("https://api.example.org", Address("api.example.org", 443, tls=True), "api.example.org"),
        ("https://example.org:8443/a/b", Address("example.org", 8443, base="/a/b", tls=True), "example.org:8443"),
    ],
)
def test_an_address_is_read_from_a_url(url: str, address: Address, authority: str) -> None:
    """The base path goes before every path, without a slash too many."""
    assert Address.of_url(url) == address
    assert address.authority == authority


@pytest.mark.parametrize("url", ["", "gpu:8000", "ftp://gpu/", "http://", "http://gpu:port", "unix:/tmp/x"])
def test_what_is_no_http_address_is_refused(url: str) -> None:
    """At the start, not at the first call."""
    with pytest.raises(ValueError):
        Address.of_url(url)


async def test_a_connection_is_kept_when_the_body_ends_right_after_its_last_word() -> None:
    """A chat's reader stops at `[DONE]`; a new connection for every call would cost each its first token."""
    connections: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(1)
        for _ in range(2):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ndone\r\n")
            await writer.drain()
            await asyncio.sleep(0.01)
            writer.write(b"0\r\n\r\n")
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    client = Client(Address("127.0.0.1", server.sockets[0].getsockname()[1]))
    for _ in range(2):
        response = await client.send("GET", "/")
        async for _piece in response.pieces():
            await response.finish(5.0)
            break

    assert len(connections) == 1
    client.close()
    server.close()
    await server.wait_closed()
