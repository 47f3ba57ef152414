"""The replies of an intent model, written so that its clients' regular expressions and `json.loads` take them.

Clients look for `<tags>(.*?)</tags>`, `<tool_call>(.*?)</tool_call>` and `<content>(.*?)</content>`, so none of these
marks may stand within what is between them (spec/scenarios.md §4.1).
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

CALL_TAGS = "function call, json response"
"""What the tags of a call say, whatever is called."""

NO_INTENT = "chat"

_MARKS = re.compile(r"</?(?:tags|tool_call|content)>", re.IGNORECASE)
_LONGEST_TAGS = 60


@dataclass(frozen=True)
class IntentCall:
    """A call of one of the tools that were offered."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


def with_intent(calls: Sequence[IntentCall], tags: str, content: str) -> str:
    """Return a reply in INTENT_MODE: calls, or tags and a content."""
    rows = "[" + ", ".join(map(_row, calls)) + "]"
    content = "" if calls else plain_text(content)
    tags = CALL_TAGS if calls else tags_text(tags)
    return f"<tags>\n[{tags}]\n</tags><tool_call>\n{rows}\n</tool_call><content>\n{content}\n</content>"


def bare(calls: Sequence[IntentCall], content: str) -> str:
    """Return a reply in NORMAL_MODE: a block a call, or the text alone."""
    if not calls:
        return plain_text(content)
    return "\n".join(f"<tool_call>\n{_row(call)}\n</tool_call>" for call in calls)


def plain_text(text: str) -> str:
    """Return a text without any of the marks that replies are taken apart by.

    A blank is left where one stood: without it, the two sides of a mark could make another.
    """
    return _MARKS.sub(" ", text).strip()


def tags_text(text: str) -> str:
    """Return what may stand between the brackets of the tags: one line, no brackets."""
    line = " ".join(re.sub(r"[\[\]<>]", " ", text).split())
    return line[:_LONGEST_TAGS].strip() or NO_INTENT


def _row(call: IntentCall) -> str:
    text = json.dumps({"name": call.name, "arguments": dict(call.arguments)}, ensure_ascii=False, separators=(",", ":"))
    return _MARKS.sub(lambda mark: mark[0].replace("<", "\\u003c"), text)


@dataclass(frozen=True)
class EarlierReply:
    """What an earlier reply of ours said, as it stands in a history."""

    calls: tuple[Any, ...] = ()
    content: str = ""


def earlier(text: str) -> EarlierReply:
    """Take a reply apart as its clients do; a text without marks is the content."""
    blocks = list(_within(text, "tool_call"))
    calls: list[Any] = []
    for block in blocks:
        try:
            value = json.loads(block)
        except (ValueError, RecursionError):
            continue
        calls += value if isinstance(value, list) else [value]
    content = next(_within(text, "content"), None)
    if not blocks and content is None:
        return EarlierReply(content=plain_text(text))
    return EarlierReply(tuple(calls), (content or "").strip())


def _within(text: str, name: str) -> Iterator[str]:
    """Yield what stands between marks, up to the first that is not closed."""
    opening, closing = f"<{name}>", f"</{name}>"
    at = 0
    while (start := text.find(opening, at)) >= 0 and (end := text.find(closing, start)) >= 0:
        yield text[start + len(opening) : end]
        at = end + len(closing)


__all__ = ["CALL_TAGS", "EarlierReply", "IntentCall", "bare", "earlier", "plain_text", "tags_text", "with_intent"]
