"""What a translation left as it was: words in a script that is not its own, phrases and sentences of the source.

Names, titles in quotes, what is kept to the letter and the words of a glossary may stay. A phrase is left over when it
stands in the source word for word, or is a sentence, and a detector is sure that it is in the source's language.
"""

import itertools
import re
from collections.abc import Iterator, Sequence

from hanlin.recipes.translation import languages, protecting
from hanlin.recipes.translation.languages import Language
from hanlin.recipes.translation.segmenting import sentences

_SMALL_WORD = re.compile(r"(?<![A-Za-z])[a-z]{4,}(?![A-Za-z])")
_WORD = re.compile(r"""[^\s.,;:!?…()\[\]{}<>"“”„«»¿¡।॥。，、؟،؛/|=*_#~`]+""")
_GAP = re.compile(r"[,;:]? ?")
_QUOTED = re.compile(r'"[^"\n]{1,200}"|“[^”\n]{1,200}”|„[^“”\n]{1,200}[“”]|«[^»\n]{1,200}»|»[^«\n]{1,200}«')
_LEAST_WORDS = 4
_LEAST_LETTERS = 16
_SENTENCE_LETTERS = 40
_HAN_SENTENCE = 10
_SURE_OF_PHRASE = 0.6
_SURE_OF_SENTENCE = 0.8


def left_over(text: str, source: Language | None, target: Language, output: str, spared: Sequence[str]) -> str:
    """Return a part of a translation that was not translated, as it stands there; "" where there is none.

    `spared` are words that are in the target language whatever they look like.
    """
    own = _blanked(output, spared)
    if found := _other_script(text, target, own):
        return found
    if source is None or source is target or {*source.labels, *target.labels[:1]} == {*source.labels}:
        return ""
    return next(_phrases(text, source, target, own, output), "")


def _blanked(output: str, spared: Sequence[str]) -> str:
    """Return a translation with blanks in place of what may be in any language, as long as it was."""
    text = protecting.blanked(output)
    for words in spared:
        text = re.sub(re.escape(words), _blanks, text, flags=re.IGNORECASE)
    return text


def _blanks(found: re.Match[str]) -> str:
    return " " * len(found[0])


def _other_script(text: str, target: Language, own: str) -> str:
    """Return a run of characters, or a word, of the source's script."""
    scripts = target.scripts
    takes_han = {"Hans", "Hant", "Jpan", "Kore"}.intersection(scripts)  # Korean texts may have a name in Han
    allowed = {"Hans": takes_han, "Jpan": takes_han, "Kore": {"Kore"}.intersection(scripts)}
    allowed["Cyrl"] = {"Cyrl"}.intersection(scripts)
    for script, fits in allowed.items():
        if not fits and (found := languages.run_of(script).search(own)):
            return found[0]
    if "Latn" not in scripts:
        mine = set(_SMALL_WORD.findall(text))
        return next((word for word in _SMALL_WORD.findall(own) if word in mine), "")
    return ""


def _phrases(text: str, source: Language, target: Language, own: str, output: str) -> Iterator[str]:
    if source.is_han and target.scripts == ("Jpan",):
        yield from _chinese(text, own)
        return
    if not {*source.scripts}.intersection(target.scripts) or languages.is_unspaced(own):
        return
    own = _QUOTED.sub(_blanks, own)
    for start, end in _common(text, own):
        if _reads_as_source(own[start:end], source, target, _SURE_OF_PHRASE):
            yield output[start:end]
    parts = sentences(own)
    at = 0
    for part in parts:
        words = list(_WORD.finditer(part))
        sure = len(parts) > 1 and languages.letters_in(part) >= _SENTENCE_LETTERS
        if sure and _reads_as_source(part, source, target, _SURE_OF_SENTENCE):
            yield output[at + words[0].start() : at + words[-1].end()]
        at += len(part)


def _chinese(text: str, own: str) -> Iterator[str]:
    """Yield sentences of a Japanese text that are Chinese: nothing but characters, and all of them the source's."""
    for part in sentences(own):
        body = part.strip(" 。！？!?")
        if len(languages.letters("Hans").findall(body)) >= _HAN_SENTENCE and body in text:
            yield body


def _common(text: str, own: str) -> Iterator[tuple[int, int]]:
    """Yield where runs of words stand that the source has as well, names and short ones left out."""
    said = [word.casefold() for word in _WORD.findall(text)]
    runs = {tuple(said[at : at + _LEAST_WORDS]) for at in range(len(said) - _LEAST_WORDS + 1)}
    words = list(_WORD.finditer(own))
    plain = [word[0].casefold() for word in words]
    begin = -1
    for at in range(len(words) + 1):
        if (
            at < len(words)
            and tuple(plain[at : at + _LEAST_WORDS]) in runs
            and _together(words[at : at + _LEAST_WORDS])
        ):
            begin = at if begin < 0 else begin
        elif begin >= 0:
            run = words[begin : at + _LEAST_WORDS - 1]
            small = sum(not word[0][0].isupper() for word in run)
            start, end = run[0].start(), run[-1].end()
            if small >= _LEAST_WORDS and languages.letters_in(own[start:end]) >= _LEAST_LETTERS:
                yield start, end
            begin = -1


def _together(words: Sequence[re.Match[str]]) -> bool:
    own = words[0].string
    return all(_GAP.fullmatch(own, before.end(), after.start()) for before, after in itertools.pairwise(words))


def _reads_as_source(part: str, source: Language, target: Language, sure: float) -> bool:
    found = languages.chances(part)
    label, chance = next(iter(found.items()), ("", 0.0))
    theirs = max((found.get(own, 0.0) for own in target.labels), default=1.0)
    return label in source.labels and label not in target.labels and chance >= sure and theirs < chance * target.doubt


__all__ = ["left_over"]
