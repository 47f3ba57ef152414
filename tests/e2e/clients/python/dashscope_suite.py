"""Files through the vendor's own SDK: with the calls of 1.x, which 2.x still has, and with the client of 2.x."""

import base64
import hashlib
import json
import re
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dashscope  # type: ignore[import-not-found]
import pytest
from dashscope.v2.errors import NotFoundError  # type: ignore[import-not-found]
from openai import BadRequestError, OpenAI

from tests.e2e.clients.python.setup import BASE_URL, ENGINE_URL, KEY, answers

NATIVE_URL = BASE_URL.replace("/compatible-mode/v1", "/api/v1")
CLAUSE = "付款期限为三十天，逾期每日按万分之五计息。"


@pytest.fixture(autouse=True)
def pointed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a program of the vendor's pages changes, and nothing else; the service has no files afterwards."""
    monkeypatch.setattr(dashscope, "base_http_api_url", NATIVE_URL)
    monkeypatch.setattr(dashscope, "api_key", KEY)
    yield
    while files := listed(page_size=100)["files"]:
        for file in files:
            dashscope.Files.delete(file["file_id"])


@pytest.fixture
def client() -> Iterator[OpenAI]:
    with OpenAI(base_url=BASE_URL, api_key=KEY, max_retries=0, timeout=60) as client:
        yield client


@pytest.fixture
def contract(tmp_path: Path) -> Path:
    path = tmp_path / "采购 合同.md"
    path.write_text(f"# 合同\n\n{CLAUSE}\n", encoding="utf-8")
    return path


def listed(**more: Any) -> Any:
    answer = dashscope.Files.list(**more)
    assert answer.status_code == 200, answer
    return answer.output


def uploaded(path: Path, **more: Any) -> str:
    """Upload a document and return its id."""
    answer = dashscope.Files.upload(str(path), purpose="file-extract", **more)
    assert answer.status_code == 200, answer
    assert answer.output["failed_uploads"] == []
    (file,) = answer.output["uploaded_files"]
    assert file["name"] == path.name
    return str(file["file_id"])


def is_read(file_id: str) -> None:
    """Wait until a document has been read, which is told beside what the vendor's page has."""
    until = time.monotonic() + 120
    while dashscope.Files.get(file_id).output["hanlin"]["status"] == "processing":
        assert time.monotonic() < until
        time.sleep(0.1)


def asked_of_the_engine() -> str:
    """Return everything that the engine was asked."""
    with urllib.request.urlopen(f"{ENGINE_URL}/requests") as answer:
        return json.dumps(json.load(answer), ensure_ascii=False)


def test_a_file_is_uploaded_shown_and_deleted(contract: Path) -> None:
    """Field by field, as the vendor's page of this API has them; the request is found by its id."""
    content = contract.read_bytes()

    file_id = uploaded(contract, description="样本")
    answer = dashscope.Files.get(file_id)

    file = answer.output
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", answer.request_id)
    assert (file["file_id"], file["name"], file["description"]) == (file_id, contract.name, "样本")
    assert (file["purpose"], file["size"]) == ("file-extract", len(content))
    assert base64.b64decode(file["md5"]) == hashlib.md5(content, usedforsecurity=False).digest()
    at = datetime.strptime(file["gmt_create"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC) - timedelta(hours=8)
    assert abs(at - datetime.now(UTC)) < timedelta(minutes=2)
    assert dashscope.Files.delete(file_id).status_code == 200
    assert listed()["total"] == 0


def test_files_are_listed_in_pages(tmp_path: Path) -> None:
    """The newest first, each on one page, and the SDK's default page is the first of ten."""
    ids = []
    for number in range(5):
        path = tmp_path / f"{number}.txt"
        path.write_text(f"第 {number} 份")
        ids.append(uploaded(path))

    pages = [listed(page=number, page_size=2) for number in (1, 2, 3, 4)]

    assert [[file["file_id"] for file in page["files"]] for page in pages] == [ids[:2:-1], ids[2:0:-1], ids[:1], []]
    assert [(page["total"], page["page_no"], page["page_size"]) for page in pages] == [(5, n, 2) for n in (1, 2, 3, 4)]
    assert [file["file_id"] for file in listed()["files"]] == ids[::-1]


@pytest.mark.parametrize("call", [dashscope.Files.get, dashscope.Files.delete])
def test_a_file_that_is_not_there_is_a_wrong_parameter(call: Any) -> None:
    """400, not 404: by these words programs know it."""
    answer = call("file-fe-000000000000000000000000")

    assert (answer.status_code, answer.code, answer.message) == (400, "InvalidParameter", "File not found.")
    assert answer.request_id


def test_a_wrong_key_is_told_in_the_words_of_this_api(contract: Path) -> None:
    """The SDK returns what went wrong instead of raising it."""
    answer = dashscope.Files.upload(str(contract), purpose="file-extract", api_key="sk-wrong")

    assert (answer.status_code, answer.code) == (401, "InvalidApiKey")
    assert answer.message.startswith("Invalid API-key provided.")


@pytest.mark.skipif(not ENGINE_URL, reason="looks at what the fake engine was asked")
def test_a_document_that_the_sdk_uploaded_is_read_by_qwen_long(contract: Path, client: OpenAI) -> None:
    """The SDK does not say that it is a document: its caller means one, and asks about it elsewhere."""
    answers({"text": "三十天"})
    file_id = uploaded(contract)
    is_read(file_id)

    answer = client.chat.completions.create(
        model="qwen-long",
        messages=[
            {"role": "system", "content": f"fileid://{file_id}"},
            {"role": "user", "content": "付款期限是多久？"},
        ],
    )

    assert answer.choices[0].message.content == "三十天"
    assert CLAUSE in asked_of_the_engine()


def test_both_apis_have_the_same_files(contract: Path, client: OpenAI) -> None:
    """What one uploads the other shows and deletes."""
    native = uploaded(contract)
    compatible = client.files.create(file=("b.jsonl", b"{}\n"), purpose="batch")

    assert [file["file_id"] for file in listed()["files"]] == [compatible.id, native]
    assert client.files.retrieve(native).filename == contract.name
    assert dashscope.Files.get(compatible.id).output["purpose"] == "batch"
    assert dashscope.Files.delete(compatible.id).status_code == 200
    assert client.files.delete(native).deleted
    assert listed()["total"] == 0


def test_lines_are_for_fine_tuning_as_the_sdk_has_it(tmp_path: Path, client: OpenAI) -> None:
    """Its default purpose, of which it tells the server nothing."""
    path = tmp_path / "train.jsonl"
    path.write_text('{"messages": []}\n')

    answer = dashscope.Files.upload(str(path))

    (file,) = answer.output["uploaded_files"]
    assert dashscope.Files.get(file["file_id"]).output["purpose"] == "fine-tune"
    assert client.files.retrieve(file["file_id"]).purpose == "fine-tune"


def test_a_batch_is_no_document(client: OpenAI) -> None:
    """An id of this API is judged as one of the other is."""
    lines = client.files.create(file=("b.jsonl", b"{}\n"), purpose="batch")

    with pytest.raises(BadRequestError, match="Invalid file"):
        client.chat.completions.create(
            model="qwen-long",
            messages=[{"role": "system", "content": f"fileid://{lines.id}"}, {"role": "user", "content": "？"}],
        )


# --- the client of 2.x -----------------------------------------------------------------------------------------------


@pytest.fixture
def native() -> Iterator[Any]:
    with dashscope.Client(api_key=KEY, base_url=NATIVE_URL, max_retries=0) as client:
        yield client


def test_the_client_does_all_of_it(native: Any, contract: Path) -> None:
    """It makes objects of what 1.x hands on."""
    made = native.files.upload(file_path=str(contract), purpose="file-extract", description="样本")
    shown = native.files.get(made.file_id)
    page = native.files.list(page_size=5)
    gone = native.files.delete(made.file_id)

    assert (made.name, shown.name, shown.size) == (contract.name, contract.name, contract.stat().st_size)
    assert shown.purpose == "file-extract"
    assert ([file.file_id for file in page.files], page.total_count, page.page_size) == ([made.file_id], 1, 5)
    assert gone.deleted
    assert made.request_id


def test_the_client_knows_a_file_that_is_not_there(native: Any) -> None:
    """By the words of the refusal alone, which is why they are the vendor's."""
    for call in (native.files.get, native.files.delete):
        with pytest.raises(NotFoundError) as problem:
            call("file-fe-000000000000000000000000")
        assert (problem.value.status_code, problem.value.code) == (400, "InvalidParameter")


@pytest.fixture
async def asynchronous() -> AsyncIterator[Any]:
    async with dashscope.AsyncClient(api_key=KEY, base_url=NATIVE_URL, max_retries=0) as client:
        yield client


async def test_the_asynchronous_client_does_it_too(asynchronous: Any, contract: Path) -> None:
    """Over another library, which writes forms in another way."""
    made = await asynchronous.files.upload(file_path=str(contract), purpose="file-extract")

    assert (await asynchronous.files.get(made.file_id)).name == contract.name
    assert (await asynchronous.files.list()).total_count == 1
    assert (await asynchronous.files.delete(made.file_id)).deleted
