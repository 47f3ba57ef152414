"""The embeddings dialect: bodies in, bodies out, and the vendor's words for what is wrong (spec/surfaces.md §4)."""

import base64
import struct
from typing import Any

import msgspec
import pytest

from hanlin.dialects import openai_embeddings
from hanlin.errors import InvalidRequest, MissingModel
from hanlin.types import Answering, EmbeddingRequest, EmbeddingResult, Served, Usage

ANSWERING = Answering("text-embedding-v4", "e5", "e5@0123456789ab", Served.STAND_IN)
NOT_TEXT = "contents is neither str nor list of str.: input.contents"


def parsed(**fields: Any) -> EmbeddingRequest:
    return openai_embeddings.parse(msgspec.json.encode({"model": "text-embedding-v4", "input": "你好", **fields}))


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"input": "你好"}, {"texts": ("你好",)}),
        ({"input": ["a", "b"]}, {"texts": ("a", "b")}),
        ({"dimensions": 256}, {"dimensions": 256}),
        ({"dimensions": None}, {"dimensions": None}),
        ({}, {"encoding": "float", "purpose": "document"}),
        ({"encoding_format": "float"}, {"encoding": "float"}),
        ({"encoding_format": "base64"}, {"encoding": "base64"}),
        ({"encoding_format": None}, {"encoding": "float"}),
        ({"input_type": "query"}, {"purpose": "query"}),
        ({"text_type": "query"}, {"purpose": "query"}),
        ({"text_type": "document"}, {"purpose": "document"}),
        ({"user": "u", "instruct": None}, {"given": frozenset({"model", "input", "user"})}),
    ],
)
def test_what_a_body_says(fields: dict[str, Any], wanted: dict[str, Any]) -> None:
    """One text or several; a null is a field that was not sent."""
    request = parsed(**fields)

    assert {name: getattr(request, name) for name in wanted} == wanted


@pytest.mark.parametrize(
    ("fields", "message", "param"),
    [
        ({"input": None}, NOT_TEXT, "input"),
        ({"input": 3}, NOT_TEXT, "input"),
        ({"input": {"texts": ["a"]}}, NOT_TEXT, "input"),
        ({"input": [1, 2, 3]}, NOT_TEXT, "input"),
        ({"input": [[1, 2], [3]]}, NOT_TEXT, "input"),
        ({"input": ["a", None]}, NOT_TEXT, "input"),
        ({"input": []}, "[] is too short - 'input'", "input"),
        ({"dimensions": "1024"}, "'dimensions' must be Integer", "dimensions"),
        ({"dimensions": True}, "'dimensions' must be Integer", "dimensions"),
        (
            {"encoding_format": "int8"},
            "'int8' is not one of ['float', 'base64'] - 'encoding_format'",
            "encoding_format",
        ),
        ({"input_type": "passage"}, "'passage' is not one of ['query', 'document'] - 'input_type'", "input_type"),
        ({"text_type": 1}, "1 is not one of ['query', 'document'] - 'text_type'", "text_type"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], message: str, param: str) -> None:
    """Token ids too: those of another vocabulary would be other words."""
    with pytest.raises(InvalidRequest) as refused:
        parsed(**fields)

    assert (refused.value.message, refused.value.param, refused.value.code) == (
        message,
        param,
        "invalid_parameter_error",
    )


def test_a_body_without_a_model_is_refused() -> None:
    """As on every route."""
    with pytest.raises(MissingModel):
        parsed(model=None)


def test_an_answer_has_the_vendors_fields() -> None:
    """The example of spec/surfaces.md §4, field by field."""
    result = EmbeddingResult(([0.5, -0.25], [0.0, 1.0]), Usage(prompt=23))

    body = openai_embeddings.answer(result, ANSWERING, id="9f1c…")

    assert msgspec.json.decode(body) == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.5, -0.25]},
            {"object": "embedding", "index": 1, "embedding": [0.0, 1.0]},
        ],
        "model": "text-embedding-v4",
        "usage": {"prompt_tokens": 23, "total_tokens": 23},
        "id": "9f1c…",
    }


def test_base64_holds_the_same_numbers_as_a_list() -> None:
    """Little-endian floats of 32 bits; a caller who changes the encoding must not get another vector."""
    result = EmbeddingResult(([0.1, -0.7, 1 / 3],), Usage(prompt=1))

    as_list = msgspec.json.decode(openai_embeddings.answer(result, ANSWERING, id="1"))
    as_text = msgspec.json.decode(openai_embeddings.answer(result, ANSWERING, id="1", encoding="base64"))

    data = base64.b64decode(as_text["data"][0]["embedding"])
    assert list(struct.unpack("<3f", data)) == as_list["data"][0]["embedding"]
