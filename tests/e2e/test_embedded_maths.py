"""Maths on real weights: one boxed result each, and how many are right."""

import os
import random
import re
from typing import Any

import pytest
from openai import OpenAI

from hanlin.recipes.boxes import OPENING, OneBox, same_form
from tests.service import Service

pytestmark = [
    pytest.mark.embedded,
    pytest.mark.skipif(os.environ.get("TEST_DRILLS") != "all", reason="a drill: two hundred solutions"),
]

COUNT = 200
COMPARED = 60
BY_CHANCE = COMPARED // 20
BARE = "qwen2.5-7b-instruct"  # a name that only chats: the same weights answer it
PATIENCE_S = 600.0
MOST_TOKENS = 400


def problems() -> list[tuple[str, int]]:
    """Return problems with their results, in Chinese and in English, always the same ones."""
    draw = random.Random(8)
    made = []
    for _ in range(COUNT):
        a, b, c = draw.randint(3, 40), draw.randint(3, 20), draw.randint(1, 9)
        made.append(
            draw.choice(
                [
                    (f"一本书 {a} 元，买 {b} 本一共多少元？", a * b),
                    (f"小明有 {a + b} 个苹果，吃了 {b} 个，又买了 {c} 个，现在有几个？", a + c),
                    (f"长方形长 {a} 厘米，宽 {b} 厘米，周长是多少厘米？", 2 * (a + b)),
                    (f"A train runs {a} km an hour. How far does it run in {b} hours?", a * b),
                    (f"Solve for x: x + {a} = {a + b}", b),
                    (f"What is {a} + {b} * {c}?", a + b * c),
                ]
            )
        )
    return made


def result_of(solution: str) -> str:
    box = OneBox()
    box.feed(solution)
    box.close()
    return same_form(box.value or "")


def last_number(text: str) -> str:
    """Return the result of a solution that has no box: the last number in it."""
    found = re.findall(r"-?\d+(?:\.\d+)?", text)
    return same_form(found[-1]) if found else ""


def solved(client: OpenAI, model: str, problem: str) -> Any:
    """Return the choice of an answer, drawn with the likeliest tokens."""
    messages: list[Any] = [{"role": "user", "content": problem}]
    done = client.chat.completions.create(model=model, messages=messages, max_tokens=MOST_TOKENS, temperature=0)
    return done.choices[0]


@pytest.fixture(scope="module")
def solutions(embedded_service: Service) -> list[Any]:
    """What `qwen-math-turbo` says to each problem: once for all tests."""
    with embedded_service.client(timeout=PATIENCE_S) as client:
        return [solved(client, "qwen-math-turbo", problem) for problem, _ in problems()]


def test_solutions_have_one_box(solutions: list[Any]) -> None:
    """Spec scenarios §8: in 99 of 100; one that was cut short has used up its tokens, and does not count."""
    texts = [choice.message.content or "" for choice in solutions if choice.finish_reason != "length"]
    wrong = [text for text in texts if text.count(OPENING) != 1]
    right = sum(result_of(choice.message.content) == str(result) for choice, (_, result) in _with_results(solutions))

    cut = COUNT - len(texts)
    print(f"\n{COUNT} problems: {right} right, {cut} cut short, {len(wrong)} without one box")  # noqa: T201 (for -s)
    assert len(wrong) <= COUNT // 100


def test_it_is_right_at_least_as_often_as_the_bare_weights(embedded_service: Service, solutions: list[Any]) -> None:
    """Spec scenarios §8: the same weights, asked without a recipe; one in twenty may be chance."""
    ours = bare = 0
    with embedded_service.client(timeout=PATIENCE_S) as client:
        for choice, (problem, result) in _with_results(solutions[:COMPARED]):
            text = solved(client, BARE, problem).message.content or ""
            ours += result_of(choice.message.content) == str(result)
            bare += str(result) in (result_of(text), last_number(text))

    print(f"\n{COMPARED} problems: {ours} right, {bare} by the bare weights")  # noqa: T201 (for -s)
    assert ours >= bare - BY_CHANCE


def test_the_same_problem_gets_the_same_text(embedded_service: Service, solutions: list[Any]) -> None:
    """Spec scenarios §8: at temperature 0, whatever was asked in between."""
    with embedded_service.client(timeout=PATIENCE_S) as client:
        again = [solved(client, "qwen-math-turbo", problem) for problem, _ in problems()[:5]]

    assert [one.message.content for one in again] == [one.message.content for one in solutions[:5]]


def _with_results(solutions: list[Any]) -> list[tuple[Any, tuple[str, int]]]:
    return list(zip(solutions, problems()[: len(solutions)], strict=True))
