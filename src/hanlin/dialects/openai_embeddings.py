"""OpenAI embeddings as Model Studio's compatible mode speaks them (spec/surfaces.md §4).

Pure translation: bytes to `EmbeddingRequest`, vectors to a body. What a model may do is decided elsewhere.
"""

import base64
import sys
from array import array
from typing import Any, Literal

import msgspec

from hanlin.dialects.compatible import fields as reading
from hanlin.dialects.compatible.fields import Fields
from hanlin.errors import InvalidRequest
from hanlin.types import Answering, Body, EmbeddingRequest, EmbeddingResult, Vector

_NOT_TEXT = "contents is neither str nor list of str.: input.contents"
_PURPOSES = ("input_type", "text_type")  # an extension: other services' and the native protocol's word for it


def parse(body: Body) -> EmbeddingRequest:
    """Read a request body. Raises InvalidRequest, with the vendor's text where it has one."""
    fields = reading.read(body)
    return EmbeddingRequest(
        model=reading.model(fields),
        texts=_texts(fields),
        dimensions=_dimensions(fields),
        encoding=_encoding(fields),
        purpose=_purpose(fields),
        given=reading.given(fields),
    )


def _texts(fields: Fields) -> tuple[str, ...]:
    """Return the texts of `input`. Token ids, which OpenAI takes as well, mean nothing to another vocabulary."""
    found = reading.value("input", fields)
    texts = [found] if isinstance(found, str) else found
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InvalidRequest(_NOT_TEXT, param="input")
    if not texts:
        raise InvalidRequest("[] is too short - 'input'", param="input")
    return tuple(texts)


def _dimensions(fields: Fields) -> int | None:
    found = reading.value("dimensions", fields)
    if found is None or (isinstance(found, int) and not isinstance(found, bool)):
        return found
    raise InvalidRequest("'dimensions' must be Integer", param="dimensions")


def _encoding(fields: Fields) -> Literal["float", "base64"]:
    match reading.value("encoding_format", fields):
        case None | "float":
            return "float"
        case "base64":
            return "base64"
        case other:
            raise InvalidRequest(
                f"{other!r} is not one of ['float', 'base64'] - 'encoding_format'", param="encoding_format"
            )


def _purpose(fields: Fields) -> Literal["document", "query"]:
    purpose: Literal["document", "query"] = "document"
    for name in _PURPOSES:
        match reading.value(name, fields):
            case None:
                continue
            case "document" | "query" as found:
                purpose = found
            case other:
                raise InvalidRequest(f"{other!r} is not one of ['query', 'document'] - '{name}'", param=name)
    return purpose


def answer(
    result: EmbeddingResult, answering: Answering, *, id: str, encoding: Literal["float", "base64"] = "float"
) -> bytes:
    """Return the body of an answer."""
    return msgspec.json.encode(
        {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": _encoded(vector, encoding)}
                for index, vector in enumerate(result.vectors)
            ],
            "model": answering.model,
            "usage": {"prompt_tokens": result.usage.prompt, "total_tokens": result.usage.total},
            "id": id,
        }
    )


def _encoded(vector: Vector, encoding: Literal["float", "base64"]) -> Any:
    """Return a vector as both encodings have it: as 32-bit floats, in base64 those of a little-endian machine."""
    floats = array("f", vector)
    if encoding == "float":
        return floats.tolist()
    if sys.byteorder == "big":
        floats.byteswap()
    return base64.b64encode(floats.tobytes()).decode()
