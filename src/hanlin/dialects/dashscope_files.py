"""Files as Model Studio's native API speaks of them (spec/surfaces.md §1.6). Pure.

The vendor's SDK says for nothing what a file is uploaded for, whatever its caller says: then the name decides.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from hanlin.errors import InvalidPurpose, InvalidRequest

PURPOSES = ("file-extract", "batch", "fine-tune")
"""What callers upload files for."""

FILES = "files"
"""What the parts of a form are called that are files."""

FIELDS = ("purpose", "descriptions")
"""What else a form may say, once for each of its files."""

MOST_FILES = 100
"""How many files one form may bring."""

_DOCUMENT, _FINE_TUNE = "file-extract", "fine-tune"
_SAID = {"fine_tune": _FINE_TUNE}  # the SDK's own word, for programs that send it by themselves
_PAGE = 10
_MOST_A_PAGE = 100
_MOST_PAGES = 99_999_999
_PARAMETERS = ("page_no", "page_size")
_MOST_PARAMETERS = 100
_ZONE = timezone(timedelta(hours=8))
_ID_BITS = 31  # clients of some languages keep it in an `int`


class FileDetail(msgspec.Struct, frozen=True, kw_only=True):
    """A file as a client sees it, in the vendor's order; `hanlin` is what is known of it beyond the contract.

    `id` is a number that names nothing, `md5` in base64. A file has no `region` here, and no `url` that gives it out.
    """

    id: int
    name: str
    description: str
    purpose: str
    size: int
    md5: str
    region: str = ""
    file_id: str
    url: str = ""
    user_id: str
    api_key_id: str
    gmt_create: str
    hanlin: dict[str, Any] | None = None


class Failure(msgspec.Struct, frozen=True):
    """A file that was sent and is not kept."""

    name: str
    code: str
    message: str


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """Which page of files is asked for. `ignored` are names of parameters that mean nothing here."""

    page_no: int
    page_size: int
    ignored: tuple[str, ...] = ()

    @property
    def skip(self) -> int:
        """How many files are on the pages before."""
        return (self.page_no - 1) * self.page_size


def said_purpose(said: Sequence[str], number: int) -> str:
    """Return what the file of a number is for, as far as the form has said it, and "" where it has not.

    Each file may have a purpose of its own, in the same order. Raises InvalidPurpose.
    """
    if number >= len(said) or not said[number]:
        return ""
    purpose = _SAID.get(said[number], said[number])
    if purpose not in PURPOSES:
        raise InvalidPurpose(PURPOSES)
    return purpose


def purpose_of(said: Sequence[str], number: int, name: str) -> str:
    """Return what the file of a number is for, once all of its form is here. Raises InvalidPurpose.

    What was said last is said of all files that follow. Where nothing was, JSONL is for fine-tuning, which is what the
    SDK means by default and checks; anything else is a document.
    """
    last = min(number, len(said) - 1)
    return (said_purpose(said, last) if said else "") or (_FINE_TUNE if name.lower().endswith(".jsonl") else _DOCUMENT)


def listing(query: str) -> Listing:
    """Return what a list is asked for. Raises InvalidRequest."""
    try:
        said = dict(parse_qsl(query, max_num_fields=_MOST_PARAMETERS))
    except ValueError as error:
        raise InvalidRequest("the parameters cannot be read") from error
    return Listing(
        page_no=_number("page_no", said, 1, _MOST_PAGES),
        page_size=_number("page_size", said, _PAGE, _MOST_A_PAGE),
        ignored=tuple(name for name in said if name not in _PARAMETERS),
    )


def uploaded(kept: Sequence[tuple[str, str]], failed: Sequence[Failure], request_id: str) -> bytes:
    """Return the body that says what became of the files of a form: the name and the id of each that is kept."""
    data = {"uploaded_files": [{"name": name, "file_id": file_id} for name, file_id in kept], "failed_uploads": failed}
    return msgspec.json.encode({"data": data, "request_id": request_id})


def answer(file: FileDetail, request_id: str) -> bytes:
    """Return the body of an answer that is one file."""
    return msgspec.json.encode({"data": _shown(file), "request_id": request_id})


def listed(files: Sequence[FileDetail], total: int, asked: Listing, request_id: str) -> bytes:
    """Return the body of a list, of a workspace that has `total` files."""
    data = {
        "total": total,
        "page_no": asked.page_no,
        "page_size": asked.page_size,
        "files": list(map(_shown, files)),
    }
    return msgspec.json.encode({"data": data, "request_id": request_id})


def deleted(request_id: str) -> bytes:
    """Return the body that confirms a deletion."""
    return msgspec.json.encode({"request_id": request_id})


def missing() -> InvalidRequest:
    """Return the error for a file that is not there: 400, and by these words the SDK knows it."""
    return InvalidRequest("File not found.")


def number_of(file_id: str) -> int:
    """Return the number of a file, drawn at random with its id, of whose last digits it is made."""
    return int(file_id[-8:], 16) & (1 << _ID_BITS) - 1


def clock(at: datetime) -> str:
    """Return a time as the vendor writes it: China Standard Time, without saying so."""
    return at.astimezone(_ZONE).strftime("%Y-%m-%d %H:%M:%S")


def _shown(file: FileDetail) -> dict[str, Any]:
    fields = msgspec.structs.asdict(file)
    if file.hanlin is None:
        del fields["hanlin"]
    return fields


def _number(name: str, said: dict[str, str], usual: int, most: int) -> int:
    text = said.get(name)
    if text is None:
        return usual
    if text.isascii() and text.isdecimal() and len(text) < 9 and 1 <= int(text) <= most:
        return int(text)
    raise InvalidRequest(f"Range of {name} should be [1, {most}]", param=name)


__all__ = [
    "FIELDS",
    "FILES",
    "MOST_FILES",
    "PURPOSES",
    "Failure",
    "FileDetail",
    "Listing",
    "answer",
    "clock",
    "deleted",
    "listed",
    "listing",
    "missing",
    "number_of",
    "purpose_of",
    "said_purpose",
    "uploaded",
]
