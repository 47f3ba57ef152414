"""Find the output format that a prompt states: an example in JSON, or a line such as `标签#理由`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hanlin.recipes.jsontext import first_json
from hanlin.types import Schema

NOT_MENTIONED = "未提及"

_TURN = re.compile(r"^\s*+[\[【(（]?\s*+(?:第)?(\d{1,9}+)\s*+(?:轮)?[\]】)）]?[.、:：]?\s*+\S{1,12}?[：:]")
_ROLE = re.compile(
    r"^\s*(?:[\[【(（]?\d+[\]】)）]?\s*)?(?:客服|用户|客户|坐席|顾客|买家|卖家|商家|访客|机器人|接线员|销售|agent|user|customer|service)"
    r"\w{0,4}\s*[：:]",
    re.IGNORECASE,
)
_MISSING = re.compile(
    r"(?:没有|未提及|未提到|缺失|不存在|无法确定|找不到|未出现)[^。；;\n]{0,16}?(?:填写?|写|输出|返回|标记为|记为|用|为)\s*[“\"'「『]([^”\"'」』\n]{0,12})[”\"'」』]"
)


@dataclass(frozen=True)
class Dialogue:
    """The dialogue within a prompt; its `turns` are the numbers of its lines, where they have any."""

    text: str
    turns: frozenset[int]
    instructions: str


def dialogue_of(prompt: str) -> Dialogue:
    """Tell the lines of the dialogue from those of the task. Without any such lines, the whole prompt is both."""
    spoken: list[str] = []
    told: list[str] = []
    turns: set[int] = set()
    for line in prompt.splitlines():
        turn = _TURN.match(line)
        if _ROLE.match(line) or (turn and line.lstrip()[0] in "[【(（"):
            spoken.append(line)
            if turn:
                turns.add(int(turn[1]))
        else:
            told.append(line)
    if not spoken:
        return Dialogue(prompt, frozenset(), prompt)
    return Dialogue("\n".join(spoken), frozenset(turns), "\n".join(told))


def missing_word(instructions: str) -> str:
    """Return what stands for something that the dialogue does not say."""
    found = _MISSING.search(instructions)
    return found[1] if found else NOT_MENTIONED


# --- JSON


@dataclass(frozen=True)
class JsonFormat:
    """An answer in JSON of the form of an example; `lines`: over several lines, as the example was."""

    schema: Schema
    lines: bool
    listed: bool


def json_format(instructions: str, missing: str) -> JsonFormat | None:
    """Return the format that a JSON example in a prompt shows, None where there is none."""
    found = first_json(instructions, _is_example)
    if found is None:
        return None
    says_missing = missing in instructions
    part = _like(found.value, missing, says_missing=says_missing)
    listed = isinstance(found.value, list)
    if listed:  # the root of a schema that engines hold answers to is an object
        part = {"type": "object", "properties": {"items": part}, "required": ["items"], "additionalProperties": False}
    return JsonFormat(part, "\n" in found.text.strip(), listed)


def _is_example(value: Any) -> bool:
    """Say whether a value is an example of what is wanted, and not a dialogue that was put as JSON."""
    rows = value if isinstance(value, list) else [value]
    shown = [row for row in rows if isinstance(row, dict) and row]
    return bool(shown) and len(shown) == len(rows) and not any({"role", "content"} <= row.keys() for row in shown)


_LONGEST_VALUE = 400
_MOST_ITEMS = 50


def _like(value: Any, missing: str, *, says_missing: bool) -> dict[str, Any]:
    """Return the schema of values like an example; whatever is no text may be missing."""
    if isinstance(value, Mapping):
        parts = {str(key): _like(part, missing, says_missing=says_missing) for key, part in value.items()}
        return {"type": "object", "properties": parts, "required": list(parts), "additionalProperties": False}
    if isinstance(value, list):
        item = _like(value[0], missing, says_missing=says_missing) if value else _text()
        return {"type": "array", "items": item, "maxItems": _MOST_ITEMS}
    if isinstance(value, str):
        choices = _choices(value)
        more = [missing] if says_missing and missing not in choices else []
        return {"type": "string", "enum": [*choices, *more]} if choices else _text()
    nothing = {"type": "string", "enum": [missing]}
    if isinstance(value, bool):
        return {"anyOf": [{"type": "boolean"}, nothing]}
    if isinstance(value, int):
        return {"anyOf": [{"type": "integer"}, nothing]}
    if isinstance(value, float):
        return {"anyOf": [{"type": "number"}, nothing]}
    return _text()


def _text() -> dict[str, Any]:
    return {"type": "string", "maxLength": _LONGEST_VALUE}


def _choices(value: str) -> list[str]:
    """Return the values that an example such as `高/中/低` lists, none where it is a value itself."""
    parts = [part.strip() for part in re.split(r"[/|｜]|或者?", value.strip("<>[]【】{} "))]
    listed = 2 <= len(parts) <= 12 and all(0 < len(part) <= 10 for part in parts)
    return list(dict.fromkeys(parts)) if listed and not all(part.isdigit() for part in parts) else []


# --- a label and its reason


@dataclass(frozen=True)
class Rule:
    """A rule of an ordered list: the label that it gives, and the whole line that says when."""

    label: str
    text: str

    @property
    def is_for_the_rest(self) -> bool:
        """Whether it is for all that no other rule is for."""
        return bool(_REST.search(self.text))

    @property
    def is_about_absence(self) -> bool:
        """Whether it is for what was not said, or for the rest: there are no words to quote for that."""
        return self.is_for_the_rest or bool(_ABSENCE.search(self.text))


@dataclass(frozen=True)
class LabelFormat:
    """A label, `#`, and a reason; of these `labels` where the prompt lists them. `frame` stands around the label.

    `rules` are those that give the labels, where the prompt numbers them: the first one that applies counts.
    """

    labels: tuple[str, ...]
    frame: tuple[str, str] = ("", "")
    rules: tuple[Rule, ...] = ()


_PAIR = re.compile(
    r"([【\[<{《「]?)([^\s#，,。；;：:、（）()“”\"'`【】\[\]<>{}《》「」]{1,12})([】\]>}》」]?)#([^\s#])"
)
_PLACEHOLDER = re.compile(r"标签|结果|类别|分类|等级|结论|label|满意度$", re.IGNORECASE)
_LISTED = re.compile(
    r"(?:标签|类别|分类|等级|结论|label)[^\n：:]{0,14}(?:包括|包含|有|为|分为|取值|如下|：|:|是)\s*+[：:]?\s*+([^\n。；;#]+)"
)
_RULE = re.compile(
    r"^\s*(?:规则)?([\d一二三四五六七八九十]+)\s*[.、)）:：]\s*[“\"【]?([^\s：:”\"】#，,。→\-]{1,8})[”\"】]?\s*(?:[：:→]|-+>)"
)
_FIRST = frozenset({"1", "一"})
_ABOUT_THE_ANSWER = re.compile("输出|格式|要求|语言|字数|注意|示例|说明|理由")
_REST = re.compile("其他|其它|其余|否则|默认|以上都不|otherwise|none of", re.IGNORECASE)
_ABSENCE = re.compile(r"没有|未|无|不(?:符合|属于)|\bnot?\b", re.IGNORECASE)
_MOST_RULES = 12
_MARKS = "“”\"'‘’「」『』【】[]（）()<>《》 \t"


def label_format(instructions: str) -> LabelFormat | None:
    """Return the format of a prompt that wants `标签#理由`, None where it does not."""
    pairs = [found.groups() for found in _PAIR.finditer(instructions)]
    if not any(re.search("[\u3400-\u9fff]", label + rest) for _, label, _, rest in pairs):
        return None
    frames = {(opening, closing) for opening, _, closing, _ in pairs}
    placeholders = [label for _, label, _, _ in pairs if _PLACEHOLDER.search(label)]
    shown = [label for _, label, _, _ in pairs if not _PLACEHOLDER.search(label)]
    frame = frames.pop() if len(frames) == 1 else ("", "")
    if frame[0] not in ("【", "[", "《", "「") or (placeholders and not shown and frame[0] == "["):
        frame = ("", "")
    rules = _ruled(instructions)
    ruled = [rule.label for rule in rules]
    labels = _listed(instructions) or list(dict.fromkeys([*ruled, *shown]))
    decides = len(labels) > 1 and 2 <= len(rules) <= _MOST_RULES and set(labels) == set(ruled)
    return LabelFormat(tuple(labels) if len(labels) > 1 else (), frame, tuple(rules) if decides else ())


def _listed(instructions: str) -> list[str]:
    for found in _LISTED.finditer(instructions):
        parts = [part.strip(_MARKS) for part in re.split(r"[、,，/|｜和或]", found[1])]
        labels = [part for part in parts if part]
        if 2 <= len(labels) <= 40 and all(len(label) <= 12 for label in labels):
            return list(dict.fromkeys(labels))
    return []


def _ruled(instructions: str) -> Sequence[Rule]:
    """Return the numbered rules that begin with a label: the first list of several of them.

    Another list, which begins with 1 again, is about something else, as is what is said of the answer itself.
    """
    lists: list[list[Rule]] = [[]]
    for line in instructions.splitlines():
        found = _RULE.match(line)
        if found is None or _ABOUT_THE_ANSWER.match(found[2]):
            continue
        if found[1] in _FIRST:
            lists.append([])
        lists[-1].append(Rule(found[2].strip(_MARKS), line.strip()))
    return max(lists, key=lambda rules: len(rules) > 1)


__all__ = [
    "NOT_MENTIONED",
    "Dialogue",
    "JsonFormat",
    "LabelFormat",
    "Rule",
    "dialogue_of",
    "json_format",
    "label_format",
    "missing_word",
]
