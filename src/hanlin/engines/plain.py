"""Read plain chat from a server: no tools, no JSON, no prefix, no thoughts asked for. It is most of the traffic.

Nothing is to be read out of such an answer but thoughts at its front; behind them, events are handed on as they are.
"""

from collections.abc import Mapping, Sequence

from hanlin.engines.frames import ChatFrames, whole_text
from hanlin.engines.manner import has_markup
from hanlin.engines.markup.thinking import ThinkingBlock
from hanlin.engines.native import REASONS
from hanlin.engines.profiles import EngineProfile, Failing
from hanlin.errors import EngineFailed
from hanlin.types import Burst, ChatRequest, ChatResult, Choice, Event, Texts, Usage, fold


def is_plain(request: ChatRequest, profile: EngineProfile) -> bool:
    """Whether a call is plain chat for a server of this profile, which writes its answer's prompt itself."""
    asks = request.thinking.on or request.partial or request.shape is not None or request.logprobs
    return not (asks or has_markup(request) or request.sampling.stop_tokens or profile.cumulative) and not (
        profile.prompts or profile.thinks == "never"
    )


def read_whole(data: bytes, codes: Mapping[str, Failing]) -> ChatResult:
    """Return an answer that came as a whole; no usage where the server has not counted.

    Raises EngineFailed for what is no answer, and what the engine's error means for one that is an error.
    """
    told = whole_text(data)
    if told is not None and not told.text.lstrip().startswith("<"):
        return ChatResult((Choice(0, told.text, told.reason),), told.usage)
    frames = ChatFrames(codes)
    reading = PlainReading(REASONS, joins=True)
    events = reading.read(frames.feed(data))
    if frames.failure is not None:
        raise frames.failure
    if not frames.finished:
        raise EngineFailed("the engine's answer ended without a finish reason")
    return fold([*events, *reading.close()])


_MAY_BEGIN_THOUGHTS = frozenset("< \t\r\n")


class PlainReading:
    """One choice. `text` is all that was said until now, as far as it was not counted by the server."""

    __slots__ = ("_block", "_joins", "_reason", "_reasons", "_usage", "said", "thought")

    def __init__(self, reasons: "dict[str, str]", *, joins: bool) -> None:
        """`reasons` are the contract's words for the server's; `joins`: nobody sees the pieces of one burst apart."""
        self._block: ThinkingBlock | None = ThinkingBlock(inside=False)
        self._joins = joins
        self._reason: str | None = None
        self._reasons = reasons
        self._usage: Usage | None = None
        self.said: list[str] = []
        self.thought: list[str] = []

    def read(self, events: Burst) -> Burst:
        """Return the events of a burst; the end of the answer is kept for `close`."""
        if type(events) is Texts and not self._joins:
            if self._block is not None and events.texts[0][0] not in _MAY_BEGIN_THOUGHTS:
                self._block = None  # there is none
            if self._block is None:
                self.said += events.texts
                return events
        if self._joins and len(events) > 1:
            events = _joined(events)
        shown: list[Event] = []
        for event in events:
            if event.text and self._block is None and not event.reasoning and event.finish_reason is None:
                self.said.append(event.text)
                shown.append(event)
            else:
                self._look_into(event, shown)
        return shown

    def close(self) -> list[Event]:
        """Return what the end completes, the finish reason, and the usage where the server has counted."""
        shown: list[Event] = []
        if self._block is not None:
            self._tell("", shown, ended=True)
        shown.append(Event(finish_reason=self._reasons.get(self._reason or "", self._reason)))
        if self._usage is not None:
            shown.append(Event(usage=self._usage))
        return shown

    @property
    def usage(self) -> Usage | None:
        """What the server has counted, None when it has not."""
        return self._usage

    def _look_into(self, event: Event, shown: list[Event]) -> None:
        if event.usage is not None:
            self._usage = event.usage
            return
        if event.finish_reason is not None:
            self._reason = event.finish_reason
        if event.reasoning:
            self.thought.append(event.reasoning)
            shown.append(Event(reasoning=event.reasoning))
        if event.text:
            self._tell(event.text, shown)

    def _tell(self, text: str, shown: list[Event], *, ended: bool = False) -> None:
        if self._block is not None:
            reasoning, text = self._block.feed(text, ended=ended)
            if reasoning:
                self.thought.append(reasoning)
                shown.append(Event(reasoning=reasoning))
            if self._block.over:
                self._block = None
        if text:
            self.said.append(text)
            shown.append(Event(text=text))


def _joined(events: Sequence[Event]) -> list[Event]:
    """Put a burst's pieces of text together, and its pieces of thought; thoughts come first."""
    last = [event for event in events if event.usage is not None or event.finish_reason is not None]
    text = "".join([event.text for event in events if event.finish_reason is None])
    reasoning = "".join([event.reasoning for event in events if event.finish_reason is None])
    said = [Event(text=text, reasoning=reasoning)] if text or reasoning else []
    return said + last
