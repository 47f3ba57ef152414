"""Decide what a chat call gets: which deployments may answer, with which sampling, what it is refused or told.

Pure. A parameter is honoured, or refused by name, or listed as ignored; it is never dropped silently.
"""

from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from hanlin import schemas
from hanlin.catalogue.models import Catalogue, Model
from hanlin.engines.profiles import EngineProfile
from hanlin.errors import InvalidRequest, ModelNotFound, ModelNotSupported, UnsupportedHere
from hanlin.recipes.recipe import Recipe
from hanlin.recipes.table import RECIPES
from hanlin.service import thinking
from hanlin.service.continuing import Said, continued
from hanlin.service.deployments import Deployment, Route, Serving, Target, remedy, serving
from hanlin.types import (
    Answering,
    ChatRequest,
    ChatResult,
    Events,
    Form,
    Message,
    Sampling,
    Thinking,
    fold,
)
from hanlin.words import say

DEFAULT_SEED = 1234  # spec/chat.md §3
MOST_TOKENS = 2**31 - 1
NO_THINKING = Thinking()
ANSWER_TOKENS = 256  # what an answer is taken for where its caller sets no limit

_BYTES_A_TOKEN = 4


class Plan(msgspec.Struct, frozen=True, eq=False):
    """A call that may be made: the request with everything filled in, who answers it, and the statement beside it."""

    request: ChatRequest
    model: Model
    deployment: Deployment
    answering: Answering
    stream: Callable[[ChatRequest], Events]
    whole: Callable[[ChatRequest], Coroutine[Any, Any, ChatResult] | None]


class Asked(msgspec.Struct, frozen=True, eq=False):
    """A call that the contract allows: of which model, how it is to think, and what may answer it.

    What answers it in the end is open: `planned` says what the call becomes there. `plans` is what calls of the same
    form have become, by deployment; None where calls like this one are not remembered. `recipe` makes the answer where
    there is one; `takes` are the parameters of its scenario, whoever honours them. It is what `attempts.Wanted` says.
    """

    request: ChatRequest
    model: Model
    catalogue: Catalogue
    thinking: Thinking
    route: Route[Deployment]
    plans: dict[str, Plan] | None = None
    recipe: Recipe | None = None
    takes: frozenset[str] = frozenset()

    def weight(self) -> tuple[int, int]:
        size_bytes = 0
        for message in self.request.messages:
            text = message.content if isinstance(message.content, str) else message.text
            size_bytes += len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
        sampling = self.request.sampling
        answer_tokens = sampling.max_tokens or sampling.max_completion_tokens or ANSWER_TOKENS
        return size_bytes // _BYTES_A_TOKEN + 1, answer_tokens

    def pieces(self) -> Iterable[str]:
        return (part for message in self.request.messages for part in (message.role, message.text))

    def planned(self, target: Target[Deployment]) -> Plan:
        """As `plan_for`, which is asked once for all calls of a form."""
        plans, request = self.plans, self.request
        if plans is None:
            return plan_for(self, target)
        name = target.deployment.name
        known = plans.get(name)
        if known is None:
            made = plan_for(self, target)
            plans[name] = msgspec.structs.replace(made, request=_without_messages(made.request))
            return made
        filled = msgspec.structs.replace(known.request, messages=request.messages, sent=request.sent)
        return Plan(filled, known.model, known.deployment, known.answering, known.stream, known.whole)

    def says(self) -> Said:
        request = self.request
        plain = not (request.tools or request.shape or request.logprobs or self.thinking.on)
        return Said(hidden=not request.stream, plain=plain)

    def continues(self, deployment: Deployment) -> bool:
        """At the vendor itself, only models with a partial mode can."""
        profile = deployment.profile
        return profile.can_continue and (not profile.as_asked or "partial_mode" in self.model.features)

    def continued(self, request: ChatRequest, text: str, tokens: int) -> ChatRequest:
        return continued(request, text, tokens)

    put_together = staticmethod(fold)


@dataclass(frozen=True)
class Refusal:
    """A capability that nothing here has yet: when a request really asks for it, and what it is then told."""

    asked: Callable[[Any], bool]
    message: str


def _not_text_alone(value: Any) -> bool:
    return bool(value != ["text"])


REFUSALS: Mapping[str, Refusal] = {
    "functions": Refusal(bool, "The tool call is not supported. functions is out of date: use tools"),
    "enable_search": Refusal(bool, "This model does not support enable_search."),
    "modalities": Refusal(_not_text_alone, "Only the modality 'text' is supported by {model}."),
    "audio": Refusal(bool, "'audio' output is not supported by {model}."),
    "translation_options": Refusal(bool, "translation_options is not supported by {model}."),
    "skill": Refusal(bool, "skill is not supported by {model}."),
    "enable_code_interpreter": Refusal(bool, "enable_code_interpreter is not supported by {model}."),
}

# Wire names that are always honoured, by the dialect, by `service` or by having no effect that could be missed
# (a choice of tools without tools, options of a search that is not asked for).
_HONOURED = frozenset(
    {
        *("model", "messages", "stream", "stream_options", "n"),
        *("tools", "tool_stream", "search_options"),
    }
)

# The same call again and again: an agent that does not get on (spec/chat.md §7; the vendor does not say how often).
_REPETITIONS = 10


def plan(
    request: ChatRequest, catalogue: Catalogue, deployments: Sequence[Deployment], *, strict: bool = False
) -> Plan:
    """Return what a request becomes on the first deployment of its name. Raises as `asked` and `plan_for`."""
    allowed = asked(request, catalogue, lambda model: serving(model, catalogue, deployments), strict=strict)
    return plan_for(allowed, allowed.route.targets[0])


def asked(
    request: ChatRequest,
    catalogue: Catalogue,
    served: Callable[[Model], Serving],
    *,
    strict: bool = False,
    recipes: Mapping[str, Recipe] = RECIPES,
) -> Asked:
    """Return a request that the contract allows. Raises ModelNotFound, ModelNotSupported and InvalidRequest.

    `served` says what answers a model here. `strict` refuses what the vendor refuses only for the lack of streaming.
    """
    model = catalogue.find(request.model)
    if model is None:
        raise ModelNotFound(
            request.model, say("`hanlin models` lists the names.", "`hanlin models` 会列出可用的名称。")
        )
    thought = thinking.decide(request, model, catalogue, strict=strict)
    found = served(model)
    if found.deployment is None:
        raise _unavailable(request, model, found)
    recipe = recipes.get(model.recipe)
    if recipe is not None:
        recipe.check(request, model)
    _check_contract(request, model, thought)
    _check_own_rules(request, model, catalogue, thought)
    check_lengths(request.sampling, model)
    if recipe is not None and recipe.applies(request) and not _is_done_there(recipe, found.deployment):
        if request.n > 1:
            raise InvalidRequest("Range of n should be [1, 1]", param="n")
        return Asked(request, model, catalogue, NO_THINKING, found.route, recipe=recipe, takes=recipe.takes)
    takes = frozenset() if recipe is None else recipe.takes
    return Asked(request, model, catalogue, thought, found.route, takes=takes)


def _is_done_there(recipe: Recipe, deployment: Deployment) -> bool:
    """Whether what answers is the vendor itself, or another Hanlin: that knows the scenario, but not documents here."""
    return deployment.profile.as_asked and not recipe.reads_documents


def remembered(call: Asked) -> Asked | None:
    """Return what holds for all calls of this one's form; None where what is decided hangs on the messages."""
    model = call.model
    if model.recipe or call.request.form is None:
        return None
    if model.text_switches or model.system_messages != "read":
        return None
    return msgspec.structs.replace(call, request=_without_messages(call.request), plans={})


def _without_messages(request: ChatRequest) -> ChatRequest:
    return msgspec.structs.replace(request, messages=(), sent=None)


def plan_for(call: Asked, target: Target[Deployment]) -> Plan:
    """Return what a call becomes on one of its deployments. Raises UnsupportedHere for what that cannot do."""
    request, model, deployment = call.request, call.model, target.deployment
    _check_asks(call, deployment)
    profile = deployment.profile
    filled = fill(request, model, call.catalogue, profile, call.thinking)
    if filled.asks:  # what was refused or passed over is not for the engine
        filled = msgspec.structs.replace(filled, asks={n: raw for n, raw in filled.asks.items() if n in call.takes})
    return Plan(
        request=filled,
        model=model,
        deployment=deployment,
        answering=Answering(
            model=request.model,
            deployment=deployment.name,
            fingerprint=deployment.fingerprint,
            served=target.served,
            ignored=_ignored(call, filled, profile),
            thinking=deployment.thinking if filled.thinking.on else "",
        ),
        stream=deployment.engine.generate,
        whole=deployment.engine.whole,
    )


def _ignored(call: Asked, filled: ChatRequest, profile: EngineProfile) -> tuple[str, ...]:
    """As `ignored`, without what a scenario honours, and with what nobody can say of the words of a recipe."""
    names = ignored(call.request, call.model, profile, filled.thinking)
    if not call.takes and call.recipe is None:
        return names
    unsaid = {"logprobs", "top_logprobs"} & call.request.given if call.recipe and call.request.logprobs else set()
    return tuple(sorted(({*names} - call.takes) | unsaid))


def _unavailable(
    request: ChatRequest, model: Model, found: Serving
) -> InvalidRequest | ModelNotFound | ModelNotSupported:
    if not model.chats:
        return ModelNotSupported(request.model, f"({found.why})")
    return ModelNotFound(request.model, f"{say('Not served here', '此处无法提供')}: {found.why}. {remedy(model)}")


def _check_contract(request: ChatRequest, model: Model, thought: Thinking) -> None:
    """Refuse what the vendor refuses, whoever answers here (spec/chat.md §6 to §8, §11)."""
    if model.system_messages == "forbidden" and any(message.role == "system" for message in request.messages):
        raise InvalidRequest(f"{model.name} takes no system message", param="messages")
    if request.partial:
        if "partial_mode" not in model.features:
            raise InvalidRequest(f"partial mode is not supported by {model.name}", param="messages")
        if thought.on:
            raise InvalidRequest("partial mode is not supported in thinking mode", param="messages")
    if request.tools:
        _check_tools(request, model, thought)
    if request.shape is not None and request.shape.schema:
        schemas.check(request.shape.schema, "response_format.json_schema.schema")
    _check_repetition(request.messages)


def _check_tools(request: ChatRequest, model: Model, thought: Thinking) -> None:
    mode = request.tool_choice.mode
    if mode == "none":
        return
    if "function_calling" not in model.features:
        raise InvalidRequest("The tool call is not supported.", param="tools")
    if mode not in model.tool_choices:
        raise InvalidRequest('tool_choice is one of the strings that should be ["none", "auto"]', param="tool_choice")
    if mode in ("required", "named") and thought.on and "required" not in model.tool_choices:
        raise InvalidRequest(
            "The tool_choice parameter does not support being set to required or object in thinking mode",
            param="tool_choice",
        )
    if request.n > 1:
        raise InvalidRequest("Range of n should be [1, 1] when tools are given", param="n")
    for number, tool in enumerate(request.tools):
        schemas.check(tool.parameters, f"tools.{number}.function.parameters")


def _check_own_rules(request: ChatRequest, model: Model, catalogue: Catalogue, thought: Thinking) -> None:
    """Refuse what this model alone refuses (spec/chat.md §3)."""
    takes, sampling = model.takes, request.sampling
    for name in sorted(request.given & set(takes.refused)):
        raise InvalidRequest(f"Parameter '{name}' is not supported for {model.name} model.", param=name)
    if takes.own_sampling:
        own = catalogue.sampling(model, thinking=thought.on)
        for name in ("temperature", "top_p", "top_k", "presence_penalty", "repetition_penalty"):
            asked = getattr(sampling, name)
            if name in request.given and asked != getattr(own, name):
                raise InvalidRequest(f"Parameter '{name}'={asked} is not supported for {model.name} model.", param=name)
    if takes.temperature_max is not None and (sampling.temperature or 0) > takes.temperature_max:
        raise InvalidRequest(f"Temperature should be in [0.0, {takes.temperature_max}]", param="temperature")
    if takes.top_p_min is not None and sampling.top_p is not None and sampling.top_p < takes.top_p_min:
        raise InvalidRequest(f"Range of top_p should be [{takes.top_p_min}, 1.0]", param="top_p")
    stops = len(sampling.stop) + len(sampling.stop_tokens)
    if takes.stops_max is not None and stops > takes.stops_max:
        raise InvalidRequest(
            f"'stop' holds {stops} sequences, {model.name} takes at most {takes.stops_max}", param="stop"
        )


def _check_repetition(messages: Sequence[Message]) -> None:
    turns = [
        [(call.name, call.arguments) for call in message.tool_calls]
        for message in messages
        if message.role == "assistant" and message.tool_calls
    ]
    last = turns[-_REPETITIONS:]
    if len(last) == _REPETITIONS and all(turn == last[0] for turn in last):
        raise InvalidRequest(
            f"Repetitive tool calls detected in the conversation history: {last[0][0][0]!r} was called with the same "
            f"arguments in the last {_REPETITIONS} turns",
            param="messages",
        )


def _check_asks(call: Asked, deployment: Deployment) -> None:
    """Refuse what the name may promise, and what answers here cannot do."""
    request, model, thought, profile = call.request, call.model, call.thinking, deployment.profile
    kinds = sorted({part.kind for message in request.messages for part in message.media} - call.takes)
    if kinds:
        raise UnsupportedHere(
            f"What answers for {request.model} here reads text only, not {' or '.join(kinds)}: {deployment.title}. "
            "Send text only",
            param="messages",
        )
    lacking = [
        ("enable_thinking", thought.on and request.thinking_asked.enable and not profile.can_think, "thinking"),
        ("tools", request.tools and request.tool_choice.mode != "none" and not profile.can_call, "tools"),
        ("response_format", request.shape is not None and not profile.can_shape(request.shape.kind), "JSON by schema"),
        ("messages", request.partial and not profile.can_continue, "partial mode"),
    ]
    for param, lacks, what in lacking:
        if lacks:
            raise UnsupportedHere(
                f"{request.model} is answered here by {deployment.title}, which has no {what}", param=param
            )
    for name, refusal in REFUSALS.items():
        passed_over = name in model.takes.ignored or name in call.takes
        if name in request.asks and not passed_over and refusal.asked(msgspec.json.decode(request.asks[name])):
            raise UnsupportedHere(refusal.message.format(model=model.name), param=name)


def check_lengths(sampling: Sampling, model: Model) -> None:
    """Refuse limits that the model does not have. Raises InvalidRequest."""
    # Reasoning counts into the second one, so the model's limit for answers is not its limit.
    limits = {"max_tokens": model.output_limit_tokens() or MOST_TOKENS, "max_completion_tokens": MOST_TOKENS}
    for name, limit in limits.items():
        asked = getattr(sampling, name)
        if asked is not None and not 1 <= asked <= limit:
            raise InvalidRequest(f"Range of {name} should be [1, {limit}]", param=name)


def fill(
    request: ChatRequest,
    model: Model,
    catalogue: Catalogue,
    profile: EngineProfile,
    thought: Thinking = NO_THINKING,
) -> ChatRequest:
    """Return the request with the catalogue's value, or the engine's own, wherever the caller left it to the model."""
    if thought.on and not profile.can_think:
        thought = msgspec.structs.replace(thought, on=False)
    calls = bool(request.tools) and request.tool_choice.mode != "none"
    sampling = filled(request.sampling, model, catalogue, profile, thinking=thought.on, calls=calls)
    max_tokens, whole = request.sampling.max_tokens, sampling.max_completion_tokens
    if max_tokens is not None and thought.on and _covers_thoughts(model, thought):
        whole = max_tokens if whole is None else min(max_tokens, whole)
        sampling = msgspec.structs.replace(sampling, max_completion_tokens=whole)
    messages = request.messages
    if model.system_messages == "ignored":
        messages = tuple(message for message in messages if message.role != "system")
    form = None if request.form is None else Form()  # filled in, it is another one
    return msgspec.structs.replace(request, messages=messages, sampling=sampling, thinking=thought, form=form)


def filled(
    asked: Sampling,
    model: Model,
    catalogue: Catalogue,
    profile: EngineProfile,
    *,
    thinking: bool = False,
    calls: bool = False,
) -> Sampling:
    """Return how tokens are drawn, with nothing left open that the catalogue or the engine has a default for.

    `calls`: the model may call tools.
    """
    defaults = msgspec.structs.replace(catalogue.sampling(model, thinking=thinking), **profile.defaults)

    def first(given: Any, default: Any) -> Any:
        return default if given is None else given

    usual = first(defaults.temperature_with_tools if calls else None, defaults.temperature)
    temperature = first(asked.temperature, usual)
    if temperature is not None and defaults.temperature_floor is not None:
        temperature = max(temperature, defaults.temperature_floor)
    return msgspec.structs.replace(
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


def _covers_thoughts(model: Model, thought: Thinking) -> bool:
    covers = model.max_tokens_covers
    return covers == "all" or (covers == "all-without-budget" and thought.budget_tokens is None)


def ignored(
    request: ChatRequest, model: Model, profile: EngineProfile, thought: Thinking = NO_THINKING
) -> tuple[str, ...]:
    """Return the wire names that the caller sent and the answer does not honour, sorted.

    A model that thinks unless told otherwise is listed with `enable_thinking` where it is answered without.
    """
    names = {name for name in request.given if not _is_honoured(name, request, model, profile, thought)}
    cannot_stop = profile.thinks == "maybe" and profile.thinking is None
    if request.thinking_asked.enable is False and model.thinking != "none" and cannot_stop:
        names.add("enable_thinking")
    if model.thinking == "hybrid-default-on" and not profile.can_think and request.thinking_asked.enable is None:
        names.add("enable_thinking")
    if model.system_messages == "ignored" and any(message.role == "system" for message in request.messages):
        names.add("messages.system")
    return tuple(sorted(names))


def _is_honoured(name: str, request: ChatRequest, model: Model, profile: EngineProfile, thought: Thinking) -> bool:
    if name in model.takes.ignored:
        return False
    if name in _HONOURED:
        return True
    if name in _THINKING:
        return _THINKING[name](model, profile, thought)
    if name in _ASKED:
        return _ASKED[name](request, profile)
    if name in ("logprobs", "top_logprobs") and not request.logprobs:
        return True
    if name in REFUSALS:
        return True  # what gets this far asked for nothing: `modalities: ["text"]`, `enable_search: false`
    if name == "max_completion_tokens":
        return profile.honours("max_tokens")
    return profile.honours(name)


def _switch(_model: Model, _profile: EngineProfile, _thought: Thinking) -> bool:
    return True


def _limit(model: Model, profile: EngineProfile, thought: Thinking) -> bool:
    """A budget is honoured where it is kept; a call that does not think is within every budget."""
    return model.thinking != "none" and (profile.can_limit_thinking or _known_off(profile, thought))


def _level(model: Model, profile: EngineProfile, thought: Thinking) -> bool:
    """A level is honoured where it is a number of tokens that is kept, or the engine knows it by name."""
    if not model.effort:
        return False
    named = profile.thinking is not None and bool(profile.thinking.effort)
    kept = thought.budget_tokens is not None and profile.can_limit_thinking
    return named or kept or _known_off(profile, thought)


def _known_off(profile: EngineProfile, thought: Thinking) -> bool:
    """Whether what answers does not think, for certain: a server that cannot be told may do it all the same."""
    return profile.can_think and not thought.on


def _preserved(model: Model, _profile: EngineProfile, _thought: Thinking) -> bool:
    return model.keeps_reasoning or "preserve_thinking" in model.features


def _cleared(model: Model, _profile: EngineProfile, _thought: Thinking) -> bool:
    return model.family == "glm"


_THINKING: Mapping[str, Callable[[Model, EngineProfile, Thinking], bool]] = {
    "enable_thinking": _switch,
    "thinking": _switch,
    "thinking_budget": _limit,
    "reasoning_effort": _level,
    "preserve_thinking": _preserved,
    "clear_thinking": _cleared,
}


def _form_of_choice(request: ChatRequest, profile: EngineProfile) -> bool:
    return not request.tools or profile.takes_choice(request.tool_choice.mode)


def _single_calls(request: ChatRequest, profile: EngineProfile) -> bool:
    return not request.tools or profile.prompts or profile.parallel_tool_calls


def _shaped(request: ChatRequest, _profile: EngineProfile) -> bool:
    """Nobody can hold the rest of an answer to a grammar that begins with its prefix."""
    return not (request.partial and request.shape is not None)


def _stopped(request: ChatRequest, profile: EngineProfile) -> bool:
    sampling = request.sampling
    return profile.stop_tokens is not None if sampling.stop_tokens else profile.takes_stops(len(sampling.stop))


_ASKED: Mapping[str, Callable[[ChatRequest, EngineProfile], bool]] = {
    "tool_choice": _form_of_choice,
    "parallel_tool_calls": _single_calls,
    "response_format": _shaped,
    "stop": _stopped,
}
