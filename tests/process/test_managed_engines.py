"""GPU engines as processes, by their stand-in: started, crashed, killed, stopped, orphaned, misled, ended."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import pytest

from hanlin.engines.launches import orders_of
from hanlin.engines.managed import ManagedEngine, engine_profile
from hanlin.engines.supervisor import Exited, Ready
from hanlin.errors import EngineError, EngineUnavailable
from hanlin.settings import DeploymentRow
from hanlin.testing import Rule, wait_until
from hanlin.testing.gpu_server import VARIABLE, StandIn, install
from hanlin.types import ChatRequest, Message

WAIT_S = 30.0
LONG_S = 600.0
QUESTION = ChatRequest("qwen3-8b", (Message("user", "你好"),), stream=True)
ENDLESS = StandIn(rule=(Rule(text="喋" * 1000, chunk_delay_s=0.1),))

Start = Callable[..., ManagedEngine]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """Start engines on the stand-in; whatever a test leaves running ends with it."""
    programs = install(tmp_path / "programs")
    started: list[ManagedEngine] = []

    def begin(
        told: StandIn | None = None, *, row: Mapping[str, object] | None = None, **limits: float
    ) -> ManagedEngine:
        fields: dict[str, Any] = {"name": "gpu", "engine": "vllm", "weights": "Qwen/Qwen3-8B", **(row or {})}
        fields.setdefault("executable", str(programs / fields["engine"]))
        environment = {**os.environ, VARIABLE: (told or StandIn()).json()}
        orders = orders_of(
            DeploymentRow(**fields), logs=tmp_path / "logs", run=tmp_path / "run", environment=environment
        )
        patience = {"stall_s": LONG_S, "load_wait_s": WAIT_S, "grace_s": 5.0, **limits}
        engine = ManagedEngine(orders, engine_profile(orders), **patience)
        engine.start()
        started.append(engine)
        return engine

    yield begin
    for engine in started:
        await engine.close()


async def until(condition: Callable[[], Any]) -> Any:
    """Wait until a condition holds, and return what it gave."""
    async with asyncio.timeout(WAIT_S):
        while not (value := condition()):  # noqa: ASYNC110 (what a process does sets no event)
            await asyncio.sleep(0.01)
    return value


async def answer(engine: ManagedEngine) -> str:
    bursts = [burst async for burst in engine.generate(QUESTION)]
    return "".join(event.text for burst in bursts for event in burst)


def server_of(engine: ManagedEngine) -> psutil.Process:
    """Return the engine's own process: the keeper's child."""
    (server,) = psutil.Process(engine.supervisor.pid).children()
    return server


def tree_of(engine: ManagedEngine) -> list[psutil.Process]:
    """Return the keeper, the server and its worker."""
    keeper = psutil.Process(engine.supervisor.pid)
    tree = [keeper, *keeper.children(recursive=True)]
    assert len(tree) == 3
    return tree


def gone(processes: list[psutil.Process]) -> bool:
    return not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in processes)


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
async def test_an_engine_is_started_and_answers_those_who_know_its_key(start: Start, engine: str) -> None:
    """It waits for a token, not for an open port, and asks even this machine's users for a key."""
    managed = start(row={"engine": engine})
    assert managed.why_not_ready() == "starting"

    said = await answer(managed)

    assert said
    assert managed.why_not_ready() is None
    assert managed.trouble() is None
    assert b"401" in await ask_without_key(managed.port)
    assert not managed.orders.key_file.exists()


async def ask_without_key(port: int) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    said = await reader.read()
    writer.close()
    await writer.wait_closed()
    return said


async def test_two_engines_side_by_side_have_ports_of_their_own(start: Start) -> None:
    """Both are started at once, as a service does."""
    one, other = start(row={"name": "one"}), start(row={"name": "other", "engine": "sglang"})

    said = await asyncio.gather(answer(one), answer(other))

    assert all(said)
    assert one.port != other.port


async def test_none_of_our_secrets_reach_the_engine_and_its_own_stand_on_no_command_line(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights may bring code of strangers; and every user of the machine can list command lines."""
    monkeypatch.setenv("DASHSCOPE_API_KEY", "sk-secret")
    monkeypatch.setenv("HANLIN_API_KEY", "sk-secret")
    vllm, sglang = start(row={"name": "one"}), start(row={"name": "other", "engine": "sglang"})
    await asyncio.gather(answer(vllm), answer(sglang))

    for engine in (vllm, sglang):
        for process in tree_of(engine):
            assert "sk-secret" not in [*process.environ().values(), *process.cmdline()]
    key = server_of(vllm).environ()["VLLM_API_KEY"]
    assert all(key not in one.cmdline() for one in tree_of(vllm))
    assert "api_key='••••'" in sglang.orders.log_file.read_text()


async def test_an_engine_that_does_not_fit_the_card_says_so_and_is_tried_again(start: Start, tmp_path: Path) -> None:
    """The commonest failure there is: the reason and the remedy, and another try that may fare better."""
    managed = start(StandIn(fault="out-of-memory", lives=str(tmp_path / "lives"), faulty=1))

    await until(lambda: isinstance(managed.state, Exited))

    trouble = managed.trouble() or ""
    assert trouble.startswith("gpu: exited with code 1, starting again in 0.5 s")
    assert "CUDA out of memory" in trouble
    assert "set a smaller `context_tokens`" in trouble
    await until(lambda: not isinstance(managed.state, Exited))
    assert managed.trouble() == trouble, "it holds until the engine is ready again"
    assert await answer(managed)
    assert managed.trouble() is None
    assert "CUDA out of memory" in managed.orders.log_file.read_text()


async def test_an_engine_that_crashes_or_is_killed_is_started_again(start: Start, tmp_path: Path) -> None:
    """Its open calls end with one error, its workers with it, and its successor has another port and key."""
    managed = start(ENDLESS)
    await managed.supervisor.ready(WAIT_S)
    tree, port, server = tree_of(managed), managed.port, server_of(managed)
    bursts = managed.generate(QUESTION)
    await anext(bursts)

    server.kill()

    with pytest.raises(EngineError):
        async for _ in bursts:
            pass
    state = await until(lambda: managed.supervisor.last_exit)
    assert state.why == "was ended by SIGKILL"
    await managed.supervisor.ready(WAIT_S)
    assert gone(tree)
    assert managed.port != port
    assert managed.supervisor.restarts == 1


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "answering"])
async def test_an_engine_that_is_stopped_is_replaced(start: Start, busy: bool) -> None:
    """A process that is there and does nothing looks well from outside; whoever calls it waits for ever."""
    managed = start(ENDLESS, stall_s=1.0, probe_s=LONG_S if busy else 0.3)
    await managed.supervisor.ready(WAIT_S)
    tree, server = tree_of(managed), server_of(managed)
    bursts = managed.generate(QUESTION)
    if busy:
        await anext(bursts)

    server.suspend()

    state = await until(lambda: managed.supervisor.last_exit)
    assert state.why.startswith("gave no sign of life for ")
    await managed.supervisor.ready(WAIT_S)
    assert gone(tree)
    await bursts.aclose()


async def test_an_engine_that_loads_is_waited_for_as_long_as_it_gets_further(start: Start) -> None:
    """Hundreds of gigabytes take many minutes: no deadline fits all, but a line now and then shows progress."""
    managed = start(StandIn(loading_s=2.0), load_stall_s=1.0)

    assert await answer(managed)
    assert managed.supervisor.restarts == 0


async def test_an_engine_that_gets_no_further_is_given_up(start: Start) -> None:
    """Loading hangs as well: on a lock, on a card that is gone, on a network drive."""
    managed = start(StandIn(fault="hang"), load_stall_s=1.0)

    state = await until(lambda: managed.supervisor.last_exit)

    assert state.why == "made no progress while loading for 1 s"


@pytest.mark.parametrize(
    "told", [StandIn(), StandIn(fault="hang"), StandIn(fault="stubborn")], ids=lambda one: one.fault
)
async def test_closing_leaves_no_process(start: Start, told: StandIn) -> None:
    """One that is left would hold the card's memory, and the next start would fail for no visible reason."""
    managed = start(told, grace_s=0.3)
    await until(lambda: managed.orders.log_file.exists() and "Completed" in managed.orders.log_file.read_text())
    tree = tree_of(managed)

    await managed.close()

    assert gone(tree)


def test_no_engine_outlives_its_killed_service(tmp_path: Path) -> None:
    """A service that is killed tidies nothing up; neither the engine nor its workers may stay."""
    program = (
        "import asyncio, os, sys; from pathlib import Path\n"
        "from hanlin.engines.launches import orders_of; from hanlin.settings import DeploymentRow\n"
        "from hanlin.engines.managed import ManagedEngine, engine_profile\n"
        "async def main():\n"
        "    row = DeploymentRow(name='gpu', engine='vllm', weights='s/m', executable=sys.argv[1])\n"
        "    orders = orders_of(row, logs=Path(sys.argv[2]), run=Path(sys.argv[2]))\n"
        "    engine = ManagedEngine(orders, engine_profile(orders), stall_s=60, load_wait_s=60)\n"
        "    engine.start(); await engine.supervisor.ready(60); print('ready', flush=True); await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    vllm = install(tmp_path) / "vllm"
    service = subprocess.Popen([sys.executable, "-c", program, vllm, tmp_path / "logs"], stdout=subprocess.PIPE)
    assert service.stdout is not None
    assert service.stdout.readline() == b"ready\n"
    tree = psutil.Process(service.pid).children(recursive=True)
    assert len(tree) == 3

    service.send_signal(signal.SIGKILL)

    wait_until(lambda: gone(tree), "the engine to end with its service", WAIT_S)
    service.communicate()


@pytest.mark.parametrize(
    ("row", "told", "sentences"),
    [
        (
            {"arguments": ("--no-such-option", "1")},
            StandIn(),
            ("exited with code 2", "error: unrecognized arguments: --no-such-option 1", "correct `arguments`"),
        ),
        ({"executable": "/nowhere/vllm"}, StandIn(), ("/nowhere/vllm: no such program. Install vLLM into",)),
        (
            {"weights": "deepseek-ai/DeepSeek-V3.2"},
            StandIn(release="0.11.0"),
            ("could not start: deepseek-ai/DeepSeek-V3.2 needs vLLM 0.18.0 or newer", "is 0.11.0"),
        ),
    ],
    ids=["an unknown option", "no program", "an old release"],
)
async def test_what_an_operator_can_mend_is_said_in_a_sentence(
    start: Start, row: dict[str, object], told: StandIn, sentences: tuple[str, ...]
) -> None:
    """To the operator, to `hanlin doctor`, and to callers who ask why nothing answers."""
    managed = start(told, row=row, load_wait_s=0.0)

    await until(lambda: managed.trouble())

    assert all(sentence in (managed.trouble() or "") for sentence in sentences)
    with pytest.raises(EngineUnavailable, match="gpu: "):
        await answer(managed)
    assert not isinstance(managed.state, Ready)
