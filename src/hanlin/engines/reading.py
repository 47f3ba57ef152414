"""Turn what a model writes into events: thoughts, text, and calls that are fit to be passed on.

Shared by both ways of asking an engine. A call that cannot be passed on is noted, for its answer to have it mended.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec

from hanlin.engines.calls import call_id, judge, tool_named
from hanlin.engines.manner import has_markup, offered
from hanlin.engines.markup import Called, Cut, MarkupParser, Piece, Reasoning, Text, Unreadable
from hanlin.types import ChatRequest, Event, TokenLogprob, ToolCallPiece


class Reading:
    """What one choice's generation has said so far.

    `calls` counts those that were passed on; `to_mend` are the names of tools of which one is to be called in place of
    a call that could not be; `limited` is set when a limit ended the generation, so that its last call may be cut.
    """

    def __init__(self, request: ChatRequest, thinking: Literal["none", "possible", "open"]) -> None:
        self.tools = offered(request)
        self.calls = 0
        self.to_mend: list[str] = []
        self.limited = False
        self._parallel = request.parallel_tool_calls
        self._parser = MarkupParser(
            tools=[tool.name for tool in self.tools], calls=has_markup(request), thinking=thinking
        )

    @property
    def one_call_is_enough(self) -> bool:
        """Whether the answer is over, because it has made the one call that it may."""
        return self.calls > 0 and not self._parallel

    @property
    def thinks(self) -> bool:
        """Whether what was written last belongs to the thoughts."""
        return self._parser.thinks

    @property
    def open_call(self) -> str:
        """The name of the call whose arguments come next, "" when there is none."""
        return self._parser.open_call or ""

    def call_done(self) -> None:
        """Go on behind the open call, whose arguments came in another way."""
        self._parser.call_done()

    def feed(self, text: str) -> list[Event]:
        return self._events(self._parser.feed(text))

    def close(self) -> list[Event]:
        """Return what the end of the generation completes."""
        return self._events(self._parser.close())

    def begin_call(self, name: str) -> Event:
        """Open a call whose arguments will be passed on as they come."""
        self.calls += 1
        return Event(call=ToolCallPiece(self.calls - 1, call_id(), name))

    def whole_call(self, call: Called, identity: str = "") -> list[Event]:
        """Pass on a call, if it fits and there may be one more."""
        if self.one_call_is_enough or not self.tools:
            return []
        arguments = judge(call, self.tools).arguments
        if arguments is None:
            return self._unfit(call.name)
        return self._passed_on(call.name, arguments, identity)

    def cut_call(self, call: Cut, identity: str = "") -> list[Event]:
        """Pass on what a limit left of a call: the finish reason says that it was cut."""
        if self.one_call_is_enough or not self.tools:
            return []
        return self._passed_on(call.name, call.arguments, identity) if self.limited else self._unfit(call.name)

    def _passed_on(self, name: str, arguments: str, identity: str) -> list[Event]:
        self.calls += 1
        return [Event(call=ToolCallPiece(self.calls - 1, identity or call_id(), name, arguments))]

    def _unfit(self, name: str = "") -> list[Event]:
        self.to_mend = [name] if tool_named(name, self.tools) else [tool.name for tool in self.tools]
        return []

    def _events(self, pieces: Sequence[Piece]) -> list[Event]:
        events: list[Event] = []
        for piece in pieces:
            if isinstance(piece, Text):
                events.append(Event(text=piece.text))
            elif isinstance(piece, Reasoning):
                events.append(Event(reasoning=piece.text))
            elif isinstance(piece, Called):
                events += self.whole_call(piece)
            elif isinstance(piece, Cut):
                events += self.cut_call(piece)
            elif isinstance(piece, Unreadable) and self.tools and not self.one_call_is_enough:
                events += self._unfit()
        return events


def with_logprobs(events: list[Event], logprobs: tuple[TokenLogprob, ...]) -> list[Event]:
    """Put the likelihoods of tokens beside the text that they became, or on their own while it is held back."""
    if events and events[-1].text:
        return [*events[:-1], msgspec.structs.replace(events[-1], logprobs=logprobs)]
    return [*events, Event(logprobs=logprobs)]
