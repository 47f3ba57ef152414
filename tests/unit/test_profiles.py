"""The packaged profiles: what each engine honours, and which weights need their identity said."""

import pytest

from hanlin.engines.profiles import EngineProfile, profiles
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
    with pytest.raises(StartupError, match=r"unknown engine profile 'vlm'; known: llama, modelstudio, openai, vllm"):
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
