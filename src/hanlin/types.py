"""The words that every room uses: what is asked, what comes back, and what it counted.

Values only: frozen, without identity, storage or wire format. Dialects make them from bytes and turn them into bytes;
nothing in between sees JSON. What nobody here looks into stays raw (`msgspec.Raw`).
"""

from collections.abc import AsyncGenerator, Sequence
from enum import StrEnum

import msgspec


class Served(StrEnum):
    """How the thing that answers a catalogue name relates to the name."""

    EXACT = "exact"  # the weights that the vendor published under this name
    CLOSEST = "closest"  # published weights that the catalogue judges nearest to the hosted model
    STAND_IN = "stand-in"  # some other model, so that programs run: never to be mistaken for the name
    UPSTREAM = "upstream"  # somebody else's service answers
    UNAVAILABLE = "unavailable"  # nothing here can honour this name


class TextPart(msgspec.Struct, frozen=True):
    """A piece of a message's text; a caller may send one string or several parts."""

    text: str


class MediaPart(msgspec.Struct, frozen=True):
    """A piece of a message that is not text: `kind` is image, video or audio; `raw` is the part as it was sent."""

    kind: str
    raw: msgspec.Raw


Part = TextPart | MediaPart


class Message(msgspec.Struct, frozen=True):
    """One turn. `content` is the text as sent, or its parts in order; roles are system, user, assistant and tool."""

    role: str
    content: str | tuple[Part, ...]

    @property
    def text(self) -> str:
        """All text of the message, parts joined without a separator."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content if isinstance(part, TextPart))

    @property
    def media(self) -> tuple[MediaPart, ...]:
        """The parts that are not text."""
        if isinstance(self.content, str):
            return ()
        return tuple(part for part in self.content if isinstance(part, MediaPart))


StopTokens = tuple[tuple[int, ...], ...]


class Sampling(msgspec.Struct, frozen=True):
    """How tokens are drawn. `None` means that the caller left it to the model's row in the catalogue.

    `max_tokens` caps the answer, `max_completion_tokens` reasoning and answer together. `top_k` 0 means off.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stop: tuple[str, ...] = ()
    stop_tokens: StopTokens = ()
    logit_bias: tuple[tuple[int, float], ...] = ()


class ChatRequest(msgspec.Struct, frozen=True):
    """One chat call as every dialect states it.

    `given` holds the wire names of all parameters that the caller sent and that were not null: `service` compares it
    with what the deployment honours, so that nothing is dropped silently. `asks` holds, by wire name, the parameters of
    capabilities that are decided by the model and the deployment (tools, thinking, search …), undecoded.
    """

    model: str
    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    stream: bool = False
    include_usage: bool = False
    n: int = 1
    logprobs: bool = False
    top_logprobs: int = 0
    enable_thinking: bool | None = None
    given: frozenset[str] = frozenset()
    asks: dict[str, msgspec.Raw] = {}


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one call. `prompt` includes `cached`, `completion` includes `reasoning`."""

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    reasoning: int = 0

    @property
    def total(self) -> int:
        return self.prompt + self.completion

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.prompt + other.prompt,
            self.completion + other.completion,
            self.cached + other.cached,
            self.reasoning + other.reasoning,
        )


class TopLogprob(msgspec.Struct, frozen=True):
    token: str
    logprob: float
    bytes: list[int] | None = None


class TokenLogprob(msgspec.Struct, frozen=True):
    """One generated token with its natural-log probability and the likeliest tokens at its place."""

    token: str
    logprob: float
    bytes: list[int] | None = None
    top_logprobs: list[TopLogprob] = []


class Event(msgspec.Struct, frozen=True):
    """A step of one choice's answer. `finish_reason` closes the choice; `usage` comes once, after the last choice."""

    index: int = 0
    text: str = ""
    logprobs: tuple[TokenLogprob, ...] | None = None
    finish_reason: str | None = None
    usage: Usage | None = None


Burst = Sequence[Event]
"""Events that arrived together and leave in one send. An empty burst is a sign of life without a word: the engine is
reading the prompt."""

Events = AsyncGenerator[Burst, None]


class Choice(msgspec.Struct, frozen=True):
    """A whole answer: what its events say, put together."""

    index: int
    text: str
    finish_reason: str | None
    logprobs: tuple[TokenLogprob, ...] | None = None


class ChatResult(msgspec.Struct, frozen=True):
    """The unstreamed answer: every choice in order, and the usage of all."""

    choices: tuple[Choice, ...]
    usage: Usage


class Answering(msgspec.Struct, frozen=True):
    """The honest statement beside an answer: what ran, and how it relates to the name that was asked for.

    `fingerprint` is `weights@digest` (12 hex digits), or an upstream's name. `ignored` lists the wire names of
    parameters that the answer does not honour.
    """

    model: str
    deployment: str
    fingerprint: str
    served: Served
    ignored: tuple[str, ...] = ()


def fold(events: Sequence[Event]) -> ChatResult:
    """Put a whole stream of events together: the unstreamed form of the same answer."""
    texts: dict[int, list[str]] = {}
    reasons: dict[int, str | None] = {}
    logprobs: dict[int, list[TokenLogprob]] = {}
    usage = Usage()
    for event in events:
        if event.usage is not None:
            usage = event.usage
            continue
        texts.setdefault(event.index, []).append(event.text)
        reasons[event.index] = event.finish_reason or reasons.get(event.index)
        if event.logprobs is not None:
            logprobs.setdefault(event.index, []).extend(event.logprobs)
    choices = tuple(
        Choice(
            index=index,
            text="".join(texts[index]),
            finish_reason=reasons[index],
            logprobs=tuple(logprobs[index]) if index in logprobs else None,
        )
        for index in sorted(texts)
    )
    return ChatResult(choices, usage)
