"""Ask a base model for JSON of a form, whether or not its engine can be held to one.

Where it can, the engine is; where it cannot, refuses this form, or does not keep to it, it is told the form in words.
Everywhere the answer is checked, and asked for again with what is wrong with it.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from hanlin import schemas
from hanlin.errors import AnswerUnfit, ContextLengthExceeded, InvalidRequest
from hanlin.recipes.jsontext import first_json
from hanlin.recipes.recipe import Base
from hanlin.types import ChatRequest, ChatResult, Message, Sampling, Schema, Shape

TRIES = 3


class Unfit(Exception):
    """No answer of several fitted the form. `cut`: the last one ended at the limit of its length."""

    def __init__(self, why: str, *, cut: bool = False) -> None:
        super().__init__(why)
        self.cut = cut


async def ask(
    base: Base, model: str, messages: Sequence[Message], schema: Schema, *, max_tokens: int, tries: int = TRIES
) -> Any:
    """Return a value that fits a schema, as `value_of` does, for a prompt of a recipe's own."""
    request = ChatRequest(model, tuple(messages), sampling=Sampling(temperature=0, max_tokens=max_tokens))
    return await value_of(base, request, schema, tries=tries)


async def value_of(
    base: Base,
    request: ChatRequest,
    schema: Schema,
    name: str = "answer",
    accepted: Schema | None = None,
    *,
    tries: int = TRIES,
) -> Any:
    """Return a value that fits a schema, whose root is an object.

    `accepted`, where there is one, is what does as well when it comes. Raises Unfit after some tries, at once for an
    answer that is cut off; and what a chat call raises, but for a base that refuses the schema.
    """
    accepted = schema if accepted is None else accepted
    shape = Shape("json_schema", name, schema) if base.can_shape else None
    told = _told(request.messages, schema)
    asked = request.changed(messages=told if shape is None else request.messages, shape=shape)
    why = ""
    for _ in range(tries):
        try:
            result = await base.answer(asked)
        except ContextLengthExceeded as problem:
            if not why:
                raise
            raise Unfit(why) from problem  # it is what was said of the first answer that found no room
        except (AnswerUnfit, InvalidRequest) as problem:
            if shape is None:
                raise
            # An engine that takes other schemas than this one.
            shape, why = None, problem.message
            asked = request.changed(messages=told, shape=None)
            continue
        value, why = parsed(_text(result), accepted)
        if not why:
            return value
        if result.choices[0].finish_reason == "length":
            raise Unfit(why, cut=True)
        wrong = (Message("assistant", _text(result)), Message("user", f"{why}\nJSON:"))
        asked = asked.changed(messages=(*told, *wrong))
    raise Unfit(why)


def _text(result: ChatResult) -> str:
    return result.choices[0].text


def _told(messages: tuple[Message, ...], schema: Schema) -> tuple[Message, ...]:
    """Return the messages with the form in words behind them."""
    *before, last = messages
    form = msgspec.json.encode(schema).decode()
    return (*before, Message(last.role, f"{last.text}\n\nJSON Schema:\n{form}\n\nJSON:"))


def parsed(text: str, schema: Schema) -> tuple[Any, str]:
    """Return the object in an answer, put right where that loses nothing, and why it does not fit; "" when it does."""
    found = first_json(text, lambda one: isinstance(one, dict))
    if found is None:
        return None, "not JSON: there is no object in it"
    value = schemas.fitted(found.value, schema)
    return value, schemas.problem(value, schema) or ""


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


def with_system(messages: tuple[Message, ...], note: str) -> tuple[Message, ...]:
    """Return the messages with a note at the end of their system message."""
    if messages and messages[0].role == "system":
        return (Message("system", f"{messages[0].text}\n\n{note}"), *messages[1:])
    return (Message("system", note), *messages)


__all__ = ["TRIES", "Unfit", "ask", "greedy", "parsed", "value_of", "with_system"]
