"""LangChain's own suite for chat models, with both of its clients; `REASONS` lists what the contract does not allow."""

from collections.abc import Callable
from typing import Any

import pytest
from langchain_openai import ChatOpenAI  # type: ignore[import-not-found]
from langchain_openai.chat_models.base import OpenAIInvalidRequestError  # type: ignore[import-not-found]
from langchain_qwq import ChatQwen  # type: ignore[import-not-found]
from langchain_tests.integration_tests import ChatModelIntegrationTests  # type: ignore[import-not-found]

from tests.e2e.clients.python.setup import BASE_URL, KEY, MODEL, answers

Reason = tuple[str, type[Exception]]

REQUIRED: Reason = (
    'tool_choice "any" is "required" on the wire, which the vendor refuses for this model (spec/chat.md §7)',
    OpenAIInvalidRequestError,
)
NAMED: Reason = (
    "Kimi takes no tool by name (spec/chat.md §7), and the test asks for one beside any",
    OpenAIInvalidRequestError,
)
SOFTENED: Reason = ('ChatQwen sends "auto" for "any", and nobody has to call a tool for "Hello!"', AssertionError)

REASONS: dict[str, dict[str, Reason]] = {
    "TestChatOpenAI": {
        "test_tool_calling": REQUIRED,
        "test_tool_calling_async": REQUIRED,
        "test_tool_calling_with_no_arguments": REQUIRED,
        "test_tool_choice": REQUIRED,
        "test_bind_runnables_as_tools": REQUIRED,
        "test_structured_few_shot_examples": REQUIRED,
        "test_unicode_tool_call_integration": REQUIRED,
    },
    "TestKimiWithAny": {"test_tool_choice": NAMED},
    "TestChatQwen": {"test_tool_choice": SOFTENED},
}


@pytest.fixture(autouse=True)
def capable(request: pytest.FixtureRequest) -> None:
    """Let a capable model answer, and expect of a listed test that it fails for its reason."""
    answers({"smart": True})
    listed = REASONS.get(request.cls.__name__, {}).get(request.function.__name__)
    if listed is not None:
        reason, error = listed
        request.applymarker(pytest.mark.xfail(reason=reason, raises=error, strict=True))


class Suite(ChatModelIntegrationTests):  # type: ignore[misc]
    """What both clients have in common. Not set: images, audio and PDF, which this release refuses by name."""

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {"model": MODEL, "base_url": BASE_URL, "api_key": KEY, "max_retries": 0, "stream_usage": True}

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def supports_model_override(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return "qwen-flash"


def only(*beginnings: str) -> Callable[[type[Suite]], type[Suite]]:
    """Keep of a suite the tests whose names begin so."""

    def hide(suite: type[Suite]) -> type[Suite]:
        for name in dir(suite):
            if name.startswith("test_") and not name.startswith(beginnings):
                setattr(suite, name, None)
        return suite

    return hide


class TestChatOpenAI(Suite):
    """As users of Model Studio configure it: a key and a base URL. Its structured output is a `json_schema`."""

    @property
    def chat_model_class(self) -> Any:
        return ChatOpenAI


@only("test_tool_calling", "test_tool_choice", "test_bind_runnables_as_tools", "test_unicode_tool_call_integration")
class TestKimiWithAny(TestChatOpenAI):
    """A tool that must be called, where the vendor allows to ask for any."""

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {**super().chat_model_params, "model": "kimi/kimi-k3"}


@only("test_structured_output")
class TestStructuredOutputByTool(TestChatOpenAI):
    """Structured output as older programs have it: a tool that must be called, by its name."""

    @property
    def structured_output_kwargs(self) -> dict[str, Any]:
        return {"method": "function_calling"}


class TestChatQwen(Suite):
    """The client that was written for Model Studio."""

    @property
    def chat_model_class(self) -> Any:
        return ChatQwen

    @property
    def chat_model_params(self) -> dict[str, Any]:
        params = super().chat_model_params
        return {**params, "api_base": params.pop("base_url")}
