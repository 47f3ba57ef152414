"""The programs of the scenarios' pages, each as its own process, on the fake engine and on the embedded one."""

import ast
import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from hanlin.testing import FakeEngine, Rule
from hanlin.testing.rules import ToolCall
from tests.programs import run_program
from tests.service import Service

Run = Callable[[str, Service], str]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a program against a service and return what it printed."""
    return partial(run_program, folder=tmp_path)


def shaped(name: str, text: str, contains: str = "") -> Rule:
    """Answer a call that is held to the schema of this name."""
    return Rule(when={"response_format.json_schema.name": name}, contains=contains, text=text)


def test_the_intent_program_prints_a_tag_a_question_and_a_call(run: Run, service: Service, engine: FakeEngine) -> None:
    """It takes replies apart with the regular expressions of the vendor's page."""
    engine.rules(
        [
            shaped("choice", '{"chosen": ["alarm_set"]}', contains="叫我起床"),
            shaped("choice", '{"chosen": ["get_current_weather"]}'),
            shaped("arguments", '{"calls": [{"location": "杭州"}]}', contains="杭州"),
            shaped("arguments", '{"calls": [{"location": null}]}'),
            Rule(text="请问您想查询哪个城市的天气？"),
        ]
    )

    assert run("intent.py", service).splitlines() == [
        "标签：alarm_set",
        "追问：请问您想查询哪个城市的天气？",
        "调用 get_current_weather：{'location': '杭州'}",
    ]


def test_the_maths_program_prints_steps_and_the_result(run: Run, service: Service, engine: FakeEngine) -> None:
    """Of two boxes the last one is the result."""
    engine.rules([Rule(text=r"面积是长乘宽：\boxed{8 \times 5}，等于 \boxed{40}。")])

    assert run("maths.py", service) == "面积是长乘宽：8 \\times 5，等于 \\boxed{40}。\n\n答案：40\n"


def test_the_analysis_program_prints_fields_and_a_label(run: Run, service: Service, engine: FakeEngine) -> None:
    """What was never said is not in it: a telephone number, here."""
    fields = '{"姓名": "王芳", "电话": "13911112222", "订单号": "20261123", "商品": "洗衣机"}'
    label = '{"evidence": "太好了，谢谢你！", "label": "满意", "reason": "用户表示感谢"}'
    when = {"response_format.json_schema.schema.required.0": "evidence"}
    engine.rules([Rule(when=when, text=label), shaped("analysis", fields)])

    assert run("dialogue_analysis.py", service).splitlines() == [
        *("姓名：王芳", "电话：未提及", "订单号：20261123", "商品：洗衣机"),
        "满意度：满意（用户表示感谢）",
    ]


def test_the_program_with_a_gap_prints_whole_code(run: Run, service: Service, engine: FakeEngine) -> None:
    """The middle between its two sides."""
    engine.rules([Rule(text="return sum(values) / len(values)")])

    assert "    return sum(values) / len(values)\n\nprint(mean([1, 2, 3]))" in run("fill_gap.py", service)


def test_the_agent_reads_files_until_it_has_an_answer(run: Run, service: Service, engine: FakeEngine) -> None:
    """The loop of the vendor's page."""
    calls = [ToolCall("list_files"), ToolCall("read_file", {"path": "util.py"})]
    engine.rules([*(Rule(times=1, tool_calls=(call,)) for call in calls), Rule(text="它返回参数 name。")])

    printed = run("coding_agent.py", service).splitlines()

    assert printed[0].startswith("调用 list_files")
    assert printed[1:] == ['调用 read_file：{"path":"util.py"}', "它返回参数 name。"] or "util.py" in printed[1]
    assert printed[-1] == "它返回参数 name。"


@pytest.mark.parametrize("bad", ["新馆面积 5 万平方米。" * 5, "全部藏书 999 万册。", ""])
def test_a_summary_has_no_other_numbers_and_is_as_long_as_asked_for(
    run: Run, service: Service, engine: FakeEngine, bad: str
) -> None:
    """What the model cannot mend, the program does."""
    engine.rules([Rule(text=f"{bad}新馆 12 月 1 日开放。")])

    summary, checks = run("summary.py", service).splitlines()

    assert "12 月 1 日开放" in summary
    assert not re.search("999| 5 万", summary)
    assert 54 <= len(summary) <= 66
    assert checks.endswith("问题：无")


@pytest.mark.parametrize("bad", ["它是最好的，绝对第一。", "它很轻。" * 15, "短。" * 25])
def test_a_text_keeps_to_its_brief(run: Run, service: Service, engine: FakeEngine, bad: str) -> None:
    """Forbidden words are out, required ones in, the length is kept to, whatever the model writes."""
    draft = (
        "出差时也能喝上热咖啡，充电快，体积小，放进包里就走，一键开始，清洗也很方便，适合每一位常在路上的人。"
        "杯身用轻质金属做成，握在手里很稳，盖子拧紧以后一滴不漏，过安检也不必拆开。内置滤网细密，"
        "无论粗磨还是细磨都能用，萃取压力稳定，口感醇厚，酒店、车站、机场，想喝的时候随手就能做一杯。"
    )
    engine.rules([Rule(text=bad + draft)])

    *_, text, checks = run("content.py", service).splitlines()

    assert "USB-C" in text
    assert "三分钟" in text
    assert not re.search("最好|第一|绝对", text)
    assert 135 <= len(text) <= 165
    assert checks.endswith("问题：无")


def test_a_text_that_is_too_short_is_gone_on_with(run: Run, service: Service, engine: FakeEngine) -> None:
    """Until it is long enough."""
    more = "".join(f"第{number}个好处是省时省力又省心。" for number in "二三四五六七八九十")
    engine.rules([Rule(contains="只写两句话", text=more), Rule(text="出差时也能喝上热咖啡。")])

    *_, text, checks = run("content.py", service).splitlines()

    assert text.startswith("出差时也能喝上热咖啡。")
    assert checks.endswith("问题：无")


def test_a_text_that_stays_too_short_is_said_to_be(run: Run, service: Service, engine: FakeEngine) -> None:
    """A program that hides what it could not mend would be worse than none."""
    engine.rules([Rule(text="短。")])

    assert "字，要求 135 到 165 个字" in run("content.py", service).splitlines()[-1]


@pytest.mark.parametrize("said", ["我们保证 1 天内退款，还赔偿 500 元。", "退款在 3 个工作日内原路返回。"])
def test_customers_get_what_the_list_says_or_a_person(
    run: Run, service: Service, engine: FakeEngine, said: str
) -> None:
    """No promise that is not in it; what it does not have is handed over."""
    engine.rules([Rule(text=said)])

    printed = run("customer_service.py", service)

    assert printed.count("[记录] 转人工") == 2
    assert "500" not in printed
    assert "保证" not in printed


# --- on real weights

_ALL = os.environ.get("TEST_DRILLS") == "all"
PROGRAMS = (
    "maths.py",
    *(("intent.py", "dialogue_analysis.py", "coding_agent.py", "customer_service.py") if _ALL else ()),
)
WRITING = ("summary.py", "content.py") if _ALL else ("content.py",)
"""In `make test` two of them stand for the others, whose mechanisms other tests run on real weights."""


@pytest.mark.embedded
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_runs_on_real_weights(run: Run, embedded_service: Service, name: str) -> None:
    """Whatever half a billion parameters know: the form holds, so the program ends well."""
    assert run(name, embedded_service).strip()


@pytest.mark.embedded
def test_a_gap_is_filled_with_python_by_real_weights(run: Run, embedded_service: Service) -> None:
    """The whole file is code again."""
    ast.parse(run("fill_gap.py", embedded_service))


@pytest.mark.embedded
@pytest.mark.parametrize("name", WRITING)
def test_hard_rules_hold_whatever_real_weights_write(run: Run, embedded_service: Service, name: str) -> None:
    """They are checked by the program, and mended by it."""
    assert run(name, embedded_service).rstrip().endswith("问题：无")


@pytest.mark.embedded
def test_a_prefix_is_gone_on_with_by_real_weights(run: Run, embedded_service: Service) -> None:
    """And not said again."""
    assert run("partial.py", embedded_service).count("def is_prime") == 1
