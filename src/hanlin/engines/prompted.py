"""Answer a call by writing its prompt ourselves: thoughts, tools, JSON and prefixes on an engine that completes text.

One text grows: the prompt, then pass by pass what the engine adds to it, and between the passes the marks that we put
there. Each pass ends where the next thing is to be decided (the end of the thoughts, the arguments of a call), so a
budget is exact, a grammar holds for the part that it is about, and the engine reads only what is new.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from hanlin import schemas
from hanlin.engines.calls import tool_named
from hanlin.engines.completions import Pass, Step, reseeded
from hanlin.engines.conversation import answered_calls, call_key, question, with_note, with_results
from hanlin.engines.manner import Manner, sampled
from hanlin.engines.markup import Called
from hanlin.engines.profiles import profiles
from hanlin.engines.reading import Reading, with_logprobs
from hanlin.engines.stages import Stage, flattened
from hanlin.errors import AnswerUnfit, ContextLengthExceeded
from hanlin.types import (
    Burst,
    ChatRequest,
    Event,
    Events,
    Message,
    Schema,
    Shape,
    TokenLogprob,
    Tool,
    ToolCallPiece,
    Usage,
)

# Where a call's arguments begin, in every JSON form that models write: there the grammar of the tool takes over.
_ARGUMENTS = ('"arguments":', '"parameters":')
_THINK_OPEN, _THINK_CLOSE = "<think>", "</think>"
_CALL_OPEN = '<tool_call>\n{"name": '
_TRIES = 3
_SOME_OBJECT: Schema = {"type": "object", "minProperties": 1}  # an empty one would do, and say nothing
_LONGEST_TEXT = 8_000  # characters of one string that is held to a grammar: a file fits, and nonsense comes to an end

Sink = Callable[[Sequence[Step]], Burst]
"""What becomes of the steps of a pass."""


class Engine(Protocol):
    """What is asked of the engine."""

    def complete(self, passing: Pass) -> AsyncGenerator[Sequence[Step], None]:
        """Yield the steps of one pass. Closing the iterator stops the engine. Raises ContextLengthExceeded."""

    def prompt(self, messages: Sequence[Message], tools: Sequence[Tool], *, thinks: bool) -> Awaitable[str]:
        """Return the prompt that the weights were trained to read, up to where the assistant's answer begins."""

    def tokens(self, text: str) -> Awaitable[int]: ...

    def text(self, tokens: Sequence[int]) -> Awaitable[str]: ...


@dataclass
class _Spent:
    """Tokens of the passes so far. `prompt` is what the caller's own messages are, whatever was added to them."""

    prompt: int = 0
    cached: int = 0
    reasoning: int = 0
    answer: int = 0

    @property
    def completion(self) -> int:
        return self.reasoning + self.answer


class PromptedAnswer:
    """One choice of one call, from its prompt to its usage."""

    def __init__(self, request: ChatRequest, manner: Manner, engine: Engine, stop: Sequence[str] = ()) -> None:
        self._request = request
        self._manner = manner
        self._engine = engine
        self._stop = (*request.sampling.stop, *stop)
        self._text = ""  # the prompt of the next pass: everything that was written so far, by whomever
        self._reading = Reading(request, "none" if request.partial else "open" if request.thinking.on else "possible")
        self._tools = self._reading.tools
        self._spent = _Spent()
        self._thinking = False
        self._has_thought = False
        self._passes = 0
        self._answered = answered_calls(request.messages)
        self._repeated = False  # the model made a call again, and was told to answer instead
        self._stopped_by = ""  # the stop text at which the last pass ended
        self._limited = False  # a limit, and not the model, ended it

    async def events(self) -> Events:
        """Yield the choice's events, then its usage. Raises AnswerUnfit where the model cannot be held to it."""
        async with aclosing(flattened(self._stages())) as bursts:
            async for burst in bursts:
                yield burst

    async def _stages(self) -> Stage:
        request = self._request
        if request.thinking.on:
            self._thinking = True
            prompted = self._manner.weights.thinking == "prompted"
            yield self._prompted_thoughts() if prompted else self._thoughts()
            self._thinking = False
            yield self._read([Step(content=f"{_THINK_CLOSE}\n\n")])
        else:
            self._text = await self._prompt(request.messages)
        if not self._used_up():
            self._limited = False
            choice = request.tool_choice
            if self._tools and choice.mode in ("named", "required"):
                yield self._forced_call(
                    [choice.name] if choice.mode == "named" else [tool.name for tool in self._tools]
                )
            elif request.shape is not None and not request.partial:
                yield self._shaped(request.shape)
            else:
                yield self._free()
        yield [Event(finish_reason=self._finish_reason())]
        yield [Event(usage=self._usage())]

    # --- thoughts

    async def _thoughts(self) -> Stage:
        """Let weights think that learned to, for as long as the budget lasts."""
        self._text = await self._prompt(self._request.messages)
        if not self._text.rstrip().endswith(_THINK_OPEN):
            self._text += f"{_THINK_OPEN}\n"
        yield self._pass(self._read, stop=(_THINK_CLOSE,), limit=self._request.thinking.budget_tokens)
        self._text = f"{self._text.rstrip()}\n{_THINK_CLOSE}\n\n"

    async def _prompted_thoughts(self) -> Stage:
        """Ask other weights for their thoughts, and give these to them again with the question."""
        messages = self._request.messages
        recipe = profiles().prompted
        lines = recipe.lines(question(messages))
        self._spent.prompt = await self._engine.tokens(await self._prompt(messages)) - self._manner.unbilled_tokens
        self._text = await self._prompt(with_note(messages, f"\n\n{lines.think}"))
        thoughts: list[str] = []

        def read(steps: Sequence[Step]) -> Burst:
            events = self._read(steps)
            thoughts.extend(event.reasoning for event in events)
            return events

        limit = min(self._request.thinking.budget_tokens or recipe.tokens, recipe.tokens)
        yield self._pass(read, stop=(_THINK_CLOSE,), limit=limit)
        note = lines.answer.replace("{thoughts}", "".join(thoughts))
        self._text = await self._prompt(with_note(messages, f"\n{note}"))

    # --- answers

    async def _free(self) -> Stage:
        """Let the model write what it likes; where it calls a tool, the arguments are held to the tool's schema."""
        stop = (*self._stop, *(_ARGUMENTS if self._tools else ()))
        while True:
            yield self._pass(self._read, stop=stop)
            if self._reading.one_call_is_enough or self._stopped_by not in _ARGUMENTS or self._stopped_by in self._stop:
                break
            tool = tool_named(self._reading.open_call, self._tools)
            if tool is None:  # the words stand in a text, or in a call of something else: the parser will tell
                self._text += self._stopped_by
                yield self._read([Step(content=self._stopped_by)])
                continue
            self._text += f"{self._stopped_by} "
            if self._manner.weights.repeats_calls and any(name == tool.name for name, _ in self._answered):
                yield self._new_arguments(tool)
            else:
                yield self._arguments(tool)
            if self._repeated:
                break
            self._reading.call_done()
            if self._limited or self._reading.one_call_is_enough:
                break
            self._text += "}"
        self._reading.limited = self._limited
        yield self._reading.close()
        if self._reading.to_mend and not self._limited:
            # Asked again from the start, and held to the tools that there are.
            self._text = await self._prompt(self._request.messages)
            yield self._forced_call(self._reading.to_mend)

    async def _new_arguments(self, tool: Tool) -> Stage:
        """Write the arguments of a call, unless it is one that has its result already: then have that told instead."""
        written: list[str] = []
        yield self._held(_kept(written), _parameters(tool))
        arguments = "".join(written)
        if call_key(tool.name, arguments) not in self._answered:
            yield [self._reading.begin_call(tool.name)]
            yield [Event(call=ToolCallPiece(self._reading.calls - 1, arguments=arguments))]
            return
        self._repeated = True
        self._reading.call_done()
        self._reading.tools = self._tools = ()
        messages = self._request.messages
        self._text = await self._prompt(with_results(messages, profiles().prompted.lines(question(messages)).results))
        yield self._pass(self._read, stop=self._stop)

    async def _forced_call(self, names: Sequence[str]) -> Stage:
        """Have the model call a tool of one of these names: it chooses, and writes the arguments."""
        self._text += _CALL_OPEN
        if len(names) == 1:
            name = names[0]
            self._text += msgspec.json.encode(name).decode()
        else:
            written: list[str] = []
            yield self._pass(_kept(written), schema={"enum": list(names)})
            if self._limited:
                return
            name = _decoded("".join(written))
        if (tool := tool_named(name, self._tools)) is None:
            raise AnswerUnfit(f"the model chose no tool that there is: {name!r}")
        self._text += ', "arguments": '
        yield self._arguments(tool)

    async def _arguments(self, tool: Tool) -> Stage:
        """Write the arguments of a call; its name has been written."""
        yield [self._reading.begin_call(tool.name)]

        def read(steps: Sequence[Step]) -> Burst:
            text = _text(steps)
            return [Event(call=ToolCallPiece(self._reading.calls - 1, arguments=text))] if text else []

        yield self._held(read, _parameters(tool))

    async def _shaped(self, shape: Shape) -> Stage:
        """Write an answer of this shape; where there are tools, a call may come in its place."""
        if not self._tools:
            if shape.kind == "json_object":
                yield self._pass(self._said, schema=schemas.for_decoding(_SOME_OBJECT, max_string=_LONGEST_TEXT))
            else:
                yield self._held(self._said, shape.schema)
            return
        written: list[str] = []
        yield self._held(_kept(written), _call_or_answer(self._tools, shape.schema or _SOME_OBJECT))
        whole = "".join(written)
        value = _decoded(whole)
        tool = tool_named(str(value.get("name")), self._tools) if isinstance(value, dict) else None
        if tool is None or value.keys() != {"name", "arguments"}:
            yield [Event(text=whole)]
            return
        yield self._reading.whole_call(Called(tool.name, msgspec.json.encode(value["arguments"]).decode()))

    async def _held(self, sink: Sink, schema: Schema) -> Stage:
        """Write JSON that fits a schema: as it comes where the grammar makes sure of that, else once it does.

        Raises AnswerUnfit after several tries. What a limit cuts is handed on as far as it goes.
        """
        begins, grammar = self._text, schemas.for_decoding(schema, max_string=_LONGEST_TEXT)
        if schemas.is_exact(schema):
            yield self._pass(sink, schema=grammar)
            return
        problem: str | None = ""
        written: list[str]
        for attempt in range(_TRIES):
            self._text, written = begins, []
            yield self._pass(_kept(written), schema=grammar, attempt=attempt)
            whole = "".join(written)
            value = _decoded(whole)
            fitted = schemas.fitted(value, schema)
            problem = schemas.problem(fitted, schema)
            if self._limited or problem is None:
                whole = whole if self._limited or fitted is value else msgspec.json.encode(fitted).decode()
                yield sink([Step(content=whole)])
                return
        raise AnswerUnfit(f"{_TRIES} answers do not fit the schema: {problem}")

    # --- passes

    async def _pass(
        self,
        sink: Sink,
        *,
        stop: Sequence[str] = (),
        limit: int | None = None,
        schema: Schema | None = None,
        attempt: int = 0,
    ) -> Stage:
        """Have the engine continue the text: to a stop text, to its own end, or to a limit."""
        request = self._request
        self._stopped_by, self._limited = "", False
        limit = _least(limit, self._left())
        if limit is not None and limit <= 0:
            self._limited = True
            return
        passing = Pass(
            prompt=self._text,
            stop=tuple(stop),
            limit=limit,
            schema=schema,
            alternatives=max(request.top_logprobs, 1) if request.logprobs and not self._thinking else 0,
            sampled=sampled(reseeded(request.sampling, attempt), self._manner.profile, repeatable=request.repeatable),
        )
        generated = 0
        unsaid: list[int] = []  # tokens that the engine holds back, because a stop text may begin with them
        self._passes += 1
        try:
            async with aclosing(self._engine.complete(passing)) as steps:
                async for some in steps:
                    for step in some:
                        self._text += step.content
                        unsaid = [] if step.content or not step.generated else [*unsaid, *step.tokens]
                        generated = step.generated
                        self._note(step)
                    yield sink(some)
                    if self._reading.one_call_is_enough and stop:
                        break
            if self._limited and unsaid:
                text = await self._engine.text(unsaid)
                self._text += text
                yield sink([Step(content=text)])
        except ContextLengthExceeded:
            if self._passes == 1:
                raise
            self._limited = True  # the answer itself has filled the context
        if self._thinking:
            self._spent.reasoning += generated
        else:
            self._spent.answer += generated

    def _note(self, step: Step) -> None:
        """Note how a pass ends; the first one counts the prompt, of which the last step says what was cached."""
        if step.stop:
            self._stopped_by, self._limited = step.stopping_word, step.stop_type == "limit"
        if self._passes == 1:
            unbilled = self._manner.unbilled_tokens
            self._spent.prompt = self._spent.prompt or max(step.prompt - unbilled, 0)
            self._spent.cached = min(max(step.cached - unbilled, 0), self._spent.prompt)

    def _left(self) -> int | None:
        """Return how many tokens may still be generated now, None without a limit."""
        sampling = self._request.sampling
        answer = None if sampling.max_tokens is None or self._thinking else sampling.max_tokens - self._spent.answer
        whole = sampling.max_completion_tokens
        return _least(answer, None if whole is None else whole - self._spent.completion)

    def _used_up(self) -> bool:
        whole = self._request.sampling.max_completion_tokens
        return self._limited and whole is not None and self._spent.completion >= whole

    # --- what steps become

    def _read(self, steps: Sequence[Step]) -> list[Event]:
        """Turn what was written into events, as the parser takes it apart."""
        events = self._reading.feed(_text(steps))
        self._has_thought = self._has_thought or any(event.reasoning for event in events)
        logprobs = self._logprobs(steps)
        return with_logprobs(events, logprobs) if logprobs else events

    def _said(self, steps: Sequence[Step]) -> list[Event]:
        text, logprobs = _text(steps), self._logprobs(steps)
        return [Event(text=text, logprobs=logprobs or None)] if text or logprobs else []

    def _logprobs(self, steps: Sequence[Step]) -> tuple[TokenLogprob, ...]:
        """Return the likelihoods of what was written; the end, and what is held back, come without a text."""
        wanted = self._request.top_logprobs
        return tuple(
            msgspec.structs.replace(token, top_logprobs=token.top_logprobs[:wanted])
            for step in steps
            for token in step.logprobs
            if token.token
        )

    def _finish_reason(self) -> str:
        if self._limited:
            return "length"
        return "tool_calls" if self._reading.calls else "stop"

    def _usage(self) -> Usage:
        spent = self._spent
        reasoning = spent.reasoning if self._has_thought else 0
        return Usage(spent.prompt, spent.completion, spent.cached, reasoning)

    async def _prompt(self, messages: Sequence[Message]) -> str:
        """Return the prompt of a conversation, with the prefix that the answer is to begin with."""
        request = self._request
        prefix = ""
        if request.partial:
            messages, prefix = messages[:-1], messages[-1].text
        thinks = request.thinking.on and self._manner.weights.thinking == "template"
        return await self._engine.prompt(messages, self._tools, thinks=thinks) + prefix


def _parameters(tool: Tool) -> Schema:
    """Return the schema of a tool's arguments: one that names none takes none."""
    schema = {"type": "object", **tool.parameters}
    named = {"properties", "patternProperties", "additionalProperties", "anyOf", "oneOf", "allOf", "$ref"}
    return schema if named & schema.keys() else {**schema, "properties": {}, "additionalProperties": False}


def _call_or_answer(tools: Sequence[Tool], answer: Schema) -> Schema:
    """Return the schema of an answer in whose place a call may come."""
    calls = [
        {
            "type": "object",
            "properties": {
                "name": {"const": tool.name},
                "arguments": schemas.moved(_parameters(tool), f"#/anyOf/{number}/properties/arguments"),
            },
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for number, tool in enumerate(tools)
    ]
    return {"anyOf": [*calls, schemas.moved(answer, f"#/anyOf/{len(calls)}")]}


def _kept(written: list[str]) -> Sink:
    """Return a sink that keeps the text of a pass and shows nothing of it."""

    def keep(steps: Sequence[Step]) -> Burst:
        written.extend(step.content for step in steps)
        return []

    return keep


def _text(steps: Sequence[Step]) -> str:
    return steps[0].content if len(steps) == 1 else "".join(step.content for step in steps)


def _decoded(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return None


def _least(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)
