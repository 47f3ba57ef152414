"""What a recipe is, and what it is given to work with.

A recipe turns one call of a scenario model into calls of a base model. It looks up no engine, no key and no file:
whoever runs it hands it all that.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from hanlin.catalogue.models import Model
from hanlin.documents.values import Library
from hanlin.media.fetching import Fetcher
from hanlin.types import ChatRequest, ChatResult, Events, Vector


class Base(Protocol):
    """The base model of a call. Calls of it go through routing, take places and are billed as the caller's.

    `context_tokens` is what one of them may use, prompt and answer together. `can_shape`: its answers can be held to a
    JSON Schema (`ChatRequest.shape`); `can_continue`: it goes on with an assistant's message (`ChatRequest.partial`).
    `fingerprint` names what answered last, before that what will, and is that of its replicas as well: what one model
    wrote is not what another would.
    Both raise what a chat call raises. Thinking is off unless the request says otherwise.
    """

    @property
    def context_tokens(self) -> int: ...
    @property
    def can_shape(self) -> bool: ...
    @property
    def can_continue(self) -> bool: ...
    @property
    def fingerprint(self) -> str: ...

    async def answer(self, request: ChatRequest) -> ChatResult:
        """Return the whole answer to a request."""

    def stream(self, request: ChatRequest) -> Events:
        """Yield the events of an answer as they come, its usage at the end. Closing the iterator stops the engine."""

    async def count(self, request: ChatRequest) -> int:
        """Return the prompt tokens of a request: the engine's own count, or an estimate where it has none."""

    async def vectors(self, texts: Sequence[str], purpose: str) -> Sequence[Vector] | None:
        """Return a vector for each text, None where nothing here makes vectors. `purpose`: `query` or `document`."""


@dataclass(frozen=True)
class Desk:
    """Where a recipe works: the name that was asked for, the base model, the documents that the caller may read.

    `fetcher` gets what URLs point at, None where nothing may be fetched.
    """

    model: Model
    base: Base
    library: Library
    fetcher: Fetcher | None = None


def takes_anything(_request: ChatRequest, _model: Model) -> None:
    """Refuse nothing beyond what every chat call is refused for."""


def always(_request: ChatRequest) -> bool:
    return True


@dataclass(frozen=True)
class Recipe:
    """A scenario, named as rows of the catalogue name it.

    `run` yields the events of the one choice that the caller sees: text, a finish reason, then the usage that the
    contract reports (not what the base model used: that is counted beside it). `check` raises what the contract
    refuses, before anything runs; pure. `takes` are the wire names of parameters that it honours beyond those of chat,
    found undecoded in `ChatRequest.asks`, and the kinds of media that it reads. `reads_documents`: they are kept here,
    so it is run here even where the vendor itself answers. `applies` says whether there is something for it to do:
    other calls go to the base model as they are.
    """

    name: str
    run: Callable[[ChatRequest, Desk], Events]
    check: Callable[[ChatRequest, Model], None] = takes_anything
    takes: frozenset[str] = frozenset()
    reads_documents: bool = False
    applies: Callable[[ChatRequest], bool] = always


__all__ = ["Base", "Desk", "Recipe", "takes_anything"]
