"""The HTTP surface: paths, keys, statuses, headers, and what becomes of a call whose client leaves."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from hanlin.catalogue.loading import load
from hanlin.catalogue.models import Catalogue
from hanlin.errors import EngineFailed, EngineUnavailable
from hanlin.http.app import BASE, App
from hanlin.keys import hash_key
from hanlin.service.studio import Studio
from hanlin.settings import Settings
from hanlin.store.database import Store
from hanlin.store.rows import KeyRow
from hanlin.testing import HANG, ScriptedEngine, says
from hanlin.testing.scripted import Script
from hanlin.types import Event
from tests.http_peer import Peer
from tests.values import deployment

KEY = "sk-test-of-the-app"
SECRET = b"secret"
LIMIT_BYTES = 4096


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load()


NewApp = Callable[[Script], App]


class OneKey:
    """A store that knows one key."""

    async def find(self, key_hash: str) -> KeyRow | None:
        row = KeyRow(id="key-1", name="test", hash=hash_key(SECRET, KEY), hint="", created_at=datetime.now(UTC))
        return row if key_hash == row.hash else None

    @property
    def keys(self) -> "OneKey":
        return self


@pytest.fixture
def app_of(catalogue: Catalogue) -> NewApp:
    """Make applications in front of one scripted engine, with one key."""

    def make(script: Script) -> App:
        studio = Studio(Settings(max_body_bytes=LIMIT_BYTES), catalogue, cast(Store, OneKey()), SECRET)
        studio.deployments = (deployment(ScriptedEngine(script)),)
        studio.starting = None
        return App(studio)

    return make


def engine_of(app: App) -> ScriptedEngine:
    engine = app.studio.deployments[0].engine
    assert isinstance(engine, ScriptedEngine)
    return engine


async def answering(app: App) -> None:
    """Wait until the engine answers a call."""
    async with asyncio.timeout(10):
        await engine_of(app).called.wait()


def chat_call(path: str = f"{BASE}/chat/completions", key: str | None = KEY, **fields: Any) -> Peer:
    body = {"model": "qwen-plus", "messages": [{"role": "user", "content": "你好"}], **fields}
    headers = {"authorization": f"Bearer {key}"} if key is not None else {}
    return Peer(json.dumps(body).encode(), path=path, headers=headers)


def get(path: str, key: str | None = KEY) -> Peer:
    return Peer(method="GET", path=path, headers={"authorization": f"Bearer {key}"} if key is not None else {})


async def call(app: App, peer: Peer) -> Peer:
    async with asyncio.timeout(10):
        await peer.call(app)
    return peer


# --- chat ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/compatible-mode/v1/chat/completions", "/v1/chat/completions"])
async def test_a_chat_call_is_answered_on_the_vendors_path_and_on_openais(app_of: NewApp, path: str) -> None:
    """One line of a program changes, `base_url`, and either habit works."""
    peer = await call(app_of(says("你", "好")), chat_call(path))

    assert peer.status == 200
    assert peer.headers["content-type"] == "application/json"
    assert peer.json["choices"][0]["message"]["content"] == "你好"
    assert peer.json["id"] == f"chatcmpl-{peer.headers['x-request-id']}"


async def test_a_streamed_call_says_the_same_and_ends(app_of: NewApp) -> None:
    """spec §4.2: events, `[DONE]`, and the id of the headers in every chunk."""
    peer = await call(app_of(says("你", "好")), chat_call(stream=True, stream_options={"include_usage": True}))

    frames = [frame.removeprefix("data: ") for frame in peer.body.decode().split("\n\n")[:-1]]
    rows = [json.loads(frame) for frame in frames[:-1]]
    assert (peer.status, peer.headers["content-type"]) == (200, "text/event-stream;charset=UTF-8")
    assert frames[-1] == "[DONE]"
    assert "".join(row["choices"][0]["delta"]["content"] for row in rows[:-1]) == "你好"
    assert rows[-1]["usage"]["total_tokens"] == 12
    assert {row["id"] for row in rows} == {f"chatcmpl-{peer.headers['x-request-id']}"}
    assert peer.ended


@pytest.mark.parametrize("stream", [True, False])
async def test_an_answer_states_what_answered_and_what_was_ignored(app_of: NewApp, stream: bool) -> None:
    """A stand-in is never mistaken for the name, and nothing is dropped silently."""
    peer = await call(app_of(says("x")), chat_call(stream=stream, user="me", metadata={}, temperature=1))

    assert peer.headers["x-hanlin-served-by"] == "stand-in; small@0123456789ab"
    assert peer.headers["x-hanlin-ignored"] == "metadata, user"


async def test_the_list_of_what_was_ignored_has_a_bound(app_of: NewApp) -> None:
    """A caller may send any number of names, and clients give up on headers beyond a few kilobytes."""
    names: dict[str, Any] = {f"field_{number:03}": 1 for number in range(50)}

    peer = await call(app_of(says("x")), chat_call(**names | {"z" * 200: 1}))

    listed = peer.headers["x-hanlin-ignored"]
    assert listed.startswith("field_000, field_001, ")
    assert listed.endswith(", and 19 more")
    assert len(listed) < 3000


async def test_nothing_ignored_is_no_header(app_of: NewApp) -> None:
    """An empty header would have to be explained."""
    assert "x-hanlin-ignored" not in (await call(app_of(says("x")), chat_call())).headers


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_hangs_up_ends_its_engine_call(app_of: NewApp, stream: bool) -> None:
    """Tokens that nobody reads cost time that others wait for; a hang-up is no error of the service."""
    app = app_of([[Event(text="a")], HANG])
    peer = chat_call(stream=stream)
    task = asyncio.create_task(call(app, peer))
    await answering(app)

    peer.hang_up()
    await task

    assert (engine_of(app).running, engine_of(app).ended) == (0, 1)
    assert (app.open_calls, app.idle.is_set()) == (0, True)
    assert not peer.ended


# --- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
async def test_a_call_that_fails_before_its_first_word_has_its_true_status(app_of: NewApp, stream: bool) -> None:
    """SDKs retry by status and `Retry-After` (spec/surfaces.md §9)."""
    peer = await call(app_of([EngineUnavailable("loading", retry_after_s=7)]), chat_call(stream=stream))

    assert peer.status == 503
    assert peer.headers["content-type"] == "application/json"
    assert peer.headers["retry-after"] == "7"
    assert peer.json["error"]["code"] == "ModelUnavailable"
    assert peer.json["request_id"] == peer.headers["x-request-id"]


async def test_a_stream_that_fails_later_ends_with_one_error_frame(app_of: NewApp) -> None:
    """No `[DONE]` follows: SDKs raise for the frame, and the answer cannot be taken for whole."""
    peer = await call(app_of([[Event(text="half")], EngineFailed("died")]), chat_call(stream=True))

    last = json.loads(peer.body.decode().split("\n\n")[-2].removeprefix("data: "))
    assert peer.status == 200
    assert "(died)" in last["error"]["message"]
    assert b"[DONE]" not in peer.body
    assert peer.ended


async def test_an_unexpected_failure_is_a_500_that_tells_nothing_but_its_id(
    app_of: NewApp, caplog: pytest.LogCaptureFixture
) -> None:
    """The traceback is for the log; a client could learn paths and values from it."""
    peer = await call(app_of([ValueError("a value of ours")]), chat_call())

    assert peer.status == 500
    assert b"a value of ours" not in peer.body
    assert peer.json["error"]["message"].startswith("An internal error has occured")
    (record,) = [record for record in caplog.records if record.exc_info]
    assert peer.headers["x-request-id"] in record.message


async def test_a_call_that_must_not_be_repeated_says_so(app_of: NewApp) -> None:
    """The vendor answers it with a 500, which SDKs would repeat (spec/surfaces.md §9)."""
    turns = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]

    peer = await call(app_of(says("x")), chat_call(messages=turns))

    assert (peer.status, peer.headers["x-should-retry"]) == (500, "false")


@pytest.mark.parametrize("key", [None, "", "sk-wrong"])
@pytest.mark.parametrize(
    "make", [chat_call, lambda key: get(f"{BASE}/models", key), lambda key: get("/v1/models/x", key)]
)
async def test_without_a_working_key_nothing_is_told(
    app_of: NewApp, make: Callable[..., Peer], key: str | None
) -> None:
    """The key comes first: a stranger learns neither which models there are nor whether a body is valid."""
    peer = await call(app_of(says("x")), make(key=key))

    assert peer.status == 401
    assert peer.json["error"]["code"] == "invalid_api_key"
    assert peer.json["error"]["message"].startswith("Incorrect API key provided. ")


async def test_a_body_beyond_the_limit_is_refused(app_of: NewApp) -> None:
    """Spec §12: 400 `BadRequest.TooLarge`, not 413."""
    peer = await call(app_of(says("x")), chat_call(user="x" * LIMIT_BYTES))

    assert (peer.status, peer.json["error"]["code"]) == (400, "BadRequest.TooLarge")


@pytest.mark.parametrize(
    "path", ["/", "/api/v1/chat/completions", "/chat/completions", f"{BASE}/chat/completions/", BASE]
)
async def test_an_unknown_path_names_the_right_one(app_of: NewApp, path: str) -> None:
    """Users put `/api/v1` where `/compatible-mode/v1` is meant (spec/surfaces.md §9.6)."""
    peer = await call(app_of(says("x")), chat_call(path))

    assert peer.status == 404
    assert peer.json["error"]["message"] == (
        f"There is no {path} here: the base URL of programs ends with /compatible-mode/v1"
    )


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", f"{BASE}/chat/completions"), ("POST", "/v1/models"), ("DELETE", "/v1/models/x"), ("PUT", "/health")],
)
async def test_another_method_on_a_known_path_is_not_allowed(app_of: NewApp, method: str, path: str) -> None:
    """Spec §12 has the words."""
    peer = await call(app_of(says("x")), Peer(method=method, path=path))

    assert (peer.status, peer.json["error"]["message"]) == (405, f"Request method '{method}' is not supported.")


# --- models and health -----------------------------------------------------------------------------------------------


async def test_the_list_of_models_is_openais_with_our_statement_under_a_key_of_its_own(
    app_of: NewApp, catalogue: Catalogue
) -> None:
    """Four fields for SDKs; under `hanlin` what the name promises and what answers it here."""
    peer = await call(app_of(says("x")), get("/v1/models"))

    rows = {row["id"]: row for row in peer.json["data"]}
    assert peer.json["object"] == "list"
    assert list(rows) == list(catalogue.names())
    assert set(rows["qwen-plus"]) == {"id", "object", "created", "owned_by", "hanlin"}
    assert rows["qwen-plus"]["object"] == "model"
    assert rows["qwen-plus"]["hanlin"]["served"] == "stand-in"
    assert rows["qwen-plus"]["hanlin"]["by"] == "Small-0.5B Q4"
    assert all(row["hanlin"]["why"] for row in rows.values() if row["hanlin"]["served"] == "unavailable")


@pytest.mark.parametrize("path", ["/v1/models/kimi/kimi-k3", "/v1/models/kimi%2Fkimi-k3"])
async def test_one_model_is_found_also_when_its_name_holds_a_slash(app_of: NewApp, path: str) -> None:
    """Names of partner-direct models do; SDKs escape them, curl users don't."""
    peer = await call(app_of(says("x")), get(path))

    assert (peer.status, peer.json["id"]) == (200, "kimi/kimi-k3")


async def test_an_unknown_model_is_not_found(app_of: NewApp) -> None:
    """Spec §12."""
    peer = await call(app_of(says("x")), get("/v1/models/gpt-5"))

    assert (peer.status, peer.json["error"]["code"]) == (404, "model_not_found")


async def test_readiness_follows_the_engine_and_needs_no_key(app_of: NewApp) -> None:
    """Orchestrators ask without one, and send traffic by the status alone."""
    app = app_of(says("x"))
    ready = await call(app, get("/ready", key=None))
    engine_of(app).why = "loading, 3 MiB so far"
    loading = await call(app, get("/ready", key=None))

    assert (ready.status, ready.json) == (200, {"ready": True, "reason": None})
    assert (loading.status, loading.json) == (503, {"ready": False, "reason": "loading, 3 MiB so far"})
    assert loading.headers["retry-after"] == "2"


async def test_health_tells_the_state_of_every_deployment(app_of: NewApp) -> None:
    """Always 200: the process is alive, which is what is asked; the rest is in the body."""
    app = app_of(says("x"))
    engine_of(app).why = "starting"

    peer = await call(app, get("/health", key=None))

    assert (peer.status, peer.json["status"]) == (200, "degraded")
    assert peer.json["deployments"] == [
        {
            "name": "small",
            "title": "Small-0.5B Q4",
            "state": "loading",
            "reason": "starting",
            "running": 0,
            "waiting": 0,
            "slots": 4,
            "outstanding_tokens": 0,
        }
    ]


async def test_open_calls_are_counted_until_they_end(app_of: NewApp) -> None:
    """A stop waits for them, so the count must be right whatever happens to a call."""
    word = asyncio.Event()
    app = app_of([word, *says("x")])
    task = asyncio.create_task(call(app, chat_call()))
    await answering(app)
    assert (app.open_calls, app.idle.is_set()) == (1, False)

    word.set()
    await task

    assert (app.open_calls, app.idle.is_set()) == (0, True)
