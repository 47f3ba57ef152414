"""The home's `models/` folder: finished weights by digest, what they are, and who may write.

    models/<sha256>             a finished file: complete, synced and hashed before it got this name
    models/<sha256>.toml        what it is and where it came from
    models/<sha256>.set/        a model in several files: links under the names that the engine looks for
    models/<sha256>.corrupt     a finished file that was found damaged, kept until it is replaced
    models/partial/             unfinished files and the locks

How the bytes come here is the business of `fetch`.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from hanlin.engines.weights.errors import FolderUnusable
from hanlin.engines.weights.values import Wanted

_DIGEST = re.compile("[0-9a-f]{64}")
_LOCK_POLL_S = 0.2


class Manifest(msgspec.Struct, frozen=True):
    """What is kept beside a finished file. `modified_ns` is the file's when its digest was last right.

    `files` and `digests` name the parts of a set in order, the first one included; both are empty for a single file.
    """

    name: str
    repository: str
    quantisation: str
    size_bytes: int
    source: str
    fetched: str
    modified_ns: int
    files: tuple[str, ...] = ()
    digests: tuple[str, ...] = ()


class Installed(msgspec.Struct, frozen=True):
    """Weights that are ready to be run. `path` is what the engine is given; `size_bytes` counts all files of a set."""

    sha256: str
    path: Path
    size_bytes: int
    name: str
    repository: str
    quantisation: str
    source: str
    fetched: str


def find(models: Path, sha256: str) -> Path | None:
    """Return the path to give the engine, or None when these weights are not here whole."""
    manifest = read_manifest(models, sha256)
    if manifest is not None and manifest.digests:
        first = models / f"{sha256}.set" / manifest.files[0]
        return first if first.is_file() and all((models / digest).is_file() for digest in manifest.digests) else None
    path = models / sha256
    return path if path.is_file() else None


def installed(models: Path) -> list[Installed]:
    """Return all finished weights by name; the files of a set count as one. Says nothing about their digests."""
    if not models.is_dir():
        return []
    manifests = {
        path.name: read_manifest(models, path.name) for path in models.iterdir() if _DIGEST.fullmatch(path.name)
    }
    inner = {digest for manifest in manifests.values() if manifest is not None for digest in manifest.digests[1:]}
    found = []
    for sha256, manifest in manifests.items():
        path = find(models, sha256)
        if path is None or sha256 in inner:
            continue
        digests = manifest.digests if manifest is not None and manifest.digests else (sha256,)
        found.append(
            Installed(
                sha256=sha256,
                path=path,
                size_bytes=sum((models / digest).stat().st_size for digest in digests),
                name=manifest.name if manifest else "",
                repository=manifest.repository if manifest else "",
                quantisation=manifest.quantisation if manifest else "",
                source=manifest.source if manifest else "",
                fetched=manifest.fetched if manifest else "",
            )
        )
    return sorted(found, key=lambda item: (item.name, item.sha256))


def digest_of(path: Path) -> str:
    """Return a file's SHA-256 as 64 hex digits. Reads all of it: about a second per gigabyte from memory."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def verify(path: Path, sha256: str) -> bool:
    """Read the whole file and say whether it has this digest; False also when it cannot be read."""
    try:
        return digest_of(path) == sha256
    except OSError:
        return False


def whole(models: Path, sha256: str) -> bool:
    """Read finished weights completely, every file of a set, and say whether all digests are right."""
    manifest = read_manifest(models, sha256)
    digests = (manifest.digests if manifest is not None else ()) or (sha256,)
    return all(verify(models / digest, digest) for digest in digests)


def intact(models: Path, sha256: str) -> bool:
    """Say whether finished weights are still what they were, reading them only if size or time of change differ.

    Of a set, every file is looked at. What is found right is remembered, so that the next start is quick.
    """
    manifest = read_manifest(models, sha256)
    for digest in (manifest.digests if manifest is not None else ()) or (sha256,):
        path = models / digest
        known = read_manifest(models, digest)
        try:
            status = path.stat()
        except OSError:
            return False
        if known is not None and (status.st_size, status.st_mtime_ns) == (known.size_bytes, known.modified_ns):
            continue
        if not verify(path, digest):
            return False
        if known is not None:
            found = msgspec.structs.replace(known, size_bytes=status.st_size, modified_ns=status.st_mtime_ns)
            # On a disk that is mounted read-only, not being able to remember only costs the time of the next look.
            with contextlib.suppress(OSError):
                write_manifest(models, digest, found)
    return True


def quarantine(models: Path, sha256: str) -> Path | None:
    """Rename damaged weights aside, so that they are never used and the next fetch starts anew.

    Of a set, only the damaged files go. Returns where the last of them is now, or None when there was none.
    """
    manifest = read_manifest(models, sha256)
    aside = None
    for digest in (manifest.digests if manifest is not None else ()) or (sha256,):
        path = models / digest
        if path.is_file() and not verify(path, digest):
            aside = models / f"{digest}.corrupt"
            os.replace(path, aside)
    return aside


def install(models: Path, unfinished: Path, wanted: Wanted, source: str) -> Path:
    """Give a complete file, whose digest is right, its final name, so that it survives a power cut or never appears."""
    with unfinished.open("rb") as file:
        os.fsync(file.fileno())
    status = unfinished.stat()
    manifest = Manifest(
        name=wanted.name,
        repository=wanted.repository,
        quantisation=wanted.quantisation,
        size_bytes=status.st_size,
        source=source,
        fetched=datetime.now(UTC).isoformat(timespec="seconds"),
        modified_ns=status.st_mtime_ns,
    )
    write_manifest(models, wanted.sha256, manifest)
    final = models / wanted.sha256
    os.replace(unfinished, final)
    _sync_folder(models)
    (models / f"{wanted.sha256}.corrupt").unlink(missing_ok=True)
    return final


def join_set(models: Path, parts: Sequence[Wanted]) -> Path:
    """Make the folder of links that presents finished files as one set, and return the path of the first link.

    The lock of the first file must be held. Raises FolderUnusable.
    """
    first = parts[0]
    manifest = read_manifest(models, first.sha256)
    if manifest is None:
        raise ValueError(f"{first.sha256} is not installed")
    folder = models / f"{first.sha256}.set"
    files, digests = tuple(part.file_name for part in parts), tuple(part.sha256 for part in parts)
    if (manifest.files, manifest.digests) == (files, digests) and find(models, first.sha256):
        return folder / first.file_name
    try:
        with tempfile.TemporaryDirectory(dir=partial_folder(models)) as scratch:
            links = Path(scratch, "set")
            links.mkdir()
            for part in parts:
                # A relative link keeps working when the home is moved.
                (links / part.file_name).symlink_to(Path("..", part.sha256))
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(links, folder)
        write_manifest(models, first.sha256, msgspec.structs.replace(manifest, files=files, digests=digests))
    except OSError as error:
        raise FolderUnusable(error, folder) from error
    return folder / first.file_name


def read_manifest(models: Path, sha256: str) -> Manifest | None:
    """Return what is known about a finished file, or None: a lost or damaged manifest never hides the weights."""
    try:
        table = tomllib.loads((models / f"{sha256}.toml").read_text(encoding="utf-8"))
        return msgspec.convert(table, Manifest)
    except (OSError, ValueError):
        return None


def write_manifest(models: Path, sha256: str, manifest: Manifest) -> None:
    """Write the manifest whole or not at all."""
    # JSON's strings, numbers and arrays of strings are TOML's as well.
    lines = (
        f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in msgspec.to_builtins(manifest).items()
    )
    replace_text(models / f"{sha256}.toml", "".join(lines))


def replace_text(path: Path, text: str) -> None:
    """Write a small file under another name first, so that readers see the old or the new one, never a part."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(text, encoding="utf-8")
    os.replace(scratch, path)


def partial_folder(models: Path) -> Path:
    """Return the folder of unfinished files, made if need be. Raises FolderUnusable."""
    folder = models / "partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FolderUnusable(error, folder) from error
    return folder


@contextlib.contextmanager
def locked(models: Path, sha256: str, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold the right to write this digest's files; `waiting` is called again and again while another process has it.

    The lock is the kernel's and goes with its process, however that ends; the lock file itself stays.
    """
    path = partial_folder(models) / f"{sha256}.lock"
    try:
        file = path.open("ab")
    except OSError as error:
        raise FolderUnusable(error, path) from error
    with file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                # Polled and not awaited in the kernel: a thread that waits there could not be cancelled.
                waiting()
                time.sleep(_LOCK_POLL_S)
        yield


def _sync_folder(folder: Path) -> None:
    """Make renames in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
