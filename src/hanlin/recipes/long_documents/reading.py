"""Read documents part by part with a question in mind: notes of each part, or the items of it that are asked for.

Bounded: so many calls, so many at once, so much time. What was noted of a part is remembered for the same question.
Where the question is about the whole, the notes are made without it: they serve every such question, and are kept with
their document.
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from hanlin.documents.values import Document
from hanlin.metering.estimate import text_tokens
from hanlin.recipes import shaped
from hanlin.recipes.long_documents.asking import Kind
from hanlin.recipes.long_documents.budget import Room, note_tokens
from hanlin.recipes.long_documents.parts import Part, spread
from hanlin.recipes.long_documents.prompts import NOTHING, Piece, Words, marked, words_for
from hanlin.recipes.parallel import each
from hanlin.recipes.recipe import Base
from hanlin.recipes.texts import is_chinese, numbers, shared, squeezed, terms
from hanlin.types import ChatRequest, Message, Sampling, Schema

MOST_CALLS = 48
"""Parts that are read for one question; of more, these are spread evenly."""

AT_ONCE = 4
STREAMED_S, UNSTREAMED_S = 600.0, 240.0
"""How long parts are read before an answer is made of what was read until then: an unstreamed call has to end."""

_MOST_ITEMS = 40
_ITEM_CHARS = 240
_LEAST_BACKED = 0.6
_MOST_ROUNDS = 4
_SAMPLE_CHARS = 2000
_MARK_TOKENS = 16

ITEMS: Schema = {
    "type": "object",
    "properties": {
        "items": {
            "type": "array",
            "maxItems": _MOST_ITEMS,
            "items": {
                "type": "object",
                "properties": {"text": {"type": "string", "maxLength": _ITEM_CHARS}, "page": {"type": "integer"}},
                "required": ["text", "page"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["items"],
    "additionalProperties": False,
}


class Item(msgspec.Struct, frozen=True, gc=False):
    """Something that was asked for, in the document's words, and the page it stands on."""

    text: str
    page: int
    file: str = ""


class Note(msgspec.Struct, frozen=True, gc=False):
    """What was written down of a part; `items` where single things were asked for."""

    text: str = ""
    items: tuple[Item, ...] = ()

    @property
    def chars(self) -> int:
        """About how much memory it takes."""
        return 256 + len(self.text) + sum(64 + len(item.text) for item in self.items)


class Notes:
    """Notes by what they were made of, those forgotten first that nobody has asked for. Whoever finds one has had the
    text and the question that it was made of.
    """

    def __init__(self, most_chars: int = 1_000_000) -> None:
        self._most_chars = most_chars
        self._chars = 0
        self._notes: OrderedDict[bytes, Note] = OrderedDict()

    def __len__(self) -> int:
        return len(self._notes)

    def get(self, key: bytes) -> Note | None:
        note = self._notes.get(key)
        if note is not None:
            self._notes.move_to_end(key)
        return note

    def put(self, key: bytes, note: Note) -> None:
        if key not in self._notes:
            self._notes[key] = note
            self._chars += note.chars
        while self._chars > self._most_chars:
            self._chars -= self._notes.popitem(last=False)[1].chars


@dataclass
class Reader:
    """Reads parts for one question; `whole`: it is about all that they say."""

    base: Base
    model: str
    question: str
    kind: Kind
    words: Words
    room: Room
    notes: Notes
    limit_s: float = STREAMED_S
    clock: Callable[[], float] = time.monotonic
    most_calls: int = MOST_CALLS
    whole: bool = False
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.clock()

    async def read(self, parts: Sequence[Part]) -> list[tuple[Part, Note]]:
        """Return parts with their notes, in the documents' order; fewer than were given where time ran out."""
        done = await each(self._note, [parts[at] for at in spread(range(len(parts)))], AT_ONCE, self._has_time)
        return sorted(done, key=lambda pair: pair[0].number)

    def _has_time(self) -> bool:
        return self.clock() - self.began < self.limit_s

    async def _note(self, part: Part) -> Note:
        if self.whole:
            return Note(await self._digest(part.document, part.bare))
        if self.kind not in ("list", "count"):
            return Note(await self._written(part.text))
        return await self._remembered(part.text, lambda: self._items(part))

    async def _remembered(self, text: str, make: Callable[[], Awaitable[Note]]) -> Note:
        """Return what was noted of a text for the question, made if nobody has asked it lately."""
        key = self._key(self.kind, self.question, text)
        known = self.notes.get(key)
        if known is None:
            known = await make()
            self.notes.put(key, known)
        return known

    def _key(self, *made_of: str) -> bytes:
        said = "\0".join([self.model, self.base.fingerprint, str(self.base.context_tokens), *made_of])
        return hashlib.blake2b(said.encode("utf-8", "replace"), digest_size=20).digest()

    async def _written(self, text: str) -> str:
        """Write down in words what matters of a text for the question."""

        async def make() -> Note:
            return Note(await self._said(text, self.words.notes.format(question=self.question)))

        return (await self._remembered(text, make)).text

    async def _digest(self, document: Document, text: str) -> str:
        """Write down what a text of a document says, in its own language; found again by whoever has the document."""
        order = words_for(is_chinese(text[:_SAMPLE_CHARS])).digest
        known = await document.noted(self._key(order, text).hex())
        if known is None:
            known = await self._said(text, order)
            await document.note(self._key(order, text).hex(), known)  # by now it may be another model that wrote it
        return known

    async def _said(self, text: str, order: str) -> str:
        result = await self.base.answer(
            ChatRequest(
                self.model,
                (Message("user", f"{text}\n\n{order}"),),
                sampling=Sampling(temperature=0, max_tokens=note_tokens(self.room.window)),
            )
        )
        said = result.choices[0].text.strip()
        return "" if said.casefold() in NOTHING else said

    async def _items(self, part: Part) -> Note:
        """Find the items of a part; one that holds too many of them is read in two halves."""
        wanted = self.words.occurrences_wanted if self.kind == "count" else self.words.items_wanted
        message = Message("user", f"{part.text}\n\n{wanted.format(question=self.question)}")
        halves = part.halves()
        try:
            value = await shaped.ask(
                self.base, self.model, [message], ITEMS, max_tokens=max(self.room.window // 8, 768)
            )
        except shaped.Unfit as unfit:
            if not unfit.cut or len(halves) < 2:
                return Note()
            value = {"items": [None] * _MOST_ITEMS}
        if len(value["items"]) >= _MOST_ITEMS and len(halves) > 1:
            both = [await self._items(half) for half in halves]
            return Note(items=tuple(item for note in both for item in note.items))
        claimed = [Item(row["text"].strip(), row["page"], part.document.name) for row in value["items"] if row]
        return Note(items=backed(claimed, part))

    async def condensed(self, notes: Sequence[Piece], budget_tokens: int) -> list[str]:
        """Return notes, each below its mark, that fit a budget together: several are made one, as often as it takes."""
        if self.whole:
            notes = await self._condensed_by_document(notes, budget_tokens)
        texts = [marked([note]) for note in notes]
        for _ in range(_MOST_ROUNDS):
            if sum(map(text_tokens, texts)) <= budget_tokens or not self._has_time():
                break
            groups = _grouped(texts, self.room.part)
            if len(groups) == len(texts):
                break
            done = await each(self._written, ["\n\n".join(group) for group in groups], AT_ONCE)
            made = dict(done)
            texts = [made["\n\n".join(group)] for group in groups if made["\n\n".join(group)]]
        return _fitting(texts, budget_tokens)

    async def _condensed_by_document(self, notes: Sequence[Piece], budget_tokens: int) -> Sequence[Piece]:
        """Make several notes of one document one, as often as it takes and helps; these are kept with it as well."""
        for _ in range(_MOST_ROUNDS):
            if text_tokens(marked(notes)) <= budget_tokens or not self._has_time():
                break
            groups = [
                Part(number, group[0].document, tuple(group))
                for number, group in enumerate(_by_document(notes, self.room.part))
            ]
            if len(groups) == len(notes):
                break
            done = await each(self._one, groups, AT_ONCE)
            notes = [note for _, note in sorted(done, key=lambda pair: pair[0].number) if note.text]
        return notes

    async def _one(self, notes: Part) -> Piece:
        """Return notes of one document as one."""
        if len(notes.pieces) == 1:
            return notes.pieces[0]
        return notes.of(await self._digest(notes.document, notes.bare))


def backed(items: Sequence[Item], part: Part) -> tuple[Item, ...]:
    """Return the items that a part does hold, each as often as it does at most, on the page that has its words."""
    whole = squeezed(part.text)
    seen: dict[str, int] = {}
    kept: list[Item] = []
    for item in items:
        plain = squeezed(item.text)
        seen[plain] = seen.get(plain, 0) + 1
        exact = whole.count(plain) if plain else 0
        if not plain or (exact and seen[plain] > exact):
            continue
        wanted = terms(item.text)
        if not exact and (
            shared(wanted, terms(part.text)) < _LEAST_BACKED or not numbers(item.text) <= numbers(part.text)
        ):
            continue
        kept.append(Item(item.text, _page(item, plain, part), item.file))
    return tuple(kept)


def _page(item: Item, plain: str, part: Part) -> int:
    holding = [piece.first_page for piece in part.pieces if plain in squeezed(piece.text)]
    if holding:
        return item.page if item.page in holding else holding[0]
    wanted = terms(item.text)
    best = max(part.pieces, key=lambda piece: (shared(wanted, terms(piece.text)), piece.first_page == item.page))
    return best.first_page


def merged(items: Sequence[Item], *, once: bool) -> list[Item]:
    """Return items in order; with `once` each thing a single time, where it was first said."""
    if not once:
        return list(items)
    first: dict[str, Item] = {}
    for item in items:
        first.setdefault(squeezed(item.text), item)
    return list(first.values())


def _grouped(texts: Sequence[str], budget_tokens: int) -> list[list[str]]:
    groups: list[list[str]] = []
    left = 0
    for text in texts:
        cost = text_tokens(text)
        if not groups or cost > left:
            groups.append([])
            left = budget_tokens
        groups[-1].append(text)
        left -= cost
    return groups


def _by_document(notes: Sequence[Piece], budget_tokens: int) -> list[list[Piece]]:
    """Return notes in groups of one document each, that are read at once."""
    groups: list[list[Piece]] = []
    left = 0
    for note in notes:
        cost = text_tokens(note.text) + _MARK_TOKENS
        if not groups or cost > left or groups[-1][0].document.id != note.document.id:
            groups.append([])
            left = budget_tokens
        groups[-1].append(note)
        left -= cost
    return groups


def _fitting(texts: Sequence[str], budget_tokens: int) -> list[str]:
    """Return texts cut short alike, where they are still too long together."""
    total = sum(map(text_tokens, texts))
    if total <= budget_tokens:
        return list(texts)
    share = budget_tokens / total
    return [text[: max(int(len(text) * share), 1)] for text in texts]


__all__ = ["AT_ONCE", "MOST_CALLS", "STREAMED_S", "UNSTREAMED_S", "Item", "Note", "Notes", "Reader", "backed", "merged"]
