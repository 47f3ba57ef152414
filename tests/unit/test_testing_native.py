"""Native completions of the fake engine: the frames of llama.cpp's server (b11549), and generations in passes."""

from typing import Any

import msgspec
import pytest

from hanlin.testing import Record, Rule, Setup, ToolCall
from hanlin.testing.connection import Request
from hanlin.testing.routes import Engine

OPENED = "<|im_start|>user\n你好<|im_end|>\n<|im_start|>assistant\n"
TEXT = Rule(text="One two three four")
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "天气",
        "parameters": {"type": "object", "properties": {"city": {"enum": ["杭州"]}}, "required": ["city"]},
    },
}


def engine(*rules: Rule, **setup: Any) -> Engine:
    return Engine(Setup(style="llama", rule=rules, **setup))


def posted(engine: Engine, path: str, body: Any) -> tuple[int, bytes]:
    """Return status and body of an answer, out of its HTTP chunks."""
    answer = engine.respond(Request("POST", path, {}, msgspec.json.encode(body)))
    data = b""
    for step in answer.steps:
        answer.note(step)
        data += step.data
    answer.end("done")
    head, _, content = data.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" in head:
        chunked, content = content, b""
        while chunked:
            size, _, chunked = chunked.partition(b"\r\n")
            content += chunked[: int(size, 16)]
            chunked = chunked[int(size, 16) + 2 :]
    return int(head.split()[1]), content


def frames(engine: Engine, prompt: Any = OPENED, **extra: Any) -> list[Any]:
    status, content = posted(engine, "/completion", {"prompt": prompt, "stream": True, **extra})
    assert status == 200
    lines = content.decode().split("\n\n")
    assert lines[-1] == ""  # no [DONE]
    return [msgspec.json.decode(line.removeprefix("data: ")) for line in lines[:-1]]


def whole(engine: Engine, prompt: Any = OPENED, **extra: Any) -> Any:
    status, content = posted(engine, "/completion", {"prompt": prompt, **extra})
    assert status == 200
    return msgspec.json.decode(content)


def refused(engine: Engine, body: Any) -> Any:
    status, content = posted(engine, "/completion", body)
    assert status == 400
    return msgspec.json.decode(content)["error"]


def rows(engine: Engine) -> list[Record]:
    content = b"".join(step.data for step in engine.respond(Request("GET", "/requests", {}, b"")).steps)
    return msgspec.json.decode(content.partition(b"\r\n\r\n")[2], type=list[Record])


# Frames


def test_a_stream_has_a_frame_for_every_token_and_one_that_tells_all() -> None:
    """The token that ends a generation has a frame without text, and is counted."""
    first, second, ended, last = frames(engine(Rule(text="你好")), return_progress=False)

    common = {"index": 0, "stop": False, "id_slot": -1, "tokens_evaluated": 26}
    assert first == {**common, "content": "你", "tokens": [0xE4BDA0], "tokens_predicted": 1}
    assert second == {**common, "content": "好", "tokens": [0xE5A5BD], "tokens_predicted": 2}
    assert ended == {**common, "content": "", "tokens": [3], "tokens_predicted": 3}
    assert " ".join(last) == (
        "index content tokens id_slot stop model tokens_predicted tokens_evaluated generation_settings prompt "
        "has_new_line truncated stop_type stopping_word tokens_cached timings"
    )
    assert (last["content"], last["tokens"], last["stop"], last["model"]) == ("", [], True, "m.gguf")
    assert (last["stop_type"], last["stopping_word"], last["truncated"]) == ("eos", "", False)
    assert (last["tokens_predicted"], last["tokens_evaluated"], last["tokens_cached"]) == (3, 26, 28)
    assert (last["prompt"], last["has_new_line"]) == (OPENED, False)
    assert last["timings"]["predicted_n"] == 3


def test_progress_is_told_from_what_was_cached_to_the_whole_prompt() -> None:
    """Two frames at least; they have an id among their tokens that is none."""
    begun, read, *_ = frames(engine(Rule(cached_tokens=20, text="好")), return_progress=True)

    assert begun["prompt_progress"] == {"total": 26, "cache": 20, "processed": 20, "time_ms": 0}
    assert read["prompt_progress"] == {"total": 26, "cache": 20, "processed": 26, "time_ms": 0}
    assert (begun["content"], begun["tokens"], begun["tokens_predicted"]) == ("", [0], 0)


def test_text_that_may_become_a_stop_text_is_held_back() -> None:
    """It leaves when it is something else; the frame of the stop text has what stands before it, and timings."""
    held = frames(engine(TEXT), stop=["two thX"])
    stopped = frames(engine(TEXT), stop=["two th"])

    assert [frame["content"] for frame in held] == ["One", " ", "", "", "two thre", "e", " ", "four", "", ""]
    assert "".join(frame["content"] for frame in stopped) == "One "
    assert (stopped[-1]["stop_type"], stopped[-1]["stopping_word"]) == ("word", "two th")
    assert [nth for nth, frame in enumerate(stopped) if "timings" in frame] == [len(stopped) - 2, len(stopped) - 1]


def test_a_streamed_answer_lacks_what_was_held_back_at_its_limit() -> None:
    """So it is at b11549; unstreamed it is all there, and the ids of the frames tell the rest."""
    limited: dict[str, Any] = {"stop": ["two thX"], "n_predict": 4}

    streamed = frames(engine(TEXT), **limited)

    assert "".join(frame["content"] for frame in streamed) == "One "
    assert [frame["tokens"] for frame in streamed[2:]] == [[0x74776F], [0x20], []]
    assert streamed[-1]["stop_type"] == "limit"
    assert whole(engine(TEXT), **limited)["content"] == "One two "


@pytest.mark.parametrize(
    ("stop", "content", "word"),
    [
        ("three", "One two ", "three"),
        (["th", "three"], "One two ", "th"),
        (["hr"], "One two t", "hr"),
        (["wo", "two"], "One ", "two"),
        (["two th", "three"], "One ", "two th"),
        (["three four", "th"], "One two ", "th"),
        (["five"], "One two three four", ""),
    ],
)
def test_the_first_stop_text_that_is_whole_ends_the_generation(stop: Any, content: str, word: str) -> None:
    """Of several the one that begins first, of those the one that was named first."""
    answer = whole(engine(Rule(text="One two three four", chunk_tokens=3)), stop=stop)

    assert (answer["content"], answer["stopping_word"]) == (content, word)
    assert answer["stop_type"] == ("word" if word else "eos")


@pytest.mark.parametrize(
    ("limit", "content", "stop_type", "made"),
    [
        (0, "你", "limit", 1),
        (1, "你", "limit", 1),
        (2, "你好", "limit", 2),
        (3, "你好", "eos", 3),
        (-1, "你好", "eos", 3),
    ],
)
def test_generation_ends_at_the_limit(limit: int, content: str, stop_type: str, made: int) -> None:
    """A limit of nothing makes a token; the token that ends it counts."""
    for name in ("n_predict", "max_tokens"):
        answer = whole(engine(Rule(text="你好")), **dict[str, Any]({name: limit}))

        assert (answer["content"], answer["stop_type"], answer["tokens_predicted"]) == (content, stop_type, made)


def test_a_full_context_truncates_the_answer() -> None:
    """The server says so beside the limit."""
    answer = whole(engine(Rule(text="你好世界"), context_tokens=28))

    assert (answer["content"], answer["stop_type"], answer["truncated"]) == ("你好", "limit", True)


def test_only_the_wanted_fields_of_the_last_frame_are_told() -> None:
    """Flat, by their paths, in the caller's order; a name that means nothing is left out."""
    wanted: dict[str, Any] = {"response_fields": ["stop_type", "timings/cache_n", "nothing", "content"]}

    streamed = frames(engine(Rule(text="好")), **wanted)

    assert list(streamed[0]) != list(streamed[-1])
    assert streamed[-1] == {"stop_type": "eos", "timings/cache_n": 0, "content": ""}
    assert list(whole(engine(Rule(text="好")), **wanted).items()) == [
        ("stop_type", "eos"),
        ("timings/cache_n", 0),
        ("content", "好"),
    ]


def test_likelihoods_have_the_text_that_left_and_the_alternatives_their_own() -> None:
    """A token that is held back has none; unstreamed, the tokens of the stop text are not there."""
    streamed = frames(engine(TEXT), n_probs=2, stop=["two"])
    told = whole(engine(TEXT), n_probs=1, stop=["two"])["completion_probabilities"]
    ended = frames(engine(Rule(text="好")), n_probs=1)[1]["completion_probabilities"][0]

    (entry,) = streamed[0]["completion_probabilities"]
    assert (entry["id"], entry["token"], entry["bytes"]) == (0x4F6E65, "One", [79, 110, 101])
    assert [one["token"] for one in entry["top_logprobs"]] == ["One", "One·"]
    (stopped,) = streamed[2]["completion_probabilities"]
    assert (stopped["token"], stopped["bytes"], stopped["top_logprobs"][0]["token"]) == ("", [], "two")
    assert [one["token"] for one in told] == ["One", " "]
    assert (ended["id"], ended["token"]) == (3, "")


def test_tokens_are_returned_unstreamed_on_demand() -> None:
    """Only then."""
    assert whole(engine(Rule(text="好")))["tokens"] == []
    assert whole(engine(Rule(text="好")), return_tokens=True)["tokens"] == [0xE5A5BD, 3]


def test_several_choices_are_a_list_unstreamed() -> None:
    """And frames with another index streamed."""
    rule = Rule(texts=("你", "您"))

    assert [answer["content"] for answer in whole(engine(rule), n=2)] == ["你", "您"]
    assert {frame["index"] for frame in frames(engine(rule), n=2)} == {0, 1}


def test_an_empty_prompt_is_answered_with_nothing() -> None:
    """No token is made."""
    (last,) = frames(engine(), prompt="")

    assert (last["stop_type"], last["tokens_predicted"], last["tokens_cached"]) == ("none", 0, 0)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "[json.exception.out_of_range.403] key 'prompt' not found"),
        ([], "[json.exception.type_error.304] cannot use at() with array"),
        ({"prompt": []}, '"prompt" must not be empty'),
        (
            {"prompt": 5},
            '"prompt" elements must be a string, a list of tokens, a JSON object containing a prompt string, or a list '
            "of mixed strings & tokens.",
        ),
        (
            {"prompt": "x", "n_predict": "many"},
            "Field 'n_predict': [json.exception.type_error.302] type must be number, but is string",
        ),
        (
            {"prompt": "x", "stop": [5]},
            "Field 'stop': [json.exception.type_error.302] type must be string, but is number",
        ),
        (
            {"prompt": "x", "stream": True, "grammar": "root ::= ((("},
            "Failed to initialize samplers: failed to parse grammar",
        ),
    ],
)
def test_what_is_wrong_is_refused_in_the_servers_words(body: Any, message: str) -> None:
    """Also where a stream was asked for: nothing has left yet."""
    assert refused(engine(), body) == {"code": 400, "message": message, "type": "invalid_request_error"}


def test_a_prompt_beyond_the_context_is_refused_as_over_chat() -> None:
    """The same body for both."""
    assert refused(engine(context_tokens=10), {"prompt": OPENED})["type"] == "exceed_context_size_error"


def test_the_paths_are_those_of_the_server() -> None:
    """Without a prefix it speaks its own language, under /v1 OpenAI's, and `/v1/completion` is nothing."""
    body = {"prompt": OPENED}

    for path in ("/completion", "/completions"):
        assert b'"stop_type"' in posted(engine(), path, body)[1]
    assert b'"text_completion"' in posted(engine(), "/v1/completions", body)[1]
    assert posted(engine(), "/v1/completion", body)[0] == 404
    assert b'"text_completion"' in posted(Engine(Setup()), "/completions", body)[1]


def test_a_prompt_may_be_token_ids() -> None:
    """As /tokenize gives them."""
    assert whole(engine(Rule(echo=True)), prompt=[0xE4BDA0, 0xE5A5BD])["content"] == "你好"


def test_faults_come_after_so_many_frames() -> None:
    """The rule's faults are for every endpoint."""
    answer = engine(Rule(text="你好吗", cut_after_chunks=2)).respond(
        Request("POST", "/completion", {}, msgspec.json.encode({"prompt": OPENED, "stream": True}))
    )
    written = list(answer.steps)

    assert written[-1].end == "cut"
    assert "好".encode() in b"".join(step.data for step in written)
    assert "吗".encode() not in b"".join(step.data for step in written)


# Generations in passes


def asked(engine: Engine, *, thinks: bool = False, tools: bool = False, budget: int = -1, prefix: str = "") -> Any:
    """Drive a generation as a program does that parses for itself; return thinking, text and calls."""
    body = {"messages": [{"role": "user", "content": "杭州天气"}], **({"tools": [TOOL]} if tools else {})}
    prompt = msgspec.json.decode(posted(engine, "/apply-template", body)[1])["prompt"] + prefix
    thinking = ""
    if thinks:
        thinking = whole(engine, prompt + "<think>\n", stop=["</think>"], n_predict=budget)["content"]
        prompt += f"<think>\n{thinking}\n</think>\n\n"
    text, calls = "", []
    while True:
        answer = whole(engine, prompt, stop=['"arguments":'])
        text += answer["content"]
        prompt += answer["content"]
        if answer["stop_type"] != "word":
            break
        prompt += '"arguments": '
        arguments = whole(engine, prompt, json_schema=TOOL["function"]["parameters"])["content"]
        calls.append(arguments)
        prompt += arguments
        text += '"arguments": ' + arguments
    return thinking.strip(), text, calls


@pytest.mark.parametrize(
    "rule",
    [
        Rule(thinking="想一想", text="好。", tool_calls=(ToolCall("get_weather", {"city": "杭州"}), ToolCall("f", {}))),
        Rule(
            raw="<think>\n想一想\n</think>\n\n好。\n"
            '<tool_call>\n{"name": "get_weather", "arguments": {"city":"杭州"}}\n</tool_call>\n'
            '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'
        ),
    ],
    ids=["composed", "raw"],
)
def test_a_generation_is_whole_whatever_passes_it_comes_in(rule: Rule) -> None:
    """Thinking, a call up to its arguments, the arguments under their schema, and so on."""
    thinking, text, calls = asked(engine(rule), thinks=True, tools=True)

    assert thinking == "想一想"
    assert text == (
        '好。\n<tool_call>\n{"name": "get_weather", "arguments": {"city":"杭州"}}\n</tool_call>\n'
        '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'
    )
    assert calls == ['{"city":"杭州"}', "{}"]


def test_thinking_ends_at_its_budget_and_the_answer_follows() -> None:
    """The thought was closed by who asked, too early for the model."""
    assert asked(engine(Rule(thinking="想一想", text="好")), thinks=True, budget=2) == ("想一", "好", [])


def test_a_prefix_is_continued() -> None:
    """A prefix that is another text gets all of the answer."""
    rule = Rule(text="床前明月光，疑是地上霜", thinking="背诗")

    assert asked(engine(rule), prefix="床前明月光，")[1] == "疑是地上霜"
    assert asked(engine(rule), prefix="从前")[1] == "床前明月光，疑是地上霜"


def test_without_being_opened_a_thought_comes_only_from_models_that_think_by_themselves() -> None:
    """`thinks_when_asked` are weights that need the block opened for them."""
    assert whole(engine(Rule(thinking="想", text="好")))["content"] == "<think>\n想\n</think>\n\n好"
    asking = Rule(thinking="想", text="好", thinks_when_asked=True)
    assert whole(engine(asking))["content"] == "好"
    assert whole(engine(asking), OPENED + "<think>\n")["content"] == "想\n</think>\n\n好"


def test_a_call_that_was_opened_is_made_whatever_the_rule_says() -> None:
    """That is how a tool is forced: its name stands in the prompt already."""
    prompt = '<tools>\n{"function": {"name": "f", "parameters": {"const": {"a": 1}}}}\n</tools>' + OPENED
    opened = prompt + '<tool_call>\n{"name": "f", "arguments": '

    assert whole(engine(Rule(text="晴")), opened)["content"] == '{"a":1}}\n</tool_call>'
    assert whole(engine(Rule(text="晴")), opened, json_schema={"const": {"a": 1}})["content"] == '{"a":1}'
    assert whole(engine(Rule(text="晴")), prompt + '<tool_call>\n{"name": "')["content"].startswith('f", "arguments"')
    assert whole(engine(Rule(raw="晴")), opened + '{"b":2}')["content"] == "}\n</tool_call>"


def test_a_schema_gives_its_value_where_the_rule_has_none() -> None:
    """What constrained decoding would come to."""
    wanted = {"const": {"a": 1}}

    assert whole(engine(), json_schema=wanted)["content"] == '{"a":1}'
    assert whole(engine(Rule(text='{"b": 2}')), json_schema=wanted)["content"] == '{"b": 2}'
    assert whole(engine(Rule(thinking="想", text='{"b": 2}')), json_schema=wanted)["content"] == '{"b": 2}'
    assert whole(engine(Rule(json_schema=True)), json_schema=wanted)["content"] == '{"a":1}'
    assert whole(engine(Rule(text='"a"')), json_schema={"enum": ["b", "a"]})["content"] == '"a"'
    assert whole(engine(Rule(text='"c"')), json_schema={"enum": ["b", "a"]})["content"] == '"b"'
    assert (
        whole(engine(Rule(text="你好")), json_schema={"type": "array", "minItems": 2, "maxItems": 1})["content"] != ""
    )


def test_a_call_may_stand_in_place_of_an_answer() -> None:
    """For a schema that takes either, a rule that calls makes the call, and another one an answer."""
    call = {"properties": {"name": {"const": "f"}, "arguments": {}}, "required": ["name", "arguments"]}
    either = {"anyOf": [call, {"const": "晴"}]}
    opened = '<tools>[{"function": {"name": "get_weather"}}]</tools>' + OPENED.replace("你好", "get_weather")

    calling = Rule(tool_calls=(ToolCall("f", {"a": 1}),))
    assert whole(engine(calling), json_schema=either)["content"] == ('{"name": "f", "arguments": {"a":1}}')
    assert whole(engine(Rule(text="好")), json_schema=either)["content"] == '"晴"'
    assert whole(engine(Rule(smart=True)), json_schema=either)["content"] == '"晴"'
    assert whole(engine(Rule(smart=True)), opened, json_schema=either)["content"].startswith('{"name": "get_weather"')


def test_a_schema_that_cannot_be_enforced_constrains_nothing() -> None:
    """The server's trap: 200, and any text."""
    assert whole(engine(Rule(text="你好")), json_schema={"type": "array", "uniqueItems": True})["content"] == "你好"
    assert whole(engine(Rule(text="你好")), json_schema={}, grammar='root ::= "x"')["content"] == "你好"


def test_a_tool_is_called_by_a_schema_rule_as_over_chat() -> None:
    """The tools stand in the prompt."""
    _, text, calls = asked(engine(Rule(json_schema=True)), tools=True)

    assert text == '<tool_call>\n{"name": "get_weather", "arguments": {"city":"杭州"}}\n</tool_call>'
    assert calls == ['{"city":"杭州"}']


def test_chunks_keep_their_boundaries_behind_what_was_said() -> None:
    """A rule that cuts the text for a parser cuts it here too."""
    contents = [frame["content"] for frame in frames(engine(Rule(chunks=("你好", "，世界", "！"))), OPENED + "你")]

    assert contents == ["好", "，世界", "！", "", ""]


def test_the_passes_of_a_generation_are_one_request_to_its_rule() -> None:
    """Else a rule for one answer would end in the middle of it."""
    running = engine(Rule(thinking="想", text="甲", times=1), Rule(text="乙"))

    assert asked(running, thinks=True) == ("想", "甲", [])
    assert asked(running, thinks=True) == ("", "乙", [])
    assert [row.rule for row in rows(running)] == [0, 0, 1, 1]


def test_a_rule_takes_the_last_user_message_of_a_prompt() -> None:
    """Not the system message, and not the answer so far."""
    running = engine(Rule(contains="天气", text="晴"), Rule(text="不知道"))
    system = "<|im_start|>system\n天气<|im_end|>\n"

    assert whole(running, system + OPENED)["content"] == "不知道"
    assert whole(running, OPENED.replace("你好", "天气"))["content"] == "晴"


# The cache


def test_cached_tokens_are_those_that_were_read_or_made_before() -> None:
    """A second pass, or a second turn, reads only what is new; the last token is always read."""
    running = engine(Rule(text="你好"), prefix_cache=True)

    first, again = whole(running), whole(running)
    next_pass = whole(running, OPENED + "你好，")
    other = whole(running, "别的")

    assert [answer["timings"]["cache_n"] for answer in (first, again, next_pass, other)] == [0, 25, 28, 0]
    assert again["timings"]["prompt_n"] == 1


def test_chat_has_the_same_cache_and_a_rule_its_own_count() -> None:
    """What a rule says is told; without either nothing is cached."""
    body = {"messages": [{"role": "user", "content": "你好"}]}

    def cached(running: Engine) -> int:
        usage = msgspec.json.decode(posted(running, "/v1/chat/completions", body)[1])["usage"]
        return int(usage["prompt_tokens_details"]["cached_tokens"])

    running = engine(Rule(text="好", cached_tokens=5, times=2), Rule(text="好"), prefix_cache=True)
    assert [cached(running) for _ in range(3)] == [5, 5, 25]
    assert [cached(engine(Rule(text="好"))) for _ in range(2)] == [0, 0]
