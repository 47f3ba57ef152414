"""Vectors without a model: the fake engine's `/v1/embeddings`.

A vector is made of the hash of its text: the same text gives the same one everywhere, and two texts that differ have
nothing to do with each other.
"""

import base64
import hashlib
import math
import struct
from typing import Any

from hanlin.testing import tokens
from hanlin.testing.frames import Json

DIMENSIONS = 384


def answer(body: Any, model: str) -> Json:
    """Return the answer to a request: `dimensions` as asked (384 by default), as floats or in base64.

    `model` is named where the request names none. Raises ValueError where it is no request.
    """
    texts = _texts(body)
    dimensions = body.get("dimensions") or DIMENSIONS
    if not isinstance(dimensions, int) or not 0 < dimensions <= 8192:
        raise ValueError("'dimensions' is not a number from 1 to 8192")
    as_base64 = body.get("encoding_format") == "base64"
    counted = count(body)
    return {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": encoded(vector(text, dimensions)) if as_base64 else vector(text, dimensions),
            }
            for index, text in enumerate(texts)
        ],
        "model": body.get("model") or model,
        "usage": {"prompt_tokens": counted, "total_tokens": counted},
    }


def count(body: Any) -> int:
    """Return how many tokens the texts of a request have together. Raises as `answer`."""
    return sum(tokens.count(text) for text in _texts(body))


def vector(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """Return the vector of a text, of length 1."""
    stream = hashlib.shake_256(text.encode("utf-8", "surrogatepass")).digest(2 * dimensions)
    numbers = [number / 32768 for number in struct.unpack(f"<{dimensions}h", stream)]
    length = math.sqrt(sum(number * number for number in numbers)) or 1.0
    return [number / length for number in numbers]


def encoded(numbers: list[float]) -> str:
    """Return a vector in base64: 32-bit floats, little-endian."""
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def _texts(body: Any) -> list[str]:
    found = body.get("input") if isinstance(body, dict) else None
    texts = [found] if isinstance(found, str) else found
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise ValueError("'input' is neither a text nor a list of texts")
    return texts
