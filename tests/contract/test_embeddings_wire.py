"""The bytes of calls for vectors, as spec/surfaces.md §4 has them: the real service, the fake engine behind it."""

import base64
import struct
import uuid
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from hanlin.testing import FakeEngine, Rule
from hanlin.testing.embeddings import vector
from tests.service import KEY, Service, in_front_of

PATH = "/compatible-mode/v1/embeddings"
NOT_TEXT = "contents is neither str nor list of str.: input.contents"


@pytest.fixture(scope="module")
def running() -> Iterator[FakeEngine]:
    with FakeEngine() as engine:
        yield engine


@pytest.fixture(scope="module")
def service(running: FakeEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The fake engine's vectors have 384 numbers, unless it is asked for others."""
    home = tmp_path_factory.mktemp("home")
    with Service(
        home, config=in_front_of(running), environment={"HANLIN_SILENCE_S": "2", "HANLIN_FIRST_BYTE_S": "2"}
    ) as service:
        yield service


@pytest.fixture(scope="module")
def fitting(running: FakeEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The same, told to fit vectors; the one model behind it has a name of its own."""
    config = in_front_of(running, serves=["text-embedding-*"], model="bge").replace(
        "[[deployment]]", "[[deployment]]\nfit_vectors = true"
    )
    with Service(tmp_path_factory.mktemp("home"), config=config) as service:
        yield service


@pytest.fixture
def engine(running: FakeEngine) -> FakeEngine:
    running.rules([])
    running.forget_requests()
    return running


def post(service: Service, *, key: str | None = KEY, path: str = PATH, **fields: Any) -> httpx2.Response:
    body = {"model": "text-embedding-v4", "input": "你好", "dimensions": 1024, **fields}
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return httpx2.post(service.url + path, json=body, headers=headers, timeout=30)


def floats(text: str) -> list[float]:
    """Return numbers as a float of 32 bits has them."""
    numbers = vector(text, 1024)
    return list(struct.unpack("<1024f", struct.pack("<1024f", *numbers)))


@pytest.mark.parametrize("path", [PATH, "/v1/embeddings"])
def test_every_field_of_an_answer(service: Service, engine: FakeEngine, path: str) -> None:
    """As the vendor's page shows it, and what answered beside it."""
    answer = post(service, path=path, input=["你好", "hello"])

    body = answer.json()
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-hanlin-served-by"] == "upstream; fake"
    assert "x-hanlin-ignored" not in answer.headers
    assert set(body) == {"object", "data", "model", "usage", "id"}
    assert (body["object"], body["model"]) == ("list", "text-embedding-v4")
    assert str(uuid.UUID(body["id"])) == body["id"] == answer.headers["x-request-id"]
    assert body["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    assert body["data"] == [
        {"object": "embedding", "index": 0, "embedding": floats("你好")},
        {"object": "embedding", "index": 1, "embedding": floats("hello")},
    ]


def test_base64_is_little_endian_floats(service: Service, engine: FakeEngine) -> None:
    """What both SDKs ask for unless they are told otherwise (spec/surfaces.md §4)."""
    row = post(service, encoding_format="base64").json()["data"][0]

    assert list(struct.unpack("<1024f", base64.b64decode(row["embedding"]))) == floats("你好")


def test_a_text_alone_is_a_list_of_one(service: Service, engine: FakeEngine) -> None:
    """One vector for one text."""
    assert len(post(service, input="你好").json()["data"]) == 1


def test_the_server_is_asked_under_the_name_that_its_operator_gave(fitting: Service, engine: FakeEngine) -> None:
    """And without a length, where the caller names none: most models have just one."""
    assert post(fitting, dimensions=None).status_code == 200

    [asked] = engine.requests()
    assert asked.body == {"model": "bge", "input": ["你好"], "encoding_format": "float"}


def test_a_vector_of_another_length_is_refused_unless_the_operator_wants_it_fitted(
    service: Service, fitting: Service, engine: FakeEngine
) -> None:
    """An index that was built for 1024 numbers takes no 384; padded ones keep every similarity."""
    refused = post(service, dimensions=None)
    fitted = post(fitting, dimensions=None)

    assert refused.status_code == 400
    assert "makes vectors of 384 numbers, not of 1024" in refused.json()["error"]["message"]
    assert refused.json()["error"]["param"] == "dimensions"
    numbers = fitted.json()["data"][0]["embedding"]
    assert len(numbers) == 1024
    assert numbers[384:] == [0.0] * 640


@pytest.mark.parametrize(
    ("fields", "message", "param"),
    [
        ({"input": [1, 2]}, NOT_TEXT, "input"),
        ({"input": None}, NOT_TEXT, "input"),
        ({"input": []}, "[] is too short - 'input'", "input"),
        ({"input": ""}, "Range of input length should be [1, 8192]: text 0 of 'input' is empty", "input"),
        ({"input": ["a"] * 11}, "Value error, batch size is invalid, it should not be larger than 10.", "input"),
        (
            {"model": "text-embedding-v2", "dimensions": None, "input": ["a"] * 26},
            "Value error, batch size is invalid, it should not be larger than 25.",
            "input",
        ),
        (
            {"model": "text-embedding-v3", "dimensions": 2048},
            "'dimensions' should be one of [1024, 768, 512, 256, 128, 64] for text-embedding-v3",
            "dimensions",
        ),
        ({"encoding_format": "hex"}, "'hex' is not one of ['float', 'base64'] - 'encoding_format'", "encoding_format"),
    ],
)
def test_what_is_refused_and_how(
    service: Service, engine: FakeEngine, fields: dict[str, Any], message: str, param: str
) -> None:
    """In the nested envelope, with the request's id, and before the engine is asked."""
    answer = post(service, **fields)

    body = answer.json()
    assert answer.status_code == 400
    assert body["error"] == {
        "message": message,
        "type": "invalid_request_error",
        "param": param,
        "code": "invalid_parameter_error",
    }
    assert body["request_id"] == answer.headers["x-request-id"]
    assert engine.requests() == []


def test_a_batch_of_25_is_taken_where_the_row_says_so(fitting: Service, engine: FakeEngine) -> None:
    """v1 and v2 take more texts, and have one length."""
    answer = post(fitting, model="text-embedding-v1", input=[f"文本{n}" for n in range(25)], dimensions=None)

    rows = answer.json()["data"]
    assert [row["index"] for row in rows] == list(range(25))
    assert {len(row["embedding"]) for row in rows} == {1536}


@pytest.mark.parametrize(
    ("model", "code", "words"),
    [
        ("qwen-plus", "model_not_supported", "Unsupported model qwen-plus for OpenAI compatibility mode."),
        ("nope", "model_not_found", "The model `nope` does not exist or you do not have access to it."),
    ],
)
def test_other_names_are_404(service: Service, engine: FakeEngine, model: str, code: str, words: str) -> None:
    """A chat model here is as wrong as an embedding model on the chat route."""
    answer = post(service, model=model)

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, code)
    assert answer.json()["error"]["message"].startswith(words)


@pytest.mark.parametrize("key", [None, "sk-wrong"])
def test_a_key_is_needed(service: Service, key: str | None) -> None:
    """As everywhere."""
    answer = post(service, key=key)

    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


def test_only_post_is_served(service: Service) -> None:
    """GET is a slip of the hand."""
    answer = service.get(PATH)

    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_what_has_no_effect_is_listed(service: Service, engine: FakeEngine) -> None:
    """Nothing is dropped in silence; a server that is not told of purposes cannot honour them."""
    answer = post(service, user="me", input_type="query", instruct="…", extra=None)

    assert answer.headers["x-hanlin-ignored"] == "input_type, instruct, user"


@pytest.mark.parametrize(
    ("rule", "status", "code"),
    [
        (Rule(status=503), 503, "ModelUnavailable"),
        (Rule(status=400), 400, "invalid_parameter_error"),
        (Rule(status=500), 500, "internal_error"),
        (Rule(first_delay_s=10), 500, "RequestTimeOut"),
    ],
)
def test_a_server_that_fails_is_told_as_on_the_chat_route(
    service: Service, engine: FakeEngine, rule: Rule, status: int, code: str
) -> None:
    """SDKs retry what may pass, and nothing else."""
    engine.rules([rule])

    answer = post(service)

    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_a_caller_who_leaves_is_not_worked_for(service: Service, engine: FakeEngine) -> None:
    """The engine's connection closes with the caller's."""
    engine.rules([Rule(first_delay_s=30)])

    with pytest.raises(httpx2.TimeoutException):
        httpx2.post(
            service.url + PATH,
            json={"model": "text-embedding-v4", "input": "a", "dimensions": 1024},
            headers={"authorization": f"Bearer {KEY}"},
            timeout=0.5,
        )

    engine.wait_for(lambda requests: requests[-1].state == "cancelled")


def test_the_list_of_models_says_what_answers(service: Service, fitting: Service) -> None:
    """The same words as for chat models."""
    for name in (service, fitting):
        row = name.get("/compatible-mode/v1/models/text-embedding-v4").json()["hanlin"]
        assert (row["served"], row["by"], row["why"]) == ("upstream", "fake", None)


def test_without_anything_that_makes_vectors_the_name_is_unavailable(
    running: FakeEngine, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """One chat model behind every name is no embedding model."""
    config = in_front_of(running, model="qwen3:8b")
    with Service(tmp_path_factory.mktemp("home"), config=config) as service:
        answer = post(service)
        row = service.get("/v1/models/text-embedding-v4").json()["hanlin"]

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    assert "[[deployment]]" in answer.json()["error"]["message"]
    assert (row["served"], row["fingerprint"]) == ("unavailable", None)
    assert row["why"]
