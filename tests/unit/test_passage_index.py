"""The index of a document is whole or it is not there, whatever happens to whoever writes it."""

import errno
import os
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hanlin.store.passages import Indexes, IndexUnusable, Row, build
from hanlin.store.vectors import VectorsTaken, appending, there


def rows(count: int, text: str = "pump") -> Iterator[tuple[Row, str]]:
    for number in range(count):
        yield Row(number, number + 1, number + 1, "", f"{text} {number}"), f"{text} {number}"


@pytest.fixture
def indexes() -> Iterator[Indexes]:
    made = Indexes(most_open=2)
    yield made
    made.close()


def test_what_was_indexed_is_found(tmp_path: Path, indexes: Indexes) -> None:
    """Best first, with how often each word is there."""
    path = tmp_path / "index.db"

    assert build(path, rows(1000)) == 1000

    assert indexes.count(path) == 1000
    ((number, weight),) = indexes.search(path, '"17"', 5)
    assert number == 17
    assert weight > 0
    assert indexes.frequencies(path, ["pump", "17", "valve"]) == {"pump": 1000, "17": 1}
    assert indexes.rows(path, [17, 5000, 3]) == [Row(17, 18, 18, "", "pump 17"), Row(3, 4, 4, "", "pump 3")]
    assert [row.number for row in indexes.span(path, 998, 2000)] == [998, 999]


def test_an_index_without_passages_finds_nothing(tmp_path: Path, indexes: Indexes) -> None:
    """A document of blank pages is indexed as any other."""
    path = tmp_path / "index.db"
    build(path, rows(0))

    assert indexes.count(path) == 0
    assert indexes.search(path, '"pump"', 5) == []


def test_a_failure_leaves_the_index_that_was_there_and_no_trace(tmp_path: Path, indexes: Indexes) -> None:
    """Pages that break off must not make a document unsearchable that was searchable before."""
    path = tmp_path / "index.db"
    build(path, rows(3))

    def broken() -> Iterator[tuple[Row, str]]:
        yield from rows(600)
        raise RuntimeError("the disk of pages is gone")

    with pytest.raises(RuntimeError):
        build(path, broken())

    assert os.listdir(tmp_path) == ["index.db"]
    assert indexes.count(path) == 3


@pytest.mark.parametrize("damage", ["empty", "text", "torn", "zeros", "other database"])
def test_a_damaged_index_is_told_from_a_good_one(tmp_path: Path, indexes: Indexes, damage: str) -> None:
    """It can be made again; an answer from it would be wrong and look right."""
    path = tmp_path / "index.db"
    build(path, rows(2000))
    content = path.read_bytes()
    other = tmp_path / "other.db"
    if damage == "other database":
        with sqlite3.connect(other) as connection:
            connection.execute("CREATE TABLE passages (number INTEGER)")
        connection.close()
    damaged = {
        "empty": b"",
        "text": b"not an index at all" * 1000,
        "torn": content[: len(content) // 3],
        "zeros": content[:4096] + bytes(len(content) - 4096),
        "other database": other.read_bytes() if other.exists() else b"",
    }
    path.write_bytes(damaged[damage])

    with pytest.raises(IndexUnusable):
        _ = indexes.search(path, '"1999" OR "pump"', 5), indexes.span(path, 0, 2000)


def test_a_full_disk_is_an_error_of_the_system(tmp_path: Path) -> None:
    """Whoever reads files knows what to do then: try again later."""
    with pytest.raises(OSError) as caught:
        build(tmp_path / "no such folder" / "index.db", rows(1))

    assert caught.value.errno == errno.EIO


def test_a_new_index_is_read_from_then_on(tmp_path: Path, indexes: Indexes) -> None:
    """An open file goes on being the old one after another has its name."""
    path = tmp_path / "index.db"
    build(path, rows(3))
    assert indexes.count(path) == 3

    build(path, rows(5))

    assert indexes.count(path) == 5


def test_only_so_many_files_stay_open(tmp_path: Path, indexes: Indexes) -> None:
    """Ten thousand documents must not need ten thousand files; those that are deleted free their room."""

    def open_files() -> int:
        links = [Path("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
        return sum(str(tmp_path) in os.readlink(link) for link in links if link.is_symlink())

    paths = [tmp_path / f"{number}.db" for number in range(5)]
    for path in paths:
        build(path, rows(1))
        indexes.count(path)
    kept = open_files()
    for path in paths[1:]:
        path.unlink()
    indexes.count(paths[0])

    assert kept == 2
    assert open_files() == 1


def test_threads_read_one_index_at_once(tmp_path: Path, indexes: Indexes) -> None:
    """Calls of one document do not wait for each other, nor see each other's rows."""
    path = tmp_path / "index.db"
    build(path, rows(500))
    wrong: list[object] = []

    def read(number: int) -> None:
        for _ in range(50):
            found = indexes.search(path, f'"{number}"', 2)
            if [one for one, _weight in found] != [number]:
                wrong.append(found)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


def test_vectors_go_on_after_the_last_whole_one(tmp_path: Path) -> None:
    """A process dies between two bytes; nothing that was paid for is made again."""
    path = tmp_path / "vectors.f32"
    with appending(path, "e5", 10) as file:
        file.append([[1.0, 0.0], [0.0, 1.0]])
    with open(path, "ab") as torn:
        torn.write(b"\x00\x00\x80")

    with appending(path, "e5", 10) as file:
        before = file.rows
        file.append([[0.5, 0.5]])

    found = there(path)
    assert before == 2
    assert found is not None
    assert (found.rows, found.head.dimensions) == (3, 2)
    assert len(path.read_bytes()) == found.offset + 3 * 2 * 4


def test_vectors_of_another_model_begin_anew(tmp_path: Path) -> None:
    """Vectors of two models have nothing to do with each other."""
    path = tmp_path / "vectors.f32"
    with appending(path, "e5", 10) as file:
        file.append([[1.0, 0.0]])

    with appending(path, "bge", 10) as file:
        assert file.rows == 0
        file.append([[1.0, 0.0, 0.0]])

    found = there(path)
    assert found is not None
    assert (found.head.model, found.head.dimensions, found.rows) == ("bge", 3, 1)


def test_vectors_have_one_writer(tmp_path: Path) -> None:
    """Two processes would write the same passages twice, and rows into each other's place."""
    path = tmp_path / "vectors.f32"
    with appending(path, "e5", 10), pytest.raises(VectorsTaken), appending(path, "e5", 10):
        pass


def test_vectors_of_another_length_are_refused(tmp_path: Path) -> None:
    """A row of another length would move all that follow."""
    with appending(tmp_path / "vectors.f32", "e5", 10) as file:
        file.append([[1.0, 0.0]])
        with pytest.raises(ValueError, match="2 numbers"):
            file.append([[1.0]])


@pytest.mark.parametrize("content", [b"", b"{}", b"x" * 1000, b'{"model":"e5","dimensions":0,"passages":1}'])
def test_a_file_that_is_no_file_of_vectors_has_none(tmp_path: Path, content: bytes) -> None:
    """A search without vectors is worse than one with them, and better than none."""
    path = tmp_path / "vectors.f32"
    path.write_bytes(content)

    assert there(path) is None
