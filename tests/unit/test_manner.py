"""What a profile's fields do to what is sent: what is left out, moved to the nearest, or put somewhere else."""

import json
from typing import Any

import msgspec
import pytest

from hanlin.engines.manner import Manner
from hanlin.engines.native import encode
from hanlin.engines.profiles import EngineProfile, profiles
from hanlin.types import ChatRequest, Message, Sampling, Thinking, Tool, ToolCall, ToolChoice
from tests.values import request

OPENAI = profiles().engine["openai"]
STUDIO = profiles().engine["modelstudio"]

ADD = Tool("add", "", {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})


def body(asked: ChatRequest, profile: EngineProfile = OPENAI) -> Any:
    return json.loads(encode(asked, Manner(profile)))


def test_what_the_caller_leaves_open_is_left_to_a_service_that_knows_its_own_models() -> None:
    """Some of them refuse parameters that they do not have, `seed` or `top_k`, whatever their value."""
    asked = request(
        sampling=Sampling(temperature=0.7, top_p=0.8, top_k=20, seed=1234, max_tokens=5),
        given=frozenset({"top_p", "max_tokens"}),
    )

    sent = body(asked, STUDIO)

    assert sent.keys() == {"model", "messages", "stream", "stream_options", "top_p", "max_tokens"}


def test_a_model_under_another_name_is_told_everything() -> None:
    """Its defaults may be anything but those that the caller's name promises."""
    asked = request(sampling=Sampling(temperature=0.7, seed=1234))

    sent = json.loads(encode(asked, Manner(STUDIO, names=lambda name: f"theirs-{name}")))

    assert (sent["model"], sent["temperature"], sent["seed"]) == ("theirs-qwen-plus", 0.7, 1234)
    assert sent["enable_thinking"] is False


def test_a_prefix_is_continued_without_thinking_also_where_nothing_was_said_of_it() -> None:
    """A model that thinks unless told otherwise would begin with thoughts in place of the rest."""
    messages = (Message("user", "x"), Message("assistant", "def"))

    assert body(request(messages=messages, partial=True), STUDIO)["enable_thinking"] is False


@pytest.mark.parametrize(
    ("known", "choice", "tools", "sent_choice"),
    [
        (("auto", "none", "required", "named"), ToolChoice("named", "add"), ["add", "now"], {"name": "add"}),
        (("auto", "none", "required"), ToolChoice("named", "add"), ["add"], "required"),
        (("auto", "none"), ToolChoice("named", "add"), ["add"], "auto"),
        (("auto", "none"), ToolChoice("required"), ["add", "now"], "auto"),
        (("auto", "none"), ToolChoice(), ["add", "now"], "auto"),
    ],
)
def test_a_choice_that_a_server_does_not_know_becomes_the_nearest(
    known: tuple[Any, ...], choice: ToolChoice, tools: list[str], sent_choice: Any
) -> None:
    """The tool that is to be called is then the only one that is offered."""
    profile = msgspec.structs.replace(OPENAI, tool_choices=known)

    sent = body(request(tools=(ADD, Tool("now")), tool_choice=choice), profile)

    assert [tool["function"]["name"] for tool in sent["tools"]] == tools
    told = sent["tool_choice"]
    assert (told["function"] if isinstance(told, dict) else told) == sent_choice


def test_values_beyond_what_a_server_takes_become_the_nearest() -> None:
    """MiniMax refuses a temperature of 0, Zhipu one above 1; no caller means anything else by them."""
    profile = msgspec.structs.replace(OPENAI, ranges={"temperature": (0.01, 1.0)}, stops_max=1)

    least = body(request(sampling=Sampling(temperature=0.0, stop=("a", "b"))), profile)
    most = body(request(sampling=Sampling(temperature=1.9)), profile)

    assert (least["temperature"], most["temperature"]) == (0.01, 1.0)
    assert least["stop"] == ["a"]


@pytest.mark.parametrize(
    ("place", "row"),
    [
        ("reasoning_content", {"content": "y", "reasoning_content": "hm"}),
        ("reasoning", {"content": "y", "reasoning": "hm"}),
        ("content", {"content": "<think>\nhm\n</think>\n\ny"}),
    ],
)
def test_thoughts_of_earlier_turns_stand_where_the_server_looks_for_them(place: Any, row: dict[str, str]) -> None:
    """A field that it does not know would be passed over in silence."""
    history = (Message("user", "x"), Message("assistant", "y", reasoning="hm"), Message("user", "z"))
    profile = msgspec.structs.replace(OPENAI, thoughts=place)

    sent = body(request(messages=history, thinking=Thinking(on=True, history=True)), profile)

    assert sent["messages"][1] == {"role": "assistant", **row}


@pytest.mark.parametrize(("thoughts", "sent_thoughts"), [("hm", "hm"), ("", " ")])
def test_calls_of_earlier_turns_keep_their_thoughts_where_the_server_insists(thoughts: str, sent_thoughts: str) -> None:
    """DeepSeek and Moonshot answer 400 otherwise; most callers do not keep thoughts at all."""
    history = (
        Message("user", "x"),
        Message("assistant", "", (ToolCall("c1", "add", "{}"),), reasoning=thoughts),
        Message("tool", "1", tool_call_id="c1"),
    )
    profile = msgspec.structs.replace(OPENAI, thoughts_with_calls=True)

    thinks = body(request(messages=history, thinking=Thinking(on=True)), profile)["messages"]
    silent = body(request(messages=history), profile)["messages"]

    assert thinks[1]["reasoning_content"] == sent_thoughts
    assert "reasoning_content" not in silent[1]
