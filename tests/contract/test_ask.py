"""`hanlin ask` and `qwen-long` over the wire: a real service, its Files API, and a fake engine behind the recipe."""

import csv
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docx
import openai
import openpyxl
import pytest

from hanlin.testing import FakeEngine, Rule
from tests.cli import hanlin
from tests.documents import filler, needles
from tests.service import Service, in_front_of

DOCUMENT: Any = "file-extract"
FACT = "云杉项目的启动口令是蓝鲸7431。"


@pytest.fixture(scope="module")
def engine() -> Iterator[FakeEngine]:
    with FakeEngine() as running:
        yield running


@pytest.fixture(scope="module")
def service(engine: FakeEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    config = in_front_of(engine, serves=["qwen*"])
    with Service(tmp_path_factory.mktemp("home"), config=config) as running:
        yield running


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "plan.txt"
    path.write_text(FACT, encoding="utf-8")
    return path


def messages(file_id: str, question: str) -> list[Any]:
    return [
        {"role": "system", "content": "You are a helpful assistant."},
        {"role": "system", "content": f"fileid://{file_id}"},
        {"role": "user", "content": question},
    ]


def test_a_question_about_a_file_is_one_command(service: Service, engine: FakeEngine, plan: Path) -> None:
    """Upload, wait, ask, tidy up; the engine sees the text of the file."""
    engine.rules([Rule(contains="启动口令是什么", text="口令是蓝鲸7431。")])

    done = hanlin(service.home, "ask", str(plan), "启动口令是什么？")

    assert (done.returncode, done.stdout) == (0, "口令是蓝鲸7431。\n"), done.stderr
    assert FACT in str(engine.requests()[-1].body)
    with service.client() as client:
        assert list(client.files.list()) == []


def test_a_file_is_asked_about_through_the_sdk(service: Service, engine: FakeEngine, plan: Path) -> None:
    """The program of the vendor's page: upload, then a streamed chat with usage that counts the file."""
    engine.rules([Rule(contains="启动口令是什么", text="口令是蓝鲸7431。")])
    with service.client() as client:
        stored = client.files.create(file=plan, purpose=DOCUMENT)
        asked: Any = {"model": "qwen-long", "messages": messages(stored.id, "启动口令是什么？")}

        whole = client.chat.completions.create(**asked)
        chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))

    streamed = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert streamed == whole.choices[0].message.content == "口令是蓝鲸7431。"
    assert whole.model_extra is not None
    assert whole.model_extra["hanlin"]["strategy"] == "all"
    assert whole.model_extra["hanlin"]["pages"][0]["name"] == "plan.txt"
    assert whole.usage is not None
    assert chunks[-1].usage is not None
    assert whole.usage.prompt_tokens == chunks[-1].usage.prompt_tokens > 30


def test_of_a_long_file_the_engine_reads_the_passages_that_matter(service: Service, engine: FakeEngine) -> None:
    """Two hundred pages do not fit what the engine takes; the index finds the one that does."""
    engine.rules([Rule(contains="启动口令是什么", text="口令是蓝鲸7431。"), Rule(text="火星 氧气")])
    text = "\n".join(needles(filler(200, sentences_a_page=40), (120, FACT)))
    with service.client() as client:
        stored = client.files.create(file=("book.txt", text.encode()), purpose=DOCUMENT)
        while client.files.retrieve(stored.id).status != "processed":
            time.sleep(0.05)  # the other side is a process
        engine.forget_requests()

        found = client.chat.completions.create(
            model="qwen-long", messages=messages(stored.id, "云杉项目的启动口令是什么？")
        )
        [request] = engine.requests()
        nothing = client.chat.completions.create(
            model="qwen-long", messages=messages(stored.id, "火星基地的氧气储量是多少？")
        )
        client.files.delete(stored.id)

    assert FACT in str(request.body)
    assert len(str(request.body)) < len(text) / 10
    assert re.fullmatch(r"口令是蓝鲸7431。（第\d+页）", found.choices[0].message.content or "")
    assert found.model_extra is not None
    assert found.model_extra["hanlin"]["strategy"] == "passages"
    assert found.usage is not None
    assert found.usage.prompt_tokens > 50_000
    assert "没有提到" in (nothing.choices[0].message.content or "")


@pytest.mark.parametrize("kind", ["xlsx", "csv", "docx"])
def test_a_table_of_an_uploaded_file_comes_back_whole(
    service: Service, engine: FakeEngine, tmp_path: Path, kind: str
) -> None:
    """Five hundred rows in three files, whatever the format: they are copied, and the engine is not asked at all."""
    rows = [
        (f"A-{at:04d}", f"商品{at}", f"¥{at}.50", "已付" if at % 2 else "未付")
        for at in range(160 if kind == "docx" else 170)
    ]
    path = spreadsheet(tmp_path / f"orders.{kind}", [("编号", "品名", "单价", "状态"), *rows])
    asked = '提取所有记录，输出JSON数组：[{"编号":"","品名":"","单价":"","状态":""}]'
    with service.client() as client:
        stored = client.files.create(file=path, purpose=DOCUMENT)
        while client.files.retrieve(stored.id).status != "processed":
            time.sleep(0.05)  # the other side is a process
        engine.forget_requests()

        answer = client.chat.completions.create(model="qwen-doc-turbo", messages=messages(stored.id, asked))
        client.files.delete(stored.id)

    text = answer.choices[0].message.content or ""
    assert [tuple(record.values()) for record in json.loads(text.strip("`").removeprefix("json"))] == rows
    assert engine.requests() == []


def spreadsheet(path: Path, rows: list[tuple[str, ...]]) -> Path:
    """Write rows as a file of the kind that its name says."""
    if path.suffix == ".xlsx":
        book = openpyxl.Workbook()
        for row in rows:
            book.active.append(row)
        book.save(path)
    elif path.suffix == ".docx":
        text = docx.Document()
        table = text.add_table(rows=0, cols=len(rows[0]))
        for row in rows:
            for cell, value in zip(table.add_row().cells, row, strict=True):
                cell.text = value
        text.save(str(path))
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)
    return path


def test_a_file_of_nobody_is_refused_in_the_vendors_words(service: Service) -> None:
    """Clients match on them."""
    with service.client() as client, pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="qwen-long", messages=messages("file-fe-unknown", "?"))

    assert "Invalid file [id:file-fe-unknown]." in caught.value.message


def test_slides_need_a_stream_and_are_refused_there_too(service: Service) -> None:
    """Spec §3.2: the vendor's words without a stream; with one, that nothing here renders slides."""
    skill = {"skill": [{"type": "ppt", "mode": "general"}]}
    asked: Any = {"model": "qwen-doc-turbo", "messages": [{"role": "user", "content": "做幻灯片"}], "extra_body": skill}
    with service.client() as client:
        with pytest.raises(openai.BadRequestError) as unstreamed:
            client.chat.completions.create(**asked)
        with pytest.raises(openai.BadRequestError) as streamed:
            list(client.chat.completions.create(**asked, stream=True))

    assert isinstance(unstreamed.value.body, dict)
    assert unstreamed.value.body["message"] == "The parameter skill is only supported in stream mode"
    assert (unstreamed.value.status_code, unstreamed.value.param) == (400, "skill")
    assert "renders them" in streamed.value.message
    assert streamed.value.param == "skill"


def test_urls_are_for_the_native_protocol_alone(service: Service) -> None:
    """Spec §3.1: over the compatible endpoint a 400 that names the field."""
    part = {"type": "doc_url", "doc_url": ["https://example.com/a.docx"]}
    asked: Any = [{"role": "user", "content": [{"type": "text", "text": "提取"}, part]}]
    with service.client() as client, pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="qwen-doc-turbo", messages=asked)

    assert "doc_url" in caught.value.message
