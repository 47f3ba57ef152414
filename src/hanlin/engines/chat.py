"""An engine that speaks OpenAI chat over HTTP: our request in, our events out.

It is always asked for a stream with usage, also when the caller wants none: only a streamed call notices a hang-up.
Who starts the server, and whether it is well, is somebody else's business.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from hanlin.engines.frames import ChatFrames
from hanlin.engines.profiles import EngineProfile, WeightsProfile
from hanlin.engines.wire import Client, Response
from hanlin.errors import ContextLengthExceeded, EngineFailed, EngineUnavailable, InvalidRequest
from hanlin.types import ChatRequest, Event, Events, Message, Sampling, StopTokens, Usage

_RETRY_S = 5
_AFTER_DONE_S = 0.05  # how long the end of a body may be behind its `[DONE]` for the connection to be kept
_LONGEST_RETRY_S = 60  # SDKs obey no longer ones (spec/surfaces.md §9.1)


@dataclass(frozen=True)
class Manner:
    """How to speak to one deployment.

    `model` is the name sent; "" sends the caller's. `unbilled_tokens` are the prompt tokens of the identity line.
    `silence_s` is how long the engine may be silent while it answers.
    """

    profile: EngineProfile
    model: str = ""
    weights: WeightsProfile = field(default_factory=WeightsProfile)
    unbilled_tokens: int = 0
    silence_s: float = 60.0
    headers: Mapping[str, str] = field(default_factory=dict)


def lead(messages: Sequence[Message], weights: WeightsProfile) -> tuple[Message, ...]:
    """Put what the weights need said ahead of the caller's messages: their identity line, and a system message.

    The line ends with a newline, so that it is the same tokens whatever follows.
    """
    if not weights.identity and not weights.default_system:
        return tuple(messages)
    first, rest = (messages[0], messages[1:]) if messages[0].role == "system" else (None, messages)
    system = first.text if first is not None else weights.default_system
    return (Message("system", f"{weights.identity}\n{system}" if weights.identity else system), *rest)


def encode(request: ChatRequest, manner: Manner, stop: Sequence[str] = ()) -> bytes:
    """Return the body for the engine. `stop` are further stop texts, beside the caller's own."""
    profile = manner.profile
    body: dict[str, Any] = {
        "model": manner.model or request.model,
        "messages": [_message(message) for message in lead(request.messages, manner.weights)],
        "stream": True,
        "stream_options": {"include_usage": True},
        **profile.fixed,
    }
    for ours, theirs in profile.parameters.items():
        if (value := _sampled(request.sampling, ours)) is not None:
            body[theirs] = value
    if stop:
        body["stop"] = [*request.sampling.stop, *stop]
    if request.logprobs:
        body["logprobs"] = True
        body["top_logprobs"] = max(request.top_logprobs, profile.top_logprobs_min)
    return msgspec.json.encode(body)


def _estimate(messages: Sequence[Message], answer_bytes: int) -> Usage:
    """Guess the usage that an engine does not report: about four bytes a token, in Chinese and in English."""
    prompt_bytes = sum(len(message.text.encode()) + 16 for message in messages)
    return Usage(prompt=max(prompt_bytes // 4, 1), completion=max(answer_bytes // 4, 1))


def _message(message: Message) -> dict[str, Any]:
    return {"role": message.role, "content": message.text}


def _sampled(sampling: Sampling, name: str) -> Any:
    if name == "max_tokens":
        limits = [limit for limit in (sampling.max_tokens, sampling.max_completion_tokens) if limit is not None]
        return min(limits) if limits else None
    if name == "logit_bias":
        return {str(token): bias for token, bias in sampling.logit_bias} or None
    value = getattr(sampling, name)
    return None if value == () else value


class ChatEngine:
    """The conversation with one server. `generate` may run any number of times at once; closing `client` ends them."""

    def __init__(self, client: Client, manner: Manner) -> None:
        self._client = client
        self.manner = manner

    async def generate(self, request: ChatRequest) -> Events:
        """Yield the events of one choice as they come, then its usage; an empty burst is a sign of life.

        Closing the iterator closes the connection, which makes the engine stop. Raises ContextLengthExceeded,
        InvalidRequest for what else the engine refuses, and EngineError for its failures.
        """
        stop = await self._stop_texts(request.sampling.stop_tokens)
        response = await self._post("/chat/completions", encode(request, self.manner, stop))
        try:
            if response.status != 200:
                raise await self._refusal(request.model, response)
            frames = ChatFrames()
            answer_bytes, counted = 0, False
            async for piece in response.pieces():
                events = [self._own(event, request) for event in frames.feed(piece)]
                answer_bytes += sum(len(event.text.encode()) for event in events)
                counted = counted or any(event.usage is not None for event in events)
                yield events
                if frames.failure is not None:
                    raise frames.failure
                if frames.done:
                    await response.finish(_AFTER_DONE_S)
                    break
            if not frames.finished:
                raise EngineFailed("the engine's answer ended without a finish reason")
            if not counted:
                yield [Event(usage=_estimate(request.messages, answer_bytes))]
        finally:
            response.close()

    async def count(self, messages: Sequence[Message]) -> int | None:
        """Return the exact prompt tokens that the caller is billed for, or None when this engine can't tell."""
        if not self.manner.profile.counts:
            return None
        body: dict[str, Any] = {"messages": [_message(message) for message in lead(messages, self.manner.weights)]}
        if (switches := self.manner.profile.fixed.get("chat_template_kwargs")) is not None:
            body["chat_template_kwargs"] = switches
        prompt = await self._ask("/apply-template", body)
        return await self.tokens(prompt.prompt) - self.manner.unbilled_tokens

    async def tokens(self, text: str) -> int:
        """Return how many tokens `text` is, special tokens parsed."""
        answer = await self._ask("/tokenize", {"content": text, "add_special": False, "parse_special": True})
        return len(answer.tokens)

    async def _stop_texts(self, sequences: StopTokens) -> list[str]:
        if not sequences or self.manner.profile.stop_tokens != "text":
            return []
        try:
            answers = [await self._ask("/detokenize", {"tokens": list(tokens)}) for tokens in sequences]
        except EngineFailed as error:
            raise InvalidRequest(f"stop holds ids that are no tokens of the model: {error}", param="stop") from error
        return [answer.content for answer in answers if answer.content]

    async def _ask(self, path: str, body: dict[str, Any]) -> "_Asked":
        response = await self._post(path, msgspec.json.encode(body))
        data = await response.body()
        if response.status != 200:
            raise EngineFailed(f"the engine answered {response.status} to {path}")
        try:
            return msgspec.json.decode(data, type=_Asked)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise EngineFailed(f"the engine's answer to {path} is not what it should be: {error}") from error

    async def _post(self, path: str, body: bytes) -> Response:
        return await self._client.send("POST", path, body, headers=self.manner.headers, silence_s=self.manner.silence_s)

    def _own(self, event: Event, request: ChatRequest) -> Event:
        """Take out what only the engine needed: the identity line's tokens, and alternatives nobody asked for."""
        if (usage := event.usage) is not None:
            prompt = max(usage.prompt - self.manner.unbilled_tokens, 0)
            cached = min(max(usage.cached - self.manner.unbilled_tokens, 0), prompt)
            return Event(usage=Usage(prompt, usage.completion, cached, usage.reasoning))
        if event.logprobs is not None:
            kept = tuple(
                msgspec.structs.replace(token, top_logprobs=token.top_logprobs[: request.top_logprobs])
                for token in event.logprobs
            )
            return msgspec.structs.replace(event, logprobs=kept)
        return event

    async def _refusal(self, model: str, response: Response) -> Exception:
        """Turn an engine's error response into ours: by status first, by its words second."""
        data = await response.body()
        try:
            error = msgspec.json.decode(data, type=_ErrorBody).error
        except (msgspec.DecodeError, UnicodeDecodeError):
            error = _Error(message=data[:300].decode("utf-8", "replace"))
        if response.status == 400 and error.type == "exceed_context_size_error" and error.n_ctx:
            unbilled = self.manner.unbilled_tokens
            # One token of the context is left for the answer: the longest prompt is a token shorter.
            return ContextLengthExceeded(model, error.n_prompt_tokens - unbilled, error.n_ctx - 1 - unbilled)
        if response.status in (429, 503):
            retry_after = response.headers.get("retry-after", "")
            return EngineUnavailable(
                error.message or f"the engine answered {response.status}",
                min(int(retry_after), _LONGEST_RETRY_S) if retry_after.isdecimal() else _RETRY_S,
            )
        if response.status in (400, 404, 413, 422):
            return InvalidRequest(f"the engine refused the request: {error.message}")
        return EngineFailed(f"the engine answered {response.status}: {error.message}")


class _Asked(msgspec.Struct):
    """What the questions beside chat are answered with: each uses one field."""

    prompt: str = ""
    content: str = ""
    tokens: list[int] = []


class _Error(msgspec.Struct):
    message: str = ""
    type: str | None = None
    n_prompt_tokens: int = 0
    n_ctx: int = 0


class _ErrorBody(msgspec.Struct):
    error: _Error
