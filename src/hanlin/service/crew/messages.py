"""What the main process and its workers say to each other.

A connection begins with one message as JSON: `Hello`, or the call of an engine; JSON, because a request holds parts as
they were sent. All others are msgpack. `number`s are the worker's: an answer names the question that it belongs to.
"""

from collections.abc import Callable
from typing import Literal

import msgspec

from hanlin.engines.profiles import EngineProfile
from hanlin.metering.limits import Demand, Kind, State, Which
from hanlin.metering.periods import Span
from hanlin.service.crew.failures import Failure
from hanlin.service.fleet import Wanted
from hanlin.store.rows import Limits
from hanlin.types import ChatRequest, ChatResult, CompletionRequest, EmbeddingRequest, EmbeddingResult, Event

Surface = Literal["chat", "vectors"]
"""Which of the deployments of a name: one server may answer both."""


class Opening(msgspec.Struct, frozen=True, tag=True):
    """What a connection begins with."""


class Message(msgspec.Struct, frozen=True, tag=True, array_like=True, gc=False):
    """Something that is said later."""


# --- the first message of a connection


class Hello(Opening, frozen=True):
    """This connection is a worker's line."""

    worker: int
    pid: int


class Chat(Opening, frozen=True):
    """Answer with `Pieces` and `Steps`, or, where it is wanted `whole`, with one `Answer`."""

    deployment: str
    request: ChatRequest
    whole: bool = False


class Fill(Opening, frozen=True):
    deployment: str
    request: CompletionRequest


class Count(Opening, frozen=True):
    """Answer with `Counted`."""

    deployment: str
    request: ChatRequest


class Embed(Opening, frozen=True):
    """Answer with `Vectors`."""

    deployment: str
    request: EmbeddingRequest
    limit_tokens: int | None


EngineCall = Chat | Fill | Count | Embed

First = Hello | EngineCall


# --- what an engine says


class Pieces(Message, frozen=True):
    """A burst of nothing but text."""

    texts: list[str]


class Steps(Message, frozen=True):
    """Any other burst."""

    events: list[Event]


class Answer(Message, frozen=True):
    result: ChatResult


class Counted(Message, frozen=True):
    tokens: int | None


class Vectors(Message, frozen=True):
    result: EmbeddingResult


class Failed(Message, frozen=True):
    failure: Failure


class Over(Message, frozen=True):
    """The events have come to their end."""


Said = Pieces | Steps | Answer | Counted | Vectors | Failed | Over


# --- what a worker says on its line


class Who(Message, frozen=True):
    """A `Subject`, without its name."""

    kind: Kind
    id: str
    limits: Limits


class Take(Message, frozen=True):
    """May a call hold this? Answered by `Allowed`, `Denied` or `Untold`.

    `reservation` is the worker's name for what the call holds; a further demand of the same call has the same one, and
    leaves out who it counts for.
    """

    number: int
    reservation: int
    demand: Demand
    call: str = ""
    subjects: tuple[Who, ...] = ()
    spans: tuple[Span, ...] = ()


class Settle(Message, frozen=True):
    """A call that was allowed is over, and used this."""

    reservation: int
    used: Demand


class Begin(Message, frozen=True):
    """A budget's period had spent so much before it was first asked for."""

    subject: Who
    span: Span
    nanos: int


class Charge(Message, frozen=True):
    """A budget's period has spent more."""

    id: str
    subject: Who
    span: Span
    nanos: int


class Place(Message, frozen=True):
    """A call wants a place at a deployment: answered by `Placed` or `Refused` when its turn has come."""

    number: int
    surface: Surface
    deployment: str
    who: str


class Leave(Message, frozen=True):
    """The call that asked for a place by this number no longer needs it, whether it has it or waits."""

    number: int


class Adopted(Message, frozen=True):
    """The roster of this version is in force here."""

    version: int


class Listening(Message, frozen=True):
    """Calls are taken from now on."""


class Alive(Message, frozen=True):
    """The answer to every `Pulse`."""


class Draining(Message, frozen=True):
    """No more calls are taken; so many are finished."""

    calls: int


class PagesAsked(Message, frozen=True):
    """What do the others count? Answered by `Pages`."""

    number: int


class Page(Message, frozen=True):
    """What this worker counts: the answer to `PageWanted`."""

    number: int
    page: bytes


Told = Take | Settle | Begin | Charge | Place | Leave | Adopted | Listening | Alive | Draining | PagesAsked | Page


# --- what the main process says on a worker's line


class Allowed(Message, frozen=True):
    number: int
    states: list[State]
    now: float


class Denied(Message, frozen=True):
    number: int
    which: Which
    index: int
    wait_s: float
    states: list[State]
    now: float


class Untold(Message, frozen=True):
    """What these subjects have spent must be said first."""

    number: int
    indices: tuple[int, ...]


class Placed(Message, frozen=True):
    number: int


class Refused(Message, frozen=True):
    """There is no place."""

    number: int
    failure: Failure


class Pages(Message, frozen=True):
    """What the other processes count, by their names; None where one did not answer."""

    number: int
    pages: dict[str, bytes | None]


Answered = Allowed | Denied | Untold | Placed | Refused | Pages


class OwnChat(msgspec.Struct, frozen=True):
    """A chat deployment on weights that the main process runs: the fields are those of `Deployment`."""

    name: str
    title: str
    fingerprint: str
    profile: EngineProfile
    slots: int
    repository: str
    context_tokens: int
    thinking: str
    fills_gaps: bool


class OwnVectors(msgspec.Struct, frozen=True):
    """An embedding deployment on weights that the main process runs, as `EmbeddingDeployment`."""

    name: str
    title: str
    fingerprint: str
    slots: int
    repository: str
    tells_apart: bool
    fits: bool


class Roster(Message, frozen=True):
    """Everything that answers: servers elsewhere as rows, and what the main process runs.

    `wanted` is None before the settings have been read, `managed` are the profiles of engines that rows name.
    """

    version: int
    wanted: Wanted | None
    managed: dict[str, EngineProfile]
    chats: tuple[OwnChat, ...]
    vectors: tuple[OwnVectors, ...]


class Shown(msgspec.Struct, frozen=True, array_like=True):
    """How a deployment of the main process is at this moment, as its engine and its places say."""

    why_not_ready: str | None
    trouble: str | None
    restarts: int
    connections: int
    slots: int
    running: int
    waiting: int


Doing = Literal["starting", "serving", "draining", "exited"]


class ProcessState(msgspec.Struct, frozen=True):
    """A worker process; `restarts` counts those that were in its place before."""

    worker: int
    pid: int
    state: Doing
    restarts: int


class Pulse(Message, frozen=True):
    """How everything in the main process is at this moment: told when it changes, and every second as a sign of life.

    `shown` has names as `chat/NAME` and `vectors/NAME`.
    """

    starting: str | None
    vectors_coming: str
    shown: dict[str, Shown]
    processes: tuple[ProcessState, ...]


class PageWanted(Message, frozen=True):
    number: int


class Drain(Message, frozen=True):
    """Take no more calls, finish those that are open, and end."""


Heard = Allowed | Denied | Untold | Placed | Refused | Pages | Roster | Pulse | PageWanted | Drain

encode = msgspec.msgpack.Encoder().encode
encode_first = msgspec.json.Encoder().encode
decode_first: Callable[[bytes], First] = msgspec.json.Decoder(First).decode
decode_said: Callable[[bytes], Said] = msgspec.msgpack.Decoder(Said).decode
decode_told: Callable[[bytes], Told] = msgspec.msgpack.Decoder(Told).decode
decode_heard: Callable[[bytes], Heard] = msgspec.msgpack.Decoder(Heard).decode
