"""The OpenAPI description of the admin API, written from the table of its operations and the types of their values."""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from hanlin import __version__
from hanlin.http.admin.routes import DESCRIPTION, FORMAT, FORMATS, NEXT, ROUTES
from hanlin.service.administration.operations import PREFIX, Operation

_REFERENCE = "#/components/schemas/{name}"


class ErrorDetail(msgspec.Struct, frozen=True):
    """What went wrong."""

    message: Annotated[str, Meta(description="In words, with what to do.")]
    type: Annotated[str, Meta(description="The kind of error.")]
    param: Annotated[str | None, Meta(description="The field or parameter at fault, null where there is none.")]
    code: Annotated[str | None, Meta(description="The kind of error, for programs.")]


class Error(msgspec.Struct, frozen=True):
    """The body of every answer that is no success."""

    error: Annotated[ErrorDetail, Meta(description="What went wrong.")]
    request_id: Annotated[str, Meta(description="The id that finds the call in the log.")]


_ERRORS: Mapping[int, str] = {
    400: "Something in the call is wrong; `param` names it.",
    401: "No key, or one that this service does not know.",
    403: "The key's role is not enough, or it may not be used from this address.",
    404: "There is nothing of this id or name.",
    500: "Hanlin or its database failed.",
}

_PRICES: Mapping[str, str] = {
    "input": "Tokens of prompts.",
    "output": "Tokens of answers.",
    "up_to_tokens": "The longest prompt that the tier is for; null: any.",
    "output_thinking": "Tokens of answers of calls that think; null: as `output`.",
    "cached_input": "Tokens of prompts that were found in a cache.",
    "cache_create": "Tokens of prompts that were put into a cache on demand.",
    "cache_hit": "Tokens of prompts that were found in a cache made on demand.",
    "batch_input": "Tokens of prompts in batches.",
    "batch_output": "Tokens of answers in batches.",
    "input_audio": "Audio tokens of prompts.",
    "input_vision": "Tokens of images and videos in prompts.",
    "output_multimodal_in": "Tokens of answers to prompts that are not only text.",
    "output_audio": "Audio tokens of answers.",
    "period": "The hours that the tier is for; null: all.",
}
"""What the fields of a row of the catalogue are: its own type says so for people alone."""


@cache
def encoded() -> bytes:
    """Return the description as JSON."""
    return msgspec.json.encode(described())


def described() -> dict[str, Any]:
    """Return the description, OpenAPI 3.1."""
    kinds = [kind for route in ROUTES for kind in (route.answer, route.body) if kind is not None]
    _, components = msgspec.json.schema_components([*kinds, Error], ref_template=_REFERENCE)
    schemas: dict[str, Any] = dict(components)
    for name, text in _PRICES.items():
        schemas["PriceTier"]["properties"][name]["description"] = text
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(PREFIX + route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Hanlin admin API",
            "version": __version__,
            "description": "Keys, workspaces, usage, prices and the audit log of one service. Fields and parameters "
            "that are not described are refused.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "A key with a role: viewer, admin, owner."}
            },
        },
        "security": [{"key": []}],
    }


def _operation(route: Operation) -> dict[str, Any]:
    told: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.sentence,
        "description": f"Needs the role `{route.role}`.",
        "x-hanlin-role": route.role,
        "parameters": [*_parameters(route)],
        "responses": {
            str(route.status): {"description": "Done.", "content": _answer(route), **_headers(route)},
            **{
                str(status): {"description": text, "content": {"application/json": {"schema": _schema(Error)}}}
                for status, text in _ERRORS.items()
            },
        },
    }
    if route.body is not None:
        told["requestBody"] = {
            "description": (route.body.__doc__ or "").strip(),
            "content": {"application/json": {"schema": _schema(route.body)}},
            "required": any(field.required for field in msgspec.structs.fields(route.body)),
        }
    return told


def _answer(route: Operation) -> dict[str, Any]:
    answers: dict[str, Any] = {"application/json": {"schema": _schema(route.answer)}}
    if route is DESCRIPTION:
        answers = {"application/json": {"schema": {"type": "object", "description": "OpenAPI 3.1."}}}
    if route.lists:
        answers["text/csv"] = {
            "schema": {"type": "string", "description": "The rows, below the names of their fields."}
        }
    return answers


def _headers(route: Operation) -> dict[str, Any]:
    if route.lists != "data":
        return {}
    text = "Of a page that is CSV: what `after` takes for the next page; absent when this is the last one."
    return {"headers": {NEXT: {"description": text, "schema": {"type": "string"}}}}


def _parameters(route: Operation) -> Iterator[dict[str, Any]]:
    schema: dict[str, Any]
    if route.subject:
        name = route.path.partition("{")[2].partition("}")[0]
        schema = {"type": "string"}
        yield {"name": name, "in": "path", "required": True, "description": route.subject, "schema": schema}
    if route.query is not None:
        for field in msgspec.structs.fields(route.query):
            schema = _schema(field.type)
            described = schema.pop("description", "")
            schema = next((arm for arm in schema.get("anyOf", ()) if arm != {"type": "null"}), schema)
            if not (field.default is msgspec.NODEFAULT or field.default is None):
                schema["default"] = msgspec.to_builtins(field.default)
            yield {"name": field.name, "in": "query", "required": False, "description": described, "schema": schema}
    if route.lists:
        schema = {"type": "string", "enum": [*FORMATS], "default": FORMATS[0]}
        text = "The form of the answer. A page of CSV has its `next` in a header."
        yield {"name": FORMAT, "in": "query", "required": False, "description": text, "schema": schema}


def _schema(kind: Any) -> dict[str, Any]:
    (schema,), _ = msgspec.json.schema_components([kind], ref_template=_REFERENCE)
    return dict(schema)
