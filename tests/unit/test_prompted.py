"""Answers whose prompt is written here: which passes are run, what is put between them, and what comes out."""

import json
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

import pytest

from hanlin.engines.completions import Pass, Step
from hanlin.engines.manner import Manner
from hanlin.engines.profiles import WeightsProfile, profiles
from hanlin.engines.prompted import PromptedAnswer
from hanlin.errors import AnswerUnfit, ContextLengthExceeded
from hanlin.types import (
    ChatRequest,
    ChatResult,
    Event,
    Message,
    Sampling,
    Shape,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    Usage,
    fold,
)
from tests.values import request

LLAMA = profiles().engine["llama"]
LEARNED = Manner(LLAMA, weights=WeightsProfile(thinking="template"))
PROMPTED = Manner(LLAMA, weights=WeightsProfile(thinking="prompted"))

WEATHER = Tool("get_weather", "", {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]})
TIME = Tool("get_time", "", {"type": "object", "properties": {}})

Script = Callable[[Pass], tuple[str, str]]
"""Says what a pass writes, and the stop text at which it ends ("" for the model's own end, "limit" for a limit)."""


class Completer:
    """An engine that writes what the test says, a character a step, and keeps what it was asked."""

    def __init__(self, *passes: tuple[str, str] | Exception) -> None:
        self._script = list(passes)
        self.passes: list[Pass] = []
        self.prompts: list[tuple[Sequence[Message], Sequence[Tool], bool]] = []

    async def complete(self, passing: Pass) -> AsyncGenerator[Sequence[Step], None]:
        self.passes.append(passing)
        said = self._script.pop(0)
        if isinstance(said, Exception):
            raise said
        text, end = said
        prompt = len(passing.prompt)
        for position, character in enumerate(text, 1):
            yield [Step(character, [ord(character)], generated=position, prompt=prompt)]
        kind = {"limit": "limit", "": "eos"}.get(end, "word")
        word = end if kind == "word" else ""
        yield [Step(stop=True, stop_type=kind, stopping_word=word, generated=len(text), prompt=prompt, cached=3)]

    async def prompt(self, messages: Sequence[Message], tools: Sequence[Tool], *, thinks: bool) -> str:
        self.prompts.append((messages, tools, thinks))
        return "".join(f"[{message.role}]{message.text}" for message in messages) + "[assistant]"

    async def tokens(self, text: str) -> int:
        return len(text)

    async def text(self, tokens: Sequence[int]) -> str:
        return "".join(map(chr, tokens))


async def answered(
    engine: Completer, asked: ChatRequest, manner: Manner = LEARNED, stop: Sequence[str] = ()
) -> ChatResult:
    events: list[Event] = []
    async for burst in PromptedAnswer(asked, manner, engine, stop).events():
        events += burst
    return fold(events)


def with_tools(*tools: Tool, **fields: Any) -> ChatRequest:
    return request(tools=tools or (WEATHER, TIME), **fields)


def calls(result: ChatResult) -> list[tuple[str, Any]]:
    return [(call.name, json.loads(call.arguments)) for call in result.choices[0].calls]


# --- thoughts --------------------------------------------------------------------------------------------------------


async def test_thoughts_are_a_pass_of_their_own_and_the_answer_follows_them() -> None:
    """The first ends at the closing mark, so the second begins where the model would have gone on."""
    engine = Completer(("想一想\n", "</think>"), ("好", ""))

    result = await answered(engine, request("问", thinking=Thinking(on=True)))

    first, second = engine.passes
    assert first.prompt == "[user]问[assistant]<think>\n"
    assert first.stop == ("</think>",)
    assert second.prompt == "[user]问[assistant]<think>\n想一想\n</think>\n\n"
    assert engine.prompts[0][2]
    [choice] = result.choices
    assert (choice.reasoning, choice.text, choice.finish_reason) == ("想一想", "好", "stop")
    assert result.usage == Usage(prompt=len(first.prompt), completion=5, cached=3, reasoning=4)


async def test_every_pass_is_sent_what_the_profile_fixes_and_the_sampling() -> None:
    """Signs of life while a prompt is read are how a hang-up is noticed there; sampling is the caller's."""
    engine = Completer(("想", "</think>"), ("好", ""))

    await answered(engine, request(thinking=Thinking(on=True), sampling=Sampling(top_k=7, seed=3)))

    for passing in engine.passes:
        body = json.loads(passing.body())
        assert (body["return_progress"], body["min_p"], body["top_k"], body["seed"]) == (True, 0.0, 7, 3)


async def test_a_budget_ends_the_thoughts_and_not_the_answer() -> None:
    """Spec §3: reasoning is cut at the limit and the answer follows; `max_tokens` caps the answer alone."""
    engine = Completer(("想想", "limit"), ("好的", "limit"))
    asked = request("问", thinking=Thinking(on=True, budget_tokens=2), sampling=Sampling(max_tokens=2))

    result = await answered(engine, asked)

    assert [one.limit for one in engine.passes] == [2, 2]
    assert engine.passes[1].prompt.endswith("<think>\n想想\n</think>\n\n")
    [choice] = result.choices
    assert (choice.reasoning, choice.text, choice.finish_reason) == ("想想", "好的", "length")


async def test_a_limit_of_both_that_the_thoughts_use_up_leaves_no_answer() -> None:
    """Spec §3: `max_completion_tokens` caps reasoning and answer; the finish reason says why there is none."""
    engine = Completer(("想想想", "limit"))
    asked = request(thinking=Thinking(on=True), sampling=Sampling(max_tokens=9, max_completion_tokens=3))

    result = await answered(engine, asked)

    [choice] = result.choices
    assert (choice.reasoning, choice.text, choice.finish_reason) == ("想想想", "", "length")


async def test_a_limit_of_both_leaves_the_answer_what_the_thoughts_did_not_use() -> None:
    engine = Completer(("想", "</think>"), ("好", ""))

    await answered(engine, request(thinking=Thinking(on=True), sampling=Sampling(max_completion_tokens=5)))

    assert [one.limit for one in engine.passes] == [5, 4]


async def test_a_template_that_opens_the_thoughts_itself_is_not_opened_twice() -> None:
    """Weights that always think have the mark in their prompt."""

    class Opened(Completer):
        async def prompt(self, messages: Sequence[Message], tools: Sequence[Tool], *, thinks: bool) -> str:
            return "[assistant]<think>\n"

    engine = Opened(("想", "</think>"), ("好", ""))

    await answered(engine, request(thinking=Thinking(on=True)))

    assert engine.passes[0].prompt == "[assistant]<think>\n"


async def test_weights_that_never_learned_to_think_are_asked_for_their_thoughts_first() -> None:
    """And given them again with the question; the bill has the caller's own prompt, not what we added."""
    engine = Completer(("先算", ""), ("三", ""))

    result = await answered(engine, request("几个？", thinking=Thinking(on=True)), PROMPTED)

    lines = profiles().prompted.zh
    assert engine.passes[0].prompt == f"[user]几个？\n\n{lines.think}[assistant]"
    assert engine.passes[0].limit == profiles().prompted.tokens
    assert engine.passes[1].prompt == f"[user]几个？\n{lines.answer.replace('{thoughts}', '先算')}[assistant]"
    [choice] = result.choices
    assert (choice.reasoning, choice.text) == ("先算", "三")
    assert result.usage == Usage(prompt=len("[user]几个？[assistant]"), completion=3, cached=3, reasoning=2)


async def test_their_budget_can_only_be_lowered() -> None:
    """A base model that is asked for thousands of tokens of thoughts repeats itself."""
    engine = Completer(("a", "limit"), ("b", ""))

    await answered(engine, request(thinking=Thinking(on=True, budget_tokens=7)), PROMPTED)

    assert engine.passes[0].limit == 7


# --- prefixes --------------------------------------------------------------------------------------------------------


async def test_a_prefix_is_continued_where_it_ends_and_not_repeated() -> None:
    """Spec §6."""
    engine = Completer(("b", ""))
    messages = (Message("user", "问"), Message("assistant", "def a(): "))

    result = await answered(engine, request(messages=messages, partial=True))

    assert engine.passes[0].prompt == "[user]问[assistant]def a(): "
    assert result.choices[0].text == "b"


# --- calls -----------------------------------------------------------------------------------------------------------


async def test_the_arguments_of_a_call_are_held_to_the_tools_schema() -> None:
    """The model chooses freely; where its arguments begin, the grammar takes over."""
    engine = Completer(('<tool_call>\n{"name": "get_weather", ', '"arguments":'), ('{"city": "杭州"}', ""))

    result = await answered(engine, with_tools())

    free, held = engine.passes
    assert {'"arguments":', '"parameters":'} <= set(free.stop)
    assert held.prompt == free.prompt + '<tool_call>\n{"name": "get_weather", "arguments": '
    assert held.schema is not None
    assert held.schema["properties"].keys() == {"city"}
    [choice] = result.choices
    assert (calls(result), choice.text, choice.finish_reason) == ([("get_weather", {"city": "杭州"})], "", "tool_calls")
    assert choice.calls[0].id.startswith("call_")


async def test_one_call_is_made_unless_more_are_allowed() -> None:
    """Spec §3: `parallel_tool_calls` is false here by default."""
    first = ('```json\n{"name": "get_time", ', '"arguments":'), ("{}", "")
    second = ('\n```\n```json\n{"name": "get_weather", ', '"arguments":'), ('{"city": "b"}', ""), ("\n```", "")

    alone = await answered(Completer(*first), with_tools())
    both = await answered(Completer(*first, *second), with_tools(parallel_tool_calls=True))

    assert calls(alone) == [("get_time", {})]
    assert calls(both) == [("get_time", {}), ("get_weather", {"city": "b"})]
    assert both.choices[0].text == ""


async def test_words_that_look_like_arguments_in_a_text_are_text() -> None:
    """A program that explains JSON must not be cut."""
    engine = Completer(("键是 ", '"arguments":'), (" 值", ""))

    result = await answered(engine, with_tools())

    assert engine.passes[1].prompt == engine.passes[0].prompt + '键是 "arguments":'
    assert (result.choices[0].text, result.choices[0].finish_reason) == ('键是 "arguments": 值', "stop")


async def test_a_named_tool_is_called_whatever_the_model_would_have_done() -> None:
    """Spec §7: the model only fills the arguments."""
    engine = Completer(('{"city": "a"}', ""))

    result = await answered(engine, with_tools(tool_choice=ToolChoice("named", "get_weather")))

    [held] = engine.passes
    assert held.prompt.endswith('<tool_call>\n{"name": "get_weather", "arguments": ')
    assert calls(result) == [("get_weather", {"city": "a"})]


async def test_where_a_call_is_required_the_model_chooses_the_tool() -> None:
    engine = Completer(('"get_time"', ""), ("{}", ""))

    result = await answered(engine, with_tools(tool_choice=ToolChoice("required")))

    assert engine.passes[0].schema == {"enum": ["get_weather", "get_time"]}
    assert calls(result) == [("get_time", {})]


@pytest.mark.parametrize(
    ("written", "again"),
    [
        ("<tool_call>\nnonsense\n</tool_call>", [('"get_weather"', "")]),
        ('<tool_call>\n{"name": "unknown", "arguments": {}}\n</tool_call>', [('"get_weather"', "")]),
        ("<tool_call>\n<function=get_weather>\n<parameter=town>\nx\n</parameter>\n</function>\n</tool_call>", []),
    ],
)
async def test_a_call_that_cannot_be_passed_on_is_made_again(written: str, again: list[tuple[str, str]]) -> None:
    """Never passed on broken, never shown as text: asked again, held to the tools that there are."""
    engine = Completer((written, ""), *again, ('{"city": "a"}', ""))

    result = await answered(engine, with_tools())

    assert calls(result) == [("get_weather", {"city": "a"})]
    assert result.choices[0].text == ""


async def test_a_form_without_types_gets_them_from_the_schema() -> None:
    """Qwen3-Coder writes arguments as texts between tags."""
    adder = Tool("add", "", {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
    text = "<tool_call>\n<function=add>\n<parameter=a>\n3\n</parameter>\n</function>\n</tool_call>"

    result = await answered(Completer((text, "")), with_tools(adder))

    assert calls(result) == [("add", {"a": 3})]


async def test_a_call_that_a_limit_cuts_is_said_to_be_cut() -> None:
    """Spec §4.1: `length`; the arguments are what there was until then."""
    engine = Completer(('<tool_call>\n{"name": "get_weather", ', '"arguments":'), ('{"city": "杭', "limit"))

    result = await answered(engine, with_tools(sampling=Sampling(max_tokens=40)))

    [choice] = result.choices
    assert (choice.calls[0].arguments, choice.finish_reason) == ('{"city": "杭', "length")


async def test_tools_that_must_not_be_called_are_not_told_of() -> None:
    """Spec §7, `none`: and a call that the model copies from the history is neither made nor shown."""
    history = (
        Message("user", "问"),
        Message("assistant", "", (ToolCall("c", "get_time", "{}"),)),
        Message("tool", "12:00", tool_call_id="c"),
    )
    engine = Completer(('好\n<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>', ""))

    result = await answered(engine, with_tools(messages=history, tool_choice=ToolChoice("none")))

    assert engine.prompts[0][1] == ()
    [choice] = result.choices
    assert (choice.text, choice.calls, choice.finish_reason) == ("好", (), "stop")


async def test_thoughts_come_before_calls() -> None:
    engine = Completer(("想", "</think>"), ('<tool_call>\n{"name": "get_time", ', '"arguments":'), ("{}", ""))

    result = await answered(engine, with_tools(thinking=Thinking(on=True)))

    assert (result.choices[0].reasoning, calls(result)) == ("想", [("get_time", {})])


async def test_weights_that_repeat_an_answered_call_are_told_its_result_with_the_question() -> None:
    """An agent on a small stand-in would go round for ever otherwise."""
    small = Manner(LLAMA, weights=WeightsProfile(repeats_calls=True))
    history = (
        Message("user", "天气？"),
        Message("assistant", "", (ToolCall("c", "get_weather", '{"city":"杭州"}'),)),
        Message("tool", "晴", tool_call_id="c"),
    )
    opening = ('{"name": "get_weather", ', '"arguments":')

    again = Completer(opening, ('{"city": "杭州"}', ""), ("晴天。", ""))
    other = Completer(opening, ('{"city": "北京"}', ""))

    told = await answered(again, with_tools(messages=history), small)
    called = await answered(other, with_tools(messages=history), small)

    note = profiles().prompted.zh.results.replace("{results}", 'get_weather({"city":"杭州"}): 晴')
    assert again.passes[2].prompt == f"[user]天气？\n{note}[assistant]"
    assert again.prompts[-1][1] == ()
    [choice] = told.choices
    assert (choice.text, choice.calls, choice.finish_reason) == ("晴天。", (), "stop")
    assert calls(called) == [("get_weather", {"city": "北京"})]


async def test_a_tool_without_parameters_is_called_with_none() -> None:
    """An open object would be filled with inventions."""
    engine = Completer(("{}", ""))

    await answered(engine, with_tools(Tool("now"), tool_choice=ToolChoice("named", "now")))

    schema = engine.passes[0].schema
    assert schema is not None
    assert (schema["properties"], schema["additionalProperties"]) == ({}, False)


# --- shapes ----------------------------------------------------------------------------------------------------------

SHAPE = Shape("json_schema", "n", {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
HARD = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(?=x)x"}}, "required": ["a"]}


async def test_an_answer_is_held_to_its_schema_after_the_thoughts() -> None:
    """The grammar holds for the answer alone: thoughts are no JSON."""
    engine = Completer(("想", "</think>"), ('{"a": 1}', ""))

    result = await answered(engine, request(thinking=Thinking(on=True), shape=SHAPE))

    assert engine.passes[0].schema is None
    assert engine.passes[1].schema is not None
    assert (result.choices[0].reasoning, result.choices[0].text) == ("想", '{"a": 1}')


async def test_what_a_grammar_cannot_hold_to_is_tried_again() -> None:
    """With another seed; what fits is handed on, and only that."""
    engine = Completer(('{"a": "y"}', ""), ('{"a": "x"}', ""))

    result = await answered(engine, request(shape=Shape("json_schema", "", HARD), sampling=Sampling(seed=5)))

    assert [one.sampled["seed"] for one in engine.passes] == [5, 6]
    assert result.choices[0].text == '{"a": "x"}'


async def test_an_answer_that_never_fits_is_refused() -> None:
    """Broken structure is worse than an error: the caller can try again."""
    engine = Completer(*[('{"a": "y"}', "")] * 3)

    with pytest.raises(AnswerUnfit):
        await answered(engine, request(shape=Shape("json_schema", "", HARD)))


@pytest.mark.parametrize(
    ("written", "text", "called"),
    [
        ('{"a": 1}', '{"a": 1}', []),
        ('{"name": "get_time", "arguments": {}}', "", [("get_time", {})]),
    ],
)
async def test_a_call_may_come_in_place_of_a_shaped_answer(written: str, text: str, called: list[Any]) -> None:
    """Agents ask for both: they call tools until they have the answer."""
    result = await answered(Completer((written, "")), with_tools(shape=SHAPE))

    assert (result.choices[0].text, calls(result)) == (text, called)


# --- ends ------------------------------------------------------------------------------------------------------------


async def test_the_callers_stop_texts_end_the_answer_and_not_the_thoughts() -> None:
    engine = Completer(("想。", "</think>"), ("好", "。"))

    result = await answered(engine, request(thinking=Thinking(on=True), sampling=Sampling(stop=("。",))), stop=("！",))

    assert [one.stop for one in engine.passes] == [("</think>",), ("。", "！")]
    assert result.choices[0].finish_reason == "stop"


async def test_what_the_engine_holds_back_at_a_limit_is_said() -> None:
    """It waits whether a stop text comes; when a limit ends the pass, the words would be lost."""

    class Holding(Completer):
        async def complete(self, passing: Pass) -> AsyncGenerator[Sequence[Step], None]:
            yield [Step("他说 ", [1], generated=1, prompt=9)]
            yield [Step("", [ord('"')], generated=2, prompt=9)]
            yield [Step(stop=True, stop_type="limit", generated=2, prompt=9)]

    result = await answered(Holding(), with_tools())

    assert (result.choices[0].text, result.choices[0].finish_reason) == ('他说 "', "length")


async def test_an_answer_that_fills_the_context_ends_with_length() -> None:
    """There is no room for the next pass. A prompt that never fitted is refused to the caller."""
    full = ContextLengthExceeded("qwen-plus", 9, 8)

    cut = await answered(Completer(("想", "</think>"), full), request(thinking=Thinking(on=True)))

    assert cut.choices[0].finish_reason == "length"
    with pytest.raises(ContextLengthExceeded):
        await answered(
            Completer(full), request(partial=True, messages=(Message("user", "x"), Message("assistant", "y")))
        )
