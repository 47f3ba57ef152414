"""What is on the server's side of a connection in tests: an application that says what it was asked, and requests."""

import asyncio
from collections.abc import Callable

from hanlin.errors import BodyTooLarge, InvalidRequest
from hanlin.http.exchange import Exchange, Gone
from tests.http_peer import Line

LIMIT_BYTES = 1000
HOST = "host: hanlin"


class Echo:
    """An application that says what it was asked; `/wait` waits for `word` first, `/stream` answers in pieces."""

    def __init__(self) -> None:
        self.word = asyncio.Event()
        self.asked: list[str] = []
        self.bodies: list[bytes] = []
        self.ended: list[str] = []
        self.reached = asyncio.Event()

    async def __call__(self, exchange: Exchange) -> None:
        self.asked.append(f"{exchange.method} {exchange.path}")
        try:
            await self._answer(exchange)
            self.ended.append("answered")
        except Gone:
            self.ended.append("gone")
        except BodyTooLarge as problem:
            await exchange.answer(problem.status, problem.message.encode())
            self.ended.append("too large")
        except InvalidRequest as problem:
            await exchange.answer(problem.status, problem.message.encode())
            self.ended.append("broken")

    async def _answer(self, exchange: Exchange) -> None:
        if exchange.path == "/unread":
            await exchange.answer(401, b"no")
            return
        self.bodies.append(bytes(await exchange.body(LIMIT_BYTES)))
        self.reached.set()
        if exchange.path == "/wait":
            await exchange.unless_gone(self._wait())
        if exchange.path == "/stream":
            await exchange.start(200, "text/plain")
            await exchange.write(b"one")
            await exchange.unless_gone(self._wait())
            await exchange.write(b"two")
            await exchange.end()
        else:
            await exchange.answer(200, self.asked[-1].encode())

    async def _wait(self) -> None:
        await self.word.wait()


def request(path: str = "/", *lines: str, method: str = "GET", body: bytes = b"", version: str = "1.1") -> bytes:
    sized = (f"content-length: {len(body)}",) if body else ()
    return "\r\n".join([f"{method} {path} HTTP/{version}", HOST, *lines, *sized, "", ""]).encode("latin-1") + body


async def until(done: Callable[[], bool]) -> None:
    """Wait for what tells nobody that it has happened."""
    async with asyncio.timeout(20):
        while not done():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def settle() -> None:
    """Let every task go on until it waits."""
    for _ in range(20):
        await asyncio.sleep(0)


async def answered(*packets: bytes, app: Echo | None = None) -> Line:
    """Return a line on which these packets were sent and everything was done that could be."""
    line = Line(app or Echo())
    for packet in packets:
        if not line.closed:
            line.send(packet)
        await settle()
    return line
