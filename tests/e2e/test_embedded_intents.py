"""Intents on real weights: every reply within the grammar and within what was offered, and how many are right."""

import os
import re
from collections import Counter
from typing import Any

import jsonschema_rs
import pytest
from openai import OpenAI

from tests.intent_corpus import MORE_TOOLS, TAGS, TOOLS, Spoken, calls_in, is_right, utterances
from tests.service import Service

pytestmark = pytest.mark.embedded

ALL = os.environ.get("TEST_DRILLS") == "all"
COUNT = 200 if ALL else 20
COMPARED = 60
BY_CHANCE = COMPARED // 20
BARE = "qwen2.5-7b-instruct"  # a name that only chats: the same weights answer it
PATIENCE_S = 600.0
SCHEMAS = {tool["name"]: jsonschema_rs.validator_for(tool["parameters"] or {}) for tool in (*TOOLS, *MORE_TOOLS)}
IN_INTENT_MODE = re.compile(
    r"<tags>\n\[[^\[\]\n]+\]\n</tags><tool_call>\n(\[.*\])\n</tool_call><content>\n.*\n</content>", re.DOTALL
)


def is_within(one: Spoken, reply: str) -> bool:
    if one.mode == "tag":
        return reply in TAGS
    if one.mode == "intent" and not IN_INTENT_MODE.fullmatch(reply):
        return False
    calls = calls_in(reply)
    return bool(reply.strip()) and all(SCHEMAS[call["name"]].is_valid(call["arguments"]) for call in calls)


def said(client: OpenAI, one: Spoken, model: str = "tongyi-intent-detect-v3", tools: list[Any] = TOOLS) -> str:
    done = client.chat.completions.create(model=model, messages=one.messages(tools), temperature=0, max_tokens=200)
    return done.choices[0].message.content or ""


def of_every_mode(count: int) -> list[Spoken]:
    """Return so many utterances, as many of each mode, one mode after another: an engine keeps what it has read."""
    every = utterances(200)
    return [one for mode in ("tag", "intent", "normal") for one in [x for x in every if x.mode == mode][: count // 3]]


def test_every_reply_is_within_the_grammar_and_the_offers(embedded_service: Service) -> None:
    """Spec scenarios §4.3. How many are right is told, not demanded: half a billion parameters are what they are."""
    right: Counter[str] = Counter()
    every: Counter[str] = Counter()
    outside = []
    with embedded_service.client(timeout=PATIENCE_S) as client:
        for one in utterances(COUNT):
            reply = said(client, one)
            every[one.mode] += 1
            right[one.mode] += is_right(one, reply)
            if not is_within(one, reply):
                outside.append((one.text, reply))

    found = ", ".join(f"{mode}: {right[mode]} of {every[mode]} right" for mode in sorted(every))
    print(f"\n{COUNT} utterances, {len(outside)} outside the grammar; {found}")  # noqa: T201 (shown by -s)
    assert outside == []


@pytest.mark.skipif(not ALL, reason="a drill: sixty utterances, twice")
def test_it_is_right_at_least_as_often_as_the_bare_weights(embedded_service: Service) -> None:
    """Spec scenarios §4.3: the same prompt to the same weights, without a recipe; one in twenty may be chance."""
    with embedded_service.client(timeout=PATIENCE_S) as client:
        spoken = of_every_mode(COMPARED)
        ours = sum(is_right(one, said(client, one)) for one in spoken)
        bare = sum(is_right(one, said(client, one, BARE)) for one in spoken)

    print(f"\n{len(spoken)} utterances: {ours} right, {bare} by the bare weights")  # noqa: T201 (shown by -s)
    assert ours >= bare - BY_CHANCE


@pytest.mark.skipif(not ALL, reason="a drill: forty utterances, twice")
def test_thirty_tools_beside_ten(embedded_service: Service) -> None:
    """Spec scenarios §4.3: both figures are told; the grammar and the offers hold with either."""
    right: dict[int, int] = {}
    outside = []
    with embedded_service.client(timeout=PATIENCE_S) as client:
        spoken = [one for one in of_every_mode(COMPARED) if one.mode != "tag"]
        for tools in (TOOLS, TOOLS + MORE_TOOLS):
            replies = [said(client, one, tools=tools) for one in spoken]
            right[len(tools)] = sum(is_right(one, reply) for one, reply in zip(spoken, replies, strict=True))
            outside += [reply for one, reply in zip(spoken, replies, strict=True) if not is_within(one, reply)]

    found = ", ".join(f"{right[count]} right with {count} tools" for count in right)
    print(f"\n{len(spoken)} utterances: {found}")  # noqa: T201 (shown by -s)
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
