"""Finding and fetching the quantised files of a published model on hubs that look like the real ones.

The fake hubs answer as Hugging Face (`/api/models/…/tree/…`, `lfs.oid`, Link) and ModelScope (`/repo/files`, `Sha256`)
do, and redirect to storage on another origin.
"""

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hanlin.engines.weights import (
    Hub,
    Means,
    NoSource,
    Patience,
    Source,
    Wanted,
    fetch,
    fetch_set,
    installed,
    list_files,
    locate,
    pick,
)
from hanlin.settings import Secret
from tests.faulty_server import Fault, FaultyServer, faulty_server

MODEL = "Qwen/Qwen3-0.6B"
REPOSITORY = "Qwen/Qwen3-0.6B-GGUF"
CANDIDATES = (REPOSITORY, "unsloth/Qwen3-0.6B-GGUF")
SMALL, LARGE = random.Random(1).randbytes(100_000), random.Random(2).randbytes(200_000)
PATIENT = Patience(silence_s=20, attempts=2, first_wait_s=0.01, longest_wait_s=0.05)


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


@pytest.fixture
def hub() -> Iterator[FaultyServer]:
    with faulty_server() as running:
        yield running


@pytest.fixture
def storage() -> Iterator[FaultyServer]:
    with faulty_server() as running:
        yield running


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def hugging_face(server: FaultyServer, token: str = "") -> Hub:
    return Hub("huggingface", server.url, "main", Secret(token))


def modelscope(server: FaultyServer) -> Hub:
    return Hub("modelscope", server.url, "master")


def entry(path: str, body: bytes) -> dict[str, object]:
    """A file of a Hugging Face listing."""
    return {
        "type": "file",
        "oid": "0" * 40,
        "size": len(body),
        "path": path,
        "lfs": {"oid": sha256(body), "size": len(body), "pointerSize": 134},
    }


def tree(server: FaultyServer, repository: str, *entries: dict[str, object]) -> None:
    """List a repository as Hugging Face does, beside the small files that every repository has."""
    readme = {"type": "file", "oid": "1" * 40, "size": 42, "path": "README.md"}
    folder = {"type": "directory", "oid": "2" * 40, "size": 0, "path": "images"}
    body = json.dumps([folder, readme, *entries]).encode()
    server.serve(f"/api/models/{repository}/tree/main?recursive=true", body)


def files(server: FaultyServer, repository: str, **bodies: bytes) -> None:
    """List a repository as ModelScope does."""
    listed: list[dict[str, object]] = [{"Name": "images", "Path": "images", "Size": 0, "Type": "tree", "Sha256": ""}]
    listed += [
        {"Name": path, "Path": path, "Size": len(body), "Sha256": sha256(body), "Type": "blob", "IsLFS": True}
        for path, body in bodies.items()
    ]
    body = json.dumps({"Code": 200, "Success": True, "Message": "", "Data": {"Files": listed}}).encode()
    server.serve(f"/api/v1/models/{repository}/repo/files?Revision=master&Recursive=true", body)


def test_a_model_is_found_chosen_and_fetched_from_hugging_face(
    hub: FaultyServer, storage: FaultyServer, tmp_path: Path
) -> None:
    """The whole way of `hanlin pull`: listing, choice by memory, redirect to storage, digest."""
    tree(hub, REPOSITORY, entry("Qwen3-0.6B-Q8_0.gguf", LARGE), entry("Qwen3-0.6B-Q4_K_M.gguf", SMALL))
    stored = storage.serve("/xet/abc?X-Signature=s", SMALL)
    resolve = f"/{REPOSITORY}/resolve/main/Qwen3-0.6B-Q4_K_M.gguf"
    linked = {"X-Linked-ETag": f'"{sha256(SMALL)}"', "X-Linked-Size": str(len(SMALL))}
    hub.serve(resolve, b"", always=Fault(redirect=stored, headers=linked))
    hubs = (hugging_face(hub),)

    located = locate(MODEL, CANDIDATES, hubs, patience=PATIENT)
    choice = pick(located.files, 10**9, ("Q4_K_M", "Q8_0"), name="qwen3-0.6b")
    path = fetch_set(located.wanted(choice, hubs, "qwen3-0.6b"), tmp_path, Means(hubs=hubs, patience=PATIENT))

    assert path.read_bytes() == SMALL
    (row,) = installed(tmp_path)
    assert (row.name, row.repository, row.quantisation) == ("qwen3-0.6b", MODEL, "Q4_K_M")
    assert row.source == f"Hugging Face {REPOSITORY}"


def test_a_model_is_found_and_fetched_from_modelscope(hub: FaultyServer, storage: FaultyServer, tmp_path: Path) -> None:
    """The hub of most users, with its own listing and addresses."""
    files(hub, REPOSITORY, **{"Qwen3-0.6B-Q8_0.gguf": LARGE})
    stored = storage.serve("/lfs/abc", LARGE)
    hub.serve(f"/models/{REPOSITORY}/resolve/master/Qwen3-0.6B-Q8_0.gguf", b"", always=Fault(redirect=stored))
    hubs = (modelscope(hub),)

    located = locate(MODEL, CANDIDATES, hubs, patience=PATIENT)
    choice = pick(located.files, 10**9, ("Q4_K_M", "Q8_0"), name="qwen3-0.6b")
    path = fetch_set(located.wanted(choice, hubs, "qwen3-0.6b"), tmp_path, Means(hubs=hubs, patience=PATIENT))

    assert path.read_bytes() == LARGE


def test_a_redirected_download_is_resumed_through_the_hub(
    hub: FaultyServer, storage: FaultyServer, tmp_path: Path
) -> None:
    """Signed addresses run out, so every attempt begins at the hub and asks storage for the rest only."""
    stored = storage.serve("/blob", LARGE, Fault(drop_after=150_000), etag='"storage"')
    hub.serve(f"/{REPOSITORY}/resolve/main/f.gguf", b"", always=Fault(redirect=stored))
    source = Source("huggingface", repository=REPOSITORY, file="f.gguf", revision="main")
    wanted = Wanted("m", len(LARGE), sha256(LARGE), (source,))

    fetch(wanted, tmp_path, Means(hubs=(hugging_face(hub),), patience=PATIENT))

    assert len(hub.requests) == 2
    assert [request.headers.get("range") for request in storage.requests] == [None, "bytes=150000-"]


def test_a_token_is_given_to_the_hub_and_to_nobody_else(
    hub: FaultyServer, storage: FaultyServer, tmp_path: Path
) -> None:
    """Storage belongs to others, and a redirect can lead anywhere."""
    stored = storage.serve("/blob", SMALL)
    hub.serve(f"/{REPOSITORY}/resolve/main/f.gguf", b"", always=Fault(redirect=stored))
    source = Source("huggingface", repository=REPOSITORY, file="f.gguf", revision="main")
    wanted = Wanted("m", len(SMALL), sha256(SMALL), (source,))

    fetch(wanted, tmp_path, Means(hubs=(hugging_face(hub, "hf_secret"),), patience=PATIENT))

    assert [request.headers.get("authorization") for request in hub.requests] == ["Bearer hf_secret"]
    assert [request.headers.get("authorization") for request in storage.requests] == [None]


def test_a_listing_of_several_pages_is_read_to_its_end(hub: FaultyServer) -> None:
    """Hugging Face cuts long listings and names the next page in a Link header."""
    tree(hub, REPOSITORY, entry("a-Q8_0.gguf", LARGE))
    first = hub.paths[f"/api/models/{REPOSITORY}/tree/main?recursive=true"]
    first.headers = {"Link": f'<{hub.url}/page2?cursor=x>; rel="next"'}
    hub.serve("/page2?cursor=x", json.dumps([entry("b-Q4_0.gguf", SMALL)]).encode())

    found = list_files(hugging_face(hub), REPOSITORY, patience=PATIENT)

    assert [(file.path, file.sha256) for file in found] == [
        ("a-Q8_0.gguf", sha256(LARGE)),
        ("b-Q4_0.gguf", sha256(SMALL)),
    ]


def test_the_next_page_is_not_followed_to_another_host(hub: FaultyServer, storage: FaultyServer) -> None:
    """The request carries the user's token."""
    tree(hub, REPOSITORY, entry("a-Q8_0.gguf", LARGE))
    first = hub.paths[f"/api/models/{REPOSITORY}/tree/main?recursive=true"]
    first.headers = {"Link": f'<{storage.url}/page2>; rel="next"'}

    assert len(list_files(hugging_face(hub, "hf_secret"), REPOSITORY, patience=PATIENT)) == 1
    assert storage.requests == []


def test_the_next_candidate_is_asked_when_a_repository_is_missing_or_without_gguf(hub: FaultyServer) -> None:
    """Publishers put their files in different places; a missing repository is 401 or 404, by hub and login."""
    hub.serve("/api/models/a/one/tree/main?recursive=true", b"", always=Fault(status=401))
    tree(hub, "a/two", entry("model.safetensors", LARGE))
    tree(hub, "a/three", entry("m-Q4_0.gguf", SMALL))

    located = locate(MODEL, ("a/none", "a/one", "a/two", "a/three"), (hugging_face(hub),), patience=PATIENT)

    assert located.repository == "a/three"


def test_a_hub_that_fails_is_skipped_with_one_line(hub: FaultyServer) -> None:
    """One hub down must not stop a pull that another can serve."""
    lines: list[str] = []
    down = f"/api/v1/models/{REPOSITORY}/repo/files?Revision=master&Recursive=true"
    hub.serve(down, b"", always=Fault(status=503))
    tree(hub, REPOSITORY, entry("m-Q4_0.gguf", SMALL))

    located = locate(MODEL, CANDIDATES, (modelscope(hub), hugging_face(hub)), tell=lines.append, patience=PATIENT)

    assert located.hub.kind == "huggingface"
    (line,) = lines
    assert line.startswith(f"ModelScope {REPOSITORY}: HTTP 503")
    assert len(hub.asked(down)) == PATIENT.attempts


def test_a_listing_that_is_no_listing_is_an_error_of_the_hub(hub: FaultyServer) -> None:
    """A proxy's page in place of the listing must not pass for an empty repository."""
    hub.serve(f"/api/models/{REPOSITORY}/tree/main?recursive=true", b"<html>please log in</html>")

    with pytest.raises(NoSource, match="listing was not understood"):
        locate(MODEL, CANDIDATES, (hugging_face(hub),), patience=PATIENT)


def test_a_model_nobody_quantised_is_refused_with_where_was_looked(hub: FaultyServer) -> None:
    """The next step is another way to run it, not another try."""
    with pytest.raises(NoSource) as caught:
        locate(MODEL, CANDIDATES, (hugging_face(hub),), patience=PATIENT)

    assert MODEL in caught.value.message
    assert CANDIDATES[1] in caught.value.message
    assert "[[deployment]]" in caught.value.message


def test_the_other_hub_gives_the_file_when_the_first_breaks(hub: FaultyServer, tmp_path: Path) -> None:
    """The same repositories exist on both hubs; the digest says whether it is the same file."""
    lines: list[str] = []
    name = "Qwen3-0.6B-Q8_0.gguf"
    files(hub, REPOSITORY, **{name: LARGE})
    hub.serve(f"/models/{REPOSITORY}/resolve/master/{name}", LARGE, always=Fault(status=502))
    hub.serve(f"/{REPOSITORY}/resolve/main/{name}", LARGE)
    hubs = (modelscope(hub), hugging_face(hub))

    located = locate(MODEL, CANDIDATES, hubs, patience=PATIENT)
    choice = pick(located.files, 10**9, ("Q8_0",), name="m")
    means = Means(hubs=hubs, patience=PATIENT, tell=lines.append)
    path = fetch_set(located.wanted(choice, hubs, "m"), tmp_path, means)

    assert path.read_bytes() == LARGE
    assert [line.partition(":")[0] for line in lines] == [f"ModelScope {REPOSITORY}"]


def test_a_split_model_is_fetched_into_one_set(hub: FaultyServer, tmp_path: Path) -> None:
    """Publishers split large files; the engine is given the first one and finds the others beside it."""
    progress: list[tuple[int, int]] = []
    names = ("q8/m-q8_0-00001-of-00002.gguf", "q8/m-q8_0-00002-of-00002.gguf")
    tree(hub, REPOSITORY, entry(names[0], LARGE), entry(names[1], SMALL))
    for name, body in zip(names, (LARGE, SMALL), strict=True):
        hub.serve(f"/{REPOSITORY}/resolve/main/{name}", body)
    hubs = (hugging_face(hub),)
    located = locate(MODEL, CANDIDATES, hubs, patience=PATIENT)
    choice = pick(located.files, 10**9, ("Q8_0",), name="m")
    means = Means(hubs=hubs, patience=PATIENT, progress=lambda done, total, text: progress.append((done, total)))

    path = fetch_set(located.wanted(choice, hubs, "m"), tmp_path, means)
    again = fetch_set(located.wanted(choice, hubs, "m"), tmp_path, means)

    assert path == again
    assert path.name == "m-q8_0-00001-of-00002.gguf"
    assert [part.read_bytes() for part in sorted(path.parent.iterdir())] == [LARGE, SMALL]
    assert [row.size_bytes for row in installed(tmp_path)] == [300_000]
    assert progress == sorted(progress)
    assert progress[-1] == (300_000, 300_000)
    assert len(hub.requests) == 3


def test_a_set_that_lost_a_part_is_not_run_and_is_mended_by_another_pull(hub: FaultyServer, tmp_path: Path) -> None:
    """Given the first part alone, the engine would fail with a riddle; only the lost part is fetched again."""
    names = ("m-q8_0-00001-of-00002.gguf", "m-q8_0-00002-of-00002.gguf")
    tree(hub, REPOSITORY, entry(names[0], LARGE), entry(names[1], SMALL))
    for name, body in zip(names, (LARGE, SMALL), strict=True):
        hub.serve(f"/{REPOSITORY}/resolve/main/{name}", body)
    hubs = (hugging_face(hub),)
    located = locate(MODEL, CANDIDATES, hubs, patience=PATIENT)
    parts = located.wanted(pick(located.files, 10**9, ("Q8_0",), name="m"), hubs, "m")
    path = fetch_set(parts, tmp_path, Means(hubs=hubs, patience=PATIENT))
    installed_only = replace(parts[0], sources=())
    assert fetch(installed_only, tmp_path) == path

    (tmp_path / sha256(SMALL)).write_bytes(SMALL[:-1] + b"?")
    with pytest.raises(NoSource, match="hanlin pull m"):
        fetch(installed_only, tmp_path)

    assert fetch_set(parts, tmp_path, Means(hubs=hubs, patience=PATIENT)) == path
    assert [part.read_bytes() for part in sorted(path.parent.iterdir())] == [LARGE, SMALL]
    assert len(hub.asked(f"/{REPOSITORY}/resolve/main/{names[0]}")) == 1
    assert len(hub.asked(f"/{REPOSITORY}/resolve/main/{names[1]}")) == 2


def test_a_hub_without_an_address_is_left_for_the_next_source(hub: FaultyServer, tmp_path: Path) -> None:
    """An operator may have removed a hub from the table on purpose."""
    lines: list[str] = []
    sources = (
        Source("huggingface", repository=REPOSITORY, file="f", revision="main"),
        Source("url", url=hub.serve("/f", SMALL)),
    )

    fetch(Wanted("m", len(SMALL), sha256(SMALL), sources), tmp_path, Means(tell=lines.append, patience=PATIENT))

    assert lines == [
        f"Hugging Face {REPOSITORY}: no address is known for 'huggingface'; trying the next source",
    ]
