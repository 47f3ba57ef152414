"""Put servers that were found into `hanlin.toml`: tables are appended, and nothing that stands there is touched."""

import contextlib
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hanlin.errors import StartupError
from hanlin.service.neighbours import Neighbour, deployment_toml, is_used, name_of
from hanlin.settings import DeploymentRow, load
from hanlin.words import say

_NEW_FILE_MODE = 0o600  # it may come to hold a key


@dataclass(frozen=True)
class Adopted:
    """What was written: the file, and the text that was appended to it; "" when there was nothing to add."""

    file: Path
    text: str


def adopt(file: Path, neighbours: Sequence[Neighbour]) -> Adopted:
    """Append a `[[deployment]]` table for every neighbour with a model that no table of `file` uses yet.

    The file is exchanged as a whole, so that a reader sees the old or the new one. Raises StartupError, and leaves it
    as it is, when it is no settings file before or after, or cannot be written.
    """
    file = file.resolve()  # the file that a link leads to is exchanged, not the link
    there = load(file, {}).settings.deployment if file.exists() else ()
    text = tables(neighbours, there)
    if text:
        try:
            _append(file, text)
        except OSError as error:
            raise StartupError(
                say(f"{file}: cannot be written ({error.strerror})", f"{file}：无法写入（{error.strerror}）")
            ) from error
    return Adopted(file, text)


def tables(neighbours: Sequence[Neighbour], there: Sequence[DeploymentRow]) -> str:
    """Return the tables of those neighbours that have a model and no row yet, each under a name that is free."""
    taken = {row.name for row in there}
    found = []
    for neighbour in neighbours:
        if not neighbour.models or is_used(neighbour, there):
            continue
        name, number = name_of(neighbour), 1
        while name in taken:
            number += 1
            name = f"{name_of(neighbour)}-{number}"
        taken.add(name)
        found.append(deployment_toml(neighbour, name))
    return "\n\n".join(found)


def _append(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    before = file.read_bytes() if file.exists() else b""
    lead = b"" if not before else b"\n" if before.endswith(b"\n") else b"\n\n"
    handle, name = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    new = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(before + lead + text.encode() + b"\n")
            stream.flush()
            _take_over(stream.fileno(), file)
            os.fsync(stream.fileno())
        _check(new, file)
        new.replace(file)
    finally:
        new.unlink(missing_ok=True)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _take_over(handle: int, file: Path) -> None:
    """Give the new file the mode and, where that is allowed, the owner of the old one."""
    if not file.exists():
        os.fchmod(handle, _NEW_FILE_MODE)
        return
    status = file.stat()
    os.fchmod(handle, status.st_mode & 0o7777)
    with contextlib.suppress(PermissionError):
        os.fchown(handle, status.st_uid, status.st_gid)


def _check(new: Path, file: Path) -> None:
    """Make sure that a start would take the new file: tables cannot follow `deployment = [...]`, for one."""
    try:
        load(new, {})
    except StartupError as problem:
        why = str(problem).removeprefix(str(new)).lstrip(":： ")
        raise StartupError(
            say(
                f"{file}: left as it is, since tables at its end would not be read: {why}. Add them by hand",
                f"{file}：未作改动，因为追加的表无法读取：{why}。请手动添加",
            )
        ) from problem
