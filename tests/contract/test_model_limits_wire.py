"""Limits of models as callers meet them: one running service, limits that are set while it runs."""

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from hanlin.catalogue.loading import load
from hanlin.service.model_limits import remove_limits, set_limits
from hanlin.store.rows import Budget, Limits
from hanlin.testing import FakeEngine, Rule
from tests.accounts import in_store, made, row_of
from tests.contract.test_accounting_wire import ask, client_of, post, refused
from tests.service import Service, toml_of

TAKES_EFFECT_S = 1.5  # a change counts within a second


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with FakeEngine([Rule(text="你好，世界")]) as engine:
        config = toml_of(
            {
                "name": "fake",
                "url": engine.base_url,
                "profile": "vllm",
                "serves": ["qwen*", "text-embedding-*", "mine"],
            },
            probe_s=3600,
        )
        with Service(tmp_path_factory.mktemp("home"), config=config) as service:
            yield service


@pytest.fixture
def service(running: Service) -> Iterator[Service]:
    """The one service of these tests. Limits of the test before are gone when the first of its own counts."""
    yield running
    for row in in_store(running, lambda store: store.limits.all()):
        in_store(running, partial(remove_limits, catalogue=load(), pattern=row.pattern))


def limit(service: Service, pattern: str, **limits: Any) -> None:
    in_store(service, lambda store: set_limits(store, load(), pattern, lambda _: Limits(**limits)))
    time.sleep(TAKES_EFFECT_S)


def test_a_models_limit_counts_for_all_callers_together_and_for_each_name_apart(service: Service) -> None:
    """A pattern gives each of its names its own; the refusal says whose limit it was."""
    limit(service, "qwen-*", rpm=2)
    keys = [made(service)[0] for _ in range(3)]
    for key in keys[:2]:
        ask(service, key)

    refusal = refused(service, keys[2])

    assert (refusal.status_code, refusal.code) == (429, "limit_requests")
    assert "The model 'qwen-plus', all callers together, may make 2 calls a minute" in refusal.message
    assert ask(service, keys[2], model="qwen-max").choices
    assert ask(service, keys[2], model="qwen3-max").choices


def test_an_alias_counts_as_its_model(service: Service) -> None:
    """Twice the limit for whoever knows two names would be no limit."""
    limit(service, "qwen-flash", rpm=1)
    ask(service, model="qwen-flash-2025-07-28")

    assert "'qwen-flash'" in refused(service, made(service)[0], model="qwen-flash").message


def test_the_headers_tell_of_the_tightest_limit(service: Service) -> None:
    """Whoever paces itself by them must not run into the other one."""
    limit(service, "qwen-turbo", rpm=3)
    loose, _ = made(service, limits=Limits(rpm=100))
    tight, _ = made(service, limits=Limits(rpm=1))

    def told(key: str) -> tuple[str, str]:
        headers = (
            client_of(service, key)
            .chat.completions.with_raw_response.create(
                model="qwen-turbo", messages=[{"role": "user", "content": "你好"}]
            )
            .headers
        )
        return headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"]

    assert told(loose) == ("3", "2")
    assert told(tight) == ("1", "0")


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("text-embedding-v4", "/v1/embeddings"),
        ("qwen-coder-turbo", "/v1/completions"),
        ("*", "/compatible-mode/v1/chat/completions"),
    ],
)
def test_every_surface_is_limited(service: Service, pattern: str, path: str) -> None:
    """There is no way around it."""
    limit(service, pattern, concurrency=0)

    assert post(service, path, made(service)[0]).status_code == 429


def test_a_models_budget_counts_what_all_have_spent(service: Service) -> None:
    """Also what was spent before it was set, by an alias as well."""
    limit(service, "qwen-long", rpm=1)  # when this one counts, those of the test before do no more
    row_of(service, ask(service, model="qwen-coder-plus-2024-11-06").id.removeprefix("chatcmpl-"))
    limit(service, "qwen-coder-plus", budget=Budget(1, "CNY", "total"))

    refusal = refused(service, made(service)[0], model="qwen-coder-plus")

    assert refusal.code == "insufficient_quota"
    assert "The model 'qwen-coder-plus', all callers together," in refusal.message
    assert " 0 CNY are spent" not in refusal.message


def test_a_limit_that_is_gone_holds_nobody_any_more(service: Service) -> None:
    """Within a second, as it came; what is free of a pattern by name never was held."""
    limit(service, "qwen3-*", rpm=0)
    limit(service, "qwen3-max")
    assert ask(service, model="qwen3-max").choices
    assert refused(service, made(service)[0], model="qwen3-32b").status_code == 429

    in_store(service, lambda store: remove_limits(store, load(), "qwen3-*"))
    time.sleep(TAKES_EFFECT_S)

    assert ask(service, model="qwen3-32b").choices
