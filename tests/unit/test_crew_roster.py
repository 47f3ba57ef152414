"""What answers, as workers adopt it: every name gets from them what it gets from the main process."""

import dataclasses
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, cast

import pytest

from hanlin.catalogue import load
from hanlin.engines.profiles import profiles
from hanlin.routing.capacity import Capacity
from hanlin.service.crew.engines import RemoteEngine
from hanlin.service.crew.line import Line
from hanlin.service.crew.messages import Adopted, ProcessState, Pulse, Roster, decode_heard, encode
from hanlin.service.crew.places import SharedCapacity
from hanlin.service.crew.roster import Adopter, pulse, roster
from hanlin.service.deployments import Deployment
from hanlin.service.embedding_planning import EmbeddingDeployment
from hanlin.service.fleet import assemble, stated
from hanlin.service.studio import Studio
from hanlin.settings import DeploymentRow, RouteRow, Settings
from hanlin.store.database import open_store
from hanlin.testing import ScriptedEngine

WORKERS = 4
PROFILE = profiles().engine["vllm"]
BIG = DeploymentRow(name="big", url="http://big/v1", serves=("qwen-plus", "text-embedding-v4"), slots=64)
TINY = DeploymentRow(name="tiny", url="http://tiny/v1", serves=("qwen-max",), slots=2)
GPU = DeploymentRow(
    name="gpu", engine="vllm", weights="Qwen/Qwen3-8B", executable="vllm", serves=("qwen3-*", "of-my-own"), slots=9
)
ROUTE = RouteRow(names=("qwen-turbo",), deployments=("big", "embedded"))


class FakeLine:
    """Remembers what it was told to say."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def tell(self, message: object) -> None:
        self.told.append(message)


@dataclasses.dataclass
class Pair:
    """A main process' studio and a worker's."""

    main: Studio
    worker: Studio
    adopter: Adopter
    line: FakeLine
    version: int = 0

    def serve(self, *rows: DeploymentRow, routes: tuple[RouteRow, ...] = ()) -> None:
        """Have the main process serve by another version of the settings, and the worker adopt it."""
        settings = dataclasses.replace(self.main.settings, deployment=rows, route=routes)
        fleet = assemble(
            stated(settings, self.main.own_catalogue, {"PATH": "/bin"}),
            settings,
            self.main.own_catalogue,
            lambda _: (ScriptedEngine(), PROFILE),
            self.main.fleet,
        )
        self.main.adopt(fleet)
        self.tell()

    def tell(self) -> None:
        """Tell the worker how everything is, by way of bytes."""
        self.version += 1
        heard = decode_heard(encode(roster(self.main, self.version)))
        assert isinstance(heard, Roster)
        self.adopter.roster(heard)
        states = [ProcessState(1, 42, "serving", 0)]
        pulsed = decode_heard(encode(pulse(self.main, states, self.main.starting)))
        assert isinstance(pulsed, Pulse)
        self.adopter.pulse(pulsed)

    def both(self, look: Callable[[Studio], Any]) -> tuple[Any, Any]:
        return look(self.main), look(self.worker)


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    settings, catalogue = Settings(workers=WORKERS, queue_limit=10), load()
    main = Studio(settings, catalogue, await open_store(tmp_path / "hanlin.db"), b"secret")
    worker = Studio(settings, catalogue, await open_store(tmp_path / "hanlin.db"), b"secret")
    line = FakeLine()
    adopter = Adopter(worker, cast(Line, line), tmp_path / "socket", 2, WORKERS)
    yield Pair(main, worker, adopter, line)
    await adopter.close()
    await main.close()
    await worker.close()


def own_weights(**fields: Any) -> Deployment:
    basics: dict[str, Any] = {
        "name": "small",
        "title": "Small-0.5B Q4",
        "fingerprint": "small@0123456789ab",
        "engine": ScriptedEngine(),
        "profile": profiles().engine["llama"],
        "capacity": Capacity(4, 4),
        "embedded": True,
        "thinking": "prompted",
        "context_tokens": 4096,
        "fills_gaps": True,
    }
    return Deployment(**(basics | fields))


def own_vectors() -> EmbeddingDeployment:
    return EmbeddingDeployment(
        name="e5",
        title="E5 small",
        fingerprint="e5@0123456789ab",
        engine=cast(Any, ScriptedEngine()),
        capacity=Capacity(4, 4),
        embedded=True,
        repository="intfloat/multilingual-e5-small",
        tells_apart=True,
        fits=True,
    )


def answers(studio: Studio) -> list[tuple[str, str, str, str]]:
    """Return what answers each name, and how it relates to it."""
    found = []
    for card in studio.cards():
        serving = card.serving
        by = serving.deployment.fingerprint if serving.deployment is not None else ""
        route = getattr(serving, "route", None)
        targets = [] if route is None else [(one.deployment.name, one.tier, one.fallback) for one in route.targets]
        found.append((card.name, str(serving.served), by, f"{serving.why} {targets}"))
    return found


async def test_every_name_gets_from_a_worker_what_it_gets_from_the_main_process(pair: Pair) -> None:
    """Servers elsewhere, engines on this machine, routes, names of the operator's own, and what stands in."""
    pair.main.starting = None
    pair.main.deployments = (own_weights(),)
    pair.main.embedding_deployments = (own_vectors(),)
    pair.serve(BIG, TINY, GPU, routes=(ROUTE,))

    main, worker = pair.both(answers)
    assert main == worker
    assert pair.worker.catalogue.find("of-my-own") is not None
    facts = [one.name for one in dataclasses.fields(Deployment) if one.name not in ("engine", "capacity", "standing")]
    main, worker = pair.both(lambda studio: [[getattr(one, name) for name in facts] for one in studio.deployments])
    assert main == worker
    assert pair.line.told == [Adopted(1)]
    assert pair.adopter.adopted.is_set()


async def test_a_worker_is_as_ready_as_the_main_process(pair: Pair) -> None:
    """Whoever asks for readiness, or for a model, may have come to any of them."""

    def state(studio: Studio) -> Any:
        rows = [(one.name, studio.state(one)) for one in studio.deployments]
        return studio.why_not_ready(), studio.vectors_coming, rows, studio.troubles()

    engine = ScriptedEngine(why="loading, 3 MiB so far")
    pair.main.starting, pair.main.vectors_coming = "fetching small, 40%", "e5 comes after the chat model"
    pair.tell()
    assert pair.both(state)[0] == pair.both(state)[1]
    assert pair.worker.why_not_ready() == "fetching small, 40%"

    pair.main.starting = None
    pair.main.deployments = (own_weights(engine=engine),)
    pair.tell()
    assert pair.both(state)[0] == pair.both(state)[1]
    assert pair.worker.why_not_ready() == "loading, 3 MiB so far"

    engine.why = None
    pair.tell()
    assert pair.both(state)[0] == pair.both(state)[1]
    assert pair.worker.why_not_ready() is None
    assert pair.worker.processes == (ProcessState(1, 42, "serving", 0),)


async def test_places_are_divided_where_there_are_many_and_shared_where_there_are_few(pair: Pair) -> None:
    """A server is not asked for more at once than its row says, and one with two places is not cut in pieces."""
    pair.serve(BIG, TINY, GPU)

    big, tiny, gpu = (one.capacity for one in pair.worker.deployments)
    assert not isinstance(big, SharedCapacity)
    assert big.slots == 16
    assert isinstance(tiny, SharedCapacity)
    assert isinstance(gpu, SharedCapacity)
    assert (tiny.slots, gpu.slots) == (2, 9)
    assert [one.capacity.slots for one in pair.worker.embedding_deployments] == [16]


async def test_what_stays_the_same_keeps_its_health_and_its_calls(pair: Pair) -> None:
    """A change of one row must not make everything else unknown."""
    pair.main.deployments = (own_weights(),)
    pair.serve(BIG, TINY, GPU)
    before = {one.name: one for one in pair.worker.deployments}

    pair.serve(TINY, BIG, GPU)
    same = {one.name: one for one in pair.worker.deployments}
    assert all(same[name] is before[name] for name in ("big", "tiny", "gpu", "small"))

    pair.serve(BIG)
    assert [one.name for one in pair.worker.deployments] == ["big", "small"]
    assert pair.worker.deployments[0] is before["big"]
    assert isinstance(before["gpu"].engine, RemoteEngine)


async def test_weights_that_arrive_later_are_added(pair: Pair) -> None:
    """The embedding model comes behind everything else."""
    pair.serve(BIG)
    pair.main.embedding_deployments = (*pair.main.embedding_deployments, own_vectors())
    pair.tell()

    assert [one.name for one in pair.worker.embedding_deployments] == ["big", "e5"]
    again = pair.worker.embedding_deployments[1]
    pair.tell()
    assert pair.worker.embedding_deployments[1] is again


async def test_what_cannot_be_adopted_changes_nothing(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker's environment is its main process', unless somebody has meddled with it."""
    pair.serve(BIG)
    monkeypatch.setenv("HTTP_PROXY", "socks9://nowhere")

    pair.adopter.roster(roster_with_a_new_row(pair))

    assert [one.name for one in pair.worker.deployments] == ["big"]
    assert pair.line.told == [Adopted(1)]


def roster_with_a_new_row(pair: Pair) -> Roster:
    told = roster(pair.main, 2)
    assert told.wanted is not None
    wanted = dataclasses.replace(told.wanted, rows=(*told.wanted.rows, TINY))
    return Roster(2, wanted, told.managed, told.chats, told.vectors)
