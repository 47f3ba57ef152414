"""The profiles of engines and weights, read from `profiles.toml`."""

import tomllib
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from typing import Any, Literal

import msgspec

from hanlin.errors import StartupError


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

    def honours(self, name: str) -> bool:
        """Say whether the wire parameter `name` reaches the engine and has its effect there."""
        if name in ("logprobs", "top_logprobs"):
            return self.logprobs
        return name in self.parameters


class WeightsProfile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a family of weights needs said ahead of the caller's messages."""

    identity: str = ""
    default_system: str = ""
    repositories: tuple[str, ...] = ()


class Profiles(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    engine: dict[str, EngineProfile]
    weights: dict[str, WeightsProfile]

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
