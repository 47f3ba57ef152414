"""Whose services Hanlin knows, read from `upstreams.toml`: where they are, what they have, and what it is called there.

How one is spoken to is its profile (`profiles.toml`); which of them an operator uses is decided in `service`.
"""

from collections.abc import Mapping
from functools import cache
from typing import Annotated

import msgspec
from msgspec import Meta

from hanlin.engines import tables

Text = Annotated[str, Meta(min_length=1)]


class RateHeaders(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The response headers that tell what is left of a rate limit, in lower case: requests first, then tokens."""

    limit: tuple[str, ...] = ()
    remaining: tuple[str, ...] = ()
    reset: tuple[str, ...] = ()


class Upstream(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One service, or one kind of server that people run themselves (see the comments of `upstreams.toml`).

    `url` may hold `{workspace}`, whose value is in one of the variables `workspace_env`. `key_env` are the variables
    that usually hold a key, the one that counts first; a `rented` one needs a key, and every call costs money.
    """

    title: Text
    url: Text
    profile: Text
    source: Text
    as_of: Annotated[str, Meta(pattern=r"^\d{4}-\d{2}$")]
    serves: tuple[Text, ...] = ()
    names: dict[str, Text] = {}
    key_env: tuple[Text, ...] = ()
    workspace_env: tuple[Text, ...] = ()
    rented: bool = True
    rate_headers: RateHeaders = RateHeaders()
    unconfirmed: tuple[Text, ...] = ()

    def __post_init__(self) -> None:
        if not self.serves:
            msgspec.structs.force_setattr(self, "serves", tuple(self.names))


@cache
def upstreams() -> Mapping[str, Upstream]:
    """Return the packaged rows by their names."""
    return msgspec.convert(tables.built(tables.read("upstreams.toml")), dict[str, Upstream])


def name_there(names: Mapping[str, str], name: str) -> str | None:
    """Return what `name` is called by a table of names, or None when the table does not know it.

    A name that stands there counts before patterns, and those in their order. A pattern has one `*`; the `*` of its
    value is what it stood for: `"kimi/*" = "*"` takes a prefix away, `"glm-*" = "z-ai/glm-*"` puts one before it.
    """
    if name in names:
        return names[name]
    for pattern, theirs in names.items():
        before, star, behind = pattern.partition("*")
        fits = len(name) >= len(before) + len(behind) and name.startswith(before) and name.endswith(behind)
        if star and fits:
            return theirs.replace("*", name[len(before) : len(name) - len(behind)], 1)
    return None
