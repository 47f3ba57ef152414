"""An engine that speaks OpenAI chat over HTTP: our request in, our events out.

It is always asked for a stream with usage, also when the caller wants none: only a streamed call notices a hang-up.
Who starts the server, and whether it is well, is somebody else's business.
"""

from collections.abc import AsyncGenerator, Coroutine, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

import msgspec

from hanlin.engines.completions import Pass, Step, Steps
from hanlin.engines.frames import ChatFrames
from hanlin.engines.gaps import encode_gap, gap_pass, within_gap, without_tags
from hanlin.engines.manner import Manner, has_markup, lead, message_rows, offered, tool_rows
from hanlin.engines.native import REASONS, NativeAnswer, around, encode
from hanlin.engines.plain import PlainReading, is_plain, read_whole
from hanlin.engines.prompted import PromptedAnswer
from hanlin.engines.refusals import Refusal
from hanlin.engines.wire import Buffer, Client, Deadlines, Response
from hanlin.errors import ContextLengthExceeded, EngineFailed, HanlinError, InvalidRequest
from hanlin.types import (
    ChatRequest,
    ChatResult,
    CompletionRequest,
    Event,
    Events,
    Form,
    Message,
    Sampling,
    StopTokens,
    Tool,
    Usage,
)

_KNOWN_FORMS = 512
_AFTER_DONE_S = 0.05  # how long the end of a body may be behind its last frame for the connection to be kept
_PROBE = (Message("user", "1"),)


def needs_prompt(request: ChatRequest) -> bool:
    """Whether a call is more than plain chat, so that its prompt is written here where an engine takes prompts."""
    return request.thinking.on or request.partial or request.shape is not None or has_markup(request)


def _estimate(messages: Sequence[Message], thought_bytes: int, answer_bytes: int) -> Usage:
    """Guess the usage that an engine does not report: about four bytes a token, in Chinese and in English."""
    prompt_bytes = sum(len(message.text.encode()) + 16 for message in messages)
    reasoning = max(thought_bytes // 4, 1) if thought_bytes else 0
    completion = reasoning + max(answer_bytes // 4, 1)
    return Usage(max(prompt_bytes // 4, 1), completion, reasoning=reasoning, estimated=True)


def _is_whole(usage: Usage, said: object) -> bool:
    """Whether a server has counted both, the answer if anything was said: some report zeros, or the prompt alone."""
    return bool(usage.prompt and (usage.completion or not said))


def _completed(usage: Usage, guess: Usage) -> Usage:
    """Return a usage with a guess for what was not counted: nothing that was generated is told as nothing."""
    completion = usage.completion or guess.completion
    return msgspec.structs.replace(
        usage,
        prompt=usage.prompt or guess.prompt,
        completion=completion,
        reasoning=min(usage.reasoning or guess.reasoning, completion),
        estimated=True,
    )


async def _counted(events: Events, messages: Sequence[Message]) -> Events:
    """Yield events as they come, and a usage at their end, guessed as far as the server has not counted."""
    thought_bytes = answer_bytes = 0
    usage: Usage | None = None
    async with aclosing(events) as bursts:
        async for burst in bursts:
            for event in burst:
                answer_bytes += len(event.text.encode())
                thought_bytes += len(event.reasoning.encode())
                if event.call is not None:
                    answer_bytes += len(event.call.name) + len(event.call.arguments.encode())
                if event.usage is not None:
                    usage = event.usage
            is_told = usage is None or _is_whole(usage, answer_bytes or thought_bytes)
            yield burst if is_told else [one for one in burst if one.usage is None]
    if usage is None or not _is_whole(usage, answer_bytes or thought_bytes):
        yield [Event(usage=_completed(usage or Usage(), _estimate(messages, thought_bytes, answer_bytes)))]


class _Around(msgspec.Struct, frozen=True, gc=False):
    """What stands before and behind the messages in the bodies of plain calls of one form."""

    before: bytes
    behind: bytes
    whole: bool


class ChatEngine:
    """The conversation with one server. `generate` may run any number of times at once; closing `client` ends them."""

    def __init__(self, client: Client, manner: Manner, deadlines: Deadlines | None = None, *, secret: str = "") -> None:
        """`deadlines` are those of every call; without, the manner's one patience with silence counts.

        `secret` is the key that the server is called with: no error repeats it, though the server may.
        """
        self._client = client
        self._secret = secret
        self._deadlines = deadlines or Deadlines().silent_for(manner.silence_s)
        self.manner = manner
        self._around: dict[Form, _Around] = {}

    def generate(self, request: ChatRequest) -> Events:
        """Yield the events of one choice as they come, then its usage; an empty burst is a sign of life.

        Closing the iterator closes the connection, which makes the engine stop. Raises ContextLengthExceeded,
        InvalidRequest for what else the engine refuses, and EngineError for its failures.
        """
        plain = request.form in self._around or is_plain(request, self.manner.profile)
        return self._plain(request) if plain else self._read(request)

    def gives_whole(self, request: ChatRequest) -> bool:
        """Whether an answer is asked for as a whole: a plain one, of a server that notices hang-ups also then."""
        known = self._around.get(request.form) if request.form is not None else None
        if known is not None:
            return known.whole
        return not request.stream and self.manner.profile.whole and is_plain(request, self.manner.profile)

    def whole(self, request: ChatRequest) -> Coroutine[Any, Any, ChatResult] | None:
        """Return what waits for the answer as a whole, with its usage, where it `gives_whole`. Raises as `generate`."""
        return self._whole(request) if self.gives_whole(request) else None

    async def _whole(self, request: ChatRequest) -> ChatResult:
        body = self._encoded(request, stream=False)
        # It is silent until it is there: meanwhile the engine is asked for a token, to see that it is still well.
        response = await self._client.send(
            "POST",
            "/chat/completions",
            body,
            headers=self.manner.headers,
            deadlines=self._deadlines,
            ask=partial(self._ask_for_token, request),
        )
        try:
            if response.status != 200:
                raise await self._refusal(request.model, response)
            result = read_whole(await response.body(), self.manner.profile.codes)
        except BaseException as problem:
            response.close()
            if isinstance(problem, HanlinError):
                problem.conceal(self._secret)
            raise
        choice = result.choices[0]
        if not _is_whole(result.usage, choice.text or choice.reasoning or choice.calls):
            guess = _estimate(request.messages, len(choice.reasoning.encode()), len(choice.text.encode()))
            return msgspec.structs.replace(result, usage=_completed(result.usage, guess))
        return result

    async def _ask_for_token(self, request: ChatRequest) -> None:
        """Ask for something small. Raises a HanlinError when the engine fails it."""
        token = request.changed(messages=_PROBE, sampling=Sampling(max_tokens=1))
        response = await self._post("/chat/completions", encode(token, self.manner))
        try:
            await response.read()
            if response.status >= 500:  # what it declines, it has at least read
                raise EngineFailed(f"the engine answered {response.status} to a question for one token")
        finally:
            response.close()

    async def _plain(self, request: ChatRequest) -> Events:
        """Yield the events of plain chat."""
        profile = self.manner.profile
        response = await self._post("/chat/completions", self._encoded(request, stream=True))
        try:
            if response.status != 200:
                raise await self._refusal(request.model, response)
            frames = ChatFrames(profile.codes)
            reading = PlainReading(REASONS, joins=not request.stream)
            ended = False
            while not ended and (piece := await response.read()):
                for burst in frames.bursts(piece):
                    yield reading.read(burst)
                ended = frames.done and frames.finished and frames.failure is None
                if ended:  # most answers are short enough to end with the packet that they begin with
                    yield self._end(request, reading)
                if frames.failure is not None:
                    raise frames.failure
                if frames.done:
                    await response.finish(_AFTER_DONE_S)
                    break
            if not frames.finished:
                raise EngineFailed("the engine's answer ended without a finish reason")
        except HanlinError as problem:
            problem.conceal(self._secret)
            raise
        finally:
            response.close()
        if not ended:
            yield self._end(request, reading)

    def _encoded(self, request: ChatRequest, *, stream: bool) -> bytes | Sequence[Buffer]:
        """Return the body of a plain call; what stands around its messages is encoded once for its form."""
        form, sent = request.form, request.sent
        if form is None or sent is None or sent.messages is not request.messages:
            return encode(request, self.manner, stream=stream)
        known = self._around.get(form)
        if known is None:
            if self.manner.weights.leads:  # what is said ahead of the messages becomes a part of them
                return encode(request, self.manner, stream=stream)
            if len(self._around) >= _KNOWN_FORMS:
                self._around.clear()
            known = self._around[form] = _Around(*around(request, self.manner, stream=stream), whole=not stream)
        return (known.before, sent.raw, known.behind)

    def _end(self, request: ChatRequest, reading: PlainReading) -> list[Event]:
        """Return the end of a plain answer, its usage guessed where the server has not counted."""
        events = reading.close()
        usage = reading.usage
        if usage is None or not _is_whole(usage, reading.said or reading.thought):
            thought, said = len("".join(reading.thought).encode()), len("".join(reading.said).encode())
            guess = _estimate(request.messages, thought, said)
            events = [event for event in events if event.usage is None]
            events.append(Event(usage=_completed(usage or Usage(), guess)))
        return events

    async def _read(self, request: ChatRequest) -> Events:
        """Yield the events of a call that something is to be read out of: thoughts, calls, JSON."""
        stop = await self._stop_texts(request.sampling.stop_tokens)
        async with aclosing(_counted(self._answer(request, stop), request.messages)) as bursts:
            async for burst in bursts:
                yield burst

    def _answer(self, request: ChatRequest, stop: Sequence[str]) -> Events:
        profile = self.manner.profile
        if profile.prompts and needs_prompt(request):
            return PromptedAnswer(request, self.manner, _Prompting(self, request), stop).events()
        if profile.thinks == "never" and not needs_prompt(request):
            return self._chat(request, encode(request, self.manner, stop))
        return NativeAnswer(request, self.manner, lambda body: self._chat(request, body), stop).events()

    async def _chat(self, request: ChatRequest, body: bytes, path: str = "/chat/completions") -> Events:
        """Yield the events of a call as the server means them."""
        response = await self._post(path, body)
        try:
            if response.status != 200:
                raise await self._refusal(request.model, response)
            frames = ChatFrames(self.manner.profile.codes)
            while piece := await response.read():
                yield [self._own(event, request) for event in frames.feed(piece)]
                if frames.failure is not None:
                    raise frames.failure
                if frames.done:
                    await response.finish(_AFTER_DONE_S)
                    break
            if not frames.finished:
                raise EngineFailed("the engine's answer ended without a finish reason")
        except HanlinError as problem:
            problem.conceal(self._secret)
            raise
        finally:
            response.close()

    async def complete(self, passing: Pass, model: str) -> AsyncGenerator[Sequence[Step], None]:
        """Yield the steps of a text completion. Raises as `generate`."""
        response = await self._post("/completion", passing.body())
        try:
            if response.status != 200:
                raise await self._refusal(model, response)
            steps = Steps()
            while piece := await response.read():
                yield steps.feed(piece)
                if steps.done:
                    await response.finish(_AFTER_DONE_S)
                    break
            if not steps.done:
                raise EngineFailed("the engine's answer ended too early")
        except HanlinError as problem:
            problem.conceal(self._secret)
            raise
        finally:
            response.close()

    async def fill(self, request: CompletionRequest) -> Events:
        """Yield the events of a text completion, none of whose text is a gap's tag, then its usage.

        Raises as `generate`.
        """
        stop = (*request.sampling.stop, *await self._stop_texts(request.sampling.stop_tokens))
        if self.manner.profile.prompts:
            filled = within_gap(self._filled(gap_pass(request, self.manner, stop), request.model), request)
        else:
            body = encode_gap(request, self.manner, stop)
            filled = self._chat(ChatRequest(request.model, ()), body, "/completions")
        prompt = (Message("user", request.prompt), Message("user", request.suffix or ""))
        async with aclosing(_counted(without_tags(filled), prompt)) as bursts:
            async for burst in bursts:
                yield burst

    async def _filled(self, passing: Pass, model: str) -> Events:
        async with aclosing(self.complete(passing, model)) as steps:
            async for some in steps:
                for step in some:
                    yield [Event(text=step.content)] if step.content else []
                    if step.stop:
                        yield [Event(finish_reason="length" if step.stop_type == "limit" else "stop")]
                        yield [Event(usage=Usage(step.prompt, step.generated, min(step.cached, step.prompt)))]

    async def count(self, request: ChatRequest) -> int | None:
        """Return the exact prompt tokens that the caller is billed for, or None when this engine can't tell."""
        if not self.manner.profile.counts:
            return None
        prompt = await self.prompt(request, request.messages, offered(request), thinks=False)
        return await self.tokens(prompt) - self.manner.unbilled_tokens

    async def prompt(
        self, request: ChatRequest, messages: Sequence[Message], tools: Sequence[Tool], *, thinks: bool
    ) -> str:
        """Return the prompt that the weights' template makes of a conversation."""
        led = msgspec.structs.replace(request, messages=lead(messages, self.manner.weights))
        body: dict[str, Any] = {"messages": message_rows(led), "chat_template_kwargs": {"enable_thinking": thinks}}
        if tools:
            body["tools"] = tool_rows(tools)
        return (await self._ask("/apply-template", body)).prompt

    async def tokens(self, text: str) -> int:
        """Return how many tokens `text` is, special tokens parsed."""
        answer = await self._ask("/tokenize", {"content": text, "add_special": False, "parse_special": True})
        return len(answer.tokens)

    async def text(self, tokens: Sequence[int]) -> str:
        """Return the text of tokens."""
        return (await self._ask("/detokenize", {"tokens": tokens})).content

    async def _stop_texts(self, sequences: StopTokens) -> list[str]:
        if not sequences or self.manner.profile.stop_tokens != "text":
            return []
        try:
            texts = [await self.text(tokens) for tokens in sequences]
        except EngineFailed as error:
            raise InvalidRequest(f"stop holds ids that are no tokens of the model: {error}", param="stop") from error
        return [text for text in texts if text]

    async def _ask(self, path: str, body: dict[str, Any]) -> "_Asked":
        response = await self._post(path, msgspec.json.encode(body))
        data = await response.body()
        if response.status != 200:
            raise EngineFailed(f"the engine answered {response.status} to {path}")
        try:
            return msgspec.json.decode(data, type=_Asked)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise EngineFailed(f"the engine's answer to {path} is not what it should be: {error}") from error

    async def _post(self, path: str, body: bytes | Sequence[Buffer]) -> Response:
        return await self._client.send("POST", path, body, headers=self.manner.headers, deadlines=self._deadlines)

    def _own(self, event: Event, request: ChatRequest) -> Event:
        """Take out what only the engine needed: the identity line's tokens, and alternatives nobody asked for."""
        if (usage := event.usage) is not None:
            prompt = max(usage.prompt - self.manner.unbilled_tokens, 0)
            cached = min(max(usage.cached - self.manner.unbilled_tokens, 0), prompt)
            return Event(usage=msgspec.structs.replace(usage, prompt=prompt, cached=cached))
        if event.logprobs is not None:
            kept = tuple(
                msgspec.structs.replace(token, top_logprobs=token.top_logprobs[: request.top_logprobs])
                for token in event.logprobs
            )
            return msgspec.structs.replace(event, logprobs=kept)
        return event

    async def _refusal(self, model: str, response: Response) -> Exception:
        """Turn an engine's error response into ours: by status first, by its words second."""
        refusal = Refusal.read(response.status, response.headers, await response.body())
        if refusal.context_tokens:
            unbilled = self.manner.unbilled_tokens
            # One token of the context is left for the answer: the longest prompt is a token shorter.
            return ContextLengthExceeded(model, refusal.prompt_tokens - unbilled, refusal.context_tokens - 1 - unbilled)
        return refusal.problem(self.manner.profile.codes)


class _Prompting:
    """What a prompted answer asks of the engine, on behalf of one request."""

    def __init__(self, engine: ChatEngine, request: ChatRequest) -> None:
        self._engine = engine
        self._request = request

    def complete(self, passing: Pass) -> AsyncGenerator[Sequence[Step], None]:
        return self._engine.complete(passing, self._request.model)

    async def prompt(self, messages: Sequence[Message], tools: Sequence[Tool], *, thinks: bool) -> str:
        return await self._engine.prompt(self._request, messages, tools, thinks=thinks)

    async def tokens(self, text: str) -> int:
        return await self._engine.tokens(text)

    async def text(self, tokens: Sequence[int]) -> str:
        return await self._engine.text(tokens)


class _Asked(msgspec.Struct):
    """What the questions beside chat are answered with: each uses one field."""

    prompt: str = ""
    content: str = ""
    tokens: list[int] = []
