"""Real vectors: the service with the embedded embedding model, asked through the official SDKs."""

import math
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import openai
import psutil
import pytest
from openai import OpenAI

from tests.conftest import WEIGHTS, home_with_vectors, home_with_weights
from tests.service import KEY, Service, ask

pytestmark = pytest.mark.embedded

MODEL = "text-embedding-v4"
PATIENCE_S = 120.0
SCRIPT = Path(__file__).parent / "javascript" / "vectors.mjs"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    home = home_with_vectors(tmp_path_factory.mktemp("vectors") / "home")
    with Service(home, "--weights", WEIGHTS, environment={"HANLIN_EMBEDDINGS": "true"}) as service:
        yield service


@pytest.fixture(scope="module")
def client(service: Service) -> Iterator[OpenAI]:
    with service.client(timeout=PATIENCE_S) as client:
        yield client


def vectors(client: OpenAI, texts: Sequence[str], **options: Any) -> list[list[float]]:
    return [row.embedding for row in client.embeddings.create(model=MODEL, input=list(texts), **options).data]


def cosine(one: Sequence[float], other: Sequence[float]) -> float:
    dot = sum(a * b for a, b in zip(one, other, strict=True))
    return dot / (math.hypot(*one) * math.hypot(*other))


def children(service: Service) -> list[psutil.Process]:
    return [child for child in psutil.Process(service.pid).children() if "llama_child" in " ".join(child.cmdline())]


def test_the_process_is_started_by_the_first_call(service: Service, client: OpenAI) -> None:
    """Whoever only chats must not pay for vectors with half a gigabyte of memory."""
    row = service.get(f"/v1/models/{MODEL}").json()["hanlin"]
    assert len(children(service)) == 1
    assert row["served"] == "stand-in"

    response = client.embeddings.with_raw_response.create(model=MODEL, input="你好")

    assert len(children(service)) == 2
    assert response.headers["x-hanlin-served-by"] == f"stand-in; {row['fingerprint']}"
    assert row["fingerprint"].startswith("multilingual-e5-small@")


@pytest.mark.parametrize(
    ("text", "same", "other"),
    [
        ("如何申请退货？", "怎样把买的东西退掉", "太阳为什么会发光"),
        ("怎么重置登录密码", "忘记密码后如何找回账号", "怎样煮出软糯的米饭"),
        ("How can I reset my password?", "Recovering an account after forgetting the login", "How to cook fluffy rice"),
        ("Why does the sun shine?", "Nuclear fusion makes stars emit light", "Is there a fee to change my flight?"),
        ("今天北京的天气怎么样", "What's the weather like in Beijing today?", "How to add RAM to a laptop"),
    ],
)
def test_texts_that_mean_the_same_are_closer_than_others(client: OpenAI, text: str, same: str, other: str) -> None:
    """In Chinese, in English, and from one to the other; what vectors are for."""
    first, near, far = vectors(client, [text, same, other])

    assert cosine(first, near) > cosine(first, far)


def test_a_question_finds_its_passage(client: OpenAI) -> None:
    """Queries and documents have prefixes of their own in this model; the extension says which is which."""
    passages = [
        "退货政策：自签收之日起七天内，商品未使用可无理由退货，运费由买家承担。",
        "发票说明：下单时填写抬头与税号，电子发票将在确认收货后发送至邮箱。",
        "配送时效：一线城市次日达，偏远地区三至五个工作日送达。",
    ]
    found = vectors(client, passages)

    for number, question in enumerate(["几天之内可以退货？", "怎么开发票？", "多久能送到？"]):
        [asked] = vectors(client, [question], extra_body={"input_type": "query"})
        scores = [cosine(asked, passage) for passage in found]
        assert max(range(3), key=scores.__getitem__) == number, (question, scores)


def test_the_same_text_has_the_same_vector(client: OpenAI) -> None:
    """Alone, among others, and tomorrow: an index is built once and asked often."""
    alone = vectors(client, ["翰林院"])[0]

    assert vectors(client, ["别的文字", "翰林院"])[1] == alone
    assert vectors(client, ["翰林院"], encoding_format="float")[0] == alone


@pytest.mark.parametrize(("dimensions", "filled"), [(2048, 384), (1024, 384), (256, 256), (64, 64)])
def test_vectors_have_the_length_that_is_asked_for(client: OpenAI, dimensions: int, filled: int) -> None:
    """Zeros beyond the model's own 384; shorter ones have the length 1 again."""
    [vector] = vectors(client, ["你好"], dimensions=dimensions)

    assert len(vector) == dimensions
    assert math.hypot(*vector) == pytest.approx(1, abs=1e-4)
    assert all(vector[:filled])
    assert vector[filled:] == [0.0] * (dimensions - filled)


def test_a_long_text_is_read_to_its_end_and_one_beyond_the_limit_is_refused(client: OpenAI) -> None:
    """Ten windows of the model, averaged; what only its end says moves the vector."""
    text = "这是一篇关于退货政策的长文章。" * 120
    plain, changed = vectors(client, [text, text + "附录：量子力学与天体物理。" * 40])
    assert 0.8 < cosine(plain, changed) < 0.9999

    with pytest.raises(openai.BadRequestError, match=r"Range of input length should be \[1, 8192\].*got \d+"):
        vectors(client, ["长" * 20_000])


def test_usage_counts_the_callers_own_tokens(client: OpenAI) -> None:
    """Neither the prefix that the model wants nor the marks around a text."""
    one = client.embeddings.create(model=MODEL, input="你好").usage
    two = client.embeddings.create(model=MODEL, input=["你好", "你好"]).usage

    assert 1 <= one.prompt_tokens <= 3
    assert (two.prompt_tokens, two.total_tokens) == (2 * one.prompt_tokens, 2 * one.prompt_tokens)


def test_the_javascript_sdk_gets_vectors_of_the_right_length(service: Service) -> None:
    """It decodes whatever it gets as base64: a list of floats would come out as something else."""
    done = subprocess.run(
        [shutil.which("node") or "node", str(SCRIPT)],
        env={**os.environ, "SERVICE_URL": service.base_url, "SERVICE_KEY": KEY},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=PATIENCE_S,
        encoding="utf-8",
    )

    assert (done.returncode, done.stdout.split()) == (0, ["1024", "1024", "true"])


def test_chat_does_not_wait_for_weights_that_cannot_be_had(tmp_path: Path) -> None:
    """A machine without a network serves what it has; who asks for vectors is told why there are none yet."""
    environment = {"HANLIN_EMBEDDINGS": "true", "PIP_INDEX_URL": "http://127.0.0.1:1/simple", "PIP_RETRIES": "0"}
    with Service(home_with_weights(tmp_path / "home"), "--weights", WEIGHTS, environment=environment) as service:
        with service.client(timeout=PATIENCE_S) as client, pytest.raises(openai.InternalServerError) as told:
            client.embeddings.create(model=MODEL, input="你好")
        row = service.get(f"/v1/models/{MODEL}").json()["hanlin"]

        assert (told.value.status_code, told.value.code) == (503, "ModelUnavailable")
        assert "multilingual-e5-small" in told.value.message
        assert told.value.response.headers["retry-after"]
        assert (row["served"], row["fingerprint"]) == ("unavailable", None)
        assert "multilingual-e5-small" in row["why"]
        assert ask(service.client(), max_tokens=1).choices
        assert len(children(service)) == 1


def test_vectors_can_be_switched_off(tmp_path: Path) -> None:
    """Then nothing is fetched, nothing runs, and the name says so."""
    home = home_with_vectors(tmp_path / "home")
    flags = ("--weights", WEIGHTS, "--no-embeddings")
    with (
        Service(home, *flags, environment={"HANLIN_EMBEDDINGS": "true"}) as service,
        service.client(timeout=PATIENCE_S) as client,
        pytest.raises(openai.NotFoundError) as told,
    ):
        client.embeddings.create(model=MODEL, input="你好")

    assert told.value.code == "model_not_found"
    assert "embeddings = true" in told.value.message
