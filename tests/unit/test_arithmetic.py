"""Sums in a solution: wrong ones are found, and nothing is called wrong that may be right."""

import pytest

from hanlin.recipes.arithmetic import wrong_sums


@pytest.mark.parametrize(
    "text",
    [
        "12 * 17 = 204",
        "12×17=204",
        r"$12 \times 17 = 204$",
        "x = 3 + 4 = 7",
        "2 + 3 × 4 = 14",
        "100 - 30 - 20 = 50",
        "5 - 8 = -3",
        "1,200 + 34 = 1,234",
        "10 ÷ 3 = 3.33",
        "10 / 4 = 2.5",
        "2 ÷ 3 = 0.667 元",
        "一共 3 + 4 = 7 个",
        "共3+4=7个",
    ],
)
def test_sums_that_hold_are_not_wrong(text: str) -> None:
    """By precedence, with separators and roundings, in whatever signs."""
    assert wrong_sums(text) == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("so 12 * 17 = 214.", "12 * 17 = 214"),
        (r"\[12 \times 17 = 214\]", r"12 \times 17 = 214"),
        ("共3+4=8个", "3+4=8"),
        ("2 + 3 × 4 = 20", "2 + 3 × 4 = 20"),
        ("10 ÷ 3 = 3.4", "10 ÷ 3 = 3.4"),
        ("1,200 + 34 = 1,334 元", "1,200 + 34 = 1,334"),
        ("5 + 5 = 10, and 10 + 1 = 12 then", "10 + 1 = 12"),
    ],
)
def test_sums_that_do_not_hold_are_found(text: str, wrong: str) -> None:
    """As they are written."""
    assert wrong_sums(text) == [wrong]


@pytest.mark.parametrize(
    "text",
    [
        "2x + 3 + 4 = 9",
        "y - 2 + 3 = 8",
        "(1 + 1) * 2 + 2 = 6",
        "3 + 4 = 5x",
        "3 + 4 = 5 x",
        "3 + 4 = 5 + 2",
        "2 + 2 = 2^2",
        r"1 + 1 = 2 \times 1",
        r"1 + 2 = 4\sqrt{2}",
        "17 ÷ 5 = 3 余 2",
        "17 ÷ 5 = 3……2",
        "17 / 5 = 3 R 2",
        "100 - 20 = 80%",
        "5 / 0 = 1",
        "x^2 + 3 = 7",
        "a1 + 2 = 4",
        "version 1.2.3 - 4 = 5.6.7",
        "10:30 - 2 = 8",
        "1 + 2 is 4",
        "= 7",
        "",
    ],
)
def test_what_cannot_be_judged_is_taken_to_be_right(text: str) -> None:
    """Letters, powers, remainders, and parts of longer lines."""
    assert wrong_sums(text) == []
