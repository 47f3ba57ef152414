"""Proxies between us and an engine: which one the environment says, tunnels and absolute form, and how they fail."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
import uvloop

from hanlin.engines.wire import Address, Client, Deadlines, Proxy, proxy_for
from hanlin.errors import EngineUnreachable
from hanlin.testing import free_port
from tests.canned_server import CannedProxy, CannedServer, RawServer, serving, trusting_it, whole

HELLO = whole(200, b"hello")
API = Address.of_url("https://api.example.org/v1")
PLAIN = Address.of_url("http://gpu.example.org:8000/v1")
A, B = Proxy("a", 3128), Proxy("b", 8888)


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    """What a test opens is closed with it, the client before its server."""
    async with AsyncExitStack() as stack:
        yield stack


# --- which one -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "of_https", "of_http"),
    [
        ({}, None, None),
        ({"HTTPS_PROXY": "http://a"}, A, None),
        ({"http_proxy": "b:8888"}, None, B),
        ({"ALL_PROXY": "http://a:3128/"}, A, A),
        ({"all_proxy": "http://a", "HTTP_PROXY": "http://b:8888"}, A, B),
        ({"HTTPS_PROXY": "http://a", "https_proxy": "http://b:8888"}, B, None),
        ({"HTTPS_PROXY": "http://a", "https_proxy": ""}, None, None),
        ({"HTTP_PROXY": "http://a", "REQUEST_METHOD": "GET"}, None, None),
        ({"http_proxy": "http://a", "REQUEST_METHOD": "GET"}, None, A),
    ],
)
def test_a_proxy_is_found_by_the_variables_that_all_programs_know(
    environment: dict[str, str], of_https: Proxy | None, of_http: Proxy | None
) -> None:
    """Under CGI, HTTP_PROXY is a header that the client of the script has sent."""
    assert proxy_for(API, environment) == of_https
    assert proxy_for(PLAIN, environment) == of_http


@pytest.mark.parametrize(
    ("listed", "host", "direct"),
    [
        ("example.org", "api.example.org", True),
        (".example.org", "api.example.org", True),
        ("other.org, API.example.org", "api.example.org", True),
        ("api.example.org:443", "api.example.org", True),
        ("api.example.org:8443", "api.example.org", False),
        ("ample.org", "api.example.org", False),
        ("*", "api.example.org", True),
        ("*.example.org", "api.example.org", True),
        ("10.0.0.0/8,fd00::/8", "10.1.2.3", True),
        ("10.0.0.0/8,fd00::/8", "fd00::1", True),
        ("10.0.0.0/8,fd00::/8", "11.1.2.3", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("", "10.1.2.3", False),
    ],
)
def test_what_is_listed_is_reached_directly(listed: str, host: str, direct: bool) -> None:
    """Names with all that end in them; and networks, which clusters list."""
    address = replace(API, host=host)

    assert (proxy_for(address, {"HTTPS_PROXY": "http://a", "NO_PROXY": listed}) is None) == direct
    assert (proxy_for(address, {"HTTPS_PROXY": "http://a", "no_proxy": listed}) is None) == direct


@pytest.mark.parametrize(
    "address",
    [
        Address(socket="/run/engine.sock"),
        *(
            Address(host, 80, tls=tls)
            for host in ("localhost", "a.localhost", "127.3.2.1", "::1")
            for tls in (False, True)
        ),
    ],
)
def test_this_machine_is_never_behind_a_proxy(address: Address) -> None:
    """The proxy would look for the engine on its own machine."""
    assert proxy_for(address, {"ALL_PROXY": "http://a"}) is None


def test_the_user_name_of_a_proxy_becomes_its_header_and_stays_secret() -> None:
    """Marks that a URL cannot hold are written in percents."""
    proxy = proxy_for(API, {"HTTPS_PROXY": "http://me:p%40ss:w@a"})

    assert proxy == Proxy("a", 3128, f"Basic {b64encode(b'me:p@ss:w').decode()}")
    assert "Basic" not in repr(proxy)
    assert proxy_for(API, {"HTTPS_PROXY": "http://me@a"}) == Proxy("a", 3128, f"Basic {b64encode(b'me:').decode()}")


@pytest.mark.parametrize(
    "url", ["socks5://u:secret@a:1080", "https://u:secret@a", "http://u:secret@", "http://a:secret"]
)
def test_a_proxy_that_is_not_spoken_here_is_refused(url: str) -> None:
    """To go around it in silence would send keys where they must not go; a refusal must not repeat them either."""
    with pytest.raises(ValueError, match="HTTPS_PROXY") as refusal:
        proxy_for(API, {"ALL_PROXY": url})

    assert "secret" not in str(refusal.value)
    assert proxy_for(API, {"ALL_PROXY": url, "NO_PROXY": "*"}) is None


# --- through it ------------------------------------------------------------------------------------------------------


async def behind(
    stack: AsyncExitStack, target: Address, host: str, refusal: bytes = b"", authorization: str = ""
) -> tuple[CannedProxy, Client]:
    """Start a proxy in front of a server, and a client that knows the server by a name of the proxy's."""
    proxy = await stack.enter_async_context(CannedProxy(target, refusal))
    client = Client(Address(host, 443, base="/v1", tls=True), proxy=proxy.proxy(authorization), tls=trusting_it())
    stack.callback(client.close)
    return proxy, client


async def test_https_goes_through_a_tunnel_that_is_kept(stack: AsyncExitStack) -> None:
    """The proxy sees the name and its own password; the request and the key are for the engine alone."""
    server = await stack.enter_async_context(CannedServer(HELLO, tls=serving()))
    proxy, client = await behind(stack, server.address, "engine.test", authorization="Basic bWU6cA==")

    for _ in range(2):
        response = await client.send("POST", "/chat", b"{}", headers={"Authorization": "Bearer k"})
        assert await response.body() == b"hello"

    (head,) = proxy.heads
    assert head == (
        "CONNECT engine.test:443 HTTP/1.1\r\nHost: engine.test:443\r\nProxy-Authorization: Basic bWU6cA==\r\n\r\n"
    )
    assert [asked.path for asked in server.asked] == ["/v1/chat", "/v1/chat"]
    assert "Host: engine.test\r\n" in server.asked[0].head
    assert "Proxy-Authorization" not in server.asked[0].head


async def test_the_certificate_is_the_engines_not_the_proxys(stack: AsyncExitStack) -> None:
    """Who tunnels may read nothing, so the name is checked at the far end."""
    server = await stack.enter_async_context(CannedServer(HELLO, tls=serving()))
    _, client = await behind(stack, server.address, "other.test")

    with pytest.raises(EngineUnreachable, match=r"its certificate is not accepted \(Hostname mismatch"):
        await client.send("GET", "/")

    assert client.open_connections == 0


async def test_http_is_asked_for_in_absolute_form(stack: AsyncExitStack) -> None:
    """Without TLS there is nothing to hide from a proxy, and many refuse tunnels to such ports."""
    proxy = await stack.enter_async_context(CannedServer(HELLO))
    client = Client(PLAIN, proxy=Proxy(proxy.address.host, proxy.address.port, "Basic bWU6cA=="))
    stack.callback(client.close)

    assert await (await client.send("POST", "/chat", b"{}")).body() == b"hello"

    assert proxy.asked[0].head == (
        "POST http://gpu.example.org:8000/v1/chat HTTP/1.1\r\nHost: gpu.example.org:8000\r\n"
        "Proxy-Authorization: Basic bWU6cA==\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n"
    )


# --- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("refusal", "why"),
    [
        (b"HTTP/1.1 403 Forbidden\r\n\r\n", "the proxy answered 403 to CONNECT"),
        (b"HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic\r\n\r\n", "the proxy wants a user name and a password"),
        (b"HTTP/1.1 200", "the proxy hung up before the tunnel stood"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "what answers there is not an HTTP proxy"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000, "the proxy does not come to an end of its headers"),
    ],
)
async def test_a_proxy_that_makes_no_tunnel_is_named(stack: AsyncExitStack, refusal: bytes, why: str) -> None:
    """The engine is well; what is to be mended stands in between. Its password is not repeated."""
    proxy, client = await behind(stack, Address(), "engine.test", refusal, authorization="Basic secret")

    with pytest.raises(EngineUnreachable) as problem:
        await client.send("GET", "/")

    where = f"the engine at engine.test:443 through the proxy at 127.0.0.1:{proxy.address.port}"
    assert f"no connection to {where}: {why}" in problem.value.message
    assert "secret" not in problem.value.message
    assert client.open_connections == 0


@pytest.mark.parametrize("tls", [True, False])
async def test_a_proxy_that_is_not_there_is_named(tls: bool) -> None:
    """The same for both ways of asking it."""
    port = free_port()
    client = Client(Address("engine.test", 443, tls=tls), proxy=Proxy("127.0.0.1", port), tls=trusting_it())

    with pytest.raises(EngineUnreachable, match=rf"through the proxy at 127\.0\.0\.1:{port}: connection refused"):
        await client.send("GET", "/")


async def test_a_proxy_that_wants_a_password_for_plain_http_is_named(stack: AsyncExitStack) -> None:
    """407 is never the engine's answer."""
    proxy = await stack.enter_async_context(CannedServer(whole(407, b"who?")))
    client = Client(PLAIN, proxy=Proxy(proxy.address.host, proxy.address.port))
    stack.callback(client.close)

    with pytest.raises(EngineUnreachable, match="the proxy wants a user name and a password"):
        await client.send("GET", "/")

    assert client.in_use == 0


async def test_a_proxy_that_says_nothing_costs_the_time_of_connecting(stack: AsyncExitStack) -> None:
    """And who gives up before leaves nothing behind."""
    gone = asyncio.Semaphore(0)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.read()
        gone.release()

    server = await stack.enter_async_context(RawServer(silent))
    proxy = Proxy(server.address.host, server.address.port)
    client = Client(Address("engine.test", 443, tls=True), proxy=proxy, tls=trusting_it())
    stack.callback(client.close)

    with pytest.raises(EngineUnreachable, match=r"through the proxy at .*: it timed out after 0\.05 s"):
        await client.send("GET", "/", deadlines=Deadlines(connect_s=0.05))
    await gone.acquire()
    call = asyncio.create_task(client.send("GET", "/"))
    await asyncio.sleep(0.05)
    call.cancel()
    await asyncio.wait([call])

    await gone.acquire()
    assert client.open_connections == 0


@pytest.mark.parametrize(
    "behaviour",
    [
        test_https_goes_through_a_tunnel_that_is_kept,
        test_the_certificate_is_the_engines_not_the_proxys,
        test_a_proxy_that_says_nothing_costs_the_time_of_connecting,
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
