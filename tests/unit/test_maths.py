"""qwen-math: steps as they come, one boxed result at the end, and a vote where the name promises more."""

import random
import zlib
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanlin.errors import ContextLengthExceeded, EngineFailed
from hanlin.recipes.boxes import OPENING, OneBox, boxed, same_form
from hanlin.recipes.maths import MATHS, VOTERS
from hanlin.types import ChatRequest, Event, Message, Sampling, Shape, fold
from tests.desks import SaidBase, asked, events_of, reply_of

TURBO, PLUS = "qwen-math-turbo", "qwen-math-plus"
QUESTION = Message("user", "1+1=?")


def through(text: str, pieces: int = 3, prefix: str = "") -> str:
    """Return a solution as callers see it, coming some characters at a time."""
    box = OneBox(prefix)
    return "".join(box.feed(text[at : at + pieces]) for at in range(0, len(text), pieces)) + box.close()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (r"So \boxed{2}.", r"So \boxed{2}."),
        (r"First \boxed{1}, then \boxed{2}.", r"First 1, then \boxed{2}."),
        (r"\boxed{\frac{1}{2}} and $\boxed{3}$", r"\frac{1}{2} and $\boxed{3}$"),
        (r"\boxed{\boxed{5}}", r"{\boxed{5}}"),
        (r"an open one: \boxed{\frac{1}{2}", r"an open one: \boxed{\frac{1}{2}}"),
        (r"set \boxed{\{1, 2\}}", r"set \boxed{\{1, 2\}}"),
        ("no box", "no box"),
        ("\\box is no box, \\boxed neither \\", "\\box is no box, \\boxed neither \\"),
    ],
)
@pytest.mark.parametrize("pieces", [1, 3, 100])
def test_the_last_result_alone_is_boxed(text: str, shown: str, pieces: int) -> None:
    """Clients take the box for the result; two would be two results."""
    assert through(text, pieces) == shown


@given(
    st.lists(st.sampled_from([OPENING, "}", "{", "\\", "box", "x", "{1}", r"\boxed{7}"]), max_size=12),
    st.integers(1, 7),
)
@settings(deadline=None, max_examples=300)
def test_no_solution_has_two_boxes_wherever_its_stream_is_cut(parts: list[str], pieces: int) -> None:
    """Also such as no model should write; and how it is cut makes no difference."""
    text = "".join(parts)

    shown = through(text, pieces)

    assert shown.count(OPENING) <= 1
    assert shown == through(text, 1000)


@pytest.mark.parametrize(
    ("prefix", "text", "shown"),
    [
        (r"The result is \boxed{", r"12}. Or \boxed{13}.", r"12}. Or 13."),
        (r"\boxed{12} is it.", r" Yes, \boxed{12}.", r" Yes, 12."),
        ("So", r" \boxed{1}", r" \boxed{1}"),
    ],
)
def test_a_box_that_the_prefix_began_counts(prefix: str, text: str, shown: str) -> None:
    """Partial mode: what the caller reads is the prefix and our text together."""
    assert through(text, prefix=prefix) == shown


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"\frac{1}{2}", "0.5"),
        (r"\dfrac12", "1/2"),
        ("1,234", "1234"),
        ("x = 5", "5"),
        (r"12\text{ cm}", "12"),
        (r"$90^\circ$", "90"),
        ("3.0", "3"),
        (r"\left( 1, 2 \right)", "(1,2)"),
        ("－3", "-3"),
        ("8个", "8"),
    ],
)
def test_results_that_are_the_same_vote_together(one: str, other: str) -> None:
    """However they are written."""
    assert same_form(one) == same_form(other)


@pytest.mark.parametrize(("one", "other"), [("2x", "2"), ("1/3", "0.33"), ("50\\%", "50"), ("-1", "1"), ("a+b", "ab")])
def test_results_that_differ_do_not(one: str, other: str) -> None:
    """A vote for something else is none."""
    assert same_form(one) != same_form(other)


def test_only_a_value_is_put_in_a_box() -> None:
    """Nothing that would break the line that it stands in."""
    assert boxed(" $12$ ") == r"\boxed{12}"
    assert [boxed(bad) for bad in ("", "1\n2", "1}", "{1", r"\boxed{1}", "9" * 300)] == [None] * 6


async def test_a_solution_comes_as_it_is_made() -> None:
    """The steps stream; only what may be the last box waits for the end."""
    base = SaidBase(lambda request: r"1+1=2 because of steps. The result is $\boxed{2}$.")

    events = await events_of(MATHS, asked(TURBO, QUESTION), base)

    texts = [event.text for event in events if event.text]
    assert len(texts) > 10
    assert "".join(texts) == r"1+1=2 because of steps. The result is $\boxed{2}$."
    assert events[-1].usage is not None
    assert len(base.requests) == 1


async def test_the_base_is_asked_for_steps_and_draws_the_likeliest() -> None:
    """Temperature 0 unless the caller says otherwise; the caller's own system message stays."""
    base = SaidBase(lambda request: r"\boxed{2}")

    await reply_of(MATHS, asked(TURBO, Message("system", "Be brief."), Message("user", "一加一？")), base)
    await reply_of(MATHS, asked(TURBO, QUESTION, sampling=Sampling(temperature=0.5)), base)

    first, second = base.requests
    assert first.messages[0].text.startswith("Be brief.\n\n请逐步推理")
    assert second.messages[0].text == r"Please reason step by step, and put your final answer within \boxed{}."
    assert [one.sampling.temperature for one in base.requests] == [0.0, 0.5]


@pytest.mark.parametrize("continues", [True, False])
async def test_a_missing_box_is_written_by_one_more_call(continues: bool) -> None:
    """It goes on with the solution where the base can, and is asked for the result alone where it cannot."""

    def says(request: ChatRequest) -> str:
        if len(request.messages) == 2:
            return "1+1 is 2, as everybody knows."
        return "2}$ and so on" if request.partial else r"It is \boxed{2}, of course."

    base = SaidBase(says, continues=continues)

    reply = await reply_of(MATHS, asked(TURBO, QUESTION), base)

    assert reply == "1+1 is 2, as everybody knows.\n\nFinal Answer: $\\boxed{2}$"
    assert [one.partial for one in base.requests] == [False, continues]


@pytest.mark.parametrize("nonsense", ["", "}", "{{{", "\n\n", r"\boxed{", "9" * 400])
async def test_a_base_that_cannot_say_the_result_leaves_the_last_number(nonsense: str) -> None:
    """One box, whatever comes of the second call."""
    base = SaidBase(lambda request: nonsense if len(request.messages) > 2 else "3*4 is 12")

    reply = await reply_of(MATHS, asked(TURBO, QUESTION), base)

    assert reply.endswith("$\\boxed{12}$") or nonsense == "9" * 400
    assert reply.count(OPENING) == 1


def says_always(text: str, _request: ChatRequest) -> str:
    return text


@pytest.mark.parametrize("name", [TURBO, PLUS])
async def test_two_hundred_solutions_have_one_box_each(name: str) -> None:
    """Spec §8: of solutions with none, one, several, open and empty boxes, wherever they stand."""
    draw = random.Random(8)
    parts = [
        "Step one. ",
        "So x = 3. ",
        r"\boxed{3} ",
        r"\boxed{",
        "} ",
        r"\boxed{} ",
        r"$$\boxed{\frac{3}{4}}$$ ",
        "Thus 7. ",
    ]
    for _ in range(200):
        text = "".join(draw.choice(parts) for _ in range(draw.randint(1, 6)))

        reply = await reply_of(MATHS, asked(name, QUESTION), _with_last_call(SaidBase(partial(says_always, text))))

        assert reply.count(OPENING) == 1, (text, reply)


@pytest.mark.parametrize("name", [TURBO, PLUS])
async def test_the_same_request_gets_the_same_text(name: str) -> None:
    """Spec §8: of a base whose answer hangs on everything that it is told and drawn with, a vote included."""

    def says(request: ChatRequest) -> str:
        drawn = zlib.crc32(repr((request.messages, request.sampling, request.partial)).encode())
        return rf"By way {drawn} the result is \boxed{{{drawn % 3}}}."

    for number in range(20):
        request = asked(name, Message("user", f"Problem {number}"), sampling=Sampling(seed=number or None))

        assert await reply_of(MATHS, request, SaidBase(says)) == await reply_of(MATHS, request, SaidBase(says))


def solving(result: int, right: float) -> Any:
    """Return a base each of whose solutions has a chance to be right; what it is told decides, always the same way.

    In a free prompt it says the result in words; wrong results are scattered.
    """

    def says(request: ChatRequest) -> str:
        drawn = zlib.crc32(repr((result, request.messages[-1], request.sampling)).encode()) % 1000
        found = result if drawn < 1000 * right else result + 1 + drawn % 7
        told = any("boxed" in message.text for message in request.messages)
        return rf"Step by step. $\boxed{{{found}}}$" if told else f"The result is {found}."

    return SaidBase(says)


@pytest.mark.parametrize("name", [TURBO, PLUS])
async def test_it_is_right_at_least_as_often_as_its_base_with_a_bare_prompt(name: str) -> None:
    """Spec §8: a bare prompt has the result somewhere in its words; a vote finds the one that comes up most often."""
    bare = ours = 0
    for result in range(200):
        problem = Message("user", f"Problem {result}")
        said = (await solving(result, 0.6).answer(asked(name, problem, sampling=Sampling(temperature=0.0)))).choices[0]
        bare += said.text == f"The result is {result}."
        reply = await reply_of(MATHS, asked(name, problem), solving(result, 0.6))
        ours += rf"\boxed{{{result}}}" in reply

    assert ours >= bare
    assert name == TURBO or ours > 1.1 * bare


async def test_a_solution_that_was_cut_short_is_left_at_that() -> None:
    """Its tokens are used up; what was open stays open, and the caller is told why."""
    base = SaidBase(lambda request: r"1+1 is \boxed{2} for sure")

    result = fold(await events_of(MATHS, asked(TURBO, QUESTION, sampling=Sampling(max_tokens=14)), base))

    assert (result.choices[0].text, result.choices[0].finish_reason) == (r"1+1 is \boxed{", "length")
    assert len(base.requests) == 1


async def test_what_the_callers_stop_text_ended_is_over() -> None:
    """A box behind it would not be what was asked for."""
    base = SaidBase(lambda request: "1+1 is ")

    reply = await reply_of(MATHS, asked(TURBO, QUESTION, sampling=Sampling(stop=("2",))), base)

    assert (reply, len(base.requests)) == ("1+1 is ", 1)


async def test_a_prefix_is_gone_on_with() -> None:
    """Partial mode: the reply begins behind the prefix, the box within it counts, and the base gets it last."""
    base = SaidBase(lambda request: "2}.")
    request = asked(TURBO, QUESTION, Message("assistant", r"The result is \boxed{"), partial=True)

    assert await reply_of(MATHS, request, base) == "2}."
    assert base.requests[0].messages[-1] == request.messages[-1]
    assert len(base.requests) == 1


async def test_json_is_not_disturbed() -> None:
    """Whoever wants a shape gets it, and no box behind it."""
    shape = Shape("json_schema", "x", {"type": "object"})

    assert (
        await reply_of(MATHS, asked(TURBO, QUESTION, shape=shape), SaidBase(lambda request: '{"x": 2}')) == '{"x": 2}'
    )


async def test_prompts_beyond_the_contracts_limit_are_refused() -> None:
    """3,072 tokens, whatever the base could read."""
    with pytest.raises(ContextLengthExceeded, match=r"\[1, 3072\]"):
        await reply_of(MATHS, asked(TURBO, Message("user", "1" * 3072)), SaidBase(lambda request: ""))


async def test_the_usage_is_that_of_the_callers_own_prompt() -> None:
    """What was added to it is not his."""
    base = SaidBase(lambda request: r"\boxed{2}")

    usage = fold(await events_of(MATHS, asked(TURBO, QUESTION), base)).usage

    assert (usage.prompt, usage.completion) == (len(QUESTION.text) + 4, 9)


# --- the vote


def voters(*results: str | Exception) -> Any:
    """Return a base each of whose solutions has the next result."""
    left = list(results)

    def says(request: ChatRequest) -> str | Exception:
        result = left.pop(0)
        return result if isinstance(result, Exception) else rf"By way {len(left)}: \boxed{{{result}}}"

    return SaidBase(says)


@pytest.mark.parametrize(
    ("results", "winner", "calls"),
    [
        (("4", "4", "4"), "4", 3),
        (("5", "4", "4", "4", "4"), "4", 5),
        (("5", "0.5", r"\frac12", "1/2", "7"), "0.5", 5),
        (("1", "2", "3", "4", "5"), "1", 5),
        (("", "2", "", "3", "3"), "3", 5),
        (("", "", "", "", ""), "", 5),
    ],
)
async def test_the_result_that_most_agree_with_is_given(results: tuple[str, ...], winner: str, calls: int) -> None:
    """In the words of the first who had it; the vote is over when it cannot change any more."""
    base = voters(*results)

    reply = await reply_of(MATHS, asked(PLUS, QUESTION), _with_last_call(base))

    assert rf"\boxed{{{winner}}}" in reply if winner else OPENING in reply
    assert sum(len(one.messages) == 2 for one in base.requests) == calls
    assert calls <= VOTERS


async def test_a_solution_with_a_wrong_sum_has_no_vote() -> None:
    """Three of five slip in the same way; the two that can be checked and hold are heard."""
    solutions = [rf"12 * 17 = 214, so \boxed{{214}} {number}" for number in range(3)]
    solutions += [rf"12 * 17 = 204, so \boxed{{204}} {number}" for number in range(2)]

    reply = await reply_of(MATHS, asked(PLUS, QUESTION), SaidBase(lambda request: solutions.pop(0)))

    assert reply == r"12 * 17 = 204, so \boxed{204} 0"


async def test_where_every_solution_has_a_wrong_sum_all_of_them_vote() -> None:
    """Some answer is due."""
    solutions = [rf"1 + 1 = 3, so \boxed{{{result}}}" for result in (3, 4, 4, 4, 5)]

    reply = await reply_of(MATHS, asked(PLUS, QUESTION), SaidBase(lambda request: solutions.pop(0)))

    assert r"\boxed{4}" in reply


def _with_last_call(base: SaidBase) -> SaidBase:
    """Let the base answer the call for a missing box."""
    says = base._says
    base._says = lambda request: "0}" if len(request.messages) > 2 else says(request)
    return base


async def test_the_first_of_a_vote_is_the_likeliest_and_the_others_are_drawn() -> None:
    """Five times the same would be no vote."""
    base = voters("1", "2", "3", "4", "5")

    await reply_of(MATHS, asked(PLUS, QUESTION, sampling=Sampling(seed=3)), base)

    assert [one.sampling.temperature for one in base.requests] == [0.0, 0.7, 0.7, 0.7, 0.7]
    assert len({one.sampling.seed for one in base.requests}) == 5


async def test_a_solution_that_fails_has_no_vote() -> None:
    """The others are enough; when all fail, the caller is told."""
    assert r"\boxed{4}" in await reply_of(MATHS, asked(PLUS, QUESTION), voters(EngineFailed("x"), "4", "4", "4", "5"))
    with pytest.raises(EngineFailed):
        await reply_of(MATHS, asked(PLUS, QUESTION), voters(*(EngineFailed("x") for _ in range(VOTERS))))


async def test_a_vote_says_nothing_before_it_is_over() -> None:
    """Steps that another result outvotes cannot be taken back."""
    base = voters("4", "4", "4")

    events = await events_of(MATHS, asked(PLUS, QUESTION), base)

    assert fold(events).choices[0].text.count(OPENING) == 1
    assert isinstance(events[0], Event)
    assert len(base.requests) == 3
