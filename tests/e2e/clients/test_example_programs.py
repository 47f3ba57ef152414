"""The programs of `examples/` that think, call functions and want an object: the files themselves, base URL changed."""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from hanlin.testing import FakeEngine, Rule
from tests.programs import run_program
from tests.service import Service

HAN = re.compile("[\u4e00-\u9fff]")

Run = Callable[[str, Service], str]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a program against a service and return what it printed."""

    return partial(run_program, folder=tmp_path)


def test_the_thinking_program_prints_thoughts_then_the_answer(run: Run, service: Service, engine: FakeEngine) -> None:
    """The vendor's own sample: two headings, each once."""
    engine.rules([Rule(thinking="比较小数部分。", text="9.9 大。", thinks_when_asked=True)])

    assert run("thinking.py", service) == "思考过程：\n比较小数部分。\n\n完整回复：\n9.9 大。\n"


def test_the_tools_program_answers_with_what_its_function_returned(
    run: Run, service: Service, engine: FakeEngine
) -> None:
    """The whole loop: call, result, answer."""
    engine.rules([Rule(smart=True)])

    called, answer = run("tools.py", service).splitlines()

    assert called.startswith("调用 get_current_weather：{'location': '杭州")
    assert "晴天，25 摄氏度" in answer


def test_the_structured_program_prints_an_object(run: Run, service: Service, engine: FakeEngine) -> None:
    """What was parsed is what the schema says."""
    engine.rules([Rule(smart=True)])

    order = json.loads(run("structured.py", service))

    assert (order["quantity"], order["payment"]) == (3, "微信")


@pytest.mark.embedded
def test_the_thinking_program_thinks_with_real_weights(run: Run, embedded_service: Service) -> None:
    """Also with weights that never learned to: they are asked for their thoughts."""
    thoughts, heading, answer = run("thinking.py", embedded_service).partition("\n\n完整回复：\n")

    assert heading
    assert HAN.search(thoughts.removeprefix("思考过程：\n"))
    assert answer.strip()


@pytest.mark.embedded
def test_the_tools_program_ends_with_an_answer_of_real_weights(run: Run, embedded_service: Service) -> None:
    """Whether it calls is the model's choice; calls that it makes run, and an answer comes."""
    assert run("tools.py", embedded_service).strip()


@pytest.mark.embedded
def test_the_structured_program_prints_an_object_of_real_weights(run: Run, embedded_service: Service) -> None:
    """What is held to a schema fits it."""
    order = json.loads(run("structured.py", embedded_service))

    assert set(order) == {"customer", "items", "quantity", "payment"}
    assert order["payment"] in ("支付宝", "微信", "银行卡")
