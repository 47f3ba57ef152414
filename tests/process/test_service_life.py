"""The service as a process: its port, its home, its end. A fake engine answers behind it."""

import contextlib
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from openai import APIError

from hanlin.testing import FakeEngine, Rule, wait_until
from tests.service import KEY, Service, ask, ask_streamed, in_front_of

Start = Callable[..., Service]

QUESTION = [{"role": "user", "content": "你是谁？"}]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Start]:
    """Make services, each on a home of its own, that end with the test whatever happens in it."""
    services: list[Service] = []

    def make(*arguments: str, home: str = "", **options: Any) -> Service:
        services.append(Service(tmp_path / (home or f"home{len(services)}"), *arguments, **options))
        return services[-1]

    yield make
    for service in services:
        service.close()


def content_of(path: Path) -> bytes:
    """Return what stands in a file; nothing for folders, and for files that are gone: a service writes and removes."""
    with contextlib.suppress(IsADirectoryError, FileNotFoundError):
        return path.read_bytes()
    return b""


def refused(service: Service) -> str:
    """Launch a service that must end by itself with exit code 1, and return what it said."""
    service.launch()
    assert service.process is not None
    assert service.process.wait(30) == 1, service.output()
    return service.output()


def test_a_port_that_somebody_listens_on_is_refused_with_a_remedy(make: Start) -> None:
    """Two servers on one port by accident look like random failures."""
    with FakeEngine() as engine, socket.create_server(("127.0.0.1", 0)) as taken:
        service = make(config=in_front_of(engine), port=taken.getsockname()[1])

        said = refused(service)

        assert "--port N" in said


def test_a_port_that_another_hanlin_listens_on_is_refused_too(make: Start) -> None:
    """Whoever starts it twice by accident must be told, and the first must not suffer."""
    with FakeEngine() as engine:
        first = make(config=in_front_of(engine)).start()

        said = refused(make(config=in_front_of(engine), port=first.port))

        assert str(first.port) in said
        assert first.readiness() == 200


def test_one_home_is_not_served_twice(make: Start) -> None:
    """Two services on one database and one set of keys would undo each other's work."""
    with FakeEngine() as engine:
        first = make(home="home", config=in_front_of(engine)).start()

        said = refused(make(home="home", config=in_front_of(engine)))

        assert str(first.pid) in said


def test_two_homes_on_one_machine_do_not_disturb_each_other(tmp_path: Path) -> None:
    """A developer may try one version beside another."""
    with (
        FakeEngine([Rule(text="一")]) as one,
        FakeEngine([Rule(text="二")]) as two,
        Service(tmp_path / "a", config=in_front_of(one)) as first,
        Service(tmp_path / "b", config=in_front_of(two)) as second,
    ):
        answers = [ask(service.client()).choices[0].message.content for service in (first, second)]

        assert answers == ["一", "二"]


def test_a_killed_service_leaves_its_home_usable(make: Start) -> None:
    """A lock that outlives its process would need a person to remove it."""
    with FakeEngine() as engine:
        service = make(config=in_front_of(engine)).start()
        service.stop(signal.SIGKILL)

        service.start()

        assert service.readiness() == 200


def test_sigterm_finishes_open_streams_and_refuses_new_calls(make: Start) -> None:
    """A restart must not cut the answers that are being read."""
    with FakeEngine([Rule(text="一二三四五六七八", chunk_delay_s=0.25)], style="llama") as engine:
        service = make(config=in_front_of(engine)).start()
        stream = ask_streamed(service.client())
        first = next(iter(stream))
        ended: list[int] = []
        stopper = threading.Thread(target=lambda: ended.append(service.stop()))

        stopper.start()
        time.sleep(0.3)
        late = httpx2.post(
            f"{service.base_url}/chat/completions",
            headers={"authorization": f"Bearer {KEY}"},
            json={"model": "qwen-plus", "messages": QUESTION},
        )
        text = "".join(chunk.choices[0].delta.content or "" for chunk in (first, *stream) if chunk.choices)
        stopper.join()

        assert text == "一二三四五六七八"
        assert late.status_code == 503
        assert late.json()["error"]["code"] == "ModelUnavailable"
        assert ended == [0]


def test_streams_that_outlast_the_limit_do_not_keep_the_service_from_ending(make: Start) -> None:
    """Whoever stops a service must know when it will be gone."""
    with FakeEngine([Rule(stall_after_chunks=1)]) as engine:
        service = make(config=in_front_of(engine), environment={"HANLIN_SHUTDOWN_S": "0.5"}).start()
        stream = ask_streamed(service.client())
        next(iter(stream))

        code = service.stop(within_s=20)

        assert code == 0
        with pytest.raises(APIError, match="shut down"):
            list(stream)


def test_the_key_is_kept_as_a_hash_only_and_the_made_one_is_shown_once(make: Start) -> None:
    """Whoever reads the disk or the logs must not be able to call."""
    with FakeEngine() as engine:
        service = make(config=in_front_of(engine), environment={"DASHSCOPE_API_KEY": ""}).start()
        wait_until(lambda: "export DASHSCOPE_API_KEY=" in service.output(), "the banner")
        line = next(line for line in service.output().splitlines() if "export DASHSCOPE_API_KEY=" in line)
        key = line.partition("DASHSCOPE_API_KEY=")[2].split()[0]
        answer = ask(service.client(api_key=key))
        service.stop()

        service.start()

        assert answer.choices[0].message.content
        assert key not in service.output()
        assert not [path for path in service.home.rglob("*") if key.encode() in content_of(path)]


def test_the_key_for_containers_comes_before_the_one_of_programs(tmp_path: Path) -> None:
    """HANLIN_API_KEY is set by whoever deploys; DASHSCOPE_API_KEY may just happen to be there."""
    environment = {"HANLIN_API_KEY": "sk-of-the-deployment"}
    with (
        FakeEngine() as engine,
        Service(tmp_path / "home", config=in_front_of(engine), environment=environment) as service,
    ):
        statuses = [
            httpx2.get(f"{service.base_url}/models", headers={"authorization": f"Bearer {key}"}).status_code
            for key in ("sk-of-the-deployment", KEY)
        ]

        assert statuses == [200, 401]


def test_a_bad_setting_stops_the_start_with_its_place(make: Start) -> None:
    """A setting that is silently not in force is worse than none."""
    said = refused(make(config='colour = "red"\n'))

    assert "hanlin.toml" in said
    assert "colour" in said


def test_log_lines_are_json_when_asked_for(tmp_path: Path) -> None:
    """Containers' logs are read by machines."""
    with (
        FakeEngine() as engine,
        Service(tmp_path / "home", "--log-format", "json", config=in_front_of(engine)) as service,
    ):
        ask(service.client())

        def messages() -> list[str]:
            return [json.loads(line)["message"] for line in service.output().splitlines() if line.startswith("{")]

        # The line is written after the last byte has left: the caller may be here before it.
        wait_until(lambda: any("/chat/completions" in message for message in messages()), "the call's log line")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_weights_are_fetched_ends_the_start(make: Start, how: signal.Signals) -> None:
    """A download of a gigabyte must not be a trap; what it has is kept."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/simple"
        environment = {
            "PIP_INDEX_URL": address,
            "PIP_EXTRA_INDEX_URL": "",
            "PIP_FIND_LINKS": "",
            "PIP_CONFIG_FILE": os.devnull,
        }
        service = make("--small", environment=environment)
        service.launch()
        wait_until(lambda: "pip" in children(service), "the download", 30)

        code = service.stop(how, within_s=20)

        assert code == 0
        assert not [
            process for process in psutil.process_iter(["cmdline"]) if str(service.home) in str(process.info["cmdline"])
        ]


def children(service: Service) -> str:
    """Return the command lines of everything that a service has started."""
    assert service.process is not None
    return " ".join(
        " ".join(child.cmdline())
        for child in psutil.Process(service.pid).children(recursive=True)
        if child.is_running()
    )


def test_calls_while_weights_are_fetched_are_told_to_come_back(make: Start) -> None:
    """A 404 would tell a program to give up on a name that is there in a minute."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/simple"
        service = make("--small", environment={"PIP_INDEX_URL": address, "PIP_CONFIG_FILE": os.devnull})
        service.launch()
        wait_until(lambda: "pip" in children(service), "the download", 30)

        answer = httpx2.post(
            f"{service.base_url}/chat/completions",
            headers={"authorization": f"Bearer {KEY}"},
            json={"model": "qwen-plus", "messages": QUESTION},
        )
        ready = httpx2.get(f"{service.url}/ready")

        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert ready.status_code == 503
        assert "fetching" in ready.json()["reason"]


def test_probes_get_through_beside_hundreds_of_idle_connections(make: Start) -> None:
    """Clients keep pools of connections; a liveness probe that hangs restarts a healthy service."""
    with FakeEngine() as engine, contextlib.ExitStack() as idle:
        service = make(config=in_front_of(engine)).start()
        for _ in range(400):
            idle.enter_context(socket.create_connection(("127.0.0.1", service.port)))

        status = httpx2.get(f"{service.url}/ready", timeout=10).status_code

        assert status == 200


def test_a_name_can_be_listened_on(make: Start) -> None:
    """Whoever writes localhost means it."""
    with FakeEngine() as engine:
        service = make("--host", "localhost", config=in_front_of(engine)).start()

        assert ask(service.client()).choices[0].message.content
