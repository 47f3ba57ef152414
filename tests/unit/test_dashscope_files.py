"""Files on the native wire: what they are for, which page is asked for, and how errors are said (surfaces.md §1.6)."""

import json
from datetime import UTC, datetime

import pytest

from hanlin.dialects import dashscope_files, flat
from hanlin.dialects.dashscope_files import Failure, FileDetail, listing, number_of, purpose_of, said_purpose
from hanlin.errors import DiskFull, FileQuotaExceeded, FileTooLarge, InvalidPurpose, InvalidRequest

FILE = FileDetail(
    id=193306194,
    name="test2.txt",
    description="",
    purpose="file-extract",
    size=7,
    md5="Td5oBnUd0kfuUGMd0zd5Ig==",
    file_id="file-fe-5d5eb068893f4b5e8551ada4",
    user_id="default",
    api_key_id="key-1",
    gmt_create="2025-11-30 18:42:45",
)
SHOWN = {
    "id": 193306194,
    "name": "test2.txt",
    "description": "",
    "purpose": "file-extract",
    "size": 7,
    "md5": "Td5oBnUd0kfuUGMd0zd5Ig==",
    "region": "",
    "file_id": "file-fe-5d5eb068893f4b5e8551ada4",
    "url": "",
    "user_id": "default",
    "api_key_id": "key-1",
    "gmt_create": "2025-11-30 18:42:45",
}


def test_a_file_looks_as_recorded() -> None:
    """Field by field as production sent it in 2025-11, but for what a file does not have here."""
    assert json.loads(dashscope_files.answer(FILE, "r")) == {"data": SHOWN, "request_id": "r"}


def test_a_list_and_a_deletion_look_as_recorded() -> None:
    """The total is that of all pages."""
    asked = listing("page_no=1&page_size=2")

    assert json.loads(dashscope_files.listed([FILE], 15, asked, "r")) == {
        "data": {"total": 15, "page_no": 1, "page_size": 2, "files": [SHOWN]},
        "request_id": "r",
    }
    assert json.loads(dashscope_files.deleted("r")) == {"request_id": "r"}


def test_an_upload_says_of_each_file_what_became_of_it() -> None:
    """As recorded in 2025-11, of a form of which one file found room."""
    failure = Failure("test1.txt", "BadRequest.TooMany", "Out of number, <10> of <10> files has been uploaded.")

    assert json.loads(dashscope_files.uploaded([("test2.txt", "file-1")], [failure], "r")) == {
        "data": {
            "uploaded_files": [{"name": "test2.txt", "file_id": "file-1"}],
            "failed_uploads": [
                {
                    "name": "test1.txt",
                    "code": "BadRequest.TooMany",
                    "message": "Out of number, <10> of <10> files has been uploaded.",
                }
            ],
        },
        "request_id": "r",
    }


@pytest.mark.parametrize(
    ("problem", "code", "words"),
    [
        (FileQuotaExceeded.of_number(10, 10), "BadRequest.TooMany", "Out of number, <10> of <10> files has been"),
        (FileQuotaExceeded.of_bytes(839, 1024), "BadRequest.TooLarge", "Out of space, <839> B of <1024> B storage"),
        (FileTooLarge(5), "BadRequest.TooLarge", "Payload Too Large."),
        (DiskFull(), "InternalError.FileUpload", ""),
        (dashscope_files.missing(), "InvalidParameter", "File not found."),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_the_words_of_this_surface(
    problem: FileQuotaExceeded | InvalidRequest | DiskFull, code: str, words: str
) -> None:
    """The vendor's page and its recordings have other words for a quota than the compatible surface."""
    said_code, said = flat.words(problem)

    assert said_code == code
    assert said.startswith(words)
    assert json.loads(flat.error(problem, "r")) == {"code": code, "message": said, "request_id": "r"}


def test_the_purpose_of_a_file_is_the_one_that_was_said_of_it() -> None:
    """One for each, or the last for all that follow; the SDK's spelling is taken as well."""
    said = ["batch", "fine_tune"]

    assert [purpose_of(said, number, "a.txt") for number in range(4)] == [
        "batch",
        "fine-tune",
        "fine-tune",
        "fine-tune",
    ]
    assert purpose_of(["file-extract"], 0, "a.jsonl") == "file-extract"
    assert [purpose_of(said, 0, name) for said in ([], [""]) for name in ("a.JSONL", "a.json", "a")] == [
        *("fine-tune", "file-extract", "file-extract"),
        *("fine-tune", "file-extract", "file-extract"),
    ]


def test_what_may_still_be_said_of_a_file_is_not_taken_as_said() -> None:
    """While a form comes, a later file may get a purpose of its own, with a larger limit."""
    assert [said_purpose(["batch"], number) for number in range(2)] == ["batch", ""]
    assert said_purpose([""], 0) == ""


@pytest.mark.parametrize("said", ["assistants", "inference", "Batch", "batch_output", " batch"])
def test_a_purpose_that_is_none_is_refused(said: str) -> None:
    """Those of other APIs, too: nothing here would ever use such a file."""
    with pytest.raises(InvalidPurpose, match="'purpose' must be 'file-extract', 'batch' or 'fine-tune'"):
        said_purpose([said], 0)
    with pytest.raises(InvalidPurpose):
        purpose_of([said], 3, "a.txt")


def test_a_page_is_the_first_of_ten_unless_told_otherwise() -> None:
    """What is not known is named; a value that was said twice counts as the last one."""
    assert (listing("").page_no, listing("").page_size, listing("").skip) == (1, 10, 0)
    assert listing("page_no=3&page_size=100").skip == 200
    assert listing("page_size=5&order=asc&page_size=6") == dashscope_files.Listing(
        page_no=1, page_size=6, ignored=("order",)
    )


def test_a_query_has_no_more_parameters_than_anybody_needs() -> None:
    """Whoever sends thousands is refused before they are read."""
    with pytest.raises(InvalidRequest, match="cannot be read"):
        listing("a=1&" * 1000)


def test_the_number_of_a_file_is_always_the_same_and_fits_every_language() -> None:
    """Clients in C# and Java read it into 31 bits and a sign."""
    assert number_of("file-fe-5d5eb068893f4b5e8551ada4") == 0x0551ADA4
    assert number_of("file-fe-ffffffffffffffffffffffff") == 2**31 - 1


def test_times_are_those_of_a_clock_in_beijing() -> None:
    """Without a zone, as recorded."""
    assert dashscope_files.clock(datetime(2025, 11, 30, 16, 0, 1, tzinfo=UTC)) == "2025-12-01 00:00:01"
