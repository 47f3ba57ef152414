"""Do several things at once, a bounded number of them: the first failure ends all, and nothing is left running."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


async def each(
    work: Callable[[Item], Awaitable[Result]],
    items: Iterable[Item],
    at_once: int,
    goes_on: Callable[[], bool] = lambda: True,
) -> list[tuple[Item, Result]]:
    """Return what became of items, in the order in which they were done; none is begun once `goes_on` says no."""
    waiting = iter(items)
    done: list[tuple[Item, Result]] = []

    async def worker() -> None:
        for item in waiting:
            if not goes_on():
                return
            done.append((item, await work(item)))

    tasks = [asyncio.ensure_future(worker()) for _ in range(at_once)]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return done


__all__ = ["each"]
