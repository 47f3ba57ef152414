"""The profiles of engines and weights, read from `profiles.toml`."""

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import cache
from typing import Any, Literal

import msgspec

from hanlin.engines import tables
from hanlin.errors import StartupError

ToolForm = Literal["auto", "none", "required", "named"]
Failing = Literal["busy", "unavailable", "refused", "invalid", "failed"]
"""What a server's error means: its limits are reached, it cannot answer now, it does not take our key or know the
model, the request is wrong, or something broke."""


class ThinkingSwitch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a server is told to think: what is sent to switch it `on` and `off`, and under which names limits travel.

    `budget` and `effort` may be paths (`reasoning.effort`). `models` are names or patterns, as the server calls its
    models, of those that can be told so: others refuse the switch, or have none.
    """

    on: dict[str, Any] = {}
    off: dict[str, Any] = {}
    budget: str = ""
    effort: str = ""
    history: dict[str, Any] = {}
    models: tuple[str, ...] = ("*",)


class Prefill(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a server is told to continue the assistant's last message: fields of that `message`, fields of the `body`.

    `thoughts`: the prefix goes into the prompt as it is, so that it may hold thoughts that are to be left at that.
    """

    message: dict[str, Any] = {}
    body: dict[str, Any] = {}
    thoughts: bool = False


class EngineProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an engine's software honours, and under which names (see the comments of `profiles.toml`)."""

    parameters: dict[str, str]
    fixed: dict[str, Any] = {}
    repeatable: dict[str, Any] = {}
    defaults: dict[str, float] = {}
    counts: bool = False
    logprobs: bool = False
    top_logprobs_min: int = 0
    stop_tokens: Literal["text"] | None = None
    fills_max_tokens: bool = False
    thinks: Literal["maybe", "never"] = "maybe"
    prompts: bool = False
    completions: bool = False
    whole: bool = False
    tools: bool = False
    shapes: tuple[Literal["json_object", "json_schema"], ...] = ()
    prefill: Prefill | None = None
    thinking: ThinkingSwitch | None = None
    switches: tuple[ThinkingSwitch, ...] = ()
    max_tokens_covers: Literal["answer", "all"] = "all"
    as_asked: bool = False
    ranges: dict[str, tuple[float, float]] = {}
    stops_max: int = 0
    stream_options: bool = True
    tool_choices: tuple[ToolForm, ...] = ("auto", "none", "required", "named")
    parallel_tool_calls: bool = True
    thoughts: Literal["reasoning_content", "reasoning", "content"] = "reasoning_content"
    thoughts_with_calls: bool = False
    cumulative: tuple[str, ...] = ()
    codes: dict[str, Failing] = {}

    def honours(self, name: str) -> bool:
        """Say whether the wire parameter `name` reaches the engine and has its effect there."""
        if name in ("logprobs", "top_logprobs"):
            return self.logprobs
        return name in self.parameters

    def takes_choice(self, form: ToolForm) -> bool:
        """Whether a choice of tools of this form is kept as it is, and not by the nearest that the engine knows."""
        return self.prompts or form in self.tool_choices

    def takes_stops(self, count: int) -> bool:
        """Whether so many stop texts are kept."""
        return self.honours("stop") and (not self.stops_max or count <= self.stops_max)

    @property
    def can_think(self) -> bool:
        """Whether thinking can be asked for."""
        return self.prompts or self.thinking is not None

    @property
    def can_call(self) -> bool:
        """Whether tools can be offered."""
        return self.prompts or self.tools

    def can_shape(self, kind: str) -> bool:
        """Whether answers can be held to JSON of this kind."""
        return self.prompts or kind in self.shapes

    @property
    def can_continue(self) -> bool:
        """Whether a prefix of the answer can be continued."""
        return self.prompts or self.prefill is not None

    @property
    def can_limit_thinking(self) -> bool:
        """Whether a budget of reasoning tokens is kept: by the engine, or by cutting it off and having it continue."""
        keeps = self.prompts or (self.prefill is not None and self.prefill.thoughts)
        return self.can_think and (keeps or (self.thinking is not None and bool(self.thinking.budget)))

    def switch_for(self, model: str) -> ThinkingSwitch | None:
        """Return how a model, by its name there, is told to think; None for one that cannot be told."""
        for switch in self.switches:
            if _any_fits(switch.models, model):
                return switch
        return self.thinking if self.thinking is not None and _any_fits(self.thinking.models, model) else None

    def repeats_itself(self, model: str) -> bool:
        """Whether each piece of a model's stream holds the whole text so far."""
        return _any_fits(self.cumulative, model)


def _any_fits(patterns: Iterable[str], name: str) -> bool:
    return any(pattern == "*" or fnmatchcase(name, pattern) for pattern in patterns)


class GapTags(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How weights that learned to fill gaps are shown one; `ends` are tags that end what fills it."""

    prefix: str
    suffix: str
    middle: str
    ends: tuple[str, ...] = ()


class WeightsProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a family of weights needs said ahead of the caller's messages, and how it thinks.

    `thinking` is "template" for weights that learned to think, and whose chat template switches it; "prompted" for all
    others, which are asked to (`Prompted`). `gaps` is None for weights that never learned to fill gaps in code.
    `repeats_calls`: they make a call again whose result they have; they are then told the result with the question.
    """

    identity: str = ""
    default_system: str = ""
    thinking: Literal["template", "prompted"] = "template"
    gaps: GapTags | None = None
    repeats_calls: bool = False
    repositories: tuple[str, ...] = ()

    @property
    def leads(self) -> bool:
        """Whether anything is said ahead of the caller's messages."""
        return bool(self.identity or self.default_system)


class EmbeddingProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an embedding model wants in front of a text that is looked for, and of one that asks what to look for."""

    document: str = ""
    query: str = ""

    @property
    def tells_apart(self) -> bool:
        """Whether the purpose of a text makes a difference."""
        return self.document != self.query

    def prefix(self, purpose: str) -> str:
        return self.query if purpose == "query" else self.document


class PromptedLines(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is said in one language, in the caller's name.

    `think` asks for thoughts, `answer` for the answer with those {thoughts}, `results` for the answer from the
    {results} of calls.
    """

    think: str
    answer: str
    results: str


class Prompted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Thinking of weights that never learned to: they are asked for thoughts first, at most `tokens` of them."""

    tokens: int
    zh: PromptedLines
    en: PromptedLines

    def lines(self, question: str) -> PromptedLines:
        """Return the lines in the question's language."""
        return self.zh if re.search("[\u4e00-\u9fff]", question) else self.en


class Profiles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    engine: dict[str, EngineProfile]
    weights: dict[str, WeightsProfile]
    prompted: Prompted
    embedding: dict[str, EmbeddingProfile] = {}

    def engine_named(self, name: str) -> EngineProfile:
        """Return an engine's profile; StartupError lists the known names."""
        if name not in self.engine:
            raise StartupError(f"unknown engine profile {name!r}; known: {', '.join(sorted(self.engine))}")
        return self.engine[name]

    def for_weights(self, repository: str) -> WeightsProfile:
        """Return the profile of a published model's weights."""
        for profile in self.weights.values():
            if _any_fits(profile.repositories, repository):
                return profile
        return WeightsProfile()


@cache
def profiles() -> Profiles:
    """Return the packaged profiles."""
    read = tables.read("profiles.toml")
    return msgspec.convert({**read, "engine": tables.built(read["engine"])}, Profiles)
