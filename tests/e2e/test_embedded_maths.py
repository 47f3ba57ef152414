"""Maths on real weights: one boxed result each, and how many are right."""

import os
import random

import pytest

from hanlin.recipes.boxes import OPENING, OneBox, same_form
from tests.service import Service

pytestmark = [
    pytest.mark.embedded,
    pytest.mark.skipif(os.environ.get("TEST_DRILLS") != "all", reason="a drill: two hundred solutions"),
]

COUNT = 200
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


def test_solutions_have_one_box(embedded_service: Service) -> None:
    """Spec scenarios §8: in 99 of 100; one that was cut short has used up its tokens, and does not count."""
    right = cut = 0
    wrong = []
    with embedded_service.client(timeout=PATIENCE_S) as client:
        for problem, result in problems():
            done = client.chat.completions.create(
                model="qwen-math-turbo", messages=[{"role": "user", "content": problem}], max_tokens=MOST_TOKENS
            )
            choice = done.choices[0]
            text = choice.message.content or ""
            if choice.finish_reason == "length":
                cut += 1
            elif text.count(OPENING) != 1:
                wrong.append(text)
            right += result_of(text) == str(result)

    print(f"\n{COUNT} problems: {right} right, {cut} cut short, {len(wrong)} without one box")  # noqa: T201 (for -s)
    assert len(wrong) <= COUNT // 100
