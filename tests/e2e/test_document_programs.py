"""The programs about files, as they stand in `examples/`, each as its own process."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hanlin.testing import FakeEngine, Rule
from tests.service import KEY, Service

ROOT = Path(__file__).parents[2]
BASE_URL = re.compile(r"\"https?://[^\"]*/compatible-mode/v1\"")


def printed(name: str, service: Service, folder: Path) -> str:
    """Run a program against a service and return what it printed; only its base URL is changed."""
    text, changed = BASE_URL.subn(f'"{service.base_url}"', (ROOT / "examples" / name).read_text(encoding="utf-8"))
    assert changed == 1
    program = folder / name
    program.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(program)],
        env={**os.environ, "DASHSCOPE_API_KEY": KEY, "PYTHONUTF8": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=300,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_program_about_a_long_document_prints_its_answers(
    service: Service, engine: FakeEngine, tmp_path: Path
) -> None:
    """Upload, wait, ask, ask again: the engine sees the file each time, and the second time the dialogue too."""
    engine.rules(
        [
            Rule(contains="预算是多少", text="预算是420万元。"),
            Rule(contains="负责人是谁", text="负责人是陆明远。"),
        ]
    )

    assert printed("long_document.py", service, tmp_path) == "负责人是陆明远。\n预算是420万元。\n"
    assert "负责人是陆明远" in str(engine.requests()[-1].body)


def test_the_program_about_data_prints_the_records(service: Service, engine: FakeEngine, tmp_path: Path) -> None:
    """Three rows, three lines, whether the file is read as a table or as text."""
    goods = [("A-001", "螺丝", "¥1.50"), ("A-002", "螺母", "¥0.80"), ("A-003", "垫片", "¥0.20")]
    records = [dict(zip(("编号", "品名", "单价"), row, strict=True)) for row in goods]
    engine.rules([Rule(text=json.dumps({"records": records}, ensure_ascii=False))])

    assert printed("data_mining.py", service, tmp_path) == "".join(f"{' '.join(row)}\n" for row in goods)


@pytest.mark.parametrize("name", ["long_document.py", "data_mining.py"])
def test_the_programs_leave_no_file_behind(service: Service, engine: FakeEngine, tmp_path: Path, name: str) -> None:
    """A reader who runs them twice must not fill a quota."""
    engine.rules([Rule(text='{"records": []}')])

    printed(name, service, tmp_path)

    with service.client() as client:
        assert list(client.files.list()) == []
