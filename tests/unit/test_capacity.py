"""A deployment's places: how many run, how many wait, who comes first, and who is refused."""

import asyncio

import pytest

from hanlin.errors import Overloaded
from hanlin.routing.capacity import Capacity


async def hold(capacity: Capacity, name: str, entered: list[str], leave: asyncio.Event) -> None:
    async with capacity.place():
        entered.append(name)
        await leave.wait()


async def settle() -> None:
    """Let every task go on until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_calls_beyond_the_slots_wait_in_the_order_in_which_they_came() -> None:
    """First come, first served: nobody is overtaken."""
    capacity, entered, leave = Capacity(1, 2), list[str](), [asyncio.Event() for _ in range(3)]
    tasks = [
        asyncio.create_task(hold(capacity, name, entered, event)) for name, event in zip("abc", leave, strict=True)
    ]
    await settle()
    assert (entered, capacity.running, capacity.waiting) == (["a"], 1, 2)

    for event in leave:
        event.set()
        await settle()

    assert entered == ["a", "b", "c"]
    assert (capacity.running, capacity.waiting) == (0, 0)
    await asyncio.gather(*tasks)


async def test_a_call_beyond_the_line_is_refused_at_once() -> None:
    """An endless line is worse than an honest 503: its callers would have given up long before their turn."""
    capacity, leave = Capacity(1, 1), asyncio.Event()
    tasks = [asyncio.create_task(hold(capacity, name, [], leave)) for name in "ab"]
    await settle()

    with pytest.raises(Overloaded) as refused:
        async with capacity.place():
            pass

    assert "1 calls are waiting already" in refused.value.message
    assert (refused.value.status, refused.value.retry_after_s) == (503, 5)
    leave.set()
    await asyncio.gather(*tasks)


async def test_without_a_line_a_free_place_is_still_taken() -> None:
    """`queue_limit = 0` means no waiting, not no calls."""
    capacity = Capacity(1, 0)

    async with capacity.place():
        assert capacity.running == 1

    assert capacity.running == 0


async def test_a_caller_that_leaves_the_line_leaves_no_trace() -> None:
    """Clients hang up while they wait; their place in the line must not stay taken."""
    capacity, entered, leave = Capacity(1, 1), list[str](), asyncio.Event()
    first = asyncio.create_task(hold(capacity, "first", entered, leave))
    await settle()
    leaver = asyncio.create_task(hold(capacity, "leaver", entered, leave))
    await settle()

    leaver.cancel()
    await asyncio.wait([leaver])
    last = asyncio.create_task(hold(capacity, "last", entered, leave))
    await settle()

    assert (capacity.running, capacity.waiting) == (1, 1)
    leave.set()
    await asyncio.gather(first, last)
    assert entered == ["first", "last"]


async def test_a_call_that_fails_gives_its_place_back() -> None:
    """A slot lost to every failure would stop the service in the end."""
    capacity = Capacity(1, 0)

    for _ in range(3):
        with pytest.raises(ValueError, match="failed"):
            async with capacity.place():
                raise ValueError("failed")

    assert (capacity.running, capacity.waiting) == (0, 0)
