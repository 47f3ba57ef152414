"""`hanlin files` and the example, against a running service: what people upload, see and delete."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hanlin.testing import FakeEngine, Rule
from tests.cli import hanlin
from tests.service import KEY, Service, in_front_of

EXAMPLE = Path(__file__).parents[2] / "examples" / "files.py"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with (
        FakeEngine([Rule(text="你好")]) as engine,
        Service(tmp_path_factory.mktemp("home"), config=in_front_of(engine, profile="vllm")) as running,
    ):
        yield running


def test_files_are_uploaded_listed_shown_and_deleted(service: Service, tmp_path: Path) -> None:
    """Ids are all that scripts get; people see how each file is."""
    paths = [tmp_path / "报告.md", tmp_path / "b.txt"]
    for path in paths:
        path.write_text(f"# {path.name}", encoding="utf-8")

    uploaded = hanlin(service.home, "files", "upload", *map(str, paths))
    first, second = uploaded.stdout.split()
    listed = hanlin(service.home, "files", "list", COLUMNS="160")
    shown = hanlin(service.home, "files", "show", first, "--json")
    deleted = hanlin(service.home, "files", "delete", first, second)
    nothing = hanlin(service.home, "files", "list")

    assert (uploaded.returncode, listed.returncode, shown.returncode, deleted.returncode) == (0, 0, 0, 0)
    assert "报告.md: processed, 1 pages" in uploaded.stderr
    assert [line.split()[:2] for line in listed.stdout.splitlines()[1:]] == [[second, "b.txt"], [first, "报告.md"]]
    assert json.loads(shown.stdout)["hanlin"]["kind"] == "md"
    assert f"{second}: deleted" in deleted.stderr
    assert "no files" in nothing.stderr


def test_a_document_that_cannot_be_read_fails_with_the_reason(service: Service, tmp_path: Path) -> None:
    """A script must not go on as if it had one."""
    (tmp_path / "blank.txt").write_text(" \n")

    done = hanlin(service.home, "files", "upload", str(tmp_path / "blank.txt"))

    assert done.returncode == 1
    assert "there is no text in the file" in done.stderr
    assert "1 of 1 files cannot be read" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("upload", "nothing.pdf"), "nothing.pdf: No such file"),
        (("upload", str(EXAMPLE), "--purpose", "nothing"), "'purpose' must be 'file-extract', 'batch' or 'fine-tune'"),
        (("show", "file-fe-nope"), "No such File object: file-fe-nope"),
        (("show", "../models"), "No such File object: "),
        (("delete", "file-fe-nope"), "No such File object: file-fe-nope"),
    ],
)
def test_what_fails_is_told_in_the_services_words(service: Service, arguments: tuple[str, ...], message: str) -> None:
    """And ends with a code that scripts see."""
    done = hanlin(service.home, "files", *arguments)

    assert done.returncode == 1
    assert message in done.stderr


def test_the_list_is_whole_however_long_it_is(service: Service, tmp_path: Path) -> None:
    """JSON for scripts, of one purpose."""
    path = tmp_path / "lines.jsonl"
    path.write_text("{}")
    for _ in range(2):
        hanlin(service.home, "files", "upload", str(path), "--purpose", "batch")

    done = hanlin(service.home, "files", "list", "--purpose", "batch", "--json")

    assert [row["filename"] for row in json.loads(done.stdout)] == ["lines.jsonl"] * 2


def test_the_example_runs(service: Service, tmp_path: Path) -> None:
    """With its base URL edited, as everybody does who tries it."""
    program = EXAMPLE.read_text(encoding="utf-8").replace("http://127.0.0.1:8080", service.url)
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "DASHSCOPE_API_KEY": KEY, "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
    )

    assert (done.returncode, done.stderr) == (0, "")
    first, *_, last = done.stdout.splitlines()
    assert first.startswith("processed contract.md ")
    assert "True contract.md" in done.stdout
    assert last == "True"
