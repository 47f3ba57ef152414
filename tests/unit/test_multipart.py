"""Forms with files in them: how they are written by browsers, SDKs and scripts, and what is no form."""

import pytest

from hanlin.errors import MalformedBody
from hanlin.http.multipart import Form, base_name

TYPE = "multipart/form-data; boundary=XX"


def part(disposition: str, body: bytes, *more: str) -> bytes:
    head = "\r\n".join(["--XX", f"Content-Disposition: form-data; {disposition}", *more])
    return head.encode() + b"\r\n\r\n" + body + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--XX--\r\n"


PURPOSE = part('name="purpose"', b"file-extract")
CONTENT = b"a\r\n--X\r\n\r\n--XXno\x00\xff" * 3
USUAL = form(PURPOSE, part('name="file"; filename="a.txt"', CONTENT, "Content-Type: text/plain"))


def read(data: bytes, content_type: str = TYPE) -> tuple[Form, bytes]:
    reader = Form(content_type)
    content = fed(reader, data)
    reader.end()
    return reader, content


def fed(reader: Form, data: bytes) -> bytes:
    """Return what a piece of a form has of its one file."""
    return b"".join(content for _, content in reader.feed(data))


@pytest.mark.parametrize(
    "data",
    [
        USUAL,
        form(part('name="file"; filename="a.txt"', CONTENT), PURPOSE),
        USUAL + b"an epilogue",
        form(part("name=purpose", b"file-extract"), part("name=file; filename=a.txt", CONTENT)),
    ],
)
def test_a_form_is_read_however_it_is_written(data: bytes) -> None:
    """SDKs send the purpose first, curl in the order of its arguments; some programs quote nothing."""
    found, content = read(data)

    assert (found.fields, found.filenames, content) == ({"purpose": ["file-extract"]}, ["a.txt"], CONTENT)


def test_a_form_may_be_cut_anywhere() -> None:
    """Networks cut where they like; nothing of a file may be lost at a cut, nor a boundary be kept."""
    for at in range(1, len(USUAL)):
        reader = Form(TYPE)
        content = fed(reader, USUAL[:at]) + fed(reader, USUAL[at:])
        reader.end()

        assert (reader.fields, reader.filenames, content) == ({"purpose": ["file-extract"]}, ["a.txt"], CONTENT)


def test_the_bytes_of_a_file_leave_with_the_piece_that_they_came_in() -> None:
    """Nothing of a large file may pile up here."""
    reader = Form(TYPE)
    head, _, rest = USUAL.partition(CONTENT)

    assert reader.feed(head) == []
    assert reader.feed(b"x" * 100_000) == [(0, b"x" * 100_000)]
    assert reader.feed(rest) == []
    reader.end()


SEVERAL = form(
    part('name="files"; filename="a.txt"', CONTENT),
    part('name="descriptions"', b"first"),
    part('name="files"; filename="empty.txt"', b""),
    part('name="file"; filename="other.txt"', b"no file of this form"),
    part('name="descriptions"', "第二".encode()),
    part('name="files"; filename="c.txt"', b"c"),
)


def test_a_form_may_have_several_files_and_say_something_of_each() -> None:
    """However the network cuts it, each byte belongs to the file that it was written for, also beside an empty one."""
    for size in (1, 7, 50, len(SEVERAL)):
        reader = Form(TYPE, "files", most_files=3)
        contents = [b"", b"", b""]
        for at in range(0, len(SEVERAL), size):
            for number, content in reader.feed(SEVERAL[at : at + size]):
                contents[number] += content
        reader.end()

        assert reader.filenames == ["a.txt", "empty.txt", "c.txt"]
        assert contents == [CONTENT, b"", b"c"]
        assert reader.fields == {"descriptions": ["first", "第二"], "file": ["no file of this form"]}
        assert (reader.last("descriptions"), reader.last("purpose")) == ("第二", None)


def test_a_form_has_no_more_files_and_parts_than_it_may() -> None:
    """Whatever a caller sends, what is kept of it has a bound."""
    with pytest.raises(MalformedBody, match="several files"):
        Form(TYPE, "files", most_files=2).feed(SEVERAL)
    with pytest.raises(MalformedBody, match="more than 5 parts"):
        Form(TYPE, "files", most_files=3, most_parts=5).feed(SEVERAL)


@pytest.mark.parametrize(
    ("written", "filename"),
    [
        ('filename="报告.txt"', "报告.txt"),
        ('filename="a b;c.txt"', "a b;c.txt"),
        ('filename="a%22b%0D%0A.txt"', 'a"b.txt'),
        ('filename="a\\"b.txt"', 'a"b.txt'),
        ('filename="C:\\docs\\a.txt"', "a.txt"),
        ('filename="../../etc/passwd"', "passwd"),
        ("filename=\"a.txt\"; filename*=UTF-8''%E6%8A%A5.txt", "报.txt"),
        ("filename=\"a.txt\"; filename*=no'such'%E6", "a.txt"),
        ('filename=""', "file"),
    ],
)
def test_a_file_has_the_name_that_its_owner_sees(written: str, filename: str) -> None:
    """Browsers, curl and Python encode names in three ways; folders are nobody's business."""
    found, _ = read(form(part(f'name="file"; {written}', b"x")))

    assert found.filenames == [filename]


def test_names_of_old_programs_are_read_as_chinese() -> None:
    """A script on a Chinese Windows writes its own code page."""
    data = form(part('name="file"; filename="N"', b"x")).replace(b'"N"', '"报告.txt"'.encode("gb18030"))

    assert read(data)[0].filenames == ["报告.txt"]


def test_a_name_is_not_endless_and_keeps_its_ending() -> None:
    """The ending says what is inside."""
    assert base_name("长" * 1000 + ".pdf") == "长" * 251 + ".pdf"
    assert base_name("a\x00\x1b\ud800b.txt") == "ab.txt"
    assert base_name("/") == "file"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (USUAL[:-8], "breaks off"),
        (form(PURPOSE), "no part 'file'"),
        (form(part('name="file"', b"x")), "no part 'file' with a filename"),
        (form(*[part('name="file"; filename="a"', b"x")] * 2), "several files"),
        (form(*[PURPOSE] * 33), "more than 32 parts"),
        (form(part('name="purpose"', b"x" * 5000)), "'purpose' has more than 4096 bytes"),
        (b"--XX\r\n" + b"x: " + b"y" * 10_000, "header"),
        (b"no form at all" * 100, ""),
    ],
)
def test_what_is_no_form_with_a_file_is_refused(data: bytes, why: str) -> None:
    """With what is wrong, in the vendor's words for a body that cannot be read."""
    with pytest.raises(
        MalformedBody, match=r"^Required body invalid, please check the request body format\."
    ) as problem:
        read(data)

    assert why in problem.value.message


@pytest.mark.parametrize(
    "content_type", ["", "application/json", "multipart/form-data", "multipart/form-data; boundary="]
)
def test_a_body_of_another_type_is_refused(content_type: str) -> None:
    """Without a boundary nobody knows where a part ends."""
    with pytest.raises(MalformedBody, match="multipart/form-data with a boundary"):
        Form(content_type or None)


def test_a_boundary_may_be_quoted_or_long() -> None:
    """But not endless."""
    assert read(USUAL, 'multipart/form-data; charset=utf-8; boundary="XX"')[1] == CONTENT
    with pytest.raises(MalformedBody):
        Form(f"multipart/form-data; boundary={'x' * 5000}")
