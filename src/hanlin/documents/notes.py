"""What was written down of a document, kept beside its index: found again after a restart, and by other processes.

    <folder>/notes/<key>    one note, as JSON; its key says what it was made of

A note appears whole or not at all, whoever else writes or deletes meanwhile, and it can always be made again: one that
cannot be read, or kept, is one that is not there. Nothing here waits on an event loop: callers run it in a thread.
"""

import contextlib
import os
import re
import secrets
from pathlib import Path

import msgspec

NOTES = "notes"

MOST_NOTES = 256
"""Of one document: a few readings of forty-eight parts each, by models of different windows."""

MOST_BYTES = 1024**2
"""Of all notes of one document."""

_MOST_NOTE_BYTES = 32 * 1024
_KEY = re.compile(r"[0-9a-f]{16,64}")


class _Note(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A note on the disk: one that was cut off is no JSON any more."""

    text: str


def note_of(folder: Path, key: str) -> str | None:
    """Return what was noted under a key of a document in a folder; None where nothing was, or nothing readable."""
    path = _place(folder, key)
    try:
        note = msgspec.json.decode(path.read_bytes(), type=_Note)
        os.utime(path)  # those that are not used go first
    except (OSError, msgspec.DecodeError):
        return None
    return note.text


def keep_note(folder: Path, key: str, text: str) -> None:
    """Keep a note with a document, and no more of them than may be; none where the document is gone, or the disk full.

    Raises ValueError for a key that is no hexadecimal digest.
    """
    place = _place(folder, key)
    content = msgspec.json.encode(_Note(text))
    if len(content) > _MOST_NOTE_BYTES:
        return
    beside = place.with_name(f".{key}.{secrets.token_hex(4)}")
    with contextlib.suppress(OSError):
        with contextlib.suppress(FileExistsError):
            place.parent.mkdir(mode=0o700)  # and nothing above it: without the folder there is no document
        try:
            with open(beside, "xb", opener=_private) as file:
                file.write(content)
            beside.replace(place)
        finally:
            beside.unlink(missing_ok=True)
        _trim(place.parent)


def _place(folder: Path, key: str) -> Path:
    if not _KEY.fullmatch(key):
        raise ValueError(f"{key!r} is not the key of a note")
    return folder / NOTES / key


def _trim(notes: Path) -> None:
    """Delete the notes beyond what may be kept, and what writers left that died, those first that are oldest."""
    found = []
    with os.scandir(notes) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):  # another one's, and it is gone
                status = entry.stat()
                found.append((status.st_mtime_ns, status.st_size, entry.path))
    left_bytes = MOST_BYTES
    for number, (_, size_bytes, path) in enumerate(sorted(found, reverse=True)):
        left_bytes -= size_bytes
        if number >= MOST_NOTES or left_bytes < 0:
            Path(path).unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


__all__ = ["MOST_BYTES", "MOST_NOTES", "NOTES", "keep_note", "note_of"]
