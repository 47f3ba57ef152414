"""Limits of models: which counts for a name, what stands for nothing, and what a bill is counted for."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from hanlin.catalogue.loading import load
from hanlin.errors import InvalidRequest
from hanlin.service.guests import with_guests
from hanlin.service.model_limits import limits_for, names_of, remove_limits, set_limits
from hanlin.store.database import open_store
from hanlin.store.model_limits import UnknownLimits
from hanlin.store.rows import Limits, ModelLimits
from tests.values import catalogue_of, model

CATALOGUE = with_guests(
    catalogue_of(model(aliases=("qwen-plus-0919",)), model("qwen3-max"), model("qwen3-vl")), ("my/m",)
)


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


def rows(*patterns: str) -> list[ModelLimits]:
    return [ModelLimits(pattern=pattern, made_at=datetime(2026, 11, 1, tzinfo=UTC)) for pattern in patterns]


@pytest.mark.parametrize(
    ("patterns", "counts"),
    [
        (("*", "qwen*", "qwen3-max"), "qwen3-max"),
        (("*", "qwen3-*", "qwen*"), "qwen3-*"),
        (("qwen3-[lm]ax", "qwen3-*"), "qwen3-[lm]ax"),
        (("*max", "qw*"), "*max"),
        (("deepseek-*", "qwen3-ma"), None),
        ((), None),
    ],
)
def test_the_most_particular_row_counts(patterns: tuple[str, ...], counts: str | None) -> None:
    """Whatever their order: the very name, else the pattern that says most."""
    for order in (patterns, patterns[::-1]):
        row = limits_for("qwen3-max", rows(*order))
        assert (row.pattern if row is not None else None) == counts


def test_a_name_is_no_pattern_of_itself() -> None:
    """Only what is written as a pattern is one."""
    assert limits_for("qwen-plus", rows("qwen")) is None


def test_a_pattern_stands_for_models_and_an_alias_for_its_own() -> None:
    """Each of them is counted apart; names of the operator's own are names."""
    assert names_of("qwen3-*", CATALOGUE) == ("qwen3-max", "qwen3-vl")
    assert names_of("qwen-plus-0919", CATALOGUE) == ("qwen-plus",)
    assert names_of("my/*", CATALOGUE) == names_of("my/m", CATALOGUE) == ("my/m",)
    assert names_of("claude-*", CATALOGUE) == names_of("qwen3", CATALOGUE) == ()


async def test_limits_are_set_under_the_models_own_name_and_removed_by_any(tmp_path: Path) -> None:
    """An alias does not double a limit."""
    async with await open_store(tmp_path / "hanlin.db") as store:
        row = await set_limits(store, CATALOGUE, "qwen-plus-0919", lambda _: Limits(rpm=1), who="cli")
        there = await store.limits.all()
        await remove_limits(store, CATALOGUE, "qwen-plus-0919", who="cli")
        left = await store.limits.all()
        with pytest.raises(UnknownLimits):
            await remove_limits(store, CATALOGUE, "qwen-plus")

    assert there == (row,)
    assert row.pattern == "qwen-plus"
    assert left == ()


@pytest.mark.parametrize("pattern", ["claude-*", "qwen-pluss", ""])
async def test_a_limit_that_would_limit_nothing_is_refused(tmp_path: Path, pattern: str) -> None:
    """It would pass for one, until the bill comes."""
    async with await open_store(tmp_path / "hanlin.db") as store:
        with pytest.raises(InvalidRequest, match="matches no name that can be called"):
            await set_limits(store, load(), pattern, lambda _: Limits(rpm=1))

        assert await store.limits.all() == ()
