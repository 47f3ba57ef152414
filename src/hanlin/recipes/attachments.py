"""What a request about documents says: a role, documents and turns, each in the place where it was said.

Pure but for `opened`. The first system message is the role; later ones are documents: references to files or text
(spec/scenarios.md §2.3). A message of nothing but references names documents wherever it stands.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hanlin.documents.values import Document, Found, Library, Page, Passage
from hanlin.errors import InvalidRequest, TooManyFiles
from hanlin.metering.estimate import text_tokens
from hanlin.recipes.recipe import Base
from hanlin.types import ChatRequest, Message, Vector

MOST_FILES = 100
MOST_QUESTION_TOKENS = 9000
"""Of a user message beside documents (spec/scenarios.md §2.3)."""

_NEVER_BELOW = 0.7  # what an estimate is of the truth at worst, for ordinary text
_REFERENCES = re.compile(r"[\s,，;；]*fileid://[^\s,，;；]+(?:[\s,，;；]+fileid://[^\s,，;；]+)*[\s,，;；]*")
_REFERENCE = re.compile(r"fileid://([^\s,，;；]+)")


@dataclass(frozen=True)
class Attachment:
    """Documents in their place: file ids, or the text itself."""

    ids: tuple[str, ...] = ()
    text: str = ""


@dataclass(frozen=True)
class Asked:
    """A request as it was meant. `steps` are its documents and turns in their order; the role is not among them."""

    role: str
    steps: tuple[Attachment | Message, ...]
    system_messages: int

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        return tuple(step for step in self.steps if isinstance(step, Attachment))

    @property
    def turns(self) -> tuple[Message, ...]:
        return tuple(step for step in self.steps if isinstance(step, Message))

    @property
    def ids(self) -> tuple[str, ...]:
        """Every file that is named, once, in the order of first mention."""
        return tuple(dict.fromkeys(name for attachment in self.attachments for name in attachment.ids))

    @property
    def questions(self) -> tuple[str, ...]:
        """What the user said so far; the last one is the question."""
        return tuple(turn.text for turn in self.turns if turn.role == "user")

    @property
    def question(self) -> str:
        return self.questions[-1] if self.questions else ""


def read(messages: Sequence[Message]) -> Asked:
    """Return what messages say. References within a text count where a line is nothing else."""
    role = ""
    steps: list[Attachment | Message] = []
    systems = 0
    for message in messages:
        if message.role != "system":
            steps.append(message)
            continue
        systems += 1
        ids, text = _parted(message.text)
        if ids:
            steps.append(Attachment(ids=ids))
        if systems == 1:
            role = text
        elif text:
            steps.append(Attachment(text=text))
    return Asked(role, tuple(steps), systems)


def _parted(text: str) -> tuple[tuple[str, ...], str]:
    """Part a system message into the files that it names and what else it says."""
    if "fileid://" not in text:
        return (), text.strip()
    ids: list[str] = []
    rest: list[str] = []
    for line in text.splitlines():
        if _REFERENCES.fullmatch(line):
            ids += _REFERENCE.findall(line)
        else:
            rest.append(line)
    return tuple(ids), "\n".join(rest).strip()


def check_files(asked: Asked, most: int = MOST_FILES) -> None:
    """Refuse more files than a request may name."""
    if len(asked.ids) > most:
        raise TooManyFiles(most)


async def check_question(asked: Asked, base: Base, model: str) -> None:
    """Refuse a user message that is too long beside documents: counted where an estimate comes near the limit.

    The vendor's words for it are not known; ours begin as its other refusals of a length do.
    """
    if asked.system_messages < 2:
        return
    for question in asked.questions:
        tokens = text_tokens(question)
        if tokens > _NEVER_BELOW * MOST_QUESTION_TOKENS:
            tokens = await base.count(ChatRequest(model, (Message("user", question),)))
        if tokens > MOST_QUESTION_TOKENS:
            raise InvalidRequest(
                f"Range of input length should be [1, {MOST_QUESTION_TOKENS}]: a user message beside documents takes "
                f"{MOST_QUESTION_TOKENS} tokens, got {tokens}. Put long text into a file or a system message",
                param="messages",
            )


def check_total(tokens: int, limit_tokens: int | None) -> None:
    """Refuse documents and messages that are together beyond what the name takes."""
    if limit_tokens is not None and tokens > limit_tokens:
        raise InvalidRequest(
            f"Total message token length exceed model limit ({limit_tokens} tokens).", param="messages"
        )


class HeldText:
    """A document whose text stands in the request. It has no pages that anybody could turn to."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self.id, self.name, self.digest = document.id, document.name, document.digest
        self.pages, self.tokens = document.pages, document.tokens

    async def read(self, first: int = 1, last: int | None = None) -> Sequence[Page]:
        return await self._document.read(first, last)

    async def passages(self) -> Sequence[Passage]:
        return await self._document.passages()

    async def around(self, passage: Passage, before: int = 1, after: int = 1) -> Sequence[Passage]:
        return await self._document.around(passage, before, after)

    async def count(self) -> int:
        return await self._document.count()

    async def frequencies(self, terms: Sequence[str]) -> Mapping[str, int]:
        return await self._document.frequencies(terms)

    async def search(self, question: str, limit: int, vector: Vector | None = None) -> Sequence[Found]:
        return await self._document.search(question, limit, vector)

    async def noted(self, key: str) -> str | None:
        return await self._document.noted(key)

    async def note(self, key: str, text: str) -> None:
        await self._document.note(key, text)


def has_pages(document: Document) -> bool:
    """Whether a reader could look a page of a document up."""
    return document.pages > 1 and not isinstance(document, HeldText)


@dataclass(frozen=True)
class Opened:
    """A request's documents: `at` are those of each attachment, in its order; `documents` all of them, each once."""

    at: tuple[tuple[Document, ...], ...]

    @property
    def documents(self) -> tuple[Document, ...]:
        return tuple({document.id: document for group in self.at for document in group}.values())

    @property
    def tokens(self) -> int:
        return sum(document.tokens for document in self.documents)


async def opened(asked: Asked, library: Library) -> Opened:
    """Open the documents that a request names or holds. Raises what `Library.open` raises."""
    files: dict[str, Document] = {}
    if asked.ids:
        files = dict(zip(asked.ids, await library.open(asked.ids), strict=True))
    groups: list[tuple[Document, ...]] = []
    texts = 0
    for attachment in asked.attachments:
        if attachment.ids:
            groups.append(tuple(files[name] for name in attachment.ids))
            continue
        texts += 1
        groups.append((HeldText(await library.hold(attachment.text, f"text {texts}")),))
    return Opened(tuple(groups))


__all__ = [
    "MOST_FILES",
    "MOST_QUESTION_TOKENS",
    "Asked",
    "Attachment",
    "HeldText",
    "Opened",
    "check_files",
    "check_question",
    "check_total",
    "has_pages",
    "opened",
    "read",
]
