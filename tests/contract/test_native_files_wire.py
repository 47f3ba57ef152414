"""The native Files API of a running service, byte by byte (spec/surfaces.md §1.6). The SDK is in `e2e/clients`."""

import base64
import hashlib
import json
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from hanlin.testing import FakeEngine, Rule, wait_until
from tests.accounts import in_store, made
from tests.service import KEY, Service, in_front_of

PATH = "/api/v1/files"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

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
    with FakeEngine([Rule(text="三十天")]) as engine:
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
    return empty(service)


@pytest.fixture
def small(narrow: Service) -> str:
    """The same, of the service with small limits."""
    return empty(narrow)


def empty(service: Service) -> str:
    workspace = in_store(service, lambda store: store.workspaces.add(f"ws {time.monotonic_ns()}"))
    return made(service, workspace_id=workspace.id)[0]


def call(service: Service, method: str, path: str, key: str = KEY, **more: Any) -> httpx2.Response:
    headers = {"authorization": f"Bearer {key}", **more.pop("headers", {})}
    return httpx2.request(method, service.url + path, headers=headers, timeout=60, **more)


def field(name: str, value: str) -> bytes:
    return f'--X\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()


def file(name: str, content: bytes) -> bytes:
    head = f'--X\r\ncontent-disposition: form-data; name="files"; filename="{name}"\r\n\r\n'
    return head.encode() + content + b"\r\n"


def post(service: Service, key: str, *parts: bytes, **headers: str) -> httpx2.Response:
    """Send a form in just this order."""
    headers["content-type"] = "multipart/form-data; boundary=X"
    return call(service, "POST", PATH, key, content=b"".join(parts) + b"--X--\r\n", headers=headers)


def data(answer: httpx2.Response) -> Any:
    """Return what an answer says, which has the envelope of this API."""
    body = answer.json()
    assert answer.status_code == 200, body
    assert set(body) == {"data", "request_id"}
    assert body["request_id"] == answer.headers["x-request-id"]
    assert UUID.fullmatch(body["request_id"])
    assert answer.headers["content-type"] == "application/json"
    return body["data"]


def refused(answer: httpx2.Response) -> tuple[int, str, str]:
    """Return the status, the code and the message of an error, which is flat."""
    body = answer.json()
    assert set(body) == {"code", "message", "request_id"}
    assert body["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["content-type"] == "application/json"
    return answer.status_code, body["code"], body["message"]


def kept(answer: httpx2.Response) -> list[str]:
    """Return the ids of a form's files, all of which are kept."""
    said = data(answer)
    assert said["failed_uploads"] == []
    return [one["file_id"] for one in said["uploaded_files"]]


def blobs(service: Service) -> list[Path]:
    """Return the files of bytes that a service has, and those that are coming in."""
    found = [path for path in (service.home / "files").rglob("*") if path.is_file()]
    return [path for path in found if path.name not in ("lock", "alive")]


# --- the calls -------------------------------------------------------------------------------------------------------


def test_files_are_made_shown_and_deleted_as_recorded(service: Service, key: str) -> None:
    """Field by field. What is more stands under `hanlin`: here it is how far a document has been read."""
    said = data(
        post(
            service,
            key,
            *(field("purpose", "file-extract"), field("descriptions", "第一"), field("descriptions", "test1")),
            *(file("test2.txt", b"content"), file("test1.txt", b"second")),
        )
    )
    first, second = [one["file_id"] for one in said["uploaded_files"]]
    wait_until(lambda: data(call(service, "GET", f"{PATH}/{first}", key))["hanlin"]["status"] == "processed", "read")
    shown = data(call(service, "GET", f"{PATH}/{first}", key))
    gone = call(service, "DELETE", f"{PATH}/{first}", key)

    assert said == {
        "uploaded_files": [{"name": "test2.txt", "file_id": first}, {"name": "test1.txt", "file_id": second}],
        "failed_uploads": [],
    }
    assert re.fullmatch(r"file-fe-[0-9a-f]{24}", first)
    number, at, tokens = shown["id"], shown["gmt_create"], shown["hanlin"]["tokens"]
    assert isinstance(number, int)
    assert 0 <= number < 2**31
    beijing = datetime.strptime(at, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC) - timedelta(hours=8)
    assert abs(beijing - datetime.now(UTC)) < timedelta(minutes=5)
    (row,) = in_store(service, lambda store: store.files.some([first]))
    told = {"status": "processed", "status_details": None, "kind": "txt", "pages": 1, "characters": 7, "tokens": tokens}
    assert shown == {
        "id": number,
        "name": "test2.txt",
        "description": "第一",
        "purpose": "file-extract",
        "size": 7,
        "md5": base64.b64encode(hashlib.md5(b"content", usedforsecurity=False).digest()).decode(),
        "region": "",
        "file_id": first,
        "url": "",
        "user_id": row.workspace_id,
        "api_key_id": row.key_id,
        "gmt_create": at,
        "hanlin": told,
    }
    assert data(call(service, "GET", f"{PATH}/{second}", key))["description"] == "test1"
    assert (gone.status_code, gone.json()) == (200, {"request_id": gone.headers["x-request-id"]})
    (row,) = in_store(service, lambda store: store.files.some([first]))
    assert (row.filename, row.description, row.md5) == ("", "", "")


def test_a_list_has_pages_and_their_total(service: Service, key: str) -> None:
    """Newest first, whatever they are for; ten on a page unless told otherwise, none behind the last."""
    ids = [kept(post(service, key, field("purpose", "batch"), file(f"{n}.txt", b"%d" % n)))[0] for n in range(12)]
    ids.reverse()

    def listed(query: str = "") -> tuple[list[str], int, int, int]:
        said = data(call(service, "GET", PATH + query, key))
        assert set(said) == {"total", "page_no", "page_size", "files"}
        return [one["file_id"] for one in said["files"]], said["total"], said["page_no"], said["page_size"]

    assert listed() == (ids[:10], 12, 1, 10)
    assert listed("?page_no=2&page_size=5") == (ids[5:10], 12, 2, 5)
    assert listed("?page_no=3&page_size=5") == (ids[10:], 12, 3, 5)
    assert listed("?page_no=99999999&page_size=100") == ([], 12, 99_999_999, 100)
    assert call(service, "DELETE", f"{PATH}/{ids[0]}", key).status_code == 200
    assert listed("?page_size=1") == (ids[1:2], 11, 1, 1)
    assert "hanlin" not in data(call(service, "GET", PATH, key))["files"][0]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("page_no=0", "Range of page_no should be [1, 99999999]"),
        ("page_no=-1", "Range of page_no should be [1, 99999999]"),
        ("page_no=1e9", "Range of page_no should be [1, 99999999]"),
        ("page_no=²", "Range of page_no should be [1, 99999999]"),
        ("page_size=0", "Range of page_size should be [1, 100]"),
        ("page_size=101", "Range of page_size should be [1, 100]"),
        (f"page_size={'9' * 5000}", "Range of page_size should be [1, 100]"),
    ],
)
def test_a_page_that_cannot_be_is_refused(service: Service, query: str, message: str) -> None:
    """With the range of the vendor's page."""
    assert refused(call(service, "GET", f"{PATH}?{query}")) == (400, "InvalidParameter", message)


def test_both_apis_have_the_same_files(service: Service, key: str, engine: FakeEngine) -> None:
    """And a document of either is read by qwen-long."""
    (native,) = kept(post(service, key, file("a.txt", "付款期限为三十天。".encode())))
    with service.client(api_key=key) as client:
        text = "# 另一份\n\n违约金为百分之五。".encode()
        compatible = client.files.create(file=("b.md", text), purpose="file-extract")  # type: ignore[arg-type]
        listed = [one["file_id"] for one in data(call(service, "GET", PATH, key))["files"]]
        assert listed == [one.id for one in client.files.list()] == [compatible.id, native]
        wait_until(lambda: {one.status for one in client.files.list()} == {"processed"}, "both are read")
        engine.forget_requests()

        answer = client.chat.completions.create(
            model="qwen-long",
            messages=[
                {"role": "system", "content": f"fileid://{native},fileid://{compatible.id}"},
                {"role": "user", "content": "付款期限和违约金？"},
            ],
        )

        assert answer.choices[0].message.content == "三十天"
        assert client.files.retrieve(native).filename == "a.txt"
        assert data(call(service, "GET", f"{PATH}/{compatible.id}", key))["name"] == "b.md"
        assert client.files.delete(native).deleted
        assert call(service, "DELETE", f"{PATH}/{compatible.id}", key).status_code == 200
    asked = json.dumps([request.body for request in engine.requests()], ensure_ascii=False, default=str)
    assert "付款期限为三十天。" in asked
    assert "违约金为百分之五。" in asked


@pytest.mark.parametrize("purpose", ["file-extract", "batch", "fine-tune", "fine_tune"])
def test_a_file_is_for_what_is_said(service: Service, key: str, purpose: str) -> None:
    """Said before or behind the file, as clients write their forms; the SDK's word for fine-tuning is another."""
    for parts in ((field("purpose", purpose), file("a", b"{}")), (file("a", b"{}"), field("purpose", purpose))):
        (made,) = kept(post(service, key, *parts))

        shown = data(call(service, "GET", f"{PATH}/{made}", key))
        assert shown["purpose"] == purpose.replace("_", "-")


def test_where_nothing_is_said_the_name_decides(service: Service, key: str) -> None:
    """The SDK never says it. Its default is lines for fine-tuning; whatever else it sends is a document."""
    lines, text = kept(post(service, key, file("Train.JSONL", b"{}"), file("a.txt", b"text"), field("purpose", "")))

    assert data(call(service, "GET", f"{PATH}/{lines}", key))["purpose"] == "fine-tune"
    assert data(call(service, "GET", f"{PATH}/{text}", key))["purpose"] == "file-extract"


def test_each_file_may_have_a_purpose_and_a_description_of_its_own(service: Service, key: str) -> None:
    """As in the vendor's example; what was said last is said of all that follow, but no description is."""
    first = (file("1.jsonl", b"{}"), field("purpose", "batch"), field("descriptions", "one"))
    second = (file("2.jsonl", b"{}"), field("purpose", "fine-tune"))
    ids = kept(post(service, key, *first, *second, file("3.jsonl", b"{}")))

    shown = [data(call(service, "GET", f"{PATH}/{one}", key)) for one in ids]
    assert [one["purpose"] for one in shown] == ["batch", "fine-tune", "fine-tune"]
    assert [one["description"] for one in shown] == ["one", "", ""]


def test_an_empty_file_and_the_same_bytes_twice_are_files(service: Service, key: str) -> None:
    """Each with an id of its own."""
    purpose = field("purpose", "batch")
    ids = kept(post(service, key, purpose, file("a", b""), file("b", b"same"), file("c", b"same"), file("d", b"")))

    sizes = [data(call(service, "GET", f"{PATH}/{one}", key))["size"] for one in ids]
    assert sizes == [0, 4, 4, 0]
    assert len(set(ids)) == 4


# --- what fails beside others ----------------------------------------------------------------------------------------


def test_a_file_that_is_too_large_does_not_lose_the_others(narrow: Service, small: str) -> None:
    """Before or behind it, found out as it comes or when its purpose is known; what it had on the disk is gone."""
    before = set(blobs(narrow))
    for purpose in ((field("purpose", "batch"), b""), (b"", field("purpose", "batch"))):
        said = data(
            post(narrow, small, purpose[0], file("1", b"1"), file("large", bytes(150_000)), file("3", b"3"), purpose[1])
        )

        assert [one["name"] for one in said["uploaded_files"]] == ["1", "3"]
        (failure,) = said["failed_uploads"]
        assert (failure["name"], failure["code"]) == ("large", "BadRequest.TooLarge")
        assert failure["message"].startswith("Payload Too Large.")
        for one in said["uploaded_files"]:
            call(narrow, "DELETE", f"{PATH}/{one['file_id']}", small)
    assert set(blobs(narrow)) == before


def test_a_workspace_that_is_full_keeps_what_it_has_room_for(narrow: Service, small: str) -> None:
    """In the words that were recorded; the others of the form are files."""
    batch = field("purpose", "batch")
    said = data(post(narrow, small, batch, *[file(str(number), b"%d" % number) for number in range(6)]))
    full = data(post(narrow, small, batch, file("late", b"late")))

    assert [one["name"] for one in said["uploaded_files"]] == ["0", "1", "2", "3"]
    for failure, name in zip([*said["failed_uploads"], *full["failed_uploads"]], ["4", "5", "late"], strict=True):
        assert (failure["name"], failure["code"]) == (name, "BadRequest.TooMany")
        assert failure["message"].startswith("Out of number, <4> of <4> files has been uploaded. ")
    assert full["uploaded_files"] == []


def test_a_workspace_without_space_keeps_what_fits(narrow: Service, small: str) -> None:
    """No more of a form is taken to the disk than there is room for, and a small file still finds it."""
    files = [file(str(number), bytes([number]) * 90_000) for number in range(4)]
    said = data(post(narrow, small, field("purpose", "batch"), *files, file("small", b"small")))

    failure = said["failed_uploads"][0]
    assert [one["name"] for one in said["uploaded_files"]] == ["0", "1", "2"]
    assert [one["name"] for one in said["failed_uploads"]] == ["3", "small"]
    assert failure["code"] == "BadRequest.TooLarge"
    assert failure["message"].startswith("Out of space, <270000> B of <300000> B storage space has been used. ")
    assert kept(post(narrow, small, field("purpose", "batch"), file("small", b"small")))


def test_a_form_brings_a_hundred_files_at_most(service: Service, key: str) -> None:
    """The others are told, and sent again."""
    said = data(post(service, key, field("purpose", "batch"), *[file(f"{n}", b"%d" % n) for n in range(102)]))

    assert [one["name"] for one in said["uploaded_files"]] == [str(number) for number in range(100)]
    assert [(one["name"], one["code"]) for one in said["failed_uploads"]] == [
        ("100", "BadRequest.TooMany"),
        ("101", "BadRequest.TooMany"),
    ]
    assert data(call(service, "GET", PATH, key))["total"] == 100


def test_what_fails_by_no_fault_of_the_caller_is_no_success(engine: FakeEngine, tmp_path: Path) -> None:
    """A disk that is full: 500, so that a client tries again, and nothing of the form stays."""
    config = "disk_reserve_bytes = 1000000000000000000\n" + in_front_of(engine, profile="vllm")
    with Service(tmp_path, config=config) as full:
        answer = post(full, KEY, file("a.txt", b"x"), file("b.txt", b"y"))

        assert refused(answer)[:2] == (500, "InternalError.FileUpload")
        assert blobs(full) == []


# --- whose -----------------------------------------------------------------------------------------------------------


def test_the_files_of_another_workspace_do_not_exist(service: Service, key: str) -> None:
    """Neither to be seen, nor deleted, nor counted; it looks as if they never were."""
    (mine,) = kept(post(service, KEY, field("purpose", "batch"), file("a", b"mine")))

    for method, file_id in (("GET", mine), ("DELETE", mine), ("GET", "file-fe-never"), ("DELETE", "%00")):
        answer = call(service, method, f"{PATH}/{file_id}", key)
        assert refused(answer) == (400, "InvalidParameter", "File not found.")
    assert data(call(service, "GET", PATH, key))["total"] == 0
    assert data(call(service, "GET", f"{PATH}/{mine}"))["size"] == 4


def test_a_key_that_may_chat_may_use_files_and_no_other(service: Service) -> None:
    """The same keys as on the other API."""
    chat, _ = made(service, surfaces=("chat",))
    vectors, _ = made(service, surfaces=("embeddings",))
    elsewhere, _ = made(service, addresses=("10.0.0.0/8",))

    assert data(call(service, "GET", PATH, chat))
    for key in (vectors, elsewhere):
        for method in ("GET", "POST"):
            status, code, message = refused(call(service, method, PATH, key))
            assert (status, code) == (403, "AccessDenied")
            assert message.startswith("Access denied.")


def test_nobody_uploads_without_a_key(service: Service) -> None:
    """A key that is missing and one that is wrong have words of their own here; nothing of the body is stored."""
    before = blobs(service)

    wrong = post(service, "sk-unknown", file("a", bytes(200_000)))
    without = httpx2.get(service.url + PATH)

    assert refused(wrong)[:2] == refused(without)[:2] == (401, "InvalidApiKey")
    assert refused(wrong)[2].startswith("Invalid API-key provided.")
    assert refused(without)[2].startswith("No API-key provided.")
    assert blobs(service) == before


# --- what is refused as a whole --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parts",
    [
        (field("purpose", "assistants"), file("a", b"x")),
        (file("a", b"x"), file("b", b"y"), field("purpose", "batch"), field("purpose", "inference")),
    ],
    ids=["first", "last"],
)
def test_a_purpose_that_is_none_is_refused_as_recorded(service: Service, key: str, parts: tuple[bytes, ...]) -> None:
    """In the other envelope, which is what was recorded of this path; nothing of the form is kept."""
    answer = post(service, key, *parts)

    assert answer.status_code == 400
    assert answer.json() == {
        "error": {
            "message": "'purpose' must be 'file-extract', 'batch' or 'fine-tune'",
            "type": "invalid_request_error",
            "param": "purpose",
            "code": None,
        },
        "request_id": answer.headers["x-request-id"],
    }
    assert data(call(service, "GET", PATH, key))["total"] == 0


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (file("a", b"x"), "breaks off"),
        (field("purpose", "batch") + b"--X--\r\n", "no part 'files' with a filename"),
        (file("a", b"x").replace(b'"files"', b'"file"') + b"--X--\r\n", "no part 'files' with a filename"),
        (field("purpose", "batch") * 401 + b"--X--\r\n", "more than 400 parts"),
    ],
    ids=["broken", "no file", "another name", "many parts"],
)
def test_what_is_no_form_with_files_is_refused(service: Service, key: str, content: bytes, why: str) -> None:
    """The other API's form has another name for its file: the answer says which is wanted here."""
    before = blobs(service)
    headers = {"content-type": "multipart/form-data; boundary=X"}

    status, code, message = refused(call(service, "POST", PATH, key, content=content, headers=headers))

    assert (status, code) == (400, "InvalidParameter")
    assert message.startswith("Required body invalid, please check the request body format.")
    assert why in message
    assert blobs(service) == before


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("PUT", PATH, 405, "GET, POST"),
        ("DELETE", PATH, 405, "GET, POST"),
        ("POST", f"{PATH}/file-fe-1", 405, "GET, DELETE"),
        ("GET", f"{PATH}/file-fe-1/content", 404, None),
        ("GET", f"{PATH}/a/b", 404, None),
        ("GET", "/api/v1/filesystem", 404, None),
    ],
)
def test_other_paths_and_methods_are_refused(
    service: Service, method: str, path: str, status: int, allow: str | None
) -> None:
    """As everywhere, in the words of this API; nothing that a caller uploaded is given out."""
    answer = call(service, method, path)

    assert (answer.status_code, answer.headers.get("allow")) == (status, allow)
    assert set(answer.json()) == {"code", "message", "request_id"}


def test_a_slash_at_the_end_says_nothing(service: Service, key: str) -> None:
    """Old clients build their paths with one."""
    (made,) = kept(post(service, key, field("purpose", "batch"), file("a", b"x")))

    assert data(call(service, "GET", f"{PATH}/", key))["total"] == 1
    assert data(call(service, "GET", f"{PATH}/{made}/", key))["file_id"] == made


def test_what_means_nothing_here_is_listed_as_ignored(service: Service, key: str) -> None:
    """A key has one workspace; programs that name another learn that it counted for nothing."""
    form = (field("purpose", "batch"), field("expires", "1"), file("a", b"x"))

    made = post(service, key, *form, **{"x-dashscope-workspace": "ws-other"})
    listed = call(service, "GET", f"{PATH}?order=asc")
    own = call(service, "GET", PATH, headers={"x-dashscope-workspace": "default"})

    assert made.headers["x-hanlin-ignored"] == "x-dashscope-workspace, expires"
    assert listed.headers["x-hanlin-ignored"] == "order"
    assert "x-hanlin-ignored" not in own.headers


# --- what goes on meanwhile ------------------------------------------------------------------------------------------


def test_many_files_do_not_stay_in_memory(service: Service, key: str) -> None:
    """A hundred megabytes in a hundred files leave the process as small as it was."""
    import psutil

    def form() -> Iterator[bytes]:
        yield field("purpose", "batch")
        for number in range(100):
            yield file(str(number), bytes([number]) * 1024**2)
        yield b"--X--\r\n"

    headers = {"content-type": "multipart/form-data; boundary=X"}
    kept(post(service, key, field("purpose", "batch"), file("warm", bytes(5_000_000))))
    before = psutil.Process(service.pid)
    size_bytes, descriptors = before.memory_info().rss, before.num_fds()

    ids = kept(call(service, "POST", PATH, key, content=form(), headers=headers))

    assert len(ids) == 100
    assert before.memory_info().rss - size_bytes < 20 * 1024**2
    assert before.num_fds() <= descriptors + 10


def test_no_name_no_description_and_no_content_of_a_file_is_in_the_log(service: Service, key: str) -> None:
    """What a file is called and said to be is a secret more often than not."""
    kept(post(service, key, field("descriptions", "takeover"), file("merger.txt", b"with whom")))
    post(service, key, field("purpose", "takeover"), file("merger.txt", b"with whom"))

    for word in ("merger", "takeover", "with whom"):
        assert word not in service.output()
