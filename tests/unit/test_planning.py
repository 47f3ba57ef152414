"""What a chat call gets: refusals, what is ignored, what the catalogue fills in, lengths, names, thinking."""

import json
import re
from typing import Any

import msgspec
import pytest

from hanlin.catalogue.loading import load
from hanlin.catalogue.models import Catalogue, Model, Need, SamplingDefaults, SamplingGroup, Takes
from hanlin.engines.profiles import EngineProfile, profiles
from hanlin.errors import HanlinError, ModelNotFound, ModelNotSupported, UnsupportedHere
from hanlin.service.deployments import serving
from hanlin.service.planning import DEFAULT_SEED, REFUSALS, Plan, fill, ignored, plan
from hanlin.testing import ScriptedEngine
from hanlin.types import (
    ChatRequest,
    MediaPart,
    Message,
    Sampling,
    Served,
    Shape,
    TextPart,
    ThinkingAsked,
    Tool,
    ToolCall,
    ToolChoice,
)
from tests.values import catalogue_of, deployment, model, request

LLAMA = profiles().engine["llama"]
OPENAI = profiles().engine["openai"]


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


def planned(asked: ChatRequest, *models: Model, **fields: Any) -> Plan:
    """Plan a call to the one model `qwen-plus`, or to those given, on one deployment."""
    return plan(asked, catalogue_of(*(models or (model(),))), [deployment(ScriptedEngine(), **fields)])


def refused(asked: ChatRequest, *models: Model, **fields: Any) -> HanlinError:
    with pytest.raises(HanlinError) as problem:
        planned(asked, *models, **fields)
    return problem.value


def asking(**asks: object) -> ChatRequest:
    """Return a request that asks for capabilities by their wire names."""
    raw = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in asks.items()}
    return request(given=frozenset({"model", "messages", *asks}), asks=raw)


# --- what answers ----------------------------------------------------------------------------------------------------


def test_a_plan_says_what_answers_and_how_it_relates_to_the_name() -> None:
    """`model` echoes the name asked for; the rest states what ran, so that a stand-in is never taken for the name."""
    result = planned(request(model="qwen-plus-latest"), model(aliases=("qwen-plus-latest",)))

    assert result.answering.model == "qwen-plus-latest"
    assert (result.answering.deployment, result.answering.fingerprint) == ("small", "small@0123456789ab")
    assert result.answering.served is Served.STAND_IN
    assert result.model.name == "qwen-plus"


def test_an_unknown_model_is_not_found_and_the_remedy_follows_the_vendors_words() -> None:
    """Clients match on the vendor's sentence (spec §12); people read on."""
    problem = refused(request(model="gpt-5"))

    assert isinstance(problem, ModelNotFound)
    assert problem.message == (
        "The model `gpt-5` does not exist or you do not have access to it. `hanlin models` lists the names."
    )


def test_a_known_model_that_nothing_here_serves_says_what_to_do_about_it() -> None:
    """With published weights the remedy is a command."""
    with pytest.raises(ModelNotFound) as problem:
        plan(request(), catalogue_of(model(open_weights="Qwen/Qwen3-8B")), [])

    assert "Not served here: no deployment serves this name." in problem.value.message
    assert "Run `hanlin pull qwen-plus` and `hanlin serve --weights qwen-plus`" in problem.value.message


def test_a_model_of_another_endpoint_is_not_supported_on_this_one() -> None:
    """Spec §12: the vendor has words and a code of their own for it."""
    problem = refused(request(), model(endpoint="embeddings"))

    assert isinstance(problem, ModelNotSupported)
    assert problem.message.startswith("Unsupported model qwen-plus for OpenAI compatibility mode.")


def test_a_model_whose_callers_need_more_than_text_is_not_stood_in_for() -> None:
    """A text model in place of one that reads images would answer with inventions."""
    need = Need("image", "its callers send images", "其用户会发送图片")

    with pytest.raises(ModelNotFound, match="Not served here: its callers send images") as problem:
        plan(request(), catalogue_of(model(needs=("image",)), needs={"image": need}), [deployment(ScriptedEngine())])

    assert "`hanlin models` lists the names that are answered here" in problem.value.message


# --- thinking --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("switch", [None, False])
@pytest.mark.parametrize("thinking", ["none", "hybrid-default-off"])
def test_a_call_that_asks_for_no_thinking_gets_none(thinking: str, switch: bool | None) -> None:
    """Nothing is listed: nobody could miss anything."""
    result = planned(request(thinking_asked=ThinkingAsked(enable=switch)), model(thinking=thinking))

    assert not result.request.thinking.on
    assert result.answering.ignored == ()


def test_thinking_that_what_answers_cannot_do_is_refused_where_it_was_asked_for() -> None:
    """A server of which nobody knows how it is told to think would answer without a word about it."""
    problem = refused(
        request(thinking_asked=ThinkingAsked(enable=True)), model(thinking="hybrid-default-off"), profile=OPENAI
    )

    assert isinstance(problem, UnsupportedHere)
    assert problem.message == "qwen-plus is answered here by Small-0.5B Q4, which has no thinking"


def test_thinking_that_comes_by_default_is_listed_where_it_is_missing() -> None:
    """Its caller did not ask for it but relies on it: the header is the only way of telling."""
    result = planned(request(), model(thinking="hybrid-default-on"), profile=OPENAI)

    assert result.answering.ignored == ("enable_thinking",)
    assert not result.request.thinking.on


def test_thinking_that_had_to_be_asked_for_by_a_prompt_is_said() -> None:
    """What a model that never learned to think writes first is no reasoning of the name's."""
    thinks = planned(request(), model(thinking="only"), thinking="prompted")
    answers = planned(request(), model(), thinking="prompted")

    assert (thinks.answering.thinking, answers.answering.thinking) == ("prompted", "")


@pytest.mark.parametrize(
    ("covers", "budget", "whole"),
    [
        ("answer", None, None),
        ("all", None, 50),
        ("all", 20, 50),
        ("all-without-budget", None, 50),
        ("all-without-budget", 20, None),
    ],
)
def test_max_tokens_covers_thoughts_where_the_model_says_so(covers: Any, budget: int | None, whole: int | None) -> None:
    """Spec §3: for some models `max_tokens` caps reasoning and answer together."""
    asked = request(sampling=Sampling(max_tokens=50), thinking_asked=ThinkingAsked(budget_tokens=budget))

    result = planned(asked, model(thinking="only", max_tokens_covers=covers))

    assert result.request.sampling.max_completion_tokens == whole


@pytest.mark.parametrize(
    ("field", "value", "row", "profile", "listed"),
    [
        ("thinking_budget", 100, {"thinking": "only"}, LLAMA, False),
        ("thinking_budget", 100, {"thinking": "only"}, OPENAI, True),
        ("thinking_budget", 100, {"thinking": "none"}, LLAMA, True),
        ("reasoning_effort", "high", {"thinking": "only"}, LLAMA, True),
        ("preserve_thinking", True, {"thinking": "only"}, LLAMA, True),
        ("preserve_thinking", True, {"thinking": "only", "features": ("preserve_thinking",)}, LLAMA, False),
        ("clear_thinking", True, {"thinking": "only"}, LLAMA, True),
        ("clear_thinking", True, {"thinking": "only", "family": "glm"}, LLAMA, False),
        ("enable_thinking", True, {"thinking": "only"}, LLAMA, False),
    ],
)
def test_what_is_said_about_thinking_is_honoured_or_listed(
    field: str, value: object, row: dict[str, Any], profile: EngineProfile, listed: bool
) -> None:
    """Never dropped in silence (spec §5)."""
    names = {"thinking_budget": "budget_tokens", "reasoning_effort": "effort", "enable_thinking": "enable"}
    fields: dict[str, Any] = {names.get(field, field.removesuffix("_thinking")): value}
    said = ThinkingAsked(**fields)

    result = planned(request(given=frozenset({field}), thinking_asked=said), model(**row), profile=profile)

    assert (field in result.answering.ignored) is listed


# --- refusals --------------------------------------------------------------------------------------------------------

ASKED = {
    "functions": [{"name": "f"}],
    "enable_search": True,
    "modalities": ["text", "audio"],
    "audio": {"voice": "Cherry"},
    "translation_options": {"target_lang": "English"},
    "skill": [{"type": "ppt"}],
    "enable_code_interpreter": True,
}
UNASKED: dict[str, list[object]] = {
    "functions": [[]],
    "enable_search": [False],
    "modalities": [["text"]],
    "audio": [{}],
    "translation_options": [{}],
    "skill": [[]],
    "enable_code_interpreter": [False],
}


def test_every_capability_that_is_refused_is_asked_for_here() -> None:
    """A refusal without a test could say anything."""
    assert set(ASKED) == set(REFUSALS)


@pytest.mark.parametrize("name", sorted(ASKED))
def test_a_capability_that_nothing_here_has_is_refused_by_name(name: str) -> None:
    """Answering as if it had not been asked for would give the program wrong results without a word."""
    problem = refused(asking(**{name: ASKED[name]}))

    assert isinstance(problem, UnsupportedHere)
    assert (problem.status, problem.param) == (400, name)
    assert problem.message == REFUSALS[name].message.format(model="qwen-plus")


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in UNASKED.items() for value in values])
def test_a_capability_that_is_named_but_not_asked_for_is_neither_refused_nor_listed(name: str, value: object) -> None:
    """SDKs send defaults that ask for nothing."""
    assert planned(asking(**{name: value})).answering.ignored == ()


def test_the_vendors_sentence_for_search_is_kept() -> None:
    """Spec §12."""
    assert refused(asking(enable_search=True)).message == "This model does not support enable_search."


# --- tools, shapes, prefixes -----------------------------------------------------------------------------------------

TOOL = Tool("f", "Does it.", {"type": "object", "properties": {"a": {"type": "integer"}}})
CALLS: dict[str, Any] = {"features": ("function_calling",)}


def calling(mode: Any = "auto", **fields: Any) -> ChatRequest:
    return request(tools=(TOOL,), tool_choice=ToolChoice(mode, "f" if mode == "named" else ""), **fields)


@pytest.mark.parametrize(
    ("asked", "row", "words", "param"),
    [
        (calling(), {}, "The tool call is not supported.", "tools"),
        (
            calling("required"),
            CALLS,
            'tool_choice is one of the strings that should be ["none", "auto"]',
            "tool_choice",
        ),
        (
            calling("named"),
            {**CALLS, "thinking": "only"},
            "The tool_choice parameter does not support being set to required or object in thinking mode",
            "tool_choice",
        ),
        (calling(n=2), CALLS, "Range of n should be [1, 1] when tools are given", "n"),
    ],
)
def test_tools_are_refused_in_the_vendors_words(
    asked: ChatRequest, row: dict[str, Any], words: str, param: str
) -> None:
    """Spec §7 and §12."""
    problem = refused(asked, model(**row))

    assert (problem.message, problem.param) == (words, param)


def test_a_schema_that_is_none_is_refused_with_its_place() -> None:
    """Before any token is spent on it."""
    broken = Tool("f", "", {"type": "object", "properties": {"a": {"type": "strange"}}})

    problem = refused(request(tools=(broken,)), model(**CALLS))

    assert problem.param == "tools.0.function.parameters"
    assert "strange" in problem.message


@pytest.mark.parametrize("mode", ["auto", "named", "none"])
def test_tools_are_planned_as_they_were_asked_for(mode: str) -> None:
    """`none` needs no support: tools are ignored for this turn."""
    assert planned(calling(mode), model(**CALLS)).request.tool_choice.mode == mode
    assert planned(calling("none"), model()).answering.ignored == ()


def test_a_call_may_be_required_of_models_that_take_that() -> None:
    """Spec §3: kimi/kimi-k3 alone."""
    able = model(features=("function_calling",), tool_choices=("auto", "none", "required"), thinking="only")

    assert planned(calling("required"), able).request.tool_choice.mode == "required"


@pytest.mark.parametrize(
    ("takes", "sampling", "given", "words"),
    [
        (
            Takes(refused=("top_k",)),
            Sampling(top_k=3),
            "top_k",
            "Parameter 'top_k' is not supported for qwen-plus model.",
        ),
        (
            Takes(own_sampling=True),
            Sampling(temperature=0.2),
            "temperature",
            "Parameter 'temperature'=0.2 is not supported for qwen-plus model.",
        ),
        (Takes(temperature_max=1.5), Sampling(temperature=1.6), "temperature", "Temperature should be in [0.0, 1.5]"),
        (Takes(top_p_min=0.01), Sampling(top_p=0.001), "top_p", "Range of top_p should be [0.01, 1.0]"),
        (Takes(stops_max=1), Sampling(stop=("a", "b")), "stop", "'stop' holds 2 sequences, qwen-plus takes at most 1"),
    ],
)
def test_what_one_model_alone_refuses_is_refused(takes: Takes, sampling: Sampling, given: str, words: str) -> None:
    """Spec §3: partners' models that are served directly."""
    problem = refused(request(sampling=sampling, given=frozenset({given})), model(takes=takes))

    assert (problem.message, problem.param) == (words, given)


def test_what_one_model_passes_over_is_listed() -> None:
    """Spec §9: Kimi ignores the search that others refuse."""
    asked = asking(enable_search=True)

    assert planned(asked, model(takes=Takes(ignored=("enable_search",)))).answering.ignored == ("enable_search",)


def test_a_server_without_tools_says_so() -> None:
    """What answers is named, so that the operator knows where to look."""
    problem = refused(calling(), model(**CALLS), profile=EngineProfile(parameters={}))

    assert problem.message == "qwen-plus is answered here by Small-0.5B Q4, which has no tools"


def test_a_conversation_that_repeats_one_call_is_refused() -> None:
    """Spec §7: an agent that does not get on; ten times here, since the vendor names no number."""
    turn = (Message("assistant", "", (ToolCall("c", "f", "{}"),)), Message("tool", "no", tool_call_id="c"))

    def turns(count: int) -> ChatRequest:
        return request(messages=(Message("user", "go"), *(turn * count)), tools=(TOOL,))

    assert refused(turns(10), model(**CALLS)).message.startswith("Repetitive tool calls detected in the conversation")
    assert planned(turns(9), model(**CALLS)).request.tools


@pytest.mark.parametrize(
    ("row", "switch", "words"),
    [
        ({}, None, "partial mode is not supported by qwen-plus"),
        ({"features": ("partial_mode",), "thinking": "only"}, None, "not supported in thinking mode"),
        ({"features": ("partial_mode",), "thinking": "hybrid-default-off"}, True, "not supported in thinking mode"),
    ],
)
def test_a_prefix_is_refused_where_it_cannot_be_continued(row: dict[str, Any], switch: bool | None, words: str) -> None:
    """Spec §6: models that take one, and never while they think."""
    problem = refused(request(partial=True, thinking_asked=ThinkingAsked(enable=switch)), model(**row))

    assert words in problem.message


def test_a_prefix_switches_off_thinking_that_nobody_asked_for() -> None:
    """A caller who says nothing about thinking wants the prefix continued."""
    result = planned(request(partial=True), model(features=("partial_mode",), thinking="hybrid-default-on"))

    assert not result.request.thinking.on


def test_a_shape_cannot_hold_what_a_prefix_has_begun() -> None:
    """A grammar begins at the beginning; the caller is told that the rest is free."""
    asked = request(partial=True, shape=Shape("json_object"), given=frozenset({"response_format"}))

    assert planned(asked, model(features=("partial_mode",))).answering.ignored == ("response_format",)


@pytest.mark.parametrize(("rule", "error"), [("forbidden", True), ("ignored", False)])
def test_some_models_take_no_system_message(rule: Any, error: bool) -> None:
    """Spec §2.1: forbidden for some, without effect for others."""
    asked = request(messages=(Message("system", "be brief"), Message("user", "hi")))
    row = model(system_messages=rule)

    if error:
        assert refused(asked, row).message == "qwen-plus takes no system message"
    else:
        result = planned(asked, row)
        assert [message.role for message in result.request.messages] == ["user"]
        assert result.answering.ignored == ("messages.system",)


def test_media_are_refused_with_what_answers_here() -> None:
    """A text model would invent what is in the picture; the message says what runs and what to do."""
    parts = (
        TextPart("what is it?"),
        MediaPart("image", msgspec.Raw(b"{}")),
        MediaPart("audio", msgspec.Raw(b"{}")),
        MediaPart("image", msgspec.Raw(b"{}")),
    )

    problem = refused(request(messages=(Message("user", parts),)))

    assert problem.message == (
        "What answers for qwen-plus here reads text only, not audio or image: Small-0.5B Q4. Send text only"
    )
    assert problem.param == "messages"


# --- lengths ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "asked"), [(100, 1), (100, 100), (None, 1), (None, 10**6)])
def test_max_tokens_within_the_models_range_is_taken(limit: int | None, asked: int) -> None:
    """Both ends are inside."""
    result = planned(request(sampling=Sampling(max_tokens=asked)), model(max_output_tokens=limit))

    assert result.request.sampling.max_tokens == asked


@pytest.mark.parametrize(("limit", "asked", "high"), [(100, 0, 100), (100, 101, 100), (None, -1, 2**31 - 1)])
def test_max_tokens_outside_the_models_range_is_refused(limit: int | None, asked: int, high: int) -> None:
    """Spec §12: the upper end is the model's, and the message names it."""
    problem = refused(request(sampling=Sampling(max_tokens=asked)), model(max_output_tokens=limit))

    assert (problem.message, problem.param) == (f"Range of max_tokens should be [1, {high}]", "max_tokens")


def test_max_completion_tokens_is_at_least_one() -> None:
    """Spec §3."""
    assert refused(request(sampling=Sampling(max_completion_tokens=0))).param == "max_completion_tokens"
    assert planned(request(sampling=Sampling(max_completion_tokens=1))).request.sampling.max_completion_tokens == 1


# --- what the catalogue fills in -------------------------------------------------------------------------------------

PLAIN = EngineProfile(parameters={}, fills_max_tokens=True)
OWN = SamplingDefaults(temperature=0.7, top_p=0.8, top_k=20, presence_penalty=1.5, repetition_penalty=1.05)


def filled(
    sampling: Sampling, defaults: SamplingDefaults = OWN, profile: EngineProfile = PLAIN, **fields: Any
) -> Sampling:
    chosen = model(sampling="own", **fields)
    group = SamplingGroup("own", "https://example.org", plain=defaults, thinking=SamplingDefaults(temperature=9.0))
    return fill(request(sampling=sampling), chosen, catalogue_of(chosen, groups=(group,)), profile).sampling


def test_an_engine_that_means_something_else_has_its_own_default() -> None:
    """llama.cpp penalises the prompt as well: the vendor's default would mean something else there."""
    profile = EngineProfile(parameters={}, defaults={"presence_penalty": 0.0})

    left_open, given = filled(Sampling(), profile=profile), filled(Sampling(presence_penalty=1.0), profile=profile)

    assert (left_open.presence_penalty, given.presence_penalty) == (0.0, 1.0)


def test_what_the_caller_leaves_open_is_the_models_own() -> None:
    """Spec §3.1: each group of models has its values; the seed is 1234 (§3), the answer as long as the model allows."""
    assert filled(Sampling(), max_output_tokens=8192) == Sampling(
        temperature=0.7,
        top_p=0.8,
        top_k=20,
        presence_penalty=1.5,
        repetition_penalty=1.05,
        seed=DEFAULT_SEED,
        max_tokens=8192,
    )


def test_what_the_caller_says_is_kept_zeros_included() -> None:
    """Zero is a value, not an omission: temperature 0, top_k off, no penalty."""
    said = Sampling(
        temperature=0.0,
        top_p=0.1,
        top_k=0,
        presence_penalty=0.0,
        frequency_penalty=0.0,
        repetition_penalty=1.0,
        seed=0,
        max_tokens=5,
        stop=("x",),
        logit_bias=((1, 2.0),),
    )

    assert filled(said, max_output_tokens=8192) == said


@pytest.mark.parametrize(("asked", "sent"), [(0.0, 0.6), (0.6, 0.6), (0.9, 0.9), (None, 1.0)])
def test_a_temperature_below_the_models_floor_is_raised_to_it(asked: float | None, sent: float) -> None:
    """Spec §3.1: some groups raise lower values instead of refusing them."""
    floor = SamplingDefaults(temperature=1.0, temperature_floor=0.6)

    assert filled(Sampling(temperature=asked), floor).temperature == sent


def test_a_model_without_top_k_draws_from_all_tokens() -> None:
    """Left open, an engine would put in a default of its own."""
    assert filled(Sampling(), SamplingDefaults()).top_k == 0


def test_a_model_without_limits_leaves_the_length_to_the_engine() -> None:
    """Unknown is not zero."""
    assert filled(Sampling()).max_tokens is None


# --- what is ignored -------------------------------------------------------------------------------------------------

SENT = {
    "model",
    "messages",
    "stream",
    "stream_options",
    "n",
    "stop",
    "enable_thinking",
    "temperature",
    "top_p",
    "top_k",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "seed",
    "max_tokens",
    "max_completion_tokens",
    "logit_bias",
    "logprobs",
    "top_logprobs",
}
OURS = {"model", "messages", "stream", "stream_options", "n", "enable_thinking"}
LENGTHS = {"max_tokens", "max_completion_tokens"}


@pytest.mark.parametrize(
    ("profile", "listed"),
    [
        (LLAMA, ()),
        (OPENAI, ("repetition_penalty", "top_k")),
        (EngineProfile(parameters={"max_tokens": "max_new"}), tuple(sorted(SENT - OURS - LENGTHS))),
    ],
    ids=["llama", "openai", "lengths only"],
)
def test_what_an_engine_does_not_take_is_listed(profile: EngineProfile, listed: tuple[str, ...]) -> None:
    """The embedded engine takes everything of the contract; others say what they leave out."""
    asked = request(given=frozenset(SENT), logprobs=True)

    assert ignored(asked, model(), profile) == listed


def test_fields_that_nobody_knows_are_listed_not_refused() -> None:
    """Spec §3: unknown top-level fields are not known to be rejected. Sorted, so that two calls compare."""
    asked = request(given=frozenset({"model", "user", "metadata", "cache_control"}))

    assert ignored(asked, model(), LLAMA) == ("cache_control", "metadata", "user")


@pytest.mark.parametrize(("profile", "listed"), [(LLAMA, ()), (OPENAI, ("stop",))])
def test_stop_tokens_are_honoured_only_where_they_can_be_turned_into_text(
    profile: EngineProfile, listed: tuple[str, ...]
) -> None:
    """An engine that takes stop texts would never see them."""
    asked = request(given=frozenset({"stop"}), sampling=Sampling(stop_tokens=((1,),)))

    assert ignored(asked, model(), profile) == listed


# --- with the real catalogue -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load()


def test_every_name_of_the_catalogue_gets_a_plan_or_a_reason(catalogue: Catalogue) -> None:
    """No row may fail in a way that nobody planned for."""
    here = [deployment(ScriptedEngine())]
    answered = 0

    for name in catalogue.names():
        found = serving(catalogue.by_name[name], catalogue, here)
        if found.deployment is None:
            with pytest.raises((ModelNotFound, ModelNotSupported), match=re.escape(found.why)):
                plan(request(model=name), catalogue, here)
        else:
            answered += 1
            result = plan(request(model=name), catalogue, here)
            assert result.answering.model == name
            assert result.request.sampling.temperature is not None
            assert result.request.sampling.top_k is not None
    assert answered > 50


def test_a_server_that_may_think_all_the_same_is_said() -> None:
    """Our engine is told not to think; another server is not, and the caller must know."""
    asked = request(thinking_asked=ThinkingAsked(enable=False), given=frozenset({"enable_thinking"}))

    for_engine = ignored(asked, model(thinking="hybrid-default-on"), LLAMA)
    for_server = ignored(asked, model(thinking="hybrid-default-on"), OPENAI)

    assert (for_engine, for_server) == ((), ("enable_thinking",))


def test_a_server_is_sent_no_limit_that_the_caller_did_not_give() -> None:
    """A server with a smaller context would refuse the catalogue's."""
    profile = EngineProfile(parameters={"max_tokens": "max_tokens"})

    assert filled(Sampling(), profile=profile, max_output_tokens=8_192).max_tokens is None
