"""Ask the base of a recipe for a value: held to a schema where it can be, else asked for it and corrected once."""

from typing import Any

import msgspec

from hanlin import schemas
from hanlin.errors import AnswerUnfit, ContextLengthExceeded, InvalidRequest
from hanlin.recipes.jsontext import first_json
from hanlin.recipes.recipe import Base
from hanlin.types import ChatRequest, Message, Sampling, Schema, Shape

_TRIES = 2


def greedy(max_tokens: int | None = None, seed: int | None = None) -> Sampling:
    """Return the sampling of a decision: the likeliest tokens, and no penalty on what JSON has to repeat."""
    return Sampling(
        temperature=0.0,
        top_p=1.0,
        top_k=1,
        presence_penalty=0.0,
        repetition_penalty=1.0,
        max_tokens=max_tokens,
        seed=seed,
    )


async def value_of(
    base: Base, request: ChatRequest, schema: Schema, name: str, accepted: Schema | None = None
) -> Any | None:
    """Return a value that fits a schema; None where the base cannot be brought to give one.

    The schema's root is an object. `accepted`, where there is one, is what does as well when it comes. Raises what a
    chat call raises, but for a base that refuses the schema.
    """
    accepted = schema if accepted is None else accepted
    value = None
    if base.can_shape:
        try:
            result = await base.answer(request.changed(shape=Shape("json_schema", name, schema)))
            value = fitting(result.choices[0].text, accepted)
        except ContextLengthExceeded:
            raise
        except (AnswerUnfit, InvalidRequest):
            pass  # an engine that takes other schemas than this one is asked in words
    return value if value is not None else await _asked_in_words(base, request, schema, accepted)


async def _asked_in_words(base: Base, request: ChatRequest, schema: Schema, accepted: Schema) -> Any | None:
    wanted = (
        f"Reply with JSON only, without a fence, that fits this JSON Schema:\n{msgspec.json.encode(schema).decode()}"
    )
    messages = with_system(request.messages, wanted)
    for _ in range(_TRIES):
        result = await base.answer(request.changed(messages=messages, shape=None))
        text = result.choices[0].text
        value = fitting(text, accepted)
        if value is not None:
            return value
        found = first_json(text, lambda one: isinstance(one, dict))
        why = schemas.problem(found.value, accepted) if found is not None else "that is no JSON object"
        messages = (*messages, Message("assistant", text), Message("user", f"{why}. Reply again, with the JSON only."))
    return None


def fitting(text: str, schema: Schema) -> Any | None:
    """Return the object in a text that fits a schema, put right where that loses nothing."""
    found = first_json(text, lambda one: isinstance(one, dict))
    if found is None:
        return None
    value = schemas.fitted(found.value, schema)
    return value if schemas.problem(value, schema) is None else None


def with_system(messages: tuple[Message, ...], note: str) -> tuple[Message, ...]:
    """Return the messages with a note at the end of their system message."""
    if messages and messages[0].role == "system":
        return (Message("system", f"{messages[0].text}\n\n{note}"), *messages[1:])
    return (Message("system", note), *messages)


__all__ = ["fitting", "greedy", "value_of", "with_system"]
