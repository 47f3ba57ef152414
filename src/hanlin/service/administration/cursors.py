"""Where a page of a list ended, as one opaque word. Pure."""

import base64
import binascii
from datetime import UTC, datetime

from hanlin.errors import InvalidRequest
from hanlin.store.rows import Mark
from hanlin.words import say


def written(mark: Mark | None) -> str | None:
    """Return a mark as a word that addresses and shells leave alone."""
    return None if mark is None else _word(f"{mark.at.astimezone(UTC).isoformat()}/{mark.id}")


def mark_of(word: str) -> Mark | None:
    """Read a mark that `written` wrote; None for "". Raises InvalidRequest that says where one comes from."""
    if not word:
        return None
    try:
        time, found, row_id = _text(word).partition("/")
        at = datetime.fromisoformat(time)
        if not (found and row_id and at.tzinfo) or "\0" in row_id:
            raise ValueError(word)
        return Mark(at, row_id)
    except ValueError as error:
        raise _unknown(word) from error


def numbered(number: int | None) -> str | None:
    """Return the number of a row as a word."""
    return None if number is None else _word(str(number))


def number_of(word: str) -> int | None:
    """Read a number that `numbered` wrote; None for "". Raises InvalidRequest that says where one comes from."""
    if not word:
        return None
    try:
        text = _text(word)
        if not (text.isascii() and text.isdecimal() and len(text) < 19):
            raise ValueError(word)
        return int(text)
    except ValueError as error:
        raise _unknown(word) from error


def _word(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _text(word: str) -> str:
    try:
        return base64.b64decode(word + "=" * (-len(word) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError) as error:
        raise ValueError(word) from error


def _unknown(word: str) -> InvalidRequest:
    return InvalidRequest(
        say(
            f"{word[:40]!r} is no mark; the end of a page names the next one",
            f"{word[:40]!r} 不是有效的标记；每页末尾会给出下一页的标记",
        ),
        param="after",
    )
