"""What a translation runs on in tests: a desk around any base model, and a real model behind a running service."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec
from openai import AsyncOpenAI

from hanlin.catalogue import load
from hanlin.catalogue.models import Model
from hanlin.documents.values import Document
from hanlin.recipes.recipe import Base, Desk
from hanlin.recipes.translation.recipe import TRANSLATION
from hanlin.types import ChatRequest, ChatResult, Choice, Events, Message, Sampling, Usage, Vector


class NoLibrary:
    """Documents play no part in a translation."""

    async def open(self, ids: Sequence[str]) -> Sequence[Document]:
        raise AssertionError("a translation reads no documents")

    async def hold(self, text: str, name: str) -> Document:
        raise AssertionError("a translation keeps no documents")


@lru_cache
def model_of(name: str) -> Model:
    model = load().find(name)
    assert model is not None
    return model


def request_of(
    text: str, options: Mapping[str, Any] | None, *, model: str = "qwen-mt-flash", sampling: Sampling | None = None
) -> ChatRequest:
    """Return a call as a dialect would state it."""
    asks = {} if options is None else {"translation_options": msgspec.Raw(msgspec.json.encode(options))}
    return ChatRequest(model, (Message("user", text),), sampling or Sampling(), asks=asks, given=frozenset(asks))


@dataclass
class Translation:
    """A translation that is over: its pieces as they came, how it ended, what it counts."""

    pieces: list[str]
    finish_reason: str | None
    usage: Usage | None
    report: Any = None

    @property
    def text(self) -> str:
        return "".join(self.pieces)


async def translate(
    base: Base,
    text: str,
    options: Mapping[str, Any] | None = None,
    *,
    model: str = "qwen-mt-flash",
    sampling: Sampling | None = None,
) -> Translation:
    """Run the recipe as the service does: what the contract refuses first, then all events."""
    request = request_of(text, options, model=model, sampling=sampling)
    TRANSLATION.check(request, model_of(model))
    done = Translation([], None, None)
    async for burst in TRANSLATION.run(request, Desk(model_of(model), base, NoLibrary())):
        for event in burst:
            if event.text:
                done.pieces.append(event.text)
            done.finish_reason = event.finish_reason or done.finish_reason
            done.usage = event.usage or done.usage
            report = getattr(event, "report", None)
            done.report = msgspec.json.decode(report) if report is not None else done.report
    return done


class RealBase:
    """The base model of a running service, as any program reaches it. Few calls at a time: two cores compute."""

    context_tokens = 8192
    fingerprint = "real"
    can_shape = True
    can_continue = False

    def __init__(self, client: AsyncOpenAI, model: str = "qwen-plus", at_once: int = 2) -> None:
        self._client = client
        self._model = model
        self._places = asyncio.Semaphore(at_once)
        self.calls = 0

    async def answer(self, request: ChatRequest) -> ChatResult:
        self.calls += 1
        sampling = request.sampling
        shape: dict[str, Any] = {}
        if request.shape is not None:
            schema = {"name": request.shape.name, "schema": request.shape.schema}
            shape = {"response_format": {"type": request.shape.kind, "json_schema": schema}}
        messages: Any = [{"role": message.role, "content": message.text} for message in request.messages]
        async with self._places:
            answer = await self._client.chat.completions.create(
                model=self._model,
                messages=messages,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                seed=sampling.seed,
                max_tokens=sampling.max_tokens,
                extra_body={} if sampling.top_k is None else {"top_k": sampling.top_k},
                **shape,
            )
        [choice] = answer.choices
        assert answer.usage is not None
        usage = Usage(answer.usage.prompt_tokens, answer.usage.completion_tokens)
        return ChatResult((Choice(0, choice.message.content or "", choice.finish_reason),), usage)

    def stream(self, request: ChatRequest) -> Events:
        raise AssertionError("a translation is checked before it is told: nothing is streamed")

    async def count(self, request: ChatRequest) -> int:
        return sum(len(message.text) for message in request.messages) // 3 + 8

    async def vectors(self, texts: Sequence[str], purpose: str) -> Sequence[Vector] | None:
        return None


__all__ = ["NoLibrary", "RealBase", "Translation", "model_of", "request_of", "translate"]
