"""However an answer is asked for, and however the bytes of an engine are cut, it says the same.

Random generations go through the whole of the pipeline in this process: from the caller's body to the frames and the
body that come back, with the fake engine's own bytes between. `PARITY=5000 pytest tests/contract/test_parity.py` tries
that many.
"""

import asyncio
import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import msgspec
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from hanlin.catalogue.loading import load
from hanlin.dialects import openai_chat
from hanlin.engines.chat import ChatEngine
from hanlin.engines.engine import Engine
from hanlin.engines.manner import Manner
from hanlin.engines.profiles import profiles
from hanlin.engines.wire import Client, Deadlines
from hanlin.errors import HanlinError
from hanlin.service import chat
from hanlin.service.planning import Plan, plan
from hanlin.testing import Rule, ToolCall
from hanlin.testing.connection import Request
from hanlin.testing.routes import Engine as FakeEngine
from hanlin.testing.rules import Setup
from tests import answers
from tests.values import call_of, deployment

Json = dict[str, Any]

ROUNDS = int(os.environ.get("PARITY", "150"))
LIMIT_S = 60.0
CATALOGUE = load()

# --- an engine without a socket ---------------------------------------------------------------------------------------


class Played:
    """A response whose body comes in pieces of these sizes, again and again."""

    def __init__(self, written: bytes, sizes: Sequence[int]) -> None:
        head, _, body = written.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        self.status = int(first.split()[1])
        self.headers: Mapping[str, str] = dict(line.lower().split(": ", 1) for line in lines)
        self._body = unchunked(body) if "transfer-encoding" in self.headers else body
        self._sizes = itertools.cycle(sizes)
        self._at = 0

    async def read(self) -> bytes:
        size = next(self._sizes)
        self._at += size
        return self._body[self._at - size : self._at]

    async def body(self) -> bytes:
        return self._body

    async def finish(self, within_s: float) -> None:
        pass

    def close(self) -> None:
        pass


def unchunked(body: bytes) -> bytes:
    """Take off HTTP's chunks."""
    found = []
    while body:
        line, _, rest = body.partition(b"\r\n")
        size = int(line, 16)
        found.append(rest[:size])
        body = rest[size + 2 :]
    return b"".join(found)


class Line:
    """What stands in the place of `wire.Client`: the fake engine, and how its bytes are cut."""

    def __init__(self, rule: Rule, profile: str, sizes: Sequence[int]) -> None:
        style: Any = "llama" if profile == "llama" else "openai"
        self._engine = FakeEngine(Setup(style=style, template="qwen3", rule=(rule,)))
        self._sizes = sizes

    async def send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        headers: Mapping[str, str],
        deadlines: Deadlines,
        ask: object = None,
    ) -> Played:
        answer = self._engine.respond(Request(method, path, {}, body))
        return Played(b"".join(written(answer.steps)), self._sizes)


def written(steps: Iterator[Any]) -> Iterator[bytes]:
    for step in steps:
        yield step.data
        if step.end is not None:
            return


# --- one call, both ways ----------------------------------------------------------------------------------------------


def planned(asked: Json, rule: Rule, profile: str, sizes: Sequence[int]) -> Plan:
    known = profiles().engine[profile]
    engine = ChatEngine(cast("Client", Line(rule, profile, sizes)), Manner(known))
    here = deployment(cast("Engine", engine), known, embedded=False, serves=("*",))
    return plan(openai_chat.parse(json.dumps(asked).encode()), CATALOGUE, [here])


async def streamed(asked: Json, rule: Rule, profile: str, sizes: Sequence[int]) -> Json:
    asked = {**asked, "stream": True, "stream_options": {"include_usage": True}}
    made = planned(asked, rule, profile, sizes)
    request = made.request
    frames = openai_chat.Stream(
        made.answering, id="chatcmpl-1", created=1, n=request.n, include_usage=True, thinks=request.thinking.on
    )
    sent = [frames.frames(burst) async for burst in chat.generate(call_of(made))]
    return answers.fold_stream(answers.read_stream(b"".join([frames.open(), *sent, frames.close()])), asked)


async def unstreamed(asked: Json, rule: Rule, profile: str, sizes: Sequence[int]) -> Json:
    made = planned(asked, rule, profile, sizes)
    result = await chat.complete(call_of(made), LIMIT_S)
    answer: Json = msgspec.json.decode(openai_chat.answer(result, made.answering, id="chatcmpl-1", created=1))
    return answer


def outcome(of: Callable[..., Any], *arguments: Any) -> Any:
    """Return what an answer says, or how it fails."""
    try:
        return answers.said(asyncio.run(of(*arguments)))
    except HanlinError as error:
        return type(error).__name__, error.message


# --- what is tried ----------------------------------------------------------------------------------------------------

FRAGMENTS = (
    *(
        "<tool_call>",
        "</tool_call>",
        "<tool_call>\n",
        "\n</tool_call>",
        "<think>",
        "</think>",
        "\n</think>\n\n",
        "</",
        "<",
    ),
    *('{"name": "get_weather", "arguments": {"city": "杭州"}}', '{"name": "nobody", "arguments": {}}', '{"name": '),
    *('"get_weather"', ', "arguments": ', '{"city": "', '"}', "}", "{", "[", "]", '"arguments":', "```json\n", "```"),
    *("<function=get_weather>\n", "<parameter=city>\n", "\n</parameter>\n", "</function>", "<tools>", "</tools>"),
    *("<|tool_calls_section_begin|>", "<|tool_call_begin|>", "functions.get_weather:0", "<|tool_call_argument_begin|>"),
    *("天气", "杭州", "😀", "é", "\n", "\n\n", " ", "  ", "a", "END", "1", "\\", '"', "'", ",", ":", "JSON", "。"),
)
SPOKEN = st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join)
PLAIN = st.lists(st.sampled_from(("天气", "好", "a b", "\n", "END", "😀", "<b>", "1")), min_size=1, max_size=8).map(
    "".join
)
WEATHER: Json = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "天气",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALLS = st.lists(
    st.builds(
        ToolCall,
        st.sampled_from(("get_weather", "get_weather", "nobody")),
        st.sampled_from(
            ({"city": "杭州"}, {"city": 'a"b'}, '{"city": "北京"', "{'city': '北京'}", "{}", "no JSON", None)
        ),
    ),
    max_size=3,
).map(tuple)
SIZES = st.sampled_from(((1 << 20,), (1,), (7,), (64,), (3, 200), (1, 1 << 20), (500, 11)))
PERSON: Json = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    """Return what the engine generates: as its model writes it, or in parts that the engine knows."""
    shared: Json = {"chunk_tokens": draw(st.integers(1, 5)), "parallel_anyway": draw(st.booleans())}
    if draw(st.booleans()):
        return Rule(raw=draw(SPOKEN), **shared)
    if draw(st.integers(0, 3)) == 0:
        return Rule(json_schema=True, thinking=draw(st.just("") | PLAIN), **shared)
    return Rule(
        thinking=draw(st.just("") | PLAIN),
        thinks_when_asked=draw(st.booleans()),
        text=draw(st.just("") | PLAIN | SPOKEN),
        tool_calls=draw(CALLS),
        **shared,
    )


@st.composite
def requests(draw: st.DrawFn) -> Json:
    """Return a caller's body, without a word about streaming."""
    asked: Json = {
        "model": draw(st.sampled_from(("qwen-plus", "qwen3.7-plus", "deepseek-v4-pro", "qwen-max", "deepseek-r1"))),
        "messages": [{"role": "user", "content": "用 JSON 说说杭州天气"}],
    }
    if draw(st.booleans()) and asked["model"] not in ("qwen-max", "deepseek-r1"):
        asked["enable_thinking"] = draw(st.booleans())
    if draw(st.booleans()):
        asked["tools"] = [WEATHER]
        asked["parallel_tool_calls"] = draw(st.booleans())
        if asked["model"] == "qwen-max" and draw(st.booleans()):
            asked["tool_choice"] = draw(
                st.sampled_from(("none", {"type": "function", "function": {"name": "get_weather"}}))
            )
    elif draw(st.booleans()):
        asked["n"] = draw(st.integers(1, 3))
    sizes: Json = {"max_tokens": 12, "max_completion_tokens": 20, "thinking_budget": 6}
    for name, most in sizes.items():
        if draw(st.integers(0, 3)) == 0:
            asked[name] = draw(st.integers(1, most))
    if draw(st.integers(0, 2)) == 0:
        asked["stop"] = draw(st.lists(st.sampled_from(("END", "\n", "气", "}", "</tool_call>", "a b")), max_size=2))
    if draw(st.integers(0, 3)) == 0:
        asked["logprobs"], asked["top_logprobs"] = True, draw(st.integers(0, 3))
    schema = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
    if draw(st.integers(0, 3)) == 0:
        asked["response_format"] = draw(st.sampled_from(({"type": "json_object"}, schema)))
    return asked


@settings(
    max_examples=ROUNDS,
    deadline=None,
    derandomize="PARITY" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.generate, Phase.shrink),
    report_multiple_bugs=False,
)
@given(
    asked=requests(),
    rule=rules(),
    profile=st.sampled_from(("llama", "modelstudio", "vllm", "openai")),
    sizes=SIZES,
    other_sizes=SIZES,
)
def test_a_stream_and_a_whole_answer_say_the_same(
    asked: Json, rule: Rule, profile: str, sizes: Sequence[int], other_sizes: Sequence[int]
) -> None:
    """A program that changes `stream` must not get another answer, nor one whose bill differs."""
    whole = outcome(unstreamed, asked, rule, profile, sizes)

    assert outcome(streamed, asked, rule, profile, other_sizes) == whole
