"""A glossary: where its terms occur in a text, and whether a translation keeps them.

A term is kept when a translation has it in any form that the language gives its words: "databases" keeps "database".
Pure; who repairs what was not kept is elsewhere.
"""

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

import msgspec

from hanlin.recipes.translation import protecting
from hanlin.recipes.translation.languages import Forms, Language, is_unspaced
from hanlin.recipes.translation.options import Pair

_STOP = re.compile(r"[。！？!?；;\n]|\.\s")


class Use(msgspec.Struct, frozen=True):
    """A term that a text has, and where (start and end of each place). `times` is how many of its sentences have it:
    a second time in one sentence may well become a pronoun."""

    term: Pair
    places: tuple[tuple[int, int], ...]
    times: int = 1


def level(text: str) -> str:
    """Return a text as terms are compared: full-width letters are narrow, capitals small. Its length stays the same."""
    return "".join(map(_level, text))


@lru_cache(4096)
def _level(character: str) -> str:
    narrow = unicodedata.normalize("NFKC", character)
    small = narrow.lower()
    if len(small) == 1:
        return small
    return narrow if len(narrow) == 1 else character


@lru_cache(8192)
def level_of_term(term: str) -> str:
    """Return a term as it is compared; the same ones come with every piece."""
    return level(term)


def uses(text: str, glossary: Sequence[Pair], language: Language | None) -> tuple[Use, ...]:
    """Return the terms that a text really has, in the order of the glossary; of two at one place the longer one counts,
    of two of the same name the first. In links, markup and code there are none: those are kept to the letter.

    `language` is the text's, None where nobody knows it.
    """
    plain = level(protecting.blanked(text))
    first: dict[str, Pair] = {}
    for term in glossary:
        first.setdefault(level_of_term(term.source), term)
    found = _places(plain, list(first), _forms(language))
    return tuple(
        Use(first[word], tuple(places), _sentences_of(plain, places)) for word, places in found.items() if places
    )


def _sentences_of(text: str, places: Sequence[tuple[int, int]]) -> int:
    between = itertools.pairwise(places)
    return 1 + sum(_STOP.search(text, before[1], after[0]) is not None for before, after in between)


def _forms(language: Language | None) -> Forms:
    return "english" if language is None else language.forms


def _places(plain: str, words: Sequence[str], forms: Forms) -> dict[str, list[tuple[int, int]]]:
    """Return where each of the words stands, longest first: no place counts twice."""
    found: dict[str, list[tuple[int, int]]] = {level_of_term(word): [] for word in words}
    taken = bytearray(len(plain))
    for word in sorted((word for word in found if _may_stand_in(plain, word)), key=len, reverse=True):
        for match in form_of(word, forms).finditer(plain):
            start, end = match.span()
            if start < end and not any(taken[start:end]):
                taken[start:end] = b"\1" * (end - start)
                found[word].append((start, end))
    for places in found.values():
        places.sort()
    return found


def _may_stand_in(plain: str, word: str) -> bool:
    """Whether a look is worth it: glossaries are long, few of their terms are in a sentence, and some are longer."""
    if len(word) > 2 * len(plain) + _ENDING:
        return False
    return word.split(" ")[-1] in _IRREGULAR or word[: 3 if len(word) > 3 else 1] in plain


_ENDING = 8  # letters that a form may have less than its term


@lru_cache(4096)
def form_of(term: str, forms: Forms) -> re.Pattern[str]:
    """Return what finds a term, levelled, in any form that sentences have of it."""
    words = term.split()
    if not words or is_unspaced(term):
        return re.compile(r"\s?".join(re.escape(word) for word in words) if words else r"(?!)")
    parts = [_word(word, forms, last=number == len(words) - 1) for number, word in enumerate(words)]
    before, after = (r"\w{0,4}", r"\w{0,4}") if forms == "within" else ("", "")
    start = r"(?<!\w)" if words[0][0].isalnum() else ""
    end = r"(?!\w)" if words[-1][-1].isalnum() else ""
    return re.compile(start + before + r"[\s\-‑]+".join(parts) + after + end)


def _word(word: str, forms: Forms, *, last: bool) -> str:
    escaped = re.escape(word)
    if not word.isalpha() or forms == "none" or len(word) < 2:
        return escaped
    if forms == "english":
        return _english(word) if last else rf"{escaped}(?:'s|s)?"
    # The end of a word changes: the beginning has to be there, and a few letters more at most.
    whole = forms == "attached" or len(word) <= 3 or (len(word) <= 5 and word[-1] not in _SOFT)
    stem = word if whole else word[:-1] if len(word) <= 5 else word[:-2]
    return rf"{re.escape(stem)}\w{{0,5}}"


_SOFT = "aeiouyàáâãäèéêëìíîïòóôõöùúûüąęăаеёиоуыэюяьйіїαεηιουω"


def _english(word: str) -> str:
    if word.endswith("y") and len(word) > 2 and word[-2] not in "aeiou":
        return rf"{re.escape(word[:-1])}(?:y(?:'s|ing)?|ies|ied)"
    if word.endswith("e"):
        return rf"{re.escape(word[:-1])}(?:e(?:'s|s|d)?|ing)"
    irregular = _IRREGULAR.get(word)
    doubled = rf"|{re.escape(word)}{word[-1]}(?:ed|ing)" if re.search(r"[^aeiou][aeiou][bdgmnprt]$", word) else ""
    return rf"(?:{re.escape(word)}(?:'s|s'|es|s|ed|ing)?{doubled}{'|' + irregular if irregular else ''})"


_IRREGULAR = {"man": "men", "woman": "women", "child": "children", "foot": "feet", "tooth": "teeth", "person": "people",
              "mouse": "mice", "analysis": "analyses", "index": "indices", "matrix": "matrices", "knife": "knives",
              "life": "lives", "leaf": "leaves", "half": "halves", "shelf": "shelves"}  # fmt: skip


def missing(output: str, wanted: Sequence[Use], language: Language) -> tuple[Use, ...]:
    """Return the terms that a translation has in fewer sentences than its text has them."""
    have = _kept_times(output, wanted, language)
    need = Counter[str]()
    for use in wanted:
        need[level(use.term.target)] += use.times
    return tuple(use for use in wanted if have[level(use.term.target)] < need[level(use.term.target)])


def _kept_times(output: str, wanted: Sequence[Use], language: Language) -> dict[str, int]:
    found = _places(level(output), [use.term.target for use in wanted], language.forms)
    return {word: len(places) for word, places in found.items()}


def switched(text: str, wanted: Sequence[Use], target: Language, *, tag: str = "") -> str:
    """Return a text in which each term stands as it is to be translated: a model leaves it there, in the right form.

    `tag` names a tag to put around each.
    """
    opening, closing = (f"<{tag}>", f"</{tag}>") if tag else ("", "")
    places = sorted((place, use.term) for use in wanted for place in use.places)
    return exchanged(text, [(place, f"{opening}{term.target}{closing}") for place, term in places], apart=target.spaced)


def exchanged(text: str, places: Sequence[tuple[tuple[int, int], str]], *, apart: bool) -> str:
    """Return a text with others in some places; `apart`: a space is put where letters would touch."""
    parts: list[str] = []
    at = 0
    for (start, end), new in places:
        parts.append(text[at:start])
        before, after = text[start - 1 : start], text[end : end + 1]
        left = " " if apart and before.isalnum() and new[:1].isalnum() else ""
        right = " " if apart and after.isalnum() and new[-1:].isalnum() else ""
        parts.append(f"{left}{new}{right}")
        at = end
    return "".join([*parts, text[at:]])


def exact(output: str, wanted: Sequence[Use], language: Language) -> str:
    """Return a translation in which terms with capitals of their own are written so: iOS, not IOS."""
    for use in wanted:
        target = use.term.target
        if not any(character.isupper() for character in target[1:]):
            continue
        pattern = form_of(level(target), language.forms)
        places = [
            (match.span(), target)
            for match in pattern.finditer(level(output))
            if len(match[0]) == len(target) and output[match.start() : match.end()] != target
        ]
        output = exchanged(output, places, apart=False)
    return output


def put(draft: str, words: str, term: str, language: Language, *, limit: int) -> str | None:
    """Return a draft with a term in place of `words`, in their number and case; None where it has no such words.

    At most `limit` places are changed.
    """
    pattern = form_of(level(words), language.forms)
    places = [(match.start(), match.end()) for match in pattern.finditer(level(draft))][:limit]
    if not places:
        return None
    new = [((start, end), _like(term, draft, (start, end), words, language)) for start, end in places]
    changed = exchanged(draft, new, apart=language.spaced)
    return _article(changed, new[0][1]) if language.forms == "english" else changed


def _like(term: str, draft: str, place: tuple[int, int], words: str, language: Language) -> str:
    """Return a term in the form of what it replaces: several where that was several, a capital at a beginning."""
    written, before = draft[place[0] : place[1]], draft[: place[0]].rstrip()
    if language.forms == "english" and is_plural(written, words):
        term = plural(term)
    begins = not before or before[-1] in ".!?:"
    if begins and written[:1].isupper() and term[:1].islower() and not any(map(str.isupper, term)):
        term = term[:1].upper() + term[1:]
    return term


def is_plural(written: str, word: str) -> bool:
    """Whether an English noun, as it was written, is several: longer by an ending than the word itself."""
    end, base = written.lower().split()[-1], word.lower().split()[-1]
    if end == base:
        return written.endswith("s") and base.endswith("s") and not base.endswith(("ss", "us", "is"))
    return (end.endswith("s") and not end.endswith("'s")) or end == _IRREGULAR.get(base)


def plural(term: str) -> str:
    """Return several of an English term."""
    *head, last = term.split(" ")
    if last.lower() in _IRREGULAR:
        last = _IRREGULAR[last.lower()]
    elif last.endswith("y") and len(last) > 1 and last[-2] not in "aeiou":
        last = f"{last[:-1]}ies"
    elif last.endswith(("s", "x", "z", "ch", "sh")):
        last = last if last.endswith("s") and not last.endswith("ss") else f"{last}es"
    else:
        last = f"{last}s"
    return " ".join([*head, last])


def _article(text: str, term: str) -> str:
    """Return a text whose article ahead of a term is the right one: an engineer, a field technician."""
    article = (
        "an" if term[:1].lower() in "aeiou" and not re.match(r"(?:uni|use|euro|one)", term, re.IGNORECASE) else "a"
    )

    def right(found: re.Match[str]) -> str:
        return f"{found[1]}{article[1:]} "

    return re.sub(rf"\b([Aa])n? (?={re.escape(term)})", right, text)


__all__ = [
    "Use",
    "exact",
    "exchanged",
    "form_of",
    "is_plural",
    "level",
    "missing",
    "plural",
    "put",
    "switched",
    "uses",
]
