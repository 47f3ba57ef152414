"""Say where an answer comes from, when the model did not: the pages whose words it shares."""

from collections.abc import Sequence
from dataclasses import replace

from hanlin.recipes.attachments import has_pages
from hanlin.recipes.long_documents.claims import says_nothing
from hanlin.recipes.long_documents.prompts import Piece, Words, clean
from hanlin.recipes.long_documents.reading import Item
from hanlin.recipes.long_documents.report import ranges
from hanlin.recipes.texts import numbers, terms

_MOST_PLACES = 3
_LEAST_NEW = 2  # words that a further place must add
_NUMBER_WEIGHT = 3
_MOST_WEIGHED = 32


async def named(answer: str, pieces: Sequence[Piece], words: Words) -> str:
    """Return the line that names an answer's source; "" where there is none to name."""
    if says_nothing(answer):
        return ""
    places = await _narrowed(best(answer, [piece for piece in pieces if has_pages(piece.document)]), answer)
    if not places:
        return ""
    several = len({piece.document.id for piece in pieces}) > 1
    by_file: dict[str, list[Piece]] = {}
    for place in places:
        by_file.setdefault(place.document.id, []).append(place)
    said = []
    for group in by_file.values():
        pages = ranges(sorted({page for place in group for page in place.pages}))
        said.append(place_of(pages, clean(group[0].document.name) if several else "", words))
    return words.source.format(places=words.between.join(said))


def place_of(pages: Sequence[str], file: str, words: Words) -> str:
    """Return pages as a reader of the language says them, with their file where there are several."""
    told = words.place.format(pages=words.listed.join(pages))
    return words.in_file.format(file=file, place=told) if file else told


def line(item: Item, words: Words) -> str:
    """Return an item as a line of a list."""
    return f"- {item.text}{words.source.format(places=place_of([str(item.page)], '', words))}"


def best(answer: str, pieces: Sequence[Piece]) -> list[Piece]:
    """Return the few pieces that an answer has its words from."""
    wanted = dict.fromkeys(terms(answer), 1) | dict.fromkeys(numbers(answer), _NUMBER_WEIGHT)
    if len(pieces) > _MOST_WEIGHED:  # taking a book apart into words would hold everybody up
        near = [sum(weight for word, weight in wanted.items() if word in piece.text.lower()) for piece in pieces]
        pieces = [pieces[at] for at in sorted(range(len(pieces)), key=lambda at: -near[at])[:_MOST_WEIGHED]]
    holding = [(piece, (terms(piece.text) | numbers(piece.text)) & wanted.keys()) for piece in pieces]
    found: list[Piece] = []
    left = set(wanted)
    while len(found) < _MOST_PLACES and holding:
        piece, held = max(holding, key=lambda pair: sum(wanted[word] for word in pair[1] & left))
        worth = sum(wanted[word] for word in held & left)
        if not worth or (found and worth < _LEAST_NEW + 2 * len(found)):
            break
        found.append(piece)
        left -= held
    return found


async def _narrowed(places: Sequence[Piece], answer: str) -> list[Piece]:
    """Return pieces of one page each: of those that go over several, the page that has the answer's words."""
    narrow: list[Piece] = []
    for place in places:
        if place.last_page > place.first_page:
            pages = await place.document.read(place.first_page, place.last_page)
            wanted = terms(answer) | numbers(answer)
            page = max(pages, key=lambda page: len((terms(page.text) | numbers(page.text)) & wanted))
            place = replace(place, first_page=page.number, last_page=page.number)
        narrow.append(place)
    return narrow


__all__ = ["best", "line", "named", "place_of"]
