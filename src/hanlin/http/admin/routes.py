"""Which operation a path means, and what its parameters and its body say. Pure."""

import typing
from collections.abc import Mapping
from typing import Any, TypeVar
from urllib.parse import parse_qsl, unquote

import msgspec

from hanlin.errors import InvalidRequest, MalformedBody, MethodNotAllowed, PathNotFound
from hanlin.service.administration import rules
from hanlin.service.administration.operations import OPERATIONS, PREFIX, Operation
from hanlin.types import Body
from hanlin.words import say

Kind = TypeVar("Kind", bound=msgspec.Struct)

DESCRIPTION = Operation(
    name="openapi",
    method="GET",
    path="/openapi.json",
    role="viewer",
    sentence="Return this description.",
    answer=dict[str, Any],
)

ROUTES: tuple[Operation, ...] = (*OPERATIONS, DESCRIPTION)

FORMAT = "format"
"""The parameter that asks for CSV, of operations that have it."""

FORMATS = ("json", "csv")

NEXT = "x-hanlin-next"
"""The header that has the `next` of a page that is CSV."""

_MOST_PARAMETERS = 100


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The parameters, or the body, of an operation that takes none."""


def _shape(path: str) -> tuple[str, ...]:
    return tuple("" if part.startswith("{") else part for part in path.split("/")[1:])


_BY_SHAPE: Mapping[tuple[str, ...], Mapping[str, Operation]] = {
    shape: {route.method: route for route in ROUTES if _shape(route.path) == shape}
    for shape in [_shape(route.path) for route in ROUTES]
}


def route_of(path: str, method: str) -> tuple[Operation, tuple[str, ...]]:
    """Return the operation of a path and a method, and what stands in the place of its braces, if it has them.

    Raises PathNotFound and MethodNotAllowed.
    """
    parts = path.removeprefix(PREFIX).split("/")[1:]
    subject: tuple[str, ...] = ()
    methods = _BY_SHAPE.get(tuple(parts)) if "" not in parts else None
    if methods is None and len(parts) > 1:
        subject = (unquote(parts[1]),)
        methods = _BY_SHAPE.get((parts[0], "", *parts[2:])) if subject[0] and "\0" not in subject[0] else None
    if methods is None:
        raise PathNotFound(
            say(
                f"There is no {path[:200]} here: GET {PREFIX}/openapi.json describes the admin API",
                f"此处没有 {path[:200]}：GET {PREFIX}/openapi.json 描述了管理 API",
            )
        )
    if method not in methods:
        refusal = MethodNotAllowed(method)
        refusal.headers = {"allow": ", ".join(methods)}
        raise refusal
    return methods[method], subject


def parameters(route: Operation, query: str) -> tuple[msgspec.Struct, str]:
    """Return what a query says, and the form of the answer that it asks for, `json` or `csv`.

    Raises InvalidRequest for what is unknown, said twice or out of bounds.
    """
    try:
        said = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=_MOST_PARAMETERS)
    except ValueError as error:
        raise InvalidRequest(say("the parameters cannot be read", "无法解析参数")) from error
    kind = route.query or Nothing
    several = repeated(kind)
    found: dict[str, Any] = {}
    for name, text in said:
        if name in several:
            found.setdefault(name, []).append(text)
        elif name in found:
            raise InvalidRequest(say(f"{name}: is there twice", f"{name}：重复"), param=name)
        else:
            found[name] = text
    form = found.pop(FORMAT, "json") if route.lists else "json"
    if form not in FORMATS:
        raise InvalidRequest(say("format: there are json and csv", "format：可选值为 json、csv"), param=FORMAT)
    try:
        return msgspec.convert(found, kind, strict=False), form
    except msgspec.ValidationError as error:
        raise rules.invalid(error) from error


def body(route: Operation, content: Body) -> msgspec.Struct:
    """Return what a body says; an empty one says nothing. Raises MalformedBody and InvalidRequest."""
    try:
        return msgspec.json.decode(content if len(content) else b"{}", type=route.body or Nothing)
    except msgspec.ValidationError as error:
        raise rules.invalid(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedBody(str(error)) from error


def repeated(kind: type[msgspec.Struct]) -> frozenset[str]:
    """Return the names of the fields that are lists: as parameters they can be repeated."""
    return frozenset(field.name for field in msgspec.structs.fields(kind) if _is_list(field.type))


def _is_list(kind: Any) -> bool:
    if typing.get_origin(kind) is typing.Annotated:
        return _is_list(typing.get_args(kind)[0])
    return typing.get_origin(kind) is tuple
