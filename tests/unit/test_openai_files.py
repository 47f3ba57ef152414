"""Files on the wire: which purposes and times there are, and how a file looks (spec/surfaces.md §1)."""

import json
from datetime import UTC, datetime

import pytest

from hanlin.dialects import openai_files
from hanlin.dialects.openai_files import FileObject, listing
from hanlin.errors import InvalidPurpose, InvalidRequest

FILE = FileObject(
    id="file-fe-5d5eb068893f4b5e8551ada4",
    bytes=7,
    filename="test2.txt",
    purpose="file-extract",
    status="processed",
    created_at=1764499365,
)


def test_a_file_looks_as_recorded() -> None:
    """Field by field as production sent it in 2025-11, with the `status_details` that the page prints."""
    assert json.loads(openai_files.answer(FILE)) == {
        "id": "file-fe-5d5eb068893f4b5e8551ada4",
        "object": "file",
        "bytes": 7,
        "filename": "test2.txt",
        "purpose": "file-extract",
        "status": "processed",
        "created_at": 1764499365,
        "status_details": None,
    }


def test_a_list_and_a_deletion_look_as_documented() -> None:
    """There is no `first_id` in recorded replies: SDKs page by the last element."""
    assert json.loads(openai_files.listed([], has_more=False)) == {"object": "list", "data": [], "has_more": False}
    assert [row["id"] for row in json.loads(openai_files.listed([FILE], has_more=True))["data"]] == [FILE.id]
    assert json.loads(openai_files.deleted(FILE.id)) == {"object": "file", "deleted": True, "id": FILE.id}


@pytest.mark.parametrize("said", [None, "", "assistants", "batch_output", "FILE-EXTRACT"])
def test_another_purpose_is_refused_in_the_vendors_words(said: str | None) -> None:
    """Outputs are made by the service, not by callers."""
    with pytest.raises(InvalidPurpose) as problem:
        openai_files.purpose_of(said)

    assert problem.value.message == "'purpose' must be 'file-extract', 'batch' or 'fine-tune'"
    assert (problem.value.param, problem.value.code, problem.value.status) == ("purpose", None, 400)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("20250306123000", datetime(2025, 3, 6, 4, 30, tzinfo=UTC)),
        ("2025-11-12+10:10:10", datetime(2025, 11, 12, 2, 10, 10, tzinfo=UTC)),
        ("2025-11-12%2010:10:10", datetime(2025, 11, 12, 2, 10, 10, tzinfo=UTC)),
        ("2025-11-12", datetime(2025, 11, 11, 16, tzinfo=UTC)),
        ("20251112", datetime(2025, 11, 11, 16, tzinfo=UTC)),
        ("", None),
    ],
)
def test_times_are_read_in_every_spelling_as_beijings(said: str, meant: datetime | None) -> None:
    """The vendor's clock: a program that was written for it means the same moment here."""
    asked = listing(f"create_after={said}&create_before={said}")

    assert (asked.since, asked.until) == (meant, meant)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=2001", "limit"),
        ("limit=ten", "limit"),
        ("limit=-1", "limit"),
        ("create_after=yesterday", "create_after"),
        ("create_before=20251399", "create_before"),
        ("purpose=nothing", "purpose"),
        ("after=nonsense", "after"),
        ("after=file-%00", "after"),
        ("&".join(["a=b"] * 101), None),
    ],
)
def test_a_list_that_cannot_be_is_refused_with_what_is_wrong(query: str, param: str | None) -> None:
    """An ignored filter would show files that were not asked for."""
    with pytest.raises(InvalidRequest) as problem:
        listing(query)

    assert problem.value.param == param


def test_a_list_has_all_files_unless_it_is_asked_for_less() -> None:
    """And what means nothing here is named, not dropped in silence."""
    usual, asked = listing(""), listing("after=file-fe-1&limit=1&purpose=batch_output&order=asc")

    assert (usual.limit, usual.after, usual.purpose, usual.ignored) == (2000, "", "", ())
    assert (asked.limit, asked.after, asked.purpose, asked.ignored) == (1, "file-fe-1", "batch_output", ("order",))
