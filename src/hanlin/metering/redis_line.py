"""One conversation with Redis: what is asked at the same time goes in one round trip, and nobody waits past a deadline.

    well ──no answer in time, or a broken connection──▶ away ──a probe succeeds──▶ well

A single task speaks, on one connection. While Redis is away, whoever asks is told so at once, and the task probes: no
call has to find out whether Redis is back. What was under way when it went away may have been done, or may yet be, by a
Redis that was only asleep: a question learns whether that is in doubt (`lost`) or not (`unsent`).
"""

import asyncio
import contextlib
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hanlin.errors import StartupError
from hanlin.words import say

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

log = logging.getLogger(__name__)

_BATCH = 128
_GRACE_S = 0.01
_PROBE_S = 1.0
"""How long a probe may take. Nobody waits for it, and it may have to connect, with TLS, over some distance."""

_PAUSES_S = (0.2, 0.5, 1.0, 2.0)
"""How long the task waits before it probes for the first time, the second, and so on; then always as long as last."""


class Away(Exception):
    """Redis does not answer. The message says how that was noticed: for the log, it names addresses."""


class Question:
    """One call of the script, and what becomes of it: exactly one of `answered`, `lost` and `unsent` is called.

    None of them may wait or fail.
    """

    __slots__ = ("args", "keys")

    def __init__(self, keys: Sequence[str], args: Sequence[str | int | float]) -> None:
        self.keys = keys
        self.args = args

    @property
    def is_wanted(self) -> bool:
        """Whether it still needs to be sent; asked when its turn has come."""
        return True

    def answered(self, reply: Any) -> None:
        """Hear the reply."""

    def lost(self, why: Away) -> None:
        """Hear that it was sent and that nobody knows whether it was done."""

    def unsent(self, why: Away) -> None:
        """Hear that it was not done."""


class RedisLine:
    """Runs one script on one Redis. `back` is called when that answers again, before anything else is sent to it."""

    def __init__(self, connection: "AbstractConnection", script: str, limit_s: float, back: Callable[[], None]) -> None:
        self.away_since: float | None = None
        self.outages = 0
        self.why = ""
        self._connection = connection
        self._script = script
        self._digest = ""
        self._limit_s = limit_s
        self._back = back
        self._queue: deque[Question] = deque()
        self._has_questions = asyncio.Event()
        self._is_silent = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False

    def send(self, question: Question) -> None:
        """Put a question; what becomes of it, it is told itself. Never waits."""
        if self.away_since is not None or self._is_closed:
            question.unsent(Away(self.why))
            return
        if self._task is None:
            self._task = asyncio.create_task(self._speak())
        self._queue.append(question)
        self._is_silent.clear()
        self._has_questions.set()

    async def close(self) -> None:
        """Send what is waiting, if Redis takes it in time, and hang up."""
        if self._task is not None:
            if self.away_since is None:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._is_silent.wait(), self._limit_s)
            self._is_closed = True
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._is_closed = True
        await self._connection.disconnect(nowait=True)

    async def _speak(self) -> None:
        while True:
            if self.away_since is not None:
                await self._probe()
            elif self._queue:
                await self._send([self._queue.popleft() for _ in range(min(len(self._queue), _BATCH))])
            else:
                self._is_silent.set()
                self._has_questions.clear()
                await self._has_questions.wait()

    async def _send(self, questions: list[Question]) -> None:
        batch = []
        for question in questions:
            if question.is_wanted:
                batch.append(question)
            else:
                question.unsent(Away("nobody waits for it any more"))
        if not batch:
            return
        exchange = asyncio.create_task(self._exchange(batch))
        try:
            if not await in_time(exchange, self._limit_s):
                raise TimeoutError
            replies = exchange.result()
        except asyncio.CancelledError:
            await self._end(exchange)
            for question in batch:
                question.lost(Away("the service ends"))
            raise
        except Exception as error:  # whatever a client's library raises: the conversation goes on, or nobody ever calls
            await self._end(exchange)
            await self._lose(batch, error)
        else:
            for question, reply in zip(batch, replies, strict=True):
                question.answered(reply)

    async def _end(self, exchange: "asyncio.Task[list[Any]]") -> None:
        """End what was being said. The connection goes with it: a late answer must not be taken for a later one's."""
        exchange.cancel()
        await asyncio.gather(exchange, return_exceptions=True)
        await self._connection.disconnect(nowait=True)

    async def _exchange(self, batch: list[Question]) -> list[Any]:
        """Return the replies. A server that does not know the script has done nothing, and is taught it."""
        from redis.exceptions import NoScriptError  # an extra: see `connect`

        replies: list[Any] = [None] * len(batch)
        places = list(range(len(batch)))
        while places:
            await self._teach()
            asked = [batch[place] for place in places]
            heard = await self._talk([("EVALSHA", self._digest, len(one.keys), *one.keys, *one.args) for one in asked])
            for place, reply in zip(places, heard, strict=True):
                replies[place] = reply
            places = [place for place in places if isinstance(replies[place], NoScriptError)]
            if places:
                self._digest = ""
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies

    async def _teach(self) -> None:
        if not self._digest:
            (digest,) = await self._talk([("SCRIPT LOAD", self._script)])
            if isinstance(digest, Exception):
                raise digest
            self._digest = digest

    async def _talk(self, commands: list[tuple[Any, ...]]) -> list[Any]:
        """Return the replies to commands that are sent together; an error of the server is a reply, too."""
        from redis.exceptions import ResponseError  # an extra: see `connect`

        connection = self._connection
        await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        replies: list[Any] = []
        for _ in commands:
            try:
                replies.append(await connection.read_response())
            except ResponseError as error:
                replies.append(error)
        return replies

    async def _lose(self, batch: list[Question], error: Exception) -> None:
        self.why = self._named(error)
        self.away_since = time.time()
        self.outages += 1
        log.warning("Redis, where limits are kept, is away: %s", self.why)
        waiting, self._queue = self._queue, deque()
        self._is_silent.set()
        for question in batch:
            question.lost(Away(self.why))
        for question in waiting:
            question.unsent(Away(self.why))

    async def _probe(self) -> None:
        for pause_s in itertools.chain(_PAUSES_S, itertools.repeat(_PAUSES_S[-1])):
            await asyncio.sleep(pause_s)
            try:
                async with asyncio.timeout(_PROBE_S):
                    self._digest = ""
                    await self._teach()
                break
            except Exception as error:  # as above
                self.why = self._named(error)
                await self._connection.disconnect(nowait=True)
        log.warning("Redis, where limits are kept, is back")
        self.away_since, self.why = None, ""
        self._back()

    def _named(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return "no answer in time"
        return f"{type(error).__name__}: {error}"


async def in_time(future: "asyncio.Future[Any]", limit_s: float) -> bool:
    """Say whether a future is done within a time.

    A loop that stood still itself finds the time over and an answer waiting: it looks once more before it blames Redis.
    """
    await asyncio.wait((future,), timeout=limit_s)
    if not future.done():
        await asyncio.sleep(_GRACE_S)
    return future.done()


def connect(url: str) -> "AbstractConnection":
    """Return a connection that is opened when it is first used, and tries everything once.

    Raises StartupError where the `redis` package is missing, or the URL is none; its password is not shown.
    """
    try:
        from redis.asyncio.connection import ConnectionPool  # an extra: most services are one process
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ImportError as error:
        raise StartupError(
            say(
                "limits are to be kept in Redis, and the package for it is missing: pip install 'hanlin[redis]'",
                "限额需保存在 Redis 中，但缺少所需的软件包：pip install 'hanlin[redis]'",
            )
        ) from error
    try:
        pool: ConnectionPool = ConnectionPool.from_url(
            url,
            protocol=2,
            decode_responses=True,
            socket_timeout=None,  # the conversation has one deadline, for all it says at once
            socket_connect_timeout=_PROBE_S,
            # What was asked once may have been done: whether to ask again is not the library's decision.
            retry=Retry(NoBackoff(), 0),
        )
        connection: AbstractConnection = pool.make_connection()  # type: ignore[no-untyped-call]
        return connection
    except (ValueError, TypeError):
        # What the library says repeats parts of the address, and of a password in it that was not encoded.
        raise StartupError(
            say(
                "the address of Redis is not one. Give redis://USER:PASSWORD@HOST:PORT/NUMBER (rediss:// with TLS); in "
                "a password, characters such as / @ # are written as %2F %40 %23",
                "Redis 地址无效。格式为 redis://用户:密码@主机:端口/编号（TLS 用 rediss://）；"
                "密码中的 / @ # 等字符须写作 %2F %40 %23",
            )
        ) from None
