"""What the model hubs' addresses and listings look like, and where the quantised files of a model lie.

| | Hugging Face | ModelScope |
| --- | --- | --- |
| listing | `/api/models/{repository}/tree/{revision}`, pages by Link | `/api/v1/models/{repository}/repo/files` |
| digest | `lfs.oid` | `Sha256` |
| bytes | `/{repository}/resolve/{revision}/{file}` | `/models/{repository}/resolve/{revision}/{file}` |

Both redirect from there to storage elsewhere.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote, urlsplit

import httpx2
import msgspec

from hanlin.engines.weights.connection import http_client, is_passing, retry_after_s, what_happened
from hanlin.engines.weights.errors import NoSource, SourceFailed, SourceUnreachable, SourceUnusable
from hanlin.engines.weights.plan import Choice, HubFile, is_model_file
from hanlin.engines.weights.values import PATIENCE, Hub, Patience, Source, Tell, Wanted, ignore_line
from hanlin.words import say

_NAMES = {"modelscope": "ModelScope", "huggingface": "Hugging Face"}
_MAX_PAGES = 20
_MAX_LISTING_BYTES = 32 * 1024 * 1024
_DIGEST = re.compile("[0-9a-f]{64}")


def hub_label(kind: str, repository: str) -> str:
    """Name a repository on a hub as people do."""
    return f"{_NAMES.get(kind, kind)} {repository}"


def file_url(hub: Hub, repository: str, revision: str, file: str) -> str:
    """Return the address of a file's bytes."""
    folder = f"{hub.endpoint}/models/{repository}" if hub.kind == "modelscope" else f"{hub.endpoint}/{repository}"
    return f"{folder}/resolve/{quote(revision, safe='')}/{quote(file)}"


class _Lfs(msgspec.Struct):
    oid: str = ""
    size: int = 0


class _TreeEntry(msgspec.Struct):
    type: str
    path: str
    size: int = 0
    lfs: _Lfs | None = None


class _RepositoryFile(msgspec.Struct, rename="pascal"):
    path: str
    size: int = 0
    sha256: str | None = None
    type: str = ""


class _FileList(msgspec.Struct, rename="pascal"):
    files: list[_RepositoryFile] | None = None


class _Answer(msgspec.Struct, rename="pascal"):
    data: _FileList | None = None


@dataclass(frozen=True)
class Located:
    """Where the quantised files of a published model were found."""

    model: str
    hub: Hub
    repository: str
    files: tuple[HubFile, ...]

    def wanted(self, choice: Choice, hubs: Sequence[Hub], name: str) -> tuple[Wanted, ...]:
        """Return the chosen files as they are fetched: from here first, then under the same name from the other hubs.

        Whether another hub's file is the same one is for the digest to say.
        """
        order = (self.hub, *(hub for hub in hubs if hub != self.hub))
        return tuple(
            Wanted(
                name=name,
                size_bytes=file.size_bytes,
                sha256=file.sha256,
                sources=tuple(
                    Source(hub.kind, repository=self.repository, file=file.path, revision=hub.revision) for hub in order
                ),
                repository=self.model,
                quantisation=choice.quantisation,
                file_name=file.path.rpartition("/")[2],
            )
            for file in choice.files
        )


def locate(
    repository: str,
    candidates: Sequence[str],
    hubs: Sequence[Hub],
    *,
    tell: Tell = ignore_line,
    patience: Patience = PATIENCE,
) -> Located:
    """Ask the hubs in order for the first candidate repository that holds GGUF files with digests.

    A hub that cannot be reached is skipped with one line. Raises NoSource when nothing was found.
    """
    failures: list[SourceFailed] = []
    for hub in hubs:
        try:
            for candidate in candidates:
                files = tuple(
                    file for file in list_files(hub, candidate, patience=patience) if is_model_file(file.path)
                )
                if files:
                    return Located(repository, hub, candidate, files)
        except SourceFailed as failure:
            failures.append(failure)
            tell(say(f"{failure.message}; asking the next hub", f"{failure.message}；改问下一个站点"))
    tried = ", ".join(candidates)
    if failures:
        raise NoSource.after(repository, failures)
    raise NoSource(
        say(
            f"{repository}: no GGUF files were found; looked for {tried}. "
            "Add a [[weights]] row, or a [[deployment]] that points to a server which runs it",
            f"{repository}：未找到 GGUF 文件；已查找 {tried}。"
            "请添加 [[weights]] 行，或添加指向其他服务器的 [[deployment]]",
        )
    )


def list_files(hub: Hub, repository: str, *, patience: Patience = PATIENCE) -> tuple[HubFile, ...]:
    """Return the files of a repository that have digests; none when there is no such repository.

    Raises SourceUnreachable and SourceUnusable.
    """
    label = hub_label(hub.kind, repository)
    with http_client(label, patience, hub.token) as client:
        if hub.kind == "modelscope":
            query = f"?Revision={quote(hub.revision, safe='')}&Recursive=true"
            return _modelscope(client, f"{hub.endpoint}/api/v1/models/{repository}/repo/files{query}", label, patience)
        url = f"{hub.endpoint}/api/models/{repository}/tree/{quote(hub.revision, safe='')}?recursive=true"
        return _huggingface(client, url, label, patience)


def _modelscope(client: httpx2.Client, url: str, label: str, patience: Patience) -> tuple[HubFile, ...]:
    page = _get(client, url, label, patience)
    answer = _decode(page, _Answer, label)
    entries = answer.data.files if answer is not None and answer.data is not None else None
    return tuple(
        HubFile(entry.path, entry.size, entry.sha256.lower())
        for entry in entries or ()
        if entry.type != "tree" and entry.sha256 is not None and _DIGEST.fullmatch(entry.sha256.lower())
    )


def _huggingface(client: httpx2.Client, url: str, label: str, patience: Patience) -> tuple[HubFile, ...]:
    files: list[HubFile] = []
    next_url = url
    for _ in range(_MAX_PAGES):
        page = _get(client, next_url, label, patience)
        files.extend(
            HubFile(entry.path, entry.lfs.size, entry.lfs.oid)
            for entry in _decode(page, list[_TreeEntry], label) or ()
            if entry.type == "file" and entry.lfs is not None and _DIGEST.fullmatch(entry.lfs.oid)
        )
        # The token goes with the request, so the next page must be on the same hub.
        if page is None or not page.next_url or urlsplit(page.next_url)[:2] != urlsplit(url)[:2]:
            break
        next_url = page.next_url
    return tuple(files)


@dataclass(frozen=True)
class _Page:
    body: bytes
    next_url: str


def _get(client: httpx2.Client, url: str, label: str, patience: Patience) -> _Page | None:
    """Fetch one page of a listing; None when there is no such repository."""
    failures, answered = 0, False
    while True:
        wait_s = 0.0
        try:
            with client.stream("GET", url) as response:
                answered = True
                # Hugging Face answers 401 for a repository that does not exist, so as not to betray private ones.
                if response.status_code in (401, 403, 404):
                    return None
                if response.status_code == 200:
                    return _Page(_read(response, label), str(response.links.get("next", {}).get("url", "")))
                if not is_passing(response.status_code):
                    raise SourceUnusable(label, f"HTTP {response.status_code}")
                why, wait_s = f"HTTP {response.status_code}", retry_after_s(response.headers)
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, httpx2.TooManyRedirects, httpx2.DecodingError) as error:
            raise SourceUnusable(label, str(error)) from error
        except httpx2.TransportError as error:
            why = what_happened(error)
        failures += 1
        if failures >= (patience.attempts if answered else patience.connect_attempts):
            raise SourceUnreachable(label, why)
        time.sleep(min(max(patience.wait_s(failures), wait_s), patience.longest_wait_s))


def _read(response: httpx2.Response, label: str) -> bytes:
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if len(body) > _MAX_LISTING_BYTES:
            raise SourceUnusable(label, say("its listing is too long", "文件列表过长"))
    return bytes(body)


Kind = TypeVar("Kind")


def _decode(page: _Page | None, kind: type[Kind], label: str) -> Kind | None:
    if page is None:
        return None
    try:
        return msgspec.json.decode(page.body, type=kind)
    except msgspec.DecodeError as error:
        raise SourceUnusable(
            label, say(f"its listing was not understood: {error}", f"无法解析文件列表：{error}")
        ) from error
