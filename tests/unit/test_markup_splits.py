"""However a generation is cut into pieces, the message is the same, and no mark of a call is ever text.

`SPLITS=100000 pytest tests/unit/test_markup_splits.py` tries that many random cuts instead of the usual ones.
"""

import codecs
import os
import random
import re
from collections.abc import Iterator
from itertools import groupby, pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanlin.engines.markup import MarkupParser, Piece, Text
from hanlin.engines.markup.forms import MARKS, either
from tests.markup_corpus import GOLDEN, TOOLS, Golden, parsed, put_together

SPLITS = int(os.environ.get("SPLITS", "10000"))
SHARES = 20
FRAGMENTS = [
    *(text for text, mark in MARKS.items() if "DSML" not in text),
    *("</tool_call>", "</tools>", "</function>", "</think>", "<think>", "</parameter>", "<parameter=a>", "</invoke>"),
    *(
        "<｜DSML｜tool_calls>",
        '<｜DSML｜invoke name="f">',
        "</｜DSML｜tool_calls>",
        "<｜tool▁sep｜>",
        "<｜tool▁call▁end｜>",
    ),
    *("<function=get_weather>", "get_weather", "functions.f:0", "<|tool_call_argument_begin|>", "<|tool_call_end|>"),
    *(
        '{"name": "get_weather"',
        '"name"',
        '"get_weather"',
        '"arguments"',
        '"arguments": {',
        '"a": 1',
        ": ",
        ", ",
        "}",
        "]",
    ),
    *(
        "```",
        "```json\n",
        "```python\n",
        "`",
        "\n",
        "\n\n",
        " ",
        "{",
        "[",
        "'",
        '"',
        "\\",
        "<",
        "</",
        "<tool",
        "_call>",
        "x",
    ),
    *("<arg_key>", "a</arg_key><arg_value>", "</arg_value>", "你好。", "function"),
]
generations = st.lists(st.sampled_from(FRAGMENTS), max_size=24).map("".join)
modes = st.sampled_from(["none", "possible", "open"])


def cut(text: str, ends: list[int]) -> Iterator[str]:
    return (text[start:end] for start, end in pairwise([0, *sorted(ends), len(text)]))


def random_cuts(golden: Golden, dice: random.Random) -> list[int]:
    """Return places to cut: few, many, or about where tokens end."""
    count = dice.choice((1, 2, len(golden.written) // 4, len(golden.written)))
    return [dice.randint(0, len(golden.written)) for _ in range(count)]


@pytest.mark.parametrize("share", range(SHARES))
def test_random_cuts_change_nothing(share: int) -> None:
    """Four of the streaming defects of other servers existed only where a token ended within a mark."""
    dice = random.Random(share)
    for number in range(SPLITS // SHARES):
        golden = GOLDEN[(share + number * SHARES) % len(GOLDEN)] if number < len(GOLDEN) else dice.choice(GOLDEN)
        ends = random_cuts(golden, dice)

        message = put_together(parsed(golden.parser(), cut(golden.written, ends)))

        assert message == golden.message, (golden.name, ends)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(GOLDEN), st.data())
def test_cuts_within_characters_change_nothing(golden: Golden, data: st.DataObject) -> None:
    """Engines send bytes; a decoder in front of the parser holds half a character back."""
    whole = golden.written.encode()
    ends = data.draw(st.lists(st.integers(0, len(whole)), max_size=12))
    decoder = codecs.getincrementaldecoder("utf-8")()

    pieces = [decoder.decode(whole[start:end]) for start, end in pairwise([0, *sorted(ends), len(whole)])]

    assert put_together(parsed(golden.parser(), pieces)) == golden.message


@settings(deadline=None, max_examples=400)
@given(generations, modes, st.booleans(), st.data())
def test_cuts_change_nothing_in_nonsense_either(written: str, thinking: str, known: bool, data: st.DataObject) -> None:
    """Small models write marks that do not fit together; every rule must depend on the text alone."""
    ends = data.draw(st.lists(st.integers(0, len(written)), max_size=40))

    def pieces(cuts: Iterator[str]) -> list[Piece]:
        return parsed(MarkupParser(tools=TOOLS if known else (), calls=True, thinking=thinking), cuts)  # type: ignore[arg-type]

    whole = put_together(pieces(iter([written])))
    assert put_together(pieces(cut(written, ends))) == whole
    assert put_together(pieces(iter(written))) == whole


@settings(deadline=None, max_examples=400)
@given(generations, modes)
def test_no_mark_of_a_call_is_ever_text(written: str, thinking: str) -> None:
    """Raw markup in front of a user is the defect that users report most."""
    sure = re.compile(
        either(text for text, mark in MARKS.items() if mark.sure and mark.bare and not text.endswith("="))
        + r"|<function=\w+>"
    )

    pieces = parsed(MarkupParser(tools=TOOLS, calls=True, thinking=thinking), [written])  # type: ignore[arg-type]

    for is_text, group in groupby(pieces, lambda piece: isinstance(piece, Text)):
        if is_text:
            assert not sure.search("".join(piece.text for piece in group if isinstance(piece, Text)))
