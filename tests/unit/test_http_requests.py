"""Requests: what is read as one however it is written and cut, and what is not taken for HTTP."""

import pytest

from tests.http_echo import Echo, answered, request, settle
from tests.http_peer import Line, read


@pytest.mark.parametrize(
    ("sent", "asked", "body"),
    [
        (request("/a?b=c"), "GET /a", b""),
        (request("http://hanlin/a?b"), "GET /a", b""),
        (request("http://hanlin"), "GET /", b""),
        (request("*", method="OPTIONS"), "OPTIONS *", b""),
        (request("/%E4%BD%A0"), "GET /%E4%BD%A0", b""),
        (request("/x", method="POST", body=b"hello"), "POST /x", b"hello"),
        (request("/x", "Content-Length: 0", method="POST"), "POST /x", b""),
        (request("/x", "Content-Length: 2  ", method="POST") + b"ab", "POST /x", b"ab"),
        (
            request("/x", "Transfer-Encoding: Chunked", method="PUT") + b"2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\n\r\n",
            "PUT /x",
            b"hello",
        ),
        (
            request("/x", "transfer-encoding: chunked", method="POST") + b"1\r\na\r\n0\r\nhost: b\r\n\r\n",
            "POST /x",
            b"a",
        ),
        (b"\r\n" + request("/x"), "GET /x", b""),
        (
            request("/x", "upgrade: h2c", "connection: Upgrade, HTTP2-Settings", method="POST", body=b"ab"),
            "POST /x",
            b"ab",
        ),
        (request("/x", "upgrade: h2c", "connection: upgrade"), "GET /x", b""),
        (
            request("/x", "upgrade: h2c", "connection: upgrade", "transfer-encoding: chunked", method="POST")
            + b"2\r\nab\r\n0\r\n\r\n",
            "POST /x",
            b"ab",
        ),
    ],
)
async def test_requests_are_read_however_they_are_written(sent: bytes, asked: str, body: bytes) -> None:
    """Java's client offers HTTP/2 with every call, scripts send chunks, proxies whole addresses."""
    app = Echo()
    line = await answered(sent + request("/next"), app=app)

    assert app.asked == [asked, "GET /next"]
    assert app.bodies == [body, b""]
    assert [answer.status for answer in read(line.arrived)] == [200, 200]
    assert not line.closed


@pytest.mark.parametrize(
    "sent",
    [
        request("/x", "x-a: b", method="POST", body=b"hello"),
        request("/x", "transfer-encoding: chunked", method="POST") + b"2\r\nhe\r\n3\r\nllo\r\n0\r\nx: y\r\n\r\n",
        request("/x", "upgrade: h2c", "connection: upgrade", method="POST", body=b"hello"),
    ],
)
async def test_a_request_may_be_cut_anywhere(sent: bytes) -> None:
    """Networks cut where they like: at every byte, and all of them at once."""
    twice = sent + sent
    cuts = [[twice[:at], twice[at:]] for at in range(1, len(twice))] + [
        [twice[at : at + 1] for at in range(len(twice))]
    ]

    for packets in cuts:
        app = Echo()
        line = Line(app)
        for packet in packets:
            line.send(packet)
        await settle()

        assert app.bodies == [b"hello", b"hello"]
        assert [answer.body for answer in read(line.arrived)] == [b"POST /x"] * 2


POST = b"POST / HTTP/1.1\r\nhost: a\r\n"

SMUGGLED = {
    "length and chunks": POST + b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and length": POST + b"transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"content-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
    "one length twice": POST + b"content-length: 3\r\ncontent-length: 3\r\n\r\nabc",
    "a list of lengths": POST + b"content-length: 3, 3\r\n\r\nabc",
    "a signed length": POST + b"content-length: +3\r\n\r\nabc",
    "a negative length": POST + b"content-length: -3\r\n\r\nabc",
    "a hexadecimal length": POST + b"content-length: 0x3\r\n\r\nabc",
    "an empty length": POST + b"content-length:\r\n\r\nabc",
    "an endless length": POST + b"content-length: 99999999999999999999\r\n\r\nabc",
    "a space before the colon": POST + b"content-length : 3\r\n\r\nabc",
    "a folded line": POST + b"x: a\r\n b\r\n\r\n",
    "a folded first line": b"POST / HTTP/1.1\r\n host: a\r\n\r\n",
    "bare line feeds": b"POST / HTTP/1.1\nhost: a\n\n",
    "a bare line feed in the head": b"POST / HTTP/1.1\r\nhost: a\nx: y\r\n\r\n",
    "a bare line feed at its end": POST + b"\nabc",
    "a bare carriage return": POST + b"x: a\rb\r\n\r\n",
    "a NUL": POST + b"x: a\x00b\r\n\r\n",
    "an unknown coding": POST + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
    "two codings": POST + b"transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "no coding": POST + b"transfer-encoding: identity\r\n\r\n0\r\n\r\n",
    "chunks twice": POST + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": b"POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\nx: y\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nhost: a\r\nHost: b\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/1.2": b"GET / HTTP/1.2\r\nhost: a\r\n\r\n",
    "a tunnel": b"CONNECT a:80 HTTP/1.1\r\nhost: a\r\n\r\n",
    "no method": b"/ HTTP/1.1\r\nhost: a\r\n\r\n",
    "an unknown method": b"FETCH / HTTP/1.1\r\nhost: a\r\n\r\n",
    "no token": b"GET / HTTP/1.1\r\nhost: a\r\nx y: z\r\n\r\n",
    "Chinese in the target": "GET /你 HTTP/1.1\r\nhost: a\r\n\r\n".encode(),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "many headers": b"GET / HTTP/1.1\r\nhost: a\r\n" + b"x: y\r\n" * 128 + b"\r\n",
    "a large head": b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 70_000 + b"\r\n\r\n",
    "a head without end": b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 70_000,
    "a large target": b"GET /" + b"y" * 70_000,
    "empty lines without end": b"\r\n" * 40_000,
}


@pytest.mark.parametrize("sent", SMUGGLED.values(), ids=SMUGGLED)
async def test_what_two_servers_could_read_differently_is_refused(sent: bytes) -> None:
    """A proxy in front may see other requests in it: nothing after it is believed, and the connection ends."""
    app = Echo()
    line = await answered(sent, request("/smuggled"), app=app)

    (answer,) = read(line.arrived)
    assert app.asked == []
    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert answer.json.keys() == {"error", "id", "request_id"}
    assert answer.json["error"]["type"] == "invalid_request_error"
    assert answer.headers["x-request-id"] == answer.json["request_id"]
    assert line.half_closed
    assert len(line.pieces) == 1


@pytest.mark.parametrize(
    "broken", [b"0x2\r\nab", b"2\nab", b"2\r\nabX", b"-1\r\n", b"ffffffffffffffffff\r\n", b"0\r\nx: " + b"y" * 70_000]
)
async def test_a_body_that_breaks_off_in_nonsense_is_refused_by_its_call(broken: bytes) -> None:
    """The call has begun and waits for the body; it answers, and nothing more is read."""
    app = Echo()
    line = await answered(
        request("/x", "transfer-encoding: chunked", method="POST"), broken, request("/smuggled"), app=app
    )

    (answer,) = read(line.arrived)
    assert (answer.status, answer.headers["connection"]) == (400, "close")
    assert b"not HTTP as it should be" in answer.body
