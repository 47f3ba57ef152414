"""Texts that stand in requests, as documents."""

from collections.abc import Iterator

from hanlin.documents.values import Page

_PAGE_CHARACTERS = 4000
_LINE_CHARACTERS = 2000


def pages_of(text: str) -> Iterator[Page]:
    """Yield a text as pages of about 4,000 characters, cut at ends of lines where there are any; nothing is lost."""
    number, start = 1, 0
    while start < len(text):
        end = min(start + _PAGE_CHARACTERS, len(text))
        if end < len(text):
            cut = max(text.rfind("\n", start, end), start)
            end = cut + 1 if end - cut <= _LINE_CHARACTERS else end
        yield Page(number, text[start:end])
        number, start = number + 1, end


__all__ = ["pages_of"]
