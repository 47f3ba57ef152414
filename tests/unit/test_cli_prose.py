"""Wrapping sentences that mix words and Chinese characters."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table

from hanlin.cli.prose import Prose, wrap

MIXED = "首次启动会获取一个小模型并生成密钥（或采用 $DASHSCOPE_API_KEY）。每个选项也可写入 hanlin.toml。"


@pytest.mark.parametrize("columns", [24, 33, 40, 79, 200])
def test_chinese_is_wrapped_between_characters_and_words_between_spaces(columns: int) -> None:
    """Taken for one word, a Chinese clause would leave half of every line empty, or be cut at the edge."""
    lines = list(wrap(MIXED, columns))

    assert all(cell_len(line) <= columns for line in lines)
    assert "".join(lines).replace(" ", "") == MIXED.replace(" ", "")
    assert any("$DASHSCOPE_API_KEY" in line for line in lines)
    assert all(columns - cell_len(line) < cell_len("$DASHSCOPE_API_KEY）。") + 2 for line in lines[:-1])


def test_no_line_begins_with_closing_punctuation() -> None:
    """The first rule of Chinese typesetting."""
    for columns in range(8, 60):
        assert all(not line.startswith(("，", "。", "）", "；")) for line in wrap(MIXED, columns))


@given(st.text(alphabet="ab ，。（）中文$…-", max_size=60), st.integers(min_value=1, max_value=30))
def test_wrapping_loses_nothing_but_spaces(text: str, columns: int) -> None:
    """A sentence on a narrow terminal must say the same."""
    assert "".join(wrap(text, columns)).replace(" ", "") == text.replace(" ", "")


def test_indented_lines_stay_indented() -> None:
    """Configuration that is shown to be copied keeps its form."""
    assert list(wrap("  model = x y z", 11)) == ["  model = x", "  y z"]


def test_a_table_knows_how_wide_the_sentences_in_it_want_to_be() -> None:
    """Otherwise a column would take the whole screen, or nothing of it."""
    table = Table.grid(padding=(0, 1))
    table.add_column()
    table.add_column()
    table.add_row("name", Prose("一二三四五六七八"))
    console = Console(width=15, file=io.StringIO())

    with console.capture() as page:
        console.print(table)

    assert page.get().splitlines() == ["name 一二三四五", "     六七八    "]
