"""What taking a generation apart costs a token, beside reading everything anew at each token as a naive server does.

Prints microseconds a token, the share of one core that an answer of 1,000 tokens a second takes, and the ratio to the
naive way, measured in turns in the same run. Fails when a share reaches 2 %.
"""

import json
import re
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Literal

from hanlin.engines.markup import MarkupParser
from tests.markup_corpus import PYTHON, TOOLS, hermes

ROUNDS = 7
TOKENS = 1_000
LIMIT_US = 20.0  # 2 % of a core at 1,000 tokens a second

_TOKEN = re.compile(r"\s*[A-Za-z]{1,8}|[\u4e00-\u9fff]{1,2}|\s+|[^\sA-Za-z]{1,2}")
_THINKING = re.compile(r"\s*<think>(.*?)(?:</think>\s*|\Z)", re.DOTALL)
_CALL = re.compile(r"\s*<tool_call>\s*(.*?)\s*(?:</tool_call>\s*|\Z)", re.DOTALL)

CHINESE = "杭州位于中国东南沿海，钱塘江下游，是浙江省的省会。西湖在城西，三面环山，面积约六平方公里。\n\n"
FILE = json.dumps({"name": "write_file", "arguments": {"path": "greet.py", "text": PYTHON * 8}}, ensure_ascii=False)

Mode = Literal["none", "possible", "open"]
CASES: dict[str, tuple[str, bool, Mode]] = {
    "Chinese text, no tools": (CHINESE, False, "possible"),
    "Chinese text, tools": (CHINESE, True, "possible"),
    "code in fences, tools": (f"Look:\n\n```python\n{PYTHON * 4}```\n\nNow it works: a < b.\n\n", True, "possible"),
    "answer in JSON, tools": (
        '```json\n[\n  {"name": "Bob", "age": 5},\n  {"id": 1, "type": "x"}\n]\n```\n',
        True,
        "possible",
    ),
    "thinking": (CHINESE.rstrip() + " Let me see: a < b.\n", True, "open"),
    "calls, many": (
        hermes('{"name": "get_weather", "arguments": {"city": "杭州", "days": 3}}') + "\n",
        True,
        "possible",
    ),
    "calls, long": (hermes(FILE) + "\n", True, "possible"),
}


def tokens_of(text: str) -> list[str]:
    """Return about as many tokens as a case has, `text` being repeated."""
    tokens = _TOKEN.findall(text)
    return (tokens * (TOKENS // len(tokens) + 1))[: max(TOKENS, len(tokens))]


def incremental(tokens: Sequence[str], calls: bool, thinking: Mode) -> None:
    parser = MarkupParser(tools=TOOLS, calls=calls, thinking=thinking)
    for token in tokens:
        parser.feed(token)
    parser.close()


def naive(tokens: Sequence[str], calls: bool, thinking: Mode) -> None:
    """Look at all the text so far at every token, and compare with what was sent, as many servers do."""
    written, sent = "<think>" if thinking == "open" else "", ("", "", 0)
    for token in tokens:
        written += token
        answer, reasoning, found = written, "", 0
        if block := _THINKING.match(written):
            answer, reasoning = written[block.end() :], block[1]
        if calls:
            for call in _CALL.finditer(answer):
                try:
                    json.loads(call[1])
                except ValueError:
                    continue
                found += 1
            answer = _CALL.sub("", answer)
        _ = answer[len(sent[0]) :], reasoning[len(sent[1]) :], found - sent[2]
        sent = answer, reasoning, found


def cost_us(way: Callable[[Sequence[str], bool, Mode], None], tokens: Sequence[str], calls: bool, mode: Mode) -> float:
    start = time.perf_counter()
    way(tokens, calls, mode)
    return (time.perf_counter() - start) * 1e6 / len(tokens)


def measure() -> None:
    print(f"{'µs a token, medians of ' + str(ROUNDS):28}{'tokens':>8}{'hanlin':>9}{'core':>8}{'naive':>10}{'ratio':>9}")
    slow = []
    for name, (text, calls, mode) in CASES.items():
        tokens = tokens_of(text)
        rounds = [
            (cost_us(incremental, tokens, calls, mode), cost_us(naive, tokens, calls, mode)) for _ in range(ROUNDS)
        ]
        ours, theirs = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(f"{name:28}{len(tokens):8}{ours:9.2f}{ours / 1e3:8.2%}{theirs:10.1f}{theirs / ours:8.1f}x")
        if ours >= LIMIT_US:
            slow.append(name)
    if slow:
        sys.exit(f"above {LIMIT_US:.0f} µs a token: {', '.join(slow)}")


if __name__ == "__main__":
    measure()
