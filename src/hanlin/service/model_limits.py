"""Limits of models: which one counts for a name, and the use cases of setting and removing them.

A limit is set for a name or for a pattern of names (`qwen3-*`), and counts for each of its names apart: a hundred calls
a minute for `qwen3-*` are a hundred for every model that it matches, all callers together. One row counts for a model:
that of its very name, else the most particular pattern, which is the one with the most characters that stand for
themselves. Aliases count as their model.
"""

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase

from hanlin.catalogue.models import Catalogue
from hanlin.errors import InvalidRequest
from hanlin.store.database import Store
from hanlin.store.rows import Limits, ModelLimits
from hanlin.words import say

_WILD = "*?["


def limits_for(name: str, rows: Iterable[ModelLimits]) -> ModelLimits | None:
    """Return the row that counts for a model's name, None where it has none."""
    matching = [
        row for row in rows if row.pattern == name or (_is_wild(row.pattern) and fnmatchcase(name, row.pattern))
    ]
    return max(matching, key=lambda row: _particular(row.pattern, name), default=None)


def names_of(pattern: str, catalogue: Catalogue) -> tuple[str, ...]:
    """Return the models that a name, an alias or a pattern stands for; none when nobody can call anything like it."""
    if not _is_wild(pattern):
        model = catalogue.find(pattern)
        return () if model is None else (model.name,)
    return tuple(name for name in catalogue.models if fnmatchcase(name, pattern))


async def set_limits(
    store: Store, catalogue: Catalogue, pattern: str, edit: Callable[[Limits], Limits], *, who: str = ""
) -> ModelLimits:
    """Store what `edit` makes of the limits of a name or pattern, and return the row; an alias is its model's name.

    A service that runs on the database keeps to them within a second. Raises InvalidRequest for what matches no name
    that can be called, and what `edit` raises.
    """
    return await store.limits.change(_stored(pattern, catalogue), edit, who=who)


async def remove_limits(store: Store, catalogue: Catalogue, pattern: str, *, who: str = "") -> ModelLimits:
    """Forget the limits of a name or pattern, and return what they were. Raises UnknownLimits."""
    model = None if _is_wild(pattern) else catalogue.find(pattern)
    return await store.limits.remove(pattern if model is None else model.name, who=who)


def _stored(pattern: str, catalogue: Catalogue) -> str:
    names = names_of(pattern, catalogue)
    if not names:
        raise InvalidRequest(
            say(
                f"{pattern!r} matches no name that can be called, so that it would limit nothing. "
                "`hanlin models` lists the names",
                f"{pattern!r} 不匹配任何可调用的名称，不会限制任何调用。`hanlin models` 会列出全部名称",
            ),
            param="pattern",
        )
    return pattern if _is_wild(pattern) else names[0]


def _is_wild(pattern: str) -> bool:
    return any(sign in pattern for sign in _WILD)


def _particular(pattern: str, name: str) -> tuple[bool, int, str]:
    return pattern == name, sum(sign not in "*?[]" for sign in pattern), pattern


__all__ = ["limits_for", "names_of", "remove_limits", "set_limits"]
