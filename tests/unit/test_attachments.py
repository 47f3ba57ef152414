"""What a request about documents says: which message is the role, which are documents, and in what order."""

import pytest

from hanlin.errors import HanlinError, InvalidRequest
from hanlin.recipes import attachments
from hanlin.recipes.attachments import Attachment
from hanlin.types import Message
from tests.documents import Scholar, document, library


def read(*messages: tuple[str, str]) -> attachments.Asked:
    return attachments.read([Message(role, text) for role, text in messages])


def test_the_first_system_message_is_the_role_and_later_ones_are_documents() -> None:
    """Spec §2.3: a document in the first place would be taken for instructions."""
    asked = read(
        ("system", "You are a lawyer."),
        ("system", "fileid://file-fe-a,fileid://file-fe-b"),
        ("system", "合同全文……"),
        ("user", "谁是甲方？"),
    )

    assert asked.role == "You are a lawyer."
    assert asked.attachments == (Attachment(ids=("file-fe-a", "file-fe-b")), Attachment(text="合同全文……"))
    assert asked.question == "谁是甲方？"


def test_a_lone_system_message_of_references_names_documents() -> None:
    """Programs were seen to send it so, and the vendor answers them."""
    asked = read(("system", "fileid://file-fe-a"), ("user", "讲了什么？"))

    assert (asked.role, asked.ids) == ("", ("file-fe-a",))


@pytest.mark.parametrize(
    "text",
    [
        "fileid://a,fileid://b",
        "fileid://a, fileid://b",
        "fileid://a\nfileid://b",
        "fileid://a，fileid://b,",
        " fileid://a;fileid://b ",
    ],
)
def test_references_are_read_however_they_are_parted(text: str) -> None:
    """People write lists by hand."""
    assert read(("system", "r"), ("system", text), ("user", "q")).ids == ("a", "b")


def test_a_reference_within_a_sentence_is_text() -> None:
    """A manual about this very API is a document like any other."""
    asked = read(("system", "r"), ("system", "Write fileid://file-fe-x to name a file."), ("user", "q"))

    assert asked.ids == ()
    assert asked.attachments[0].text.startswith("Write")


def test_documents_stay_where_they_were_said() -> None:
    """A document that comes later belongs to the turns after it."""
    asked = read(
        ("system", "r"),
        ("system", "fileid://a"),
        ("user", "one"),
        ("assistant", "1"),
        ("system", "fileid://b"),
        ("user", "two"),
    )

    shown = [step.ids if isinstance(step, Attachment) else step.text for step in asked.steps]
    assert shown == [("a",), "one", "1", ("b",), "two"]


@pytest.mark.parametrize(("count", "refused"), [(100, False), (101, True)])
def test_a_request_names_a_hundred_files_at_most(count: int, refused: bool) -> None:
    """The boundary is not documented; the limits list allows a hundred."""
    references = ",".join(f"fileid://file-fe-{number}" for number in range(count))
    asked = read(("system", "r"), ("system", references), ("user", "q"))

    if not refused:
        attachments.check_files(asked)
        return
    with pytest.raises(HanlinError, match=r"^Too many files provided\.") as caught:
        attachments.check_files(asked)
    assert caught.value.status == 400


async def test_a_user_message_beside_documents_has_nine_thousand_tokens_at_most() -> None:
    """Longer text belongs into a document, where it is searched; without one it is a prompt like any other."""
    long = "水" * 13_000
    beside = read(("system", "r"), ("system", "fileid://a"), ("user", long))
    alone = read(("system", "r"), ("user", long))

    with pytest.raises(InvalidRequest, match=r"Range of input length should be \[1, 9000\]"):
        await attachments.check_question(beside, Scholar(), "qwen-long")
    await attachments.check_question(alone, Scholar(), "qwen-long")


async def test_near_the_limit_a_message_is_counted_and_not_estimated() -> None:
    """An estimate may be a third too high, and would refuse what the contract allows."""

    class Exact(Scholar):
        async def count(self, request: object) -> int:
            return 9000

    await attachments.check_question(read(("system", "r"), ("system", "t"), ("user", "水" * 13_000)), Exact(), "m")


async def test_a_file_that_is_named_twice_is_opened_once_and_counted_once() -> None:
    """Every turn repeats its references; the bill must not."""
    file = document("一", "二", id="a")
    asked = read(("system", "fileid://a"), ("user", "q"), ("assistant", "x"), ("system", "fileid://a"), ("user", "p"))

    opened = await attachments.opened(asked, library(file))

    assert [len(group) for group in opened.at] == [1, 1]
    assert opened.tokens == file.tokens


async def test_text_in_a_message_is_a_document_without_pages_to_name() -> None:
    """It is cut into pages for searching, which nobody could turn to."""
    asked = read(("system", "r"), ("system", "\n".join("水" * 3000)), ("user", "q"))

    opened = await attachments.opened(asked, library())

    [held] = opened.documents
    assert held.name == "text 1"
    assert not attachments.has_pages(held)


def test_documents_beyond_the_models_limit_are_refused_in_the_vendors_words() -> None:
    """Clients match on them."""
    with pytest.raises(InvalidRequest) as caught:
        attachments.check_total(10_000_001, 10_000_000)

    assert caught.value.message == "Total message token length exceed model limit (10000000 tokens)."
    attachments.check_total(10_000_000, 10_000_000)
