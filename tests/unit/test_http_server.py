"""The server on real sockets: its address, its clients, hundreds of them at once, those that garble, its end."""

import asyncio
import contextlib
import resource
import socket
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hanlin.errors import StartupError
from hanlin.http.connection import Handler
from hanlin.http.exchange import Exchange
from hanlin.http.limits import Limits
from hanlin.http.server import Server, free_address
from tests.http_echo import Echo, request, until
from tests.http_peer import read

SHORT = Limits(progress_s=0.1, head_s=0.3, idle_s=0.2, flush_s=0.2, linger_s=0.2)


class Service:
    """An application as a server wants it: `open_calls` are counted, `idle` is set while there are none."""

    def __init__(self, app: Handler) -> None:
        self._app = app
        self.open_calls = 0
        self.idle = asyncio.Event()
        self.idle.set()

    async def __call__(self, exchange: Exchange) -> None:
        self.open_calls += 1
        self.idle.clear()
        try:
            await self._app(exchange)
        finally:
            self.open_calls -= 1
            if not self.open_calls:
                self.idle.set()


@contextlib.asynccontextmanager
async def serving(
    app: Handler, *, host: str = "127.0.0.1", limits: Limits | None = None, connections: int = 8192
) -> AsyncIterator[Server]:
    server = Server(Service(app), host, 0, limits=limits, connections=connections)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
        assert server.connections == 0


def on_uvloop(test: Callable[[], Awaitable[None]]) -> None:
    """Run a test on the loop that serves, which buffers and closes in its own ways."""

    async def limited() -> None:
        async with asyncio.timeout(30):
            await test()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(limited())


async def ask(server: Server, *packets: bytes) -> bytes:
    """Return everything that comes back for these packets until the server closes, or a second is over."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        for packet in packets:
            writer.write(packet)
            await writer.drain()
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


def test_a_name_or_a_taken_port_is_refused_with_a_remedy() -> None:
    """Two servers on one port by accident look like random failures."""

    async def test() -> None:
        async with serving(Echo()) as server:
            with pytest.raises(StartupError, match="--port N"):
                free_address("127.0.0.1", server.port)
            with pytest.raises(StartupError, match="--port N"):
                await Server(Service(Echo()), "127.0.0.1", server.port).start()
        with pytest.raises(StartupError, match="--host ADDRESS"):
            free_address("no.such.name.invalid", 0)

    on_uvloop(test)


@pytest.mark.parametrize("host", ["::1", "::"])
def test_addresses_of_version_6_can_be_listened_on(host: str) -> None:
    """`::` means every address, those of version 4 too, as operators know it."""

    async def test() -> None:
        async with serving(Echo(), host=host) as server:
            for where in ["::1", "127.0.0.1"] if host == "::" else ["::1"]:
                reader, writer = await asyncio.open_connection(where, server.port)
                writer.write(request("/a", "connection: close"))
                assert (await reader.read()).endswith(b"GET /a")
                writer.close()

    try:
        socket.create_server((host, 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("there is no IPv6 here")
    on_uvloop(test)


def test_a_client_of_the_standard_library_is_answered() -> None:
    """The plainest program there is."""

    async def test() -> None:
        async with serving(Echo()) as server:
            url = f"http://127.0.0.1:{server.port}/x"
            body = await asyncio.to_thread(lambda: urllib.request.urlopen(url, b"x" * 900, timeout=10).read())
            assert body == b"POST /x"

    on_uvloop(test)


def test_small_packets_leave_at_once_and_the_kernel_holds_little() -> None:
    """Accepted sockets have the options of the one that listens: nothing of it costs a connection anything."""
    options = {}

    async def looks(exchange: Exchange) -> None:
        raw = exchange.channel.wire._transport.get_extra_info("socket")  # type: ignore[attr-defined]
        for name in ("TCP_NODELAY", "TCP_NOTSENT_LOWAT", "TCP_KEEPIDLE"):
            options[name] = raw.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
        await exchange.answer(200, b"")

    async def test() -> None:
        async with serving(looks) as server:
            await ask(server, request("/a", "connection: close"))
        assert options == {"TCP_NODELAY": 1, "TCP_NOTSENT_LOWAT": 128 * 1024, "TCP_KEEPIDLE": 30}

    on_uvloop(test)


def test_a_reader_that_never_reads_costs_little_memory() -> None:
    """Its writer waits; what waits for it is bounded."""
    written = 0
    waits = asyncio.Event()

    async def pours(exchange: Exchange) -> None:
        nonlocal written
        await exchange.start(200, "text/plain")
        while not exchange.gone:
            written += 10_000
            exchange.push(b"x" * 10_000)
            if exchange.write_paused:
                waits.set()
                await exchange.drained()

    async def test() -> None:
        async with serving(pours) as server:
            _, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1)
            writer.write(request("/a"))
            await waits.wait()
            before = -1
            while before != written:
                before = written
                await asyncio.sleep(0.1)
            transport = next(iter(server._connections))._transport
            assert transport is not None
            assert transport.get_write_buffer_size() < 1_000_000
            assert written < 30_000_000
            writer.transport.abort()
            await server.app.idle.wait()

    on_uvloop(test)


@pytest.mark.parametrize(
    "sent", [b"", b"GET /a HTTP/1.1\r\nx: ", request("/x", "content-length: 9") + b"ab", b"no\r\n\r\n"]
)
def test_a_client_that_says_too_little_is_closed(sent: bytes) -> None:
    """Each holds a connection; there are only so many."""

    async def test() -> None:
        app = Echo()
        async with serving(app, limits=SHORT) as server:
            came = await ask(server, sent)
            assert (b"400" in came) is sent.startswith(b"no")
            await until(lambda: not server.connections)
            assert app.ended in ([], ["gone"])

    on_uvloop(test)


def test_a_head_that_comes_byte_by_byte_has_its_time_too() -> None:
    """Slow loris: every byte is progress, and it never ends."""

    async def drips(server: Server) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET / HTTP/1.1\r\nx: ")
        ended = asyncio.create_task(reader.read())
        while not ended.done():
            writer.write(b"y")
            await asyncio.wait([ended], timeout=0.02)
        writer.close()
        assert await ended == b""

    async def test() -> None:
        async with serving(Echo(), limits=SHORT) as server:
            with contextlib.suppress(ConnectionError):
                await drips(server)
            await until(lambda: not server.connections)

    on_uvloop(test)


def test_a_client_that_sends_a_body_too_large_reads_its_refusal() -> None:
    """It reads when it has sent everything, as simple clients do."""

    async def test() -> None:
        async with serving(Echo()) as server:
            came = await ask(server, request("/x", "content-length: 9000000", method="POST"), *[b"x" * 1_000_000] * 9)
            (answer,) = read(came)
            assert (answer.status, answer.headers["connection"]) == (400, "close")

    on_uvloop(test)


def test_more_connections_than_there_may_be_are_refused_with_words() -> None:
    """And those that were there first go on."""

    async def test() -> None:
        async with serving(Echo(), connections=3) as server:
            server._most = 3
            first = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(3)]
            await until(lambda: server.connections == 3)
            (answer,) = read(await ask(server, request("/a")))
            assert (answer.status, answer.headers["retry-after"]) == (503, "5")
            for reader, writer in first:
                writer.write(request("/b", "connection: close"))
                assert (await reader.read()).endswith(b"GET /b")
                writer.close()

    on_uvloop(test)


def test_a_drain_waits_for_calls_and_a_stop_lets_the_last_words_out() -> None:
    """A restart must not cut answers that are being read."""

    async def test() -> None:
        app = Echo()
        async with serving(app) as server:
            idle, idle_writer = await asyncio.open_connection("127.0.0.1", server.port)
            call = asyncio.create_task(ask(server, request("/wait")))
            await app.reached.wait()
            assert await server.drain(0.01) == 1
            assert await idle.read() == b""
            idle_writer.close()
            drained = asyncio.create_task(server.drain(10))
            app.word.set()
            assert await drained == 0
            await server.stop()
            (answer,) = read(await call)
            assert (answer.body, answer.headers["connection"]) == (b"GET /wait", "close")

    on_uvloop(test)


def test_a_stop_ends_calls_that_are_still_open() -> None:
    """Whoever stops a service must know when it will be gone."""

    async def test() -> None:
        app = Echo()
        async with serving(app) as server:
            call = asyncio.create_task(ask(server, request("/wait")))
            await app.reached.wait()
            await server.stop()
            assert await call == b""
        assert app.ended == ["gone"]

    on_uvloop(test)


def test_hundreds_of_clients_are_answered_and_leave_nothing_behind() -> None:
    """Some keep their connection, some close it, some leave in the middle."""

    async def one(server: Server, number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        for _ in range(number % 4 + 1):
            writer.write(request(f"/{number}", method="POST", body=b"x" * (number * 3)))
            head = await reader.readuntil(b"\r\n\r\n")
            size = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            assert await reader.readexactly(size) == f"POST /{number}".encode()
        if number % 3:
            writer.write(request("/wait"))
            await writer.drain()
        writer.close() if number % 2 else writer.transport.abort()

    async def test() -> None:
        async with serving(Echo()) as server:
            await asyncio.gather(*(one(server, number) for number in range(300)))
            await until(lambda: not server.connections and not server.app.open_calls)

    on_uvloop(test)


GARBAGE = st.one_of(
    st.binary(max_size=300),
    st.sampled_from(
        [
            request("/a"),
            request("/stream"),
            request("/x", method="POST", body=b"hello"),
            request("/x", "transfer-encoding: chunked", method="POST"),
            request("/x", "upgrade: h2c", "connection: upgrade", method="POST", body=b"hello"),
            request("/x", "expect: 100-continue", "content-length: 5", method="POST"),
            b"5\r\nhello\r\n",
            b"0\r\n\r\n",
            b"hello",
            b"\r\n",
            b"GET / HTTP/1.1\r\nhost: a\r\n",
        ]
    ),
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.lists(GARBAGE, max_size=6), st.booleans()), min_size=40, max_size=60))
def test_no_garbage_hurts_the_server(clients: list[tuple[list[bytes], bool]]) -> None:
    """Whatever comes in whatever order: every connection ends, and the next client is answered."""

    async def garbles(server: Server, packets: list[bytes], *, resets: bool) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        with contextlib.suppress(OSError):
            for packet in packets:
                writer.write(packet)
                await writer.drain()
            if not resets:
                writer.write_eof()
                await reader.read()
        writer.transport.abort()

    async def test() -> None:
        app = Echo()
        app.word.set()
        async with serving(app) as server:
            await asyncio.gather(*(garbles(server, packets, resets=resets) for packets, resets in clients))
            assert (await ask(server, request("/well", "connection: close"))).endswith(b"GET /well")
            await until(lambda: not server.connections and not server.app.open_calls)

    on_uvloop(test)


def test_the_limit_of_open_files_leaves_room_for_connections() -> None:
    """Many systems start programs with 1,024; what may be had is asked for."""

    async def test() -> None:
        async with serving(Echo()):
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            assert soft == hard or soft >= 8192

    on_uvloop(test)
