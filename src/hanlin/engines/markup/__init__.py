"""What models write, taken apart as it comes: thinking, calls of tools, and text. Pure; knows no engine."""

from hanlin.engines.markup.coerce import coerced
from hanlin.engines.markup.parser import MarkupParser
from hanlin.engines.markup.pieces import Called, CallOpened, Cut, Piece, Reasoning, Text, Unreadable
from hanlin.engines.markup.repair import repaired

__all__ = [
    "CallOpened",
    "Called",
    "Cut",
    "MarkupParser",
    "Piece",
    "Reasoning",
    "Text",
    "Unreadable",
    "coerced",
    "repaired",
]
