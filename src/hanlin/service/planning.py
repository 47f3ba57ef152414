"""Decide what a chat call gets: which deployment, with which sampling, and what it must be refused or told.

Pure. A parameter is honoured, or refused by name, or listed as ignored; it is never dropped silently.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from hanlin.catalogue.models import Catalogue, Model
from hanlin.engines.profiles import EngineProfile
from hanlin.errors import (
    InvalidRequest,
    ModelNotFound,
    ModelNotSupported,
    ThinkingNotSupported,
    UnsupportedHere,
)
from hanlin.service.deployments import Deployment, Serving, remedy, serving
from hanlin.types import Answering, ChatRequest
from hanlin.words import say

DEFAULT_SEED = 1234  # spec/chat.md §3
MOST_TOKENS = 2**31 - 1


@dataclass(frozen=True)
class Plan:
    """A call that may be made: the request with everything filled in, who answers it, and the statement beside it."""

    request: ChatRequest
    model: Model
    deployment: Deployment
    answering: Answering


@dataclass(frozen=True)
class Refusal:
    """A capability that nothing here has yet: when a request really asks for it, and what it is then told."""

    asked: Callable[[Any, ChatRequest], bool]
    message: str


def _always(value: Any, _request: ChatRequest) -> bool:
    return bool(value)


def _tools(value: Any, request: ChatRequest) -> bool:
    return bool(value) and bytes(request.asks.get("tool_choice", b"")) != b'"none"'


def _not_text(value: Any, _request: ChatRequest) -> bool:
    return not (isinstance(value, dict) and value.get("type") == "text")


def _audio(value: Any, _request: ChatRequest) -> bool:
    return bool(value != ["text"])


REFUSALS: Mapping[str, Refusal] = {
    "tools": Refusal(_tools, "The tool call is not supported."),
    "functions": Refusal(_always, "The tool call is not supported."),
    "tool_calls": Refusal(_always, "The tool call is not supported."),
    "response_format": Refusal(_not_text, "response_format is not supported here yet: only {{'type': 'text'}} is."),
    "enable_search": Refusal(_always, "This model does not support enable_search."),
    "partial": Refusal(_always, "partial mode is not supported here yet."),
    "modalities": Refusal(_audio, "Only the modality 'text' is supported by {model}."),
    "audio": Refusal(_always, "'audio' output is not supported by {model}."),
    "translation_options": Refusal(_always, "translation_options is not supported by {model}."),
    "skill": Refusal(_always, "skill is not supported by {model}."),
    "enable_code_interpreter": Refusal(_always, "enable_code_interpreter is not supported by {model}."),
}

# Wire names that are always honoured, by the dialect, by `service` or by having no effect that could be missed
# (a choice of tools without tools, options of a search that is not asked for).
_HONOURED = frozenset(
    {
        *("model", "messages", "stream", "stream_options", "n", "enable_thinking"),
        *("tool_choice", "parallel_tool_calls", "tool_stream", "search_options"),
    }
)


def plan(request: ChatRequest, catalogue: Catalogue, deployments: Sequence[Deployment]) -> Plan:
    """Return what to do about a request. Raises ModelNotFound, ModelNotSupported and InvalidRequest."""
    model = catalogue.find(request.model)
    if model is None:
        raise ModelNotFound(
            request.model, say("`hanlin models` lists the names.", "`hanlin models` 会列出可用的名称。")
        )
    _check_thinking(request, model)
    found = serving(model, catalogue, deployments)
    if found.deployment is None:
        raise _unavailable(request, model, found)
    _check_asks(request, model, found.deployment)
    _check_lengths(request, model)
    filled = fill(request, model, catalogue, found.deployment.profile)
    return Plan(
        request=filled,
        model=model,
        deployment=found.deployment,
        answering=Answering(
            model=request.model,
            deployment=found.deployment.name,
            fingerprint=found.deployment.fingerprint,
            served=found.served,
            ignored=ignored(request, model, found.deployment.profile),
        ),
    )


def _unavailable(
    request: ChatRequest, model: Model, found: Serving
) -> InvalidRequest | ModelNotFound | ModelNotSupported:
    if not model.chats:
        return ModelNotSupported(request.model, f"({found.why})")
    return ModelNotFound(request.model, f"{say('Not served here', '此处无法提供')}: {found.why}. {remedy(model)}")


def _check_thinking(request: ChatRequest, model: Model) -> None:
    if request.enable_thinking and model.thinking == "none":
        raise ThinkingNotSupported(request.model)
    if request.enable_thinking is False and model.thinking == "only":
        raise InvalidRequest(
            "The value of the enable_thinking parameter is restricted to True.", param="enable_thinking"
        )


def _check_asks(request: ChatRequest, model: Model, deployment: Deployment) -> None:
    kinds = sorted({part.kind for message in request.messages for part in message.media})
    if kinds:
        raise UnsupportedHere(
            f"What answers for {request.model} here reads text only, not {' or '.join(kinds)}: {deployment.title}. "
            "Send text only",
            param="messages",
        )
    if request.enable_thinking:
        raise UnsupportedHere(
            f"{request.model} is answered here without thinking: leave enable_thinking out or set it to false",
            param="enable_thinking",
        )
    for name, refusal in REFUSALS.items():
        if name in request.asks and refusal.asked(msgspec.json.decode(request.asks[name]), request):
            raise UnsupportedHere(refusal.message.format(model=model.name), param=name)


def _check_lengths(request: ChatRequest, model: Model) -> None:
    # Reasoning counts into the second one, so the model's limit for answers is not its limit.
    limits = {"max_tokens": model.output_limit_tokens() or MOST_TOKENS, "max_completion_tokens": MOST_TOKENS}
    for name, limit in limits.items():
        asked = getattr(request.sampling, name)
        if asked is not None and not 1 <= asked <= limit:
            raise InvalidRequest(f"Range of {name} should be [1, {limit}]", param=name)


def fill(request: ChatRequest, model: Model, catalogue: Catalogue, profile: EngineProfile) -> ChatRequest:
    """Return the request with the catalogue's value, or the engine's own, wherever the caller left it to the model."""
    asked = request.sampling
    defaults = msgspec.structs.replace(catalogue.sampling(model, thinking=False), **profile.defaults)

    def first(given: Any, default: Any) -> Any:
        return default if given is None else given

    temperature = first(asked.temperature, defaults.temperature)
    if temperature is not None and defaults.temperature_floor is not None:
        temperature = max(temperature, defaults.temperature_floor)
    sampling = msgspec.structs.replace(
        asked,
        temperature=temperature,
        top_p=first(asked.top_p, defaults.top_p),
        # A model without top_k of its own draws from all tokens.
        top_k=first(asked.top_k, first(defaults.top_k, 0)),
        presence_penalty=first(asked.presence_penalty, defaults.presence_penalty),
        repetition_penalty=first(asked.repetition_penalty, defaults.repetition_penalty),
        seed=first(asked.seed, DEFAULT_SEED),
        max_tokens=first(asked.max_tokens, model.output_limit_tokens() if profile.fills_max_tokens else None),
    )
    return msgspec.structs.replace(request, sampling=sampling)


def ignored(request: ChatRequest, model: Model, profile: EngineProfile) -> tuple[str, ...]:
    """Return the wire names that the caller sent and the answer does not honour, sorted.

    A model that thinks unless told otherwise is answered without: then `enable_thinking` is listed too.
    """
    names = {name for name in request.given if not _is_honoured(name, request, profile)}
    if request.enable_thinking is False and model.thinking != "none" and profile.thinks == "maybe":
        names.add("enable_thinking")
    if request.enable_thinking is None and model.thinking == "hybrid-default-on":
        names.add("enable_thinking")
    return tuple(sorted(names))


def _is_honoured(name: str, request: ChatRequest, profile: EngineProfile) -> bool:
    if name == "stop":
        return profile.stop_tokens is not None if request.sampling.stop_tokens else profile.honours("stop")
    if name in ("logprobs", "top_logprobs") and not request.logprobs:
        return True
    if name in _HONOURED:
        return True
    if name in REFUSALS:
        return True  # what gets this far asked for nothing: `tools: []`, `response_format: {"type": "text"}`
    if name == "max_completion_tokens":
        return profile.honours("max_tokens")
    return profile.honours(name)
