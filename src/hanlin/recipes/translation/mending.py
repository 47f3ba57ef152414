"""What of a translation can be put right without asking a model again."""

import re
from functools import lru_cache
from typing import Any

from hanlin.recipes.translation import protecting
from hanlin.recipes.translation.languages import Language

_TAG = re.compile(r"^\s*+<text\d*>\s*|(?:(?<!\s)\s*+|(?=</text))</text\d*>.*$", re.DOTALL)
_FENCE = re.compile(r"^\s*```[a-z]*\n(.*?)\n?```\s*$", re.DOTALL)
# Words of translating, in the languages that models announce their work in.
_TRANSLATING = (
    r"(?:translat|traduc|traduzi|tradução|übersetz|vertal|vertaling|oversett|oversæt|översätt|tłumacz|перевод|перевед|"
    r"переклад|çevir|terjemah|dịch|翻译|翻譯|译文|譯文|翻訳|訳文|번역|ترجم|अनुवाद)"
)
_SPEAKS_OF_TRANSLATING = re.compile(_TRANSLATING, re.IGNORECASE)
_PREAMBLE = re.compile(
    rf"^\s*(?:[^\n:：(（]{{0,80}}?{_TRANSLATING}[^\n:：(（]{{0,60}}"
    r"|(?:sure|certainly|of course|okay|ok)\b[^\n:：]{0,20}\bhere\b[^\n:：]{0,60})[:：]\s*",
    re.IGNORECASE,
)
_OPENING_WORDS = re.compile(
    r"^\s*(?:(?:sure|certainly|of course|okay|ok|here is|here are|here's)\b[^\n:：]{0,80}"
    r"|(?:the )?translation|translated (?:text|segment)"
    r"|(?:好的|当然|以下是)[^\n:：]{0,40}|(?:翻译|译文)(?:如下)?|翻譯|譯文)[:：]\s*",
    re.IGNORECASE,
)
_HEADLINE = re.compile(r"^\s*[^\n:：]{1,100}[:：][^\S\n]*\n\s*(?=\S)")  # a line that announces the next
_REMARKS = (
    r"(?:notes?|explanation|translator|please note|i hope|let me know|anmerkung|hinweis|remarque|nota|примечание|"
    r"注|注意|说明|說明|備註|备注|解释|解釋|希望|訳注|참고)"
)
_SPEAKS_OF_REMARKS = re.compile(
    r"\b(?:notes?|explanations?|translators?|hope|let me know|anmerkung|hinweis|remarque|nota|примечание)\b"
    r"|注|说明|說明|備註|备注|解释|解釋|希望|참고",
    re.IGNORECASE,
)
_REMARK = re.compile(
    rf"(?<!\s)[^\S\n]*+\n\s*+[(（\[【*]*+\s*+{_REMARKS}.*$",
    re.IGNORECASE | re.DOTALL,
)
_ASIDE = re.compile(
    r"(?<!\s)\s*+[(（]\s*+(?:note|translator'?s note|注|译注|说明)\s*[:：][^()（）]*[)）]\s*$", re.IGNORECASE
)
_QUOTES = {'"': '"', "“": "”", "「": "」", "『": "』", "'": "'", "‘": "’", "«": "»", "《": "》"}
_OPENING = tuple(_QUOTES)
_COLON = re.compile(r"[:：](?!\d)")
_BEGINNING = 100
_FULL_STOPS = {"Latn": ".", "Cyrl": ".", "Grek": ".", "Hans": "。", "Hant": "。", "Jpan": "。", "Kore": "."}
_SENTENCE_ENDS = ".。．!！?？…:：;；"


def cleaned(source: str, output: str) -> str:
    """Return a translation of one line without what models put around it, unless the source has such things itself.

    An announcement ends in a colon and speaks of translating, or has a line of its own.
    """
    text = output.strip()
    if (fenced := _FENCE.match(text)) and "```" not in source:
        text = fenced[1].strip()
    if "<text" not in source:
        text = _TAG.sub("", text).strip()
    if not _COLON.search(protecting.without_kept(source)[:_BEGINNING]):
        if not _SPEAKS_OF_TRANSLATING.search(source):
            text = _PREAMBLE.sub("", text, count=1)
        text = _HEADLINE.sub("", text, count=1)
    if not _SPEAKS_OF_REMARKS.search(source):
        text = _REMARK.sub("", text)
    if not _ASIDE.search(source):
        text = _ASIDE.sub("", text)
    text = _without_quotes(source.strip(), text.strip())
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines)


def without_wrapping(output: str) -> str:
    """Return a translation of a text that nobody here knows, without a fence or an announcement around it."""
    text = output.strip()
    if fenced := _FENCE.match(text):
        text = fenced[1].strip()
    return _TAG.sub("", _OPENING_WORDS.sub("", text, count=1)).strip() or output.strip()


def _without_quotes(source: str, text: str) -> str:
    if len(text) < 2 or source.startswith(_OPENING) or _QUOTES.get(text[0]) != text[-1]:
        return text
    inner = text[1:-1]
    return text if text[0] in inner or text[-1] in inner else inner.strip()


def ended(source: str, output: str, target: Language) -> str:
    """Return a translation that ends in a full stop if its source does, and only then."""
    stop = _FULL_STOPS.get(target.scripts[0], "")
    if not stop or not output or not source:
        return output
    if source[-1] not in _SENTENCE_ENDS and output[-1] in ".。" and not output.endswith("..") and output.count(".") < 2:
        return output[:-1]
    if source[-1] in ".。．" and output[-1].isalnum():
        return output + stop
    return output


@lru_cache(4)
def _converter(name: str) -> Any:
    # Its dictionaries take a quarter of a second: only for Chinese, and only once.
    from opencc import OpenCC

    return OpenCC(name)


def has_traditional(text: str) -> bool:
    """Whether a text has characters that are written otherwise in simplified Chinese."""
    return bool(_converter("t2s").convert(text) != text)


def has_simplified(text: str) -> bool:
    """Whether a text has characters that only simplified Chinese has."""
    to_traditional, to_simplified = _converter("s2t"), _converter("t2s")
    return any(
        to_traditional.convert(character) != character and to_simplified.convert(character) == character
        for character in set(text)
        if character >= "\u2e80"
    )


_WAYS = {"zh": "t2s", "zh_tw": "s2twp", "yue": "s2hk"}


def in_script(text: str, target: Language, spared: tuple[str, ...] = ()) -> str:
    """Return Chinese in the characters of the target, but for what is kept to the letter and what is `spared`."""
    way = _WAYS.get(target.code)
    if way is None or not (has_traditional(text) if target.code == "zh" else has_simplified(text)):
        return text
    convert = _converter(way).convert
    pattern = "|".join(re.escape(part) for part in sorted({*spared, *protecting.kept(text)}, key=len, reverse=True))
    if not pattern:
        return str(convert(text))
    parts = re.split(f"({pattern})", text)
    return "".join(part if number % 2 else convert(part) for number, part in enumerate(parts))


__all__ = ["cleaned", "ended", "has_simplified", "has_traditional", "in_script", "without_wrapping"]
