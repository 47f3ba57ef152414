"""The watch over answers that come whole: silence is waited out while the engine answers something small."""

import asyncio

import pytest

from hanlin.engines.vigil import Vigil
from hanlin.errors import EngineFailed, EngineStalled

SHORT_S = 0.01


async def test_a_silent_engine_that_answers_something_small_is_waited_for() -> None:
    """A long answer that comes whole is no stall: the engine is asked again and again, and the wait goes on."""
    asked = asyncio.Semaphore(0)

    async def ask() -> None:
        asked.release()

    async with asyncio.timeout(10), Vigil(SHORT_S, ask):
        for _ in range(3):
            await asked.acquire()


async def test_the_wait_is_over_once_the_engine_fails_the_question() -> None:
    """Nobody waits for an hour for an engine that is dead."""

    async def ask() -> None:
        raise EngineFailed("it is gone")

    with pytest.raises(EngineStalled):
        async with asyncio.timeout(10), Vigil(SHORT_S, ask):
            await asyncio.Event().wait()


async def test_a_question_that_is_not_answered_either_ends_the_wait() -> None:
    """A stopped process takes connections and says nothing."""

    async def ask() -> None:
        await asyncio.Event().wait()

    with pytest.raises(EngineStalled):
        async with asyncio.timeout(10), Vigil(SHORT_S, ask):
            await asyncio.Event().wait()


async def test_a_caller_who_leaves_is_no_stall() -> None:
    """What somebody else cancels stays cancelled, and asks nothing more of the engine."""
    asked = 0

    async def ask() -> None:
        nonlocal asked
        asked += 1

    async def wait() -> None:
        async with Vigil(60.0, ask):
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert asked == 0
