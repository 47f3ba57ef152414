"""Hanlin: your own Model Studio."""

__version__ = "0.1.0"
