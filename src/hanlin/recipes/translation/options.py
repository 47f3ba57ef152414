"""What a caller says about a translation, decoded and checked (spec/scenarios.md §1.2, §1.5)."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from hanlin.catalogue.models import Model
from hanlin.errors import InvalidRequest
from hanlin.recipes.translation import languages
from hanlin.recipes.translation.languages import Language
from hanlin.types import ChatRequest

FIELD = "translation_options"

MOST_PAIRS = 2000
"""Terms, and sentence pairs, of one call: what a prompt of 8,192 tokens could hold, twice over."""

MOST_CANDIDATES = 6

Text = Annotated[str, Meta(min_length=1)]


class Pair(msgspec.Struct, frozen=True):
    """A term or a sentence, and how it is translated."""

    source: Text
    target: Text


class Extras(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What Hanlin adds to the vendor's options, all under `hanlin`.

    `split`: texts beyond the model's input limit are taken, and translated piece by piece; without it they are refused
    as the vendor refuses them. `check`: what is wrong with a translation is found and put right. `enforce_terms`:
    a term that was not kept is put in; without it the glossary is only shown to the model. `report`: the answer says
    what was corrected. `candidates`: translations made of each piece to choose from, 0 for as many as the model's tier
    makes.
    """

    split: bool = False
    check: bool = True
    enforce_terms: bool = True
    report: bool = False
    candidates: Annotated[int, Meta(ge=0, le=MOST_CANDIDATES)] = 0


class _Sent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    source_lang: str | None = None
    target_lang: str | None = None
    terms: Annotated[tuple[Pair, ...], Meta(max_length=MOST_PAIRS)] | None = None
    tm_list: Annotated[tuple[Pair, ...], Meta(max_length=MOST_PAIRS)] | None = None
    domains: str | None = None
    hanlin: Extras | None = None


class Options(msgspec.Struct, frozen=True):
    """A translation as it was asked for. `source` None: it is to be found out."""

    source: Language | None
    target: Language
    terms: tuple[Pair, ...] = ()
    memory: tuple[Pair, ...] = ()
    domains: str = ""
    extras: Extras = Extras()


class UnknownLanguage(InvalidRequest):
    """A language that the model does not have, in the vendor's words."""

    def __init__(self, field: str) -> None:
        super().__init__("暂时不支持当前设置的语种！", param=f"{FIELD}.{field}")


def is_lite(model: Model) -> bool:
    return model.name == "qwen-mt-lite"


def check(request: ChatRequest, model: Model) -> None:
    """Raise InvalidRequest for what the contract refuses."""
    _check_messages(request)
    parse(request, model)


def _check_messages(request: ChatRequest) -> None:
    if any(message.role not in ("user", "assistant") for message in request.messages):
        raise InvalidRequest("Role must be in [user, assistant].")
    if len(request.messages) != 1 or request.messages[0].role != "user":
        raise InvalidRequest(
            f"A translation takes exactly one message, the user's text; got {len(request.messages)} "
            f"({', '.join(message.role for message in request.messages[:8])})",
            param="messages",
        )
    if not isinstance(request.messages[0].content, str):
        raise InvalidRequest("input content must be a string.", param="messages.0.content")
    if not request.messages[0].content:
        raise InvalidRequest("Range of input length should be [1, 8192]", param="messages.0.content")


def parse(request: ChatRequest, model: Model) -> Options | None:
    """Return what is asked for; None for a prompt of the caller's own (§1.4). Raises InvalidRequest."""
    raw = request.asks.get(FIELD)
    if raw is None or bytes(raw).strip() == b"null":
        return None
    sent = _sent(raw)
    return Options(
        source=_source(sent, model),
        target=_language(sent.target_lang, "target_lang", model),
        terms=sent.terms or (),
        memory=sent.tm_list or (),
        domains=(sent.domains or "").strip(),
        extras=sent.hanlin or Extras(),
    )


def _sent(raw: msgspec.Raw) -> _Sent:
    try:
        decoded: Any = msgspec.json.decode(raw)
        if not isinstance(decoded, dict):
            raise InvalidRequest(f"{FIELD} must be an object", param=FIELD)
        return msgspec.convert(decoded, _Sent)
    except msgspec.MsgspecError as error:
        why, _, where = str(error).partition(" - at `$")
        path = f"{FIELD}{where.rstrip('`')}"
        raise InvalidRequest(f"{path}: {why[0].lower()}{why[1:]}", param=path) from error


def _source(sent: _Sent, model: Model) -> Language | None:
    if sent.source_lang is not None and sent.source_lang.strip().casefold() == "auto":
        return None
    return _language(sent.source_lang, "source_lang", model)


def _language(word: str | None, field: str, model: Model) -> Language:
    if word is None:
        raise InvalidRequest(f"Field required: parameters.{FIELD}.{field}", param=f"{FIELD}.{field}")
    found = languages.find(word)
    if found is None or (is_lite(model) and not found.lite):
        raise UnknownLanguage(field)
    return found


__all__ = ["FIELD", "Extras", "Options", "Pair", "UnknownLanguage", "check", "is_lite", "parse"]
