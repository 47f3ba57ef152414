"""Decide how a call thinks: from what its caller says, the class of its model, and what answers it here.

Pure. The classes are those of spec/chat.md §5.1; refusals have the vendor's words where the vendor has some.
"""

from hanlin.catalogue.models import Catalogue, Efforts, Model
from hanlin.errors import InvalidRequest, ThinkingNotSupported
from hanlin.types import ChatRequest, Thinking

_SWITCHES = {"/think": True, "/no_think": False}


def decide(request: ChatRequest, model: Model, catalogue: Catalogue, *, strict: bool = False) -> Thinking:
    """Return how the model is to think. `strict` refuses what the vendor refuses only for the lack of streaming.

    Raises InvalidRequest and ThinkingNotSupported.
    """
    efforts = catalogue.efforts.get(model.effort)
    on = _is_on(request, model, efforts)
    asked = request.thinking_asked
    _check_budget(request, model, efforts)
    if strict and not request.stream:
        _check_streaming(model, on=on)
    if not on:
        return Thinking(history=_history(request, model))
    effort = _effort(asked.effort, efforts)
    budget = asked.budget_tokens
    if budget is None and efforts is not None:
        budget = efforts.tokens.get(effort) if asked.effort is not None else efforts.default_tokens
        if budget is not None and model.max_reasoning_tokens is not None:
            budget = min(budget, model.max_reasoning_tokens)
    return Thinking(
        on=True,
        budget_tokens=budget,
        effort=effort if asked.effort is not None else "",
        history=_history(request, model),
    )


def _is_on(request: ChatRequest, model: Model, efforts: Efforts | None) -> bool:
    asked = request.thinking_asked
    enable = asked.enable
    if enable is None and asked.mode is not None:
        enable = asked.mode != "disabled"
    if enable is None and efforts is not None and asked.effort in efforts.off:
        enable = False
    if model.thinking == "none":
        if enable:
            raise ThinkingNotSupported(request.model)
        return False
    if model.thinking == "only":
        if enable is False:
            raise InvalidRequest(
                "The value of the enable_thinking parameter is restricted to True.", param="enable_thinking"
            )
        return True
    if enable is None and request.partial:
        return False  # a prefix is continued without thinking (§6); a caller who says neither wants the prefix
    on = enable if enable is not None else model.thinking == "hybrid-default-on"
    return _switched(request, model, on=on)


def _switched(request: ChatRequest, model: Model, *, on: bool) -> bool:
    """Follow `/think` and `/no_think` at the end of a user's or the system's message: the latest one wins."""
    if model.text_switches and on:
        for message in reversed(request.messages):
            said = message.text.rstrip()
            found = next((switch for switch in _SWITCHES if said.endswith(switch)), None)
            if message.role in ("user", "system") and found is not None:
                return _SWITCHES[found]
    return on


def _check_budget(request: ChatRequest, model: Model, efforts: Efforts | None) -> None:
    budget = request.thinking_asked.budget_tokens
    if budget is None or model.thinking == "none":
        return
    limit = model.max_reasoning_tokens
    if budget < 1 or (limit is not None and budget > limit):
        most = f" and not greater than {limit}" if limit is not None else ""
        raise InvalidRequest(f"The thinking_budget parameter must be a positive integer{most}", param="thinking_budget")
    if efforts is not None and efforts.excludes_budget and request.thinking_asked.effort is not None:
        raise InvalidRequest("thinking_budget and reasoning_effort cannot be given together", param="reasoning_effort")


def _check_streaming(model: Model, *, on: bool) -> None:
    if model.stream_only == "always":
        raise InvalidRequest(
            "This model only support stream mode, please enable the stream parameter to access the model.",
            param="stream",
        )
    if model.stream_only == "thinking" and on:
        raise InvalidRequest(
            "parameter.enable_thinking must be set to false for non-streaming calls", param="enable_thinking"
        )


def _effort(asked: str | None, efforts: Efforts | None) -> str:
    """Return the level that a word means; models without levels ignore the word (§5.3)."""
    if efforts is None:
        return ""
    if asked is None:
        return efforts.default
    level = efforts.aliases.get(asked, asked)
    if level not in efforts.levels:
        raise InvalidRequest(
            f"reasoning_effort must be one of {list(efforts.words())}, got {asked!r}", param="reasoning_effort"
        )
    return level


def _history(request: ChatRequest, model: Model) -> bool:
    """Say whether the reasoning of earlier turns is read (§5.4)."""
    asked = request.thinking_asked
    if asked.preserve is not None:
        return asked.preserve and (model.keeps_reasoning or "preserve_thinking" in model.features)
    if asked.clear is not None and model.family == "glm":
        return not asked.clear
    return model.keeps_reasoning
