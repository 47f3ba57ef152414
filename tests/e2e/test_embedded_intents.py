"""Intents on real weights: every reply within the grammar and within what was offered, and how many are right."""

import json
import os
import re
from collections import Counter
from typing import Any

import jsonschema_rs
import pytest

from tests.intent_corpus import TAGS, TOOLS, Spoken, utterances
from tests.service import Service

pytestmark = pytest.mark.embedded

COUNT = 200 if os.environ.get("TEST_DRILLS") == "all" else 20
PATIENCE_S = 600.0
SCHEMAS = {tool["name"]: jsonschema_rs.validator_for(tool["parameters"] or {}) for tool in TOOLS}
IN_INTENT_MODE = re.compile(
    r"<tags>\n\[[^\[\]\n]+\]\n</tags><tool_call>\n(\[.*\])\n</tool_call><content>\n.*\n</content>", re.DOTALL
)


def calls_in(reply: str) -> list[Any]:
    """Return the calls of a reply, found as clients find them."""
    calls: list[Any] = []
    for block in re.findall(r"<tool_call>(.*?)</tool_call>", reply, re.DOTALL):
        value = json.loads(block)
        calls += value if isinstance(value, list) else [value]
    return calls


def is_within(one: Spoken, reply: str) -> bool:
    if one.mode == "tag":
        return reply in TAGS
    if one.mode == "intent" and not IN_INTENT_MODE.fullmatch(reply):
        return False
    calls = calls_in(reply)
    return bool(reply.strip()) and all(SCHEMAS[call["name"]].is_valid(call["arguments"]) for call in calls)


def is_right(one: Spoken, reply: str) -> bool:
    """Whether it is what was meant; values may be written in other words (杭州 or 杭州市)."""
    if one.tag:
        return reply == one.tag
    calls = calls_in(reply)
    if [call["name"] for call in calls] != [call["name"] for call in one.calls]:
        return False
    pairs = [(made["arguments"], meant["arguments"]) for made, meant in zip(calls, one.calls, strict=True)]
    return all(str(meant[key]) in str(made.get(key, "")) for made, meant in pairs for key in meant)


def test_every_reply_is_within_the_grammar_and_the_offers(embedded_service: Service) -> None:
    """Spec scenarios §4.3. How many are right is told, not demanded: half a billion parameters are what they are."""
    right: Counter[str] = Counter()
    every: Counter[str] = Counter()
    outside = []
    with embedded_service.client(timeout=PATIENCE_S) as client:
        for one in utterances(COUNT):
            done = client.chat.completions.create(model="tongyi-intent-detect-v3", messages=one.messages())
            reply = done.choices[0].message.content or ""
            every[one.mode] += 1
            right[one.mode] += is_right(one, reply)
            if not is_within(one, reply):
                outside.append((one.text, reply))

    found = ", ".join(f"{mode}: {right[mode]} of {every[mode]} right" for mode in sorted(every))
    print(f"\n{COUNT} utterances, {len(outside)} outside the grammar; {found}")  # noqa: T201 (shown by -s)
    assert outside == []


def test_a_streamed_reply_is_the_same(embedded_service: Service) -> None:
    """Its text and its usage, whatever the mode."""
    with embedded_service.client(timeout=PATIENCE_S) as client:
        for one in utterances(3):
            asked: dict[str, Any] = {"model": "tongyi-intent-detect-v3", "messages": one.messages()}
            whole = client.chat.completions.create(**asked)
            chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))

            text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
            usage = chunks[-1].usage
            assert text == whole.choices[0].message.content
            assert usage is not None
            assert whole.usage is not None
            assert (usage.prompt_tokens, usage.completion_tokens) == (
                whole.usage.prompt_tokens,
                whole.usage.completion_tokens,
            )
