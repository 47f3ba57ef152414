"""What is written down of documents and stays beside them."""

import os
import threading
from pathlib import Path

import pytest

from hanlin.documents.notes import MOST_BYTES, MOST_NOTES, NOTES, keep_note, note_of
from hanlin.documents.questions import asks_for_whole
from hanlin.documents.shelf import META, Meta, Shelf, meta_of, write_meta

KEY = "0123456789abcdef"
META_OF_IT = Meta(name="a.txt", kind="txt", pages=1, characters=1, tokens=1)


def key(number: int) -> str:
    return f"{number:016x}"


def kept(folder: Path) -> list[str]:
    return sorted(os.listdir(folder / NOTES))


def test_a_note_is_found_as_it_was_kept(tmp_path: Path) -> None:
    """Also one that says nothing: that there is nothing to say was found out once."""
    keep_note(tmp_path, key(1), '要点\n"一"\0')
    keep_note(tmp_path, key(2), "")

    assert note_of(tmp_path, key(1)) == '要点\n"一"\0'
    assert note_of(tmp_path, key(2)) == ""
    assert note_of(tmp_path, key(3)) is None


@pytest.mark.parametrize(
    "content", [b"", b'{"text":"\xe8\xa6', b'{"text":"half', b"[]", b'{"note":"older"}', b"\0" * 40]
)
def test_a_note_that_cannot_be_read_is_made_anew(tmp_path: Path, content: bytes) -> None:
    """A loss of power leaves half a file at worst, another version other fields."""
    keep_note(tmp_path, KEY, "要点")
    (tmp_path / NOTES / KEY).write_bytes(content)

    assert note_of(tmp_path, KEY) is None
    keep_note(tmp_path, KEY, "要点")
    assert note_of(tmp_path, KEY) == "要点"


def test_notes_are_bounded_in_number_and_size_and_the_oldest_go_first(tmp_path: Path) -> None:
    """Nothing grows without a bound: not what killed writers left either."""
    keep_note(tmp_path, key(0), "x")
    (tmp_path / NOTES / f".{KEY}.dead").write_bytes(b"half")
    for name in kept(tmp_path):
        os.utime(tmp_path / NOTES / name, (0, 0))
    for number in range(1, MOST_NOTES + 20):
        keep_note(tmp_path, key(number), "x")
        os.utime(tmp_path / NOTES / key(number), (number, number))

    assert len(kept(tmp_path)) == MOST_NOTES
    assert f".{KEY}.dead" not in kept(tmp_path)
    assert note_of(tmp_path, key(0)) is None
    assert note_of(tmp_path, key(MOST_NOTES + 19)) == "x"

    for number in range(60):
        keep_note(tmp_path, key(number), "长" * 9000)
    assert sum(path.stat().st_size for path in (tmp_path / NOTES).iterdir()) <= MOST_BYTES
    keep_note(tmp_path, KEY, "长" * 20_000)
    assert note_of(tmp_path, KEY) is None, "no single note takes the room of all others"


def test_a_note_of_a_document_that_is_gone_is_no_trouble_and_leaves_nothing(tmp_path: Path) -> None:
    """Files are deleted while they are read."""
    keep_note(tmp_path / "gone", KEY, "要点")

    assert note_of(tmp_path / "gone", KEY) is None
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("wrong", ["", "../pages.jsonl", "0123456789abcde/", "Z" * 20, "0" * 80])
def test_a_key_names_no_other_file(tmp_path: Path, wrong: str) -> None:
    """A key becomes the name of a file."""
    with pytest.raises(ValueError, match="is not the key of a note"):
        keep_note(tmp_path, wrong, "x")


def test_several_may_write_at_once(tmp_path: Path) -> None:
    """Four parts are read at a time, in each of several processes."""

    def write(first: int) -> None:
        for at in range(first, 40, 2):
            keep_note(tmp_path, key(at), f"{at}")

    threads = [threading.Thread(target=write, args=(first,)) for first in (0, 1, 0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [note_of(tmp_path, key(at)) for at in range(40)] == [f"{at}" for at in range(40)]
    assert len(kept(tmp_path)) == 40


def test_notes_go_with_their_document_whoever_writes_meanwhile(tmp_path: Path) -> None:
    """Half a folder in a document's place would be in the way of the same bytes uploaded again."""
    shelf = Shelf(tmp_path, "me")
    place = shelf.path("d" * 64)
    for _ in range(20):
        work = shelf.begin()
        write_meta(work, META_OF_IT)
        shelf.keep(work, place)
        ends = threading.Event()

        def write(ends: threading.Event = ends) -> None:
            number = 0
            while not ends.is_set():
                keep_note(place, key(number := number + 1), "x")

        writer = threading.Thread(target=write)
        writer.start()
        while not (place / NOTES).is_dir():
            pass
        shelf.remove(place)
        gone = not place.exists()
        ends.set()
        writer.join()

        assert gone
        assert not place.exists()
    assert os.listdir(tmp_path / "work") == []


def test_what_was_noted_of_held_texts_counts_for_their_room(tmp_path: Path) -> None:
    """Texts of requests are kept within bytes, and their notes are bytes as well."""
    shelf = Shelf(tmp_path, "me", held_bytes=3000)
    for number, digest in enumerate(("a", "b")):
        work = shelf.begin()
        write_meta(work, META_OF_IT)
        shelf.keep(work, shelf.held(digest))
        keep_note(shelf.held(digest), KEY, "x" * 2000)
        os.utime(shelf.held(digest), (number, number))

    shelf.trim()

    assert meta_of(shelf.held("a")) is None
    assert meta_of(shelf.held("b")) == META_OF_IT
    assert META in os.listdir(shelf.held("b"))


@pytest.mark.parametrize(
    ("question", "names", "whole"),
    [
        ("总结这份文件", (), True),
        ("请帮我把这份文档总结成5个要点，每点不超过50字", (), True),
        ("用英文写一段200字左右的摘要", (), True),
        ("这几篇文章讲了什么？", (), True),
        ("比较这两份合同", (), True),
        ("总结《年报.pdf》的主要内容", ("年报.pdf",), True),
        ("概述公司的战略", (), False),
        ("总结第三章", (), False),
        ("总结一下张三的观点", (), False),
        ("比较两份合同的付款方式", (), False),
        ("Summarize this report in five bullet points", (), True),
        ("Give me a brief overview of the whole book, in Chinese.", (), True),
        ("What are the main findings of the paper?", (), True),
        ("Compare the two documents", (), True),
        ("Summarise plan.docx", ("plan.docx",), True),
        ("Summarise what is said about safety", (), False),
        ("Summarize chapter 3", (), False),
        ("总结" * 3000, (), False),
    ],
)
def test_a_question_about_the_whole_names_no_subject(question: str, names: tuple[str, ...], whole: bool) -> None:
    """Notes that were made without a question would miss a subject that only it names."""
    assert asks_for_whole(question, names) == whole
