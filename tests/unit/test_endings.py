"""Whole answers to billed calls leave together, each behind its bill, and nobody's mistake is another's."""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import cast

import pytest

from hanlin.errors import HanlinError
from hanlin.http.accounts import Account
from hanlin.http.endings import Endings
from hanlin.http.exchange import Exchange
from tests.http_peer import Line, read


class Book:
    """Answers billed calls with their path, and notes in `said` what becomes of them. `broken` are paths whose bill
    fails; paths that begin with `/s` are answered in pieces. Nothing is kept while the disk is `lost`.
    """

    def __init__(self, *broken: str) -> None:
        self.said: list[str] = []
        self.broken = broken
        self.lost = False
        self.when_handled: Callable[[], object] = int
        self.endings = Endings(lambda exchange: self.said.append(f"{exchange.path} over"), self.together)

    @contextmanager
    def together(self) -> Iterator[None]:
        yield
        if self.lost:
            raise MemoryError
        self.said.append("kept")

    async def __call__(self, exchange: Exchange) -> None:
        await exchange.body(10)
        exchange.account = cast(Account, Its(self, exchange.path))
        exchange.endings = self.endings
        if exchange.path.startswith("/s"):
            exchange.begin(200, "text/plain")
            exchange.push(b"piece ")
            exchange.finish(exchange.path.encode())
        else:
            await exchange.answer(200, exchange.path.encode())
        self.said.append(f"{exchange.path} handled")
        self.when_handled()


class Its:
    """The account of one call and its bill."""

    def __init__(self, book: Book, path: str) -> None:
        self.bill = self
        self.row: object = None
        self.reservation = object()
        self._book = book
        self._path = path

    def settle(
        self, ends_s: Mapping[str, float] | None = None, status: int = 0, problem: HanlinError | None = None
    ) -> None:
        if ends_s is None:  # the bill's, which gives back what the call held
            self._book.said.append(f"{self._path} settled")
            return
        if self._path in self._book.broken:
            raise RuntimeError(f"no bill for {problem}")
        self.row = object()
        self._book.said.append(f"{self._path} written: {status}")


def request(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: hanlin\r\n\r\n".encode()


class Watched(Line):
    """A network that notes in the book when something leaves."""

    def __init__(self, book: Book) -> None:
        super().__init__(book)
        self._book = book

    def write(self, data: bytes | bytearray | memoryview) -> None:
        super().write(data)
        self._book.said.append(f"{bytes(data)[-2:].decode()} left")


async def test_an_answer_leaves_behind_its_bill_and_before_its_connection_goes_on() -> None:
    """A caller who has the answer may call again: the row is kept then, and what the call held is free."""
    book = Book()
    line = Watched(book)

    line.send(request("/a"))
    await line.until(b"/a")

    assert book.said == ["/a handled", "/a written: 200", "/a settled", "kept", "/a left", "/a over"]


async def test_the_end_of_a_stream_waits_as_a_whole_answer_does() -> None:
    """Its pieces do not: they leave as they come."""
    book = Book()
    line = Line(book)

    line.send(request("/s") + request("/a"))
    await line.until(b"0\r\n\r\n")
    await line.until(b"/a")

    assert [answer.body for answer in read(line.arrived)] == [b"piece /s", b"/a"]
    assert book.said[:5] == ["/s handled", "/s written: 200", "/s settled", "kept", "/s over"]


async def test_the_answers_of_a_turn_leave_together() -> None:
    """That is what they wait for: none of them waits longer than the calls of its own turn."""
    book = Book()
    lines = [Watched(book), Watched(book)]

    for line, path in zip(lines, ("/a", "/b"), strict=True):
        line.send(request(path))
    for line, answer in zip(lines, (b"/a", b"/b"), strict=True):
        await line.until(answer)

    assert book.said[:2] == ["/a handled", "/b handled"]
    assert book.said.count("kept") == 1
    assert book.said.index("/b written: 200") < book.said.index("kept") < book.said.index("/a left")
    assert book.said.index("/b left") < book.said.index("/a over")


async def test_requests_of_one_connection_are_answered_in_their_order() -> None:
    """What a client sent ahead begins when the answer before it has left."""
    book = Book()
    line = Line(book)

    line.send(request("/a") + request("/b") + request("/c"))
    await line.until(b"/c")

    assert [answer.body for answer in read(line.arrived)] == [b"/a", b"/b", b"/c"]


async def test_a_bill_that_fails_costs_its_own_caller_the_answer_and_nobody_else(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing leaves that no bill stands for; the connection ends, so that its caller knows."""
    book = Book("/a")
    broken, well = Line(book), Line(book)

    with caplog.at_level(logging.ERROR, "hanlin.http"):
        broken.send(request("/a"))
        well.send(request("/b"))
        await well.until(b"/b")
        await broken.until_closed()

    assert broken.arrived == b""
    assert "/a settled" in book.said  # what it held is free
    assert [record.getMessage().partition(": ")[2] for record in caplog.records] == ["its bill could not be settled"]


async def test_where_no_bill_can_be_kept_no_caller_waits_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    """A mistake of ours, or no memory: nothing leaves, the calls are over, and their connections end."""
    book = Book()
    book.lost = True
    lines = [Line(book), Line(book)]

    with caplog.at_level(logging.ERROR, "hanlin.http"):
        for line, path in zip(lines, ("/a", "/s"), strict=True):
            line.send(request(path))
        for line in lines:
            await line.until_closed()

    assert b"/a" not in lines[0].arrived
    assert b"/s" not in lines[1].arrived
    assert {"/a over", "/s over"} <= set(book.said)
    assert caplog.records


@pytest.mark.parametrize("path", ["/a", "/s"])
async def test_a_client_that_leaves_meanwhile_is_no_hindrance(path: str) -> None:
    """Its call is settled as one that nobody heard the end of."""
    book = Book()
    line = Line(book)

    line.send(request(path))
    book.when_handled = line.hang_up
    await line.until_closed()
    await asyncio.sleep(0.01)

    assert book.said == [f"{path} handled", f"{path} written: 0", f"{path} settled", "kept", f"{path} over"]
    assert path.encode() not in line.arrived
