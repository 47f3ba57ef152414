"""Ask a base model for JSON of a form, whether or not its engine can be held to one.

Where it can, the engine is; everywhere the answer is checked, and asked for again with what is wrong with it.
"""

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from hanlin import schemas
from hanlin.recipes.recipe import Base
from hanlin.types import ChatRequest, Message, Sampling, Schema, Shape

TRIES = 3
_FENCE = re.compile(r"```(?:json|JSON)?\s*+(.*?)```", re.DOTALL)


class Unfit(Exception):
    """No answer of several fitted the form. `cut`: the last one ended at the limit of its length."""

    def __init__(self, why: str, *, cut: bool = False) -> None:
        super().__init__(why)
        self.cut = cut


async def ask(
    base: Base, model: str, messages: Sequence[Message], schema: Schema, *, max_tokens: int, tries: int = TRIES
) -> Any:
    """Return a value that fits a schema. Raises Unfit after some tries, at once for an answer that is cut off."""
    turns = tuple(messages)
    if not base.can_shape:
        form = msgspec.json.encode(schema).decode()
        turns = (*turns[:-1], Message(turns[-1].role, f"{turns[-1].text}\n\nJSON Schema:\n{form}\n\nJSON:"))
    asked, why = turns, ""
    for _ in range(tries):
        result = await base.answer(
            ChatRequest(
                model,
                asked,
                sampling=Sampling(temperature=0, max_tokens=max_tokens),
                shape=Shape("json_schema", "answer", schema) if base.can_shape else None,
            )
        )
        choice = result.choices[0]
        value, why = parsed(choice.text, schema)
        if not why:
            return value
        if choice.finish_reason == "length":
            raise Unfit(why, cut=True)
        asked = (*turns, Message("assistant", choice.text), Message("user", f"{why}\nJSON:"))
    raise Unfit(why)


def parsed(text: str, schema: Schema) -> tuple[Any, str]:
    """Return the JSON of an answer, and why it does not fit; "" when it does. A fence around it is taken off."""
    inner = _FENCE.search(text)
    plain = (inner[1] if inner else text).strip()
    try:
        value = msgspec.json.decode(plain)
    except msgspec.DecodeError as error:
        return None, f"not JSON: {error}"
    value = schemas.fitted(value, schema)
    return value, schemas.problem(value, schema) or ""


def visible(text: str) -> str:
    """Return JSON text without the fence that models like to put around it."""
    inner = _FENCE.fullmatch(text.strip())
    return inner[1].strip() if inner else text.strip()


__all__ = ["TRIES", "Unfit", "ask", "parsed", "visible"]
