"""What turns a file into a document: a reader makes pages of it, an indexer passages that can be searched."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

Progress = Callable[[int, int], None]
"""Told how many pages are done, of how many (0: nobody knows). What it raises ends the reading."""

Indexer = Callable[[Path, str], None]
"""Makes a document in a folder, called by a name, searchable. Called from a thread."""


class Read(msgspec.Struct, frozen=True):
    """What a reader found: which kind of file it was, and what is in it."""

    kind: str
    pages: int
    characters: int
    title: str = ""


class Reader(Protocol):
    """Reads files of any kind. Called from threads, several at a time."""

    def read(self, path: Path, filename: str, out_folder: Path, progress: Progress) -> Read:
        """Write the pages of a file into a folder. Raises DocumentUnreadable, and what `progress` does."""
        ...


def no_index(_folder: Path, _name: str) -> None:
    """Leave a document as it is."""


__all__ = ["Indexer", "Progress", "Read", "Reader", "no_index"]
