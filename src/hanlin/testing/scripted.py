"""An engine inside the test's own process: it yields what its script says, and remembers what was asked of it.

    engine = ScriptedEngine([*says("你", "好"), HANG])

For what is decided above the engines' room; `FakeEngine` is the one that speaks HTTP.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from hanlin.engines.engine import Counters
from hanlin.types import Burst, ChatRequest, CompletionRequest, Event, Events, Message, Usage

HANG: Final = None
"""The step that never ends."""

Step = Burst | Exception | asyncio.Event | None
"""A burst is yielded, an exception raised, an event waited for."""

Script = Sequence[Step] | Callable[[ChatRequest], Sequence[Step]]


def says(*texts: str, finish_reason: str = "stop", usage: Usage | None = None) -> list[Burst]:
    """Return the bursts of an answer: one a text, the finish reason, the usage (10 tokens of prompt, one a text)."""
    return [
        *([Event(text=text)] for text in texts),
        [Event(finish_reason=finish_reason)],
        [Event(usage=usage or Usage(prompt=10, completion=len(texts)))],
    ]


class ScriptedEngine:
    """An `Engine` that plays a script, the same one for every call or one made for each request.

    `requests` are the calls so far (`called` is set at the first one), `running` those that are being answered, `ended`
    those that were answered, failed or closed; `counted` are the requests whose prompt was counted. `prompt_tokens` is
    what `count` returns; `why` is what keeps it from being ready.
    """

    def __init__(self, script: Script = (), *, prompt_tokens: int | None = None, why: str | None = None) -> None:
        self._script = script
        self.prompt_tokens = prompt_tokens
        self.why = why
        self.requests: list[ChatRequest] = []
        self.counted: list[ChatRequest] = []
        self.called = asyncio.Event()
        self.running = 0
        self.ended = 0
        self.closed = False

    def fill(self, request: CompletionRequest) -> Events:
        """Play the script for the prompt, as if a user had sent it."""
        return self.generate(ChatRequest(request.model, (Message("user", request.prompt),), request.sampling))

    def whole(self, request: ChatRequest) -> None:
        """Its answers come in pieces."""

    async def generate(self, request: ChatRequest) -> Events:
        self.requests.append(request)
        self.called.set()
        self.running += 1
        try:
            for step in self._script(request) if callable(self._script) else self._script:
                if isinstance(step, Exception):
                    raise step
                if step is HANG:
                    await asyncio.get_running_loop().create_future()
                elif isinstance(step, asyncio.Event):
                    await step.wait()
                else:
                    yield step
        finally:
            self.running -= 1
            self.ended += 1

    async def count(self, request: ChatRequest) -> int | None:
        self.counted.append(request)
        return self.prompt_tokens

    def why_not_ready(self) -> str | None:
        return self.why

    def trouble(self) -> str | None:
        return None

    def counters(self) -> Counters:
        return Counters()

    async def close(self) -> None:
        self.closed = True


__all__ = ["HANG", "Script", "ScriptedEngine", "Step", "says"]
