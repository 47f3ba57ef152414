"""What the rest of Hanlin may expect of an engine, whatever it is."""

from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Protocol

from hanlin.types import ChatRequest, ChatResult, CompletionRequest, Events


@dataclass(frozen=True)
class Counters:
    """How often an engine was started again, and how many connections to it are open."""

    restarts: int = 0
    connections: int = 0


class Engine(Protocol):
    """One model on one server. Any number of calls may run at once."""

    def generate(self, request: ChatRequest) -> Events:
        """Yield the events of one choice as they come, then its usage. Closing the iterator stops the engine."""

    def whole(self, request: ChatRequest) -> Coroutine[Any, Any, ChatResult] | None:
        """Return what waits for one choice's answer as a whole, None where it comes by `generate` only."""

    def fill(self, request: CompletionRequest) -> Events:
        """Yield the events of a text completion, as `generate` does."""

    async def count(self, request: ChatRequest) -> int | None:
        """Return the exact prompt tokens of a request, or None when this engine cannot tell."""

    def why_not_ready(self) -> str | None:
        """Return None when a call would be answered now, else what is going on."""

    def trouble(self) -> str | None:
        """Return what went wrong, when something did and is not mended yet."""

    def counters(self) -> Counters:
        """Return what is counted of it beside calls."""

    async def close(self) -> None:
        """End everything that this engine started."""
