"""Terms in five directions (spec/scenarios.md §1.9): three are here, two in `test_translation_recipe`."""

import pytest

from tests.translation_bases import translate
from tests.translation_directions import Inflecting, Noun, bare, directions


def _has(text: str, noun: Noun) -> bool:
    return any(bare(form).lower() in text for form in noun.term.values())


@pytest.mark.parametrize("stubborn", [False, True])
async def test_terms_hold_in_german_spanish_and_russian_and_no_other_is_put_in(stubborn: bool) -> None:
    """240 uses of terms in 120 sentences, each with a glossary of eight of which it has two.

    Found here by the tables of their forms, not by the checks of the recipe. A stubborn model says its ordinary word
    whatever it is told; then the term takes its place, in the form that glossaries have.
    """
    base = Inflecting(stubborn)
    missing: list[tuple[str, str]] = []
    pasted: list[tuple[str, str]] = []
    for sentence in directions(40):
        options = {"source_lang": "English", "target_lang": sentence.target_lang, "terms": sentence.glossary}
        text = (await translate(base, sentence.source, options)).text.lower()
        missing += [(noun.en, text) for noun in sentence.used if not _has(text, noun)]
        pasted += [(noun.en, text) for noun in sentence.others if _has(text, noun)]

    assert pasted == []
    assert len(missing) <= 2, missing


async def test_the_case_of_a_term_is_that_of_its_sentence() -> None:
    """The model is shown the term where it stands, and declines it."""
    said = {}
    for sentence in directions(4):
        options = {"source_lang": "English", "target_lang": sentence.target_lang, "terms": sentence.glossary}
        said[sentence.target_lang, sentence.source] = (await translate(Inflecting(), sentence.source, options)).text

    russian = [text for (language, _), text in said.items() if language == "Russian"]
    assert russian[3].split(" вместе с ")[1].rstrip(".").endswith(("ом", "ем", "ой", "табло"))
