"""The settings file changes while the service runs: deployments and routes follow, and no stream notices."""

import asyncio
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from hanlin.cli.adopting import adopt
from hanlin.service.neighbours import KnownServer, find, read_models
from hanlin.testing import FakeEngine, Rule, free_port, wait_until
from tests.service import KEY, Service, ask, ask_streamed, toml_of

TAKEN_OVER = "settings reloaded"
REFUSED = "was not taken over"

CHUNKS = tuple(f"{number} " for number in range(50))
LONG = Rule(contains="long", chunks=CHUNKS, chunk_delay_s=0.03)

Row = Mapping[str, Any]


@pytest.fixture(scope="module")
def engines() -> Iterator[tuple[FakeEngine, FakeEngine]]:
    with FakeEngine([LONG, Rule(text="from one")]) as one, FakeEngine([LONG, Rule(text="from two")]) as two:
        yield one, two


@pytest.fixture(scope="module")
def rows(engines: tuple[FakeEngine, FakeEngine]) -> tuple[Row, Row]:
    one, two = engines
    return {"name": "one", "url": one.base_url}, {"name": "two", "url": two.base_url}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, rows: tuple[Row, Row]) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("home"), config=toml_of(*rows)) as service:
        yield service


@pytest.fixture
def service(running: Service, rows: tuple[Row, Row]) -> Service:
    """The one service of these tests, with both deployments in force and nothing asked yet."""
    reload(running, toml_of(*rows))
    return running


@pytest.fixture
def one(engines: tuple[FakeEngine, FakeEngine]) -> FakeEngine:
    engines[0].forget_requests()
    return engines[0]


@pytest.fixture
def two(engines: tuple[FakeEngine, FakeEngine]) -> FakeEngine:
    engines[1].forget_requests()
    return engines[1]


def reload(service: Service, config: str) -> None:
    """Exchange the file, and return when it is in force."""
    after(service, TAKEN_OVER, lambda: exchange(service, config))


def exchange(service: Service, config: str) -> None:
    service.configure(config)
    service.hup()


def after(service: Service, words: str, act: Callable[[], object]) -> str:
    """Do something, wait for a new line of output with these words, and return it."""
    seen = len(lines(service, words))
    act()
    wait_until(lambda: len(lines(service, words)) > seen, f"another line with {words!r}", 10)
    return lines(service, words)[-1]


def lines(service: Service, words: str) -> list[str]:
    return [line for line in service.output().splitlines() if words in line]


def answered(service: Service) -> str | None:
    with service.client() as client:
        return ask(client).system_fingerprint


# --- what is taken over ----------------------------------------------------------------------------------------------


def test_a_changed_file_is_taken_over_by_itself(service: Service, rows: tuple[Row, Row]) -> None:
    """Whoever edits the file should have to know nothing else."""
    route = {"names": ["qwen-plus"], "deployments": ["two"]}

    said = after(service, TAKEN_OVER, lambda: service.configure(toml_of(*rows, routes=[route])))

    assert answered(service) == "two"
    assert said.endswith("deployments: one, two")


def test_sighup_is_obeyed_whether_the_file_has_changed_or_not(service: Service, rows: tuple[Row, Row]) -> None:
    """Configuration tools send it as a matter of course, and wait for an answer."""
    after(service, TAKEN_OVER, service.hup)

    assert answered(service) == "one"
    reload(service, toml_of(rows[1]))
    assert answered(service) == "two"


def test_the_pages_for_operators_follow(service: Service, rows: tuple[Row, Row]) -> None:
    """A deployment that is gone must not be shown as one that is down."""
    reload(service, toml_of({**rows[0], "slots": 7}))

    assert service.states() == {"one": "ready"}
    assert service.metric("hanlin_deployment_slots", deployment="one") == 7
    assert service.metric("hanlin_deployment_slots", deployment="two") == 0
    assert 'deployment="two",hanlin_deployment_state' not in service.get("/metrics").text
    names = {row["hanlin"]["by"] for row in service.get("/compatible-mode/v1/models").json()["data"]}
    assert names == {"one", None}


def test_a_deployment_that_did_not_change_keeps_its_connections(
    service: Service, one: FakeEngine, rows: tuple[Row, Row]
) -> None:
    """A reload must cost nothing: no new handshakes, and no forgetting of who is ill."""

    def connections() -> set[int]:
        port = int(one.url.rpartition(":")[2])
        found = psutil.Process(service.pid).net_connections("tcp")
        return {each.laddr.port for each in found if each.raddr and each.raddr.port == port}

    answered(service)
    before = connections()

    reload(service, toml_of(rows[0]))
    answered(service)

    assert service.metric("hanlin_deployment_connections_open", deployment="one") == 1
    assert before
    assert connections() <= before  # those of deployments that tests before have removed may close meanwhile


def test_what_needs_a_restart_is_named(service: Service, rows: tuple[Row, Row]) -> None:
    """A setting that is silently not in force is worse than none."""
    said = after(service, TAKEN_OVER, lambda: service.configure(toml_of(*rows, queue_limit=3, probe_s=5)))

    assert "a restart is needed for: queue_limit, probe_s" in said


def test_a_changed_port_needs_a_restart(tmp_path: Path, rows: tuple[Row, Row]) -> None:
    """The port may stand in the file as well; here a flag would hide the change."""
    port = free_port()
    config = toml_of(rows[0], port=port)
    with Service(tmp_path / "home", config=config, port=port, port_by_flag=False) as service:
        said = after(service, TAKEN_OVER, lambda: service.configure(toml_of(rows[0], port=1234)))

        assert "a restart is needed for: port" in said
        assert answered(service) == "one"


async def test_what_the_doctor_writes_makes_a_waiting_service_ready(one: FakeEngine, tmp_path: Path) -> None:
    """The file is looked after before anything is ready, too: what keeps it from getting ready may be the file."""
    service = Service(tmp_path / "home", config=toml_of())
    service.launch()
    try:
        await asyncio.to_thread(wait_until, lambda: service.readiness() == 503, "the port", 30)
        why = service.get("/ready").json()["reason"]
        kind = KnownServer("vLLM", int(one.url.rpartition(":")[2]), "/v1/models", read_models(""), "/v1", "vllm")

        adopted = adopt(service.home / "hanlin.toml", await find([kind]))

        await asyncio.to_thread(service.wait_ready, 10)
        assert answered(service) == "vllm"
        assert one.requests()[-1].body["model"] == "fake"
    finally:
        await asyncio.to_thread(service.close)
    assert why == "there is no deployment"
    assert adopted.text.startswith("[[deployment]]")


# --- streams ---------------------------------------------------------------------------------------------------------


def test_a_stream_goes_on_across_reloads(service: Service, rows: tuple[Row, Row]) -> None:
    """An answer of minutes must outlive every edit that is made meanwhile."""
    with service.client() as client:
        stream = ask_streamed(client, "long")
        text, reloads = "", 0
        for number, chunk in enumerate(stream):
            text += "".join(choice.delta.content or "" for choice in chunk.choices)
            if number % 12 == 6:
                reload(service, toml_of(*rows[: 1 + reloads % 2], routes=[{"names": ["*"], "deployments": ["one"]}]))
                reloads += 1

    assert text == "".join(CHUNKS)
    assert reloads >= 4


def test_a_stream_on_a_deployment_that_is_removed_ends_whole(
    service: Service, one: FakeEngine, two: FakeEngine, rows: tuple[Row, Row]
) -> None:
    """Taking a server out of the file is how operators drain it."""
    with service.client() as client:
        stream = ask_streamed(client, "long")
        first = next(iter(stream))
        reload(service, toml_of(rows[1]))

        later = [answered(service) for _ in range(5)]
        text = "".join(chunk.choices[0].delta.content or "" for chunk in (first, *stream) if chunk.choices)

    assert later == ["two"] * 5
    assert text == "".join(CHUNKS)
    assert [request.state for request in one.requests()] == ["done"]
    assert len(two.requests()) == 5


def test_a_call_between_two_attempts_still_gets_its_answer(
    service: Service, one: FakeEngine, rows: tuple[Row, Row]
) -> None:
    """To be without a call for a moment is not to be done: a second try may be about to come."""
    reload(service, toml_of(rows[0]))
    one.rules([Rule(status=500, times=1), Rule(text="at last")])
    answers: list[str | None] = []

    def call() -> None:
        with service.client() as client:
            answers.append(ask(client).choices[0].message.content)

    try:
        calling = threading.Thread(target=call)
        calling.start()
        one.wait_for(lambda requests: requests[-1].state == "failed")
        reload(service, toml_of(rows[1]))
        calling.join()
    finally:
        one.rules([LONG, Rule(text="from one")])

    assert answers == ["at last"]


def test_no_call_fails_while_deployments_come_and_go(service: Service, rows: tuple[Row, Row]) -> None:
    """Nobody who calls can know when a file is edited."""
    over = threading.Event()

    def call() -> int:
        calls = 0
        with service.client() as client:
            while not over.is_set():
                ask(client)
                calls += 1
        return calls

    with ThreadPoolExecutor() as pool:
        calling = [pool.submit(call) for _ in range(4)]
        for turn in range(30):
            reload(service, toml_of(rows[turn % 2]))
        over.set()

    assert all(calls.result() > 0 for calls in calling)


# --- files that do not fit -------------------------------------------------------------------------------------------

GOOD = toml_of({"name": "one", "url": "http://127.0.0.1:9/v1"})
BAD = {
    "not TOML": ("[[deployment]\n", "not TOML"),
    "an unknown setting": ('colour = "red"\n', "unknown setting 'colour'"),
    "an unknown key of a deployment": (GOOD + "colour = 1\n", "colour"),
    "a value that does not fit": (GOOD + "slots = 0\n", "slots"),
    "a route to nowhere": (
        GOOD + '[[route]]\nnames = ["*"]\ndeployments = ["three"]\n',
        "there is no [[deployment]] 'three'",
    ),
    "a key that is not there": (GOOD + 'key_env = "NO_SUCH_KEY"\n', "export NO_SUCH_KEY=…"),
    "an upstream that nobody knows": (GOOD + 'upstream = "nobody"\n', "'nobody' is no known upstream"),
    "no address": (toml_of({"name": "one", "url": "http://["}), "[[deployment]] 'one'"),
    "no address of an upstream": (toml_of({"name": "one", "upstream": "ollama", "url": "http://["}), "'one'"),
    "no name": ("[[deployment]]\nurl = 'http://127.0.0.1:9/v1'\n", "name"),
    "not text": ("\x00\x01", "not TOML"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_changes_nothing_and_says_why(service: Service, case: str) -> None:
    """A typing error in a file must never take a running service down."""
    text, why = BAD[case]

    said = after(service, REFUSED, lambda: exchange(service, text))

    assert why in said
    assert re.search(r"hanlin\.toml", said)
    assert answered(service) == "one"
    assert set(service.states()) == {"one", "two"}


def test_after_a_bad_file_a_good_one_is_taken_over(service: Service, rows: tuple[Row, Row]) -> None:
    """The watch goes on after whatever it has seen."""
    after(service, REFUSED, lambda: exchange(service, "["))

    after(service, TAKEN_OVER, lambda: service.configure(toml_of(rows[1])))

    assert answered(service) == "two"


def test_a_file_that_is_gone_changes_nothing(service: Service, rows: tuple[Row, Row]) -> None:
    """Editors and deployments exchange files by removing and making them: in between there must be service, too."""
    file = service.home / "hanlin.toml"

    after(service, REFUSED, file.unlink)

    assert answered(service) == "one"
    reload(service, toml_of(*rows))


def test_a_file_is_read_when_it_is_whole(service: Service, rows: tuple[Row, Row]) -> None:
    """Half of a file may be a good one, with fewer deployments: what is still being written is left alone."""
    taken_over = len(lines(service, TAKEN_OVER))
    config = toml_of(*rows, routes=[{"names": ["qwen-plus"], "deployments": ["two"]}]).encode()

    with (service.home / "hanlin.toml").open("wb") as file:
        for start in range(0, len(config), 8):
            file.write(config[start : start + 8])
            file.flush()
            os.fsync(file.fileno())
            time.sleep(0.02)

    wait_until(lambda: len(lines(service, TAKEN_OVER)) > taken_over, "the reload")
    assert len(lines(service, TAKEN_OVER)) == taken_over + 1
    assert lines(service, TAKEN_OVER)[-1].endswith("deployments: one, two")


def test_a_key_never_shows(service: Service) -> None:
    """What is printed about settings ends in logs."""
    assert KEY not in service.output()
