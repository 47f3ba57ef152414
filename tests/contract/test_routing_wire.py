"""Who answers which name, as callers see it: shares, loads, conversations, fallbacks, upstreams and their keys."""

import asyncio
import json
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import httpx2
import msgspec
import pytest
from openai import APIStatusError, OpenAI

from hanlin.catalogue import load
from hanlin.service.fleet import assemble, learned
from hanlin.settings import DeploymentRow, Settings
from hanlin.testing import FakeEngine, Rule
from tests.canned_server import Asked, CannedServer, whole
from tests.cli import hanlin
from tests.service import KEY, Service, ask, ask_streamed, toml_of

BUSY = Rule(contains="occupy", text="长" * 20_000, chunk_delay_s=0.02)
SILENT = Rule(contains="silence", first_delay_s=60.0)
DOWN = Rule(model="down", status=503)
UPSTREAM_KEY = "sk-planted-for-the-upstream"
CHOSEN = {"weighted": "qwen-plus", "least-load": "qwen-max", "prefix": "qwen-turbo"}


@pytest.fixture(scope="module")
def engines() -> Iterator[dict[str, FakeEngine]]:
    with ExitStack() as stack:
        rules = {"one": [BUSY, SILENT, DOWN], "two": [BUSY], "spare": []}
        yield {name: stack.enter_context(FakeEngine([*own, Rule(text=f"from {name}")])) for name, own in rules.items()}


@pytest.fixture(scope="module")
def service(engines: dict[str, FakeEngine], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    urls = {name: engine.base_url for name, engine in engines.items()}
    config = toml_of(
        {"name": "one", "url": urls["one"]},
        {"name": "two", "url": urls["two"]},
        {"name": "down", "url": urls["one"], "model": "down"},
        {"name": "spare", "url": urls["spare"], "context_tokens": 100},
        routes=[
            {"names": [CHOSEN["weighted"]], "deployments": ["one", "two"], "choose": "weighted", "weights": [3, 1]},
            {"names": [CHOSEN["least-load"]], "deployments": ["one", "two"], "choose": "least-load"},
            {"names": [CHOSEN["prefix"]], "deployments": ["one", "two"], "choose": "prefix"},
            {"names": ["qwen-flash"], "deployments": ["down"], "fallbacks": ["spare"]},
            {"names": ["qwen3-max"], "deployments": ["one", "two"]},
        ],
        keepalive_s=0.2,
        first_byte_s=1.5,
        probe_s=3600,
        retry_share=10,
    )
    with Service(tmp_path_factory.mktemp("home"), config=config) as service:
        yield service


@pytest.fixture(autouse=True)
def unasked(engines: dict[str, FakeEngine]) -> None:
    for engine in engines.values():
        engine.forget_requests()


@pytest.fixture
def client(service: Service) -> Iterator[OpenAI]:
    with service.client(timeout=60) as client:
        yield client


# --- choices ---------------------------------------------------------------------------------------------------------


async def test_weights_are_shares_of_the_calls(service: Service) -> None:
    """Three to one, as far as two hundred draws can show it: five standard deviations to either side."""
    async with service.async_client() as client:
        answers = await asyncio.gather(
            *(
                client.chat.completions.create(
                    model=CHOSEN["weighted"], messages=[{"role": "user", "content": f"question {number}"}]
                )
                for number in range(200)
            )
        )

    shares = Counter(answer.system_fingerprint for answer in answers)
    assert 119 <= shares["one"] <= 181
    assert shares["one"] + shares["two"] == 200


def test_the_idle_replica_is_preferred_to_the_busy_one(client: OpenAI, engines: dict[str, FakeEngine]) -> None:
    """A caller should not wait behind somebody else's long answer while a replica has nothing to do."""
    with ask_streamed(client, "occupy", model=CHOSEN["least-load"]) as stream:
        busy = next(iter(stream)).system_fingerprint
        others = {ask(client, model=CHOSEN["least-load"]).system_fingerprint for _ in range(10)}

    assert others == {"one", "two"} - {busy}


def test_a_conversation_stays_with_the_replica_that_has_read_it(client: OpenAI, engines: dict[str, FakeEngine]) -> None:
    """To read a long prompt again costs seconds; what came between must not change that."""
    messages: list[dict[str, str]] = []
    told = []
    for turn in range(8):
        messages.append({"role": "user", "content": f"turn {turn}: " + "春眠不觉晓，处处闻啼鸟。" * 60})
        answer = ask(client, model=CHOSEN["prefix"], messages=messages)
        messages.append({"role": "assistant", "content": answer.choices[0].message.content or ""})
        told.append(answer.system_fingerprint)
        ask(client, f"something else {turn}", model=CHOSEN["prefix"])

    assert len(set(told)) == 1


def test_conversations_are_spread_over_the_replicas(client: OpenAI) -> None:
    """Each stays where it is, and they are not all in one place."""
    told = {ask(client, f"conversation {number}", model=CHOSEN["prefix"]).system_fingerprint for number in range(40)}

    assert told == {"one", "two"}


# --- fallbacks -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_a_fallback_announces_itself(service: Service, stream: bool) -> None:
    """Another model is another answer: whoever looks can see it, and why."""
    response = post(service, "qwen-flash", "你是谁？", stream=stream)

    assert response.status_code == 200
    assert response.headers["x-hanlin-served-by"] == "upstream; spare"
    assert response.headers["x-hanlin-attempts"].startswith("down;fault=")
    assert response.headers["x-hanlin-attempts"].endswith(", spare")
    assert '"system_fingerprint":"spare"' in response.text
    assert '"system_fingerprint":"down"' not in response.text


def test_a_call_that_does_not_fit_the_fallback_is_refused(service: Service, engines: dict[str, FakeEngine]) -> None:
    """A smaller model with half of the prompt would answer another question."""
    response = post(service, "qwen-flash", "word " * 500)

    assert response.status_code == 503
    assert response.json()["error"]["code"] == "ModelUnavailable"
    assert response.headers["x-hanlin-attempts"].startswith("down;fault=")
    assert engines["spare"].requests() == []


# --- silence ---------------------------------------------------------------------------------------------------------


def test_a_failover_behind_keep_alive_comments_is_not_noticed(service: Service, engines: dict[str, FakeEngine]) -> None:
    """The headers have left by then, the words have not: the answer is the other's, and all of its words say so."""
    response = post(service, "qwen3-max", "silence", stream=True)

    comments = [line for line in response.text.splitlines() if line.startswith(":")]
    chunks = [
        msgspec.json.decode(line.removeprefix("data: "))
        for line in response.text.splitlines()
        if line.startswith("data: {")
    ]
    assert len(comments) >= 2
    assert set(comments) == {": keep-alive"}
    assert (
        "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]) == "from two"
    )
    spoken = [chunk for chunk in chunks if any(choice["delta"].get("content") for choice in chunk["choices"])]
    assert {chunk["system_fingerprint"] for chunk in (*spoken, chunks[-1])} == {"two"}
    assert response.headers["x-hanlin-attempts"] == "one"  # all that was known when they left
    asked = [each for each in engines["one"].requests() if each.body["messages"][-1]["content"] == "silence"]
    assert [request.state for request in asked] == ["cancelled"]
    assert response.text.endswith("data: [DONE]\n\n")


def post(service: Service, model: str, question: str, **fields: Any) -> httpx2.Response:
    return httpx2.post(
        f"{service.base_url}/chat/completions",
        headers={"authorization": f"Bearer {KEY}"},
        json={"model": model, "messages": [{"role": "user", "content": question}], **fields},
        timeout=60,
    )


# --- hanlin serve --upstream -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def upstreams() -> Iterator[tuple[FakeEngine, FakeEngine, FakeEngine]]:
    """A server with names that everybody knows, one with names of its own, and one with a single model."""
    with (
        FakeEngine([Rule(text="known")], models=["qwen-plus", "qwen-max"]) as known,
        FakeEngine([Rule(text="own")], models=["our-lawyer", "our-tutor"]) as own,
        FakeEngine([Rule(text="single")], models=["qwen3:8b"]) as single,
    ):
        yield known, own, single


@pytest.fixture(scope="module")
def front(
    upstreams: tuple[FakeEngine, FakeEngine, FakeEngine], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    flags = [flag for engine in upstreams for flag in ("--upstream", engine.base_url)]
    home = tmp_path_factory.mktemp("front")
    with Service(home, *flags, config=toml_of(probe_s=3600)) as service:
        yield service


@pytest.mark.parametrize(
    ("name", "answer", "sent"),
    [
        ("qwen-plus", "known", "qwen-plus"),
        ("qwen-max", "known", "qwen-max"),
        ("our-tutor", "own", "our-tutor"),
        ("qwen-flash", "single", "qwen3:8b"),
    ],
)
def test_servers_are_asked_what_they_have_and_get_the_names_they_know(
    front: Service, upstreams: tuple[FakeEngine, ...], name: str, answer: str, sent: str
) -> None:
    """One flag each is all that it takes."""
    for engine in upstreams:
        engine.forget_requests()
    with front.client() as client:
        assert ask(client, model=name).choices[0].message.content == answer

    met = [request.body["model"] for engine in upstreams for request in engine.requests()]
    assert met == [sent]


def test_names_of_a_servers_own_are_listed(front: Service) -> None:
    """What can be called can be found; nothing is promised for it but that somebody answers."""
    rows = {row["id"]: row for row in front.get("/compatible-mode/v1/models").json()["data"]}

    assert {"our-lawyer", "our-tutor"} <= rows.keys()
    assert rows["our-tutor"]["owned_by"] == "operator"
    assert rows["our-tutor"]["hanlin"]["served"] == "upstream"
    one = front.get("/compatible-mode/v1/models/our-tutor")
    assert one.json() == rows["our-tutor"]


@pytest.mark.parametrize(
    "command", [("limits", "set", "our-tutor", "--rpm", "1000"), ("keys", "create", "--model", "our-tutor")]
)
def test_names_of_a_servers_own_are_dealt_with_where_they_are_known(
    command: tuple[str, ...], front: Service, tmp_path: Path
) -> None:
    """The home's settings do not say them: whoever asks there is told where to ask."""
    owner = json.loads(hanlin(front.home, "keys", "create", "--role", "owner", "--json").stdout)["key"]

    at_home = hanlin(front.home, *command)
    there = hanlin(tmp_path, *command, "--json", "--url", front.url, HANLIN_ADMIN_KEY=owner)

    assert at_home.returncode == 1
    assert "add --url" in at_home.stderr
    assert there.returncode == 0, there.stderr
    told = json.loads(there.stdout)
    assert (told.get("names") or told["models"]) == ["our-tutor"]


def test_a_name_that_nobody_has_is_unknown(front: Service) -> None:
    """A guess must not be answered by whoever happens to be there."""
    with front.client() as client, pytest.raises(APIStatusError) as caught:
        ask(client, model="our-barber")

    assert (caught.value.status_code, caught.value.code) == (404, "model_not_found")


async def test_what_a_server_has_is_still_known_while_it_is_away() -> None:
    """A reload in such a moment must not have it asked for names that it never had."""
    catalogue, told = load(), list[str]()
    async with FakeEngine(models=["qwen3:8b"]) as engine:
        settings = Settings(embedded=False, upstream=(engine.base_url,))
        first = assemble(
            await learned(settings, catalogue, told.append, {}), settings, catalogue, nothing_to_start, None, {}
        )
    later = await learned(settings, catalogue, told.append, {}, first)

    assert [row.model for row in later.rows] == ["qwen3:8b"]
    assert assemble(later, settings, catalogue, nothing_to_start, first, {}).members == first.members
    assert told == []


def nothing_to_start(row: DeploymentRow) -> NoReturn:
    raise AssertionError(row)


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("deepseek", "export DEEPSEEK_API_KEY=…"),
        ("http://[", "is no address"),
    ],
)
def test_an_upstream_that_cannot_be_used_stops_the_start_with_the_remedy(tmp_path: Path, flag: str, words: str) -> None:
    """Before anything is fetched or listened on, and in one sentence."""
    service = Service(tmp_path / "home", "--upstream", flag, environment={"DEEPSEEK_API_KEY": ""})
    service.launch()
    assert service.process is not None
    try:
        assert service.process.wait(30) == 1
        said = service.output()
    finally:
        service.close()

    assert words in re.sub(r"\s+", " ", said)
    assert "Traceback" not in said


MODELS = msgspec.json.encode({"object": "list", "data": [{"id": "theirs", "object": "model"}]})
REPLY = msgspec.json.encode(
    {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "theirs",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "好"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
)


async def test_the_upstream_gets_its_own_key_and_never_the_callers(tmp_path: Path) -> None:
    """Keys are trusted to one place each: here the caller's, there the operator's, and none to the log."""

    async def answer(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(whole(200, MODELS if asked.path.endswith("/models") else REPLY, "Content-Type: application/json"))

    async with CannedServer(answer) as upstream:
        url = f"http://127.0.0.1:{upstream.address.port}/v1"
        service = Service(
            tmp_path / "home",
            *("--upstream", url, "--log-level", "debug"),
            config=toml_of(probe_s=3600),
            environment={"UPSTREAM_API_KEY": UPSTREAM_KEY},
        )
        await asyncio.to_thread(service.start)
        try:
            async with service.async_client() as client:
                answered = await client.chat.completions.create(
                    model="qwen-plus", messages=[{"role": "user", "content": "你是谁？"}]
                )
            pages = [
                (await asyncio.to_thread(service.get, path)).text
                for path in ("/health", "/ready", "/metrics", "/compatible-mode/v1/models")
            ]
            shown = [service.output(), *pages]
        finally:
            await asyncio.to_thread(service.close)

    assert answered.choices[0].message.content == "好"
    assert len(upstream.asked) == 2
    for asked in upstream.asked:
        head = asked.head.lower()
        assert f"authorization: bearer {UPSTREAM_KEY}" in head
        assert KEY not in asked.head + asked.body.decode()
    assert not any(key in text for text in shown for key in (UPSTREAM_KEY, KEY))
