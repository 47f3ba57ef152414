"""What a data mining request asks for: JSON, labels or words; and which URLs it names. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import msgspec

from hanlin.errors import InvalidRequest
from hanlin.metering.estimate import text_tokens
from hanlin.types import Message

MOST_URLS = 10
DOC_URL = "doc_url"

Parsing = Literal["auto", "text_only", "text_and_images"]
PARSINGS: tuple[Parsing, ...] = get_args(Parsing)

_JSON = re.compile(r"json|键值对|key-value", re.IGNORECASE)
_EXTRACTS = re.compile(
    r"(?:提取|抽取|抓取|识别).{0,40}(?:字段|信息|数据|列表|记录|表格)"
    r"|\bextract\b.{0,80}(?:\bfields?\b|\brecords?\b|\brows?\b|\bdata\b|\btable\b|\barray\b)",
    re.IGNORECASE | re.DOTALL,
)
_NO_FENCE = re.compile(
    r"(?:不要|不用|无需|禁止|不得|勿|不带|不含|去掉|without|\bno\b|\bnot\b|don['’]t)[^。.，；;\n]{0,24}"
    r"(?:代码块|代码围栏|围栏|markdown|```|反引号|code (?:block|fence)s?|fences?|backticks?)",
    re.IGNORECASE,
)
_CLASSIFIES = re.compile(
    r"分类|归类|类别|打标|标签|情感倾向|属于(?:哪|以下|下列|什么)|审核|是否(?:合规|违规)"
    r"|\bclassif|\bcategor|\blabel|\bmoderat|\bsentiment\b",
    re.IGNORECASE,
)
_SEVERAL = re.compile(
    r"多选|多个(?:标签|类别)|所有(?:适用|符合)|一个或多个|\bmulti-?label|\ball that apply\b|\bone or more\b",
    re.IGNORECASE,
)
_LABELS = re.compile(
    r"(?:类别|标签|分类|选项|类型|取值|结果|categories|category|labels?|classes|options|one of)"
    r"[^：:\n\[【（(]{0,24}[：:\[【（(]\s*(?P<list>[^\n。]{3,600})",
    re.IGNORECASE,
)
_LABEL_LINES = re.compile(
    r"(?:类别|标签|分类|选项|categories|labels?|classes|options)[^\n]{0,24}[：:]\s*\n"
    r"(?P<lines>(?:[ \t]*+(?:[-*•]|\d++[.、)）])[^\n]++(?:\n|\Z)){2,60})",
    re.IGNORECASE,
)
_BULLET = re.compile(r"^[ \t]*(?:[-*•]|\d+[.、)）])\s*", re.MULTILINE)
_SEPARATOR = re.compile(r"[、,，;；|]|\s+(?:or|and)\s+|或者?|/")
_AROUND = " \t\r\n\"'“”‘’「」`[]【】()（）.。"
_MOST_LABELS, _LABEL_CHARS = 60, 40


@dataclass(frozen=True)
class Urls:
    """The URLs of one content part, in order, and how their files are to be read."""

    urls: tuple[str, ...]
    parsing: Parsing = "auto"


class _Part(msgspec.Struct):
    doc_url: list[str] | str | None = None
    file_parsing_strategy: str | None = None


def urls_in(messages: Sequence[Message]) -> tuple[Urls, ...]:
    """Return the URLs that messages name. Raises InvalidRequest for too many, and for what is none."""
    found = tuple(_urls(part.raw) for message in messages for part in message.media if part.kind == DOC_URL)
    if (count := sum(len(part.urls) for part in found)) > MOST_URLS:
        raise InvalidRequest(f"'doc_url' takes {MOST_URLS} URLs at most, got {count}", param="messages")
    return found


def _urls(raw: msgspec.Raw) -> Urls:
    try:
        part = msgspec.json.decode(raw, type=_Part)
    except msgspec.DecodeError as error:
        raise InvalidRequest("'doc_url' must be Array of URLs", param="messages") from error
    urls = [part.doc_url] if isinstance(part.doc_url, str) else part.doc_url
    if not urls or not all(urls):
        raise InvalidRequest("'doc_url' must be Array of URLs, with one at least", param="messages")
    asked = part.file_parsing_strategy or "auto"
    parsing = next((word for word in PARSINGS if word == asked), None)
    if parsing is None:
        raise InvalidRequest(f"{asked!r} is not one of {list(PARSINGS)} - 'file_parsing_strategy'", param="messages")
    return Urls(tuple(urls), parsing)


def brief(text: str, budget_tokens: int) -> str:
    """Return what of a text that holds its own instruction can be taken for that: its beginning and its end.

    That is where people put what they want. A text within the budget is its instruction as a whole.
    """
    tokens = text_tokens(text)
    if tokens <= budget_tokens:
        return text
    half = len(text) * budget_tokens // tokens // 2
    return f"{text[:half]}\n…\n{text[-half:]}"


def wants_json(instruction: str) -> bool:
    """Whether the answer is to be data rather than words."""
    return bool(_JSON.search(instruction) or _EXTRACTS.search(instruction))


def forbids_fence(instruction: str) -> bool:
    """Whether the caller wants JSON without a Markdown fence around it."""
    return bool(_NO_FENCE.search(instruction))


def classifies(instruction: str) -> bool:
    return bool(_CLASSIFIES.search(instruction))


def several_labels(instruction: str) -> bool:
    return bool(_SEVERAL.search(instruction))


def labels_in(instruction: str) -> tuple[str, ...]:
    """Return the labels that an instruction lists, as it writes them; none where it lists none, or one."""
    lines = _LABEL_LINES.search(instruction)
    if lines:
        parts = [re.split(r"[：:—–]|\s-\s", part)[0] for part in _BULLET.split(lines["lines"])]
    else:
        listed = max((match["list"] for match in _LABELS.finditer(instruction)), key=_separators, default="")
        parts = _SEPARATOR.split(re.split(r"[\]】)）](?:[^、,，/|]|$)", listed)[0]) if listed else []
    labels = tuple(dict.fromkeys(label for part in parts if (label := part.strip(_AROUND))))
    fits = 2 <= len(labels) <= _MOST_LABELS and all(len(label) <= _LABEL_CHARS for label in labels)
    return labels if fits else ()


def _separators(text: str) -> int:
    return len(_SEPARATOR.findall(text))


__all__ = [
    "DOC_URL",
    "MOST_URLS",
    "Parsing",
    "Urls",
    "brief",
    "classifies",
    "forbids_fence",
    "labels_in",
    "several_labels",
    "urls_in",
    "wants_json",
]
