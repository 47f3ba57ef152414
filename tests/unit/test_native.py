"""Answers read from a server's chat stream: what is sent, and how thoughts and calls come out whoever parsed them."""

import json
from collections.abc import AsyncGenerator, Callable
from typing import Any

import msgspec
import pytest

from hanlin.engines.manner import Manner
from hanlin.engines.native import NativeAnswer, encode
from hanlin.engines.profiles import EngineProfile, profiles
from hanlin.errors import AnswerUnfit, InvalidRequest
from hanlin.types import (
    Burst,
    ChatRequest,
    ChatResult,
    Event,
    Message,
    Sampling,
    Shape,
    Thinking,
    TokenLogprob,
    Tool,
    ToolCall,
    ToolCallPiece,
    ToolChoice,
    Usage,
    fold,
)
from tests.values import request

OPENAI = profiles().engine["openai"]
VLLM = profiles().engine["vllm"]
STUDIO = profiles().engine["modelstudio"]

ADD = Tool("add", "", {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
TOKEN = TokenLogprob("好", -0.5)


def body(asked: ChatRequest, profile: EngineProfile = OPENAI) -> Any:
    return json.loads(encode(asked, Manner(profile)))


class Server:
    """A server that answers each call with the next of its lists of events."""

    def __init__(self, *answers: list[Event]) -> None:
        self._answers = list(answers)
        self.bodies: list[Any] = []
        self.closed = 0

    async def send(self, sent: bytes) -> AsyncGenerator[Burst, None]:
        self.bodies.append(json.loads(sent))
        try:
            for event in self._answers.pop(0):
                yield [event]
        finally:
            self.closed += 1


async def answered(server: Server, asked: ChatRequest, profile: EngineProfile = OPENAI) -> ChatResult:
    events: list[Event] = []
    async for burst in NativeAnswer(asked, Manner(profile), server.send).events():
        events += burst
    return fold(events)


def says(*events: Event, reason: str = "stop", usage: Usage | None = None) -> list[Event]:
    return [*events, Event(finish_reason=reason), Event(usage=usage or Usage(10, len(events)))]


def call(number: int, name: str, arguments: str, identity: str = "") -> list[Event]:
    """Return a call as servers stream it: the name first, the arguments in two pieces."""
    half = len(arguments) // 2
    return [
        Event(call=ToolCallPiece(number, identity, name)),
        Event(call=ToolCallPiece(number, arguments=arguments[:half])),
        Event(call=ToolCallPiece(number, arguments=arguments[half:])),
    ]


def calls(result: ChatResult) -> list[tuple[str, Any]]:
    return [(one.name, json.loads(one.arguments)) for one in result.choices[0].calls]


# --- what is sent ----------------------------------------------------------------------------------------------------


def test_tools_and_shapes_are_sent_as_openai_chat_spells_them() -> None:
    """And nothing about them where the caller said nothing."""
    sent = body(
        request(
            tools=(ADD, Tool("now")),
            tool_choice=ToolChoice("named", "add"),
            shape=Shape("json_schema", "n", {"type": "object"}),
        )
    )

    assert [tool["function"]["name"] for tool in sent["tools"]] == ["add", "now"]
    assert sent["tools"][1]["function"]["parameters"] == {"type": "object", "properties": {}}
    assert sent["tool_choice"] == {"type": "function", "function": {"name": "add"}}
    assert sent["parallel_tool_calls"] is False
    assert sent["response_format"]["json_schema"] == {"name": "n", "strict": True, "schema": {"type": "object"}}
    assert not {"tools", "tool_choice", "parallel_tool_calls", "response_format"} & body(request()).keys()


def test_tools_that_must_not_be_called_are_not_sent() -> None:
    """Spec §7: with `none` they are ignored for this turn; some servers call them all the same."""
    assert "tools" not in body(request(tools=(ADD,), tool_choice=ToolChoice("none")))


def test_a_history_of_calls_is_sent_with_arguments_that_templates_can_read() -> None:
    """Models write broken JSON, and clients send it back; a template that fails on it would end the conversation."""
    history = (
        Message("user", "x"),
        Message("assistant", "", (ToolCall("c1", "add", '{"a":1}'), ToolCall("c2", "add", "{oops")), reasoning="hm"),
        Message("tool", "1", tool_call_id="c1"),
    )

    sent = body(request(messages=history))["messages"]

    assert [one["function"]["arguments"] for one in sent[1]["tool_calls"]] == ['{"a":1}', '{"arguments":"{oops"}']
    assert "reasoning_content" not in sent[1]
    assert sent[2] == {"role": "tool", "content": "1", "tool_call_id": "c1"}


@pytest.mark.parametrize(
    ("profile", "thinking", "told"),
    [
        (OPENAI, Thinking(on=True), {}),
        (VLLM, Thinking(), {"chat_template_kwargs": {"enable_thinking": False, "thinking": False}}),
        (
            VLLM,
            Thinking(on=True, budget_tokens=9),
            {"chat_template_kwargs": {"enable_thinking": True, "thinking": True}},
        ),
        (STUDIO, Thinking(), {"enable_thinking": False}),
        (STUDIO, Thinking(on=True, budget_tokens=9), {"enable_thinking": True, "thinking_budget": 9}),
        (STUDIO, Thinking(on=True, effort="low"), {"enable_thinking": True, "reasoning_effort": "low"}),
        (STUDIO, Thinking(on=True, history=True), {"enable_thinking": True, "preserve_thinking": True}),
    ],
)
def test_each_server_is_told_to_think_in_its_own_words(
    profile: EngineProfile, thinking: Thinking, told: dict[str, Any]
) -> None:
    """A row of the profiles, no code."""
    words = {"chat_template_kwargs", "enable_thinking", "thinking_budget", "reasoning_effort", "preserve_thinking"}

    sent = body(request(thinking=thinking, given=frozenset({"enable_thinking"})), profile)

    assert {name: value for name, value in sent.items() if name in words} == told


def test_reasoning_of_earlier_turns_is_sent_where_it_is_to_be_read() -> None:
    """Spec §5.4."""
    history = (Message("user", "x"), Message("assistant", "y", reasoning="hm"), Message("user", "z"))

    kept = body(request(messages=history, thinking=Thinking(on=True, history=True)), STUDIO)

    assert kept["messages"][1]["reasoning_content"] == "hm"


@pytest.mark.parametrize(
    ("profile", "thinking", "limits"),
    [
        (STUDIO, Thinking(), {"max_tokens": 5, "max_completion_tokens": 9}),
        (OPENAI, Thinking(), {"max_tokens": 5}),
        (VLLM, Thinking(on=True), {"max_tokens": 9}),
    ],
)
def test_limits_travel_under_the_names_that_mean_the_same(
    profile: EngineProfile, thinking: Thinking, limits: dict[str, int]
) -> None:
    """A server's one limit covers thoughts: the answer's own is kept here then."""
    asked = request(thinking=thinking, sampling=Sampling(max_tokens=5, max_completion_tokens=9))

    sent = body(asked, profile)

    assert {name: sent[name] for name in ("max_tokens", "max_completion_tokens") if name in sent} == limits


@pytest.mark.parametrize(
    ("profile", "message", "fields"),
    [
        (STUDIO, {"partial": True}, {}),
        (VLLM, {}, {"add_generation_prompt": False, "continue_final_message": True}),
    ],
)
def test_a_prefix_is_continued_in_the_servers_way(
    profile: EngineProfile, message: dict[str, Any], fields: dict[str, Any]
) -> None:
    """Spec §6; a row of the profiles."""
    messages = (Message("user", "x"), Message("assistant", "def"))

    sent = body(request(messages=messages, partial=True), profile)

    assert sent["messages"][-1] == {"role": "assistant", "content": "def", **message}
    assert {name: sent[name] for name in fields} == fields


# --- what comes back -------------------------------------------------------------------------------------------------

PARSED = [Event(reasoning="想"), Event(text="好")]
UNPARSED = [Event(text="<thi"), Event(text="nk>\n想\n</think>"), Event(text="\n\n好")]


@pytest.mark.parametrize("events", [PARSED, UNPARSED])
async def test_thoughts_come_out_the_same_whoever_parsed_them(events: list[Event]) -> None:
    result = await answered(Server(says(*events)), request())

    [choice] = result.choices
    assert (choice.reasoning, choice.text, choice.finish_reason) == ("想", "好", "stop")


CALLED: list[Callable[[], list[Event]]] = [
    lambda: call(0, "add", '{"a": 3}', "call_x"),
    lambda: [Event(text='<tool_call>\n{"name": "add", "argum'), Event(text='ents": {"a": 3}}\n</tool_call>')],
    lambda: [Event(text="<tool_call>\n<function=add>\n<parameter=a>\n3\n</parameter>\n</function>\n</tool_call>")],
    lambda: [Event(text='```json\n{"name": "add", "arguments": {"a": "3"}}\n```')],
]


@pytest.mark.parametrize("events", CALLED)
@pytest.mark.parametrize("reason", ["tool_calls", "stop", "function_call"])
async def test_calls_come_out_the_same_whoever_parsed_them(events: Callable[[], list[Event]], reason: str) -> None:
    """With arguments that fit, and the contract's finish reason (spec §4.1)."""
    result = await answered(Server(says(*events(), reason=reason)), request(tools=(ADD,)))

    [choice] = result.choices
    assert (calls(result), choice.text, choice.finish_reason) == ([("add", {"a": 3})], "", "tool_calls")
    assert choice.calls[0].id.startswith("call_")


async def test_a_second_call_is_dropped_unless_more_than_one_are_allowed() -> None:
    """Spec §3: one call at most by default, also from servers that do not know the switch."""
    events = [*call(0, "add", '{"a":1}'), *call(1, "add", '{"a":2}')]

    alone = await answered(Server(says(*events)), request(tools=(ADD,)))
    both = await answered(Server(says(*events)), request(tools=(ADD,), parallel_tool_calls=True))

    assert (calls(alone), calls(both)) == ([("add", {"a": 1})], [("add", {"a": 1}), ("add", {"a": 2})])


async def test_a_call_that_does_not_fit_is_asked_for_again_by_name() -> None:
    """Mended where that is possible, and never passed on broken."""
    server = Server(says(*call(0, "add", '{"b": 1}')), says(*call(0, "add", '{"a": 4}')))

    result = await answered(server, request(tools=(ADD, Tool("now"))))

    assert calls(result) == [("add", {"a": 4})]
    again = server.bodies[1]
    assert again["tool_choice"] == {"type": "function", "function": {"name": "add"}}
    assert [tool["function"]["name"] for tool in again["tools"]] == ["add"]
    assert result.usage == Usage(10, 6)


async def test_a_call_that_never_fits_is_refused() -> None:
    server = Server(*[says(*call(0, "add", '{"b": 1}'))] * 2)

    with pytest.raises(AnswerUnfit, match="the model's call of add has no arguments that fit"):
        await answered(server, request(tools=(ADD,)))


async def test_a_call_that_a_limit_cuts_is_said_to_be_cut() -> None:
    result = await answered(Server(says(*call(0, "add", '{"a": '), reason="length")), request(tools=(ADD,)))

    [choice] = result.choices
    assert (choice.calls[0].arguments, choice.finish_reason) == ('{"a": ', "length")


async def test_a_reason_that_promises_calls_without_any_is_none() -> None:
    """A client that waits for calls would wait for ever."""
    result = await answered(Server(says(Event(text="x"), reason="tool_calls")), request(tools=(ADD,)))

    assert result.choices[0].finish_reason == "stop"


async def test_markup_is_text_where_nobody_spoke_of_tools() -> None:
    """Somebody asks how calls are written."""
    text = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'

    result = await answered(Server(says(Event(text=text))), request())

    assert result.choices[0].text == text


async def test_a_budget_that_the_server_does_not_keep_is_kept_here() -> None:
    """The thoughts are cut off, and the server goes on behind them with the answer."""
    thoughts = [Event(reasoning=f"想{number}") for number in range(9)]
    server = Server(says(*thoughts), says(Event(text="好"), usage=Usage(20, 1)))

    result = await answered(server, request(thinking=Thinking(on=True, budget_tokens=3)), VLLM)

    assert server.closed == 2
    assert server.bodies[1]["messages"][-1] == {"role": "assistant", "content": "<think>\n想0想1想2\n</think>\n\n"}
    assert server.bodies[1]["continue_final_message"] is True
    [choice] = result.choices
    assert (choice.reasoning, choice.text) == ("想0想1想2", "好")
    assert result.usage == Usage(prompt=17, completion=4, reasoning=3, estimated=True)


async def test_a_budget_that_the_server_keeps_is_left_to_it() -> None:
    thoughts = [Event(reasoning="想")] * 9

    result = await answered(
        Server(says(*thoughts, Event(text="好"))), request(thinking=Thinking(on=True, budget_tokens=3)), STUDIO
    )

    assert result.choices[0].reasoning == "想" * 9


async def test_an_answer_behind_thoughts_is_cut_at_its_own_limit() -> None:
    """The server's limit covers both, so it was not sent; thoughts must not use the answer's up."""
    events = [*[Event(reasoning="想")] * 5, *[Event(text="好")] * 9]
    asked = request(thinking=Thinking(on=True), sampling=Sampling(max_tokens=4))

    result = await answered(Server(says(*events)), asked, VLLM)

    [choice] = result.choices
    assert (choice.reasoning, choice.text, choice.finish_reason) == ("想" * 5, "好" * 4, "length")


async def test_likelihoods_stay_beside_their_text() -> None:
    events = [Event(text="好", logprobs=(TOKEN,)), Event(text="<thin", logprobs=(TOKEN,))]

    result = await answered(Server(says(*events)), request(logprobs=True))

    assert (result.choices[0].text, result.choices[0].logprobs) == ("好<thin", (TOKEN, TOKEN))


async def test_usage_that_is_told_again_and_again_counts_once() -> None:
    """SiliconFlow tells it with every piece: the sum of them would be billed many times over."""
    events = [Event(text="a"), Event(usage=Usage(10, 1)), Event(text="b"), Event(usage=Usage(10, 2))]

    result = await answered(Server([*events, Event(finish_reason="stop"), Event(usage=Usage(10, 2))]), request())

    assert result.usage == Usage(10, 2)


async def test_pieces_that_hold_the_whole_text_so_far_are_passed_on_once() -> None:
    """Spec §11.1: qwen-mt-plus repeats itself with every piece, and once more at the end."""
    profile = msgspec.structs.replace(OPENAI, cumulative=("qwen-mt-*",))
    events = [
        Event(text="今天"),
        Event(text="今天天气"),
        Event(text="今天天气"),
        Event(text="今天天气", finish_reason="stop"),
    ]

    result = await answered(Server([*events, Event(usage=Usage(3, 4))]), request(model="qwen-mt-plus"), profile)
    others = await answered(Server(says(Event(text="ha"), Event(text="haha"))), request(), profile)

    assert result.choices[0].text == "今天天气"
    assert others.choices[0].text == "hahaha"


async def test_a_mending_call_that_is_refused_is_not_the_callers_fault() -> None:
    """Models that always think refuse to be told which tool to call; the caller's own request was fine."""
    server = Server(says(*call(0, "add", '{"b": 1}')))

    async def send(sent: bytes) -> AsyncGenerator[Burst, None]:
        if server.bodies:
            raise InvalidRequest("tool_choice is not supported in thinking mode")
        async for burst in server.send(sent):
            yield burst

    with pytest.raises(AnswerUnfit, match="no arguments that fit, and tool_choice is not supported"):
        async for _ in NativeAnswer(request(tools=(ADD,)), Manner(OPENAI), send).events():
            pass


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("sensitive", "content_filter"),
        ("content_filter", "content_filter"),
        ("model_context_window_exceeded", "length"),
        ("eos", "stop"),
    ],
)
async def test_reasons_are_told_in_the_contracts_words(theirs: str, ours: str) -> None:
    """Clients branch on the few words that they know."""
    result = await answered(Server(says(Event(text="x"), reason=theirs)), request())

    assert result.choices[0].finish_reason == ours
