"""Which requests a rule takes, and where rules come from."""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from hanlin.testing import Rule, Setup, ToolCall
from hanlin.testing.rules import load, takes, value_at

BODY: dict[str, Any] = {
    "model": "qwen-plus",
    "messages": [{"role": "system", "content": "简短"}, {"role": "user", "content": "杭州天气"}],
    "response_format": {"type": "json_schema"},
    "enable_thinking": False,
    "tools": None,
}


def taken(rule: Rule, *, stream: bool = False) -> bool:
    return takes(rule, model="qwen-plus", question="杭州天气", stream=stream, body=BODY)


@pytest.mark.parametrize(
    "rule",
    [
        Rule(),
        Rule(contains="天气"),
        Rule(model="qwen*"),
        Rule(stream=False),
        Rule(when={"response_format.type": "json_schema"}),
        Rule(when={"messages.1.role": "user", "enable_thinking": False}),
        Rule(when={"tools": None, "seed": None, "response_format": "*"}),
    ],
)
def test_a_rule_takes_a_request_that_meets_all_its_conditions(rule: Rule) -> None:
    """A condition that is not given is no condition."""
    assert taken(rule)


@pytest.mark.parametrize(
    "rule",
    [
        Rule(contains="股票"),
        Rule(contains="天气", model="deepseek*"),
        Rule(stream=True),
        Rule(when={"response_format.type": "json_object"}),
        Rule(when={"messages.7.role": "user"}),
        Rule(when={"tools": "*"}),
        Rule(when={"model.name": "*"}),
    ],
)
def test_a_rule_leaves_a_request_that_misses_one_condition(rule: Rule) -> None:
    """The next rule is asked then."""
    assert not taken(rule)


def test_a_path_leads_through_names_and_positions() -> None:
    """A test says what it looks at in one word, and a wrong turn is nothing, not an error."""
    assert value_at(BODY, "messages.1.content") == "杭州天气"
    assert value_at(BODY, "messages.one") is None
    assert value_at(BODY, "model.0") is None


TOML = """
style = "llama"
context_tokens = 2048
models = ["m.gguf"]

[[rule]]
contains = "天气"
thinking = "想一想"
tool_calls = [{ name = "get_weather", arguments = { city = "杭州" } }, { name = "broken", arguments = "{" }]

[[rule]]
status = 503
times = 2
headers = { retry-after = "1" }
"""


def test_rules_are_read_from_toml_and_from_json(tmp_path: Path) -> None:
    """Users of other languages write a file and start the engine from a shell."""
    toml, json = tmp_path / "rules.toml", tmp_path / "rules.json"
    toml.write_text(TOML, encoding="utf-8")
    expected = Setup(
        style="llama",
        context_tokens=2048,
        models=("m.gguf",),
        rule=(
            Rule(
                contains="天气",
                thinking="想一想",
                tool_calls=(ToolCall("get_weather", {"city": "杭州"}), ToolCall("broken", "{")),
            ),
            Rule(status=503, times=2, headers={"retry-after": "1"}),
        ),
    )
    json.write_bytes(msgspec.json.encode(expected))

    assert load(toml) == expected
    assert load(json) == expected


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ('[[rule]]\ntxt = "x"', "txt"),
        ('[[rule]]\ntimes = "often"', "times"),
        ("[[rule]]\nstatus = 200", "status"),
        ("[[rule]]\nerror_after_chunks = -1", "error_after_chunks"),
        ("[[rule", "rules.toml"),
    ],
)
def test_a_file_with_a_mistake_is_refused_by_name(tmp_path: Path, content: str, named: str) -> None:
    """A rule that is silently dropped would let a test pass for the wrong reason."""
    file = tmp_path / "rules.toml"
    file.write_text(content, encoding="utf-8")

    with pytest.raises(ValueError, match=named) as refusal:
        load(file)

    assert str(file) in str(refusal.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """The likeliest mistake of all deserves a sentence, not a traceback."""
    with pytest.raises(ValueError, match=r"missing\.toml"):
        load(tmp_path / "missing.toml")
