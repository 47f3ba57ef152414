"""Read the catalogue's files and refuse what does not fit, naming file and row.

The form of a row is checked by its type (`models`, `tasks`); here stands what rows must agree on: names that are taken,
words that nobody declared, limits beyond the context, price tiers out of order.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.resources.abc import Traversable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from hanlin.catalogue.models import Catalogue, Efforts, Family, Model, Need, PriceTier, SamplingGroup
from hanlin.catalogue.tables import Value, convert, only, own_folder, problem, read, rows
from hanlin.catalogue.tasks import GENERAL, Language, LengthUnit, Task, Tasks


class _Words(msgspec.Struct, frozen=True):
    """What rows may refer to: the other files of the catalogue, by name."""

    families: Mapping[str, Family]
    needs: Mapping[str, Need]
    features: Mapping[str, str]
    owners: Mapping[str, str]
    sources: Mapping[str, str]
    groups: Mapping[str, SamplingGroup]
    efforts: Mapping[str, Efforts]
    tasks: Tasks


def load(folder: Path | None = None) -> Catalogue:
    """Return the catalogue that comes with Hanlin, read once, or read another folder of the same form.

    Raises StartupError at the first thing wrong, with its file, its row and what to do.
    """
    return _own() if folder is None else _read(folder)


@cache
def _own() -> Catalogue:
    return _read(own_folder())


def _read(origin: Traversable) -> Catalogue:
    words = _words(origin)
    models: dict[str, Model] = {}
    by_name: dict[str, Model] = {}
    places: dict[str, str] = {}
    for place, row in _model_rows(origin / "models"):
        model = _finish(row, words, place)
        for name in (model.name, *model.aliases):
            if name in places:
                first = places[name]
                raise problem(
                    place,
                    f"{name!r} is taken already by {first}. Remove one of the two",
                    f"{name!r} 已被 {first} 使用。请删除其中之一",
                )
            places[name] = place
            by_name[name] = model
        models[model.name] = model
    return Catalogue(
        models=MappingProxyType(models),
        by_name=MappingProxyType(by_name),
        groups=words.groups,
        families=words.families,
        needs=words.needs,
        features=words.features,
        owners=words.owners,
        tasks=words.tasks,
        efforts=words.efforts,
    )


def _model_rows(folder: Traversable) -> Iterable[tuple[str, Model]]:
    """Return the rows of every file in `models/`, files in order of their names."""
    try:
        files = sorted((file for file in folder.iterdir() if file.name.endswith(".toml")), key=lambda file: file.name)
    except OSError as error:
        raise problem(
            str(folder),
            f"cannot be read ({error.strerror}). Restore the folder, or install Hanlin again",
            f"无法读取（{error.strerror}）。请恢复该文件夹，或重新安装 Hanlin",
        ) from error
    for file in files:
        table = read(file)
        only(table, ("model",), file)
        yield from rows(table, "model", Model, file)


def _words(folder: Traversable) -> _Words:
    file = folder / "vocabulary.toml"
    table = read(file)
    only(table, ("family", "need", "features", "owners", "sources"), file)
    needs = _named(rows(table, "need", Need, file), _name)
    sources = _texts(table, "sources", file)
    return _Words(
        families=_named(rows(table, "family", Family, file), _name),
        needs=needs,
        features=_texts(table, "features", file),
        owners=_texts(table, "owners", file),
        sources=sources,
        groups=_groups(folder / "sampling.toml", sources),
        efforts=_efforts(folder / "efforts.toml", sources),
        tasks=_tasks(folder / "tasks.toml", needs),
    )


def _name(row: Efforts | Family | Need | Task | SamplingGroup) -> str:
    return row.name


def _named(found: Iterable[tuple[str, Value]], name: Callable[[Value], str]) -> Mapping[str, Value]:
    by_name: dict[str, Value] = {}
    for place, row in found:
        if name(row) in by_name:
            raise problem(place, "an earlier row has this name; rename one", "前面已有同名的行；请改名")
        by_name[name(row)] = row
    return MappingProxyType(by_name)


def _texts(table: Mapping[str, Any], name: str, file: Traversable) -> Mapping[str, str]:
    return MappingProxyType(convert(table.get(name, {}), dict[str, str], f"{file}: [{name}]"))


def _groups(file: Traversable, sources: Mapping[str, str]) -> Mapping[str, SamplingGroup]:
    table = read(file)
    only(table, ("group",), file)
    found = []
    for place, row in rows(table, "group", SamplingGroup, file):
        if row.plain is None and row.thinking is None:
            raise problem(
                place, "it has neither `plain` nor `thinking`; add one", "缺少 `plain` 和 `thinking`；请至少添加一个"
            )
        found.append((place, msgspec.structs.replace(row, source=_address(row.source, sources, place))))
    return _named(found, _name)


def _efforts(file: Traversable, sources: Mapping[str, str]) -> Mapping[str, Efforts]:
    table = read(file)
    only(table, ("effort",), file)
    found = []
    for place, row in rows(table, "effort", Efforts, file):
        for field, levels in {
            "default": (row.default,),
            "aliases": row.aliases.values(),
            "tokens": row.tokens,
        }.items():
            _known(place, field, levels, row.levels)
        found.append((place, msgspec.structs.replace(row, source=_address(row.source, sources, place))))
    return _named(found, _name)


def _tasks(file: Traversable, needs: Mapping[str, Need]) -> Tasks:
    table = read(file)
    only(table, ("task", "language", "length"), file)
    found = rows(table, "task", Task, file)
    for place, row in found:
        _known(place, "needs", row.needs, needs)
    by_name = _named(found, _name)
    if GENERAL not in by_name:
        raise problem(
            str(file),
            f"the task {GENERAL!r} is missing; add its [[task]] row",
            f"缺少任务 {GENERAL!r}；请添加对应的 [[task]] 行",
        )
    return Tasks(
        by_name=by_name,
        languages=tuple(row for _, row in rows(table, "language", Language, file)),
        lengths=tuple(row for _, row in rows(table, "length", LengthUnit, file)),
    )


def _finish(model: Model, words: _Words, place: str) -> Model:
    """Check a row against everything else and write its sources out in full."""
    _known(place, "family", (model.family,), words.families)
    _known(place, "owner", (model.owner,), words.owners)
    _known(place, "suits", model.suits, words.tasks.by_name)
    _known(place, "languages", model.languages, [language.code for language in words.tasks.languages])
    _known(place, "needs", model.needs, words.needs)
    _known(place, "features", model.features, words.features)
    _known(place, "unconfirmed", model.unconfirmed, model.__struct_fields__)
    if model.effort or "reasoning_effort" in model.features:
        _known(place, "effort", (model.effort,), words.efforts)
    if model.sampling or model.chats:
        _known(place, "sampling", (model.sampling,), words.groups)
    if not model.chats and not model.needs:
        raise problem(
            place,
            "it is not on the chat endpoint, so `needs` must say what its callers need; add it",
            "它不在对话接口上，因此必须用 `needs` 说明调用者的需求；请添加",
        )
    if (model.open_weights is None) != (model.open_weights_match is None):
        raise problem(
            place,
            "open_weights and open_weights_match belong together; give both or neither",
            "open_weights 与 open_weights_match 必须同时填写或同时省略",
        )
    if model.embeds != (model.vectors is not None) or (
        model.vectors is not None and model.vectors.default not in model.vectors.dimensions
    ):
        raise problem(
            place,
            "vectors belongs to rows of endpoint 'embeddings', its default among its dimensions; correct it",
            "vectors 属于 endpoint 为 'embeddings' 的行，且 default 须在 dimensions 之中；请更正",
        )
    _check_limits(model, place)
    _check_prices(model, place)
    lifecycle = model.lifecycle
    if lifecycle.source:
        source = _address(lifecycle.source, words.sources, place)
        lifecycle = msgspec.structs.replace(lifecycle, source=source)
    return msgspec.structs.replace(model, source=_address(model.source, words.sources, place), lifecycle=lifecycle)


def _known(place: str, field: str, values: Iterable[str], known: Iterable[str]) -> None:
    for value in values:
        if value not in known:
            choices = ", ".join(known)
            raise problem(
                place,
                f"{field} = {value!r} is unknown; known are {choices}. Correct it, or declare it beside those",
                f"{field} = {value!r} 未知；可用的有 {choices}。请更正，或在同处声明",
            )


def _address(source: str, sources: Mapping[str, str], place: str) -> str:
    """Write a source out: `help:glm` becomes the address of `help` followed by `glm`; whole addresses stay."""
    if "://" in source:
        return source
    prefix, _, rest = source.partition(":")
    _known(place, "source", (prefix,), sources)
    return sources[prefix] + rest


_LIMITS = (
    "max_input_tokens",
    "max_output_tokens",
    "max_reasoning_tokens",
    "max_input_tokens_thinking",
    "max_output_tokens_thinking",
)


def _check_limits(model: Model, place: str) -> None:
    if model.context_tokens is None:
        return
    for field in _LIMITS:
        limit = getattr(model, field)
        if limit is not None and limit > model.context_tokens:
            raise problem(
                place,
                f"{field} = {limit:_} is above context_tokens = {model.context_tokens:_}; correct one of the two",
                f"{field} = {limit:_} 大于 context_tokens = {model.context_tokens:_}；请更正其中之一",
            )


def _check_prices(model: Model, place: str) -> None:
    """Refuse tiers that do not rise, or a tier after the one without a limit: no request would ever reach it."""
    last: dict[str | None, PriceTier] = {}
    for tier in model.prices:
        before = last.get(tier.period)
        if before is not None and (
            before.up_to_tokens is None or (tier.up_to_tokens is not None and tier.up_to_tokens <= before.up_to_tokens)
        ):
            raise problem(
                place,
                f"the price tier up to {tier.up_to_tokens} comes after the one up to {before.up_to_tokens}; "
                "order tiers by up_to_tokens, the one without it last",
                f"价格档 {tier.up_to_tokens} 排在 {before.up_to_tokens} 之后；请按 up_to_tokens 升序排列，无上限者置末",
            )
        last[tier.period] = tier


__all__ = ["load"]
