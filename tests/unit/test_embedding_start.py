"""Embedding names before, while and after their weights come; and what the settings would have answer them."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hanlin.catalogue import load
from hanlin.engines.llama import Machine
from hanlin.engines.weights import SourceUnreachable
from hanlin.errors import EngineUnavailable, ModelNotFound
from hanlin.home import Home
from hanlin.service import embedding_start, preview
from hanlin.service import start as starting
from hanlin.service.studio import Studio
from hanlin.settings import DeploymentRow, Settings
from hanlin.store.database import open_store
from hanlin.types import EmbeddingRequest, Served

REQUEST = EmbeddingRequest("text-embedding-v4", ("你好",))
MACHINE = Machine(8 * 2**30, 2)
OLLAMA: dict[str, Any] = {"name": "ollama", "url": "http://127.0.0.1:11434/v1"}


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Studio]:
    """A service that has started, but for its embedding weights."""
    studio = Studio(Settings(), load(), await open_store(tmp_path / "hanlin.db"), b"secret")
    studio.starting = None
    studio.vectors_coming = embedding_start.coming(embedding_start.row(studio.settings))
    yield studio
    await studio.close()


@pytest.mark.parametrize(
    ("settings", "served", "by"),
    [
        ({}, Served.STAND_IN, "multilingual-e5-small"),
        ({"embeddings": False}, Served.UNAVAILABLE, None),
        ({"embedded": False}, Served.UNAVAILABLE, None),
        ({"deployment": (DeploymentRow(**OLLAMA, serves=("text-embedding-*",)),)}, Served.UPSTREAM, "ollama"),
        ({"deployment": (DeploymentRow(**OLLAMA),)}, Served.UPSTREAM, "ollama"),
        ({"deployment": (DeploymentRow(**OLLAMA, model="qwen3:8b"),)}, Served.STAND_IN, "multilingual-e5-small"),
    ],
)
def test_what_a_start_would_have_answer_embedding_names(
    settings: dict[str, Any], served: Served, by: str | None, tmp_path: Path
) -> None:
    """`hanlin models` says it without a service."""
    cards = preview.cards(Home(tmp_path), Settings(**settings), load(), MACHINE)

    found = {card.name: card.serving for card in cards}["text-embedding-v4"]
    assert (found.served, found.deployment.name if found.deployment else None) == (served, by)


async def test_a_call_before_the_weights_are_here_is_told_to_come_back(studio: Studio) -> None:
    """A 404 would make programs give up on a name that is answered a minute later."""
    with pytest.raises(EngineUnavailable, match="multilingual-e5-small comes after the chat model"):
        studio.embedding(REQUEST)

    card = studio.card("text-embedding-v4")
    assert (card.serving.served, card.serving.why) == (
        Served.UNAVAILABLE,
        "multilingual-e5-small comes after the chat model",
    )


async def test_a_service_without_vectors_says_that_there_are_none(studio: Studio) -> None:
    """Nothing is coming, so nobody should wait."""
    studio.vectors_coming = ""

    with pytest.raises(ModelNotFound, match="Set embeddings = true"):
        studio.embedding(REQUEST)


async def test_weights_that_are_not_here_do_not_hold_up_a_start(studio: Studio, tmp_path: Path) -> None:
    """Chat is ready first."""
    weights = embedding_start.row(studio.settings)
    assert weights is not None

    assert not await embedding_start.add_if_here(Home(tmp_path), studio, weights)
    assert studio.embedding_deployments == ()


async def test_a_fetch_that_fails_is_told_and_tried_again(
    studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mirror may be away for a minute; the service must not end for it, nor need a restart."""
    told: list[str] = []
    results: list[Any] = [SourceUnreachable("the index", "no route"), tmp_path / "e5.gguf"]
    seen: list[str] = []

    async def fetch(*_: object) -> Path:
        seen.append(studio.vectors_coming)
        result = results.pop(0)
        if isinstance(result, Exception):
            raise result
        return Path(result)

    monkeypatch.setattr(starting, "fetch", fetch)
    monkeypatch.setattr(embedding_start, "_AGAIN_S", (0.0,))
    home = Home(tmp_path)
    home.run.mkdir(parents=True, exist_ok=True)
    weights = embedding_start.row(studio.settings)
    assert weights is not None

    await embedding_start.fetch_and_add(home, studio, weights, told.append)

    assert "could not be fetched; trying again in 0 s" in seen[1]
    assert told == [
        "fetching multilingual-e5-small for embeddings",
        "the index: no route",
        "multilingual-e5-small answers embedding names",
    ]
    assert studio.card("text-embedding-v4").serving.served is Served.STAND_IN
    assert studio.embedding(REQUEST).plan.dimensions == 1024
    assert studio.vectors_coming == ""
