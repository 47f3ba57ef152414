"""Partial mode: what comes back goes on behind the prefix, also from a server that begins with the prefix again."""

import ast
import random
from collections.abc import AsyncGenerator

import pytest

from hanlin.engines.manner import Manner
from hanlin.engines.native import NativeAnswer
from hanlin.engines.profiles import profiles
from hanlin.types import Burst, Event, Message, Usage, fold
from tests.code_corpus import SOURCES
from tests.values import request

VLLM = Manner(profiles().engine["vllm"])


async def goes_on(prefix: str, answer: str, pieces: int) -> str:
    """Return what a caller gets for a prefix when a server answers so, some characters at a time."""

    async def send(_body: bytes) -> AsyncGenerator[Burst, None]:
        for at in range(0, len(answer), pieces):
            yield [Event(text=answer[at : at + pieces])]
        yield [Event(finish_reason="stop")]
        yield [Event(usage=Usage(10, len(answer)))]

    asked = request("写一段代码", partial=True)
    asked = asked.changed(messages=(*asked.messages, Message("assistant", prefix)))
    events = [event async for burst in NativeAnswer(asked, VLLM, send).events() for event in burst]
    return fold(events).choices[0].text


async def test_an_answer_never_begins_with_its_prefix() -> None:
    """Spec §7.6: a thousand prefixes in code and in prose, repeated by a server in pieces of any size."""
    draw = random.Random(7)
    words = ["def ", "f(", "n):\n", "    return ", "好的，", "春天", "{", "}", "\n", " ", "x = 1", "。", "a", "<b>"]
    wrong = []
    for _ in range(1000):
        prefix = "".join(draw.choice(words) for _ in range(draw.randint(1, 6)))
        rest = "".join(draw.choice(words) for _ in range(draw.randint(0, 4)))
        if len(prefix.strip()) < 2 or rest.startswith(prefix.rstrip()):
            continue

        again = await goes_on(prefix, prefix + rest, draw.randint(1, 9))
        behind = await goes_on(prefix, rest, draw.randint(1, 9))

        if (again, behind) != (rest, rest):
            wrong.append((prefix, rest, again, behind))

    assert wrong == []


async def test_two_hundred_beginnings_of_code_are_whole_with_what_follows() -> None:
    """Spec §7.6: prefix and reply parse, wherever the code was cut, whether or not the server says the prefix again."""
    draw = random.Random(78)
    wrong = []
    for number in range(200):
        source = SOURCES[number % len(SOURCES)]
        at = draw.randint(4, len(source) - 2)
        prefix, rest = source[:at], source[at:]

        reply = await goes_on(prefix, prefix + rest if draw.random() < 0.5 else rest, draw.randint(1, 9))

        try:
            ast.parse(prefix + reply)
        except SyntaxError:
            wrong.append((prefix, reply))

    assert len(wrong) <= 10, wrong


@pytest.mark.parametrize(
    ("prefix", "answer", "shown"),
    [
        ("def f", "def f(n):", "(n):"),
        ("好的，", "好的，我来写。", "我来写。"),
        ("Sure: ", "Sure: yes", "yes"),
        ("Sure: ", "Sure:yes", "yes"),
        ("Sure", "Surely", "ly"),
        ("def f", "def g", "def g"),
        ("def f", "def", "def"),
        ("{", '{"a": 1}', '{"a": 1}'),
        ("1", "11", "11"),
        ("  ", "  x", "  x"),
    ],
)
async def test_only_a_whole_prefix_is_a_repetition(prefix: str, answer: str, shown: str) -> None:
    """What merely begins alike, and one character that comes twice, is what the model had to say."""
    assert [await goes_on(prefix, answer, pieces) for pieces in (1, 2, 100)] == [shown] * 3
