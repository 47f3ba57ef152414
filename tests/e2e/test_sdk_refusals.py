"""What the official Python SDK raises: the typed exception, the code, the field and the vendor's words."""

from typing import Any

import openai
import pytest
from openai import OpenAI

from hanlin.testing import FakeEngine, Rule, wait_until
from tests.service import Service

QUESTION: list[Any] = [{"role": "user", "content": "你是谁？"}]
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {}}}}

# What is asked beside model and messages (or instead of them), and what spec/chat.md §12 answers: code, param, words.
BAD_REQUESTS: dict[str, tuple[dict[str, Any], str | None, str | None, str]] = {
    "temperature too high": (
        {"temperature": 2},
        "invalid_parameter_error",
        "temperature",
        "Temperature should be in [0.0, 2.0)",
    ),
    "temperature is text": (
        {"temperature": "hot"},
        "invalid_parameter_error",
        "temperature",
        "'temperature' must be Float",
    ),
    "top_p zero": ({"top_p": 0}, "invalid_parameter_error", "top_p", "Range of top_p should be (0.0, 1.0]"),
    "top_k negative": (
        {"top_k": -1},
        "invalid_parameter_error",
        "top_k",
        "Parameter top_k be greater than or equal to 0",
    ),
    "presence_penalty": (
        {"presence_penalty": 2.5},
        "invalid_parameter_error",
        "presence_penalty",
        "Presence_penalty should be in [-2.0, 2.0]",
    ),
    "repetition_penalty": (
        {"repetition_penalty": 0},
        "invalid_parameter_error",
        "repetition_penalty",
        "Repetition_penalty should be greater than 0.0",
    ),
    "n too large": ({"n": 5}, "invalid_parameter_error", "n", "Range of n should be [1, 4]"),
    "n zero": ({"n": 0}, "invalid_parameter_error", "n", "Range of n should be [1, 4]"),
    "top_logprobs": (
        {"logprobs": True, "top_logprobs": 6},
        "invalid_parameter_error",
        "top_logprobs",
        "Range of top_logprobs should be [0, 5]",
    ),
    "top_logprobs alone": ({"top_logprobs": 2}, "invalid_parameter_error", "top_logprobs", "logprobs"),
    "seed negative": ({"seed": -1}, "invalid_value", "seed", "-1 is lesser than the minimum of 0 - 'seed'"),
    "seed too large": ({"seed": 2**31}, "invalid_value", "seed", "'seed'"),
    "seed is text": ({"seed": "x"}, "invalid_value", "seed", "'seed' must be Integer"),
    "max_tokens zero": ({"max_tokens": 0}, "invalid_parameter_error", "max_tokens", "Range of max_tokens should be ["),
    "max_tokens too large": (
        {"max_tokens": 32_769},
        "invalid_parameter_error",
        "max_tokens",
        "Range of max_tokens should be [1, 32768]",
    ),
    "stop mixed": ({"stop": ["a", 1]}, "invalid_parameter_error", "stop", 'The "stop" parameter must be of type'),
    "usage without stream": (
        {"stream_options": {"include_usage": True}},
        "invalid_parameter_error",
        "stream_options",
        "stream",
    ),
    "no messages": ({"messages": []}, "invalid_parameter_error", "messages", "[] is too short - 'messages'"),
    "null messages": (
        {"messages": None},
        "invalid_parameter_error",
        "messages",
        'Either "prompt" or "messages" must exist and cannot both be none',
    ),
    "message is text": (
        {"messages": ["你好"]},
        "invalid_parameter_error",
        "messages.0",
        "Input should be a valid dictionary or instance of GPT3Message",
    ),
    "no content": (
        {"messages": [{"role": "user"}]},
        "invalid_parameter_error",
        "messages.0.content",
        "The content field is a required field.",
    ),
    "nobody asks": (
        {"messages": [{"role": "system", "content": "你好"}]},
        "invalid_parameter_error",
        "messages",
        "The input messages do not contain elements with the role of user.",
    ),
    "tool result of no call": (
        {"messages": [*QUESTION, {"role": "tool", "tool_call_id": "call_1", "content": "晴"}]},
        "invalid_parameter_error",
        "messages.1.role",
        'messages with role "tool" must be a response to a preceeding message with "tool_calls"',
    ),
    "an image": (
        {
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]}
            ]
        },
        "invalid_parameter_error",
        "messages",
        "text only",
    ),
    "tools": (
        {"model": "qwen-math-plus", "tools": [TOOL]},
        "invalid_parameter_error",
        "tools",
        "The tool call is not supported.",
    ),
    "a tool that must be called": (
        {"tools": [TOOL], "tool_choice": "required"},
        "invalid_parameter_error",
        "tool_choice",
        'tool_choice is one of the strings that should be ["none", "auto"]',
    ),
    "search": (
        {"enable_search": True},
        "invalid_parameter_error",
        "enable_search",
        "This model does not support enable_search.",
    ),
    "a JSON answer without the word": (
        {"response_format": {"type": "json_object"}},
        "invalid_parameter_error",
        "messages",
        "'messages' must contain the word 'json' in some form",
    ),
    "an XML answer": (
        {"response_format": {"type": "xml"}},
        "invalid_parameter_error",
        "response_format",
        "Unknown format of response_format",
    ),
    "thinking where none is": (
        {"model": "qwen-max", "enable_thinking": True},
        "InvalidParameter.NotSupportEnableThinking",
        "enable_thinking",
        "The model qwen-max does not support enable_thinking.",
    ),
    "thinking always": (
        {"model": "qwq-plus", "enable_thinking": False},
        "invalid_parameter_error",
        "enable_thinking",
        "The value of the enable_thinking parameter is restricted to True.",
    ),
    "no model": ({"model": ""}, None, "model", "you must provide a model parameter."),
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("case", BAD_REQUESTS)
def test_a_wrong_request_is_refused_by_name_before_anything_runs(
    client: OpenAI, engine: FakeEngine, case: str, stream: bool
) -> None:
    """Programs and people act on code, field and words; a stream's refusal has its true status too (§12)."""
    extra, code, param, words = BAD_REQUESTS[case]
    if stream and "stream_options" in extra:
        extra = {"stream_options": {"include_usage": "yes"}}

    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="qwen-plus", messages=QUESTION, stream=stream, extra_body=extra)

    error = caught.value
    assert (error.status_code, error.code, error.param, error.type) == (400, code, param, "invalid_request_error")
    assert words in error.message
    assert engine.requests() == []


def test_every_error_carries_the_id_that_finds_its_log_line(client: OpenAI, service: Service) -> None:
    """Whoever is asked for help gets an id; it must lead to the line that the service wrote."""
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="qwen-plus", messages=QUESTION, n=5)

    error = caught.value
    assert error.request_id
    assert error.request_id == error.response.headers["x-request-id"] == error.response.json()["request_id"]
    identity = error.request_id
    # The line is written once the answer has left.
    wait_until(
        lambda: any(identity in line and " 400 " in line for line in service.output().splitlines()), "the log line"
    )


@pytest.mark.parametrize("key", ["sk-wrong-and-long-enough", "钥匙".encode().hex()])
def test_a_wrong_key_is_an_authentication_error(service: Service, engine: FakeEngine, key: str) -> None:
    """The message says which line is missing, and shows no more of the key than its end."""
    with service.client(api_key=key) as client, pytest.raises(openai.AuthenticationError) as caught:
        client.chat.completions.create(model="qwen-plus", messages=QUESTION)

    error = caught.value
    assert (error.status_code, error.code, error.param) == (401, "invalid_api_key", None)
    assert error.type == "invalid_request_error"
    assert "Incorrect API key provided. " in error.message
    assert "export DASHSCOPE_API_KEY" in error.message
    assert key not in error.message
    assert engine.requests() == []


def test_models_are_not_listed_without_a_key(service: Service) -> None:
    """The list is behind the key as well (spec/surfaces.md §6)."""
    with service.client(api_key="sk-wrong") as client, pytest.raises(openai.AuthenticationError):
        client.models.list()


@pytest.mark.parametrize(
    ("model", "code", "words"),
    [
        ("gpt-9", "model_not_found", "The model `gpt-9` does not exist or you do not have access to it."),
        ("QWEN-PLUS", "model_not_found", "The model `QWEN-PLUS` does not exist"),
        ("qvq-plus", "model_not_found", "The model `qvq-plus` does not exist or you do not have access to it."),
        ("text-embedding-v4", "model_not_supported", "Unsupported model text-embedding-v4 for OpenAI compatibility"),
        ("qwen-deep-research", "model_not_supported", "Unsupported model qwen-deep-research for OpenAI compatibility"),
    ],
)
def test_a_name_that_cannot_be_served_is_not_found(
    client: OpenAI, engine: FakeEngine, model: str, code: str, words: str
) -> None:
    """Unknown names, and known ones whose promise nothing here can keep, say so instead of answering anyhow."""
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model=model, messages=QUESTION)

    error = caught.value
    assert (error.status_code, error.code, error.param, error.type) == (404, code, "model", "invalid_request_error")
    assert words in error.message
    assert engine.requests() == []


@pytest.mark.parametrize("prefix", ["/api/v1", ""])
def test_a_wrong_base_url_is_told_the_right_one(service: Service, prefix: str) -> None:
    """A usual mistake is the native path in `base_url`: the answer must name the compatible one."""
    with service.client(base_url=service.url + prefix) as client, pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="qwen-plus", messages=QUESTION)

    assert "/compatible-mode/v1" in caught.value.message
    assert caught.value.code == "not_found"


def test_a_conversation_that_ends_with_the_assistant_fails_once(client: OpenAI, engine: FakeEngine) -> None:
    """The vendor answers it with 500, which SDKs repeat; a header tells them that it is of no use."""
    messages: list[Any] = [*QUESTION, {"role": "assistant", "content": "我是"}]

    with pytest.raises(openai.InternalServerError) as caught:
        client.with_options(max_retries=2).chat.completions.create(model="qwen-plus", messages=messages)

    assert "list index out of range" in caught.value.message
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert caught.value.response.request.headers["x-stainless-retry-count"] == "0"
    assert engine.requests() == []


def test_what_the_engine_refuses_reaches_the_caller_as_a_bad_request(client: OpenAI, engine: FakeEngine) -> None:
    """Some limits only the engine knows; a refusal of its own must not look like a fault that passes."""
    engine.rules([Rule(status=400, body={"error": {"message": "grammar is broken", "type": "invalid_request_error"}})])

    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="qwen-plus", messages=QUESTION)

    assert "grammar is broken" in caught.value.message


def test_models_are_listed_and_found_by_name(client: OpenAI) -> None:
    """Chat programs fill their menus from the list; a row must be OpenAI's four fields at least."""
    rows = {model.id: model for model in client.models.list()}

    assert {"qwen-plus", "qwen3-max", "qwen-flash", "deepseek-v3.2"} <= rows.keys()
    assert {model.object for model in rows.values()} == {"model"}
    assert all(model.created > 1_600_000_000 and model.owned_by for model in rows.values())
    assert client.models.retrieve("qwen-plus") == rows["qwen-plus"]


def test_a_name_with_a_slash_is_found_and_answers(client: OpenAI, engine: FakeEngine) -> None:
    """The SDK escapes the slash in the path; partner models have one in their names."""
    model = client.models.retrieve("siliconflow/deepseek-v3.2")
    completion = client.chat.completions.create(model=model.id, messages=QUESTION)

    assert model.id == "siliconflow/deepseek-v3.2"
    assert completion.model == "siliconflow/deepseek-v3.2"


def test_an_unknown_model_cannot_be_retrieved(client: OpenAI) -> None:
    """The question `is this name there?` has the same answer as a call of it."""
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("no/such model")

    assert caught.value.code == "model_not_found"
    assert "`no/such model`" in caught.value.message
