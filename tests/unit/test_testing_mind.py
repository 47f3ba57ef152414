"""The fake engine's tiny model: what it makes of a question, of tools and of a schema."""

from typing import Any

import msgspec
import pytest

from hanlin.testing import Rule, mind
from hanlin.testing import ask as asking
from hanlin.testing.reply import compose
from tests.unit.test_testing_native import asked as asked_in_passes
from tests.unit.test_testing_native import engine

INTEGER, STRING = {"type": "integer"}, {"type": "string"}


def tool(name: str, description: str, /, **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


MAGIC = tool("magic_function", "Apply a magic function to an input.", input=INTEGER)
ADD = tool("my_adder_tool", "Takes two integers, a and b, and returns their sum.", a=INTEGER, b=INTEGER)
MULTIPLY = tool("multiply", "Multiply two numbers.", a={"type": "number"}, b={"type": "number"})
WEATHER = tool("get_weather", "Get the weather at a location.", location=STRING)
TIANQI = tool("query", "查询城市的天气", city=STRING, unit={"enum": ["celsius", "fahrenheit"]})
GREETING = tool("greeting_generator", "Generate a greeting in a particular style.", answer_style=STRING)
CUSTOMER = tool("create", "Create a customer.", customer_name=STRING, description=STRING)
NOTHING = tool("magic_function_no_args", "Calculate a magic function.")


def ask(question: str, *tools: Any, after: Any = (), **extra: Any) -> asking.Ask:
    messages = [{"role": "user", "content": question}, *after]
    return asking.read({"messages": messages, "tools": list(tools), **extra}, chat=True)


@pytest.mark.parametrize(
    ("question", "tools", "calls"),
    [
        ("What is the value of magic_function(3)? Use the tool.", [MAGIC], [{"input": 3}]),
        ("What are magic_function(3) and magic_function(-7)?", [MAGIC], [{"input": 3}, {"input": -7}]),
        ("Call magic_function with 3 and 5.", [MAGIC], [{"input": 3}, {"input": 5}]),
        ("What is magic_function_no_args()? Use the tool.", [NOTHING], [{}]),
        ("3 + 4 and 5 * 6?", [MULTIPLY, ADD], [{"a": 3, "b": 4}, {"a": 5, "b": 6}]),
        ("What is the weather in San Francisco, CA?", [MAGIC, WEATHER], [{"location": "San Francisco, CA"}]),
        ("What's the weather in Paris and London?", [WEATHER], [{"location": "Paris"}, {"location": "London"}]),
        ("what is the weather in paris?", [WEATHER], [{"location": "paris"}]),
        ("北京和上海的天气", [TIANQI], [{"city": "北京", "unit": "celsius"}, {"city": "上海", "unit": "celsius"}]),
        ("杭州今天天气怎么样，用fahrenheit", [TIANQI], [{"city": "杭州", "unit": "fahrenheit"}]),
        ("Using the tool, generate a Pirate greeting.", [GREETING], [{"answer_style": "Pirate"}]),
        (
            "Create a customer named '你好啊集团' (Hello Group).",
            [CUSTOMER],
            [{"customer_name": "你好啊集团", "description": "Hello Group"}],
        ),
        ("Hello!", [MAGIC, WEATHER], []),
        ("What is 1 + 2?", [], []),
    ],
)
def test_it_calls_the_tools_that_a_question_is_about(question: str, tools: list[Any], calls: list[Any]) -> None:
    """With arguments out of the question, and as often as it asks."""
    assert [call.arguments for call in mind.calls(ask(question, *tools))] == calls


def test_it_calls_what_it_must() -> None:
    """A tool that is named, or any: the likeliest."""
    named = {"type": "function", "function": {"name": "get_weather"}}

    assert [call.name for call in mind.calls(ask("Hello!", MAGIC, WEATHER, tool_choice=named))] == ["get_weather"]
    assert [call.name for call in mind.calls(ask("2 + 3?", WEATHER, ADD, tool_choice="required"))] == ["my_adder_tool"]
    assert len(mind.calls(ask("Hello!", MAGIC, WEATHER, tool_choice="required"))) == 1


def test_it_answers_with_what_the_tools_returned() -> None:
    """The last round of an agent; a new question begins another."""
    results = [
        {"role": "assistant", "tool_calls": [{"function": {"name": "get_weather", "arguments": "{}"}}]},
        {"role": "tool", "content": "sunny"},
        {"role": "tool", "content": "rainy"},
    ]
    question = ask("What's the weather in Paris and London?", WEATHER, after=results)
    again = ask("x", WEATHER, after=[*results, {"role": "user", "content": "And the weather in Rome?"}])

    assert mind.calls(question) == ()
    assert mind.text(question) == "The result is: sunny\nrainy"
    assert [call.arguments for call in mind.calls(again)] == [{"location": "Rome"}]


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is 1 + 2?", "1 + 2 = 3"),
        ("(3+4)*2 = ?", "(3+4)*2 = 14"),
        ("What is 12 divided by 5?", "12 / 5 = 2.4"),
        ("1加1等于几？", "1 + 1 = 2"),
        ("1 / 0?", "You said: 1 / 0?"),
        ("Say this is a test", "this is a test"),
        ("Repeat after me: I like cats.", "I like cats"),
        ('Please echo "abc def" now', "abc def"),
        ("重复：你好世界。", "你好世界"),
        ("Count from 1 to 5.", "1, 2, 3, 4, 5"),
        ("Hello", "Hello! How can I help you today?"),
        ("你好", "你好！有什么可以帮您？"),
        ("讲个笑话", "你说的是：讲个笑话"),
    ],
)
def test_it_answers_what_it_can(question: str, answer: str) -> None:
    """Sums are right, and what is to be said is said."""
    assert mind.text(ask(question)) == answer


def test_it_remembers_the_callers_name() -> None:
    """Multi-turn suites ask for it."""
    after = [{"role": "assistant", "content": "Hi"}, {"role": "user", "content": "What is my name?"}]

    assert mind.text(ask("My name is Bob.", after=after)) == "Your name is Bob."


PERSON = {
    "$defs": {"Color": {"enum": ["blue", "red"]}},
    "type": "object",
    "properties": {
        "name": STRING,
        "age": INTEGER,
        "color": {"$ref": "#/$defs/Color"},
        "height": {"anyOf": [{"type": "number"}, {"type": "null"}], "default": None},
        "born": {"type": "string", "format": "date"},
        "code": {"type": "string", "pattern": "^[A-Z]{2}$"},
        "friend": {"type": ["object", "null"], "properties": {"name": STRING}, "required": ["name"]},
        "seen": {"type": "array", "items": {"type": "number"}},
        "kind": {"const": "person"},
    },
    "required": ["name", "age", "color", "born", "code", "friend", "kind", "more"],
}


def test_it_fills_a_schema_from_the_question() -> None:
    """What the question has nothing for is an example, or left out where it may be."""
    wanted = {"response_format": {"type": "json_schema", "json_schema": {"schema": PERSON}}}

    answer = msgspec.json.decode(mind.text(ask('Jason is 25, likes red, knows "Bob". 2001-02-03', **wanted)))

    assert answer == {
        "name": "Bob",
        "age": 25,
        "color": "red",
        "born": "2001-02-03",
        "code": "AA",
        "friend": {"name": "Jason"},
        "kind": "person",
        "more": "2001-02-03",
    }


@pytest.mark.parametrize(
    ("question", "keys"),
    [
        ("A joke about cats. Return JSON with 'setup' and 'punchline' keys.", {"setup", "punchline"}),
        ('JSON for {"properties": {"age": {"type": "integer"}}, "required": ["age"]} please, 7', {"age"}),
        ("1 + 1? Answer in JSON.", {"answer"}),
    ],
)
def test_any_json_has_the_keys_that_the_question_names(question: str, keys: set[str]) -> None:
    """JSON mode has no schema but the words of the prompt."""
    for extra in ({"response_format": {"type": "json_object"}}, {"json_schema": {"type": "object"}}):
        assert set(msgspec.json.decode(mind.text(ask(question, **dict[str, Any](extra))))) == keys


def test_a_smart_rule_answers_with_it_over_chat() -> None:
    """Thinking is the rule's own; one call at a time is honoured here too."""
    rule = Rule(smart=True, thinking="想")
    question = ask("What's the weather in Paris and London?", WEATHER, parallel_tool_calls=False)

    choice = compose(rule, question).choices[0]

    assert (choice.text("thinking"), choice.text("call"), choice.finish_reason) == ("想", "get_weather", "tool_calls")
    assert choice.text("arguments") == '{"location":"Paris"}'
    assert compose(rule, ask("What is 1 + 2?")).choices[0].text("text") == "1 + 2 = 3"


def test_a_smart_rule_answers_the_same_in_passes() -> None:
    """Question and tools are read out of the prompt."""
    thinking, text, calls = asked_in_passes(engine(Rule(smart=True, thinking="想")), thinks=True, tools=True)

    assert thinking == "想"
    assert text == '<tool_call>\n{"name": "get_weather", "arguments": {"city":"杭州"}}\n</tool_call>'
    assert calls == ['{"city":"杭州"}']
    assert asked_in_passes(engine(Rule(smart=True)))[1] == "你说的是：杭州天气"
