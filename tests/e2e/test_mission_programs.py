"""The three programs that must run with one line changed: the example files themselves, each as its own process."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from hanlin.testing import FakeEngine, Rule
from tests.service import KEY, Service

ROOT = Path(__file__).parents[2]
QUESTIONS = ("你是谁？", "你会什么？", "天气怎么样？")
PYTHON, NODE = sys.executable, shutil.which("node") or "node"
HAN = re.compile("[\u4e00-\u9fff]")
BASE_URL = re.compile(r"\"https?://[^\"]*/compatible-mode/v1\"")

Run = Callable[[str, Service], str]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a program of `examples/` against a service and return what it printed; only its base URL is changed."""

    def run(name: str, service: Service) -> str:
        text, changed = BASE_URL.subn(f'"{service.base_url}"', (ROOT / "examples" / name).read_text(encoding="utf-8"))
        assert changed == 1, f"{name} names its base URL {changed} times"
        program = tmp_path / name
        program.write_text(text, encoding="utf-8")
        # Node looks for packages beside the file that imports them.
        (tmp_path / "node_modules").symlink_to(ROOT / "tests" / "e2e" / "node_modules")
        done = subprocess.run(
            [NODE if name.endswith(".mjs") else PYTHON, str(program)],
            env={**os.environ, "DASHSCOPE_API_KEY": KEY, "PYTHONUTF8": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=300,
            encoding="utf-8",
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout

    return run


def answers_of(printed: str) -> dict[str, str]:
    """Return what the asynchronous program printed: the answer below each question, in any order."""
    answers: dict[str, str] = {}
    question = ""
    for line in printed.splitlines():
        if line in QUESTIONS:
            question = line
        else:
            answers[question] = answers.get(question, "") + line
    return answers


@pytest.mark.parametrize("name", ["hello.py", "hello.mjs"])
def test_the_first_program_prints_the_answer(run: Run, service: Service, engine: FakeEngine, name: str) -> None:
    """The program of the vendor's own page, in both languages: what it asks arrives, and what comes back is printed."""
    engine.rules([Rule(contains="你是谁？", text="我是通义千问。")])

    printed = run(name, service)

    assert printed == "我是通义千问。\n"
    [request] = engine.requests()
    assert request.body["model"] == "qwen-plus"
    assert request.body["messages"] == [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "user", "content": "你是谁？"},
    ]


def test_the_asynchronous_program_prints_all_three_answers(run: Run, service: Service, engine: FakeEngine) -> None:
    """Its questions are asked at once; each must find its own answer."""
    engine.rules([Rule(contains=question, text=f"答：{question}", first_delay_s=0.5) for question in QUESTIONS])

    printed = run("async_questions.py", service)

    assert {question: answer.strip() for question, answer in answers_of(printed).items()} == {
        question: f"答：{question}" for question in QUESTIONS
    }
    began, ended = zip(*((request.started_at, request.ended_at or 0) for request in engine.requests()), strict=True)
    assert max(began) < min(ended)  # none waited for another


@pytest.mark.embedded
@pytest.mark.parametrize("name", ["hello.py", "hello.mjs"])
def test_the_first_program_gets_a_chinese_answer_from_real_weights(
    run: Run, embedded_service: Service, name: str
) -> None:
    """What a newcomer sees first, from the engine that comes with the package."""
    printed = run(name, embedded_service)

    assert HAN.search(printed)


@pytest.mark.embedded
def test_the_asynchronous_program_gets_chinese_answers_from_real_weights(run: Run, embedded_service: Service) -> None:
    """Three questions at once share one small engine: all are answered, none is empty."""
    answers = answers_of(run("async_questions.py", embedded_service))

    assert set(answers) == set(QUESTIONS)
    assert all(HAN.search(answer) for answer in answers.values())
