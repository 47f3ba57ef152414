"""Python code with a line taken out: small whole files, and the gaps that they make."""

from collections.abc import Iterator
from itertools import cycle, islice

from hanlin.types import CompletionRequest

SOURCES = [
    """def mean(values):
    total = 0
    for value in values:
        total += value
    return total / len(values)
""",
    """class Stack:
    def __init__(self):
        self.items = []

    def push(self, item):
        self.items.append(item)
        return len(self.items)
""",
    """import json


def load(path):
    with open(path) as file:
        rows = json.load(file)
    return {row["id"]: row for row in rows if row.get("id")}
""",
    """def fizz(n):
    out = []
    for i in range(1, n + 1):
        if i % 15 == 0:
            out.append("fizzbuzz")
        elif i % 5 == 0:
            out.append("buzz")
        else:
            out.append(str(i))
    return out
""",
]


def python_gaps(count: int) -> Iterator[tuple[CompletionRequest, str]]:
    """Yield so many gaps, always the same ones, each with the line that was there."""
    every = [_gap(source, line) for source in SOURCES for line in range(1, source.count("\n"))]
    return islice(cycle(every), count)


def _gap(source: str, number: int) -> tuple[CompletionRequest, str]:
    """Return a source with one of its lines taken out behind its indentation, and that line."""
    lines = source.splitlines(keepends=True)
    line = lines[number].rstrip("\n")
    lead = line[: len(line) - len(line.lstrip())]
    before, behind = "".join(lines[:number]) + lead, "\n" + "".join(lines[number + 1 :])
    return CompletionRequest("qwen-coder-turbo", before, behind, fills_gap=True), line


__all__ = ["SOURCES", "python_gaps"]
