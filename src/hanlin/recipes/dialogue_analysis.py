"""tongyi-xiaomi-analysis: what was said in a customer service's dialogue, in the format that the prompt states.

JSON like the prompt's example, a line such as `标签#理由`, or text as any model writes it (spec/scenarios.md §9).
What is quoted must have been said; what was not said is `未提及`.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec

from hanlin.errors import AnswerUnfit
from hanlin.recipes.grounding import Heard, is_quoted, is_said, unsaid_figures
from hanlin.recipes.output_formats import (
    Dialogue,
    JsonFormat,
    LabelFormat,
    Rule,
    dialogue_of,
    json_format,
    label_format,
)
from hanlin.recipes.output_formats import missing_word as missing_word_of
from hanlin.recipes.recipe import Base, Desk, Recipe
from hanlin.recipes.saying import prompt_within, said
from hanlin.recipes.shaped import Unfit, greedy, value_of, with_system
from hanlin.types import ChatRequest, Events, Message, Schema

JUDGING_GRADE = 3
"""Names of this grade and above judge each rule of an ordered list: of the hosted ones, only the `-pro`."""

_LONGEST_LABEL, _LONGEST_REASON, _LONGEST_EVIDENCE = 20, 120, 80
_LONGEST_EXTRACT = 30
_LONGEST_SHOWN = 6  # of what is wrong with an answer

_DRAWN = ("temperature", "top_p", "top_k", "presence_penalty", "repetition_penalty")
_EVIDENCE = re.compile(r"原文|证据|依据|引用|原话|摘录|quote|evidence", re.IGNORECASE)
_TURN_KEY = re.compile(r"轮|turn", re.IGNORECASE)
_JUDGED = re.compile(
    "情绪|意图|类别|分类|类型|标签|等级|满意|原因|理由|总结|摘要|概述|描述|结论|是否|评分|建议|场景|置信|说明|分析|问题|次数|数量"
    "|emotion|intent|category|class|type|label|level|reason|summary|score|count",
    re.IGNORECASE,
)
_EXTRACTS = re.compile(r"提取|抽取|摘出|找出|识别出|extract", re.IGNORECASE)
_QUOTED = re.compile(r"“([^“”]{4,})”|「([^「」]{4,})」|\"([^\"]{4,})\"|‘([^‘’]{4,})’")
_SPEAKER = re.compile(r"^\s*+[\[【(（]?\d*[\]】)）]?\s*+\S{1,8}[：:]\s*")


async def _run(request: ChatRequest, desk: Desk) -> Events:
    base = desk.base
    prompt_tokens = await prompt_within(base, request, desk.model)
    prompt = "\n".join(message.text for message in request.messages if message.role in ("system", "user"))
    dialogue = dialogue_of(prompt)
    missing = missing_word_of(dialogue.instructions)
    heard = Heard(dialogue.text)
    labels = label_format(dialogue.instructions) if request.shape is None else None
    wanted = json_format(dialogue.instructions, missing) if request.shape is None and labels is None else None
    if labels is not None and labels.rules and desk.model.grade >= JUDGING_GRADE:
        text = await _judged(labels, heard, request, base)
    elif labels is not None:
        text = await _labelled(labels, heard, request, base)
    elif wanted is not None:
        text = await _filled(wanted, _Facts(dialogue, heard, missing), request, base)
    else:
        async with aclosing(base.stream(_likeliest(request))) as bursts:
            async for burst in bursts:
                yield burst
        return
    async for burst in said(text, request, base, prompt_tokens):
        yield burst


def _likeliest(request: ChatRequest) -> ChatRequest:
    """Return the request with the likeliest tokens, where the caller does not say otherwise."""
    given = request.sampling
    if given.temperature is not None or given.top_k is not None:
        return request
    likeliest = greedy(given.max_tokens, given.seed)
    fields = {name: getattr(given, name) for name in _DRAWN if getattr(given, name) is not None}
    drawn = {name: getattr(likeliest, name) for name in _DRAWN}
    return request.changed(sampling=msgspec.structs.replace(given, **(drawn | fields)))


def _inner(request: ChatRequest, note: str) -> ChatRequest:
    return request.changed(
        messages=with_system(request.messages, note), sampling=greedy(None, request.sampling.seed), tools=(), asks={}
    )


async def _corrected(request: ChatRequest, value: Any, faults: list[str], schema: Schema, base: Base) -> Any:
    """Return another value for one that says what was never said; the first one where there is no other."""
    wrong = "；".join(faults[:_LONGEST_SHOWN])
    messages = (
        *request.messages,
        Message("assistant", json.dumps(value, ensure_ascii=False)),
        Message("user", f"以下内容在对话中找不到：{wrong}。请重新输出：引用须与对话逐字一致，对话没有的信息不得编造。"),
    )
    try:
        return await value_of(base, request.changed(messages=messages), schema, "analysis")
    except Unfit:
        return value


async def _value(request: ChatRequest, schema: Schema, base: Base, lacking: str) -> Any:
    """Return what the base says, in the form of a schema. Raises AnswerUnfit, which says what was `lacking`."""
    try:
        return await value_of(base, request, schema, "analysis")
    except Unfit as unfit:
        raise AnswerUnfit(f"the model gives {lacking}") from unfit


# --- a label and its reason


async def _labelled(wanted: LabelFormat, heard: Heard, request: ChatRequest, base: Base) -> str:
    """Return a label and its reason. Raises AnswerUnfit."""
    schema = _object(evidence=_text(_LONGEST_EVIDENCE), label=_label_of(wanted), reason=_text(_LONGEST_REASON))
    note = (
        "只依据对话判断，不得编造。规则有先后顺序：从第一条起逐条判断，第一条符合的规则生效。"
        "以 JSON 输出：evidence 是作为依据的原话，须与对话逐字一致；label 是标签；reason 是一句话的理由。"
    )
    inner = _inner(request, note)
    value = await _value(inner, schema, base, "no label")
    faults = [*_unsaid_in(value["reason"], heard), *_unquoted([value["evidence"]], heard)]
    if faults:
        value = await _corrected(inner, value, faults, schema, base)
    return _line(wanted, value["label"], value["reason"], value["evidence"], heard)


async def _judged(wanted: LabelFormat, heard: Heard, request: ChatRequest, base: Base) -> str:
    """Return the label of the first rule that applies, and a reason. Raises AnswerUnfit.

    The base judges every rule by itself, with the words that show it; which one counts is decided here.
    """
    names = [f"rule_{number}" for number in range(1, len(wanted.rules) + 1)]
    verdict = _object(evidence=_text(_LONGEST_EVIDENCE), applies={"type": "boolean"})
    schema = _object(**dict.fromkeys(names, verdict), label=_label_of(wanted), reason=_text(_LONGEST_REASON))
    rules = "\n".join(f"{name}：{rule.text}" for name, rule in zip(names, wanted.rules, strict=True))
    note = (
        f"只依据对话判断，不得编造。逐条判断每一条规则：\n{rules}\n"
        "以 JSON 输出：每条规则的 evidence 是符合该规则的原话，须与对话逐字一致，没有则为空；applies 表示是否符合。"
        "label 是第一条符合的规则的标签；reason 是一句话的理由。"
    )
    inner = _inner(request, note)
    value = await _value(inner, schema, base, "no label")
    given = [value[name]["evidence"] for name in names if value[name]["applies"]]
    if faults := [*_unsaid_in(value["reason"], heard), *_unquoted(given, heard)]:
        value = await _corrected(inner, value, faults, schema, base)
    at = first_that_applies(wanted.rules, [value[name] for name in names], heard)
    if at is None:
        return _line(wanted, value["label"], value["reason"], "", heard)
    label, evidence = wanted.rules[at].label, value[names[at]]["evidence"]
    return _line(wanted, label, value["reason"] if label == value["label"] else "", evidence, heard)


def first_that_applies(rules: Sequence[Rule], verdicts: Sequence[Mapping[str, Any]], heard: Heard) -> int | None:
    """Return which rule counts: the first one that applies and shows it, None where no rule does.

    What is shown must have been said. A rule about what was not said has nothing to show; one for the rest counts where
    no other does.
    """
    for at, (rule, verdict) in enumerate(zip(rules, verdicts, strict=True)):
        shown = rule.is_about_absence or is_quoted(_without_speaker(verdict["evidence"]), heard)
        if verdict["applies"] and shown:
            return at
    return next((at for at, rule in enumerate(rules) if rule.is_for_the_rest), None)


def _line(wanted: LabelFormat, label: str, reason: str, evidence: str, heard: Heard) -> str:
    """Return the answer's line; a reason that has what nobody said is replaced by the evidence."""
    reason, evidence = _one_line(reason), _without_speaker(evidence)
    if not reason or any(_unsaid_in(reason, heard)):
        reason = f"依据“{_one_line(evidence)}”" if is_quoted(evidence, heard) else "对话中没有明确的依据"
    opening, closing = wanted.frame
    return f"{opening}{_one_line(label)}{closing}#{reason}"


def _label_of(wanted: LabelFormat) -> Schema:
    return {"type": "string", "enum": list(wanted.labels)} if wanted.labels else _text(_LONGEST_LABEL)


def _text(longest: int) -> Schema:
    return {"type": "string", "maxLength": longest}


def _object(**properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _unquoted(quotes: Iterable[str], heard: Heard) -> list[str]:
    """Return the quotations that nobody said; what is empty is none."""
    bare = [_without_speaker(quote) for quote in quotes]
    return [quote for quote in bare if quote and not is_quoted(quote, heard)]


def _one_line(text: str) -> str:
    return " ".join(text.replace("#", " ").split())


def _without_speaker(quote: str) -> str:
    return _SPEAKER.sub("", quote).strip(' “”"「」')


def _unsaid_in(text: str, heard: Heard) -> Iterator[str]:
    """Yield the quotations and the longer figures of a text that the dialogue does not have."""
    for found in _QUOTED.findall(text):
        quote = _without_speaker(next(one for one in found if one))
        if quote and not is_quoted(quote, heard):
            yield quote
    yield from unsaid_figures(text, heard)


# --- JSON


@dataclass(frozen=True)
class _Facts:
    """What an answer may be made of: the dialogue, the task around it, and the word for what is not there."""

    dialogue: Dialogue
    heard: Heard
    missing: str

    @cached_property
    def extracts(self) -> bool:
        """Whether values are to be taken out of the dialogue: so it is where something may be missing from it."""
        told = self.dialogue.instructions
        return bool(_EXTRACTS.search(told)) or (bool(self.missing) and self.missing in told)


async def _filled(wanted: JsonFormat, facts: _Facts, request: ChatRequest, base: Base) -> str:
    """Return JSON like the prompt's example. Raises AnswerUnfit."""
    note = (
        f"从对话中找出要求的内容，以 JSON 输出。示例只说明格式，其中的值不是答案。引用须与对话逐字一致；"
        f"只有对话中确实没有的才写“{facts.missing}”。"
    )
    inner = _inner(request, note)
    value = await _value(inner, wanted.schema, base, "no JSON like the example")
    faults: list[str] = []
    checked = _checked(value, wanted.schema, "", facts, faults)
    if faults:
        again = await _corrected(inner, value, faults, wanted.schema, base)
        checked = _joined(checked, _checked(again, wanted.schema, "", facts, []), facts.missing)
    value = checked
    shown = value["items"] if wanted.listed else value
    return json.dumps(shown, ensure_ascii=False, indent=2 if wanted.lines else None)


def _joined(first: Any, second: Any, missing: str) -> Any:
    """Return the second of two checked values, with what only the first one knows: small models correct too much."""
    if isinstance(first, dict) and isinstance(second, dict):
        return {name: _joined(first.get(name, missing), part, missing) for name, part in second.items()}
    return first if second == missing else second


def _checked(value: Any, schema: Mapping[str, Any], key: str, facts: _Facts, faults: list[str]) -> Any:
    """Return a value in which what was never said is said to be missing; `faults` gets what that was."""
    if isinstance(value, dict):
        parts = schema.get("properties", {})
        return {name: _checked(part, parts.get(name, {}), name, facts, faults) for name, part in value.items()}
    if isinstance(value, list):
        return [_checked(one, schema.get("items", {}), key, facts, faults) for one in value]
    if value == facts.missing or "enum" in schema or isinstance(value, bool) or value is None:
        return value
    if not isinstance(value, str):
        known = _is_turn(value, key, facts) if _TURN_KEY.search(key) else _is_number_said(value, key, facts)
        if known:
            return value
        faults.append(f"{key}={value}")
        return facts.missing
    if not value.strip():
        return facts.missing
    if wrong := list(_wrong_in(value, key, facts)):
        faults += wrong
        return facts.missing
    return value


def _is_turn(value: float, _key: str, facts: _Facts) -> bool:
    return not facts.dialogue.turns or value in facts.dialogue.turns


def _is_number_said(value: float, key: str, facts: _Facts) -> bool:
    return bool(_JUDGED.search(key)) or not facts.extracts or is_said(value, facts.heard)


def _wrong_in(value: str, key: str, facts: _Facts) -> Iterator[str]:
    """Yield what of a text was never said: of evidence every piece, of what was to be extracted the whole."""
    if _EVIDENCE.search(key):
        yield from _unquoted(re.split(r"[；;\n]", value), facts.heard)
        return
    yield from _unsaid_in(value, facts.heard)
    is_extract = facts.extracts and not _JUDGED.search(key) and len(value) <= _LONGEST_EXTRACT
    if is_extract and not is_said(value, facts.heard):
        yield f"{key}={value}"


ANALYSIS = Recipe("dialogue-analysis", _run)

__all__ = ["ANALYSIS", "JUDGING_GRADE", "first_that_applies"]
