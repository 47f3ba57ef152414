"""The OpenAI chat dialect: what it reads, what it refuses and in which words, and what it writes (spec/chat.md)."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanlin.dialects import openai_chat
from hanlin.dialects.compatible.errors import error as error_body
from hanlin.dialects.compatible.fields import NUMBERS
from hanlin.errors import (
    BodyTooLarge,
    EngineUnavailable,
    HanlinError,
    InvalidApiKey,
    InvalidRequest,
    InvalidValue,
    LastMessageNotUser,
    MalformedBody,
    MissingModel,
)
from hanlin.types import (
    ChatRequest,
    ChatResult,
    Choice,
    Event,
    MediaPart,
    Message,
    Sampling,
    Shape,
    TextPart,
    ThinkingAsked,
    TokenLogprob,
    Tool,
    ToolCall,
    ToolCallPiece,
    ToolChoice,
    TopLogprob,
    Usage,
    fold,
)
from tests.values import ANSWERING

USER = {"role": "user", "content": "hi"}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}


def parse(**fields: Any) -> ChatRequest:
    """Read a body with a model and one message, unless `fields` say otherwise."""
    return openai_chat.parse(json.dumps({"model": "qwen-plus", "messages": [USER], **fields}).encode())


def refusal(**fields: Any) -> HanlinError:
    with pytest.raises(HanlinError) as refused:
        parse(**fields)
    return refused.value


# --- numbers ---------------------------------------------------------------------------------------------------------

BOUNDS: list[tuple[str, list[float], list[float], str]] = [
    # parameter, values that are taken, values that are refused, the vendor's words (spec §12)
    ("temperature", [0, 0.0, 1.999, 1], [-0.001, 2, 2.0, 10**400], "Temperature should be in [0.0, 2.0)"),
    ("top_p", [1e-9, 0.5, 1, 1.0], [0, -1, 1.001], "Range of top_p should be (0.0, 1.0]"),
    ("top_k", [0, 1, 100], [-1], "Parameter top_k be greater than or equal to 0"),
    ("presence_penalty", [-2, 0, 2.0], [-2.01, 2.01], "Presence_penalty should be in [-2.0, 2.0]"),
    ("frequency_penalty", [-2, 0, 2.0], [-2.01, 2.01], "Frequency_penalty should be in [-2.0, 2.0]"),
    ("repetition_penalty", [0.001, 1, 50], [0, -1, 10**400], "Repetition_penalty should be greater than 0.0"),
    ("n", [1, 4, 2.0], [0, 5], "Range of n should be [1, 4]"),
    ("top_logprobs", [0, 5], [-1, 6], "Range of top_logprobs should be [0, 5]"),
]


def read_back(request: ChatRequest, name: str) -> object:
    return getattr(request if name in ("n", "top_logprobs") else request.sampling, name)


def test_every_number_of_the_contract_has_its_row_here() -> None:
    """A parameter that is added without its bounds being tested would go unnoticed."""
    ranged_by_the_model = {"max_tokens", "max_completion_tokens", "thinking_budget"}

    assert {name for name, *_ in BOUNDS} | ranged_by_the_model == set(NUMBERS)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, taken, *_ in BOUNDS for value in taken])
def test_a_number_within_its_bounds_is_taken(name: str, value: float) -> None:
    """Both ends as the contract has them: closed ends are inside."""
    assert read_back(parse(logprobs=True, **{name: value}), name) == value


@pytest.mark.parametrize(
    ("name", "value", "words"), [(name, value, words) for name, _, refused, words in BOUNDS for value in refused]
)
def test_a_number_outside_its_bounds_is_refused_in_the_vendors_words(name: str, value: float, words: str) -> None:
    """Programs match on these texts, so they are the vendor's to the letter; `param` names the field."""
    problem = refusal(logprobs=True, **{name: value})

    assert (problem.message, problem.code, problem.status, problem.param) == (
        words,
        "invalid_parameter_error",
        400,
        name,
    )


@pytest.mark.parametrize("value", ["1", True, [1], {}])
@pytest.mark.parametrize("name", sorted(NUMBERS))
def test_a_number_of_another_type_is_refused_by_its_type(name: str, value: object) -> None:
    """Texts that look like numbers are no numbers on this wire, and JSON's true is not 1."""
    problem = refusal(**{name: value})

    wanted = "Float" if name in {"temperature", "top_p"} or name.endswith("penalty") else "Integer"
    assert problem.message == f"'{name}' must be {wanted}"
    assert problem.param == name


@pytest.mark.parametrize("name", ["top_k", "n", "top_logprobs", "max_tokens", "max_completion_tokens"])
def test_a_whole_number_may_be_written_with_a_point_but_not_with_a_fraction(name: str) -> None:
    """Some JSON writers turn 2 into 2.0; 2.5 choices are a mistake."""
    read = read_back(parse(logprobs=True, **{name: 2.0}), name)

    assert (read, type(read)) == (2, int)
    assert refusal(logprobs=True, **{name: 2.5}).message == f"'{name}' must be Integer"


@pytest.mark.parametrize("name", sorted(set(NUMBERS) - {"n", "top_logprobs", "top_k", "thinking_budget"}))
def test_a_null_number_is_as_if_it_had_not_been_sent(name: str) -> None:
    """SDKs write null for what their caller left out: the model's own value holds then."""
    request = parse(**{name: None})

    assert read_back(request, name) is None
    assert name not in request.given


@pytest.mark.parametrize("value", [None, 101, 10**30])
def test_top_k_is_off_when_null_or_above_100(value: int | None) -> None:
    """Spec §3: null or above 100 switches it off; 0 is our word for off, None would mean the model's own value."""
    assert parse(top_k=value).sampling.top_k == 0
    assert parse().sampling.top_k is None


@pytest.mark.parametrize("value", [-5, 0, 10**9])
def test_the_range_of_max_tokens_is_left_to_the_model(value: int) -> None:
    """Its upper end is a fact of the catalogue, which a dialect does not know."""
    assert parse(max_tokens=value).sampling.max_tokens == value
    assert parse(max_completion_tokens=value).sampling.max_completion_tokens == value


# --- seed, stop, logit_bias ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1234, 2**31 - 1])
def test_a_seed_is_taken_from_0_to_2_31_minus_1(seed: int) -> None:
    """Spec §3: the compatible surface has the smaller range."""
    assert parse(seed=seed).sampling.seed == seed


@pytest.mark.parametrize(
    ("seed", "words"),
    [
        (-1, "-1 is lesser than the minimum of 0 - 'seed'"),
        (2**31, "2147483648 is greater than the maximum of 2147483647 - 'seed'"),
        (1.0, "'seed' must be Integer"),
        ("1", "'seed' must be Integer"),
        (True, "'seed' must be Integer"),
    ],
)
def test_a_seed_out_of_range_has_a_code_of_its_own(seed: object, words: str) -> None:
    """Spec §12: `invalid_value`, and no other parameter has it."""
    problem = refusal(seed=seed)

    assert isinstance(problem, InvalidValue)
    assert (problem.message, problem.code, problem.type) == (words, "invalid_value", "invalid_request_error")


@pytest.mark.parametrize(
    ("stop", "texts", "tokens"),
    [
        (None, (), ()),
        ("END", ("END",), ()),
        ("", (), ()),
        ([], (), ()),
        (["a", "", "b"], ("a", "b"), ()),
        ([1, 2], (), ((1,), (2,))),
        ([[1, 2], [3], []], (), ((1, 2), (3,))),
    ],
)
def test_stop_is_a_text_texts_tokens_or_sequences_of_tokens(
    stop: object, texts: tuple[str, ...], tokens: tuple[tuple[int, ...], ...]
) -> None:
    """Spec §3: four forms. An empty text or sequence would stop at once, so it says nothing."""
    sampling = parse(stop=stop).sampling

    assert (sampling.stop, sampling.stop_tokens) == (texts, tokens)


@pytest.mark.parametrize("stop", [5, True, {"a": 1}, ["a", 1], [1, "a"], [[1], "a"], [["a"]], [True], [-1], [2**31]])
def test_a_stop_of_mixed_or_other_types_is_refused(stop: object) -> None:
    """Spec §12 gives the sentence."""
    problem = refusal(stop=stop)

    assert problem.param == "stop"
    assert problem.message == (
        'The "stop" parameter must be of type "str", "list[str]", "list[int]", or "list[list[int]]", '
        "and all elements within the list must be of the same type."
    )


def test_logit_bias_maps_token_ids_to_biases() -> None:
    """OpenAI's form; the keys of a JSON object are texts."""
    assert parse(logit_bias={"1": -100, "22": 1.5}).sampling.logit_bias == ((1, -100.0), (22, 1.5))
    assert parse(logit_bias=None).sampling.logit_bias == ()


@pytest.mark.parametrize(
    "bias", [[], "x", {"a": 1}, {"-1": 1}, {"²": 1}, {"1": 101}, {"1": "1"}, {"1": True}, {"9" * 5000: 1}]
)
def test_any_other_logit_bias_is_refused(bias: object) -> None:
    """Also ids that are digits to Unicode only, and numbers that Python would refuse to read."""
    problem = refusal(logit_bias=bias)

    assert (problem.message, problem.param) == (
        "'logit_bias' must map at most 1024 token ids to numbers in [-100, 100]",
        "logit_bias",
    )


# --- switches --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["stream", "logprobs", "enable_thinking"])
@pytest.mark.parametrize("value", [1, 0, "true", []])
def test_a_switch_takes_only_true_and_false(name: str, value: object) -> None:
    """Guessing what "false" means would turn it on."""
    problem = refusal(**{name: value})

    assert (problem.message, problem.param) == (f"'{name}' must be Boolean", name)


def test_thinking_left_out_differs_from_thinking_switched_off() -> None:
    """Some models think unless told otherwise, so the difference must survive."""
    asked = [parse(enable_thinking=value).thinking_asked.enable for value in (True, False, None)]

    assert asked == [True, False, None]


def test_top_logprobs_needs_logprobs() -> None:
    """Spec §3. Zero asks for nothing and needs nothing."""
    problem = refusal(top_logprobs=1)

    assert (problem.message, problem.param) == ("top_logprobs needs logprobs to be true", "top_logprobs")
    assert parse(top_logprobs=0).top_logprobs == 0
    assert parse(top_logprobs=3, logprobs=True).top_logprobs == 3


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (None, False),
        ({}, False),
        ({"include_usage": False}, False),
        ({"include_usage": None}, False),
        ({"include_usage": True}, True),
        ({"include_usage": True, "other": 1}, True),
    ],
)
def test_the_usage_of_a_stream_comes_when_asked_for(options: object, wanted: bool) -> None:
    """Spec §3: `stream_options.include_usage`."""
    assert parse(stream=True, stream_options=options).include_usage is wanted


@pytest.mark.parametrize("options", [[], "x", {"include_usage": 1}, {"include_usage": "true"}])
def test_other_stream_options_are_refused(options: object) -> None:
    """A mistyped switch must not be taken for "no"."""
    problem = refusal(stream=True, stream_options=options)

    assert problem.message == "'stream_options' must be an object with a Boolean include_usage"


@pytest.mark.parametrize("stream", [False, None])
def test_stream_options_without_a_stream_are_refused(stream: bool | None) -> None:
    """Spec §3: not allowed."""
    problem = refusal(stream=stream, stream_options={"include_usage": True})

    assert problem.message == "The 'stream_options' parameter is only allowed when 'stream' is true"
    assert problem.param == "stream_options"


# --- messages --------------------------------------------------------------------------------------------------------

CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "42"}
TOOL_ORDER = 'messages with role "tool" must be a response to a preceeding message with "tool_calls"'
NO_CONTENT = "The content field is a required field."


@pytest.mark.parametrize(
    ("messages", "words", "param"),
    [
        (None, 'Either "prompt" or "messages" must exist and cannot both be none', "messages"),
        ("hi", "'messages' must be Array", "messages"),
        ({}, "'messages' must be Array", "messages"),
        ([], "[] is too short - 'messages'", "messages"),
        (["hi"], "Input should be a valid dictionary or instance of GPT3Message", "messages.0"),
        ([USER, 1], "Input should be a valid dictionary or instance of GPT3Message", "messages.1"),
        (
            [{"role": "bot", "content": "x"}],
            "'bot' is not one of ['system', 'user', 'assistant', 'tool'] - 'messages.0.role'",
            "messages.0.role",
        ),
        (
            [{"content": "x"}],
            "None is not one of ['system', 'user', 'assistant', 'tool'] - 'messages.0.role'",
            "messages.0.role",
        ),
        (
            [{"role": ["user"], "content": "x"}],
            "['user'] is not one of ['system', 'user', 'assistant', 'tool'] - 'messages.0.role'",
            "messages.0.role",
        ),
        ([{"role": "user"}], NO_CONTENT, "messages.0.content"),
        ([{"role": "user", "content": None}], NO_CONTENT, "messages.0.content"),
        ([{"role": "user", "content": []}], NO_CONTENT, "messages.0.content"),
        ([USER, {"role": "assistant", "content": None}, USER], NO_CONTENT, "messages.1.content"),
        ([{"role": "user", "content": 5}], "input content must be a string.", "messages.0.content"),
        ([{"role": "user", "content": {"type": "text"}}], "input content must be a string.", "messages.0.content"),
        (
            [{"role": "user", "content": [{"type": "file"}]}],
            "'file' is not a valid type of content part, or its fields are missing",
            "messages.0.content",
        ),
        (
            [{"role": "user", "content": [{"type": "text"}]}],
            "'text' is not a valid type of content part, or its fields are missing",
            "messages.0.content",
        ),
        (
            [{"role": "user", "content": ["hi"]}],
            "None is not a valid type of content part, or its fields are missing",
            "messages.0.content",
        ),
        (
            [{"role": "system", "content": "x"}],
            "The input messages do not contain elements with the role of user.",
            "messages",
        ),
        ([USER, RESULT], TOOL_ORDER, "messages.1.role"),
        ([RESULT, USER], TOOL_ORDER, "messages.0.role"),
        ([RESULT, USER, CALLING], TOOL_ORDER, "messages.0.role"),
        ([USER, {"role": "assistant", "content": "x"}, RESULT], TOOL_ORDER, "messages.2.role"),
    ],
)
def test_messages_that_are_none_are_refused_in_the_vendors_words(messages: object, words: str, param: str) -> None:
    """Spec §12; `param` leads to the message at fault."""
    problem = refusal(messages=messages)

    assert isinstance(problem, InvalidRequest)
    assert (problem.message, problem.param) == (words, param)


def test_a_conversation_that_ends_with_the_assistant_gets_the_vendors_500() -> None:
    """Spec §12 has it as an internal error; clients must not repeat it, so they are told outright."""
    problem = refusal(messages=[USER, {"role": "assistant", "content": "hello"}])

    assert isinstance(problem, LastMessageNotUser)
    assert problem.message.startswith("list index out of range")
    assert (problem.status, problem.code, problem.should_retry) == (500, "internal_error", False)


@pytest.mark.parametrize(
    ("role", "read"),
    [("system", "system"), ("developer", "system"), ("user", "user"), ("assistant", "assistant")],
)
def test_roles_are_read_and_developer_means_system(role: str, read: str) -> None:
    """OpenAI's newer SDKs write `developer` (spec §2.1)."""
    request = parse(messages=[{"role": role, "content": "x"}, USER])

    assert [message.role for message in request.messages] == [read, "user"]


def test_text_may_come_in_parts() -> None:
    """Spec §2.2: arrays of text parts are taken from every model."""
    (message,) = parse(
        messages=[{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": ""}]}]
    ).messages

    assert message.content == (TextPart("a"), TextPart(""))
    assert message.text == "a"


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        (PICTURE, "image"),
        ({"type": "image", "image": "https://example.org/a.png"}, "image"),
        ({"type": "video_url", "video_url": {"url": "https://example.org/a.mp4"}, "fps": 2}, "video"),
        ({"type": "video", "video": ["https://example.org/1.png"]}, "video"),
        ({"type": "input_audio", "input_audio": {"data": "data:;base64,AA==", "format": "wav"}}, "audio"),
    ],
)
def test_media_are_kept_as_they_were_sent(part: dict[str, Any], kind: str) -> None:
    """Whether media can be read is decided by what answers; until then no field of theirs may get lost."""
    (message,) = parse(messages=[{"role": "user", "content": [part, {"type": "text", "text": "what is it?"}]}]).messages

    (media,) = message.media
    assert isinstance(media, MediaPart)
    assert (media.kind, json.loads(bytes(media.raw))) == (kind, part)
    assert message.text == "what is it?"


MARKED = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}


@pytest.mark.parametrize(
    ("message", "mark"),
    [
        ({"role": "user", "content": [MARKED]}, "cache_control"),
        ({"role": "user", "content": "x", "name": "me"}, "messages.name"),
        ({"role": "user", "content": "x", "refusal": "no"}, "messages.refusal"),
    ],
)
def test_what_a_message_carries_and_nobody_reads_is_marked_like_a_parameter(message: Any, mark: str) -> None:
    """So that it is listed, and never dropped silently."""
    assert mark in parse(messages=[message]).given


def test_a_cache_marker_of_another_type_is_refused() -> None:
    """Spec §10 knows one."""
    part = {"type": "text", "text": "x", "cache_control": {"type": "for-ever"}}

    assert (
        refusal(messages=[{"role": "user", "content": [part]}]).message == "cache_control must be {'type': 'ephemeral'}"
    )


def test_an_answer_that_is_sent_back_as_it_came_is_read_without_a_mark() -> None:
    """SDKs dump the whole message object: its empty fields say nothing, calls and reasoning are kept."""
    echo = {
        **CALLING,
        "reasoning_content": "hm",
        "refusal": None,
        "annotations": [],
        "audio": None,
        "function_call": None,
    }

    request = parse(messages=[USER, echo, RESULT])

    assert request.given == {"model", "messages"}
    assert request.messages[1] == Message("assistant", "", (ToolCall("call_1", "f", "{}"),), reasoning="hm")
    assert request.messages[2] == Message("tool", "42", tool_call_id="call_1")


# --- prefixes, tools, shapes, thinking -------------------------------------------------------------------------------


def test_a_prefix_is_the_last_message_and_the_assistants() -> None:
    """Spec §6."""
    prefix = {"role": "assistant", "content": "def f():", "partial": True}

    assert parse(messages=[USER, prefix]).partial
    for messages in ([prefix, USER], [{**USER, "partial": True}]):
        assert refusal(messages=messages).message == (
            "partial is only allowed in the last message, and that must be from the assistant"
        )
    assert refusal(messages=[USER, {**prefix, "partial": 1}]).message == "'partial' must be Boolean"


TOOL = {"type": "function", "function": {"name": "f", "description": "Does it.", "parameters": {"type": "object"}}}
FORMAT = "Unknown format of response_format, response_format should be a dict"


def tool(**function: Any) -> list[Any]:
    return [{"type": "function", "function": {"name": "f", **function}}]


def test_tools_are_read_with_what_they_leave_out() -> None:
    """Spec §7: parameters default to {}; the vendor's own documentation leaves descriptions out too."""
    request = parse(tools=[TOOL, {"type": "function", "function": {"name": "g"}}], parallel_tool_calls=True)

    assert request.tools == (Tool("f", "Does it.", {"type": "object"}), Tool("g"))
    assert (request.tool_choice, request.parallel_tool_calls) == (ToolChoice("auto"), True)
    assert parse().parallel_tool_calls is False


@pytest.mark.parametrize(
    ("tools", "words", "param"),
    [
        ("f", "'tools' must be Array", "tools"),
        (["f"], "A tool must be", "tools.0"),
        ([{"type": "web"}], "'web' is not one of ['function']", "tools.0.type"),
        ([{"type": "function"}], "A tool must be", "tools.0.function"),
        (tool(name="a b"), "'a b' is no name of a tool", "tools.0.function.name"),
        (tool(name="x" * 65), "is no name of a tool", "tools.0.function.name"),
        (tool(name="search"), "Tool names are not allowed to be [search]", "tools.0.function.name"),
        (tool(description=1), "'description' must be String", "tools.0.function.description"),
        (tool(parameters=[]), "'parameters' must be a JSON Schema object", "tools.0.function.parameters"),
        ([TOOL, TOOL], "There are two tools of the name 'f'", "tools.1.function.name"),
        ([TOOL] * 1025, "at most 1024 are taken", "tools"),
    ],
)
def test_tools_that_are_none_are_refused_with_their_place(tools: Any, words: str, param: str) -> None:
    """Spec §7."""
    problem = refusal(tools=tools)

    assert words in problem.message
    assert problem.param == param


@pytest.mark.parametrize(
    ("choice", "read"),
    [
        (None, ToolChoice("auto")),
        ("auto", ToolChoice("auto")),
        ("none", ToolChoice("none")),
        ("required", ToolChoice("required")),
        ({"type": "function", "function": {"name": "f"}}, ToolChoice("named", "f")),
    ],
)
def test_a_choice_of_tools_is_read(choice: Any, read: ToolChoice) -> None:
    """Whether a model takes `required` is not the dialect's to say."""
    assert parse(tools=[TOOL], tool_choice=choice).tool_choice == read


@pytest.mark.parametrize("choice", ["any", 1, {}, {"type": "function"}, {"type": "tool", "function": {"name": "f"}}])
def test_other_choices_are_refused_in_the_vendors_words(choice: Any) -> None:
    """Spec §12."""
    problem = refusal(tools=[TOOL], tool_choice=choice)

    assert problem.message == 'tool_choice is one of the strings that should be ["none", "auto"]'


def test_a_choice_must_be_among_the_tools() -> None:
    """Nothing could be called otherwise."""
    problem = refusal(tools=[TOOL], tool_choice={"type": "function", "function": {"name": "g"}})

    assert problem.message == "tool_choice names 'g', which is not among the tools"


def test_shapes_of_answers_are_read() -> None:
    """Spec §8: an object needs the word in the prompt, a schema does not."""
    json_user = {"role": "user", "content": "as JSON, please"}
    schema = {"type": "object", "properties": {}}

    assert parse(response_format={"type": "text"}).shape is None
    assert parse(messages=[json_user], response_format={"type": "json_object"}).shape == Shape("json_object")
    assert parse(
        response_format={"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": schema}}
    ).shape == Shape("json_schema", "n", schema)


@pytest.mark.parametrize("said", [[USER], [USER, {"role": "assistant", "content": "json"}, USER]])
def test_an_object_without_the_word_is_refused(said: list[Any]) -> None:
    """Spec §8.1: in a system or user message; what the assistant said does not count."""
    problem = refusal(messages=said, response_format={"type": "json_object"})

    assert problem.message == (
        "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'."
    )


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ("json", FORMAT),
        ({}, FORMAT),
        ({"type": "xml"}, FORMAT),
        ({"type": "json_schema"}, "needs json_schema: {'name', 'schema'}"),
        ({"type": "json_schema", "json_schema": {"name": "n", "schema": True}}, "needs json_schema"),
    ],
)
def test_other_shapes_are_refused(form: Any, words: str) -> None:
    """Spec §8 and §12."""
    assert words in refusal(response_format=form).message


def test_everything_that_is_said_about_thinking_is_read() -> None:
    """Spec §5; what it comes to depends on the model."""
    request = parse(
        enable_thinking=True,
        thinking_budget=50,
        reasoning_effort="low",
        thinking={"type": "disabled"},
        preserve_thinking=True,
        clear_thinking=False,
    )

    assert request.thinking_asked == ThinkingAsked(True, 50, "low", "disabled", True, False)


@pytest.mark.parametrize(
    ("name", "value"),
    [("thinking", "on"), ("thinking", {"type": "deep"}), ("reasoning_effort", 3), ("clear_thinking", 1)],
)
def test_what_says_nothing_about_thinking_is_refused(name: str, value: Any) -> None:
    """Guessing would think, or not, against the caller's wish."""
    assert refusal(**{name: value}).param == name


def test_several_tool_results_may_follow_one_message_of_calls() -> None:
    """Parallel calls: one `tool` message a call. The calling message may have no content."""
    request = parse(messages=[USER, CALLING, RESULT, RESULT, USER])

    assert [message.role for message in request.messages] == ["user", "assistant", "tool", "tool", "user"]
    assert request.messages[1].text == ""


@pytest.mark.parametrize("fields", [{"tool_calls": []}, {"tool_calls": None}, {"partial": False}])
def test_a_mark_that_asks_for_nothing_is_none(fields: dict[str, Any]) -> None:
    """SDKs echo empty fields of earlier answers."""
    request = parse(messages=[USER, {"role": "assistant", "content": "x", **fields}, USER])

    assert request.given == {"model", "messages"}


def test_a_field_of_a_message_that_nobody_reads_is_listed_and_not_asked_for() -> None:
    """A name or a refusal may matter to its caller: it must not vanish without a word."""
    request = parse(messages=[{"role": "user", "content": "x", "name": "Li", "weight": None, "reasoning_content": "y"}])

    assert request.given == {"model", "messages", "messages.name"}
    assert request.asks == {}


# --- the body as a whole ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"[]",
        b"null",
        b'"text"',
        b'{"model":"m"',
        b'{"model":"m","messages":[]} trailing',
        b"\xff\xfe",
        b"\xef\xbb\xbf{}",
        b'{"model":"\xff","messages":[]}',
        b'{"model":"m","messages":[{"role":"user","content":"\xc3("}]}',
        b'{"model":"m","messages":[{"role":"user","content":"x"}],"user":"\xff"}',
        b'{"model":"m","messages":[{"role":"user","content":"\\ud800"}]}',
        b'{"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":1e999}',
        b'{"model":"m","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"model":"m","messages":[{"role":"user","content":"x"}],"tools":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=lambda body: repr(body[:40]),
)
def test_a_body_that_is_no_json_object_is_refused_as_such(body: bytes) -> None:
    """Also bad UTF-8, half an emoji and depths that no program means; spec §12 has no code for these."""
    with pytest.raises(MalformedBody, match="Required body invalid, please check the request body format") as refused:
        openai_chat.parse(body)

    assert (refused.value.status, refused.value.code) == (400, None)


@pytest.mark.parametrize("model", [None, ""])
def test_a_body_without_a_model_is_told_so(model: str | None) -> None:
    """Spec §12: this one has no code either."""
    problem = refusal(model=model)

    assert isinstance(problem, MissingModel)
    assert (problem.message, problem.code) == ("you must provide a model parameter.", None)


def test_a_model_that_is_no_text_is_refused() -> None:
    """A number is not looked up as a name."""
    assert refusal(model=5).message == "'model' must be String"


def test_of_a_repeated_field_the_last_one_counts() -> None:
    """As with most JSON readers; either way it must not be refused or taken twice."""
    request = openai_chat.parse(
        b'{"model":"a","temperature":1,"model":"b","temperature":0.5,"messages":[{"role":"user","content":"x"}]}'
    )

    assert (request.model, request.sampling.temperature) == ("b", 0.5)


def test_given_names_all_fields_that_are_not_null_and_asks_keeps_the_undecoded_ones() -> None:
    """`service` compares both with what answers: nothing that was sent is dropped silently."""
    request = parse(temperature=1, seed=None, user="me", metadata=None, tools=[], response_format={"type": "text"})

    assert request.given == {"model", "messages", "temperature", "user", "tools", "response_format"}
    assert {name: json.loads(bytes(raw)) for name, raw in request.asks.items()} == {"user": "me"}


def test_a_bare_request_leaves_everything_to_the_model() -> None:
    """None means that the catalogue decides; a default here would hide the model's own."""
    request = parse()

    assert request.sampling == Sampling()
    assert (request.stream, request.include_usage, request.n) == (False, False, 1)
    assert (request.logprobs, request.top_logprobs) == (False, 0)
    assert request.thinking_asked == ThinkingAsked()


NAMES = [
    *NUMBERS,
    "model",
    "messages",
    "seed",
    "stop",
    "logit_bias",
    "stream",
    "stream_options",
    "logprobs",
]
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "user", "assistant", "tool", "system", "text", "image_url", "1"])
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "type", "text", "tool_calls", "partial", "include_usage", "1"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "user", "assistant", "tool", "system"]), "content": ANYTHING},
        optional={"tool_calls": ANYTHING, "partial": ANYTHING},
    ),
    max_size=4,
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), ANYTHING, max_size=6), MESSAGES | ANYTHING)
def test_no_body_whatever_it_holds_fails_otherwise_than_with_a_refusal(fields: dict[str, Any], messages: Any) -> None:
    """Anything else would be answered with a 500 for what is the client's mistake."""
    body = json.dumps({"model": "m", "messages": messages} | fields).encode("utf-8", "surrogatepass")

    try:
        openai_chat.parse(body)
    except HanlinError as problem:
        json.loads(error_body(problem, "id"))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60))
def test_no_bytes_fail_otherwise_than_with_a_refusal(body: bytes) -> None:
    """The same for what is no JSON at all."""
    with pytest.raises(HanlinError):
        openai_chat.parse(body)


# --- answers ---------------------------------------------------------------------------------------------------------

TOKEN = TokenLogprob("你", -0.5, [228, 189, 160], [TopLogprob("你", -0.5, [228, 189, 160]), TopLogprob("我", -1.5)])
WIRE_TOKEN = {
    "token": "你",
    "logprob": -0.5,
    "bytes": [228, 189, 160],
    "top_logprobs": [
        {"token": "你", "logprob": -0.5, "bytes": [228, 189, 160]},
        {"token": "我", "logprob": -1.5, "bytes": None},
    ],
}


def test_an_answer_is_the_contracts_object_to_the_byte() -> None:
    """Spec §4.1, its order of fields included; `system_fingerprint` is ours, the vendor leaves it null."""
    result = ChatResult((Choice(0, 'He said "你好"', "stop"),), Usage(22, 3, cached=5))

    body = openai_chat.answer(result, ANSWERING, id="chatcmpl-1", created=1763800000)

    assert body.decode() == (
        '{"id":"chatcmpl-1","object":"chat.completion","created":1763800000,"model":"qwen-plus",'
        '"system_fingerprint":"small@0123456789ab","choices":[{"index":0,"finish_reason":"stop","logprobs":null,'
        '"message":{"role":"assistant","content":"He said \\"你好\\""}}],"usage":{"prompt_tokens":22,'
        '"completion_tokens":3,"total_tokens":25,"prompt_tokens_details":{"cached_tokens":5}}}'
    )


def test_an_answer_holds_every_choice_and_its_logprobs() -> None:
    """Spec §4.1: `choices` holds n elements, index 0 to n-1."""
    result = ChatResult((Choice(0, "你", "stop", (TOKEN,)), Choice(1, "a", "length")), Usage(1, 2))

    choices = json.loads(openai_chat.answer(result, ANSWERING, id="i", created=1))["choices"]

    assert [(choice["index"], choice["finish_reason"]) for choice in choices] == [(0, "stop"), (1, "length")]
    assert [choice["logprobs"] for choice in choices] == [{"content": [WIRE_TOKEN]}, None]


def stream(**options: Any) -> openai_chat.Stream:
    return openai_chat.Stream(ANSWERING, id="chatcmpl-1", created=1763800000, **options)


def chunks(data: bytes) -> list[dict[str, Any]]:
    """Decode the frames of a piece of stream, `[DONE]` left out."""
    assert data.endswith(b"\n\n") or not data
    frames = data.decode().split("\n\n")[:-1]
    assert all(frame.startswith("data: ") and "\n" not in frame for frame in frames)
    return [json.loads(frame[6:]) for frame in frames if frame != "data: [DONE]"]


SHARED = (
    '"object":"chat.completion.chunk","usage":null,"created":1763800000,'
    '"system_fingerprint":"small@0123456789ab","model":"qwen-plus","id":"chatcmpl-1"}\n\n'
)


def test_a_stream_is_the_contracts_frames_to_the_byte() -> None:
    """Spec §4.2: the role once, then content, then the finish reason with empty content, then the end."""
    frames = stream()

    assert frames.open().decode() == (
        'data: {"choices":[{"delta":{"content":"","role":"assistant"},"index":0,"logprobs":null,"finish_reason":null}],'
        + SHARED
    )
    assert frames.frames([Event(text="Hel")]).decode() == (
        'data: {"choices":[{"delta":{"content":"Hel"},"index":0,"logprobs":null,"finish_reason":null}],' + SHARED
    )
    assert frames.frames([Event(finish_reason="stop")]).decode() == (
        'data: {"choices":[{"delta":{"content":""},"finish_reason":"stop","index":0,"logprobs":null}],' + SHARED
    )
    assert frames.close() == b"data: [DONE]\n\n"


def test_the_usage_chunk_comes_last_and_only_when_asked_for() -> None:
    """SDKs keep the last chunk's usage, so it must be the last; without `include_usage` there is none (spec §4.2)."""
    asked, unasked = stream(include_usage=True), stream()

    assert asked.frames([Event(usage=Usage(22, 3, cached=1))]) == unasked.frames([Event(usage=Usage(22, 3))]) == b""

    assert asked.close().decode() == (
        'data: {"choices":[],"object":"chat.completion.chunk","usage":{"prompt_tokens":22,"completion_tokens":3,'
        '"total_tokens":25,"prompt_tokens_details":{"cached_tokens":1}},"created":1763800000,'
        '"system_fingerprint":"small@0123456789ab","model":"qwen-plus","id":"chatcmpl-1"}\n\ndata: [DONE]\n\n'
    )
    assert unasked.close() == b"data: [DONE]\n\n"


def test_events_that_say_nothing_make_no_frame() -> None:
    """An engine that reads its prompt gives signs of life, which are not the caller's."""
    assert stream().frames([]) == stream().frames([Event()]) == b""


def test_events_that_arrived_together_leave_together() -> None:
    """One send for a burst; the last text and its finish reason are two chunks even so."""
    data = stream().frames([Event(text="a"), Event(text="b", finish_reason="length")])

    deltas = [(row["choices"][0]["delta"]["content"], row["choices"][0]["finish_reason"]) for row in chunks(data)]
    assert deltas == [("a", None), ("b", None), ("", "length")]


def test_every_choice_is_opened_in_order_and_keeps_its_index() -> None:
    """The official client's helper wants choices contiguous and from 0."""
    frames = stream(n=3)

    opened = [row["choices"][0]["index"] for row in chunks(frames.open())]
    said = chunks(frames.frames([Event(2, "c"), Event(0, "a"), Event(1, finish_reason="stop")]))

    assert opened == [0, 1, 2]
    assert [row["choices"][0]["index"] for row in said] == [2, 0, 1]


def test_logprobs_travel_with_their_text() -> None:
    """Also where a token has no text of its own: half a character."""
    said = chunks(stream().frames([Event(text="你", logprobs=(TOKEN,)), Event(logprobs=(TOKEN,))]))

    assert [row["choices"][0]["logprobs"] for row in said] == [{"content": [WIRE_TOKEN]}] * 2
    assert [row["choices"][0]["delta"] for row in said] == [{"content": "你"}, {"content": ""}]


@pytest.mark.parametrize("text", ['"', "\\", "\n\n", "\r", "\x00\x1f\x7f", "\u2028", "👩‍👩‍👧", "data: [DONE]\n\n"])
def test_no_text_can_break_out_of_its_frame(text: str) -> None:
    """Line ends would end an event early: JSON escapes them."""
    (row,) = chunks(stream().frames([Event(text=text)]))

    assert row["choices"][0]["delta"]["content"] == text


def test_names_that_need_escapes_stay_names() -> None:
    """`model` echoes what the caller sent, quotes and all."""
    answering = msgspec.structs.replace(ANSWERING, model='a"b\n')

    frames = openai_chat.Stream(answering, id="i", created=1)

    assert [row["model"] for row in chunks(frames.open())] == ['a"b\n']


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.text()), max_size=20), st.integers(1, 5))
def test_streamed_and_whole_answers_say_the_same(said: list[tuple[int, str]], burst: int) -> None:
    """However a text is cut into events and these into bursts: one request has one answer."""
    events = [
        *(Event(index, text) for index, text in said),
        *(Event(index, finish_reason="stop") for index in range(3)),
    ]
    events.append(Event(usage=Usage(5, 7)))
    frames = stream(n=3, include_usage=True)

    data = b"".join(
        [frames.open()]
        + [frames.frames(events[start : start + burst]) for start in range(0, len(events), burst)]
        + [frames.close()]
    )

    rows = chunks(data)
    streamed = ["", "", ""]
    for row in rows[:-1]:
        (choice,) = row["choices"]
        streamed[choice["index"]] += choice["delta"]["content"]
    whole = json.loads(openai_chat.answer(fold(events), ANSWERING, id="i", created=1))
    assert streamed == [choice["message"]["content"] for choice in whole["choices"]]
    assert rows[-1]["usage"] == whole["usage"]


# --- errors ----------------------------------------------------------------------------------------------------------


def test_an_error_body_is_the_contracts() -> None:
    """Spec §12: `id` and `request_id` stand beside `error`; what is unknown is null, not absent."""
    body = error_body(InvalidRequest("Range of n should be [1, 4]", param="n"), "r-1")

    assert body.decode() == (
        '{"error":{"message":"Range of n should be [1, 4]","type":"invalid_request_error","param":"n",'
        '"code":"invalid_parameter_error"},"id":"chatcmpl-r-1","request_id":"r-1"}'
    )


@pytest.mark.parametrize(
    ("problem", "type", "code"),
    [
        (MalformedBody(), "invalid_request_error", None),
        (BodyTooLarge(6), "invalid_request_error", "BadRequest.TooLarge"),
        (InvalidApiKey("x"), "invalid_request_error", "invalid_api_key"),
        (EngineUnavailable("loading"), "ModelUnavailable", "ModelUnavailable"),
    ],
)
def test_an_error_has_the_contracts_words(problem: HanlinError, type: str, code: str | None) -> None:
    """Programs branch on `type` and `code` (spec §12)."""
    error = json.loads(error_body(problem, "r"))["error"]

    assert (error["type"], error["code"], error["param"]) == (type, code, None)


def test_an_error_in_a_stream_is_one_frame_with_the_nested_envelope() -> None:
    """SDKs raise for a truthy top-level `error` only (spec/surfaces.md §9.3); no `[DONE]` follows it."""
    data = stream().error(EngineUnavailable("gone"), "r-1")

    (row,) = chunks(data)
    assert b"[DONE]" not in data
    assert row["error"]["message"] == "Model is unavailable, please try again later. (gone)"
    assert row["request_id"] == "r-1"


# --- thoughts and calls ----------------------------------------------------------------------------------------------

THINKING_EVENTS = [
    Event(reasoning="想"),
    Event(text="好"),
    Event(call=ToolCallPiece(0, "call_1", "f")),
    Event(call=ToolCallPiece(0, arguments='{"a"')),
    Event(call=ToolCallPiece(0, arguments=":1}")),
    Event(call=ToolCallPiece(1, "call_2", "g", "{}")),
    Event(finish_reason="tool_calls"),
    Event(usage=Usage(5, 9, reasoning=4)),
]


def test_thoughts_and_calls_are_in_the_message() -> None:
    """Spec §4.1: calls have an index also where nothing is streamed; text tokens include those of the reasoning."""
    whole = json.loads(openai_chat.answer(fold(THINKING_EVENTS), ANSWERING, id="i", created=1))

    assert whole["choices"][0]["message"] == {
        "role": "assistant",
        "content": "好",
        "reasoning_content": "想",
        "tool_calls": [
            {"id": "call_1", "type": "function", "index": 0, "function": {"name": "f", "arguments": '{"a":1}'}},
            {"id": "call_2", "type": "function", "index": 1, "function": {"name": "g", "arguments": "{}"}},
        ],
    }
    assert whole["usage"]["completion_tokens_details"] == {"reasoning_tokens": 4, "text_tokens": 9}


def test_the_chunks_of_a_thinking_stream_name_the_unused_field() -> None:
    """Spec §4.3 and §4.4, delta by delta: id and name once, then an empty id and a null name."""
    frames = stream(thinks=True)
    sent = frames.open() + frames.frames(THINKING_EVENTS)

    deltas = [
        (json.loads(block[6:])["choices"][0]["delta"], json.loads(block[6:])["choices"][0]["finish_reason"])
        for block in sent.decode().split("\n\n")[:-1]
    ]

    def call(index: int, identity: str, name: str | None, arguments: str) -> dict[str, Any]:
        function = {"name": name, "arguments": arguments}
        return {"index": index, "id": identity, "type": "function", "function": function}

    assert deltas == [
        ({"content": None, "role": "assistant", "reasoning_content": ""}, None),
        ({"content": None, "reasoning_content": "想"}, None),
        ({"content": "好", "reasoning_content": None}, None),
        ({"content": None, "tool_calls": [call(0, "call_1", "f", "")]}, None),
        ({"tool_calls": [call(0, "", None, '{"a"')]}, None),
        ({"tool_calls": [call(0, "", None, ":1}")]}, None),
        ({"content": None, "tool_calls": [call(1, "call_2", "g", "{}")]}, None),
        ({"content": "", "reasoning_content": None, "tool_calls": None}, "tool_calls"),
    ]


# --- messages that can be handed on as they came ----------------------------------------------------------------------


def test_plain_messages_keep_the_bytes_that_they_came_in() -> None:
    """Most calls: an engine that is told the same need not have ten megabytes written anew."""
    raw = '[{"role": "user","content":"你好 \\"role\\""}]'

    request = openai_chat.parse(f'{{"model":"qwen-plus","messages":{raw}}}'.encode())

    assert request.sent is not None
    assert request.sent.messages is request.messages
    assert bytes(request.sent.raw).decode() == raw


@pytest.mark.parametrize(
    "rows",
    [
        '[{"role":"user","content":"a","content":"b"}]',  # an engine might read the other one
        '[{"role":"user","role":"system","content":"a"},{"role":"user","content":"b"}]',
        '[{"role":"user","content":[{"type":"text","text":"a"}]}]',
        '[{"role":"user","content":"a","name":"n"}]',
        '[{"role":"developer","content":"a"},{"role":"user","content":"b"}]',
        '[{"role":"user","content":"a"},{"role":"assistant","content":"b","partial":true}]',
        '[{"role":"user","ro\\u006ce":"system","content":"a"},{"role":"user","content":"b"}]',
    ],
)
def test_messages_that_are_more_than_plain_are_written_anew(rows: str) -> None:
    """What is the contract's own, or can be read in two ways, never reaches an engine as it came."""
    assert openai_chat.parse(f'{{"model":"qwen-plus","messages":{rows}}}'.encode()).sent is None
