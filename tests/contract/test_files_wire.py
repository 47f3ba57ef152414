"""The Files API of a running service, through the official SDK and byte by byte (spec/surfaces.md §1)."""

import json
import re
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from openai import APIStatusError, BadRequestError, NotFoundError, PermissionDeniedError

from hanlin.store.rows import FileRow, Quota
from hanlin.testing import FakeEngine, Rule, wait_until
from tests.accounts import in_store, made
from tests.service import KEY, Service, in_front_of

NARROW = """
files_limit = 4
files_limit_bytes = 300000
max_document_bytes = 200000
max_image_bytes = 2048
max_batch_bytes = 100000
max_fine_tune_bytes = 100000
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[FakeEngine]:
    with FakeEngine([Rule(text="你好")]) as engine:
        yield engine


@pytest.fixture(scope="module")
def service(engine: FakeEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("home"), config=in_front_of(engine, profile="vllm")) as running:
        yield running


@pytest.fixture(scope="module")
def narrow(engine: FakeEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with small limits."""
    config = NARROW + in_front_of(engine, profile="vllm")
    with Service(tmp_path_factory.mktemp("narrow"), config=config) as running:
        yield running


@pytest.fixture
def key(service: Service) -> str:
    """The key of a workspace that has no files yet."""
    workspace = in_store(service, lambda store: store.workspaces.add(f"ws {time.monotonic_ns()}"))
    return made(service, workspace_id=workspace.id)[0]


def call(service: Service, method: str, path: str, key: str = KEY, **more: Any) -> httpx2.Response:
    headers = {"authorization": f"Bearer {key}", **more.pop("headers", {})}
    return httpx2.request(method, service.url + path, headers=headers, timeout=30, **more)


def upload(service: Service, key: str = KEY, content: bytes = b"hello", **fields: str) -> httpx2.Response:
    said = {"purpose": "file-extract", **fields}
    return call(service, "POST", "/compatible-mode/v1/files", key, files={"file": ("a.txt", content)}, data=said)


def blobs(service: Service) -> list[Path]:
    """Return the files of bytes that a service has, and those that are coming in."""
    found = [path for path in (service.home / "files").rglob("*") if path.is_file()]
    return [path for path in found if path.name not in ("lock", "alive")]


# --- the calls -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["/compatible-mode/v1", "/v1"])
def test_a_file_is_made_shown_and_deleted_as_recorded(service: Service, key: str, prefix: str) -> None:
    """Field by field; what is more than the page has stands under `hanlin`."""
    sent = {"files": {"file": ("test2.txt", b"content")}, "data": {"purpose": "file-extract"}}
    made = call(service, "POST", f"{prefix}/files", key, **sent)
    body = made.json()
    file_id = body["id"]
    shown = call(service, "GET", f"{prefix}/files/{file_id}", key)
    gone = call(service, "DELETE", f"{prefix}/files/{file_id}", key)

    assert (made.status_code, shown.status_code, gone.status_code) == (200, 200, 200)
    assert re.fullmatch(r"file-fe-[0-9a-f]{24}", file_id)
    assert abs(body["created_at"] - time.time()) < 60
    assert body == shown.json()
    assert body == {
        "id": file_id,
        "object": "file",
        "bytes": 7,
        "filename": "test2.txt",
        "purpose": "file-extract",
        "status": "processed",
        "created_at": body["created_at"],
        "status_details": None,
        "hanlin": {"kind": "txt", "pages": 1, "characters": 7, "tokens": body["hanlin"]["tokens"]},
    }
    assert gone.json() == {"object": "file", "deleted": True, "id": file_id}
    assert {answer.headers["content-type"] for answer in (made, shown, gone)} == {"application/json"}
    assert made.headers["x-request-id"]


def test_the_sdk_does_all_of_it(service: Service, key: str, tmp_path: Path) -> None:
    """Programs of the vendor's pages, with another base URL."""
    path = tmp_path / '报告 "1".md'
    path.write_text("# 第一章\n\n你好。" * 1000, encoding="utf-8")
    with service.client(api_key=key) as client:
        made = client.files.create(file=path, purpose="file-extract")  # type: ignore[arg-type]
        other = client.files.create(file=("b.jsonl", b"{}\n"), purpose="batch")

        assert (made.filename, made.bytes, made.status) == (path.name, path.stat().st_size, "processed")
        assert client.files.retrieve(made.id) == made
        assert [one.id for one in client.files.list()] == [other.id, made.id]
        assert [one.id for one in client.files.list(purpose="batch")] == [other.id]
        assert client.files.wait_for_processing(made.id).id == made.id
        assert client.files.delete(made.id).deleted
        with pytest.raises(NotFoundError):
            client.files.retrieve(made.id)
        assert [one.id for one in client.files.list()] == [other.id]


def test_a_list_is_paged_by_its_last_element(service: Service, key: str) -> None:
    """What the SDK's automatic paging lives on: each file once, newest first."""
    with service.client(api_key=key) as client:
        made = [client.files.create(file=(f"{n}.txt", b"x%d" % n), purpose="batch").id for n in range(5)]

        page = client.files.list(limit=2)

        assert page.has_more
        assert [one.id for one in page.data] == made[:2:-1]
        assert [one.id for one in client.files.list(limit=2)] == made[::-1]
        assert [one.id for one in client.files.list(limit=5).data] == made[::-1]
        assert not client.files.list(limit=5).has_more


def test_a_list_is_of_a_time_in_every_spelling(service: Service, key: str) -> None:
    """Today's files, by the vendor's clock."""
    upload(service, key)
    beijing = datetime.now(UTC) + timedelta(hours=8)
    yesterday, tomorrow = beijing - timedelta(days=1), beijing + timedelta(days=1)

    def listed(**parameters: str) -> int:
        answer = call(service, "GET", "/compatible-mode/v1/files", key, params=parameters)
        assert answer.status_code == 200, answer.text
        return len(answer.json()["data"])

    for form in ("%Y%m%d%H%M%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d", "%Y%m%d"):
        assert listed(create_after=yesterday.strftime(form), create_before=tomorrow.strftime(form)) == 1
        assert listed(create_before=yesterday.strftime(form)) == 0
        assert listed(create_after=tomorrow.strftime(form)) == 0


def test_the_content_of_a_batchs_output_is_given_out_and_no_other(service: Service) -> None:
    """As recorded; what callers uploaded they have themselves."""
    content = b'{"custom_id": "1"}\n' * 100_000
    source = upload(service, content=content, purpose="batch").json()
    (row,) = in_store(service, lambda store: store.files.some([source["id"]]))
    output = FileRow(
        id="file-batch_output-0123456789abcdef01234567",
        workspace_id=row.workspace_id,
        key_id="",
        purpose="batch_output",
        filename="output.jsonl",
        size_bytes=row.size_bytes,
        digest=row.digest,
        created_at=datetime.now(UTC),
    )
    in_store(service, lambda store: store.files.add(output, Quota(10**6, 10**12)))

    with service.client() as client:
        assert client.files.content(output.id).read() == content
        for purpose in ("file-extract", "batch", "fine-tune"):
            file_id = upload(service, purpose=purpose).json()["id"]
            with pytest.raises(BadRequestError, match="Not allowed to download"):
                client.files.content(file_id)


# --- whose -----------------------------------------------------------------------------------------------------------


def test_the_files_of_another_workspace_do_not_exist(service: Service, key: str) -> None:
    """Neither to be seen, nor deleted, nor counted."""
    mine = upload(service).json()["id"]
    theirs = f"/compatible-mode/v1/files/{mine}"

    for method, path in (("GET", theirs), ("DELETE", theirs), ("GET", f"{theirs}/content")):
        answer = call(service, method, path, key)
        assert answer.status_code == 404
        assert answer.json()["error"] == {
            "message": f"No such File object: {mine}",
            "type": "invalid_request_error",
            "param": "id",
            "code": None,
        }
    assert call(service, "GET", "/compatible-mode/v1/files", key).json() == {
        "object": "list",
        "data": [],
        "has_more": False,
    }
    assert call(service, "GET", theirs).status_code == 200


def test_all_keys_of_a_workspace_share_its_files(service: Service) -> None:
    """A key is rotated, its files stay."""
    mine = upload(service).json()["id"]
    other, _ = made(service)

    assert call(service, "GET", f"/compatible-mode/v1/files/{mine}", other).status_code == 200


def test_a_key_that_may_chat_may_use_files_and_no_other(service: Service) -> None:
    """Documents are a part of chats; a key for vectors has no use for them, and must not delete them."""
    chat, _ = made(service, surfaces=("chat",), models=("qwen-long",))
    vectors, _ = made(service, surfaces=("embeddings",))
    elsewhere, _ = made(service, addresses=("10.0.0.0/8",))

    assert upload(service, chat).status_code == 200
    for key in (vectors, elsewhere):
        with service.client(api_key=key) as client, pytest.raises(PermissionDeniedError, match="Access denied"):
            client.files.list()


def test_nobody_uploads_without_a_key(service: Service) -> None:
    """And nothing of such a body is stored."""
    before = blobs(service)

    answer = upload(service, "sk-unknown", bytes(200_000))

    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
    assert blobs(service) == before


# --- what is refused -------------------------------------------------------------------------------------------------


def refused(answer: httpx2.Response) -> tuple[int, dict[str, Any]]:
    """Return the status and the error of a call that is refused."""
    body = answer.json()
    assert set(body) == {"error", "request_id"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["request_id"] == answer.headers["x-request-id"]
    return answer.status_code, body["error"]


def test_a_purpose_that_is_none_is_refused_as_recorded(service: Service) -> None:
    """With what there is today in the place of the one value of 2024."""
    expected = {
        "message": "'purpose' must be 'file-extract', 'batch' or 'fine-tune'",
        "type": "invalid_request_error",
        "param": "purpose",
        "code": None,
    }
    without = call(service, "POST", "/compatible-mode/v1/files", files={"file": ("a.txt", b"x")})

    assert refused(upload(service, purpose="assistants")) == (400, expected)
    assert refused(without) == (400, expected)


def test_what_is_no_form_is_refused(service: Service) -> None:
    """A client that sends JSON by mistake learns what is wanted."""
    status, error = refused(call(service, "POST", "/compatible-mode/v1/files", json={"file": "x"}))

    assert (status, error["code"]) == (400, None)
    assert error["message"].startswith("Required body invalid, please check the request body format.")


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("PUT", "/compatible-mode/v1/files", 405, "GET, POST"),
        ("POST", "/v1/files/file-fe-1", 405, "GET, DELETE"),
        ("DELETE", "/v1/files/file-fe-1/content", 405, "GET"),
        ("GET", "/v1/files/file-fe-1/nothing", 404, None),
        ("GET", "/v1/files/", 404, None),
        ("GET", "/v1/files/%00/content", 404, None),
        ("GET", "/v1/files//content", 404, None),
    ],
)
def test_other_paths_and_methods_are_refused(
    service: Service, method: str, path: str, status: int, allow: str | None
) -> None:
    """As everywhere."""
    answer = call(service, method, path)

    assert (answer.status_code, answer.headers.get("allow")) == (status, allow)
    assert "error" in answer.json()


def test_what_means_nothing_here_is_listed_as_ignored(service: Service) -> None:
    """`expires_after` is OpenAI's: the vendor's files have no expiry."""
    fields = {"purpose": "batch", "expires_after[anchor]": "created_at"}
    made = call(service, "POST", "/v1/files", files={"file": ("a.jsonl", b"{}")}, data=fields)
    listed = call(service, "GET", "/v1/files?order=asc&limit=1")

    assert made.headers["x-hanlin-ignored"] == "expires_after[anchor]"
    assert listed.headers["x-hanlin-ignored"] == "order"


@pytest.mark.parametrize("sized", [True, False], ids=["length", "chunks"])
def test_a_file_that_is_too_large_is_refused_when_it_has_been_sent(narrow: Service, sized: bool) -> None:
    """A client that is interrupted while it sends sees a broken connection, and sends all of it again."""

    def form() -> Iterator[bytes]:
        yield b'--X\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nfile-extract\r\n'
        yield b'--X\r\ncontent-disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
        for _ in range(30):
            yield bytes(10_000)
        yield b"\r\n--X--\r\n"

    body: Any = b"".join(form()) if sized else form()
    headers = {"content-type": "multipart/form-data; boundary=X"}
    status, error = refused(call(narrow, "POST", "/v1/files", content=body, headers=headers))

    assert (status, error["code"]) == (400, "BadRequest.TooLarge")
    assert error["message"].startswith("Payload Too Large.")
    assert blobs(narrow) == []


def test_limits_are_those_of_the_purpose(narrow: Service) -> None:
    """Through the SDK, as a program meets them."""
    with narrow.client() as client:
        for content, purpose in (
            (b"\x89PNG\r\n" + bytes(3000), "file-extract"),
            (bytes(150_000), "batch"),
            (bytes(150_000), "fine-tune"),
        ):
            with pytest.raises(BadRequestError, match="Payload Too Large") as problem:
                client.files.create(file=("a", content), purpose=purpose)  # type: ignore[arg-type]
            assert problem.value.code == "BadRequest.TooLarge"
        text = client.files.create(file=("a.txt", b"text " * 30_000), purpose="file-extract")  # type: ignore[arg-type]
        client.files.delete(text.id)


def test_a_workspace_that_is_full_takes_no_more_until_something_is_deleted(narrow: Service) -> None:
    """In the vendor's words, and of the workspace that is full alone."""
    with narrow.client() as client:

        def make(content: bytes) -> str:
            return client.files.create(file=("a.txt", content), purpose="batch").id

        def problem(content: bytes) -> str:
            with pytest.raises(APIStatusError) as refusal:
                make(content)
            assert refusal.value.status_code == 400
            return refusal.value.message

        made = [make(bytes([number]) * 90_000) for number in range(3)]
        assert "Upload file capacity exceed limit." in problem(b"9" * 90_000)
        made.append(make(b"small"))
        assert "Upload file number exceed limit." in problem(b"")
        for file_id in made:
            client.files.delete(file_id)
        client.files.delete(make(b"9" * 90_000))
    assert blobs(narrow) == []


# --- what goes wrong on the way --------------------------------------------------------------------------------------


def test_an_upload_that_breaks_off_leaves_nothing(service: Service) -> None:
    """A laptop is closed half-way through a hundred megabytes."""
    before = set(blobs(service))
    head = (
        f"POST /v1/files HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\n"
        "content-type: multipart/form-data; boundary=X\r\ncontent-length: 9000000\r\n\r\n"
        '--X\r\ncontent-disposition: form-data; name="file"; filename="a.txt"\r\n\r\n'
    )
    with socket.create_connection(("127.0.0.1", service.port)) as line:
        line.sendall(head.encode() + bytes(4_000_000))
        wait_until(lambda: set(blobs(service)) > before, "half of the file on the disk")

    wait_until(lambda: set(blobs(service)) == before, "nothing of the file on the disk")
    assert upload(service).status_code == 200


def test_an_upload_does_not_stay_in_memory(service: Service, tmp_path: Path) -> None:
    """A hundred megabytes leave the process as small as it was."""
    import psutil

    upload(service, content=bytes(5_000_000), purpose="batch")
    path = tmp_path / "large.jsonl"
    with path.open("wb") as file:
        file.truncate(100 * 1024**2)
    before = psutil.Process(service.pid).memory_info().rss
    with service.client() as client:
        made = client.files.create(file=path, purpose="batch")
        after = psutil.Process(service.pid).memory_info().rss
        client.files.delete(made.id)

    assert made.bytes == 100 * 1024**2
    assert after - before < 20 * 1024**2


def test_calls_are_answered_while_a_file_comes_in(service: Service) -> None:
    """An upload over a slow line holds nobody up."""
    head = (
        f"POST /v1/files HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\n"
        "content-type: multipart/form-data; boundary=X\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    parts = [
        b'--X\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nfile-extract\r\n',
        b'--X\r\ncontent-disposition: form-data; name="file"; filename="slow.txt"\r\n\r\nslow',
        b"ly\r\n--X--\r\n",
    ]
    with socket.create_connection(("127.0.0.1", service.port)) as line:
        line.sendall(head.encode())
        for part in parts:
            line.sendall(b"%x\r\n%b\r\n" % (len(part), part))
            assert service.get("/health").status_code == 200
        line.sendall(b"0\r\n\r\n")
        answer = line.recv(65536)

    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["bytes"] == 6


def test_no_name_and_no_content_of_a_file_is_in_the_log(service: Service) -> None:
    """Names of files are secrets more often than not."""
    call(service, "POST", "/v1/files", files={"file": ("merger.txt", b"with whom")}, data={"purpose": "file-extract"})

    assert "merger" not in service.output()
    assert "with whom" not in service.output()
