"""The HTTP client for engines when something goes wrong: cuts, nonsense, silence; and when nobody wants an answer."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, aclosing
from pathlib import Path

import pytest
import uvloop

from hanlin.engines.wire import Address, Client, Response
from hanlin.errors import EngineFailed, EngineStalled, EngineUnreachable
from hanlin.testing import free_port
from tests.canned_server import Answer, Asked, CannedServer, whole

HELLO = whole(200, b"hello")


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


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 257 + b"Content-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 700_000,
        b"HTTP/1.1 100 Continue\r\nX: y\r\n\r\n" * 3000,
    ],
)
async def test_headers_without_end_are_a_failure(stack: AsyncExitStack, head: bytes) -> None:
    """An engine gone mad must not fill the memory of the service."""
    server, client = await meet(stack, head)

    with pytest.raises(EngineFailed, match="headers"):
        await get(client)

    await server.hung_up.wait()


async def test_trailers_without_end_are_a_failure(stack: AsyncExitStack) -> None:
    """They are kept by nobody, but a line that never ends would be."""
    start = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX: "
    _, client = await meet(stack, start + b"y" * 700_000)

    with pytest.raises(EngineFailed, match="headers"):
        await (await get(client)).body()


async def test_chunks_whose_sizes_come_alone_are_no_failure(stack: AsyncExitStack) -> None:
    """Some servers write a chunk's size, its bytes and its end as three packets, a hundred thousand times."""

    async def in_crumbs(asked: Asked, writer: asyncio.StreamWriter) -> None:
        size = b"1;%b\r\n" % (b"x" * 9000)
        for part in (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *(size, b"x", b"\r\n") * 30):
            writer.write(part)
            await asyncio.sleep(0.001)
        writer.write(b"0\r\n\r\n")

    _, client = await meet(stack, in_crumbs)

    assert await (await get(client)).body() == b"x" * 30


async def test_a_protocol_that_nobody_asked_for_is_a_failure(stack: AsyncExitStack) -> None:
    """What follows is no HTTP."""
    _, client = await meet(stack, b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n\0\0")

    with pytest.raises(EngineFailed, match="a protocol that nobody asked for"):
        await get(client)


async def test_an_answer_too_many_is_nobodys(stack: AsyncExitStack) -> None:
    """It would be read as the answer to the next request on that connection."""
    server, client = await meet(stack, HELLO + whole(200, b"not for you", "X: y"))

    for _ in range(2):
        response = await get(client)
        assert await response.body() == b"hello"
        assert response.headers == {"content-length": "5"}
    assert server.connections == 2


async def test_a_connection_that_is_reset_before_the_answer_is_a_failure(stack: AsyncExitStack) -> None:
    """The engine had the request: whether to ask again is not decided here."""

    async def reset(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.transport.abort()

    server, client = await meet(stack, reset)

    with pytest.raises(EngineFailed, match="hung up before answering"):
        await get(client)
    assert server.connections == 1


async def test_an_answer_that_began_is_not_asked_for_again(stack: AsyncExitStack) -> None:
    """Only a request that the peer cannot have seen is sent twice."""

    async def half_a_head(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.path == "/second":
            writer.write(b"HTTP/1.1 200 OK\r\n")
            await writer.drain()
            writer.close()
        else:
            writer.write(HELLO)

    server, client = await meet(stack, half_a_head)
    await (await get(client, "/first")).body()

    with pytest.raises(EngineFailed, match="hung up before answering"):
        await get(client, "/second")
    assert len(server.asked) == 2


async def test_a_body_without_a_length_that_is_reset_is_not_whole(stack: AsyncExitStack) -> None:
    """Only an orderly end can stand for a length."""
    cut = asyncio.Event()

    async def say_and_reset(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        await cut.wait()
        # Without lingering, closing sends a reset.
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()

    _, client = await meet(stack, say_and_reset)
    response = await get(client)

    assert await response.read() == b"half"
    cut.set()
    with pytest.raises(EngineFailed, match="broke off"):
        await response.read()


async def test_an_engine_that_is_not_there_is_unreachable(tmp_path: Path) -> None:
    """The message says where nobody was met; the caller may come again."""
    port = free_port()

    with pytest.raises(EngineUnreachable, match=f"no connection to the engine at 127.0.0.1:{port}") as problem:
        await get(Client(Address("127.0.0.1", port)))
    with pytest.raises(EngineUnreachable, match="at its socket"):
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


async def test_a_response_that_was_closed_has_no_end(stack: AsyncExitStack) -> None:
    """Half an answer must not pass for a whole one."""
    _, client = await meet(stack, ENDLESS)
    response = await get(client)
    response.close()

    with pytest.raises(EngineFailed, match="closed before its end"):
        await response.body()


async def test_a_response_that_is_all_here_gives_its_connection_back_unread(stack: AsyncExitStack) -> None:
    """There is nothing to stop: who only wanted the status keeps the connection."""
    server, client = await meet(stack, HELLO)

    for _ in range(3):
        (await get(client)).close()

    assert server.connections == 1


async def test_a_response_that_is_left_half_read_closes_its_connection(stack: AsyncExitStack) -> None:
    """A client hung up in the middle of its answer."""
    server, client = await meet(stack, ENDLESS)

    async with aclosing((await get(client)).pieces()) as pieces:
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


@pytest.mark.parametrize(
    "behaviour",
    [
        test_a_connection_that_is_reset_before_the_answer_is_a_failure,
        test_silence_within_the_answer_is_a_stall,
        test_a_call_that_is_cancelled_closes_its_connection,
        test_a_reader_that_never_reads_stops_the_socket,
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
