"""Text completions: how a gap in code is read, which names fill it, and how each engine is shown it."""

import ast
import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from hanlin.catalogue.models import Model
from hanlin.dialects import openai_completions
from hanlin.engines.gaps import encode_gap, gap_pass, within_gap, without_tags
from hanlin.engines.manner import Manner
from hanlin.engines.profiles import EngineProfile, profiles
from hanlin.errors import EngineFailed, HanlinError, ModelNotFound, ModelNotSupported
from hanlin.service import completion
from hanlin.service.attempts import Call
from hanlin.service.completion import AskedText, CompletionCall, CompletionPlan
from hanlin.service.deployments import Deployment, Serving, serving
from hanlin.testing import HANG, ScriptedEngine, says
from hanlin.types import ChatRequest, CompletionRequest, Event, Sampling, Usage, fold
from tests.code_corpus import python_gaps
from tests.values import ANSWERING, LIMIT_S, catalogue_of, deployment, model, route_of, router_of, server_of

PREFIX, SUFFIX, MIDDLE = "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"
CODER = Manner(profiles().engine["llama"], weights=profiles().for_weights("Qwen/Qwen2.5-Coder-0.5B-Instruct"))


def parse(**fields: Any) -> CompletionRequest:
    return openai_completions.parse(json.dumps({"model": "qwen-coder-turbo", **fields}).encode())


@pytest.mark.parametrize(
    ("fields", "prompt", "suffix", "fills_gap"),
    [
        ({"prompt": f"{PREFIX}a{SUFFIX}"}, "a", None, True),
        ({"prompt": f"{PREFIX}a{SUFFIX}b{MIDDLE}"}, "a", "b", True),
        ({"prompt": f"{PREFIX}a{SUFFIX}{MIDDLE}"}, "a", "", True),
        ({"prompt": "def f():"}, "def f():", None, False),
        ({"prompt": "def f():", "suffix": "f()"}, "def f():", "f()", True),
        ({"prompt": f"see {PREFIX}"}, f"see {PREFIX}", None, False),
    ],
)
def test_a_prompt_is_a_gap_or_a_text_to_go_on(
    fields: dict[str, Any], prompt: str, suffix: str | None, fills_gap: bool
) -> None:
    """Spec surfaces §5: two layouts; OpenAI's `suffix` counts where the prompt has no tags."""
    request = parse(**fields)

    assert (request.prompt, request.suffix, request.fills_gap) == (prompt, suffix, fills_gap)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        (None, 'Either "prompt" or "messages" must exist'),
        ("", "The prompt field is a required field."),
        (["a"], "'prompt' must be String"),
        (f"{PREFIX}{SUFFIX}b{MIDDLE}", "a suffix alone is not supported"),
        (f"{SUFFIX}b{MIDDLE}", "a suffix alone is not supported"),
    ],
)
def test_other_prompts_are_refused(prompt: Any, words: str) -> None:
    """Nothing can be written ahead of nothing."""
    with pytest.raises(HanlinError) as refused:
        parse(prompt=prompt)

    assert words in refused.value.message
    assert refused.value.param == "prompt"


def test_weights_are_shown_a_gap_in_the_tags_that_they_learned() -> None:
    """A prefix alone gets an empty rest: without the middle's tag, models write what comes behind."""
    gap = CompletionRequest("m", "a", "b", fills_gap=True, sampling=Sampling(max_tokens=9))

    both = gap_pass(gap, CODER, ("x",))
    alone = gap_pass(CompletionRequest("m", "a", fills_gap=True), CODER, ())
    plain = gap_pass(CompletionRequest("m", "a"), CODER, ())

    assert both.prompt == f"{PREFIX}a{SUFFIX}b{MIDDLE}"
    assert both.stop[0] == "x"
    assert {PREFIX, "<|file_sep|>", "<|endoftext|>"} <= set(both.stop)
    assert both.limit == 9
    assert alone.prompt == f"{PREFIX}a{SUFFIX}{MIDDLE}"
    assert (plain.prompt, plain.stop) == ("a", ())


@pytest.mark.parametrize(
    ("before", "behind", "end"),
    [
        ("    ", "\n\nprint(mean([1]))\n", "\nprint(mean([1]))"),
        ("x = f(", ")\nreturn x + 1000", "\nreturn x + 1000"),
        ("x = f(", "one, two, three)\n", None),
        ("x = 1\n", "return x + 1000\n", "\nreturn x + 1000"),
        ("    ", "\n}\n", None),
        ("    ", "", None),
    ],
)
def test_a_text_ends_where_it_would_say_what_stands_behind_its_gap(before: str, behind: str, end: str | None) -> None:
    """Small weights go on with the rest of the file; a line that comes twice by chance ends nothing."""
    found = gap_pass(CompletionRequest("m", before, behind, fills_gap=True), CODER, ())

    assert [stop for stop in found.stop if stop.startswith("\n")] == ([end] if end else [])


def test_servers_are_sent_the_contracts_own_tags() -> None:
    """They may be the vendor."""
    manner = Manner(profiles().engine["modelstudio"], "theirs")

    def prompt(request: CompletionRequest) -> Any:
        return json.loads(encode_gap(request, manner, ()))["prompt"]

    assert prompt(CompletionRequest("m", "a", "b", fills_gap=True)) == f"{PREFIX}a{SUFFIX}b{MIDDLE}"
    assert prompt(CompletionRequest("m", "a", fills_gap=True)) == f"{PREFIX}a{SUFFIX}"
    assert prompt(CompletionRequest("m", "a")) == "a"


FILLS = model("qwen-coder-turbo", features=("fill_in_the_middle",))
NEITHER = EngineProfile(parameters={})


def served_by(here: Deployment) -> Callable[[Model], Serving]:
    return lambda model: serving(model, catalogue_of(FILLS), [here])


def plan(request: CompletionRequest, *rest: Any) -> CompletionPlan:
    """Return what a completion becomes on the first deployment of its name."""
    allowed = completion.asked(request, *rest)
    return allowed.planned(allowed.route.targets[0])


@pytest.mark.parametrize(
    ("asked", "error"),
    [("nobody", ModelNotFound), ("qwen-plus", ModelNotSupported)],
)
def test_names_that_fill_no_gaps_are_refused(asked: str, error: type[HanlinError]) -> None:
    """Unknown, or a name that chats."""
    here = served_by(deployment(ScriptedEngine(), NEITHER))

    with pytest.raises(error):
        plan(CompletionRequest(asked, "a"), catalogue_of(FILLS, model()), here)


def test_a_plan_says_what_it_does_not_honour() -> None:
    """OpenAI's further fields are not the vendor's."""
    request = CompletionRequest("qwen-coder-turbo", "a", given=frozenset({"model", "prompt", "seed", "echo", "n"}))

    planned = plan(request, catalogue_of(FILLS), served_by(deployment(ScriptedEngine(), fills_gaps=True)))

    assert planned.answering.ignored == ("echo", "n")
    assert planned.request.sampling.seed == 1234


EVENTS = [Event(text="a"), Event(text="b"), Event(finish_reason="length"), Event(usage=Usage(3, 2))]


def test_an_answer_is_a_text_completion_whole_and_streamed() -> None:
    """Spec surfaces §5, field by field."""
    whole = json.loads(openai_completions.answer(fold(EVENTS), ANSWERING, id="cmpl-1", created=1))
    stream = openai_completions.Stream(ANSWERING, id="cmpl-1", created=1, include_usage=True)
    sent = (stream.open() + stream.frames(EVENTS) + stream.close()).decode().split("\n\n")

    chunks = [json.loads(block.removeprefix("data: ")) for block in sent[:-2]]
    assert whole == {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1,
        "model": "qwen-plus",
        "system_fingerprint": "small@0123456789ab",
        "choices": [{"text": "ab", "index": 0, "finish_reason": "length", "logprobs": None}],
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": 2,
            "total_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 0},
        },
    }
    assert [chunk["choices"] and chunk["choices"][0]["text"] for chunk in chunks] == ["a", "b", "", []]
    assert [chunk["usage"] for chunk in chunks] == [None, None, None, whole["usage"]]
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}
    assert sent[-2:] == ["data: [DONE]", ""]


# --- several deployments ---------------------------------------------------------------------------------------------


def text_call(*deployments: Deployment, stream: bool = False, **fields: Any) -> CompletionCall:
    request = CompletionRequest("qwen-coder-turbo", "a", stream=stream, **fields)
    return Call(AskedText(request, FILLS, catalogue_of(FILLS), route_of(*deployments)), router_of())


async def test_what_never_learned_to_fill_gaps_is_left_out_where_another_has() -> None:
    """Where none has, it is asked by chat, as well as it can."""
    never = deployment(ScriptedEngine(says("```python\nb = 1\n```")), NEITHER, name="chat")

    assert text_call(never, server_of(ScriptedEngine(), "coder")).plan.deployment.name == "coder"
    alone = text_call(never)
    assert (await alone.answer()).choices[0].text == "b = 1"
    assert not alone.plan.answering.ignored


@pytest.mark.parametrize("pieces", [1, 2, 5, 100])
@pytest.mark.parametrize(
    ("before", "behind", "said", "shown"),
    [
        ("def f():\n    ", "\n    return x\n", "x = 1\n\ndef g():\n    pass", "x = 1"),
        ("def f():\n    ", "\n    return x\n", "x = 1\n    y = 2\n\n    z = 3\n", "x = 1\n    y = 2\n\n    z = 3\n"),
        ("if a:\n        ", "\n    return x\n", "x = 1\n    y = 2\nz = 3", "x = 1\n    y = 2"),
        ("for a in b:\n    ", "\n        go()\n", "c = a\n    if c:", "c = a\n    if c:"),
        ("x = ", "\ny = 2\n", "1\nz = 3", "1\nz = 3"),
        ("def f():\n    ", None, "x = 1\n\ndef g():", "x = 1\n\ndef g():"),
    ],
)
async def test_a_line_further_out_has_left_the_gap(
    before: str, behind: str | None, said: str, shown: str, pieces: int
) -> None:
    """Its block is over, though what follows the gap still belongs to it."""
    parts = [said[at : at + pieces] for at in range(0, len(said), pieces)]
    engine = ScriptedEngine(says(*parts, finish_reason="length"))
    request = CompletionRequest("m", before, behind, fills_gap=True)

    result = fold([e async for burst in within_gap(engine.generate(ChatRequest("m", ())), request) for e in burst])

    assert result.choices[0].text == shown
    assert result.choices[0].finish_reason == ("stop" if shown != said else "length")


@pytest.mark.parametrize("pieces", [1, 2, 5, 100])
@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("x = 1<|fim_middle|>y", "x = 1"),
        ("<|fim_prefix|>", ""),
        ("a <| b <|fi", "a <| b <|fi"),
        ("a <|fim", "a <|fim"),
        ("plain", "plain"),
    ],
)
async def test_no_tag_of_a_gap_is_ever_shown(said: str, shown: str, pieces: int) -> None:
    """However it is cut: the text is over where one would begin, and the engine is left."""
    parts = [said[at : at + pieces] for at in range(0, len(said), pieces)]
    engine = ScriptedEngine(says(*parts, finish_reason="length"))

    result = fold([e async for burst in without_tags(engine.generate(ChatRequest("m", ()))) for e in burst])

    assert result.choices[0].text == shown
    assert result.choices[0].finish_reason == ("stop" if shown != said else "length")
    assert engine.running == 0


async def test_two_hundred_gaps_are_filled_no_worse_than_weights_fill_them() -> None:
    """Spec §7.6, of weights that know two lines of three and seldom stop behind one: it is cut, and never worse for it.

    They go on with what stands behind the gap, with a function of their own, with tags, with blank lines, or not.
    """
    draw = random.Random(76)
    known = whole = same = raw = 0
    for request, line in python_gaps(200):
        knows = draw.random() < 0.67
        rest = draw.choice(
            (
                "",
                request.suffix or "",
                "\n\n\ndef other(x):\n    return x\n",
                "<|fim_pad|>x = 1",
                "\n" * 50,
                "\n\nprint('done')",
            )
        )
        said = (line.strip() if knows else "pass") + rest
        stops = gap_pass(request, CODER, ()).stop
        cut = said[: min((at for stop in stops if (at := said.find(stop)) >= 0), default=len(said))]
        pieces = draw.randint(1, 9)
        engine = ScriptedEngine(says(*(cut[at : at + pieces] for at in range(0, len(cut), pieces))))

        filled = without_tags(within_gap(engine.generate(ChatRequest("m", ())), request))
        text = fold([event async for burst in filled for event in burst]).choices[0].text

        assert "<|fim_" not in text
        known += knows
        whole += knows and is_python(f"{request.prompt}{text}{request.suffix}")
        same += text.strip() == line.strip()
        raw += said.strip() == line.strip()

    assert whole >= 0.95 * known
    assert same >= raw > 0


def is_python(code: str) -> bool:
    try:
        ast.parse(code)
    except SyntaxError:
        return False
    return True


async def test_a_thousand_texts_show_no_tag_of_a_gap() -> None:
    """Spec §7.6: tags whole, in parts, within each other, and cut anywhere by the stream."""
    draw = random.Random(77)
    parts = [
        "x = 1",
        "<|fim_",
        "<|fim_middle|>",
        "<|",
        "fim_",
        "|>",
        "<",
        "\n",
        "<|fim_prefix|>",
        "<|file_sep|>",
        "    y",
    ]
    for _ in range(1000):
        said = "".join(draw.choice(parts) for _ in range(draw.randint(1, 8)))
        pieces = draw.randint(1, 5)
        engine = ScriptedEngine(says(*(said[at : at + pieces] for at in range(0, len(said), pieces))))

        events = [e async for burst in without_tags(engine.generate(ChatRequest("m", ()))) for e in burst]

        assert fold(events).choices[0].text == said.partition("<|fim_")[0]


@pytest.mark.parametrize(("limit", "left"), [(10, 8), (2, 1), (None, None)])
def test_a_text_goes_on_in_front_of_what_is_left_of_its_gap(limit: int | None, left: int | None) -> None:
    """What was said stands behind the prefix; it has used up a part of the limit."""
    gap = CompletionRequest("m", "def f(", "\n", fills_gap=True, sampling=Sampling(max_tokens=limit))
    asked = AskedText(gap, FILLS, catalogue_of(FILLS), route_of())

    found = asked.continued(gap, "x, y", 2)

    assert (found.prompt, found.suffix, found.fills_gap) == ("def f(x, y", "\n", True)
    assert found.sampling.max_tokens == left


async def test_a_broken_text_is_made_anew_for_a_caller_who_waits_for_all_of_it() -> None:
    """Nobody has seen anything of the first attempt, and nobody pays for it."""
    broken, well = ScriptedEngine([[Event(text="x")], EngineFailed("it died")]), ScriptedEngine(says("y", "z"))

    call = text_call(server_of(broken, "one"), server_of(well, "two"))
    result = await completion.complete(call, LIMIT_S)

    assert (result.choices[0].text, call.usage.completion) == ("yz", 2)
    assert call.tried() == "one;fault=failed, two"
    assert well.requests[0].messages[0].text == "a"


async def test_a_stream_of_text_goes_on_at_another_one() -> None:
    """Its prompt is the caller's with what has been said behind it; the usage is that of the whole."""
    broken = ScriptedEngine([[Event(text="x")], EngineFailed("it died")])
    well = ScriptedEngine(says("y", usage=Usage(prompt=11, completion=1)))
    call = text_call(server_of(broken, "one"), server_of(well, "two"), stream=True)

    events = [event async for burst in call.choice() for event in burst]

    assert "".join(event.text for event in events) == "xy"
    assert well.requests[0].messages[0].text == "ax"
    assert call.usage == Usage(prompt=10, completion=2, estimated=True)


async def test_a_text_that_takes_too_long_is_what_there_is_of_it() -> None:
    """As an unstreamed chat call."""
    call = text_call(server_of(ScriptedEngine([[Event(text="x")], HANG]), "one"))

    result = await completion.complete(call, 0.05)

    assert (result.choices[0].text, result.cut_short) == ("x", True)
    assert result.usage == Usage(call.prompt_tokens, 1, estimated=True)
