"""What a rule generates for a request: pure, and the same for streamed and unstreamed answers."""

import itertools
from typing import Any

import msgspec
import pytest

from hanlin.testing import Rule, ToolCall
from hanlin.testing import ask as asking
from hanlin.testing.ask import Ask
from hanlin.testing.reply import Choice, compose
from hanlin.testing.schema import SchemaError

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"enum": ["杭州"]}}, "required": ["city"]},
    },
}


def asked(question: str = "你是谁？", **extra: Any) -> Ask:
    body = {"model": "qwen-plus", "messages": [{"role": "user", "content": question}], **extra}
    return asking.read(body, chat=True)


def only(rule: Rule, ask: Ask) -> Choice:
    return compose(rule, ask).choices[0]


def texts(choice: Choice, kind: str = "text") -> list[str]:
    return [chunk.text for chunk in choice.chunks if chunk.kind == kind]


def test_without_a_rule_the_answer_names_the_model_and_repeats_the_question() -> None:
    """A first try without any rules must already show that the question arrived."""
    assert only(Rule(), asked()).text("text") == "我是qwen-plus，你说的是：你是谁？"


def test_chunks_come_as_they_are_written_down() -> None:
    """Parsers break at chunk boundaries: a test has to choose them."""
    choice = only(Rule(chunks=("你", "好，Hanlin", "！")), asked())

    assert texts(choice) == ["你", "好，Hanlin", "！"]
    assert choice.finish_reason == "stop"


def test_a_text_leaves_some_tokens_at_a_time() -> None:
    """One token a chunk is what engines do, and several are what busy ones do."""
    assert texts(only(Rule(text="你好世界！"), asked())) == ["你", "好", "世", "界", "！"]
    assert texts(only(Rule(text="你好世界！", chunk_tokens=2), asked())) == ["你好", "世界", "！"]


def test_echo_repeats_the_last_user_message() -> None:
    """What arrived can then be compared with what was sent, to the byte."""
    ask = asked("第一问", messages=[{"role": "user", "content": [{"type": "text", "text": " 第\n二问 "}]}])

    assert only(Rule(echo=True), ask).text("text") == " 第\n二问 "


def test_thinking_comes_before_the_answer_and_calls_after_it() -> None:
    """The contract says that they do not interleave."""
    rule = Rule(thinking="想想", text="好", tool_calls=(ToolCall("f", {"a": 1}), ToolCall("g", "{oops")))

    choice = only(rule, asked())

    kinds = [kind for kind, _ in itertools.groupby(chunk.kind for chunk in choice.chunks)]
    assert kinds == ["thinking", "text", "call", "arguments", "call", "arguments"]
    assert "".join(texts(choice, "arguments")) == '{"a":1}{oops'
    assert choice.finish_reason == "tool_calls"


def test_a_reply_with_tool_calls_has_no_text_of_its_own() -> None:
    """The default answer is for rules that say nothing else."""
    assert only(Rule(tool_calls=(ToolCall("f", {}),)), asked()).text("text") == ""


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_generation_ends_at_the_limit(limit: str) -> None:
    """Engines count everything that they generate, thinking too."""
    reply = compose(Rule(thinking="想想", text="你好世界", chunk_tokens=3), asked(**dict[str, Any]({limit: 4})))

    assert reply.choices[0].text("thinking") == "想想"
    assert texts(reply.choices[0]) == ["你好"]
    assert reply.choices[0].finish_reason == "length"
    assert (reply.counts.completion, reply.counts.reasoning) == (4, 2)


def test_an_answer_as_long_as_the_limit_ends_naturally() -> None:
    """Nothing was cut."""
    assert only(Rule(text="你好"), asked(max_tokens=2)).finish_reason == "stop"


def test_a_call_is_cut_in_its_arguments_only() -> None:
    """Half a name is what no engine sends; half of the arguments is what all of them do."""
    rule = Rule(tool_calls=(ToolCall("get_weather", {"city": "杭州"}),))

    assert only(rule, asked(max_tokens=2)).chunks == ()
    assert only(rule, asked(max_tokens=5)).text("arguments") == '{"'
    assert only(rule, asked(max_tokens=5)).finish_reason == "length"


@pytest.mark.parametrize(
    ("stop", "left"),
    [
        ("世", ["你", "好"]),
        (["界！", "好"], ["你"]),
        ([20320], ["你", "好", "世", "界", "！"]),
        ([[0xE4B896]], ["你", "好"]),
    ],
)
def test_generation_halts_before_a_stop_text(stop: Any, left: list[str]) -> None:
    """A string, strings, ids and lists of ids: the contract has all four."""
    choice = only(Rule(text="你好世界！"), asked(stop=stop))

    assert texts(choice) == left
    assert choice.finish_reason == "stop"


def test_a_stop_text_cuts_written_chunks_and_what_would_follow() -> None:
    """Tool calls come after the text: a model that stopped makes none."""
    choice = only(Rule(chunks=("你好", "世界"), tool_calls=(ToolCall("f", {}),)), asked(stop="界"))

    assert texts(choice) == ["你好", "世"]
    assert texts(choice, "call") == []


def test_every_choice_has_its_own_text_and_is_counted() -> None:
    """The prompt is billed once, every choice's answer is billed."""
    reply = compose(Rule(texts=("你好", "您好呀")), asked(n=3))

    assert [choice.text("text") for choice in reply.choices] == ["你好", "您好呀", "你好"]
    assert reply.counts.completion == 7
    assert [chunk.choice for chunk in reply.in_order()] == [0, 1, 2, 0, 1, 2, 1]


def test_json_is_made_for_the_schema_of_the_request() -> None:
    """What constrained decoding would give, without a model."""
    wanted = {"type": "object", "properties": {"name": {"const": "李白"}}, "required": ["name"]}
    openai = asked(response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": wanted}})

    assert only(Rule(json_schema=True), openai).text("text") == '{"name":"李白"}'
    assert only(Rule(json_schema=True), asked(json_schema=wanted)).text("text") == '{"name":"李白"}'
    assert (
        only(Rule(json_schema=True), asked(response_format={"type": "json_object"})).text("text") == '{"answer":"文字"}'
    )


def test_a_tool_is_called_with_arguments_that_fit_its_schema() -> None:
    """A request with tools asks for a call: of the named one, or of the first."""
    other = {"type": "function", "function": {"name": "search", "parameters": {"type": "object"}}}
    first = only(Rule(json_schema=True), asked(tools=[WEATHER, other]))
    named = only(
        Rule(json_schema=True),
        asked(tools=[other, WEATHER], tool_choice={"type": "function", "function": {"name": "get_weather"}}),
    )
    scripted = only(Rule(tool_calls=(ToolCall("get_weather"),)), asked(tools=[other, WEATHER]))

    for choice in (first, named, scripted):
        assert choice.text("call") == "get_weather"
        assert msgspec.json.decode(choice.text("arguments")) == {"city": "杭州"}


def test_a_schema_rule_without_a_schema_says_so() -> None:
    """An empty answer would send the test's author looking in the wrong place."""
    with pytest.raises(SchemaError, match="neither a schema nor tools"):
        compose(Rule(json_schema=True), asked())


BEGUN: list[Any] = [{"role": "user", "content": "静夜思"}, {"role": "assistant", "content": "床前明月光，"}]
POEM = Rule(text="床前明月光，疑是地上霜")


@pytest.mark.parametrize(
    "extra",
    [
        {"messages": [BEGUN[0], {**BEGUN[1], "partial": True}]},
        {"messages": [BEGUN[0], {**BEGUN[1], "prefix": True}]},
        {"messages": BEGUN, "continue_final_message": True},
    ],
)
def test_a_message_that_is_to_be_continued_is_not_said_again(extra: dict[str, Any]) -> None:
    """Model Studio's, DeepSeek's and vLLM's way to ask for it; the rule says the whole message."""
    ask = asked(**extra)

    assert ask.prompt.endswith("<|im_start|>assistant\n床前明月光，")
    assert only(POEM, ask).text("text") == "疑是地上霜"
    assert only(Rule(raw="<think>\n想\n</think>\n\n床前明月光，疑是地上霜"), ask).text("text") == "疑是地上霜"
    assert texts(only(Rule(chunks=("床前明", "月光，疑", "是地上霜")), ask)) == ["疑", "是地上霜"]


def test_a_beginning_that_is_another_text_gets_the_whole_answer() -> None:
    """A model would go on somehow; thinking is over then."""
    choice = only(Rule(thinking="想", text="你好"), asked(messages=BEGUN, continue_final_message=True))

    assert (choice.text("text"), choice.thinks) == ("你好", False)


def test_a_last_message_of_the_assistant_is_an_answer_like_others_unless_told() -> None:
    """llama.cpp continues it anyway."""
    body = {"messages": BEGUN}

    assert only(POEM, asking.read(body, chat=True)).text("text") == "床前明月光，疑是地上霜"
    assert only(POEM, asking.read(body, chat=True, continues=True)).text("text") == "疑是地上霜"


@pytest.mark.parametrize(
    ("extra", "thinks"),
    [
        ({}, False),
        ({"enable_thinking": True}, True),
        ({"enable_thinking": False}, False),
        ({"chat_template_kwargs": {"enable_thinking": True}}, True),
    ],
)
def test_some_weights_think_only_when_they_are_asked_to(extra: dict[str, Any], thinks: bool) -> None:
    """In Model Studio's body, or for the template."""
    rule = Rule(thinking="想", text="好", thinks_when_asked=True)

    assert only(rule, asked(**extra)).thinks == thinks
    assert only(Rule(thinking="想", text="好"), asked(**extra)).thinks


def test_thinking_ends_at_its_budget() -> None:
    """The answer comes all the same."""
    reply = compose(Rule(thinking="想一想", text="好"), asked(thinking_budget=2))

    assert (reply.choices[0].text("thinking"), reply.choices[0].text("text")) == ("想一", "好")
    assert reply.counts.reasoning == 2


def test_calls_come_one_at_a_time_where_the_request_says_so() -> None:
    """Engines that ignore it exist as well."""
    calls = (ToolCall("f", {}), ToolCall("g", {}))
    ask = asked(parallel_tool_calls=False)

    assert texts(only(Rule(tool_calls=calls), ask), "call") == ["f"]
    assert texts(only(Rule(tool_calls=calls, parallel_anyway=True), ask), "call") == ["f", "g"]
    assert texts(only(Rule(tool_calls=calls), asked(parallel_tool_calls=True)), "call") == ["f", "g"]


def test_a_tool_that_is_named_is_called_whatever_the_rule_says() -> None:
    """Unless the rule has calls of its own, or writes the generation itself."""
    ask = asked(tools=[WEATHER], tool_choice={"type": "function", "function": {"name": "get_weather"}})

    for rule in (Rule(), Rule(text="晴"), Rule(chunks=("晴",))):
        choice = only(rule, ask)
        assert (choice.text("text"), choice.text("call")) == ("", "get_weather")
        assert choice.text("arguments") == '{"city":"杭州"}'
    assert only(Rule(tool_calls=(ToolCall("f"),)), ask).text("call") == "f"
    assert only(Rule(raw="晴"), ask).text("text") == "晴"


def test_a_raw_generation_is_text_over_chat() -> None:
    """As an engine without parsers answers."""
    raw = '<think>\n想\n</think>\n\n<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'

    choice = only(Rule(raw=raw), asked(tools=[WEATHER]))

    assert choice.text("text") == raw
    assert choice.finish_reason == "stop"


def test_usage_counts_the_prompt_as_the_template_writes_it() -> None:
    """The engine's own /tokenize of /apply-template gives the same number."""
    reply = compose(Rule(text="好", cached_tokens=10), asked("你好"))

    assert reply.counts.prompt == asked("你好").prompt_tokens
    assert reply.counts.cached == 10
    assert compose(Rule(cached_tokens=10_000), asked("你好")).counts.cached == reply.counts.prompt


def test_a_part_of_a_reply_has_no_finish_reason() -> None:
    """That is how a client sees that an answer is not whole."""
    part = compose(Rule(texts=("你好", "您好")), asked(n=2)).until(3)

    assert [choice.text("text") for choice in part.choices] == ["你好", "您"]
    assert [choice.finish_reason for choice in part.choices] == [None, None]
    assert part.counts.completion == 3


@pytest.mark.parametrize("body", [None, [], "text", {"messages": "x"}, {"messages": ["x"]}, {}])
def test_what_is_no_request_is_refused(body: Any) -> None:
    """The engine answers 400 then."""
    with pytest.raises(ValueError):
        asking.read(body, chat=True)


def test_a_completion_is_asked_with_a_prompt_in_any_of_its_forms() -> None:
    """Text, texts, or token ids."""
    assert asking.read({"prompt": "你好"}, chat=False).prompt == "你好"
    assert asking.read({"prompt": ["你", "好"]}, chat=False).question == "你好"
    assert asking.read({"prompt": [0xE4BDA0, 0xE5A5BD]}, chat=False).question == "你好"
