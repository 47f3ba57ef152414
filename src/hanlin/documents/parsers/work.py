"""What a parser is given to work with, and where it leaves what it learns beside the pages."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hanlin.documents.limits import Limits
from hanlin.documents.parsers.ocr import Eyes, Sight

Progress = Callable[[int, int], None]

_TICK_EVERY_S = 0.2


def nothing(_done: int, _total: int) -> None:
    """Tell nobody how far it is."""


@dataclass
class Work:
    """One file to be read. `extension` is its name's, in lower case and without the dot: a hint, no more.

    A parser sets `title` when it finds one, and counts in `unread` the pages whose text is in pictures that nobody
    reads. It calls `tick` whenever it has come further, in units of its own; a total of 0 is one that it does not
    know.
    """

    path: Path
    extension: str = ""
    limits: Limits = field(default_factory=Limits)
    progress: Progress = nothing
    title: str = ""
    unread: int = 0
    eyes: Sight | None = None
    _ticked: float = 0.0

    @property
    def sight(self) -> Sight:
        """What reads the pictures of this file."""
        self.eyes = self.eyes or Eyes(self.limits)
        return self.eyes

    @property
    def looks_everywhere(self) -> bool:
        """Whether pictures among text are read too."""
        return self.limits.looks_everywhere and self.sight.can_read

    def tick(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._ticked >= _TICK_EVERY_S:
            self._ticked = now
            self.progress(done, total)


__all__ = ["Progress", "Work", "nothing"]
