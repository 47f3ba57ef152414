"""What a turn used, told beside its answer: it can be seen, and checked, what the answer rests on."""

from collections.abc import Iterable, Sequence

import msgspec

from hanlin.recipes.long_documents.prompts import Piece
from hanlin.recipes.recipe import Base
from hanlin.types import ChatRequest, ChatResult, Events, Usage, Vector


class FilePages(msgspec.Struct, frozen=True, gc=False):
    """Pages of a file that the model was given: single ones and ranges, `3` and `7-9`."""

    file: str
    name: str
    pages: tuple[str, ...]


class Report(msgspec.Struct, frozen=True, omit_defaults=True):
    """How an answer came about.

    `strategy`: `all` of the documents were in the prompt, the `passages` that were found, notes of all `parts`, or
    figures of a `table`; `nothing` of them holds an answer. `prompt_tokens` are those that the base model really read,
    in `calls` calls. `searches` is how many followed from each other, where one was not enough. Where not all parts
    were read, `parts_read` is less than `parts`. `unbacked` are claims of the answer that stand nowhere in what was
    read.
    """

    strategy: str
    prompt_tokens: int = 0
    calls: int = 0
    pages: tuple[FilePages, ...] = ()
    passages: int = 0
    searches: int = 0
    parts: int = 0
    parts_read: int = 0
    asked_again: bool = False
    unbacked: tuple[str, ...] = ()

    @property
    def raw(self) -> msgspec.Raw:
        return msgspec.Raw(msgspec.json.encode(self))


def pages_of(pieces: Iterable[Piece]) -> tuple[FilePages, ...]:
    """Return the pages of pieces, by file in the order of the pieces."""
    found: dict[str, tuple[str, set[int]]] = {}
    for piece in pieces:
        found.setdefault(piece.document.id, (piece.document.name, set()))[1].update(piece.pages)
    return tuple(FilePages(file, name, ranges(sorted(pages))) for file, (name, pages) in found.items())


def ranges(numbers: Sequence[int]) -> tuple[str, ...]:
    """Return sorted numbers as people write them: `1`, `4-6`."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return tuple("-".join(map(str, run)) for run in runs)


class Metered:
    """A base model that remembers what it was asked: tokens it read and calls it took."""

    def __init__(self, base: Base) -> None:
        self._base = base
        self.usage = Usage()
        self.calls = 0

    @property
    def context_tokens(self) -> int:
        return self._base.context_tokens

    @property
    def can_shape(self) -> bool:
        return self._base.can_shape

    @property
    def can_continue(self) -> bool:
        return self._base.can_continue

    @property
    def fingerprint(self) -> str:
        return self._base.fingerprint

    async def answer(self, request: ChatRequest) -> ChatResult:
        self.calls += 1
        result = await self._base.answer(request)
        self.usage += result.usage
        return result

    def stream(self, request: ChatRequest) -> Events:
        """Yield what the base model yields. The usage of a stream is counted by whoever reads it (`spent`)."""
        self.calls += 1
        return self._base.stream(request)

    def spent(self, usage: Usage) -> None:
        self.usage += usage

    async def count(self, request: ChatRequest) -> int:
        return await self._base.count(request)

    async def vectors(self, texts: Sequence[str], purpose: str) -> Sequence[Vector] | None:
        return await self._base.vectors(texts, purpose)


__all__ = ["FilePages", "Metered", "Report", "pages_of", "ranges"]
