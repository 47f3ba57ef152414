"""Tools as the official Python SDK uses them: the whole loop, fragments of calls, and what is refused."""

import json
import re
from collections.abc import Mapping
from typing import Any

import openai
import pytest
from openai import OpenAI
from openai.types.chat import ChatCompletion, ChatCompletionMessage

from hanlin.testing import FakeEngine, Rule, ToolCall
from tests.service import ask, ask_streamed

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "查询一个城市现在的天气",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CLOCK: Any = {"type": "function", "function": {"name": "get_time", "description": "报时"}}
HANGZHOU = ToolCall("get_weather", {"city": "杭州"})
BEIJING = ToolCall("get_weather", {"city": "北京"})
NAMED: Any = {"type": "function", "function": {"name": "get_weather"}}
ID = re.compile(r"call_[0-9a-f]{22}")


@pytest.fixture(params=["prompted", "modelstudio", "openai"])
def manner(request: pytest.FixtureRequest) -> str:
    """Plain OpenAI servers have tools and schemas as well."""
    manner: str = request.param
    return manner


def calls_of(message: ChatCompletionMessage) -> list[tuple[str, Any]]:
    return [
        (call.function.name, json.loads(call.function.arguments))
        for call in message.tool_calls or ()
        if call.type == "function"
    ]


def run_agent(client: OpenAI, question: str, answers: Mapping[str, str]) -> ChatCompletion:
    """Do what every tutorial does: ask, call, send the messages back as they came, until there is an answer."""
    messages: list[Any] = [{"role": "user", "content": question}]
    for _ in range(5):
        completion = ask(client, messages=messages, tools=[WEATHER, CLOCK])
        message = completion.choices[0].message
        if not message.tool_calls:
            return completion
        messages.append(message)
        messages += [
            {"role": "tool", "tool_call_id": call.id, "content": answers[call.function.name]}
            for call in message.tool_calls
            if call.type == "function"
        ]
    raise AssertionError("no answer after five rounds")


def test_a_call_has_the_wire_form_that_programs_rely_on(client: OpenAI, engine: FakeEngine) -> None:
    """Empty content, an id of its own, arguments as JSON text (spec/chat.md §4.1)."""
    engine.rules([Rule(tool_calls=(HANGZHOU,))])

    choice = ask(client, "杭州天气？", tools=[WEATHER]).choices[0]

    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == ""
    calls: Any = choice.message.tool_calls
    [call] = calls
    assert call.type == "function"
    assert ID.fullmatch(call.id)
    assert (call.function.name, call.function.arguments) == ("get_weather", '{"city":"杭州"}')
    assert call.index == 0


def test_an_agent_goes_round_until_it_has_its_answer(client: OpenAI, engine: FakeEngine) -> None:
    """The SDK's own message objects go back in: nulls, empty content and all."""
    engine.rules([Rule(smart=True)])

    completion = run_agent(client, "杭州天气怎么样？", {"get_weather": "晴，25 度", "get_time": "9 点"})

    assert completion.choices[0].finish_reason == "stop"
    assert "晴，25 度" in (completion.choices[0].message.content or "")


def test_several_calls_go_round_as_well(client: OpenAI, engine: FakeEngine) -> None:
    """One answer a call, each with its id."""
    engine.rules([Rule(when={"messages.1": "*"}, text="都是晴天。"), Rule(smart=True)])
    messages: list[Any] = [{"role": "user", "content": "杭州和北京的天气"}]

    message = ask(client, messages=messages, tools=[WEATHER], parallel_tool_calls=True).choices[0].message
    messages += [
        message,
        *({"role": "tool", "tool_call_id": call.id, "content": "晴"} for call in message.tool_calls or ()),
    ]
    last = ask(client, messages=messages, tools=[WEATHER])

    assert calls_of(message) == [("get_weather", {"city": "杭州"}), ("get_weather", {"city": "北京"})]
    assert len({call.id for call in message.tool_calls or ()}) == 2
    assert last.choices[0].message.content


@pytest.mark.parametrize(("parallel", "count"), [(True, 2), (False, 1), (None, 1)])
def test_one_call_a_turn_unless_several_are_asked_for(
    client: OpenAI, engine: FakeEngine, parallel: bool | None, count: int
) -> None:
    """The vendor's default is one (§7), OpenAI's is several: programs are written for the vendor's."""
    engine.rules([Rule(tool_calls=(HANGZHOU, BEIJING), parallel_anyway=True)])
    options: dict[str, Any] = {} if parallel is None else {"parallel_tool_calls": parallel}

    whole = ask(client, "两地天气？", tools=[WEATHER], **options).choices[0].message
    with client.chat.completions.stream(
        model="qwen-plus", messages=[{"role": "user", "content": "两地天气？"}], tools=[WEATHER], **options
    ) as stream:
        streamed = stream.get_final_completion().choices[0].message

    assert (
        calls_of(whole)
        == calls_of(streamed)
        == [("get_weather", {"city": "杭州"}), ("get_weather", {"city": "北京"})][:count]
    )


def test_fragments_join_to_the_call_of_an_unstreamed_answer(client: OpenAI, engine: FakeEngine) -> None:
    """Names once, ids never overwritten by their empty followers, arguments joined by index (§4.4)."""
    engine.rules([Rule(tool_calls=(HANGZHOU, BEIJING))])

    chunks = list(ask_streamed(client, "两地天气？", tools=[WEATHER], parallel_tool_calls=True))

    joined: dict[int, dict[str, str]] = {}
    for chunk in chunks:
        for piece in chunk.choices[0].delta.tool_calls or ():
            call = joined.setdefault(piece.index, {"id": "", "name": "", "arguments": ""})
            assert piece.function is not None
            call["id"] = piece.id or call["id"]
            call["name"] += piece.function.name or ""
            call["arguments"] += piece.function.arguments or ""
    assert [(call["name"], json.loads(call["arguments"])) for call in joined.values()] == [
        ("get_weather", {"city": "杭州"}),
        ("get_weather", {"city": "北京"}),
    ]
    assert all(ID.fullmatch(call["id"]) for call in joined.values())
    assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == "tool_calls"


def test_the_stream_helper_tells_of_calls_as_they_grow(client: OpenAI, engine: FakeEngine) -> None:
    """Its events carry the arguments so far; its final message is the unstreamed one."""
    engine.rules([Rule(text="我查一下。", tool_calls=(HANGZHOU,))])
    question: Any = {"role": "user", "content": "杭州天气？"}

    with client.chat.completions.stream(model="qwen-plus", messages=[question], tools=[WEATHER]) as stream:
        events = list(stream)
        final = stream.get_final_completion()

    told = [event for event in events if event.type == "tool_calls.function.arguments.delta"]
    [done] = [event for event in events if event.type == "tool_calls.function.arguments.done"]
    assert "".join(event.arguments_delta for event in told) == done.arguments == '{"city":"杭州"}'
    message = final.choices[0].message
    assert (message.role, calls_of(message)) == ("assistant", [("get_weather", {"city": "杭州"})])
    assert final.choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize("stream", [False, True])
def test_a_named_tool_is_called_whatever_the_model_wants(client: OpenAI, engine: FakeEngine, stream: bool) -> None:
    """The model only fills the arguments (§7)."""
    engine.rules([Rule(smart=True)])
    options: dict[str, Any] = {"tools": [CLOCK, WEATHER], "tool_choice": NAMED}

    if stream:
        question: Any = {"role": "user", "content": "你好，杭州"}
        with client.chat.completions.stream(model="qwen-plus", messages=[question], **options) as streaming:
            choice = streaming.get_final_completion().choices[0]
            message: ChatCompletionMessage = choice.message
    else:
        choice = ask(client, "你好，杭州", **options).choices[0]  # type: ignore[assignment]
        message = choice.message

    [(name, arguments)] = calls_of(message)
    assert name == "get_weather"
    assert isinstance(arguments["city"], str)


def test_tools_can_be_kept_from_a_turn(client: OpenAI, engine: FakeEngine) -> None:
    """`none` answers in words, even about what a tool is for."""
    engine.rules([Rule(smart=True)])

    message = ask(client, "杭州天气怎么样？", tools=[WEATHER], tool_choice="none").choices[0].message

    assert not message.tool_calls
    assert message.content


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "any tool": ({"tool_choice": "required"}, "tool_choice", 'one of the strings that should be ["none", "auto"]'),
    "a name while thinking": (
        {"tool_choice": NAMED, "extra_body": {"enable_thinking": True}},
        "tool_choice",
        "does not support being set to required or object in thinking mode",
    ),
    "several choices": ({"n": 2}, "n", "Range of n"),
    "a model without tools": ({"model": "qwen-math-plus"}, "tools", "The tool call is not supported."),
    "a result without a call": (
        {"messages": [{"role": "user", "content": "你好"}, {"role": "tool", "tool_call_id": "x", "content": "1"}]},
        "messages",
        'messages with role "tool" must be a response to a preceeding message with "tool_calls"',
    ),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("stream", [False, True])
def test_what_the_vendor_refuses_is_a_bad_request(client: OpenAI, engine: FakeEngine, case: str, stream: bool) -> None:
    """In the vendor's words, before anything is generated, streamed or not."""
    options, param, words = REFUSED[case]

    with pytest.raises(openai.BadRequestError) as caught:
        (ask_streamed if stream else ask)(client, **{"tools": [WEATHER], **options})

    assert caught.value.param in (param, f"{param}.1.role")
    assert words in caught.value.message
    assert engine.requests() == []


@pytest.mark.parametrize("manner", ["modelstudio"], indirect=True)
def test_arguments_that_do_not_fit_never_reach_a_program(client: OpenAI, engine: FakeEngine) -> None:
    """A tool with the wrong arguments would be run all the same: the call fails instead.

    Of a server that writes them itself; where Hanlin holds the model to the schema, there are none.
    """
    engine.rules([Rule(tool_calls=(ToolCall("get_weather", '{"town": 5}'),))])

    with pytest.raises(openai.InternalServerError) as caught:
        ask(client, "杭州天气？", tools=[WEATHER])

    assert caught.value.code == "internal_error"
