"""How a call thinks: the classes of models, switches, budgets, levels of effort, and what strict mode refuses."""

from typing import Any

import pytest

from hanlin.catalogue.loading import load
from hanlin.catalogue.models import Catalogue
from hanlin.errors import HanlinError
from hanlin.service.thinking import decide
from hanlin.types import ChatRequest, Message, Thinking, ThinkingAsked
from tests.values import request


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load()


def asking(
    name: str, *, content: str = "你好", stream: bool = False, partial: bool = False, **said: Any
) -> ChatRequest:
    return request(content, model=name, stream=stream, partial=partial, thinking_asked=ThinkingAsked(**said))


def decided(catalogue: Catalogue, asked: ChatRequest, *, strict: bool = False) -> Thinking:
    model = catalogue.find(asked.model)
    assert model is not None
    return decide(asked, model, catalogue, strict=strict)


def refused(catalogue: Catalogue, asked: ChatRequest, *, strict: bool = False) -> HanlinError:
    with pytest.raises(HanlinError) as problem:
        decided(catalogue, asked, strict=strict)
    return problem.value


@pytest.mark.parametrize(
    ("name", "enable", "on"),
    [
        ("qwen-max", None, False),
        ("qwen-max", False, False),
        ("qwen-plus", None, False),
        ("qwen-plus", True, True),
        ("qwen3.7-plus", None, True),
        ("qwen3.7-plus", False, False),
        ("kimi-k2.6", None, False),
        ("kimi/kimi-k2.6", None, True),
        ("qwq-plus", None, True),
        ("qwq-plus", True, True),
        ("deepseek-r1", None, True),
    ],
)
def test_each_class_of_models_thinks_as_it_is_told(
    catalogue: Catalogue, name: str, enable: bool | None, on: bool
) -> None:
    """Spec §5.1: off, on and only; the same id may differ by host."""
    assert decided(catalogue, asking(name, enable=enable)).on is on


def test_what_a_class_forbids_is_refused(catalogue: Catalogue) -> None:
    """Spec §5.2, in the vendor's words."""
    never = refused(catalogue, asking("qwen-max", enable=True))
    always = refused(catalogue, asking("qwq-plus", enable=False))

    assert (never.code, never.message) == (
        "InvalidParameter.NotSupportEnableThinking",
        "The model qwen-max does not support enable_thinking.",
    )
    assert always.message == "The value of the enable_thinking parameter is restricted to True."


@pytest.mark.parametrize(("mode", "on"), [("adaptive", True), ("enabled", True), ("disabled", False)])
def test_minimaxs_switch_works_on_every_hybrid(catalogue: Catalogue, mode: str, on: bool) -> None:
    """Clients of other vendors send it too; following it breaks nobody. `enable_thinking` says it more plainly."""
    assert decided(catalogue, asking("MiniMax/MiniMax-M3", mode=mode)).on is on
    assert decided(catalogue, asking("qwen-plus", mode=mode)).on is on
    assert decided(catalogue, asking("qwen-plus", mode=mode, enable=not on)).on is not on


@pytest.mark.parametrize(
    ("content", "on"),
    [("你好 /no_think", False), ("你好 /think", True), ("a /no_think b", True), ("/no_think", False), ("你好", True)],
)
def test_words_at_the_end_of_a_message_switch_open_hybrids(catalogue: Catalogue, content: str, on: bool) -> None:
    """Spec §5.2."""
    assert decided(catalogue, asking("qwen3-8b", content=content)).on is on
    assert decided(catalogue, asking("qwen3.7-plus", content=content)).on


def test_the_latest_of_those_words_wins(catalogue: Catalogue) -> None:
    """Spec §5.2; what the assistant wrote does not count."""
    messages = (
        Message("system", "/no_think"),
        Message("user", "hi /think"),
        Message("assistant", "/no_think"),
        Message("user", "go on"),
    )

    assert decided(catalogue, request(model="qwen3-8b", messages=messages)).on


@pytest.mark.parametrize("budget", [1, 38_912])
def test_a_budget_within_the_models_range_is_taken(catalogue: Catalogue, budget: int) -> None:
    assert decided(catalogue, asking("qwen3-8b", budget_tokens=budget)).budget_tokens == budget


@pytest.mark.parametrize(("name", "budget"), [("qwen3-8b", 0), ("qwen3-8b", 38_913), ("qwen-plus", -1)])
def test_a_budget_outside_it_is_refused_with_the_range(catalogue: Catalogue, name: str, budget: int) -> None:
    """Spec §12, also where the call does not think."""
    model = catalogue.models[name]

    assert refused(catalogue, asking(name, budget_tokens=budget)).message == (
        f"The thinking_budget parameter must be a positive integer and not greater than {model.max_reasoning_tokens}"
    )


def test_a_budget_of_a_model_whose_range_is_unknown_has_no_upper_end(catalogue: Catalogue) -> None:
    assert decided(catalogue, asking("deepseek-v4-pro", budget_tokens=10**9)).budget_tokens == 10**9
    assert refused(catalogue, asking("deepseek-v4-pro", budget_tokens=0)).message == (
        "The thinking_budget parameter must be a positive integer"
    )


@pytest.mark.parametrize(
    ("name", "effort", "thinking"),
    [
        ("qwen3.8-max", None, Thinking(True, 131_072, "", history=True)),
        ("qwen3.8-max", "max", Thinking(True, 262_144, "xhigh", history=True)),
        ("qwen3.8-max", "minimal", Thinking(True, 4_096, "low", history=True)),
        ("qwen3.8-max", "none", Thinking(False, history=True)),
        ("glm-5.3", "low", Thinking(True, None, "low")),
        ("deepseek-v4.1-flash", "medium", Thinking(True, None, "high")),
        ("qwen-plus", "whatever", Thinking(False)),
    ],
)
def test_words_for_effort_become_a_level_and_a_budget(
    catalogue: Catalogue, name: str, effort: str | None, thinking: Thinking
) -> None:
    """Spec §5.3; a model without levels ignores the word, and its caller is told."""
    assert decided(catalogue, asking(name, effort=effort)) == thinking


def test_other_words_for_effort_are_refused_with_those_that_there_are(catalogue: Catalogue) -> None:
    """Spec §5.3: 400."""
    problem = refused(catalogue, asking("kimi/kimi-k3", effort="low"))

    assert (problem.message, problem.param) == (
        "reasoning_effort must be one of ['max'], got 'low'",
        "reasoning_effort",
    )


def test_a_level_and_a_budget_exclude_each_other_on_qwen38(catalogue: Catalogue) -> None:
    """Spec §5.3; elsewhere both may be given, and the budget is the more exact."""
    both: dict[str, Any] = {"effort": "low", "budget_tokens": 100}

    assert refused(catalogue, asking("qwen3.8-max", **both)).param == "reasoning_effort"
    assert decided(catalogue, asking("glm-5.2", effort="max", budget_tokens=100)).budget_tokens == 100


@pytest.mark.parametrize(
    ("name", "said", "history"),
    [
        ("qwen3.8-max", {}, True),
        ("qwen3.8-max", {"preserve": False}, False),
        ("qwen3.7-plus", {}, False),
        ("qwen3.7-plus", {"preserve": True}, True),
        ("qwen-plus", {"preserve": True}, False),
        ("glm-5.2", {}, True),
        ("glm-5.2", {"clear": True}, False),
        ("glm-5.3", {"clear": False}, True),
        ("qwen3.7-plus", {"clear": False}, False),
    ],
)
def test_reasoning_of_earlier_turns_is_read_where_the_model_can_and_the_caller_wants(
    catalogue: Catalogue, name: str, said: dict[str, Any], history: bool
) -> None:
    """Spec §5.4 and §3."""
    assert decided(catalogue, asking(name, **said)).history is history


def test_a_prefix_is_continued_without_thoughts_unless_they_were_asked_for(catalogue: Catalogue) -> None:
    """Spec §6; what then contradicts itself is refused by `planning`."""
    assert not decided(catalogue, asking("qwen3.7-plus", partial=True)).on
    assert decided(catalogue, asking("qwen3.7-plus", partial=True, enable=True)).on


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("qwen3-8b", "parameter.enable_thinking must be set to false for non-streaming calls"),
        ("qwq-plus", "This model only support stream mode, please enable the stream parameter to access the model."),
    ],
)
def test_only_strict_mode_refuses_what_lacks_nothing_but_streaming(catalogue: Catalogue, name: str, words: str) -> None:
    """Nine client projects stumbled over these two refusals; whoever tests against the vendor can have them."""
    assert decided(catalogue, asking(name)).on
    assert refused(catalogue, asking(name), strict=True).message == words
    assert decided(catalogue, asking(name, stream=True), strict=True).on
    assert not decided(catalogue, asking("qwen3-8b", enable=False), strict=True).on
