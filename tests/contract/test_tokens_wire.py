"""`POST /api/v1/tokens` of a running service, and calls with what it gives (spec/surfaces.md §8.10, §0.2, §0.3)."""

import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from openai import APIStatusError, AuthenticationError

from hanlin.dialects.flat import CODES
from hanlin.store.rows import Limits
from hanlin.testing import FakeEngine, Rule, wait_until
from tests.accounts import ask, in_store, made, refused, rows_of
from tests.service import Service, in_front_of


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with (
        FakeEngine([Rule(text="你好")]) as engine,
        Service(tmp_path_factory.mktemp("home"), config=in_front_of(engine, profile="vllm")) as running,
    ):
        yield running


def post(service: Service, key: str | None, query: str = "", method: str = "POST") -> httpx2.Response:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    return httpx2.request(method, f"{service.url}/api/v1/tokens{query}", headers=headers, timeout=30)


def token_of(service: Service, key: str, lasting_s: int = 60) -> str:
    answer = post(service, key, f"?expire_in_seconds={lasting_s}")
    assert answer.status_code == 200, answer.text
    return str(answer.json()["token"])


@pytest.mark.parametrize(
    ("query", "lasting_s"), [("", 60), ("?expire_in_seconds=1", 1), ("?expire_in_seconds=1800", 1800)]
)
def test_a_temporary_key_has_a_text_and_an_end(service: Service, query: str, lasting_s: int) -> None:
    """§8.10: two fields, and no request_id."""
    key, _ = made(service)
    before = int(time.time())

    answer = post(service, key, query)

    assert answer.status_code == 200
    assert set(answer.json()) == {"token", "expires_at"}
    assert answer.json()["token"].startswith("st-")
    assert before + lasting_s <= answer.json()["expires_at"] <= time.time() + lasting_s
    assert answer.headers["cache-control"] == "no-store"


def test_a_call_with_it_is_answered_and_booked_on_its_key(service: Service) -> None:
    """Whole and streamed, with the SDK as it is."""
    key, row = made(service, role="owner")
    token = token_of(service, key)

    answer = ask(service, token)
    chunks = ask(service, token, stream=True)

    assert answer.choices[0].message.content == "你好"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "你好"
    assert {one.id for one in rows_of(service, row, 2)} >= {answer.id.removeprefix("chatcmpl-")}


def test_it_may_what_its_key_may_and_counts_for_it(service: Service) -> None:
    """A limit of two calls is one for the key and all that was made with it."""
    key, _ = made(service, models=("qwen-plus",), limits=Limits(rpm=2))
    first, second = token_of(service, key), token_of(service, key)

    assert refused(service, first, model="qwen-max").code == "Model.AccessDenied"
    ask(service, first)
    ask(service, second)
    assert refused(service, first).code == "limit_requests"
    assert refused(service, key).code == "limit_requests"


def test_it_stops_at_its_end(service: Service) -> None:
    """Then it is a key that nobody knows."""
    key, _ = made(service)
    token = token_of(service, key, 1)

    def stopped() -> bool:
        try:
            ask(service, token)
        except AuthenticationError as error:
            return "has expired" in error.message
        return False

    wait_until(stopped, "the end of a temporary key")


def test_it_stops_when_its_key_is_revoked(service: Service) -> None:
    """Within a second, as its key does."""
    key, row = made(service)
    token = token_of(service, key)
    ask(service, token)
    in_store(service, lambda store: store.keys.revoke(row.id))

    def stopped() -> bool:
        try:
            ask(service, token)
        except APIStatusError as error:
            return error.status_code == 401
        return False

    wait_until(stopped, "a revoked key's temporary keys")


def test_it_works_after_the_service_was_started_anew(service: Service) -> None:
    """Nothing is kept of it, so nothing can be lost; every process knows it."""
    key, _ = made(service)
    token = token_of(service, key, 600)
    service.stop()
    service.start()

    assert ask(service, token).choices


def test_it_makes_no_others_and_administers_nothing(service: Service) -> None:
    """A key for a minute must not become one for good."""
    key, _ = made(service, role="owner")
    token = token_of(service, key)

    more = post(service, token)
    admin = httpx2.get(f"{service.url}/admin/v1/me", headers={"authorization": f"Bearer {token}"}, timeout=30)

    assert (more.status_code, more.json()["code"]) == (403, "AccessDenied")
    assert admin.status_code == 403
    assert "temporary key administers nothing" in admin.json()["error"]["message"]


@pytest.mark.parametrize("value", ["0", "-1", "1801", "9" * 30, "", "60.5", "ten", "６０", "60&expire_in_seconds=60"])
def test_a_time_out_of_range_is_refused(service: Service, value: str) -> None:
    """§8.10: 1 to 1800 seconds."""
    key, _ = made(service)

    answer = post(service, key, f"?expire_in_seconds={value}")

    assert answer.status_code == 400
    assert_flat(answer, "InvalidParameter")
    assert "[1, 1800]" in answer.json()["message"]


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (None, "No API-key provided."),
        ("sk-nobodys-key", "Invalid API-key provided."),
        ("st-nonsense", "Invalid API-key provided."),
    ],
)
def test_without_a_key_that_is_known_it_is_refused_in_the_vendors_words(
    service: Service, key: str | None, words: str
) -> None:
    """§0.2: the words of the native surface, which differ from those of the compatible one."""
    answer = post(service, key)

    assert answer.status_code == 401
    assert_flat(answer, "InvalidApiKey")
    assert answer.json()["message"].startswith(words)


def test_a_body_that_nobody_asked_for_is_passed_over(service: Service) -> None:
    """The vendor's callers send `{}` or nothing; the connection goes on either way."""
    key, _ = made(service)
    with httpx2.Client(headers={"authorization": f"Bearer {key}"}, timeout=30) as client:
        answers = [client.post(f"{service.url}/api/v1/tokens", content=b"x" * size) for size in (0, 2, 5000, 2)]

    assert [answer.status_code for answer in answers] == [200] * 4


def test_another_method_is_refused_in_the_same_envelope(service: Service) -> None:
    """§0.6."""
    answer = post(service, None, method="GET")

    assert answer.status_code == 405
    assert_flat(answer, "InvalidParameter")
    assert answer.headers["allow"] == "POST"


def assert_flat(answer: httpx2.Response, code: str) -> None:
    body: dict[str, Any] = answer.json()
    assert set(body) == {"code", "message", "request_id"}
    assert body["code"] == code
    assert code in CODES.values()
    assert body["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["content-type"] == "application/json"
