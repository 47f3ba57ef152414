"""Gaps in code filled by models that only chat: what they say, fitted in between, and which of it is taken."""

import ast
import random
from collections.abc import Callable

import pytest

from hanlin.service.gap_by_chat import CANDIDATES, can_be_read, fill_by_chat, fitted, is_python
from hanlin.testing import ScriptedEngine, says
from hanlin.types import ChatResult, CompletionRequest, Sampling, Usage, fold
from tests.code_corpus import python_gaps


def gap(before: str, behind: str | None = None, **sampling: object) -> CompletionRequest:
    drawn = Sampling(**sampling)  # type: ignore[arg-type]  # a test's own fields
    return CompletionRequest("qwen-coder-turbo", before, behind, fills_gap=True, sampling=drawn)


async def filled(request: CompletionRequest, engine: ScriptedEngine) -> ChatResult:
    return fold([event async for burst in fill_by_chat(request, engine.generate) for event in burst])


def one_after_another(*answers: str, reason: str = "stop") -> ScriptedEngine:
    left = list(answers)
    return ScriptedEngine(lambda request: says(left.pop(0), finish_reason=reason, usage=Usage(30, 5)))


DEF = "def add(a, b):\n    "


@pytest.mark.parametrize(
    ("before", "said", "behind", "middle"),
    [
        (DEF, "return a + b", "\n", "return a + b"),
        (DEF, "```python\nreturn a + b\n```", "\n", "return a + b"),
        (DEF, "Here you are:\n```python\n    return a + b\n```\nIt adds.", "\n", "return a + b"),
        (DEF, "`return a + b`", "\n", "return a + b"),
        (DEF, "def add(a, b):\n    return a + b", "\n", "return a + b"),
        (DEF, "```\nreturn a + b\nprint(add(1, 2))\n```", "\nprint(add(1, 2))\n", "return a + b"),
        (DEF, "return a + b\n\nprint(add(1, 2))", "\n\nprint(add(1, 2))", "return a + b"),
        (DEF, "if a:\n    return a\nreturn b", "\n", "if a:\n        return a\n    return b"),
        (DEF, "    if a:\n        return a\n    return b", "\n", "if a:\n        return a\n    return b"),
        (DEF, "for x in a:\n        b += x\n    return b", "\n", "for x in a:\n        b += x\n    return b"),
        ("total = su", "total = sum(values)", "\n", "m(values)"),
        ("total = ", "sum(values)", "\nprint(total)", "sum(values)"),
        ("x = [1, 2, ", "3, 4", "]\n", "3, 4"),
        ("def f():\n", "    return 1", "\n", "    return 1"),
        ("def f():\n", "```python\n    return 1\n```", None, "    return 1"),
        ("a = 1\n", "b = 2<|fim_middle|>x", None, "b = 2"),
        ("f(", "", ")", ""),
    ],
)
def test_what_a_model_says_is_fitted_into_the_gap(before: str, said: str, behind: str | None, middle: str) -> None:
    """Fences and explanations go, what stands around the gap is not said again, indentation stays right."""
    assert fitted(said, gap(before, behind)) == middle


@pytest.mark.parametrize(
    ("code", "python"),
    [
        ("def f():\n    ", True),
        ("import os\n", True),
        ("function f() {\n", False),
        ("int main(void) {\n", False),
        ("x", False),
    ],
)
def test_python_is_recognised(code: str, python: bool) -> None:
    """Only it has a parser here."""
    assert is_python(gap(code)) == python


@pytest.mark.parametrize(
    ("before", "middle", "behind", "whole"),
    [
        (DEF, "return a", "\n", True),
        (DEF, "return (a", "\n", False),
        (DEF, "", "\n", False),
        ("int f() {\n", "return 1;\n", "}\n", True),
        ("int f() {\n", "return (1;\n", "}\n", False),
        ("int f() {\n", "}}", "\n", False),
    ],
)
def test_code_is_whole_when_it_can_be_read(before: str, middle: str, behind: str, whole: bool) -> None:
    """Python by its parser, anything else by its brackets."""
    assert can_be_read(middle, gap(before, behind)) == whole


async def test_the_first_answer_that_can_be_read_is_taken() -> None:
    """The others are not even asked for; what was written until then is counted."""
    engine = one_after_another("return (a", "```\nreturn a + b\n```", "never")

    result = await filled(gap(DEF, "\n"), engine)

    assert (result.choices[0].text, result.choices[0].finish_reason) == ("return a + b", "stop")
    assert result.usage == Usage(30, 10)
    assert len(engine.requests) == 2
    assert len({one.sampling.seed for one in engine.requests}) == 2


async def test_of_answers_that_cannot_be_read_the_shortest_is_taken() -> None:
    """Least is wrong with it."""
    engine = one_after_another("return ((a", "return (", "return (a, b")

    result = await filled(gap(DEF, "\n"), engine)

    assert result.choices[0].text == "return ("
    assert len(engine.requests) == CANDIDATES


async def test_limits_and_stop_texts_are_the_gaps() -> None:
    """A stop text is looked for in what fills the gap, not in the words around it; what was cut is not tried again."""
    stopped = await filled(gap(DEF, "\n", stop=("`",)), one_after_another("```python\nreturn `a\n```", "x", "y"))
    engine = one_after_another("return (a", reason="length")
    cut = await filled(gap(DEF, "\n", max_tokens=5), engine)

    assert stopped.choices[0].text in ("return ", "x", "y")
    assert (cut.choices[0].text, cut.choices[0].finish_reason) == ("return (a", "length")
    assert [one.sampling.max_tokens for one in engine.requests] == [5]


async def test_both_sides_are_shown_to_the_model() -> None:
    """In delimiters, and a prefix alone without a gap's other side."""
    engine = one_after_another("return 1", "return 1")

    await filled(gap(DEF, "\nprint()"), engine)
    await filled(gap(DEF), engine)

    both, alone = (one.messages[-1].text for one in engine.requests)
    assert both == f"<before>\n{DEF}\n</before>\n<gap/>\n<behind>\n\nprint()\n</behind>"
    assert alone.endswith("Nothing stands behind the gap.")


async def test_two_hundred_gaps_in_python_are_filled_with_code_that_parses() -> None:
    """Spec §7.6, of a model that knows the line and wraps it in every bad habit."""
    draw = random.Random(7)
    habits: list[Callable[[str, CompletionRequest], str]] = [
        lambda line, _: line,
        lambda line, _: f"```python\n{line}\n```",
        lambda line, _: f"Sure! Here is the line:\n\n```py\n{line.strip()}\n```\nHope this helps.",
        lambda line, request: f"{request.prompt.splitlines()[-2:][0]}\n{line}",
        lambda line, request: f"{line}{(request.suffix or '')[:20]}",
    ]
    wrong = []
    for request, line in python_gaps(200):
        engine = ScriptedEngine(says(draw.choice(habits)(line, request)))

        result = await filled(request, engine)

        try:
            ast.parse(f"{request.prompt}{result.choices[0].text}{request.suffix}")
        except SyntaxError:
            wrong.append((request.prompt, result.choices[0].text))

    assert len(wrong) <= 10, wrong


async def test_a_caller_who_hangs_up_stops_the_model() -> None:
    """As of any call."""
    engine = ScriptedEngine(says("a", "b"))
    events = fill_by_chat(gap(DEF), engine.generate)

    await anext(events)
    await events.aclose()

    assert engine.running == 0
