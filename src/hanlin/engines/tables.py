"""Read this room's TOML files, whose tables may build on each other."""

import tomllib
from importlib import resources
from typing import Any


def read(name: str) -> dict[str, Any]:
    """Return the packaged file `name` as it stands."""
    return tomllib.loads(resources.files("hanlin.engines").joinpath(name).read_text(encoding="utf-8"))


def built(tables: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return tables with what `like = "…"` names filled in: its fields, where a table does not say otherwise.

    Tables within them are joined in the same way. Raises KeyError for a name that is not there, and for a circle.
    """
    done: dict[str, dict[str, Any]] = {}

    def build(name: str, above: tuple[str, ...]) -> dict[str, Any]:
        if name in above:
            raise KeyError(f"{' → '.join((*above, name))}: a circle")
        if name not in done:
            own = {field: value for field, value in tables[name].items() if field != "like"}
            base = tables[name].get("like")
            done[name] = own if base is None else _joined(build(base, (*above, name)), own)
        return done[name]

    return {name: build(name, ()) for name in tables}


def _joined(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    both = {**base, **own}
    for field, value in own.items():
        if isinstance(value, dict) and isinstance(base.get(field), dict):
            both[field] = {**base[field], **value}
    return both
