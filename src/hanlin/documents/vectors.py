"""Give the passages of a document their vectors, in the background and in the document's order.

A small model takes a third of a second for a passage, so this lasts long after a document can be answered from. It can
be ended at any moment, and goes on where it was; searches use what is there.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from hanlin.documents.indexing import INDEX, VECTORS
from hanlin.documents.retrieval import INDEXES
from hanlin.store.passages import Indexes
from hanlin.store.vectors import Appender, VectorsTaken, appending, there
from hanlin.types import Vector

Vectors = Callable[[Sequence[str]], Awaitable[Sequence[Vector] | None]]
"""Returns a vector for each text that will be looked for; None where nothing makes vectors now."""


async def embed(
    folder: Path,
    vectors: Vectors,
    model: str,
    *,
    batch: int = 4,
    most: int | None = None,
    turn: Callable[[], Awaitable[None]] | None = None,
    indexes: Indexes = INDEXES,
) -> int:
    """Add the vectors of passages that have none yet, `most` of them at most, and return how many were added.

    `turn` is awaited before each batch: it returns when nothing more urgent needs the model. `model` names what makes
    the vectors; those of another one are made anew. Somebody else who does the same for this document is left to it.
    Raises IndexUnusable, and what `vectors` raises; what was added before that stays.
    """
    count = await asyncio.to_thread(indexes.count, folder / INDEX)
    try:
        with appending(folder / VECTORS, model, count) as file:
            return await _fill(file, folder, vectors, count, batch, most, turn, indexes)
    except VectorsTaken:
        return 0


async def _fill(
    file: Appender,
    folder: Path,
    vectors: Vectors,
    count: int,
    batch: int,
    most: int | None,
    turn: Callable[[], Awaitable[None]] | None,
    indexes: Indexes,
) -> int:
    began = file.rows
    end = count if most is None else min(count, began + most)
    while file.rows < end:
        if turn:
            await turn()
        first, last = file.rows, min(file.rows + batch, end) - 1
        rows = await asyncio.to_thread(indexes.span, folder / INDEX, first, last)
        made = await vectors([f"{row.heading}\n{row.text}" if row.heading else row.text for row in rows])
        if made is None or not rows:
            break
        if len(made) != len(rows):
            raise ValueError(f"{len(made)} vectors for {len(rows)} passages")
        file.append(made)
    return file.rows - began


def embedded(folder: Path) -> int:
    """Return how many passages of a document have vectors."""
    found = there(folder / VECTORS)
    return found.rows if found else 0


__all__ = ["Vectors", "embed", "embedded"]
