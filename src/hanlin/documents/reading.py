"""What turns a file into a document: a reader makes pages of it, an indexer passages that can be searched."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

Progress = Callable[[int, int], None]
"""Told how much is done, of how much (0: nobody knows)."""

Indexer = Callable[[Path, str], object]
"""Makes the document in a folder, called by a name, searchable. Called from a thread."""


class Read(Protocol):
    """What a reader found: which kind of file it was, and what is in it. `tokens` is an estimate."""

    @property
    def kind(self) -> str: ...
    @property
    def pages(self) -> int: ...
    @property
    def characters(self) -> int: ...
    @property
    def title(self) -> str: ...
    @property
    def tokens(self) -> int: ...


class Reader(Protocol):
    """Reads files of any kind, several at a time."""

    async def read(self, path: Path, filename: str, out_folder: Path, progress: Progress) -> Read:
        """Write the pages of a file into a folder. Raises DocumentUnreadable. Whoever is cancelled stops at once."""
        ...


def no_index(_folder: Path, _name: str) -> None:
    """Leave a document as it is."""


__all__ = ["Indexer", "Progress", "Read", "Reader", "no_index"]
