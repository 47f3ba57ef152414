"""How long a call to an engine may take: each deadline by itself, and by which error it shows."""

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest

from hanlin.engines.wire import Client, Deadlines
from hanlin.engines.wire.deadlines import Watch
from hanlin.errors import EngineFailed, EngineStalled, EngineUnreachable
from tests.canned_server import Answer, Asked, CannedServer, RawServer, serving, trusting_it, whole

PATIENT = 20.0
START = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n"


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    """What a test opens is closed with it, the client before its server."""
    async with AsyncExitStack() as stack:
        yield stack


async def meet(stack: AsyncExitStack, answer: Answer | bytes) -> tuple[CannedServer, Client]:
    server = await stack.enter_async_context(CannedServer(answer))
    client = Client(server.address)
    stack.callback(client.close)
    return server, client


def patient_but(**deadlines: float) -> Deadlines:
    return Deadlines(**{"connect_s": PATIENT, "first_byte_s": PATIENT, "silence_s": PATIENT, **deadlines})


async def test_a_connection_that_does_not_come_about_in_time_is_an_engine_out_of_reach(stack: AsyncExitStack) -> None:
    """Here TCP stands, and what answers leaves the handshake of TLS hanging."""
    server = await stack.enter_async_context(CannedServer(b""))
    address = replace(server.address, tls=True)
    client = Client(address, tls=trusting_it())
    stack.callback(client.close)

    with pytest.raises(EngineUnreachable, match=rf"at 127\.0\.0\.1:{address.port}: it timed out after 0\.05 s"):
        await client.send("GET", "/", deadlines=patient_but(connect_s=0.05))

    assert (client.open_connections, client.in_use) == (0, 0)


async def test_the_first_byte_has_a_deadline_of_its_own(stack: AsyncExitStack) -> None:
    """A long prompt is read in silence; that says nothing about the pauses between tokens."""

    async def nothing(asked: Asked, writer: asyncio.StreamWriter) -> None:
        pass

    server, client = await meet(stack, nothing)

    with pytest.raises(EngineStalled, match=r"silent for 0\.05 s"):
        await client.send("GET", "/", deadlines=patient_but(first_byte_s=0.05))

    await server.hung_up.wait()
    assert client.open_connections == 0


async def test_a_silent_response_is_waited_for_while_a_question_is_answered(stack: AsyncExitStack) -> None:
    """A long answer that comes whole is no stall: something small is asked again and again, and the wait goes on."""
    asked = asyncio.Semaphore(0)
    enough = asyncio.Event()

    async def late(_asked: Asked, writer: asyncio.StreamWriter) -> None:
        await enough.wait()
        writer.write(whole(200, b"at last"))

    async def ask() -> None:
        asked.release()

    _, client = await meet(stack, late)
    waiting = asyncio.create_task(client.send("GET", "/", deadlines=patient_but(first_byte_s=0.01), ask=ask))
    for _ in range(3):
        await asked.acquire()
    enough.set()

    assert await (await waiting).body() == b"at last"


@pytest.mark.parametrize("fails", [True, False], ids=["failed", "not answered"])
async def test_the_wait_is_over_once_the_question_is_not_answered(stack: AsyncExitStack, fails: bool) -> None:
    """Nobody waits for an hour for an engine that is dead, or was stopped: it takes connections and says nothing."""

    async def nothing(asked: Asked, writer: asyncio.StreamWriter) -> None:
        pass

    async def ask() -> None:
        if fails:
            raise EngineFailed("it is gone")
        await asyncio.Event().wait()

    server, client = await meet(stack, nothing)

    with pytest.raises(EngineStalled, match=r"silent for 0\.02 s"):
        await client.send("GET", "/", deadlines=patient_but(first_byte_s=0.02), ask=ask)

    await server.hung_up.wait()
    assert client.open_connections == 0


async def test_nothing_is_asked_behind_the_headers(stack: AsyncExitStack) -> None:
    """Who has begun to answer and falls silent has stalled, whatever else it could still say."""

    async def ask() -> None:
        pass

    async def half(_asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(START)

    _, client = await meet(stack, half)
    response = await client.send("GET", "/", deadlines=patient_but(first_byte_s=0.02, silence_s=0.02), ask=ask)

    with pytest.raises(EngineStalled):
        await response.body()


async def test_a_caller_who_leaves_ends_the_question_too(stack: AsyncExitStack) -> None:
    """It would keep an engine busy for nobody."""
    asked, over = asyncio.Event(), asyncio.Event()

    async def nothing(_asked: Asked, writer: asyncio.StreamWriter) -> None:
        pass

    async def ask() -> None:
        asked.set()
        try:
            await asyncio.Event().wait()
        finally:
            over.set()

    _, client = await meet(stack, nothing)
    waiting = asyncio.create_task(client.send("GET", "/", deadlines=patient_but(first_byte_s=0.01), ask=ask))
    await asked.wait()
    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    await over.wait()


async def test_headers_that_drip_do_not_put_the_first_deadline_off(stack: AsyncExitStack) -> None:
    """A peer that sends a letter a second would hold a call for ever."""

    async def drip(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nX: ")
        while not writer.is_closing():
            writer.write(b"y")
            await asyncio.sleep(0.01)

    _, client = await meet(stack, drip)

    with pytest.raises(EngineStalled, match=r"silent for 0\.1 s"):
        await client.send("GET", "/", deadlines=patient_but(first_byte_s=0.1, silence_s=0.05))


async def test_silence_within_the_body_has_a_deadline_of_its_own(stack: AsyncExitStack) -> None:
    """It counts from the last byte."""
    server, client = await meet(stack, START)
    response = await client.send("GET", "/", deadlines=patient_but(silence_s=0.05))

    assert await response.read() == b"x"
    with pytest.raises(EngineStalled, match=r"silent for 0\.05 s"):
        await response.read()

    await server.hung_up.wait()


async def test_the_whole_call_has_a_deadline_that_no_byte_puts_off(stack: AsyncExitStack) -> None:
    """A model in a loop is never silent."""

    async def babble(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(START)
        while not writer.is_closing():
            writer.write(b"1\r\nx\r\n")
            await asyncio.sleep(0.01)

    _, client = await meet(stack, babble)
    response = await client.send("GET", "/", deadlines=patient_but(total_s=0.2, silence_s=0.15))

    with pytest.raises(EngineStalled, match=r"0\.2 s"):
        await response.body()

    assert client.open_connections == 0


async def test_the_whole_call_is_over_in_time_also_while_nobody_reads(stack: AsyncExitStack) -> None:
    """A caller who forgot his answer must not hold the engine."""
    server, client = await meet(stack, START)
    response = await client.send("GET", "/", deadlines=patient_but(total_s=0.1))

    await server.hung_up.wait()

    assert client.open_connections == 0
    assert await response.read() == b"x"  # what was here before
    with pytest.raises(EngineStalled, match=r"0\.1 s"):
        await response.read()


async def test_a_reader_who_takes_his_time_is_no_stall(stack: AsyncExitStack) -> None:
    """Silence is the engine's: it counts only while we wait."""
    go_on = asyncio.Event()

    async def in_two_steps(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(START)
        await go_on.wait()
        writer.write(b"0\r\n\r\n")

    _, client = await meet(stack, in_two_steps)
    response = await client.send("GET", "/", deadlines=patient_but(silence_s=0.1))
    assert await response.read() == b"x"

    await asyncio.sleep(0.25)
    go_on.set()

    assert await response.read() == b""


async def test_a_peer_that_does_not_take_a_large_request_has_stalled(stack: AsyncExitStack) -> None:
    """Its buffers are full and nothing moves: a call that sends is as hung as one that waits."""

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.Event().wait()

    server = await stack.enter_async_context(RawServer(deaf))
    client = Client(server.address)
    stack.callback(client.close)

    with pytest.raises(EngineStalled, match=r"silent for 0\.1 s"):
        await client.send("POST", "/", b"x" * 50_000_000, deadlines=patient_but(silence_s=0.1))

    assert client.open_connections == 0


async def test_one_patience_can_stand_for_both_silences() -> None:
    """An engine that may be silent for hours may also take hours."""
    assert Deadlines(total_s=10).silent_for(60) == Deadlines(first_byte_s=60, silence_s=60, total_s=60)
    assert Deadlines().silent_for(60) == Deadlines(first_byte_s=60, silence_s=60, total_s=3600)


async def test_a_deadline_of_one_call_is_nothing_to_the_others(stack: AsyncExitStack) -> None:
    """All are watched by one timer: the short ones must come in time, and the long ones must not come with them."""
    release = asyncio.Event()

    async def later(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.write(whole(200, b"late"))

    _, client = await meet(stack, later)

    async def call(first_byte_s: float) -> bytes:
        response = await client.send("GET", "/", deadlines=patient_but(first_byte_s=first_byte_s))
        return await response.body()

    calls = [asyncio.create_task(call(patience_s)) for patience_s in (PATIENT, 0.1, PATIENT, 0.05)]
    stalled = [calls[3], calls[1]]
    for task in stalled:
        with pytest.raises(EngineStalled):
            await task
    release.set()

    assert [await calls[0], await calls[2]] == [b"late", b"late"]


# --- the watch -------------------------------------------------------------------------------------------------------


class Thing:
    def __init__(self, due_at: float) -> None:
        self.due_at = due_at
        self.expired = asyncio.Event()

    def expire(self) -> None:
        self.due_at = math.inf
        self.expired.set()


async def test_a_deadline_that_is_put_off_is_met_at_its_new_time(stack: AsyncExitStack) -> None:
    """The timer goes off at the old time, finds nothing due, and is set for the new one."""
    watch, now = Watch(), asyncio.get_running_loop().time()
    thing = Thing(now + 0.02)
    watch.things.add(thing)
    watch.by(thing.due_at)

    thing.due_at = now + 0.1
    await thing.expired.wait()

    assert asyncio.get_running_loop().time() >= now + 0.1


async def test_a_watch_that_was_stopped_looks_no_more() -> None:
    """What is closed must not keep anything alive."""
    watch = Watch()
    thing = Thing(asyncio.get_running_loop().time() + 0.01)
    watch.things.add(thing)
    watch.by(thing.due_at)

    watch.stop()
    await asyncio.sleep(0.05)

    assert not thing.expired.is_set()


async def test_tls_serves_the_same_deadlines(stack: AsyncExitStack) -> None:
    """Closing what is hung must not wait for the good-bye of TLS."""
    server = await stack.enter_async_context(CannedServer(START, tls=serving()))
    client = Client(server.address, tls=trusting_it())
    stack.callback(client.close)
    response = await client.send("GET", "/", deadlines=patient_but(silence_s=0.05))

    assert await response.read() == b"x"
    with pytest.raises(EngineStalled):
        await response.read()

    await server.hung_up.wait()
