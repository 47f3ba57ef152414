"""Everything that can go wrong behind Hanlin, as a table: what the caller gets, and who answered.

Each row breaks one deployment. Alone, it shows the one typed error (or the answer of a second try); with a healthy
replica behind it, who takes over. All of them run at once against one service, streamed and not, as chat and as text
completions.
"""

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from openai import APIError, APIStatusError, AsyncOpenAI

from hanlin.testing import FakeEngine, Rule, free_port
from tests.canned_server import CannedServer, whole
from tests.service import Service

CHUNKS = ("春眠", "不觉", "晓，", "处处", "闻啼", "鸟。")
TEXT = "".join(CHUNKS)
LIMIT_S = 3.0  # of first byte and silence: a healthy engine answers within milliseconds

QUESTION = "背一首诗"
MODES = ("whole", "stream", "text", "text-stream")
STREAMED = ("stream", "text-stream")


@dataclass(frozen=True)
class Row:
    """A fault: a rule of the fake engine, or an address where nothing good is.

    `alone` is the status and code that a call gets without a replica (200: a second try answered); `fault` is its word
    in `x-hanlin-attempts`; `mid_stream`: words have left by then, so that a stream is continued or ends with an error.
    `passed_on`: another deployment may do better.
    """

    fault: str
    alone: tuple[int, str | None]
    rule: dict[str, Any] = field(default_factory=dict)
    at: str = ""
    mid_stream: bool = False
    passed_on: bool = True
    tries: int = 1


FAILED = (500, "internal_error")
HOWS = ("cut", "stalled", "ended too early", "malformed", "error frame")
AWAY = (503, "ModelUnavailable")
SILENT = (500, "RequestTimeOut")

TABLE = {
    "refused": Row("unreachable", AWAY, at="refused", tries=2),
    "name unknown": Row("unreachable", AWAY, at="unknown", tries=2),
    "no TLS there": Row("unreachable", AWAY, at="tls", tries=2),
    "half-open": Row("stalled", SILENT, at="half-open"),
    "frozen": Row("stalled", SILENT, at="frozen"),
    "reset before the headers": Row("failed", FAILED, {"cut_after_chunks": -1, "reset": True}, tries=2),
    "closed before the headers": Row("failed", FAILED, {"cut_after_chunks": -1}, tries=2),
    "not HTTP": Row("failed", FAILED, {"garbage_after_chunks": -1}, tries=2),
    "400": Row("declined", (400, "invalid_parameter_error"), {"status": 400}, passed_on=False),
    "401": Row("refused", AWAY, {"status": 401}),
    "402": Row("refused", AWAY, {"status": 402}),
    "403": Row("refused", AWAY, {"status": 403}),
    "404": Row("refused", AWAY, {"status": 404}),
    "413": Row("declined", (400, "invalid_parameter_error"), {"status": 413}, passed_on=False),
    "422": Row("declined", (400, "invalid_parameter_error"), {"status": 422}, passed_on=False),
    "429": Row("busy", (429, "limit_requests"), {"status": 429, "headers": {"retry-after": "7"}}),
    "500": Row("failed", FAILED, {"status": 500}, tries=2),
    "502": Row("unavailable", AWAY, {"status": 502}),
    "503": Row("unavailable", AWAY, {"status": 503}),
    "529": Row("unavailable", AWAY, {"status": 529}),
    "500, once": Row("failed", (200, None), {"status": 500, "times": 1}),
    "slow first byte": Row("stalled", SILENT, {"first_delay_s": 60.0}),
    "silent before the first token": Row("stalled", SILENT, {"stall_after_chunks": 0}),
    "another content type": Row("failed", FAILED, at="html", tries=2),
    "a giant frame": Row("failed", FAILED, at="giant", tries=2),
    "an error frame first": Row("failed", FAILED, {"error_after_chunks": 0}, tries=2),
    "a malformed frame first": Row("failed", FAILED, {"garbage_after_chunks": 0}, tries=2),
    **{
        f"{name} after {count}": Row(fault, alone, {f"{how}_after_chunks": count}, mid_stream=True, tries=tries)
        for count in range(1, len(CHUNKS) + 1)
        for name, how, fault, alone, tries in (
            ("cut", "cut", "failed", FAILED, 2),
            ("stalled", "stall", "stalled", SILENT, 1),
            ("ended too early", "end", "failed", FAILED, 2),
            ("malformed", "garbage", "failed", FAILED, 2),
            ("error frame", "error", "failed", FAILED, 2),
        )
    },
}


def rows_of(mode: str) -> list[str]:
    """Return the rows that are tried in a mode. Texts take the same way as chat: of what is long, they try a part."""
    long = ("a giant frame", *(f"{how} after {count}" for how in HOWS for count in (2, 3, 4, 5)))
    return [case for case in TABLE if mode in ("whole", "stream") or case not in long]


CASES = [(case, mode) for mode in MODES for case in rows_of(mode)]


@dataclass(frozen=True)
class Outcome:
    """What a caller saw. `attempts` is the header; `error` the code of an error, also of one within a stream."""

    status: int
    code: str | None
    text: str
    attempts: str
    retry_after: str | None = None


def identity(case: str, mode: str, company: str) -> str:
    return f"{list(TABLE).index(case)}-{mode}-{company}"


def config(places: dict[str, str], healthy: str) -> str:
    """Return a `hanlin.toml` with a name of its own for each row, mode and company."""
    # Nearly all of these calls fail: a usual budget for second attempts would not last.
    tables = [
        "embedded = false",
        "probe_s = 3600",
        "retry_share = 10",
        f"first_byte_s = {LIMIT_S}",
        f"silence_s = {LIMIT_S}",
        f"connect_s = {LIMIT_S}",
    ]
    for case, mode in CASES:
        for company in ("alone", "two"):
            name = identity(case, mode, company)
            url = places[TABLE[case].at or "fake"]
            tables += ["[[deployment]]", f'name = "bad-{name}"', f'url = "{url}"', f'serves = ["{name}"]']
            tables += ['profile = "vllm"']
            if company == "two":
                tables += ["[[deployment]]", f'name = "good-{name}"', f'url = "{healthy}"', f'serves = ["{name}"]']
                tables += ['profile = "vllm"']
    return "\n".join(tables) + "\n"


GOING_ON = [
    Rule(contains=QUESTION + "".join(CHUNKS[:said]), text="".join(CHUNKS[said:])) for said in range(len(CHUNKS), 0, -1)
]
"""What an engine makes of a prompt that holds a part of the answer: the rest of it."""


def rules() -> list[Rule]:
    faults = [
        Rule(model=identity(case, mode, company), chunks=CHUNKS, **TABLE[case].rule)
        for case, mode in CASES
        for company in ("alone", "two")
        if not TABLE[case].at
    ]
    return [*GOING_ON, *faults, Rule(chunks=CHUNKS)]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Outcome]]:
    """Make all the calls of the table at once."""
    with contextlib.ExitStack() as stack:
        fake = stack.enter_context(FakeEngine(rules()))
        frozen = stack.enter_context(FakeEngine())
        healthy = stack.enter_context(FakeEngine([*GOING_ON, Rule(chunks=CHUNKS)]))
        silent = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
        yield asyncio.run(_all(tmp_path_factory.mktemp("faults"), fake, frozen, healthy, silent))


async def _all(
    home: Path, fake: FakeEngine, frozen: FakeEngine, healthy: FakeEngine, silent: socket.socket
) -> dict[str, Outcome]:
    html = whole(200, b"<html>maintenance</html>", "Content-Type: text/html")
    frame = b"data: " + b"x" * (17 * 1024 * 1024) + b"\n\n"
    giant = whole(200, frame, "Content-Type: text/event-stream")
    async with CannedServer(html) as pages, CannedServer(giant) as giants:
        places = {
            "fake": fake.base_url,
            "refused": f"http://127.0.0.1:{free_port()}/v1",
            "unknown": "http://no-such-host.invalid/v1",
            "tls": fake.base_url.replace("http://", "https://"),
            "half-open": f"http://127.0.0.1:{silent.getsockname()[1]}/v1",
            "frozen": frozen.base_url,
            "html": f"http://127.0.0.1:{pages.address.port}/v1",
            "giant": f"http://127.0.0.1:{giants.address.port}/v1",
        }
        service = Service(home / "home", config=config(places, healthy.base_url))
        await asyncio.to_thread(service.start)
        frozen.freeze()
        try:
            async with service.async_client(timeout=60) as client:
                names = [identity(case, mode, company) for case, mode in CASES for company in ("alone", "two")]
                found = await asyncio.gather(*(_call(client, name) for name in names))
        finally:
            frozen.thaw()
            await asyncio.to_thread(service.close)
    return dict(zip(names, found, strict=True))


async def _call(client: AsyncOpenAI, name: str) -> Outcome:
    is_text = "-text" in name
    raw = client.completions.with_raw_response if is_text else client.chat.completions.with_raw_response
    asked: dict[str, Any] = {"model": name, "stream": "stream-" in name}
    asked |= {"prompt": QUESTION} if is_text else {"messages": [{"role": "user", "content": QUESTION}]}
    try:
        response = await raw.create(**asked)
    except APIStatusError as problem:
        return _refusal(problem)
    attempts = response.headers["x-hanlin-attempts"]
    answer = response.parse()
    if not asked["stream"]:
        choice = answer.choices[0]
        return Outcome(200, None, (choice.text if is_text else choice.message.content) or "", attempts)
    text = ""
    try:
        async for chunk in answer:
            text += "".join((choice.text if is_text else choice.delta.content) or "" for choice in chunk.choices)
    except APIError as problem:
        return Outcome(200, str(problem.code), text, attempts)
    return Outcome(200, None, text, attempts)


def _refusal(problem: APIStatusError) -> Outcome:
    headers = problem.response.headers
    return Outcome(
        problem.status_code, problem.code, "", headers.get("x-hanlin-attempts", ""), headers.get("retry-after")
    )


@pytest.mark.parametrize(("case", "mode"), CASES)
def test_alone_a_fault_is_one_typed_error(outcomes: dict[str, Outcome], case: str, mode: str) -> None:
    """Whatever breaks, the caller is told once, with a status and a code that clients act on; never by silence."""
    row, found = TABLE[case], outcomes[identity(case, mode, "alone")]
    name = f"bad-{identity(case, mode, 'alone')}"

    if row.mid_stream and mode in STREAMED:
        # What has left stays; on a server that can continue, a second try goes on where it broke off.
        assert found.status == 200
        assert (found.text == TEXT and found.code is None) or (
            TEXT.startswith(found.text) and found.code == row.alone[1]
        )
        return
    assert (found.status, found.code) == row.alone
    assert found.text == (TEXT if found.status == 200 else "")
    assert found.attempts.count(f"{name};fault={row.fault}") == row.tries


@pytest.mark.parametrize(("case", "mode"), CASES)
def test_beside_a_replica_a_fault_is_not_noticed(outcomes: dict[str, Outcome], case: str, mode: str) -> None:
    """The whole answer comes, once, from whoever can give it; only a request that is wrong itself is refused."""
    row, found = TABLE[case], outcomes[identity(case, mode, "two")]
    bad, good = (f"{which}-{identity(case, mode, 'two')}" for which in ("bad", "good"))

    if not row.passed_on:
        assert (found.status, found.code) == row.alone
        return
    assert (found.status, found.code, found.text) == (200, None, TEXT)
    all_of_it = f"{bad};fault={row.fault}, {good}"
    if row.mid_stream and mode in STREAMED:
        # The headers leave with the first word, and that before anything is waited for: did the failure come with it?
        assert found.attempts in (bad, all_of_it)
    else:
        assert found.attempts == all_of_it


def test_a_busy_upstreams_wait_is_passed_on(outcomes: dict[str, Outcome]) -> None:
    """An honest 429 says when to come back, in the upstream's own words."""
    assert {outcomes[identity("429", mode, "alone")].retry_after for mode in MODES} == {"7"}
