"""Bodies that are read as they come: never much of them in memory, however slow whoever reads them is."""

import asyncio

import pytest

from hanlin.errors import BodyTooLarge, HanlinError
from hanlin.http.exchange import Exchange, Gone
from tests.http_echo import request, settle, until
from tests.http_peer import Line, read

LIMIT_BYTES = 10_000_000
PIECE = b"x" * 65_536


class Taker:
    """An application that takes a body piece by piece, each when it is told to."""

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self.pieces: list[bytes] = []
        self.told = asyncio.Semaphore(0)
        self.ended: str | None = None
        self._limit_bytes = limit_bytes

    async def __call__(self, exchange: Exchange) -> None:
        try:
            async for piece in exchange.pieces(self._limit_bytes):
                self.pieces.append(piece)
                await self.told.acquire()
        except Gone:
            self.ended = "gone"
        except HanlinError as problem:
            self.ended = type(problem).__name__
            await exchange.answer(problem.status, b"")
        else:
            self.ended = "whole"
            await exchange.answer(200, b"thanks")

    def go_on(self, times: int = 10_000) -> None:
        for _ in range(times):
            self.told.release()


def post(size: int, *lines: str) -> bytes:
    return request("/x", f"content-length: {size}", *lines, method="POST")


async def test_a_body_arrives_whole_in_pieces() -> None:
    """Whatever the network made of it."""
    taker = Taker()
    taker.go_on()
    body = bytes(range(256)) * 4000
    line = Line(taker)
    line.send(post(len(body)) + body[:10])
    for at in range(10, len(body), 50_000):
        line.send(body[at : at + 50_000])
        await settle()

    assert b"".join(taker.pieces) == body
    assert taker.ended == "whole"
    assert [answer.status for answer in read(line.arrived)] == [200]
    assert not line.closed


async def test_a_body_in_chunks_arrives_as_well() -> None:
    """Scripts that do not know the length of what they send."""
    taker = Taker()
    taker.go_on()
    line = Line(taker)
    line.send(request("/x", "transfer-encoding: chunked", method="POST"))
    for _ in range(20):
        line.send(b"10000\r\n" + PIECE + b"\r\n")
        await settle()
    line.send(b"0\r\n\r\n")
    await until(lambda: taker.ended is not None)

    assert sum(map(len, taker.pieces)) == 20 * len(PIECE)


async def test_a_client_is_slowed_down_by_whoever_takes_its_body() -> None:
    """A gigabyte that comes faster than a disk takes it must wait in the client's memory, not in ours."""
    taker = Taker()
    line = Line(taker)
    line.send(post(100 * len(PIECE)))
    sent = 0
    for _ in range(100):
        while not line.paused and sent < 100:
            line.send(PIECE)
            sent += 1
            await settle()
        assert sum(map(len, taker.pieces)) >= (sent - 7) * len(PIECE)
        taker.go_on(1)
        await settle()

    assert sent == 100
    taker.go_on()
    await until(lambda: taker.ended is not None)
    assert max(map(len, taker.pieces)) <= 6 * len(PIECE)
    assert b"".join(taker.pieces) == PIECE * 100


async def test_a_body_that_says_it_is_too_large_is_refused_before_it_comes() -> None:
    """And the limit of one that does not say is found on the way."""
    said, found = Taker(limit_bytes=100), Taker(limit_bytes=100)
    found.go_on()
    line = Line(said)
    line.send(post(101))
    chunked = Line(found)
    chunked.send(request("/x", "transfer-encoding: chunked", method="POST") + b"65\r\n" + b"x" * 101 + b"\r\n")
    await settle()

    assert (said.ended, said.pieces) == (BodyTooLarge.__name__, [])
    assert (found.ended, found.pieces) == (BodyTooLarge.__name__, [])


async def test_whoever_takes_a_body_learns_that_its_client_is_gone() -> None:
    """Half a file is no file."""
    taker = Taker()
    taker.go_on()
    line = Line(taker)
    line.send(post(1000) + b"x" * 10)
    await settle()

    line.hang_up()
    await until(lambda: taker.ended is not None)

    assert taker.ended == "gone"


async def test_a_body_that_breaks_off_in_nonsense_is_no_body() -> None:
    """What came of it is not taken for the whole."""
    taker = Taker()
    taker.go_on()
    line = Line(taker)
    line.send(request("/x", "transfer-encoding: chunked", method="POST") + b"2\r\nab\r\n")
    await settle()

    line.send(b"nonsense\r\n")
    await until(lambda: taker.ended is not None)

    assert taker.ended == "InvalidRequest"


async def test_a_client_that_asks_first_is_told_to_send() -> None:
    """curl waits a second for it before every larger body."""
    taker = Taker()
    taker.go_on()
    line = Line(taker)
    line.send(post(3, "expect: 100-continue"))
    await settle()
    assert line.arrived == b"HTTP/1.1 100 Continue\r\n\r\n"

    line.send(b"abc")
    await until(lambda: taker.ended is not None)

    assert taker.pieces == [b"abc"]


@pytest.mark.parametrize("body", [b"", b"abc"])
async def test_a_body_that_is_here_already_is_one_piece_at_most(body: bytes) -> None:
    """Small files come in one packet with their head."""
    taker = Taker()
    taker.go_on()
    line = Line(taker)
    line.send(post(len(body)) + body)
    await settle()

    assert (taker.pieces, taker.ended) == ([body] if body else [], "whole")
