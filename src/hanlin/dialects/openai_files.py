"""Files as Model Studio's compatible mode speaks of them (spec/surfaces.md §1). Pure.

Times without a zone are the vendor's: China Standard Time.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from hanlin.errors import InvalidPurpose, InvalidRequest

PURPOSES = ("file-extract", "batch", "fine-tune")
"""What callers upload files for."""

OUTPUT = "batch_output"
"""The purpose of files that the service makes."""

LISTED = 2000
_PARAMETERS = ("after", "limit", "purpose", "create_after", "create_before")
_MOST_PARAMETERS = 100
_ID = re.compile(r"file-[\w-]{1,100}", re.ASCII)
_ZONE = timezone(timedelta(hours=8))
_TIMES = (
    (re.compile(r"\d{14}"), "%Y%m%d%H%M%S"),
    (re.compile(r"\d{8}"), "%Y%m%d"),
    (re.compile(r"\d{4}-\d{2}-\d{2}"), "%Y-%m-%d"),
    (re.compile(r"\d{4}-\d{2}-\d{2}[ T]\d{2}:\d{2}:\d{2}"), "%Y-%m-%d %H:%M:%S"),
)


class FileObject(msgspec.Struct, frozen=True, kw_only=True):
    """A file as a client sees it; `hanlin` is what is known of it beyond the contract."""

    id: str
    object: str = "file"
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: str
    status_details: str | None = None
    hanlin: dict[str, Any] | None = None


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """Which files are asked for. `ignored` are names of parameters that mean nothing here."""

    after: str = ""
    limit: int = LISTED
    purpose: str = ""
    since: datetime | None = None
    until: datetime | None = None
    ignored: tuple[str, ...] = ()


def purpose_of(said: str | None) -> str:
    """Return what a file is uploaded for. Raises InvalidPurpose."""
    if said is None or said not in PURPOSES:
        raise InvalidPurpose(PURPOSES)
    return said


def listing(query: str) -> Listing:
    """Return what a list is asked for. Raises InvalidRequest."""
    try:
        said = dict(parse_qsl(query, max_num_fields=_MOST_PARAMETERS))
    except ValueError as error:
        raise InvalidRequest("the parameters cannot be read") from error
    purpose = said.get("purpose", "")
    if purpose and purpose not in (*PURPOSES, OUTPUT):
        raise InvalidPurpose((*PURPOSES, OUTPUT))
    after = said.get("after", "")
    if after and not _ID.fullmatch(after):
        raise unknown_mark(after)
    return Listing(
        after=after,
        limit=_limit(said.get("limit")),
        purpose=purpose,
        since=_time("create_after", said),
        until=_time("create_before", said),
        ignored=tuple(name for name in said if name not in _PARAMETERS),
    )


def answer(file: FileObject) -> bytes:
    """Return the body of an answer that is one file."""
    return msgspec.json.encode(_shown(file))


def listed(files: Sequence[FileObject], *, has_more: bool) -> bytes:
    """Return the body of a list."""
    return msgspec.json.encode({"object": "list", "data": list(map(_shown, files)), "has_more": has_more})


def deleted(file_id: str) -> bytes:
    """Return the body that confirms a deletion."""
    return msgspec.json.encode({"id": file_id, "object": "file", "deleted": True})


def unknown_mark(file_id: str) -> InvalidRequest:
    """Return the error for a list that is to go on after a file that never was."""
    return InvalidRequest(f"No such File object: {file_id[:100]}", param="after")


def no_content() -> InvalidRequest:
    """Return the error for the content of a file that a caller uploaded: only what the service made is given out."""
    return InvalidRequest(f"Not allowed to download files of purpose other than {OUTPUT}", param="id")


def _shown(file: FileObject) -> dict[str, Any]:
    fields = msgspec.structs.asdict(file)
    if file.hanlin is None:
        del fields["hanlin"]
    return fields


def _limit(said: str | None) -> int:
    if said is None:
        return LISTED
    if said.isascii() and said.isdecimal() and len(said) < 9 and 1 <= int(said) <= LISTED:
        return int(said)
    raise InvalidRequest(f"Range of limit should be [1, {LISTED}]", param="limit")


def _time(name: str, said: dict[str, str]) -> datetime | None:
    text = said.get(name, "").strip()
    if not text:
        return None
    for shape, form in _TIMES:
        if shape.fullmatch(text):
            try:
                return datetime.strptime(text.replace("T", " "), form).replace(tzinfo=_ZONE).astimezone(UTC)
            except ValueError:
                break
    forms = "20250306123000, 2025-03-06 12:30:00, 2025-03-06 or 20250306"
    raise InvalidRequest(f"Invalid '{name}': {text[:40]!r}. It is a time such as {forms}", param=name)


__all__ = [
    "OUTPUT",
    "PURPOSES",
    "FileObject",
    "Listing",
    "answer",
    "deleted",
    "listed",
    "listing",
    "no_content",
    "purpose_of",
    "unknown_mark",
]
