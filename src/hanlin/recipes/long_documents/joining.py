"""Join facts that stand apart: what a first search found names what the next one looks for.

Paid for only where the form of a question speaks of something without naming it, and what was found says who or what
that is but not what is asked of it. Bounded: so many searches, one short call between two of them. The model only says
the link; that it stands in the passages, and what to look for next, is found out here.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from hanlin.documents.coverage import Coverage, Judgement
from hanlin.documents.questions import asks_barely, joins
from hanlin.recipes.long_documents.finding import Hit
from hanlin.recipes.long_documents.prompts import NOTHING
from hanlin.recipes.texts import folded, terms

MOST_ROUNDS = 3
"""Searches for one question, the first among them."""

LINK_TOKENS = 96
"""Of what is said between two of them."""

_MOST_LINKS = 24
_LINK_CHARS = 600
_PAGES = re.compile(
    r"[（(\[]?(?:第\s*\d+(?:\s*[-–~至到、,，]\s*\d+)*\s*页|\bpp?\.\s*\d+(?:\s*[-–,]\s*\d+)*)[）)\]]?", re.IGNORECASE
)
"""What names a page is no name to look for."""


@dataclass(frozen=True)
class Round:
    """A search: what was looked for, what was found, and how much of the one is in the other."""

    sought: str
    hits: Sequence[Hit]
    found: Coverage


Search = Callable[[str], Awaitable[Round]]
"""Looks for something in the documents of a question."""

Link = Callable[[Round, Sequence[str]], Awaitable[tuple[str, str]]]
"""Says what a round's passages tell of what is not named, given what was said before: a sentence, and what was read."""


async def joined(first: Round, question: str, search: Search, link: Link) -> list[Round]:
    """Return a search with those that follow from what it found; alone, where it found enough or nothing leads on."""
    rounds = [first]
    left = wanted(question, first.found)
    known: list[str] = []
    while left is not None and len(rounds) < MOST_ROUNDS:
        said, text = await link(rounds[-1], known)
        said = said[:_LINK_CHARS]
        links = links_of(said, "\n".join([question, *known]), text)
        if not links:
            break
        rounds.append(await search(" ".join([*links, *left])))
        known.append(said)
        left = still_wanted(left, rounds[-1].found)
    return rounds


def judged(rounds: Sequence[Round]) -> Judgement:
    """Return whether what was found in all rounds can hold an answer."""
    if len(rounds) == 1:
        return rounds[0].found.judgement
    return "covered" if rounds[-1].found.judgement == "covered" else "unsure"


def wanted(question: str, found: Coverage) -> Sequence[str] | None:
    """Return the words of a question that have to be looked for with a name that it does not say; None: nothing has.

    There may be none of them: where a thing is that is not named is asked without a word for what it is.
    """
    if found.judgement == "absent" or not joins(question):
        return None
    return found.apart if found.apart or asks_barely(question) else None


def still_wanted(left: Sequence[str], found: Coverage) -> Sequence[str] | None:
    """Return what of the words looked for does not stand beside the new name; None: all do, or no more than before."""
    rest = [part for part in found.apart if any(part in word for word in left)]
    return rest if 0 < sum(map(len, rest)) < sum(map(len, left)) else None


def links_of(said: str, known: str, text: str) -> tuple[str, ...]:
    """Return the words of a sentence that lead on: not known yet, and in the text that it was said of.

    In the sentence's order: two words that belong together are looked for together.
    """
    said = _PAGES.sub(" ", said[:_LINK_CHARS])
    if said.strip().casefold() in NOTHING:
        return ()
    new = (terms(said) - terms(known)) & terms(text)
    plain = folded(said)
    return tuple(sorted(new, key=lambda word: (plain.find(word), word))[:_MOST_LINKS])


__all__ = [
    "LINK_TOKENS",
    "MOST_ROUNDS",
    "Link",
    "Round",
    "Search",
    "joined",
    "judged",
    "links_of",
    "still_wanted",
    "wanted",
]
