"""Streams to clients: what the headers wait for, silence, slow readers, failures early and late, and the end."""

import asyncio
import time
from collections.abc import Sequence
from itertools import pairwise

import pytest

from hanlin.errors import EngineFailed, EngineUnavailable, HanlinError
from hanlin.http.exchange import Exchange, Gone
from hanlin.http.streaming import KEEP_ALIVE, StreamedAnswer
from hanlin.testing import HANG, ScriptedEngine
from hanlin.testing.scripted import Step
from hanlin.types import Burst, Event
from tests.http_peer import Peer
from tests.values import request

LONG_S = 60.0
SHORT_S = 0.05


class PlainFrames:
    """Frames that can be read in a test: `<` opens, `>` closes, `!` is an error."""

    def open(self) -> bytes:
        return b"<"

    def frames(self, burst: Burst) -> bytes:
        return "".join(event.text for event in burst).encode()

    def close(self) -> bytes:
        return b">"

    def error(self, problem: HanlinError, request_id: str) -> bytes:
        return f"!{problem.code} {request_id}".encode()


def a(text: str) -> Burst:
    return [Event(text=text)]


class Stream:
    """A streamed answer of a script to a peer, ready to run."""

    def __init__(self, peer: Peer, *script: Step, keepalive_s: float = LONG_S, reader_stall_s: float = LONG_S) -> None:
        self._peer = peer
        self._patience = {"keepalive_s": keepalive_s, "reader_stall_s": reader_stall_s}
        self.engine = ScriptedEngine(script)
        self.exchange: Exchange | None = None

    async def run(self) -> None:
        async with asyncio.timeout(10):
            self.exchange = exchange = await self._peer.exchange()
            work = StreamedAnswer(exchange, PlainFrames(), **self._patience).run(self.engine.generate(request()))
            await exchange.unless_gone(work)

    @property
    def id(self) -> str:
        assert self.exchange is not None
        return self.exchange.id

    def start(self) -> "asyncio.Task[None]":
        return asyncio.create_task(self.run())


async def settle() -> None:
    """Let every task go on until it waits."""
    for _ in range(30):
        await asyncio.sleep(0)


async def test_a_stream_is_opened_filled_closed_and_ended() -> None:
    """The dialect's opening leaves with the first event, in one piece; then a piece a burst; the end comes once."""
    peer, later, last = Peer(), asyncio.Event(), asyncio.Event()
    task = Stream(peer, a("one"), later, [*a("two"), *a("three")], last).start()
    for go_on in (later, last):
        await settle()
        go_on.set()
    await task

    assert peer.status == 200
    assert peer.headers["content-type"] == "text/event-stream;charset=UTF-8"
    assert peer.pieces == [b"<one", b"twothree", b">"]
    assert peer.ended


async def test_what_is_here_at_once_leaves_in_one_piece() -> None:
    """Each piece is a packet for everybody on the way."""
    peer, later = Peer(), asyncio.Event()
    task = Stream(peer, a("one"), [], a("two"), later, a("three"), a("four")).start()
    await settle()
    assert peer.pieces == [b"<onetwo"]

    later.set()
    await task

    assert peer.pieces == [b"<onetwo", b"threefour>"]


@pytest.mark.parametrize("script", [(), ([],), ([], [])])
async def test_an_answer_without_a_word_is_still_a_whole_stream(script: Sequence[Burst]) -> None:
    """A model may stop at once; the client must not be left without an end."""
    peer = Peer()

    await Stream(peer, *script).run()

    assert (peer.status, peer.body, peer.ended) == (200, b"<>", True)


async def test_the_headers_wait_for_the_first_event() -> None:
    """Until then a failure can still have its true status, and another deployment could still take over."""
    peer, word = Peer(), asyncio.Event()
    stream = Stream(peer, [], word, a("word"))
    task = stream.start()
    await settle()
    assert stream.engine.running == 1
    assert peer.sent == b""

    word.set()
    await task

    assert peer.body == b"<word>"


async def test_a_failure_before_the_first_event_is_raised_and_nothing_is_sent() -> None:
    """Whoever runs the stream answers it with its status."""
    peer = Peer()
    stream = Stream(peer, [], EngineUnavailable("loading"))

    with pytest.raises(EngineUnavailable, match="loading"):
        await stream.run()

    assert peer.sent == b""
    assert stream.exchange is not None
    assert not stream.exchange.started


async def test_a_failure_after_it_is_one_error_frame_and_the_end() -> None:
    """Status 200 has left already: the error is in the stream, and no end of the dialect pretends that all was well."""
    peer = Peer()
    stream = Stream(peer, a("half"), EngineFailed("died"))

    await stream.run()

    assert peer.pieces == [b"<half", f"!internal_error {stream.id}".encode()]
    assert peer.ended


async def test_what_an_engine_says_of_a_failure_is_told_to_its_caller_alone(caplog: pytest.LogCaptureFixture) -> None:
    """It may quote the prompt, which has no place in a log."""
    await Stream(Peer(), a("春眠"), EngineFailed("cannot read 'a prompt'")).run()

    (record,) = caplog.records
    assert record.getMessage().endswith("failed mid-stream: EngineFailed internal_error")


async def test_a_silent_stream_carries_a_comment_now_and_then() -> None:
    """Proxies and clients take a silent connection for a dead one."""
    peer, word = Peer(), asyncio.Event()
    stream = Stream(peer, a("one"), word, a("two"), keepalive_s=SHORT_S)
    task = stream.start()

    await peer.until(KEEP_ALIVE * 2)
    word.set()
    await task

    assert peer.body.replace(KEEP_ALIVE, b"") == b"<onetwo>"
    assert peer.pieces[:3] == [b"<one", KEEP_ALIVE, KEEP_ALIVE]


async def test_comments_keep_their_distance_from_each_other_and_from_what_was_said() -> None:
    """A comment is for silence: a client must not be flooded with them."""
    peer = Peer()
    stream = Stream(peer, a("one"), HANG, keepalive_s=SHORT_S)
    task = stream.start()
    times = []

    for number in range(4):
        await peer.until(b"one" + KEEP_ALIVE * number)
        times.append(time.monotonic())
    task.cancel()
    await asyncio.wait([task])

    assert min(later - earlier for earlier, later in pairwise(times)) >= 0.5 * SHORT_S


async def test_the_headers_wait_no_longer_than_the_first_comment() -> None:
    """A prompt may take minutes to read; clients give up on a connection without headers long before."""
    peer, word = Peer(), asyncio.Event()
    stream = Stream(peer, word, EngineFailed("died"), keepalive_s=SHORT_S)
    task = stream.start()

    await peer.until(KEEP_ALIVE)
    word.set()
    await task

    assert peer.status == 200
    assert peer.pieces[0] == KEEP_ALIVE
    assert peer.pieces[-1].startswith(b"!internal_error")


async def test_empty_bursts_do_not_hold_the_comment_back() -> None:
    """The engine's signs of life are not the client's: without bytes its connection is silent."""
    peer, word = Peer(), asyncio.Event()
    stream = Stream(peer, a("one"), [], [], word, keepalive_s=SHORT_S)
    task = stream.start()

    await peer.until(KEEP_ALIVE)
    word.set()
    await task

    assert peer.ended


async def test_a_slow_reader_slows_the_engine_down() -> None:
    """What nobody reads must not pile up in memory."""
    peer = Peer()
    asked: list[str] = []

    class Noted(list[Burst]):
        def __iter__(self):  # type: ignore[no-untyped-def]
            for text in "abcdefghijklmnopqrstuvwxyz":
                asked.append(text)
                yield a(text)

    stream = Stream(peer)
    stream.engine = ScriptedEngine(Noted())
    peer.reading.clear()
    task = stream.start()

    await settle()
    assert "".join(asked) == "abcdefghijklmnop", "as much as leaves in one piece"
    peer.line.read_on()
    await task

    assert "".join(asked) == "abcdefghijklmnopqrstuvwxyz"
    assert peer.body == b"<abcdefghijklmnopqrstuvwxyz>"


async def test_a_reader_that_reads_no_more_is_cut_off_and_its_engine_ends() -> None:
    """It would hold its slot for ever; a hang-up can be noticed, a client that only stops reading cannot."""
    peer = Peer()
    stream = Stream(peer, a("one"), a("two"), HANG, keepalive_s=SHORT_S, reader_stall_s=2 * SHORT_S)
    peer.reading.clear()

    with pytest.raises(Gone):
        await stream.run()

    assert (stream.engine.running, stream.engine.ended) == (0, 1)
    assert not peer.ended


async def test_a_reader_may_take_its_time_as_long_as_it_reads() -> None:
    """The limit is for one piece, not for the whole answer: its pieces take longer than it together here."""
    peer = Peer()
    stream = Stream(peer, *(a(str(number)) for number in range(10)), keepalive_s=SHORT_S, reader_stall_s=8 * SHORT_S)
    peer.reading.clear()
    task = stream.start()

    while not task.done():
        await asyncio.wait([task], timeout=SHORT_S)
        peer.line.read_on()
        peer.reading.clear()
    await task

    assert peer.body == b"<0123456789>"


async def test_a_comment_waits_for_a_slow_reader_too() -> None:
    """Comments that nobody reads would pile up like anything else, and would hide that nobody reads."""
    peer = Peer()
    stream = Stream(peer, a("one"), HANG, keepalive_s=SHORT_S, reader_stall_s=4 * SHORT_S)
    task = stream.start()
    await peer.until(b"one")
    peer.reading.clear()

    with pytest.raises(Gone):
        await task

    assert peer.line.unread == [b"%x\r\n%b\r\n" % (len(KEEP_ALIVE), KEEP_ALIVE)]


async def test_comments_come_again_after_a_reader_was_slow() -> None:
    """The clock of silence starts anew when it has caught up."""
    peer = Peer()
    stream = Stream(peer, a("one"), HANG, keepalive_s=SHORT_S)
    peer.reading.clear()
    task = stream.start()
    await settle()

    peer.line.read_on()
    await peer.until(KEEP_ALIVE * 2)
    task.cancel()
    await asyncio.wait([task])

    assert peer.pieces == [b"<one", KEEP_ALIVE, KEEP_ALIVE]


async def test_a_cancelled_stream_has_closed_its_engine_when_it_returns() -> None:
    """A hang-up must reach the engine at once, not when garbage is collected."""
    peer = Peer()
    stream = Stream(peer, a("one"), HANG)
    task = stream.start()
    await peer.until(b"one")

    task.cancel()
    await asyncio.wait([task])

    assert (stream.engine.running, stream.engine.ended) == (0, 1)
    assert not peer.ended
