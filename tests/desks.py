"""Where a recipe works in a test: a base model whose answers a function makes, and one behind a running service."""

import asyncio
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import openai
from openai import AsyncOpenAI

from hanlin import catalogue
from hanlin.catalogue.models import Catalogue
from hanlin.documents.values import Document, Library
from hanlin.errors import InvalidRequest
from hanlin.recipes.recipe import Desk, Recipe
from hanlin.types import ChatRequest, ChatResult, Choice, Event, Events, Message, Usage, Vector, fold

LIMIT_S = 30.0

Says = Callable[[ChatRequest], str | Exception]
"""What a base answers to a request, or what it fails with."""


class SaidBase:
    """A base that says what a function makes of each request; `requests` are those that it got.

    Without `shapes` it can't be held to a schema. A token is a character; streams come two of them at a time. An answer
    is cut at the request's limit.
    """

    def __init__(self, says: Says, *, shapes: bool = True, continues: bool = True, vectors: Any = None) -> None:
        self._says = says
        self._vectors = vectors
        self.can_shape = shapes
        self.can_continue = continues
        self.context_tokens = 8192
        self.fingerprint = "said"
        self.requests: list[ChatRequest] = []

    async def answer(self, request: ChatRequest) -> ChatResult:
        return fold([event async for burst in self.stream(request) for event in burst])

    async def stream(self, request: ChatRequest) -> Events:
        self.requests.append(request)
        assert self.can_shape or request.shape is None, "held to a schema, and it cannot be"
        assert self.can_continue or not request.partial, "asked to go on, and it cannot"
        text = self._says(request)
        if isinstance(text, Exception):
            raise text
        limit = request.sampling.max_tokens
        cut = limit is not None and len(text) > limit
        text = text[:limit]
        for at in range(0, len(text), 2):
            yield [Event(text=text[at : at + 2])]
        yield [Event(finish_reason="length" if cut else "stop")]
        yield [Event(usage=Usage(await self.count(request), len(text)))]

    async def count(self, request: ChatRequest) -> int:
        return sum(len(message.text) + 4 for message in request.messages)

    async def vectors(self, texts: Sequence[str], purpose: str) -> Sequence[Vector] | None:
        return None if self._vectors is None else [self._vectors(text, purpose) for text in texts]


class ServedBase:
    """A base behind a service, asked by a name that chats: what its recipes would be given, over HTTP."""

    can_shape = can_continue = True
    context_tokens = 4096
    fingerprint = "served"

    def __init__(self, client: AsyncOpenAI, model: str = "qwen2.5-7b-instruct") -> None:
        self._client = client
        self._model = model
        self.calls = 0

    async def answer(self, request: ChatRequest) -> ChatResult:
        self.calls += 1
        sampling = request.sampling
        rows: list[Any] = [{"role": one.role, "content": one.text} for one in request.messages]
        if request.partial:
            rows[-1]["partial"] = True
        body: dict[str, Any] = {
            name: getattr(sampling, name)
            for name in ("top_k", "repetition_penalty")
            if getattr(sampling, name) is not None
        }
        if request.shape is not None:
            shape: Any = {"name": "value", "schema": dict(request.shape.schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": shape}
        names = ("temperature", "top_p", "presence_penalty", "max_tokens", "seed")
        told = {name: getattr(sampling, name) for name in names if getattr(sampling, name) is not None}
        try:
            done = await self._client.chat.completions.create(model=self._model, messages=rows, extra_body=body, **told)
        except openai.BadRequestError as error:
            raise InvalidRequest(error.message) from error
        choice, usage = done.choices[0], done.usage
        assert usage is not None
        return ChatResult(
            (Choice(0, choice.message.content or "", choice.finish_reason),),
            Usage(usage.prompt_tokens, usage.completion_tokens),
        )

    async def stream(self, request: ChatRequest) -> Events:
        result = await self.answer(request)
        choice = result.choices[0]
        yield [Event(text=choice.text)]
        yield [Event(finish_reason=choice.finish_reason)]
        yield [Event(usage=result.usage)]

    async def count(self, request: ChatRequest) -> int:
        return sum(len(message.text.encode()) // 4 + 4 for message in request.messages)

    async def vectors(self, texts: Sequence[str], purpose: str) -> Sequence[Vector] | None:
        return None


class NoLibrary:
    """The library of a caller who has no documents."""

    async def open(self, ids: Sequence[str]) -> Sequence[Document]:
        raise InvalidRequest(f"Invalid file [id:{ids[0]}].")

    async def hold(self, text: str, name: str) -> Document:
        raise AssertionError("no document was expected")


@cache
def _catalogue() -> Catalogue:
    return catalogue.load()


def asked(name: str, *messages: Message, **fields: Any) -> ChatRequest:
    """Return a request to a scenario's name."""
    return ChatRequest(name, messages, **fields)


async def events_of(recipe: Recipe, request: ChatRequest, base: Any) -> list[Event]:
    """Return everything that a recipe says to a request of its own name."""
    model = _catalogue().find(request.model)
    assert model is not None
    recipe.check(request, model)
    library: Library = NoLibrary()
    desk = Desk(model, base, library)
    async with asyncio.timeout(LIMIT_S):
        return [event async for burst in recipe.run(request, desk) for event in burst]


async def reply_of(recipe: Recipe, request: ChatRequest, base: Any) -> str:
    """Return the text that a recipe answers with."""
    return fold(await events_of(recipe, request, base)).choices[0].text


__all__ = ["NoLibrary", "SaidBase", "ServedBase", "asked", "events_of", "reply_of"]
