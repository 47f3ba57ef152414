"""Texts made to keep a program busy: a caller's prompt, a file and a model's answer may hold them, and one thread of a
service reads them for everybody. Each of these took hours, or the square of its length, at some time."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from hanlin.documents import questions
from hanlin.documents.kinds import kind_of
from hanlin.documents.limits import Limits
from hanlin.documents.parsers import flow, html
from hanlin.documents.unreadable import DocumentUnreadable
from hanlin.documents.values import Page
from hanlin.engines.gaps import within_gap, without_tags
from hanlin.recipes import (
    boxes,
    dialogue_analysis,
    grounding,
    intent_replies,
    jsontext,
    output_formats,
    shaped,
    tables,
    texts,
)
from hanlin.recipes.data_mining import asking, forms, verifying
from hanlin.recipes.long_documents.claims import Gate, Supplied
from hanlin.recipes.translation import languages, leftovers, mending, prompts, protecting, segmenting
from hanlin.service import gap_by_chat
from hanlin.types import CompletionRequest, Event, Events

CPU_S = 20.0
"""A hundred times what any of them takes, and far from what the old ways took."""

LONG = 300_000


class StillBusy(AssertionError):
    pass


@pytest.fixture(autouse=True)
def _is_ended() -> Iterator[None]:
    """End what computes and computes, by the process's own CPU time: other processes make no difference."""

    def end(_signal: int, _frame: FrameType | None) -> None:
        raise StillBusy

    before = signal.signal(signal.SIGVTALRM, end)
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _gate(text: str) -> None:
    gate = Gate(Supplied("text"))
    gate.feed(text)
    gate.close()


def _left_over(text: str) -> None:
    source, target = languages.find("en"), languages.find("de")
    assert target is not None
    leftovers.left_over(text, source, target, text, ())


def _into_a_gap(piece: str) -> None:
    """Fill a gap with a piece that comes again and again, as small weights do that have nothing more to say."""

    async def written() -> Events:
        for _ in range(LONG // 10):
            yield [Event(text=piece)]

    async def read() -> None:
        gap = CompletionRequest("m", "def f():\n    ", "\n    return x\n", fills_gap=True)
        async for _ in without_tags(within_gap(written(), gap)):
            pass

    asyncio.run(read())


def _boxed(box: boxes.OneBox, begun: str, piece: str) -> None:
    box.feed(begun)
    for _ in range(LONG // 10):
        box.feed(piece)
    box.close()


def _looked_for(value: str) -> None:
    heard = grounding.Heard("话" * LONG)
    for _ in range(1000):
        assert not grounding.is_said(value, heard)


CASES: dict[str, Callable[[], Any]] = {
    "alternatives of nothing but blanks": lambda: forms.schema_of({"a": "a" + ("|" + " " * 24) * 20 + "\n|"}),
    "a label with blanks behind it": lambda: asking.labels_in("类别：\n- a" + " " * LONG),
    "an example of nothing but gaps": lambda: forms.example_in('{"a":' + "…" * LONG + "}"),
    "a schema that doubles": lambda: forms.plain(
        {"type": "object", "properties": {f"p{number}": {"$ref": "#"} for number in range(40)}}
    ),
    "a paragraph of short lines": lambda: flow.joined(["ab cd"] * LONG),
    "a title that never ends": lambda: list(html.blocks(html.Body(), ["<html><title>" + "&amp;" * LONG])),
    "what nobody sees, deeply nested": lambda: list(
        html.blocks(html.Body(), ["<html><svg>" + "".join(f"<a{number}>" for number in range(LONG // 5)) + "</svg>"])
    ),
    "brackets that nobody closes": lambda: forms.example_in("[" * LONG),
    "brackets that could be JSON": lambda: jsontext.first_json("[" * LONG),
    "an example with a gap": lambda: forms.example_in('{"a": 1,' + " " * LONG + "x}"),
    "a line of blanks in a dialogue": lambda: output_formats.dialogue_of(" " * LONG + "x"),
    "blanks behind the number of a turn": lambda: output_formats.dialogue_of("1" + " " * LONG + "x"),
    "a list of labels that never comes": lambda: output_formats.label_format("标签#理由\n标签为" + "\n" * LONG),
    "quotes that open": lambda: list(dialogue_analysis._unsaid_in("“" * LONG, grounding.Heard("text"))),
    "a speaker without a name": lambda: dialogue_analysis._without_speaker(" " * LONG + "x"),
    "a border of blanks": lambda: tables.tables([Page(1, "|a|\n" + " " * LONG + "-|x")]),
    "a summary of nothing but digits": lambda: questions.asks_for_whole("总结" + "1" * LONG),
    "a summary of nothing but numerals": lambda: questions.asks_for_whole("总结" + "一" * 1900),
    "a question of nothing but belonging": lambda: questions.joins("的a" * LONG) or questions.joins("of the a " * 44),
    "a question of clauses": lambda: questions.joins("the a b c " * 40) or questions.asks_barely("where " * LONG),
    "an amount without digits": lambda: texts.amount("-" + " " * LONG + "x"),
    "an answer with blanks": lambda: mending.cleaned("a", "a" + " " * LONG + "b"),
    "an answer with empty lines": lambda: mending.cleaned("a", "a" + "\n " * LONG + "b"),
    "an answer with empty lines, untold": lambda: mending.without_wrapping("a" + "\n " * LONG + "b"),
    "leaders": lambda: segmenting.pieces("." * LONG + "a", 300.0),
    "digits without a unit": lambda: list(protecting.measures("1" * LONG + "x")),
    "digits and points without a unit": lambda: list(protecting.measures("1." * LONG + "x")),
    "comments that stay open": lambda: protecting.kept("<!--" * (LONG // 20)),
    "short sentences": lambda: segmenting.pieces("Hm. " * (LONG // 3) + "a", 300.0),
    "numbers of lists": lambda: segmenting.pieces("a " + "1. " * LONG + "a", 300.0),
    "sentences with something kept in each": lambda: segmenting.pieces("Ah {x}. " * (LONG // 3), 300.0),
    "a sentence without an end": lambda: segmenting.pieces("a" * LONG, 300.0),
    "a translation that is its text": lambda: _left_over("the red house stands here " * (LONG // 30)),
    "a translation of quotes": lambda: _left_over("“a " * (LONG // 10)),
    "an announcement that never ends": lambda: mending.cleaned("a", "translation " * (LONG // 12)),
    "all names of tags": lambda: prompts.tag_for("text>" + "".join(f"text{number}>" for number in range(LONG))),
    "a fence that stays open": lambda: shaped.parsed("```" + " " * LONG + "x", {}),
    "letters that could be a code": lambda: _gate("a" * (LONG // 10)),
    "digits that could be a code": lambda: _gate("1," * (LONG // 10)),
    "a fence of many words that stays open": lambda: shaped.parsed("``` {" * (LONG // 10), {}),
    "lines of blanks in a gap": lambda: _into_a_gap("\n"),
    "blanks in a line of a gap": lambda: _into_a_gap("\n    " + " " * 20),
    "beginnings of tags in a gap": lambda: _into_a_gap("<|fim"),
    "a gap's sides said again": lambda: gap_by_chat.fitted(
        "a" * LONG, CompletionRequest("m", "ab" * LONG, "ab" * LONG)
    ),
    "marks within marks": lambda: intent_replies.plain_text("<ta" * (LONG // 10) + "gs>" * (LONG // 10)),
    "calls that nobody closes": lambda: intent_replies.earlier("<tool_call>" * (LONG // 10)),
    "a prefix's box that stays open": lambda: _boxed(boxes.OneBox(r"\boxed{"), "", "x{ "),
    "a long way behind a box": lambda: _boxed(boxes.OneBox(), r"\boxed{1}", "1 + 1 "),
    "printed lists that are none": lambda: jsontext.first_json("[" * 190 + "x," * 9000 + "]" * 190),
    "an example of nothing but levels": lambda: output_formats.json_format('{"a":' * 900 + "1" + "}" * 900, "无"),
    "many values of a long dialogue": lambda: _looked_for("12 号"),
    "empty lines around a gap": lambda: gap_by_chat.is_python(CompletionRequest("m", "\n" * LONG + "x")),
}


@pytest.mark.parametrize("name", CASES)
def test_what_a_text_is_made_of_does_not_keep_a_service_busy(name: str) -> None:
    """Nobody else is answered meanwhile, and a limit of time cannot end it: the loop that keeps it waits as well."""
    CASES[name]()


def test_the_beginning_of_a_file_does_not_keep_its_reader_busy(tmp_path: Path) -> None:
    """Comments can be told apart in one way only; in two, a few dozen of them take years."""
    path = tmp_path / "page.html"
    path.write_bytes(b"<!---->" * 500 + b"x")

    with pytest.raises(DocumentUnreadable):
        kind_of(path, "page.bin", Limits())


@pytest.mark.parametrize("text", ["high | low", "高|中|低", "a/b|c"])
def test_examples_still_list_their_values(text: str) -> None:
    """What is bounded must not be lost with the bound."""
    assert "enum" in forms.schema_of({"level": text})["properties"]["level"]


def test_numbers_that_are_too_long_to_be_numbers_are_text() -> None:
    """A float that overflows, or digits that Python does not read, would fail the whole call."""
    digits = "9" * 5000

    assert verifying.typed(digits, {"type": "integer"}) is None
    assert not verifying.Source(digits).holds(10**400)
    assert boxes.same_form(digits) == digits
    assert not grounding.is_said(10**400, grounding.Heard("1"))
    assert output_formats.dialogue_of(f"[{digits}] 客服：好").turns == frozenset()
