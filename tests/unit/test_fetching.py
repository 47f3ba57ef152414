"""What a caller's URL may lead to: public addresses, by whatever way, and nothing inside."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Sequence

import httpx2
import pytest

from hanlin.errors import UrlNotFetched
from hanlin.media.fetching import MOST_REDIRECTS, Fetched, Fetcher

PUBLIC = "93.184.216.34"


class Web:
    """A web in memory: names with their addresses, pages by URL. `asked` are the requests as they went out."""

    def __init__(self, **names: Sequence[str]) -> None:
        self.names = {"example.com": [PUBLIC], **{name.replace("_", "."): found for name, found in names.items()}}
        self.answers: dict[str, httpx2.Response] = {}
        self.asked: list[httpx2.Request] = []
        self.resolved: list[str] = []

    async def resolve(self, host: str, _port: int) -> Sequence[str]:
        self.resolved.append(host)
        try:
            return [str(ipaddress.ip_address(host))]
        except ValueError:
            return self.names[host]

    def serve(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request)
        return self.answers.get(request.headers["host"] + request.url.path) or httpx2.Response(200, content=b"text")

    def fetcher(self, **options: object) -> Fetcher:
        transport = httpx2.MockTransport(self.serve)
        return Fetcher(**{"resolve": self.resolve, "transport": transport, **options})  # type: ignore[arg-type]


async def test_a_public_file_comes_with_its_name() -> None:
    """The name tells a reader which file it was, and a parser nothing that it trusts."""
    web = Web()
    web.answers["example.com/docs/手册.docx"] = httpx2.Response(
        200, content=b"PK", headers={"content-type": "application/zip; charset=x"}
    )

    found = await web.fetcher().fetch("https://example.com/docs/%E6%89%8B%E5%86%8C.docx?sig=abc")

    assert found == Fetched(b"PK", "手册.docx", "application/zip")
    assert web.asked[0].url.query == b"sig=abc"


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        ('attachment; filename="a.pdf"', "a.pdf"),
        ("attachment; filename*=UTF-8''%E7%94%B2.pdf", "甲.pdf"),
        ('attachment; filename="../../etc/passwd"', "passwd"),
        ('attachment; filename="..\\\\..\\\\x.pdf"', "x.pdf"),
        ("attachment", "d"),
    ],
)
async def test_a_name_is_never_a_way(disposition: str, name: str) -> None:
    """A server of somebody else's must not choose a folder here."""
    web = Web()
    web.answers["example.com/d"] = httpx2.Response(200, content=b"x", headers={"content-disposition": disposition})

    assert (await web.fetcher().fetch("http://example.com/d")).name == name


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.1.2.3", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1"),
        *("169.254.169.254", "100.100.100.200", "100.64.0.1", "168.63.129.16", "192.0.0.192", "198.18.0.1"),
        *("224.0.0.1", "255.255.255.255", "240.0.0.1"),
        *("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1"),
        *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b::7f00:1"),
        *("2002:7f00:1::", "2001:0:5ef5:79fb::1", "64:ff9b:1::1", "::7f00:1", "::ffff:0:7f00:1", "192.88.99.1"),
    ],
)
async def test_no_address_inside_is_reached_by_name_or_number(address: str) -> None:
    """Loopback, private and link-local networks, metadata of clouds; also wrapped in IPv6."""
    web = Web(inside_example=[address])

    with pytest.raises(UrlNotFetched, match="not a public address") as caught:
        await web.fetcher().fetch("http://inside.example/")

    assert web.asked == []
    assert address not in caught.value.message


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "[::ffff:7f00:1]", "2130706433", "0x7f000001", "017700000001", "127.1"]
)
async def test_numbers_are_addresses_in_every_spelling(host: str) -> None:
    """Resolvers take more spellings than `ipaddress` does; what they say is what is looked at."""

    async def as_the_system_does(_name: str, _port: int) -> Sequence[str]:
        return ["::1" if ":" in host else "127.0.0.1"]

    with pytest.raises(UrlNotFetched, match="not a public address"):
        await Web().fetcher(resolve=as_the_system_does).fetch(f"http://{host}/")


async def test_a_name_with_one_address_inside_is_not_trusted_at_all() -> None:
    """Which of its addresses would be tried is nothing to bet on."""
    web = Web(mixed_example=[PUBLIC, "10.0.0.1"])

    with pytest.raises(UrlNotFetched):
        await web.fetcher().fetch("http://mixed.example/")


async def test_the_connection_goes_to_the_address_that_was_looked_at() -> None:
    """A name that changes its address between the look and the connection (rebinding) leads nowhere else."""
    web = Web()

    await web.fetcher().fetch("https://example.com:8443/a?b=c")

    [request] = web.asked
    assert str(request.url) == f"https://{PUBLIC}:8443/a?b=c"
    assert request.headers["host"] == "example.com:8443"
    assert request.extensions["sni_hostname"] == "example.com"  # the certificate is checked for the name
    assert web.resolved == ["example.com"]


async def test_every_redirect_is_looked_at_again() -> None:
    """A public server may point inside."""
    web = Web()
    web.answers["example.com/a"] = httpx2.Response(302, headers={"location": "/b"})
    web.answers["example.com/b"] = httpx2.Response(307, headers={"location": "http://169.254.169.254/latest"})

    with pytest.raises(UrlNotFetched, match="not a public address"):
        await web.fetcher().fetch("http://example.com/a")

    assert [request.url.path for request in web.asked] == ["/a", "/b"]


async def test_redirects_lead_on_a_few_times_and_to_http_only() -> None:
    """Endless ones end, and no other scheme is spoken."""
    web = Web()
    web.answers["example.com/loop"] = httpx2.Response(302, headers={"location": "/loop"})
    web.answers["example.com/file"] = httpx2.Response(302, headers={"location": "file:///etc/passwd"})

    with pytest.raises(UrlNotFetched, match="redirects more than"):
        await web.fetcher().fetch("http://example.com/loop")
    assert len(web.asked) == MOST_REDIRECTS + 1
    with pytest.raises(UrlNotFetched, match=r"not an http\(s\) address"):
        await web.fetcher().fetch("http://example.com/file")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("file:///etc/passwd", r"http\(s\)"),
        ("ftp://example.com/a", r"http\(s\)"),
        ("gopher://example.com/", r"http\(s\)"),
        ("example.com/a", r"http\(s\)"),
        ("http://", r"http\(s\)"),
        ("http://user:secret@example.com/", "user name"),
        ("http://[::1", "malformed"),
        ("http://example.com:99999/", "malformed"),
        ("http://example.com/" + "a" * 5000, "too long"),
    ],
)
async def test_what_is_no_web_address_is_refused(url: str, why: str) -> None:
    """With the reason, and without repeating a password."""
    with pytest.raises(UrlNotFetched, match=why) as caught:
        await Web().fetcher().fetch(url)

    assert (caught.value.status, caught.value.param) == (400, "messages")
    assert "doc_url" in caught.value.message
    assert "secret" not in caught.value.message


async def test_the_operator_may_allow_a_network() -> None:
    """Documents may lie on a server of one's own."""
    web = Web(files_lan=["10.1.2.3"], other_lan=["10.9.9.9"])
    fetcher = web.fetcher(allowed=["10.1.0.0/16"])

    assert (await fetcher.fetch("http://files.lan/a.txt")).content == b"text"
    with pytest.raises(UrlNotFetched):
        await fetcher.fetch("http://other.lan/a.txt")


@pytest.mark.parametrize("declares", [True, False])
async def test_a_file_beyond_the_limit_is_given_up(declares: bool) -> None:
    """By what its server says, or by what comes."""
    pieces = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal pieces
        while True:
            pieces += 1
            yield b"x" * 1000

    headers = {"content-length": "5000"} if declares else {}
    web = Web()
    web.answers["example.com/a"] = httpx2.Response(200, content=endless(), headers=headers)

    with pytest.raises(UrlNotFetched, match="2500"):
        await web.fetcher(most_bytes=2500).fetch("http://example.com/a")
    assert pieces == (0 if declares else 3)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (httpx2.Response(404), "HTTP 404"),
        (httpx2.Response(200, content=b""), "empty"),
        (httpx2.Response(200, content=b"x", headers={"content-type": "video/mp4"}), "video/mp4"),
        (httpx2.Response(302), "HTTP 302"),
    ],
)
async def test_an_answer_that_is_no_document_is_refused(answer: httpx2.Response, why: str) -> None:
    """What a parser would make of it helps nobody."""
    web = Web()
    web.answers["example.com/a"] = answer

    with pytest.raises(UrlNotFetched, match=why):
        await web.fetcher().fetch("http://example.com/a")


async def test_what_is_packed_is_refused() -> None:
    """A small answer may unpack to more than the disk holds."""
    web = Web()
    stream = httpx2.ByteStream(b"\x1f\x8b")
    web.answers["example.com/a"] = httpx2.Response(200, stream=stream, headers={"content-encoding": "gzip"})

    with pytest.raises(UrlNotFetched, match="packs it"):
        await web.fetcher().fetch("http://example.com/a")


async def test_a_server_that_hangs_is_given_up() -> None:
    """A call has an end."""

    async def hang(_request: httpx2.Request) -> httpx2.Response:
        await asyncio.Event().wait()
        raise AssertionError

    with pytest.raises(UrlNotFetched, match="longer than"):
        await Fetcher(resolve=Web().resolve, transport=httpx2.MockTransport(hang), limit_s=0.01).fetch(
            "http://example.com/"
        )


async def test_over_a_real_connection_the_name_is_told_and_the_address_is_dialled() -> None:
    """What holds for a transport in memory must hold on the wire."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello")
        await writer.drain()
        writer.close()

    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = f"http://files.example:{port}/a.txt"
    async with server:
        found = await Fetcher(resolve=resolve, allowed=["127.0.0.0/8"]).fetch(url)
        with pytest.raises(UrlNotFetched):
            await Fetcher(resolve=resolve).fetch(url)

    assert found.content == b"hello"
    assert len(heads) == 1
    assert f"host: files.example:{port}".encode() in heads[0].lower()


async def test_a_server_that_is_not_there_is_said_without_its_address() -> None:
    """What the network says would tell a caller which ports are open inside."""

    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return ["127.0.0.1"]

    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()

    with pytest.raises(UrlNotFetched, match="no connection came about") as caught:
        await Fetcher(resolve=resolve, allowed=["127.0.0.0/8"]).fetch(f"http://files.example:{port}/a")

    assert "127.0.0.1" not in caught.value.message
