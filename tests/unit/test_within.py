"""The limit of a call: it ends what takes longer, and nothing else."""

import asyncio

import pytest

from hanlin.engines.wire import Watch
from hanlin.service.patience import Within

SHORT_S = 0.01


async def test_a_block_that_takes_longer_is_ended() -> None:
    """A caller who waits for a whole answer must not wait for ever."""

    async def wait() -> None:
        with Within(Watch(), SHORT_S):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await wait()


async def test_a_block_that_is_over_in_time_is_left_alone() -> None:
    """The watch forgets it, and its task goes on with other things."""
    watch = Watch()

    with Within(watch, SHORT_S):
        pass
    await asyncio.sleep(3 * SHORT_S)

    assert not watch.things


async def test_a_caller_who_leaves_is_no_timeout() -> None:
    """What somebody else cancels stays cancelled."""

    async def wait() -> None:
        with Within(Watch(), 60.0):
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_blocks_that_share_a_watch_end_at_their_own_times() -> None:
    """One timer serves all calls of a service."""
    watch = Watch()
    ended: list[str] = []

    async def wait(name: str, limit_s: float) -> None:
        try:
            with Within(watch, limit_s):
                await asyncio.Event().wait()
        except TimeoutError:
            ended.append(name)

    async with asyncio.timeout(10):
        await asyncio.gather(wait("late", 6 * SHORT_S), wait("soon", SHORT_S))

    assert ended == ["soon", "late"]
    assert not watch.things
