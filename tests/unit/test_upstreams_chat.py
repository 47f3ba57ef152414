"""What each upstream is sent: thinking, tools, limits and prefixes in its own words."""

import json
from typing import Any

import pytest

from hanlin.engines.manner import Manner
from hanlin.engines.native import encode
from hanlin.engines.profiles import profiles
from hanlin.engines.upstreams import upstreams
from hanlin.service.upstreams import names_there, resolved
from hanlin.settings import DeploymentRow
from hanlin.types import (
    ChatRequest,
    Message,
    Sampling,
    Thinking,
    Tool,
    ToolChoice,
)
from tests.values import request

KEYS = {row.key_env[0]: "sk-x" for row in upstreams().values() if row.key_env} | {"DASHSCOPE_WORKSPACE_ID": "ws-1"}
"""An environment in which every upstream has its key."""


def manner(upstream: str) -> Manner:
    """Return how a resolved row of an upstream is spoken to."""
    row = resolved(DeploymentRow("it", upstream=upstream), KEYS)
    return Manner(profiles().engine_named(row.profile), row.model, names=lambda name: names_there(row, name))


def sent(upstream: str, asked: ChatRequest) -> Any:
    return json.loads(encode(asked, manner(upstream)))


# --- what each is sent -----------------------------------------------------------------------------------------------

TOOLS = (Tool("add"), Tool("now"))
KWARGS = "chat_template_kwargs"

# Upstream, a name that it serves, what switches thinking on and off there (None: it cannot be told), the name of its
# limit, and what forces the tool `add`.
NAMED = {"type": "function", "function": {"name": "add"}}
TEMPLATE = (
    {KWARGS: {"enable_thinking": True, "thinking": True}},
    {KWARGS: {"enable_thinking": False, "thinking": False}},
)
TYPED = ({"thinking": {"type": "enabled"}}, {"thinking": {"type": "disabled"}})
ADAPTIVE = ({"thinking": {"type": "adaptive"}}, {"thinking": {"type": "disabled"}})
ENABLED = ({"enable_thinking": True}, {"enable_thinking": False})
REASONING = ({"reasoning": {"enabled": True}}, {"reasoning": {"enabled": False}})
MODE = ({KWARGS: {"thinking_mode": "enabled"}}, {KWARGS: {"thinking_mode": "disabled"}})
NEVER_MIND: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
EFFORT: tuple[dict[str, Any], dict[str, Any]] = ({}, {"reasoning_effort": "none"})
SENT: list[tuple[str, str, tuple[dict[str, Any], dict[str, Any]], str, Any]] = [
    ("dashscope", "qwen-plus", ENABLED, "max_tokens", NAMED),
    ("dashscope-intl", "qwen3-max", ENABLED, "max_tokens", NAMED),
    ("dashscope-us", "qwen-plus", ENABLED, "max_tokens", NAMED),
    ("dashscope-cn-beijing", "glm-5.1", ENABLED, "max_tokens", NAMED),
    ("dashscope", "MiniMax/MiniMax-M3", ADAPTIVE, "max_tokens", NAMED),
    ("deepseek", "deepseek-v4-pro", TYPED, "max_tokens", NAMED),
    ("moonshot", "kimi-k2.6", TYPED, "max_completion_tokens", "auto"),
    ("moonshot-intl", "kimi/kimi-k3", NEVER_MIND, "max_completion_tokens", "auto"),
    ("zhipu", "glm-5.1", TYPED, "max_tokens", "auto"),
    ("zai", "ZHIPU/GLM-5", TYPED, "max_tokens", "auto"),
    ("minimax", "MiniMax/MiniMax-M3", ADAPTIVE, "max_completion_tokens", "auto"),
    ("minimax-intl", "MiniMax-M2.5", NEVER_MIND, "max_completion_tokens", "auto"),
    ("siliconflow", "deepseek-v3.2", ENABLED, "max_tokens", NAMED),
    ("siliconflow-intl", "deepseek-r1", NEVER_MIND, "max_tokens", NAMED),
    ("openai", "gpt-5.6", EFFORT, "max_completion_tokens", NAMED),
    ("openai", "gpt-4.1", NEVER_MIND, "max_completion_tokens", NAMED),
    ("openrouter", "glm-5.2", REASONING, "max_tokens", NAMED),
    ("ollama", "qwen3-8b", EFFORT, "max_tokens", "auto"),
    ("lmstudio", "qwen3-8b", EFFORT, "max_tokens", "required"),
    ("vllm", "qwen3-8b", TEMPLATE, "max_tokens", NAMED),
    ("sglang", "deepseek-v3.2", TEMPLATE, "max_tokens", NAMED),
    ("vllm", "MiniMax/MiniMax-M3", MODE, "max_tokens", NAMED),
]
IDS = [f"{upstream}-{name}" for upstream, name, *_ in SENT]
SWITCHES = {"thinking", "enable_thinking", "reasoning", "reasoning_effort", KWARGS}
LIMITS = {"max_tokens", "max_completion_tokens"}


def test_every_upstream_that_speaks_chat_is_tried() -> None:
    """But for twins in other regions, which differ in their address alone; llama-server is asked by prompts."""
    tried = {upstreams()[upstream].profile for upstream, *_ in SENT}

    assert tried == {row.profile for row in upstreams().values()} - {"llama"}


@pytest.mark.parametrize(("upstream", "name", "switch", "_limit", "_choice"), SENT, ids=IDS)
def test_thinking_is_switched_in_each_upstreams_words(
    upstream: str, name: str, switch: tuple[dict[str, Any], dict[str, Any]], _limit: str, _choice: Any
) -> None:
    """And no other field of that kind is sent, since some refuse those that they do not know."""
    said = frozenset({"enable_thinking"})
    on = sent(upstream, request(model=name, thinking=Thinking(on=True), given=said))
    off = sent(upstream, request(model=name, thinking=Thinking(), given=said))

    told = [{field: body[field] for field in sorted(SWITCHES & body.keys())} for body in (on, off)]
    assert tuple(told) == switch


@pytest.mark.parametrize(("upstream", "name", "_switch", "limit", "choice"), SENT, ids=IDS)
def test_tools_and_limits_are_sent_in_each_upstreams_words(
    upstream: str, name: str, _switch: Any, limit: str, choice: Any
) -> None:
    """A tool that must be called is the only one offered where it cannot be named."""
    asked = request(
        model=name,
        tools=TOOLS,
        tool_choice=ToolChoice("named", "add"),
        sampling=Sampling(temperature=0.5, max_tokens=7),
        given=frozenset({"temperature", "max_tokens", "tools", "tool_choice"}),
    )

    body = sent(upstream, asked)

    assert {field: body[field] for field in LIMITS & body.keys()} == {limit: 7}
    assert body["tool_choice"] == choice
    assert [tool["function"]["name"] for tool in body["tools"]] == (["add", "now"] if choice == NAMED else ["add"])
    assert ("temperature" in body) == profiles().engine[upstreams()[upstream].profile].honours("temperature")
    assert ("stream_options" in body) == profiles().engine[upstreams()[upstream].profile].stream_options


@pytest.mark.parametrize(
    ("upstream", "name", "thinking", "fields"),
    [
        ("deepseek", "deepseek-v4-pro", Thinking(on=True, effort="max"), {"reasoning_effort": "max"}),
        ("moonshot", "kimi-k3", Thinking(on=True, effort="high"), {"reasoning_effort": "high"}),
        ("moonshot", "kimi-k2.6", Thinking(on=True, budget_tokens=99), {"thinking": {"type": "enabled"}}),
        ("zhipu", "glm-5.3", Thinking(on=True, effort="low"), {"reasoning_effort": "low"}),
        ("siliconflow", "deepseek-r1", Thinking(on=True, budget_tokens=99), {"thinking_budget": 99}),
        (
            "openrouter",
            "glm-5.2",
            Thinking(on=True, budget_tokens=99),
            {"reasoning": {"enabled": True, "max_tokens": 99}},
        ),
        ("openrouter", "kimi-k3", Thinking(on=True, effort="low"), {"reasoning": {"enabled": True, "effort": "low"}}),
        ("openai", "gpt-5.6", Thinking(on=True, effort="low"), {"reasoning_effort": "low"}),
        ("minimax", "MiniMax/MiniMax-M3", Thinking(), {"reasoning_split": True}),
        ("zhipu", "glm-5.1", Thinking(), {"tool_stream": True}),
        (
            "zhipu",
            "glm-5.1",
            Thinking(on=True, history=True),
            {"thinking": {"type": "enabled", "clear_thinking": False}},
        ),
    ],
)
def test_how_hard_and_how_long_each_thinks_is_said_in_its_words(
    upstream: str, name: str, thinking: Thinking, fields: dict[str, Any]
) -> None:
    """A level or a budget that goes under another name has no effect, and costs as much as the most."""
    body = sent(upstream, request(model=name, thinking=thinking, given=frozenset({"reasoning_effort"})))

    assert {field: body[field] for field in fields} == fields


@pytest.mark.parametrize(
    ("upstream", "name", "fields"),
    [
        ("dashscope", "qwen-plus", {"partial": True}),
        ("deepseek", "deepseek-v4-pro", {"prefix": True}),
        ("moonshot", "kimi-k2.6", {"partial": True}),
        ("siliconflow", "deepseek-v3.2", {"prefix": True}),
    ],
)
def test_a_prefix_is_continued_in_each_upstreams_words(upstream: str, name: str, fields: dict[str, Any]) -> None:
    """Spec §6; a server that is not told begins a new turn."""
    messages = (Message("user", "x"), Message("assistant", "def"))

    body = sent(upstream, request(model=name, messages=messages, partial=True))

    assert body["messages"][-1] == {"role": "assistant", "content": "def", **fields}


@pytest.mark.parametrize(("upstream", "name"), [("dashscope", "xiaomi/mimo-v2.5-pro"), ("openai", "gpt-5.6")])
def test_services_with_defaults_of_their_own_are_sent_only_what_was_said(upstream: str, name: str) -> None:
    """MiMo refuses seed, top_k and penalties, OpenAI's reasoning models temperature: nobody asked for them."""
    filled = Sampling(temperature=1.0, top_p=0.95, top_k=0, seed=1234, presence_penalty=0.0, repetition_penalty=1.0)

    body = sent(upstream, request(model=name, sampling=filled, thinking=Thinking(on=True, effort="high")))

    assert body.keys() == {"model", "messages", "stream", "stream_options"}
