"""The packaged profiles: what each engine honours, and which weights need their identity said."""

import pytest

from hanlin.engines.profiles import EngineProfile, ToolForm, profiles
from hanlin.errors import StartupError
from hanlin.types import Sampling

SAMPLING = set(Sampling.__struct_fields__) - {"stop_tokens", "max_completion_tokens"}
BOTH_LIMITS = {"max_completion_tokens"}
"""Only engines whose two limits are two take this one by its name."""

IDENTITY = "You are Qwen, created by Alibaba Cloud. 你是通义千问（Qwen），由阿里云研发。"


def test_the_embedded_engine_honours_every_sampling_parameter() -> None:
    """What is missing in its profile would be listed as ignored on every install."""
    llama = profiles().engine["llama"]

    assert set(llama.parameters) == SAMPLING
    assert all(llama.honours(name) for name in (*SAMPLING, "logprobs", "top_logprobs"))
    assert (llama.counts, llama.stop_tokens) == (True, "text")


@pytest.mark.parametrize("name", sorted(profiles().engine))
def test_profiles_name_only_parameters_that_there_are(name: str) -> None:
    """A slip of the pen would drop a parameter without a word."""
    assert set(profiles().engine[name].parameters) <= SAMPLING | BOTH_LIMITS


def test_an_engine_without_logprobs_honours_neither_of_their_names() -> None:
    """They are one capability with two parameters."""
    assert not EngineProfile(parameters={}).honours("logprobs")
    assert not EngineProfile(parameters={}).honours("top_logprobs")


def test_an_unknown_profile_stops_the_start_with_the_known_names() -> None:
    """A typing error in `hanlin.toml` is found at once."""
    with pytest.raises(StartupError, match=r"unknown engine profile 'vlm'; known: deepseek, llama, .*, vllm, zhipu"):
        profiles().engine_named("vlm")


@pytest.mark.parametrize(
    ("repository", "identity"),
    [
        ("Qwen/Qwen2.5-Coder-0.5B-Instruct", IDENTITY),
        ("Qwen/Qwen3-8B", IDENTITY),
        ("deepseek-ai/DeepSeek-R1", ""),
        ("", ""),
    ],
)
def test_only_qwens_weights_are_told_that_they_are_qwen(repository: str, identity: str) -> None:
    """They name another maker otherwise; other weights would be made to lie."""
    assert profiles().for_weights(repository).identity == identity


@pytest.mark.parametrize("name", sorted(profiles().engine))
def test_profiles_say_how_limits_travel(name: str) -> None:
    """Every call may carry one, so every engine has a name for it."""
    profile = profiles().engine[name]

    assert profile.honours("max_tokens")
    assert "auto" in profile.tool_choices
    assert all(least < most for least, most in profile.ranges.values())
    assert set(profile.ranges) <= set(profile.parameters)


@pytest.mark.parametrize(
    ("name", "keeps"),
    [("vllm", True), ("modelstudio", True), ("siliconflow", True), ("deepseek", False), ("moonshot", False)],
)
def test_a_budget_is_kept_by_name_or_where_a_prefix_may_hold_thoughts(name: str, keeps: bool) -> None:
    """A hosted service that continues a prefix would take thoughts in it for a part of the answer."""
    assert profiles().engine[name].can_limit_thinking is keeps


@pytest.mark.parametrize(
    ("name", "model", "on"),
    [
        ("moonshot", "kimi-k2.6", {"thinking": {"type": "enabled"}}),
        ("moonshot", "kimi-k3", {}),
        ("moonshot", "moonshot-v1-8k", None),
        ("siliconflow", "deepseek-ai/DeepSeek-V3.2", {"enable_thinking": True}),
        ("siliconflow", "Qwen/Qwen2.5-7B-Instruct", None),
        ("openai", "anything", None),
    ],
)
def test_only_models_that_can_be_told_are_told_to_think(name: str, model: str, on: dict[str, str] | None) -> None:
    """Others refuse the switch, or have another one."""
    switch = profiles().engine[name].switch_for(model)

    assert (switch.on if switch is not None else None) == on


@pytest.mark.parametrize(
    ("name", "form", "stops", "kept"),
    [
        ("openai", "named", 9, (True, True)),
        ("llama", "named", 9, (True, True)),
        ("lmstudio", "required", 9, (True, True)),
        ("lmstudio", "named", 9, (False, True)),
        ("zhipu", "required", 1, (False, True)),
        ("zhipu", "auto", 2, (True, False)),
        ("minimax", "none", 1, (True, False)),
    ],
)
def test_a_profile_says_what_it_keeps_only_nearly(
    name: str, form: ToolForm, stops: int, kept: tuple[bool, bool]
) -> None:
    """So that callers can be told what their answer does not honour."""
    profile = profiles().engine[name]

    assert (profile.takes_choice(form), profile.takes_stops(stops)) == kept
