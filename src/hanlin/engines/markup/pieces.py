"""What a generation is made of, in the order in which it was written."""

import msgspec


class Reasoning(msgspec.Struct, frozen=True):
    """A piece of the thinking before the answer."""

    text: str


class Text(msgspec.Struct, frozen=True):
    """A piece of the answer."""

    text: str


class CallOpened(msgspec.Struct, frozen=True):
    """The name of a call is known; its arguments are still to come.

    `certain`: a `Called`, a `Cut` or an `Unreadable` will follow. Otherwise the call is JSON without marks of its own,
    and what looks like one may still turn out to be text; then no more is heard of it.
    """

    name: str
    certain: bool = True


class Called(msgspec.Struct, frozen=True):
    """A whole call. `arguments` is the JSON text of an object.

    `texts`: the form knows no types, so that the object's values are texts; `coerced` makes of them what the tool's
    schema says.
    """

    name: str
    arguments: str
    texts: bool = False


class Cut(msgspec.Struct, frozen=True):
    """A call that the end of the generation cut off. `arguments` is the JSON text as far as it was written."""

    name: str
    arguments: str
    texts: bool = False


class Unreadable(msgspec.Struct, frozen=True):
    """The markup of a call that is none: `raw` as it was written, for whoever repairs or refuses it."""

    raw: str


Piece = Reasoning | Text | CallOpened | Called | Cut | Unreadable
