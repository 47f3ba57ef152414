"""Errors of ours that travel between processes: they arrive as the same class, with everything that they say."""

from collections.abc import Iterator
from typing import Any

import msgspec

from hanlin.errors import HanlinError, InternalError


def _tree(kind: type[HanlinError]) -> Iterator[type[HanlinError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from _tree(below)


class Failure(msgspec.Struct, frozen=True, array_like=True):
    """An error: the name of its class, and what this one says otherwise than its class does."""

    name: str
    fields: dict[str, Any]


def failure_of(error: HanlinError) -> Failure:
    """Return an error as something that can be sent."""
    return Failure(
        type(error).__name__, {**vars(error), "headers": dict(error.headers)} if error.headers else vars(error)
    )


def error_of(failure: Failure) -> HanlinError:
    """Return the error that was sent."""
    kind = {one.__name__: one for one in _tree(HanlinError)}.get(failure.name)
    if kind is None:
        return InternalError()
    error = kind.__new__(kind)
    Exception.__init__(error, failure.fields["message"])
    vars(error).update(failure.fields)
    return error
