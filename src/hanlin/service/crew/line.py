"""A worker's own connection to the main process: short questions, and what it is told."""

import asyncio
import itertools
import logging
from collections.abc import Callable
from typing import Protocol

from hanlin.service.crew.channel import Channel
from hanlin.service.crew.messages import (
    Allowed,
    Answered,
    Denied,
    Drain,
    Pages,
    PagesAsked,
    PageWanted,
    Place,
    Placed,
    Pulse,
    Refused,
    Roster,
    Take,
    Told,
    Untold,
    decode_heard,
    encode,
)

_GRACE_S = 0.01
_SILENT_BEATS = 10

log = logging.getLogger("hanlin.service")

Question = Take | Place | PagesAsked
_ANSWERS = (Allowed, Denied, Untold, Placed, Refused, Pages)


class Away(Exception):
    """The main process does not answer."""


class Listener(Protocol):
    """Hears what the main process says by itself. None of these may wait or fail."""

    def roster(self, roster: Roster) -> None: ...
    def pulse(self, pulse: Pulse) -> None: ...
    def page_wanted(self, number: int) -> None: ...
    def drain(self) -> None: ...


class Line:
    """The questions that are open, and the one who listens. `over` is set when the main process has hung up.

    `is_away`: a question had no answer in its time, and nothing has been heard since. `is_silent`: not even a sign of
    life has come for long; then questions without a limit, and the `calls` of engines there, are given up.
    """

    def __init__(self, channel: Channel, *, beat_s: float = 1.0) -> None:
        self.is_away = False
        self.is_silent = False
        self.over = asyncio.Event()
        self.calls: set[Channel] = set()
        self._channel = channel
        self._beat_s = beat_s
        self._unheard = 0
        self._numbers = itertools.count(1)
        self._open: dict[int, asyncio.Future[Answered]] = {}

    def number(self) -> int:
        """Return a number that no other question has."""
        return next(self._numbers)

    def tell(self, message: Told) -> None:
        """Say something; never waits. Once the main process has hung up, nobody hears it."""
        self._channel.send(encode(message))

    async def ask(self, question: Question, within_s: float | None = None) -> Answered:
        """Return the answer. Raises Away when there is none in time; None is any time.

        Whoever leaves by that, or is cancelled, may have been answered all the same: the main process cannot know.
        """
        if self.over.is_set() or self.is_silent:
            raise Away
        answer: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        self._open[question.number] = answer
        self.tell(question)
        try:
            if within_s is not None:
                await asyncio.wait((answer,), timeout=within_s)
                if not answer.done():
                    await asyncio.sleep(_GRACE_S)  # a loop that stood still itself looks once more
                if not answer.done():
                    self.is_away = True
                    raise Away
            return await answer
        finally:
            del self._open[question.number]

    async def run(self, listener: Listener) -> None:
        """Hear what is said, until the main process hangs up, or says what cannot be done."""
        says: dict[type[object], Callable[..., None]] = {
            Roster: listener.roster,
            Pulse: listener.pulse,
            PageWanted: lambda wanted: listener.page_wanted(wanted.number),
            Drain: lambda _: listener.drain(),
        }
        watching = asyncio.create_task(self._watch())
        try:
            while (data := await self._channel.receive()) is not None:
                self.is_away = self.is_silent = False
                self._unheard = 0
                heard = decode_heard(data)
                if not isinstance(heard, _ANSWERS):
                    says[type(heard)](heard)
                elif (answer := self._open.get(heard.number)) is not None and not answer.done():
                    answer.set_result(heard)
        except Exception:  # what cannot be done leaves this worker unlike the others: it ends, and is started anew
            log.exception("what the main process said could not be done")
        finally:
            self.over.set()
            watching.cancel()
            self._give_up()
            self._channel.close()

    async def _watch(self) -> None:
        """Notice that the main process stands still. Looks are counted: this process may have stood still itself."""
        while True:
            await asyncio.sleep(self._beat_s)
            self._unheard += 1
            if self._unheard >= _SILENT_BEATS and not self.is_silent:
                log.error("the main process gives no sign of life")
                self.is_away = self.is_silent = True
                self._give_up()

    def _give_up(self) -> None:
        for answer in self._open.values():
            if not answer.done():
                answer.set_exception(Away())
        for channel in self.calls:
            channel.close()
