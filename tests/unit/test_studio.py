"""The service as a whole: readiness; the cards of its names."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hanlin.errors import EngineUnavailable, ModelNotFound
from hanlin.service.studio import Studio
from hanlin.settings import Settings
from hanlin.store.database import open_store
from hanlin.testing import ScriptedEngine
from hanlin.types import Served
from tests.values import catalogue_of, deployment, model, request

SECRET = b"secret"


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Studio]:
    """A service with an empty database, started, without deployments."""
    catalogue = catalogue_of(model(aliases=("qwen-plus-latest",)), model("text-embedding-v4", endpoint="embeddings"))
    studio = Studio(Settings(), catalogue, await open_store(tmp_path / "hanlin.db"), SECRET)
    studio.starting = None
    yield studio
    await studio.close()


# --- readiness -------------------------------------------------------------------------------------------------------


def ready_engine() -> ScriptedEngine:
    return ScriptedEngine()


def loading_engine(why: str = "loading, 3 MiB so far") -> ScriptedEngine:
    return ScriptedEngine(why=why)


@pytest.mark.parametrize(
    ("engines", "why"),
    [
        ([ready_engine()], None),
        ([loading_engine(), ready_engine()], None),
        ([loading_engine("loading"), loading_engine("starting")], "loading"),
        ([], "there is no deployment"),
    ],
    ids=["one is ready", "one of two is ready", "none is ready", "there is none"],
)
async def test_the_service_is_ready_when_one_deployment_is(
    studio: Studio, engines: list[ScriptedEngine], why: str | None
) -> None:
    """Some names are answered then; otherwise the first reason is told."""
    studio.deployments = tuple(deployment(engine) for engine in engines)

    assert studio.why_not_ready() == why


async def test_a_service_that_starts_or_stops_is_not_ready(studio: Studio) -> None:
    """Whatever its engines say."""
    studio.deployments = (deployment(ready_engine()),)
    studio.starting = "fetching the weights: 12 %"
    assert studio.why_not_ready() == "fetching the weights: 12 %"

    studio.stopping = True
    assert studio.why_not_ready() == "shutting down"


async def test_calls_during_the_start_are_told_what_it_is_doing(studio: Studio) -> None:
    """503 with the reason, and not 404 for a name that will be answered in a minute."""
    studio.starting = "fetching the weights: 12 %"

    with pytest.raises(EngineUnavailable, match="fetching the weights: 12 %"):
        studio.call(request())


async def test_calls_during_the_stop_are_refused(studio: Studio) -> None:
    """Open calls are finished; new ones are for another server."""
    studio.deployments = (deployment(ready_engine()),)
    studio.stopping = True

    with pytest.raises(EngineUnavailable, match="the service is shutting down"):
        studio.call(request())


async def test_a_deployment_that_is_there_answers_while_others_still_start(studio: Studio) -> None:
    """A mapped server must not wait for the embedded engine's weights."""
    studio.deployments = (deployment(ready_engine(), embedded=False, serves=("*",)),)
    studio.starting = "fetching the weights: 12 %"

    assert studio.call(request()).answering.served is Served.UPSTREAM


# --- cards -----------------------------------------------------------------------------------------------------------


async def test_every_name_and_alias_has_a_card_with_what_answers_it(studio: Studio) -> None:
    """The list of models says for each what it is here; an alias has the card of its model under its own name."""
    studio.deployments = (deployment(ready_engine()),)

    cards = {card.name: card for card in studio.cards()}

    assert list(cards) == ["qwen-plus", "qwen-plus-latest", "text-embedding-v4"]
    assert cards["qwen-plus-latest"].model.name == "qwen-plus"
    assert [card.serving.served for card in cards.values()] == [
        Served.STAND_IN,
        Served.STAND_IN,
        Served.UNAVAILABLE,
    ]


async def test_an_unknown_name_has_no_card(studio: Studio) -> None:
    """404, as for a call."""
    with pytest.raises(ModelNotFound):
        studio.card("gpt-5")


async def test_closing_the_service_closes_every_engine(tmp_path: Path) -> None:
    """No child process outlives it."""
    engines = [ready_engine(), loading_engine()]
    studio = Studio(Settings(), catalogue_of(), await open_store(tmp_path / "hanlin.db"), SECRET)
    studio.deployments = tuple(deployment(engine) for engine in engines)

    await studio.close()

    assert [engine.closed for engine in engines] == [True, True]
