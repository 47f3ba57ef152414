"""What a file is: its content where that is certain, its name where content could be several things."""

from pathlib import Path

import pytest

from hanlin.documents.kinds import KINDS, extension_of, kind_of
from hanlin.documents.limits import Limits
from hanlin.documents.unreadable import DocumentUnreadable
from tests.documents_corpus import ZH, docx, epub, ole, pptx, xlsx

PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
HTML = b"<!DOCTYPE html><html><body>text</body></html>"


def kind(path: Path, name: str, data: bytes) -> str:
    path.write_bytes(data)
    return kind_of(path, name, Limits()).name


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.pdf", b"%PDF-1.4\n", "pdf"),
        ("a.txt", b"%PDF-1.4\n", "pdf"),
        ("a.xyz", b"junk before it\n%PDF-1.4\n", "pdf"),
        ("a.docx", docx(""), "docx"),
        ("a.xlsx", docx(""), "docx"),
        ("noname", xlsx(""), "xlsx"),
        ("a.docx", pptx(""), "pptx"),
        ("a.zip", epub({}), "epub"),
        ("a.jpg", PNG, "png"),
        ("a.md", HTML, "html"),
        ("a.pdf", HTML, "html"),
        ("a.htm", b"<p>no head", "html"),
        ("a.txt", ZH.encode("gb18030"), "txt"),
        ("README", b"text", "txt"),
        ("a.MD", b"# text", "md"),
        ("a.csv", b"a,b", "csv"),
        ("a.jsonl", b"{}", "json"),
        ("a.docx", b"only text", "txt"),
        ("a.pdf", b'{"a": 1}', "json"),
        ("a.md", b"A header is %PDF-1.4", "md"),
        ("a.xls", "编号\t品名\n1\t螺丝\n".encode("gb18030"), "csv"),
    ],
)
def test_content_decides_where_it_is_certain_and_the_name_where_it_is_not(
    tmp_path: Path, name: str, data: bytes, expected: str
) -> None:
    """People rename files, and mail programs do so too: what is inside is what they want to be read."""
    assert kind(tmp_path / "file", name, data) == expected


@pytest.mark.parametrize(
    ("name", "data", "what_to_do"),
    [
        ("a.doc", ole("WordDocument"), ".docx"),
        ("a.docx", ole("WordDocument"), ".docx"),
        ("a.xls", ole("Workbook"), ".xlsx"),
        ("a.ppt", ole("PowerPoint Document"), ".pptx"),
        ("a.mobi", bytes(60) + b"BOOKMOBI" + bytes(40), ".epub"),
        ("a.rtf", b"{\\rtf1 text}", ".docx"),
        ("a.webp", b"RIFF\0\0\0\0WEBPVP8 ", ".png"),
        ("a.doc", b"\1\2\3\4\5\6" * 50, ".docx"),
    ],
)
def test_a_format_that_is_not_read_is_refused_with_what_to_do(
    tmp_path: Path, name: str, data: bytes, what_to_do: str
) -> None:
    """`Not supported` sends people to a search engine; the name of the format to save as does not."""
    with pytest.raises(DocumentUnreadable) as refused:
        kind(tmp_path / "file", name, data)

    assert refused.value.reason == "format"
    assert what_to_do in refused.value.detail


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.pdf", b"", "blank"),
        ("a.pdf", b"\1\2\3\4" * 50, "broken"),
        ("a.docx", b"PK\x03\x04" + bytes(50), "broken"),
        ("a.txt", b"PK\x03\x04" + bytes(50), "format"),
        ("a.xyz", b"text", "format"),
        ("a.txt", b"\1\2\3\4" * 50, "format"),
        ("a.xlsx", ole("EncryptedPackage"), "encrypted"),
    ],
)
def test_what_cannot_be_read_says_why(tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    """A file of the right name that is damaged is another thing than a file that nobody reads."""
    with pytest.raises(DocumentUnreadable) as refused:
        kind(tmp_path / "file", name, data)

    assert refused.value.reason == reason


@pytest.mark.parametrize(
    ("name", "extension"),
    [("a.PDF", "pdf"), ("a.tar.gz", "gz"), ("noname", ""), (".hidden", ""), ("C:\\x.y\\报告", ""), ("a/b.c/d", "")],
)
def test_the_extension_is_what_stands_behind_the_last_dot_of_the_name(name: str, extension: str) -> None:
    """A dot in a folder's name is none of the file's."""
    assert extension_of(name) == extension


def test_no_extension_belongs_to_two_kinds() -> None:
    """The second of them would never be found."""
    extensions = [extension for kind in KINDS for extension in kind.extensions]

    assert len(extensions) == len(set(extensions))
    assert all(kind.parser or all(kind.instead) for kind in KINDS)
