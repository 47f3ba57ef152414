"""The profiles of engines and weights, read from `profiles.toml`."""

import re
import tomllib
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from typing import Any, Literal

import msgspec

from hanlin.errors import StartupError


class ThinkingSwitch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a server is told to think: what is sent to switch it `on` and `off`, and under which names limits travel."""

    on: dict[str, Any]
    off: dict[str, Any] = {}
    budget: str = ""
    effort: str = ""
    history: dict[str, Any] = {}


class Prefill(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a server is told to continue the assistant's last message: fields of that `message`, fields of the `body`."""

    message: dict[str, Any] = {}
    body: dict[str, Any] = {}


class EngineProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an engine's software honours, and under which names (see the comments of `profiles.toml`)."""

    parameters: dict[str, str]
    fixed: dict[str, Any] = {}
    defaults: dict[str, float] = {}
    counts: bool = False
    logprobs: bool = False
    top_logprobs_min: int = 0
    stop_tokens: Literal["text"] | None = None
    fills_max_tokens: bool = False
    thinks: Literal["maybe", "never"] = "maybe"
    prompts: bool = False
    completions: bool = False
    tools: bool = False
    shapes: tuple[Literal["json_object", "json_schema"], ...] = ()
    prefill: Prefill | None = None
    thinking: ThinkingSwitch | None = None
    max_tokens_covers: Literal["answer", "all"] = "all"

    def honours(self, name: str) -> bool:
        """Say whether the wire parameter `name` reaches the engine and has its effect there."""
        if name in ("logprobs", "top_logprobs"):
            return self.logprobs
        return name in self.parameters

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
        return self.can_think and (self.can_continue or (self.thinking is not None and bool(self.thinking.budget)))


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
            if any(fnmatchcase(repository, pattern) for pattern in profile.repositories):
                return profile
        return WeightsProfile()


@cache
def profiles() -> Profiles:
    """Return the packaged profiles."""
    text = resources.files("hanlin.engines").joinpath("profiles.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), Profiles)
