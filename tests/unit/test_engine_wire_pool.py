"""The connections of a client: how many, whose turn it is, how long they are kept, and that giving up frees them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from hanlin.engines.wire import Address, Client, Deadlines
from hanlin.errors import EngineFailed, EngineUnavailable, EngineUnreachable
from tests.canned_server import Answer, Asked, CannedServer, RawServer, whole

HELLO = whole(200, b"hello")
START = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    """What a test opens is closed with it, the client before its server."""
    async with AsyncExitStack() as stack:
        yield stack


async def meet(
    stack: AsyncExitStack, answer: Answer | bytes, *, limit: int = 1, idle_s: float = 30.0
) -> tuple[CannedServer, Client]:
    """Start a server with these answers and a client of it with so many connections."""
    server = await stack.enter_async_context(CannedServer(answer))
    client = Client(server.address, connection_limit=limit, idle_s=idle_s)
    stack.callback(client.close)
    return server, client


async def started(*calls: "asyncio.Task[bytes]") -> None:
    """Let tasks come to where they wait for something that is not there yet."""
    for _ in range(10):
        await asyncio.sleep(0)
    assert not any(call.done() for call in calls)


async def fetch(client: Client, path: str = "/") -> bytes:
    return await (await client.send("GET", path)).body()


# --- how many, and whose turn ----------------------------------------------------------------------------------------


async def test_connections_are_counted(stack: AsyncExitStack) -> None:
    """For metrics: how many there are, and how many of them somebody uses."""
    _, client = await meet(stack, HELLO, limit=3)
    assert (client.open_connections, client.in_use) == (0, 0)

    first, second = await client.send("GET", "/"), await client.send("GET", "/")
    assert (client.open_connections, client.in_use) == (2, 2)

    await first.body()
    assert (client.open_connections, client.in_use) == (2, 1)

    client.close()
    assert (client.open_connections, client.in_use) == (0, 0)
    second.close()


async def test_no_more_connections_are_opened_than_the_limit(stack: AsyncExitStack) -> None:
    """An engine has so many slots; what is above them waits here, in a line."""
    server, client = await meet(stack, HELLO, limit=2)

    bodies = await asyncio.gather(*(fetch(client) for _ in range(20)))

    assert bodies == [b"hello"] * 20
    assert server.connections == 2


async def test_who_came_first_is_served_first(stack: AsyncExitStack) -> None:
    """Who comes while others wait does not overtake them."""
    server, client = await meet(stack, HELLO)
    holder = await client.send("GET", "/holder")
    waiting = [asyncio.create_task(fetch(client, f"/{turn}")) for turn in range(3)]
    await started(*waiting)

    await holder.body()
    late = asyncio.create_task(fetch(client, "/late"))
    await asyncio.gather(*waiting, late)

    assert [asked.path for asked in server.asked] == ["/holder", "/0", "/1", "/2", "/late"]
    assert server.connections == 1


async def test_a_connection_that_is_closed_leaves_its_place_to_who_waits(stack: AsyncExitStack) -> None:
    """A new one is opened there."""
    server, client = await meet(stack, whole(200, b"x", "Connection: close"))
    holder = await client.send("GET", "/")
    waiting = asyncio.create_task(fetch(client))
    await started(waiting)

    await holder.body()

    assert await waiting == b"x"
    assert server.connections == 2


async def test_a_call_that_gets_no_place_in_time_is_told_so(stack: AsyncExitStack) -> None:
    """It is not the engine's fault, and must not count against its health."""
    _, client = await meet(stack, START)
    holder = await client.send("GET", "/")

    with pytest.raises(EngineUnavailable, match=r"all connections to the engine at .* are in use") as problem:
        await client.send("GET", "/", deadlines=Deadlines(connect_s=0.02))

    assert not problem.value.blames
    assert (client.open_connections, client.in_use) == (1, 1)
    holder.close()
    assert client.open_connections == 0
    await (await client.send("GET", "/")).read()  # and the place is free


async def test_a_failed_connection_leaves_its_place_to_who_waits(stack: AsyncExitStack) -> None:
    """An engine that is away must not leave a line behind that nobody serves."""
    server = CannedServer(HELLO)
    async with server:
        address = server.address
    client = Client(address, connection_limit=1)
    stack.callback(client.close)

    calls = await asyncio.gather(*(fetch(client) for _ in range(5)), return_exceptions=True)

    assert [type(call) for call in calls] == [EngineUnreachable] * 5
    assert client.open_connections == 0


# --- how long they are kept ------------------------------------------------------------------------------------------


async def test_a_connection_that_nobody_uses_is_closed_after_a_while(stack: AsyncExitStack) -> None:
    """Without any call: an idle service must not hold the connections of its last burst."""
    server, client = await meet(stack, HELLO, idle_s=0.05)
    await fetch(client)
    assert client.open_connections == 1

    await server.hung_up.wait()

    assert client.open_connections == 0
    assert await fetch(client) == b"hello"


async def test_a_connection_that_the_peer_closes_is_forgotten_at_once(stack: AsyncExitStack) -> None:
    """The next call need not find out."""
    closing = asyncio.Event()

    async def say_and_close(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(HELLO)
        await closing.wait()
        writer.close()
        await writer.wait_closed()

    _, client = await meet(stack, say_and_close)
    await fetch(client)
    assert client.open_connections == 1

    closing.set()
    await asyncio.sleep(0.05)

    assert (client.open_connections, client.in_use) == (0, 0)


async def test_what_the_peer_says_unasked_closes_the_connection(stack: AsyncExitStack) -> None:
    """`408 Request Timeout` on an idle connection would be read as the answer to the next request."""

    async def say_more(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(HELLO)
        await asyncio.sleep(0.01)
        writer.write(whole(408, b"too slow"))

    server, client = await meet(stack, say_more)
    await fetch(client)

    await server.hung_up.wait()

    assert await fetch(client) == b"hello"


async def test_connections_that_all_went_stale_cost_one_more_attempt(stack: AsyncExitStack) -> None:
    """After a restart of the engine every kept connection is dead, and a call must not try them one by one."""
    behind = asyncio.Event()
    restarted = False

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await reader.readuntil(b"\r\n\r\n")
            if restarted and writer not in fresh:
                writer.transport.abort()
                return
            writer.write(HELLO)
            await behind.wait()

    fresh: set[asyncio.StreamWriter] = set()

    async def remember(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if restarted:
            fresh.add(writer)
        await serve(reader, writer)

    server = await stack.enter_async_context(RawServer(remember))
    client = Client(server.address, connection_limit=4)
    stack.callback(client.close)
    responses = [await client.send("GET", "/") for _ in range(4)]
    for response in responses:
        await response.body()
    behind.set()
    restarted = True

    assert await fetch(client) == b"hello"
    assert (server.connections, client.open_connections) == (5, 4)


# --- giving up -------------------------------------------------------------------------------------------------------


async def cancel(task: "asyncio.Task[bytes]") -> None:
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


async def test_who_gives_up_waiting_for_a_place_leaves_the_line(stack: AsyncExitStack) -> None:
    """The place must go to the next one, not to somebody who has left."""
    server, client = await meet(stack, HELLO)
    holder = await client.send("GET", "/holder")
    leaving, staying = (asyncio.create_task(fetch(client, path)) for path in ("/leaving", "/staying"))
    await started(leaving, staying)

    await cancel(leaving)
    await holder.body()

    assert await staying == b"hello"
    assert [asked.path for asked in server.asked] == ["/holder", "/staying"]


@pytest.mark.parametrize("answer", [HELLO, whole(200, b"hello", "Connection: close")])
async def test_who_gives_up_in_the_moment_of_his_turn_passes_it_on(stack: AsyncExitStack, answer: bytes) -> None:
    """The connection, or the place of one, has been given to him already, and would be lost with him."""
    _, client = await meet(stack, answer)
    holder = await client.send("GET", "/holder")
    leaving, staying = (asyncio.create_task(fetch(client, path)) for path in ("/leaving", "/staying"))
    await started(leaving, staying)

    await holder.body()
    await cancel(leaving)

    assert await staying == b"hello"
    assert client.in_use == 0


async def test_who_gives_up_while_connecting_frees_the_place(stack: AsyncExitStack) -> None:
    """Here the handshake of TLS hangs."""
    accepted, gone = asyncio.Event(), asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set()
        await reader.read()
        gone.set()

    server = await stack.enter_async_context(RawServer(silent))
    client = Client(Address(server.address.host, server.address.port, tls=True))
    stack.callback(client.close)
    call = asyncio.create_task(fetch(client))
    await accepted.wait()
    assert (client.open_connections, client.in_use) == (1, 1)

    await cancel(call)

    await gone.wait()
    assert client.open_connections == 0


async def test_who_gives_up_while_waiting_for_headers_frees_the_place(stack: AsyncExitStack) -> None:
    """And the engine sees that nobody wants the answer any more."""
    asked = asyncio.Event()

    async def nothing(_: Asked, writer: asyncio.StreamWriter) -> None:
        asked.set()

    server, client = await meet(stack, nothing)
    call = asyncio.create_task(fetch(client))
    await asked.wait()

    await cancel(call)

    await server.hung_up.wait()
    assert client.open_connections == 0


async def test_who_gives_up_while_reading_frees_the_place(stack: AsyncExitStack) -> None:
    """The same, in the middle of an answer."""
    server, client = await meet(stack, START)
    response = await client.send("GET", "/")
    await response.read()
    call = asyncio.create_task(response.read())
    await started(call)

    await cancel(call)

    await server.hung_up.wait()
    assert client.open_connections == 0


async def test_who_gives_up_while_sending_frees_the_place(stack: AsyncExitStack) -> None:
    """Half a request is no request."""

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    server = await stack.enter_async_context(RawServer(deaf))
    client = Client(server.address)
    stack.callback(client.close)

    async def upload() -> bytes:
        return await (await client.send("POST", "/", b"x" * 50_000_000)).body()

    call = asyncio.create_task(upload())
    await asyncio.sleep(0.05)

    await cancel(call)

    assert client.open_connections == 0


async def test_closing_a_client_sends_everybody_away(stack: AsyncExitStack) -> None:
    """Who reads, who waits for a place, and who comes later."""
    server, client = await meet(stack, START)
    reading = await client.send("GET", "/")
    await reading.read()
    waiting = [asyncio.create_task(fetch(client)) for _ in range(3)]
    await started(*waiting)

    client.close()

    with pytest.raises(EngineFailed, match="broke off"):
        await reading.read()
    for call in (*waiting, asyncio.create_task(fetch(client))):
        with pytest.raises(EngineUnavailable, match="were closed"):
            await call
    assert client.open_connections == 0
    await server.hung_up.wait()
