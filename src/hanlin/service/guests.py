"""Names that only the operator's servers know: rows of the catalogue that promise nothing and allow everything."""

from collections.abc import Sequence

import msgspec

from hanlin.catalogue.models import Catalogue, Model


def with_guests(catalogue: Catalogue, names: Sequence[str]) -> Catalogue:
    """Return the catalogue with the names that only the operator's servers know; nothing is promised for them."""
    rows = {name: _guest(name) for name in names if name not in catalogue.by_name}
    if not rows:
        return catalogue
    models, by_name = {**catalogue.models, **rows}, {**catalogue.by_name, **rows}
    return msgspec.structs.replace(catalogue, models=models, by_name=by_name)


def _guest(name: str) -> Model:
    """Return a row for a name of the operator's own: it may do whatever the server behind it does."""
    return Model(
        name=name,
        family="guest",
        owner="operator",
        description="",
        suits=("general",),
        grade=3,
        endpoint="chat/completions",
        thinking="hybrid-default-off",
        tool_choices=("auto", "none", "named", "required"),
        features=(
            "function_calling",
            "structured_output",
            "json_schema",
            "partial_mode",
            "logprobs",
            "n",
            "fill_in_the_middle",
        ),
        source="hanlin.toml",
        as_of="2026-01",
    )
