"""The fake engine's tokenizer: simple, the same everywhere, and without loss."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hanlin.testing import tokens


def test_a_token_is_a_character_or_a_short_run_of_ascii() -> None:
    """The rule is documented, so that a test's author can count usage by hand."""
    pieces = tokens.split("你好, Hanlin 2026!?é\n")

    assert pieces == ["你", "好", ",", " ", "Hanl", "in", " ", "2026", "!?", "é", "\n"]
    assert tokens.count("你好, Hanlin 2026!?é\n") == len(pieces)


@given(st.text())
def test_no_character_is_lost_on_the_way_to_ids_and_back(text: str) -> None:
    """Whoever tokenizes a prompt here and sends the ids back must get the same prompt."""
    ids = tokens.encode(text)

    assert tokens.decode(ids) == text
    assert len(ids) == tokens.count(text) == sum(len(group) for group in tokens.group(text, 3))


def test_ids_are_the_same_in_every_process() -> None:
    """An id depends on its text only: two engines, or one after its restart, agree on it."""
    assert tokens.encode("我a") == [0xE68891, 0x61]


def test_an_id_that_no_text_has_is_refused() -> None:
    """Silently dropping it would hide a mistake of the caller."""
    with pytest.raises(ValueError):
        tokens.decode([0xFF])
    with pytest.raises(ValueError, match="not negative"):
        tokens.decode([-1])


def test_a_prompt_holds_the_tools_and_every_turn() -> None:
    """All of it costs tokens, as with a real engine."""
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": [{"type": "text", "text": "简短"}, {"type": "text", "text": "回答"}]},
        {"role": "user", "content": "天气？"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "call_1"}]},
    ]

    prompt = tokens.prompt_of(messages, [{"type": "function"}])

    assert prompt == (
        '<tools>[{"type":"function"}]</tools>\n'
        "<|im_start|>system\n简短回答<|im_end|>\n"
        "<|im_start|>user\n天气？<|im_end|>\n"
        '<|im_start|>assistant\n[{"id":"call_1"}]<|im_end|>\n'
        "<|im_start|>assistant\n"
    )
