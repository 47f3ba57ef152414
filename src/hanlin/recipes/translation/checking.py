"""What is wrong with a translation, found without knowing what it should say.

Nothing here judges style. A fault is something that a reader would not forgive: another language, a lost link, an
answer in place of a translation.
"""

import re
from collections.abc import Iterator, Sequence

import msgspec

from hanlin.recipes.translation import languages, protecting, terms
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
    yield from _of_kept(aim.text, output)
    yield from _of_language(aim, output)
    yield from _of_length(aim, output)
    if aim.text.rstrip(_AFTER_MARK)[-1:] in _QUESTION_MARKS and not any(mark in output for mark in _QUESTION_MARKS):
        yield Fault("question", "a question was answered")


_QUESTION_MARKS = "?？؟"
_AFTER_MARK = " \t\"'”’」』)）*_"


def _of_terms(aim: Aim, output: str) -> Iterator[Fault]:
    for use in terms.missing(output, aim.wanted, aim.target):
        yield Fault("terms", use.term.target)


def _of_kept(text: str, output: str) -> Iterator[Fault]:
    missing, extra = protecting.lost(text, output)
    for part in missing:
        yield Fault("kept", part)
    for part in extra:
        yield Fault("kept", f"added {part}")
    lacking, more = protecting.numbers_lost(text, output)
    if lacking or more:
        yield Fault("numbers", f"{', '.join(lacking)} / {', '.join(more)}")
    for measure in protecting.units_lost(text, output):
        yield Fault("units", measure)


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


_SURE = 0.85
_LIKELY = 0.6
_WORD = re.compile(r"(?<![A-Za-z])[a-z]{4,}(?![A-Za-z])")


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
    if target.is_han and languages.letters("Jpan").search(re.sub("[\u3400-\u9fff]", "", text)):
        return "has kana"
    if target.scripts == ("Jpan",) and len(text) > 10 and not re.search("[\u3040-\u30ff]", text):
        return "has no kana"
    return ""


def _wrong_language(text: str, aim: Aim) -> str:
    """Ask a language detector. It is sure about long texts only, and knows none of the dialects."""
    line = " ".join(text.split())
    letters = sum(character.isalpha() for character in line)
    if not aim.target.labels or aim.target.is_han or letters < 16:
        return ""
    label, score = languages.detected(line)
    if label in aim.target.labels:
        return ""
    is_source = aim.source is not None and label in aim.source.labels and score >= _LIKELY
    if is_source or (letters >= 40 and score >= _SURE):
        return f"reads as {label!r}"
    return ""


def left_over(aim: Aim, output: str) -> str:
    """Return a word, or a run of characters, that a translation left in the source's script; "" where there is none."""
    text = _own_words(aim, output)
    own = aim.target.scripts
    takes_han = {"Hans", "Hant", "Jpan", "Kore"}.intersection(own)  # Korean texts may have a name in Han
    allowed = {"Hans": takes_han, "Jpan": takes_han, "Kore": {"Kore"}.intersection(own)}
    allowed["Cyrl"] = {"Cyrl"}.intersection(own)
    for script, fits in allowed.items():
        if not fits and (found := languages.run_of(script).search(text)):
            return found[0]
    if "Latn" not in own:
        mine = set(_WORD.findall(aim.text))
        return next((word for word in _WORD.findall(text) if word in mine), "")
    return ""


__all__ = ["WEIGHTS", "Aim", "Fault", "faults", "left_over", "loops", "weight"]
