"""Put documents into classes that the instruction lists: one of the labels, or several, and nothing else."""

from collections.abc import Sequence

from hanlin.documents.values import Document
from hanlin.errors import AnswerUnfit
from hanlin.metering.estimate import text_tokens
from hanlin.recipes import shaped
from hanlin.recipes.long_documents.parts import evenly, parts_of
from hanlin.recipes.recipe import Base
from hanlin.recipes.texts import folded
from hanlin.types import Message, Schema

_MOST_PARTS = 3
_LIST_TOKENS = 400


async def labels_named(base: Base, model: str, instruction: str) -> tuple[str, ...]:
    """Ask which labels an instruction lists; only those that stand in it count. Empty where there are not two."""
    form: Schema = {
        "type": "object",
        "properties": {"labels": {"type": "array", "maxItems": 60, "items": {"type": "string", "maxLength": 40}}},
        "required": ["labels"],
        "additionalProperties": False,
    }
    prompt = (
        "Which labels does this instruction list for a classification? Copy them; an empty list where it lists none."
        f"\n\nInstruction: {instruction}"
    )
    try:
        named = (await shaped.ask(base, model, [Message("user", prompt)], form, max_tokens=_LIST_TOKENS))["labels"]
    except shaped.Unfit:
        return ()
    said = folded(instruction)
    labels = tuple(dict.fromkeys(label.strip() for label in named if label.strip() and folded(label) in said))
    return labels if len(labels) > 1 else ()


async def labelled(
    base: Base, model: str, instruction: str, document: Document, labels: Sequence[str], *, several: bool
) -> tuple[str, ...]:
    """Return the labels of a document: of a long one, by its beginning, middle and end. Raises AnswerUnfit."""
    room = max((base.context_tokens - text_tokens(instruction) - 600) // _MOST_PARTS, 128)
    parts = await parts_of([document], room)
    text = "\n\n".join(parts[at].text for at in evenly(len(parts), _MOST_PARTS))
    one: Schema = {"enum": list(labels)}
    form: Schema = {
        "type": "object",
        "properties": {
            "labels": {"type": "array", "minItems": 1, "maxItems": len(labels), "items": one} if several else one
        },
        "required": ["labels"],
        "additionalProperties": False,
    }
    prompt = f"{text}\n\n{instruction}\n\nLabels: {' | '.join(labels)}"
    try:
        chosen = (await shaped.ask(base, model, [Message("user", prompt)], form, max_tokens=_LIST_TOKENS))["labels"]
    except shaped.Unfit as unfit:
        raise AnswerUnfit(f"it gives none of the labels: {unfit}") from unfit
    return tuple(dict.fromkeys(chosen)) if several else (chosen,)


__all__ = ["labelled", "labels_named"]
