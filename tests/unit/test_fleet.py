"""The deployments of a settings file: what is built, what is kept, and what becomes of the rest."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from hanlin.catalogue.models import Need
from hanlin.engines.engine import Engine
from hanlin.engines.profiles import EngineProfile, profiles
from hanlin.engines.server import ServerEngine
from hanlin.errors import StartupError
from hanlin.service import fleet as fleet_module
from hanlin.service.deployments import serving
from hanlin.service.fleet import Fleet, Member, assemble, learned, retire, stated
from hanlin.service.guests import with_guests
from hanlin.service.planning import asked, plan_for
from hanlin.settings import DeploymentRow, PriceRow, RouteRow, Settings
from hanlin.testing import HANG, ScriptedEngine, says
from hanlin.types import Served
from tests.values import LIMIT_S, catalogue_of, model, request, route_of, routed_call, server_of, whole

URL = "http://127.0.0.1:9/v1"
CATALOGUE = catalogue_of(
    model(aliases=("qwen-plus-latest",)),
    model("qwen-max"),
    model("qwen-vl-max", needs=("image",)),
    model("text-embedding-v4", endpoint="embeddings"),
    needs={"image": Need("image", "its callers send images", "其用户会发送图片")},
)
KEYS = {"KEY": "sk-1"}


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


def row(name: str = "gpu", **fields: Any) -> DeploymentRow:
    where = {} if "engine" in fields or "upstream" in fields else {"url": URL}
    return DeploymentRow(**{"name": name, **where, **fields})


def no_start(row: DeploymentRow) -> tuple[Engine, EngineProfile]:
    raise AssertionError(f"{row.name} was started")


def fleet_of(
    *rows: DeploymentRow,
    routes: tuple[RouteRow, ...] = (),
    before: Fleet | None = None,
    environment: Mapping[str, str] = KEYS,
    start: fleet_module.Start = no_start,
) -> Fleet:
    settings = Settings(deployment=rows, route=routes, queue_limit=7)
    return assemble(stated(settings, CATALOGUE, environment), settings, CATALOGUE, start, before, environment)


def route(**fields: Any) -> RouteRow:
    return RouteRow(**{"names": ("qwen-plus",), "deployments": ("gpu",), **fields})


# --- what fits -------------------------------------------------------------------------------------------------------


def test_what_fits_is_complete() -> None:
    """Names of the operator's own may be served and routed, though the catalogue does not know them."""
    rows = (
        row("a", serves=("my-model", "qwen-*"), key_env="KEY"),
        row("b", names={"my-other": "theirs", "kimi/*": "*"}),
    )
    routes = (route(names=("my-other", "qwen-m*"), deployments=("a", "embedded"), fallbacks=("b",)),)

    found = stated(Settings(deployment=rows, route=routes), CATALOGUE, KEYS)

    assert [one.profile for one in found.rows] == ["openai", "openai"]
    assert (found.routes, found.guests) == (routes, ("my-model", "my-other"))


async def test_rows_of_the_file_go_before_those_of_the_flag() -> None:
    """A file is more particular than a flag; a server that does not say what it has is told of, and kept."""
    told: list[str] = []
    settings = Settings(deployment=(row("mine"),), upstream=("http://127.0.0.1:9/v1",))

    found = await learned(settings, CATALOGUE, told.append, {})

    assert [one.name for one in found.rows] == ["mine", "127-0-0-1-9"]
    assert found.routes == (RouteRow(("*",), ("127-0-0-1-9",), fallbacks=("embedded",)),)
    assert len(told) == 1


async def test_a_server_of_the_flag_that_is_away_for_a_moment_still_has_what_it_had() -> None:
    """A reload must not make it one whose models nobody knows: it would be sent names that it has never heard of."""
    settings = Settings(upstream=(URL,))
    [row] = stated(settings, CATALOGUE, {}).rows
    had = msgspec.structs.replace(row, serves=("qwen-plus",), model="q")
    before = Fleet((Member(had, "", server_of(ScriptedEngine(), row.name)),))
    told: list[str] = []

    found = await learned(settings, CATALOGUE, told.append, {}, before)

    assert (found.rows, found.routes[0].names, told) == ((had,), ("qwen-plus",), [])


def test_own_prices_are_a_part_of_what_is_in_force() -> None:
    """Those of the list stay beside them; a name that only the operator's server knows may have a price, too."""
    rows = (row("a", serves=("my-model", "qwen-*")),)
    prices = (PriceRow("a", 1.0, names=("my-*",)), PriceRow("embedded", 2.0))
    settings = Settings(deployment=rows, price=prices)

    found = assemble(stated(settings, CATALOGUE, KEYS), settings, CATALOGUE, no_start)

    assert found.prices is not None
    assert set(found.prices.own) == {"a", "embedded"}
    assert found.prices.version != fleet_of(*rows).prices.version  # type: ignore[union-attr]


def test_a_price_for_a_name_that_nobody_can_call_is_refused() -> None:
    """It would never be charged, and its writer would wait for it."""
    settings = Settings(deployment=(row("a"),), price=(PriceRow("a", 1.0, names=("qwen9-*",)),))

    with pytest.raises(StartupError, match=r"\[\[price\]\] 'a': 'qwen9-\*' matches no name"):
        stated(settings, CATALOGUE, KEYS)


# --- what is built ---------------------------------------------------------------------------------------------------


def test_a_row_becomes_a_deployment() -> None:
    """All that it says is in force."""
    [found] = fleet_of(
        row(serves=("qwen-*",), slots=3, context_tokens=4096, repository="Qwen/Qwen3-8B", profile="vllm", model="q")
    ).deployments

    assert (found.name, found.title, found.fingerprint, found.embedded) == ("gpu", "gpu", "gpu", False)
    assert (found.serves, found.context_tokens, found.repository) == (("qwen-*",), 4096, "Qwen/Qwen3-8B")
    assert (found.capacity.slots, found.capacity._queue_limit) == (3, 7)
    assert found.profile is profiles().engine["vllm"]
    assert isinstance(found.engine, ServerEngine)


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ({"model": "q"}, {"model": "q"}, True),
        ({"model": "q"}, {"model": "r"}, False),
        ({"model": "q"}, {"model": "q", "profile": "vllm"}, False),
        ({}, {}, False),
    ],
)
def test_the_same_model_on_the_same_software_is_a_replica(
    one: dict[str, Any], other: dict[str, Any], *, together: bool
) -> None:
    """Replicas answer alike; nothing else may be mixed without a word."""
    deployments = fleet_of(row("a", **one), row("b", **other)).deployments

    targets = serving(model(), CATALOGUE, deployments).route.targets

    assert [target.tier for target in targets] == ([0, 0] if together else [0, 1])


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"model": "q"}, "qwen-plus"),
        ({"model": "q", "serves": ("qwen-m*",)}, "qwen-max"),
        ({"model": "q", "serves": ("text-embedding-v4",)}, ""),
        ({"serves": ("text-embedding-v4", "qwen-max")}, "qwen-max"),
        ({"serves": ("qwen-vl-max", "qwen-plus-latest")}, "qwen-plus-latest"),
        ({"serves": ("my-model",)}, "my-model"),
        ({"names": {"qwen-max": "theirs"}}, "qwen-max"),
        ({"serves": ("qwen-*",)}, ""),
        ({}, ""),
        ({"upstream": "deepseek", "key_env": "KEY"}, ""),
    ],
)
def test_a_server_is_probed_by_a_name_that_it_surely_knows(fields: dict[str, Any], name: str) -> None:
    """One that refuses an unknown name is not sick, but would be taken for it; and rented ones cost money."""
    [found] = fleet_of(row(**fields)).deployments

    assert found.probe_model == name


def test_engines_are_started_after_servers_were_built_and_stand_in_the_order_of_the_file() -> None:
    """What a bad key or proxy keeps from being built must not leave processes behind that nobody owns."""
    started: list[str] = []

    def start(row: DeploymentRow) -> tuple[Engine, EngineProfile]:
        started.append(row.name)
        return ScriptedEngine(), profiles().engine["vllm"]

    rows = (row("own", engine="vllm", weights="Qwen/Qwen3-8B"), row("server"))
    [own, _] = fleet_of(*rows, start=start).deployments

    assert (own.name, own.runs, own.repository, own.probe_model) == ("own", "vllm/Qwen/Qwen3-8B", "Qwen/Qwen3-8B", "")
    with pytest.raises(StartupError, match=r"\[\[deployment\]\] 'server'"):
        fleet_of(rows[0], row("server", key_env="KEY"), environment={"KEY": "a\nb"}, start=start)
    assert started == ["own"]


# --- guests ----------------------------------------------------------------------------------------------------------


def test_a_name_of_the_operators_own_may_do_whatever_its_server_does() -> None:
    """The catalogue promises nothing for it, and forbids nothing."""
    found = fleet_of(row(serves=("my-model",), profile="vllm"))
    catalogue = with_guests(CATALOGUE, found.guests)

    call = asked(
        request(model="my-model", n=2, logprobs=True),
        catalogue,
        lambda model: serving(model, catalogue, found.deployments, found.routes),
    )
    plan = plan_for(call, call.route.targets[0])

    assert (plan.answering.served, plan.answering.deployment) == (Served.UPSTREAM, "gpu")
    assert "my-model" in catalogue.names()
    assert "my-model" not in CATALOGUE.names()


def test_without_guests_the_catalogue_is_the_same() -> None:
    """Nothing is copied for nothing."""
    assert with_guests(CATALOGUE, ()) is CATALOGUE


def test_a_route_may_mix_servers_and_the_embedded_weights() -> None:
    """`embedded` needs no row."""
    found = fleet_of(row(), routes=(route(deployments=("embedded", "gpu")),))

    assert [
        target.deployment.name for target in serving(model(), CATALOGUE, found.deployments, found.routes).route.targets
    ] == ["gpu"]


# --- a newer version -------------------------------------------------------------------------------------------------


def test_what_did_not_change_is_kept_as_it_is() -> None:
    """With its connections, its line, and what is known of its health."""
    before = fleet_of(row("a"), row("b"), row("c", key_env="KEY"))

    after = fleet_of(row("c", key_env="KEY"), row("a"), row("b", slots=2), before=before)

    kept = {one.name: one for one in before.deployments}
    assert [one.name for one in after.deployments] == ["c", "a", "b"]
    assert [one is kept[one.name] for one in after.deployments] == [True, True, False]
    assert after.deployments[2].engine is not kept["b"].engine


def test_who_serves_embedding_names_answers_them_too_and_is_kept_alike() -> None:
    """One row, one server, two endpoints."""
    before = fleet_of(row("a", serves=("text-embedding-v4",)), row("b", serves=("qwen-*",)))

    after = fleet_of(row("a", serves=("text-embedding-v4",)), before=before)

    assert [vectors.name for vectors in before.vectors] == ["a"]
    assert after.vectors[0] is before.vectors[0]


def test_a_new_key_makes_a_new_deployment() -> None:
    """The old one's is in every connection's head."""
    before = fleet_of(row(key_env="KEY"))

    after = fleet_of(row(key_env="KEY"), before=before, environment={"KEY": "sk-2"})

    assert after.deployments[0].engine is not before.deployments[0].engine


def test_an_engine_that_did_not_change_is_not_started_again() -> None:
    """Its weights took minutes to load."""
    own = row("own", engine="vllm", weights="Qwen/Qwen3-8B")
    before = fleet_of(own, start=lambda row: (ScriptedEngine(), profiles().engine["vllm"]))

    assert fleet_of(own, before=before, start=no_start).deployments[0] is before.deployments[0]


# --- what the settings no longer name --------------------------------------------------------------------------------


@pytest.fixture
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "_IDLE_CHECK_S", 0.0005)


@pytest.mark.usefixtures("_soon")
async def test_a_deployment_is_closed_after_its_open_calls() -> None:
    """Whoever is being answered is answered to the end."""
    goes_on = asyncio.Event()
    engine = ScriptedEngine([goes_on, *says("a")])
    server = server_of(engine, "gpu-1")
    call = asyncio.create_task(whole(routed_call(route_of(server))))
    await engine.called.wait()

    leaving = asyncio.create_task(retire(server, LIMIT_S))
    await asyncio.sleep(0.05)
    assert not engine.closed
    goes_on.set()
    await asyncio.wait_for(leaving, LIMIT_S)

    assert engine.closed
    assert (await call).choices[0].text == "a"


@pytest.mark.usefixtures("_soon")
async def test_a_call_that_was_given_to_it_in_the_last_moment_is_answered() -> None:
    """It was planned before the settings changed, and begins after."""
    engine = ScriptedEngine(says("a"))
    server = server_of(engine, "gpu-1")
    call = routed_call(route_of(server))

    leaving = asyncio.create_task(retire(server, LIMIT_S))
    await asyncio.sleep(0)
    assert not engine.closed
    assert (await whole(call)).choices[0].text == "a"
    await asyncio.wait_for(leaving, LIMIT_S)

    assert engine.closed


@pytest.mark.usefixtures("_soon")
async def test_there_is_an_end_to_the_waiting(caplog: pytest.LogCaptureFixture) -> None:
    """A call without an end would keep an engine for ever; the log says what was cut."""
    engine = ScriptedEngine([HANG])
    server = server_of(engine, "gpu-1")
    call = asyncio.create_task(whole(routed_call(route_of(server))))
    await engine.called.wait()

    with caplog.at_level(logging.WARNING):
        await retire(server, 0.01)

    assert engine.closed
    assert "deployment gpu-1: still has open calls after 0.01 s" in caplog.text
    call.cancel()
    await asyncio.wait((call,))


@pytest.mark.usefixtures("_soon")
async def test_the_end_of_the_service_closes_what_is_on_its_way_out() -> None:
    """Its process would outlive ours."""
    engine = ScriptedEngine([HANG])
    server = server_of(engine, "gpu-1")
    server.standing.call_begins(1, 0.0)

    leaving = asyncio.create_task(retire(server, LIMIT_S))
    await asyncio.sleep(0.01)
    leaving.cancel()
    await asyncio.wait((leaving,))

    assert engine.closed
