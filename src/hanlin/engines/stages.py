"""Answers in several stages: each is an async generator, and may hand over to others before it goes on."""

from collections.abc import AsyncGenerator
from typing import Any

from hanlin.types import Events

Stage = AsyncGenerator[Any, None]
"""A part of an answer: yields bursts of events, and further stages, whose bursts come in its place."""


async def flattened(stage: Stage) -> Events:
    """Yield the bursts of a stage and of those that it hands over to; all are closed, whatever happens.

    What a stage raises ends them all: those above it are not asked.
    """
    running = [stage]
    try:
        while running:
            try:
                item = await anext(running[-1])
            except StopAsyncIteration:
                running.pop()
                continue
            if isinstance(item, AsyncGenerator):
                running.append(item)
            else:
                yield item
    finally:
        for stage in reversed(running):
            await stage.aclose()
