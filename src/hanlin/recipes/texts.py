"""What can be said of a text without a model: its language, its words, its numbers, and what it shares with another.

Pure. Chinese has no blanks, so its words are taken as pairs of characters.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator

_HAN = "\u3400-\u4dbf\u4e00-\u9fff"
_HAN_RUN = re.compile(f"[{_HAN}]+")
_WORD = re.compile(r"[^\W_]+(?:[-_.'’][^\W_]+)*")
_NUMBER = re.compile(r"\d+(?:[,，]\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?")
_CJK_SHARE = 0.15

_COMMON = frozenset(
    re.findall(
        r"\w+",
        "a about all also an and any are as at be been but by can could did do does document documents each every file "
        "files find for from give had has have he her his how i if in into is it its just list me more most much many "
        "my name names no not of on one or our out please page pages say says she should so some tell text than that "
        "the their them then there these they this those to up us was we were what when where which who whom whose why "
        "will with would you your according following show write answer question",
    )
)
_COMMON_HAN = frozenset(
    re.findall(
        r"\w+",
        "什么 多少 哪个 哪些 哪里 怎么 怎样 如何 为什 么时 是否 可以 请问 告诉 诉我 这个 那个 这些 那些 文件 文档 一下 "
        "以及 以下 根据 内容 问题 回答 列出 有没 没有 多大 几个 几次 时候 是什 是多 是谁 有多 的是 是哪",
    )
)
_GLUE = frozenset("的了和与或在是有为吗呢吧啊么把被于其之及并也都就而但你我他她它们这那哪谁几")


def is_chinese(text: str) -> bool:
    """Whether a reader of this text reads Chinese: a good part of its letters are Han, and none are kana."""
    letters = [character for character in text if character.isalpha()]
    han = sum(1 for letter in letters if _HAN_RUN.match(letter))
    kana = any("\u3040" <= letter <= "\u30ff" for letter in letters)
    return bool(letters) and not kana and han >= _CJK_SHARE * len(letters)


def folded(text: str) -> str:
    """Return a text so that two ways to write the same compare alike: widths, case, blanks."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def squeezed(text: str) -> str:
    """Return a folded text without blanks, marks and signs: only what carries meaning."""
    return "".join(character for character in folded(text) if character.isalnum())


def terms(text: str) -> frozenset[str]:
    """Return the words that a text is about: those that every text has are left out."""
    return frozenset(_terms(folded(text)))


def _terms(text: str) -> Iterator[str]:
    for word in _WORD.findall(_HAN_RUN.sub(" ", text)):
        if word not in _COMMON and (len(word) > 1 or word.isdigit()):
            yield _stem(word)
    for run in _HAN_RUN.findall(text):
        if len(run) == 1:
            if run not in _GLUE:
                yield run
            continue
        for at in range(len(run) - 1):
            pair = run[at : at + 2]
            if pair not in _COMMON_HAN and not (pair[0] in _GLUE or pair[1] in _GLUE):
                yield pair


def _stem(word: str) -> str:
    """Return an English word without the end that only its grammar asks for."""
    for end in ("'s", "’s"):
        word = word.removesuffix(end)
    for end, least in (("ies", 5), ("es", 5), ("s", 4), ("ing", 6), ("ed", 5)):
        if word.endswith(end) and len(word) >= least and not word.endswith("ss"):
            return word.removesuffix(end) + ("y" if end == "ies" else "")
    return word


def shared(of: frozenset[str], within: frozenset[str]) -> float:
    """Return what part of some words a text has; 1.0 where there are none to have."""
    return len(of & within) / len(of) if of else 1.0


def numbers(text: str) -> frozenset[str]:
    """Return the numbers of a text, each in one spelling: `1,234.50` and `1234.5` are the same."""
    return frozenset(map(number, _NUMBER.findall(unicodedata.normalize("NFKC", text))))


def number(text: str) -> str:
    """Return one number in the spelling that numbers are compared in."""
    plain = unicodedata.normalize("NFKC", text).replace(",", "")
    whole, dot, part = plain.partition(".")
    part = part.rstrip("0")
    return (whole.lstrip("0") or "0") + (f".{part}" if dot and part else "")


def scaled(found: Iterable[str]) -> frozenset[str]:
    """Return numbers with what they are in ten thousands, in hundred millions and as a percentage, and back."""
    more: set[str] = set(found)
    for text in tuple(more):
        value = float(text)
        for factor in (1e4, 1e8, 1e-4, 1e-8, 1e2, 1e-2):
            more.add(number(f"{value * factor:.6f}"))
    return frozenset(more)


_AMOUNT = re.compile(r"[-+−]?\s*+[¥$€£￥]?\s*+([-+−]?\d+(?:,\d{3})*(?:\.\d+)?)\s*+(?:%|[^\W\d_]{1,4})?")


def amount(text: str) -> float | None:
    """Return what a cell of a table is worth: a number with its currency, separators and unit; None for other text."""
    found = _AMOUNT.fullmatch(unicodedata.normalize("NFKC", text).strip())
    if found is None:
        return None
    value = float(found[1].replace(",", "").replace("−", "-"))
    return -abs(value) if text.strip()[:1] in "-−" else value


__all__ = ["amount", "folded", "is_chinese", "number", "numbers", "scaled", "shared", "squeezed", "terms"]
