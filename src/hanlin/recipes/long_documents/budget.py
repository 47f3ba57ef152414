"""Share a context window out between documents, dialogue and answer. Pure; all in tokens."""

from dataclasses import dataclass

_RULES = 160  # what the instruction around the documents takes
_LEAST_ANSWER = 64
_MARGIN = 0.06  # estimates of ordinary text are seldom further off once a real count has set them right
_LEAST_LOOKUP, _MOST_LOOKUP = 1500, 12_000
_LEAST_PART, _MOST_PART = 3000, 16_000


@dataclass(frozen=True)
class Room:
    """What one call has room for. `answer` is kept free for it; `dialogue` is what the turns take."""

    window: int
    answer: int
    dialogue: int = 0

    @property
    def documents(self) -> int:
        """For documents, all that is left."""
        free = int(self.window * (1 - _MARGIN)) - self.answer - self.dialogue - _RULES
        return max(free, 0)

    @property
    def lookup(self) -> int:
        """For the passages of one question: a bound of its own, so that a turn costs about the same at any length."""
        return min(self.documents, max(_LEAST_LOOKUP, min(self.window // 8, _MOST_LOOKUP)))

    def searched(self, searches: int) -> int:
        """For what several searches found that follow from each other: each needs a place of its own."""
        return min(self.documents, self.lookup * (searches + 1) // 2)

    @property
    def part(self) -> int:
        """For one part of a document that is read as a whole, part by part."""
        free = int(self.window * (1 - _MARGIN)) - note_tokens(self.window) - 2 * _RULES
        return max(min(free, max(_LEAST_PART, min(self.window // 8, _MOST_PART))), 256)


def room(window: int, answer_limit: int | None, dialogue: int) -> Room:
    """Return what there is: an answer keeps what it may take, though not more than a quarter of the window."""
    return Room(window, max(min(answer_limit or window, window // 4), _LEAST_ANSWER), dialogue)


def note_tokens(window: int) -> int:
    """Return the most that is written down about one part."""
    return max(min(window // 16, 1024), 192)


__all__ = ["Room", "note_tokens", "room"]
