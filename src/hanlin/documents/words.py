"""Cut text and questions into the words that an index is made of, in any script and without a dictionary.

Pure. Scripts that are written without spaces become overlapping pairs of characters, which find Chinese words of any
length as well as a dictionary does and never miss one that it does not know; other scripts become words, folded and
stemmed a little. A text and a question about it must be cut by the same rules, so both are here.
"""

import re
import tomllib
import unicodedata
from collections.abc import Sequence
from functools import cache, lru_cache
from importlib.resources import files
from operator import add

import msgspec

_UNSPACED = (
    "\u2e80-\u2fdf\u3005-\u3007\u3041-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7a3\uf900-\ufaff"
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\U00020000-\U0003fffd"
)
"""Han, kana and Hangul, and the scripts of South-East Asia that put no spaces between words."""

_PIECE = re.compile(rf"[{_UNSPACED}]+|[^\W_{_UNSPACED}]+(?:[.,:/_-][^\W_{_UNSPACED}]+)*")
_IS_UNSPACED = re.compile(rf"[{_UNSPACED}]")

_ASCII_PIECE = re.compile(r"[a-z0-9]+(?:[.,:/_-][a-z0-9]+)*")
"""The same, for text without other characters: twice as fast."""

_COMPATIBLE = re.compile("[^\x00-\x7f\u4e00-\u9fff\u3000-\u3020，。；：！？（）、“”‘’…—《》]")
"""What may have another form. Chinese marks have one too, but part words in either."""

# A line's end inside a Chinese sentence parts no word, nor does the hyphen of an English one.
_BROKEN = re.compile(rf"(?<=[{_UNSPACED}])\n(?=[{_UNSPACED}])|(?<=[a-z])-\n(?=[a-z])")

_JOINTS = re.compile(r"[.,:/_-]")
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_CODE_MARKS = str.maketrans("", "", ",:/_-")
_DIGIT = re.compile(r"\d")

_LONGEST = 64
"""Characters of a word that count: what is longer is no word that anybody looks for."""

_MOST_TERMS = 256
"""Terms of one question that are looked at, so that one of nine thousand tokens costs no more than a long one."""


class Term(msgspec.Struct, frozen=True, gc=False):
    """A word of a question as it stands in an index.

    `is_prefix`: a lone character, to be found at the beginning of any pair. `said` is how the question writes it, and
    `place` where: the offset of its first character in the folded question.
    """

    text: str
    is_prefix: bool = False
    said: str = ""
    place: int = 0


def fold(text: str) -> str:
    """Return a text in the one form in which it is compared: compatible characters are one, and case is none."""
    is_ascii = text.isascii()
    if not is_ascii and _COMPATIBLE.search(text):
        text = unicodedata.normalize("NFKC", text)
    text = text.lower()
    return _BROKEN.sub("", text) if "-\n" in text or ("\n" in text and not is_ascii) else text


def cut(text: str) -> str:
    """Return the words of a text, in their order, with blanks between them: what an index is told of it."""
    text = fold(text)
    if text.isascii():
        return " ".join(map(_joined, _ASCII_PIECE.findall(text)))
    # Most runs are Chinese and of several characters: for them this is written out, half of the work is here.
    return " ".join(
        [
            " ".join(map(add, piece, piece[1:])) or piece if "\u4e00" <= piece[0] <= "\u9fff" else _pairs(piece)
            for piece in _PIECE.findall(text)
        ]
    )


def _pairs(piece: str) -> str:
    """Return the overlapping pairs of a run of characters with blanks between them; of one alone, that one."""
    if not _IS_UNSPACED.match(piece):
        return _joined(piece)
    return " ".join(map(add, piece, piece[1:])) or piece


def terms(question: str) -> tuple[Term, ...]:
    """Return what to look for to answer a question: each word once, without those that only make it a question."""
    folded = fold(question)
    found: dict[tuple[str, bool], Term] = {}
    for match in _PIECE.finditer(folded):
        piece, place = match.group(), match.start()
        if _IS_UNSPACED.match(piece):
            for term in _unspaced_terms(piece, place):
                found.setdefault((term.text, term.is_prefix), term)
        else:
            for word in () if piece in _stops().en_asking else _spaced(piece):
                found.setdefault((word, False), Term(word, said=piece, place=place))
        if len(found) >= _MOST_TERMS:
            break
    return tuple(found.values())


def match(wanted: Sequence[Term]) -> str:
    """Return an FTS5 expression that any of the terms satisfies; "" where there are none.

    Every term is quoted, so that nothing in a question is an operator.
    """
    return " OR ".join([_quoted(term.text) + ("*" if term.is_prefix else "") for term in wanted])


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""').replace("\0", "") + '"'


def _unspaced_terms(piece: str, place: int) -> list[Term]:
    """Return the pairs of a run of characters, not across the words that part them; a lone one is a prefix."""
    found = []
    for part in _chinese_stops().finditer(piece):
        run = part.group("kept")
        if run is None:
            continue
        start = place + part.start()
        if len(run) == 1 and run in _stops().zh_lone:
            continue
        if len(run) == 1:
            found.append(Term(run, is_prefix=True, said=run, place=start))
        else:
            pairs = map(add, run, run[1:])
            found += [Term(pair, said=pair, place=start + offset) for offset, pair in enumerate(pairs)]
    return found


@lru_cache(maxsize=2**16)
def _joined(piece: str) -> str:
    return " ".join(_spaced(piece))


@lru_cache(maxsize=2**12)
def _spaced(piece: str) -> tuple[str, ...]:
    """Return the words of what stands between blanks: its parts, and the whole where it is a number or a code."""
    if _DIGIT.search(piece):
        if _THOUSANDS.fullmatch(piece):
            piece = piece.replace(",", "")
        parts = _JOINTS.split(piece)
        if len(parts) == 1:
            return (piece[:_LONGEST],)
        words = [_word(part) for part in parts if part not in _english_stops()]
        return (piece.translate(_CODE_MARKS)[:_LONGEST], *filter(None, words))
    return tuple([_word(part) for part in _JOINTS.split(piece) if part not in _english_stops()])


def _word(part: str) -> str:
    if not part.isascii():
        part = "".join([sign for sign in unicodedata.normalize("NFKD", part) if not unicodedata.combining(sign)])
    return stem(part)[:_LONGEST] if part.isascii() else part[:_LONGEST]


def stem(word: str) -> str:
    """Return an English word without the endings of number and tense, so that its forms meet; lower case, ASCII."""
    if len(word) < 4 or not word.isalpha():
        return word
    if word.endswith("ies") and len(word) > 4:
        word = word[:-3] + "y"
    elif word.endswith(("sses", "shes", "ches", "xes", "zzes")):
        word = word[:-2]
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in ("ing", "ed"):
        rest = word.removesuffix(ending)
        if rest != word and len(rest) > 2 and any(vowel in rest for vowel in "aeiouy"):
            word = rest[:-1] if rest[-1] == rest[-2] and rest[-1] not in "lsz" else rest
            break
    if word.endswith("y") and len(word) > 3:
        return word[:-1] + "i"
    return word[:-1] if word.endswith("e") and len(word) > 3 else word


class _Stops(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    en: frozenset[str]
    en_asking: frozenset[str]
    zh: tuple[str, ...]
    zh_whole: tuple[str, ...]
    zh_lone: frozenset[str]


@cache
def _stops() -> _Stops:
    text = files("hanlin.documents").joinpath("stopwords.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), _Stops)


@cache
def _english_stops() -> frozenset[str]:
    return _stops().en


@cache
def _chinese_stops() -> re.Pattern[str]:
    """A pattern that takes a run apart: either a word that parts, or what stands until the next of them."""
    parting = "|".join(sorted(_stops().zh, key=len, reverse=True))
    whole = "|".join(_stops().zh_whole)
    return re.compile(rf"(?P<kept>(?:{whole}|(?!{parting}).)+)|(?:{parting})", re.DOTALL)


__all__ = ["Term", "cut", "fold", "match", "stem", "terms"]
