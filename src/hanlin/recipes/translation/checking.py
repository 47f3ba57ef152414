"""What is wrong with a translation, found without knowing what it should say.

Nothing here judges style. A fault is something that a reader would not forgive: another language, a lost link, an
answer in place of a translation.
"""

import re
from collections.abc import Iterator, Sequence

import msgspec

from hanlin.recipes.translation import languages, leftovers, protecting, terms
from hanlin.recipes.translation.languages import Language
from hanlin.recipes.translation.segmenting import sentences, size
from hanlin.recipes.translation.terms import Use


class Fault(msgspec.Struct, frozen=True):
    """Something wrong. `kind` is a word of `WEIGHTS`, `detail` what it is about."""

    kind: str
    detail: str = ""


# How bad it is, to choose between translations that all have faults.
WEIGHTS = {
    "empty": 1000,
    "loop": 12,
    "cut": 10,
    "language": 10,
    "echo": 10,
    "kept": 8,
    "terms": 8,
    "length": 6,
    "question": 5,
    "numbers": 5,
    "untranslated": 4,
    "units": 2,
}


class Aim(msgspec.Struct, frozen=True):
    """What a translation has to be: of which text, from which language (None: unknown) into which, with which terms."""

    text: str
    source: Language | None
    target: Language
    wanted: tuple[Use, ...] = ()


def weight(faults: Sequence[Fault]) -> int:
    return sum(WEIGHTS[fault.kind] for fault in faults)


def faults(aim: Aim, output: str, *, cut: bool = False) -> tuple[Fault, ...]:
    """Return everything that is wrong with a translation. `cut`: the model was stopped before its end."""
    if not output.strip():
        return (Fault("empty"),)
    return tuple(_faults(aim, output, cut=cut))


def _faults(aim: Aim, output: str, *, cut: bool) -> Iterator[Fault]:
    if cut:
        yield Fault("cut")
    if loops(output) and not loops(aim.text):
        yield Fault("loop")
    yield from _of_terms(aim, output)
    yield from _of_kept(aim, output)
    yield from _of_language(aim, output)
    yield from _of_length(aim, output)
    asks = aim.text.rstrip(_AFTER_MARK).endswith(_QUESTION_MARKS)
    if asks and not any(mark in output for mark in (*_QUESTION_MARKS, *aim.target.question)):
        yield Fault("question", "a question was answered")


_QUESTION_MARKS = ("?", "？", "؟")
_AFTER_MARK = " \t\"'”’」』)）*_"


def _of_terms(aim: Aim, output: str) -> Iterator[Fault]:
    for use in terms.missing(output, aim.wanted, aim.target):
        yield Fault("terms", use.term.target)


def _of_kept(aim: Aim, output: str) -> Iterator[Fault]:
    text = aim.text
    missing, extra = protecting.lost(text, output)
    for part in missing:
        yield Fault("kept", part)
    for part in extra:
        yield Fault("kept", f"added {part}")
    lacking, more = protecting.numbers_lost(text, output)
    if (lacking or more) and not _are_words(aim, lacking, more):
        yield Fault("numbers", f"{', '.join(lacking)} / {', '.join(more)}")
    for measure in protecting.units_lost(text, output):
        yield Fault("units", measure)


def _are_words(aim: Aim, lacking: Sequence[str], more: Sequence[str]) -> bool:
    """Whether numbers that one side lacks may be words there, in a language whose numbers nobody here can read."""
    if lacking and more:
        return False
    language = aim.target if lacking else aim.source
    readable = language is not None and (language.code == "en" or language.is_han)
    return not readable and all(map(protecting.is_small, (*lacking, *more)))


_REPEATS = re.compile(r"(.{2,60}?)\1{4,}|(.)\2{24,}", re.DOTALL)


def loops(text: str) -> bool:
    """Whether a text says the same again and again."""
    return _REPEATS.search(text[-4000:]) is not None


_LEAST = 9.0
_MOST = 3.2


def _of_length(aim: Aim, output: str) -> Iterator[Fault]:
    ours, theirs = size(output), size(aim.text)
    low, high = (0.4, _MOST) if theirs >= _LEAST else (0.2, 6.0)
    if theirs > 2 and not low <= ours / theirs <= high:
        yield Fault("length", f"{ours / theirs:.2f} times the source")
        return
    count = len(sentences(aim.text))
    if count > 1 and len(sentences(output)) < count and ours / theirs < 0.7:
        yield Fault("length", "a sentence is missing")


def _of_language(aim: Aim, output: str) -> Iterator[Fault]:
    text = _own_words(aim, output)
    if not any(character.isalpha() for character in text):
        return
    if aim.source is not aim.target and _is_echo(aim, output):
        yield Fault("echo")
        return
    if (why := _wrong_script(text, aim.target)) or (why := _wrong_language(text, aim)):
        yield Fault("language", why)
        return
    if left := left_over(aim, output):
        yield Fault("untranslated", left)


def _own_words(aim: Aim, output: str) -> str:
    """Return what the translator wrote itself: without what is kept to the letter, and without the glossary's words."""
    text = protecting.without_kept(output)
    for use in aim.wanted:
        text = re.sub(re.escape(use.term.target), " ", text, flags=re.IGNORECASE)
    return text


def _is_echo(aim: Aim, output: str) -> bool:
    text = protecting.without_kept(aim.text)
    if languages.is_unspaced(text):
        # Characters may be the same in both: only a sentence that is the same is an echo.
        long = len(text.strip()) >= 6 and not aim.target.is_han and aim.target.scripts[0] != "Jpan"
    else:
        long = len(text.split()) >= 4
    return long and terms.level(output).strip() == terms.level(aim.text).strip()


def _wrong_script(text: str, target: Language) -> str:
    shares = languages.shares(text)
    own = max((shares.get(script, 0.0) for script in target.scripts), default=0.0)
    latin = shares.get("Latn", 0.0)
    if own < 0.5 and not (own > 0.2 and own + latin > 0.9):
        return f"written in {next(iter(shares), 'no script we know')}"
    if target.is_han and languages.has_kana(text):
        return "has kana"
    if target.scripts == ("Jpan",) and len(text) > 10 and not languages.has_kana(text):
        return "has no kana"
    return ""


_LIKELY = 0.6
_CLEAR = 0.35
_LEAST_LETTERS = 16
_ENOUGH_LETTERS = 24


def _wrong_language(text: str, aim: Aim) -> str:
    """Ask a language detector. It is sure about longer texts only, and knows none of the dialects.

    It takes neighbours for each other, but beside the likeliest language the right one keeps some chance (`doubt`), and
    a wrong one hardly any.
    """
    target = aim.target
    if target.is_han:
        return _wrong_chinese(text, target)
    letters = languages.letters_in(text)
    if not target.labels or letters < _LEAST_LETTERS:
        return ""
    found = languages.chances(text)
    label, chance = next(iter(found.items()), ("", 0.0))
    own = max(found.get(label, 0.0) for label in target.labels)
    if own >= chance * target.doubt:
        return ""
    is_source = aim.source is not None and label in aim.source.labels and chance >= _LIKELY
    return f"reads as {label!r}" if is_source or (letters >= _ENOUGH_LETTERS and chance >= _CLEAR) else ""


_CANTONESE = re.compile("[唔嘅喺咗啲佢哋冇嚟咩嗰嗌畀攞諗]")
_OF_CANTONESE = re.compile("[係唔嘅喺咗啲佢哋冇嚟咩嗰嗌畀攞諗]")
_SOME_CHARACTERS = 12


def _wrong_chinese(text: str, target: Language) -> str:
    """Tell Cantonese by its own characters, which Mandarin does not have and Cantonese seldom does without."""
    if target.code != "yue":
        return "reads as Cantonese" if len(set(_CANTONESE.findall(text))) > 1 else ""
    long = len(languages.letters("Hant").findall(text)) >= _SOME_CHARACTERS
    return "reads as Mandarin" if long and not _OF_CANTONESE.search(text) else ""


def left_over(aim: Aim, output: str) -> str:
    """Return a part of a translation that was not translated, as it stands there; "" where there is none."""
    spared = [use.term.target for use in aim.wanted]
    return leftovers.left_over(aim.text, aim.source, aim.target, output, spared)


__all__ = ["WEIGHTS", "Aim", "Fault", "faults", "left_over", "loops", "weight"]
