"""Engines that are spoken to over TLS: whom we trust, what we say when we do not, and that streams behave the same."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import uvloop

from hanlin.engines.wire import Address, Client
from hanlin.engines.wire.dialling import trusting
from hanlin.errors import EngineUnreachable
from tests.canned_server import CERTIFICATE, Asked, CannedServer, RawServer, serving, trusting_it, whole

HELLO = whole(200, b"hello")


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    """What a test opens is closed with it, the client before its server."""
    async with AsyncExitStack() as stack:
        yield stack


async def served(stack: AsyncExitStack) -> Address:
    return (await stack.enter_async_context(CannedServer(HELLO, tls=serving()))).address


def client_of(stack: AsyncExitStack, address: Address, tls: ssl.SSLContext | None = None) -> Client:
    client = Client(address, tls=tls)
    stack.callback(client.close)
    return client


async def test_a_connection_over_tls_is_kept_like_any_other(stack: AsyncExitStack) -> None:
    """A handshake costs several round trips."""
    server = await stack.enter_async_context(CannedServer(HELLO, tls=serving()))
    client = client_of(stack, server.address, trusting_it())

    for _ in range(3):
        assert await (await client.send("POST", "/v1", b"{}")).body() == b"hello"

    assert server.connections == 1


async def test_what_the_operator_trusts_is_trusted_and_http_1_1_is_agreed_on(
    stack: AsyncExitStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A company's own authority in the variable that every program knows; and a server of HTTP/2 must not begin so."""
    file = tmp_path / "ca.pem"
    file.write_text(CERTIFICATE)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    chosen: list[str | None] = []

    async def note(asked: Asked, writer: asyncio.StreamWriter) -> None:
        chosen.append(writer.get_extra_info("ssl_object").selected_alpn_protocol())
        writer.write(HELLO)

    server = await stack.enter_async_context(CannedServer(note, tls=serving()))

    assert await (await client_of(stack, server.address).send("GET", "/")).body() == b"hello"
    assert chosen == ["http/1.1"]


async def test_a_certificate_of_nobody_is_refused(stack: AsyncExitStack) -> None:
    """The key would go to whoever stands in between."""
    address = await served(stack)
    client = client_of(stack, address)

    with pytest.raises(EngineUnreachable, match=rf"engine at 127\.0\.0\.1:{address.port}: its certificate is not acc"):
        await client.send("GET", "/", headers={"Authorization": "Bearer k"})

    assert client.open_connections == 0


async def test_a_certificate_of_somebody_else_is_refused(stack: AsyncExitStack) -> None:
    """Trusted, but not for this name."""
    address = replace(await served(stack), host="127.1")  # another spelling of the same place

    with pytest.raises(EngineUnreachable, match=r"its certificate is not accepted \(Hostname mismatch"):
        await client_of(stack, address, trusting_it()).send("GET", "/")


async def test_a_server_without_tls_is_found_out(stack: AsyncExitStack) -> None:
    """https for http, a usual slip: the sentence names it."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    server = await stack.enter_async_context(RawServer(refuse))
    address = replace(server.address, tls=True)

    with pytest.raises(EngineUnreachable, match=r"TLS failed .*; is it an https address"):
        await client_of(stack, address, trusting_it()).send("GET", "/")


async def test_a_name_that_nobody_knows_is_said(stack: AsyncExitStack) -> None:
    """With the name: it is in the operator's file."""
    with pytest.raises(EngineUnreachable, match=r"engine at no-such-engine\.invalid:80: its name was not found"):
        await client_of(stack, Address("no-such-engine.invalid", 80)).send("GET", "/")
    with pytest.raises(EngineUnreachable, match="its name cannot be the name of a host"):
        await client_of(stack, Address("x" * 300 + ".invalid", 80)).send("GET", "/")


async def test_a_reader_who_never_reads_stops_the_socket_under_tls_too(stack: AsyncExitStack) -> None:
    """Otherwise a slow client would have its whole answer in our memory."""
    sent = 0
    size = 64 * 1024

    async def pour(asked: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(600):  # 38 MB, of which the system's own buffers hold a few
            writer.write(b"%x\r\n%b\r\n" % (size, b"x" * size))
            await writer.drain()
            sent += size
        writer.write(b"0\r\n\r\n")

    server = await stack.enter_async_context(CannedServer(pour, tls=serving()))
    response = await client_of(stack, server.address, trusting_it()).send("GET", "/")

    before = -1
    while before != sent:  # until nothing moves any more
        before = sent
        await asyncio.sleep(0.1)
    held_up_at = sent
    largest = received = 0
    while data := await response.read():
        received += len(data)
        largest = max(largest, len(data))

    assert 0 < held_up_at < 30 * 1024 * 1024
    assert largest < 4 * 1024 * 1024
    assert received == 600 * size


def test_what_we_trust_is_read_once_and_only_for_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes some twenty milliseconds, which a service with engines on this machine need not pay."""
    assert trusting() is trusting()

    monkeypatch.setattr(ssl, "create_default_context", None)
    Client(Address("127.0.0.1", 80))


@pytest.mark.parametrize(
    "behaviour",
    [
        test_a_connection_over_tls_is_kept_like_any_other,
        test_a_certificate_of_nobody_is_refused,
        test_a_server_without_tls_is_found_out,
        test_a_reader_who_never_reads_stops_the_socket_under_tls_too,
    ],
)
def test_the_loop_that_serves_behaves_as_the_one_that_tests(
    behaviour: Callable[[AsyncExitStack], Coroutine[None, None, None]],
) -> None:
    """The service runs on uvloop, which has a TLS of its own."""

    async def behave() -> None:
        async with AsyncExitStack() as stack:
            await behaviour(stack)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(behave())
