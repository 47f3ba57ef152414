"""The service as a whole: whose key is good, and for how long that is believed; readiness; the cards of its names."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hanlin.errors import EngineUnavailable, InvalidApiKey, ModelNotFound
from hanlin.keys import hash_key
from hanlin.service import studio as studio_module
from hanlin.service.studio import Studio
from hanlin.settings import Settings
from hanlin.store.database import open_store
from hanlin.store.rows import KeyRow
from hanlin.testing import ScriptedEngine
from hanlin.types import Served
from tests.values import catalogue_of, deployment, model, request

KEY = "sk-a-key-of-this-test"
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


async def add_key(studio: Studio, key: str = KEY) -> KeyRow:
    return await studio.store.keys.add("test", hash_key(SECRET, key), "test")


# --- keys ------------------------------------------------------------------------------------------------------------


async def test_a_stored_key_is_its_owners(studio: Studio) -> None:
    """What a call is counted for later is the row, not the text."""
    row = await add_key(studio)

    assert await studio.authenticate(KEY) == row


@pytest.mark.parametrize("key", [None, ""])
async def test_a_call_without_a_key_is_told_which_line_is_missing(studio: Studio, key: str | None) -> None:
    """The vendor's words first, because clients match on them; then the command to run."""
    with pytest.raises(InvalidApiKey) as problem:
        await studio.authenticate(key)

    assert problem.value.message.startswith(
        "Incorrect API key provided. No key was sent: run `export DASHSCOPE_API_KEY="
    )


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("sk-somebody-elses", "…lses is not"),
        ("short", "The key that was sent is not"),
        ("\udcff" * 9, "The key that was sent is not"),
    ],
)
async def test_a_wrong_key_is_refused_without_being_repeated(studio: Studio, key: str, shown: str) -> None:
    """Four characters tell a person which of their keys it was; the whole text would end up in logs."""
    with pytest.raises(InvalidApiKey) as problem:
        await studio.authenticate(key)

    assert shown in problem.value.message
    assert key not in problem.value.message


async def test_a_key_of_another_secret_is_none_of_ours(studio: Studio, tmp_path: Path) -> None:
    """A copied database is worth nothing without its server's secret."""
    await add_key(studio)
    studio.secret = b"another"

    with pytest.raises(InvalidApiKey):
        await studio.authenticate(KEY)


async def test_an_answer_of_the_database_is_believed_for_a_while(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of calls a second must not each ask the database."""
    monkeypatch.setattr(studio_module, "_BELIEVED_S", 3600.0)
    row = await add_key(studio)
    await studio.authenticate(KEY)

    await studio.store.keys.revoke(row.id)

    assert await studio.authenticate(KEY) == row


async def test_a_key_that_was_revoked_elsewhere_stops_working_soon(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process may revoke it, and the operator expects it to be over. Here nothing is believed for any time."""
    monkeypatch.setattr(studio_module, "_BELIEVED_S", 0.0)
    row = await add_key(studio)
    await studio.authenticate(KEY)

    await studio.store.keys.revoke(row.id)

    with pytest.raises(InvalidApiKey):
        await studio.authenticate(KEY)


def test_soon_is_a_second() -> None:
    """Longer, and a revoked key would be a danger; shorter, and it would save nothing."""
    assert studio_module._BELIEVED_S == 1.0


async def test_a_new_key_is_not_kept_out_by_an_older_no(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong key that is then created works after the same short while."""
    monkeypatch.setattr(studio_module, "_BELIEVED_S", 0.0)
    with pytest.raises(InvalidApiKey):
        await studio.authenticate(KEY)

    await add_key(studio)

    assert (await studio.authenticate(KEY)).name == "test"


async def test_keys_do_not_fill_the_memory(studio: Studio) -> None:
    """Those that work are remembered for a second, never more of them than there is room for; guesses are not."""
    row = await add_key(studio)
    studio._known.update({str(number): (row, 0.0) for number in range(studio_module._KNOWN_KEYS + 10)})

    await studio.authenticate(KEY)
    with pytest.raises(InvalidApiKey):
        await studio.authenticate("sk-guess")

    assert len(studio._known) == 1


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
