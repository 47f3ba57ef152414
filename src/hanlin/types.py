"""The words that every room uses: what is asked, what comes back, and what it counted.

Values only: frozen, without identity, storage or wire format. Dialects make them from bytes and turn them into bytes;
nothing in between sees JSON. What nobody here looks into stays raw (`msgspec.Raw`).
"""

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from enum import StrEnum
from mmap import mmap
from typing import Any, Literal, get_args, overload

import msgspec


class Served(StrEnum):
    """How the thing that answers a catalogue name relates to the name."""

    EXACT = "exact"  # the weights that the vendor published under this name
    CLOSEST = "closest"  # published weights that the catalogue judges nearest to the hosted model
    STAND_IN = "stand-in"  # some other model, so that programs run: never to be mistaken for the name
    UPSTREAM = "upstream"  # somebody else's service answers
    UNAVAILABLE = "unavailable"  # nothing here can honour this name


Surface = Literal["chat", "text_completion", "embeddings"]
"""A way to generate, in the word that keys, limits and the ledger have for it."""

SURFACES: tuple[Surface, ...] = get_args(Surface)


class TextPart(msgspec.Struct, frozen=True, gc=False, tag="text"):
    """A piece of a message's text; a caller may send one string or several parts."""

    text: str


class MediaPart(msgspec.Struct, frozen=True, tag="media"):
    """A piece of a message that is not text: `kind` is image, video or audio; `raw` is the part as it was sent."""

    kind: str
    raw: msgspec.Raw


Part = TextPart | MediaPart

Schema = Mapping[str, Any]
"""A JSON Schema, as a caller sent it and after it was checked."""


class ToolCall(msgspec.Struct, frozen=True, gc=False):
    """A call of a tool. `arguments` is JSON text; in a caller's history it may be anything."""

    id: str
    name: str
    arguments: str


class Message(msgspec.Struct, frozen=True, gc=False):
    """One turn. `content` is the text as sent, or its parts in order; roles are system, user, assistant and tool.

    `tool_calls` and `reasoning` are an assistant's, `tool_call_id` names the call that a tool's message answers.
    """

    role: str
    content: str | tuple[Part, ...]
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    reasoning: str = ""

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


class Sampling(msgspec.Struct, frozen=True, gc=False):
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


class Tool(msgspec.Struct, frozen=True):
    """A function that the model may call; `parameters` is the schema of its arguments."""

    name: str
    description: str = ""
    parameters: Schema = {}


class ToolChoice(msgspec.Struct, frozen=True, gc=False):
    """Which tools the answer may call: as the model decides, none, at least one, or the one of this `name`."""

    mode: Literal["auto", "none", "required", "named"] = "auto"
    name: str = ""


class Shape(msgspec.Struct, frozen=True):
    """What the answer's text must be: any JSON object, or JSON that fits a schema (empty for any object)."""

    kind: Literal["json_object", "json_schema"]
    name: str = ""
    schema: Schema = {}


class ThinkingAsked(msgspec.Struct, frozen=True, gc=False):
    """What a caller says about thinking; None where it says nothing.

    `mode` is the `type` of MiniMax's `thinking` object, `preserve` and `clear` are about earlier turns' reasoning.
    """

    enable: bool | None = None
    budget_tokens: int | None = None
    effort: str | None = None
    mode: str | None = None
    preserve: bool | None = None
    clear: bool | None = None


class Thinking(msgspec.Struct, frozen=True, gc=False):
    """How the model is to think before it answers. `budget_tokens` None: as long as it likes; 0 would be not at all.

    `effort` is the level by name, "" where the model has none; `history` puts the reasoning of earlier turns into the
    prompt.
    """

    on: bool = False
    budget_tokens: int | None = None
    effort: str = ""
    history: bool = False


Body = bytes | mmap
"""A request's body: bytes, or the memory that a large one was read into."""


class Sent(msgspec.Struct, frozen=True, gc=False):
    """Messages as JSON, just as they were sent: an engine that is told the same ones can be told so in these bytes."""

    messages: tuple[Message, ...]
    raw: msgspec.Raw


class Form:
    """What a chat call is apart from its messages: something to remember decisions by.

    Programs send calls of one form all day. Whatever has the same form, the very object, is the same but for its
    messages, which are nothing but roles and texts.
    """

    __slots__ = ()


class ChatRequest(msgspec.Struct, frozen=True, gc=False):
    """One chat call as every dialect states it.

    `sent` is there where the messages are nothing but roles and texts. It counts for the very tuple that it names, so a
    request whose messages were exchanged is encoded anew. `form` is None where calls like this one are not remembered;
    whoever changes anything but the messages takes it away (`changed`).

    `partial` says that the last message is the assistant's and is to be continued. `thinking` is decided by `service`
    from `thinking_asked` and what the model is.

    `repeatable` asks for an answer that the same request gets again, where that costs speed: llama.cpp's sums differ in
    their last bits with what of a prompt it still knows, and where two tokens are equally likely, that decides.

    `given` holds the wire names of all parameters that the caller sent and that were not null: `service` compares it
    with what the deployment honours, so that nothing is dropped silently. `asks` holds, by wire name, the parameters of
    capabilities that are decided by the model and the deployment (tools, thinking, search …), undecoded.
    """

    model: str
    messages: tuple[Message, ...]
    sampling: Sampling = Sampling()
    sent: Sent | None = None
    stream: bool = False
    include_usage: bool = False
    n: int = 1
    logprobs: bool = False
    top_logprobs: int = 0
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice = ToolChoice()
    parallel_tool_calls: bool = False
    shape: Shape | None = None
    partial: bool = False
    repeatable: bool = False
    thinking_asked: ThinkingAsked = ThinkingAsked()
    thinking: Thinking = Thinking()
    given: frozenset[str] = frozenset()
    asks: dict[str, msgspec.Raw] = {}
    form: Form | None = None

    def changed(self, **fields: Any) -> "ChatRequest":
        """Return the request with other fields. It is of no known form any more."""
        return msgspec.structs.replace(self, form=None, **fields)


class CompletionRequest(msgspec.Struct, frozen=True):
    """One text completion: what stands before the gap, and behind it where something does.

    `prompt` is the whole prompt as it was sent where it is no such pair; then there is no `suffix`.
    """

    model: str
    prompt: str
    suffix: str | None = None
    fills_gap: bool = False
    sampling: Sampling = Sampling()
    stream: bool = False
    include_usage: bool = False
    given: frozenset[str] = frozenset()


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens of one call. `prompt` includes `cached` and `cache_created`, `completion` includes `reasoning`.

    `cache_created` tokens were written to an explicit cache, `explicit`: the cached ones were read from one.
    `estimated`: some of it is a guess, because nobody has counted.
    """

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    reasoning: int = 0
    cache_created: int = 0
    explicit: bool = False
    estimated: bool = False

    @property
    def total(self) -> int:
        return self.prompt + self.completion

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.prompt + other.prompt,
            self.completion + other.completion,
            self.cached + other.cached,
            self.reasoning + other.reasoning,
            self.cache_created + other.cache_created,
            self.explicit or other.explicit,
            self.estimated or other.estimated,
        )


class TopLogprob(msgspec.Struct, frozen=True, gc=False):
    token: str
    logprob: float
    bytes: list[int] | None = None


class TokenLogprob(msgspec.Struct, frozen=True, gc=False):
    """One generated token with its natural-log probability and the likeliest tokens at its place."""

    token: str
    logprob: float
    bytes: list[int] | None = None
    top_logprobs: list[TopLogprob] = []


class ToolCallPiece(msgspec.Struct, frozen=True, gc=False):
    """A piece of a tool call. The first one of a call has its `id` and `name`; the `arguments` of all are one text.

    `number` counts the calls of an answer from 0.
    """

    number: int
    id: str = ""
    name: str = ""
    arguments: str = ""


class Event(msgspec.Struct, frozen=True, gc=False):
    """A step of one choice's answer: reasoning, then text, then calls.

    `finish_reason` closes the choice; `usage` comes once, after the last choice. `restart` takes back all that was said
    of the choice: the answer is made again elsewhere. Only calls that nobody has seen anything of yet have such steps.
    `report` is JSON that a recipe has to say about its answer; it comes before the finish reason.
    """

    index: int = 0
    text: str = ""
    logprobs: tuple[TokenLogprob, ...] | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    reasoning: str = ""
    call: ToolCallPiece | None = None
    restart: bool = False
    report: msgspec.Raw | None = None

    @property
    def is_text(self) -> bool:
        """Whether it is a piece of text and nothing else, as nearly all events are."""
        more = self.finish_reason is not None or self.logprobs is not None or self.call is not None
        return bool(self.text) and not more and not self.reasoning


class Texts(Sequence[Event]):
    """A burst of nothing but pieces of text, as nearly all are. Whoever looks for events finds them."""

    __slots__ = ("texts",)

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    def __len__(self) -> int:
        return len(self.texts)

    @overload
    def __getitem__(self, at: int) -> Event: ...
    @overload
    def __getitem__(self, at: slice) -> list[Event]: ...
    def __getitem__(self, at: int | slice) -> Event | list[Event]:
        if isinstance(at, slice):
            return [Event(text=text) for text in self.texts[at]]
        return Event(text=self.texts[at])

    def __iter__(self) -> Iterator[Event]:
        return iter([Event(text=text) for text in self.texts])


Burst = Sequence[Event]
"""Events that arrived together and leave in one send. An empty burst is a sign of life without a word: the engine is
reading the prompt."""

Events = AsyncGenerator[Burst, None]


class Choice(msgspec.Struct, frozen=True, gc=False):
    """A whole answer: what its events say, put together."""

    index: int
    text: str
    finish_reason: str | None
    logprobs: tuple[TokenLogprob, ...] | None = None
    reasoning: str = ""
    calls: tuple[ToolCall, ...] = ()


class ChatResult(msgspec.Struct, frozen=True, gc=False):
    """The unstreamed answer: every choice in order, and the usage of all.

    `cut_short`: time ran out, and this is what there was until then. `report` is what a recipe says about its answer.
    """

    choices: tuple[Choice, ...]
    usage: Usage
    cut_short: bool = False
    report: msgspec.Raw | None = None


class Answering(msgspec.Struct, frozen=True, gc=False):
    """The honest statement beside an answer: what ran, and how it relates to the name that was asked for.

    `fingerprint` is `weights@digest` (12 hex digits), or an upstream's name. `ignored` lists the wire names of
    parameters that the answer does not honour. `thinking` is "prompted" where the model never learned to think.
    """

    model: str
    deployment: str
    fingerprint: str
    served: Served
    ignored: tuple[str, ...] = ()
    thinking: str = ""


class _Parts:
    """What has come of one choice so far."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.reasoning: list[str] = []
        self.calls: dict[int, list[ToolCallPiece]] = {}
        self.finish_reason: str | None = None
        self.logprobs: list[TokenLogprob] | None = None

    def add(self, event: Event) -> None:
        self.texts.append(event.text)
        self.reasoning.append(event.reasoning)
        if event.call is not None:
            self.calls.setdefault(event.call.number, []).append(event.call)
        if event.logprobs is not None:
            self.logprobs = self.logprobs or []
            self.logprobs.extend(event.logprobs)
        self.finish_reason = event.finish_reason or self.finish_reason

    def choice(self, index: int) -> Choice:
        return Choice(
            index=index,
            text="".join(self.texts),
            finish_reason=self.finish_reason,
            reasoning="".join(self.reasoning),
            calls=tuple(
                ToolCall(pieces[0].id, pieces[0].name, "".join(piece.arguments for piece in pieces))
                for _, pieces in sorted(self.calls.items())
            ),
            logprobs=tuple(self.logprobs) if self.logprobs is not None else None,
        )


def fold(events: Sequence[Event]) -> ChatResult:
    """Put a whole stream of events together: the unstreamed form of the same answer."""
    choices: dict[int, _Parts] = {}
    usage, report = Usage(), None
    for event in events:
        if event.restart:
            choices.pop(event.index, None)
        elif event.usage is not None:
            usage = event.usage
        elif event.report is not None:
            report = event.report
        else:
            choices.setdefault(event.index, _Parts()).add(event)
    return ChatResult(tuple(choices[index].choice(index) for index in sorted(choices)), usage, report=report)


Vector = Sequence[float]
"""A text as a point: its direction is the meaning, its length is 1."""


class EmbeddingRequest(msgspec.Struct, frozen=True):
    """One call for vectors, one for each text.

    `dimensions` None leaves their length to the model's row. `purpose` says whether the texts will be looked for or ask
    what to look for; only some models tell the two apart. `given` is as in `ChatRequest`.
    """

    model: str
    texts: tuple[str, ...]
    dimensions: int | None = None
    encoding: Literal["float", "base64"] = "float"
    purpose: Literal["document", "query"] = "document"
    given: frozenset[str] = frozenset()


class EmbeddingResult(msgspec.Struct, frozen=True):
    """A vector for each text, in order, all of one length; `usage` counts the tokens of the texts."""

    vectors: tuple[Vector, ...]
    usage: Usage
