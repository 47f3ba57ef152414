"""What spec/scenarios.md §2.8 asks of `qwen-long`, over the wire: uploaded files, the official SDK, a fake engine."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI

from hanlin.testing import FakeEngine, Rule
from tests.accounts import in_store, made
from tests.documents import filler, needles
from tests.documents_corpus import pdf_of_shared_pages
from tests.service import Service, in_front_of

DOCUMENT: Any = "file-extract"
LINK = "没有说出它的名称"
LINK_EN = "without naming it"


@pytest.fixture(scope="module")
def engine() -> Iterator[FakeEngine]:
    with FakeEngine() as running:
        yield running


@pytest.fixture(scope="module")
def service(engine: FakeEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("home"), config=in_front_of(engine, serves=["qwen*"])) as running:
        yield running


@pytest.fixture
def client(service: Service) -> Iterator[OpenAI]:
    with service.client() as client:
        yield client


def uploaded(client: OpenAI, text: str | bytes, name: str = "a.txt") -> str:
    """Upload a file and wait until it has been read."""
    content = text.encode() if isinstance(text, str) else text
    stored = client.files.create(file=(name, content), purpose=DOCUMENT)
    wait_for(client, stored.id)
    return stored.id


def wait_for(client: OpenAI, file_id: str) -> None:
    """Wait until a file has been read, or cannot be."""
    while client.files.retrieve(file_id).status not in ("processed", "error"):
        time.sleep(0.05)  # the other side is a process


def turns(*said: tuple[str, str]) -> Any:
    return [{"role": role, "content": text} for role, text in said]


def asked(client: OpenAI, question: str, *files: str, **more: Any) -> tuple[str, dict[str, Any]]:
    """Ask about files; return the answer and what is reported of it."""
    references = ",".join(f"fileid://{file}" for file in files)
    messages = turns(("system", "You are a helpful assistant."), ("system", references), ("user", question))
    completion = client.chat.completions.create(model="qwen-long", messages=messages, **more)
    assert completion.model_extra is not None
    return completion.choices[0].message.content or "", completion.model_extra["hanlin"]


def refused(client: OpenAI, *files: str) -> str:
    """Return the message that a question about files is refused with; status and code are the contract's."""
    with pytest.raises(openai.BadRequestError) as caught:
        asked(client, "讲了什么？", *files)
    assert caught.value.code == "invalid_parameter_error"
    body: Any = caught.value.body
    return str(body["message"])


# --- several files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "led", "paid", "rule"),
    [
        ("李伟领导的部门的预算是多少？", "{}领导{}部。", "{}部的预算是{}21万元。", LINK),
        (
            "What is the budget of the department that 李伟 leads?",
            "{} leads the {} department.",
            "The budget of the {} department is {}21 crowns.",
            LINK_EN,
        ),
    ],
)
def test_facts_of_two_files_are_joined_where_the_question_names_only_one(
    client: OpenAI, engine: FakeEngine, question: str, led: str, paid: str, rule: str
) -> None:
    """Spec §2.7 (4): what the first search found is named by the model, in a call of its own, and looked for next."""
    chinese = "领导" in led
    names = ["李伟", *"Ada Bruno Clara Dario Elena Fabio Greta Hugo".split()]  # noqa: SIM905
    units = "Harbour Forest Railway Post Water Grain Textile Chemical Metal".split()  # noqa: SIM905
    pages = filler(60, chinese=chinese, sentences_a_page=40)
    whos = [(2 + 6 * at, led.format(name, units[at])) for at, name in enumerate(names)]
    whats = [(3 + 6 * at, paid.format(unit, at + 3)) for at, unit in enumerate(units)]
    staff = uploaded(client, "\n".join(needles(pages, *whos)), "staff.txt")
    budgets = uploaded(client, "\n".join(needles(pages, *whats)), "budgets.txt")
    engine.rules([Rule(contains=rule, text=whos[0][1]), Rule(text=f"{whats[0][1]}")])
    engine.forget_requests()

    text, report = asked(client, question, staff, budgets)

    link, last = [str(request.body) for request in engine.requests()]
    assert whos[0][1] in link
    assert whats[0][1] not in link, "its own search did not find the second fact"
    assert whos[0][1] in last
    assert whats[0][1] in last
    assert "321" in text
    assert (report["strategy"], report["searches"], report["calls"]) == ("passages", 2, 2)

    engine.forget_requests()
    single = "海港部的预算是多少？" if chinese else "What is the budget of the Harbour department?"
    _, report = asked(client, single.replace("海港", "Harbour"), staff, budgets)
    assert len(engine.requests()) == report["calls"] == 1, "one fact costs one call"


def test_a_document_that_is_appended_in_the_second_turn_changes_the_answer(client: OpenAI, engine: FakeEngine) -> None:
    """Spec §2.6: stateless, everything is sent again, and a document is of the turns after it."""
    engine.rules([Rule(contains="会议改在苏州举行", text="会议改在苏州举行。"), Rule(text="会议在杭州举行。")])
    one, two = uploaded(client, "会议在杭州举行。"), uploaded(client, "会议改在苏州举行，时间不变。", "b.txt")
    start = [("system", "r"), ("system", f"fileid://{one}"), ("user", "会议在哪里举行？")]

    first = client.chat.completions.create(model="qwen-long", messages=turns(*start))
    before = first.choices[0].message.content or ""
    more = [("assistant", before), ("system", f"fileid://{two}"), ("user", "那现在会议在哪里举行？")]
    second = client.chat.completions.create(model="qwen-long", messages=turns(*start, *more))

    assert "杭州" in before
    assert "苏州" in (second.choices[0].message.content or "")
    assert second.usage is not None
    assert first.usage is not None
    assert second.usage.prompt_tokens > first.usage.prompt_tokens


# --- whose, and in which state ---------------------------------------------------------------------------------------


def test_foreign_and_deleted_files_are_told_apart_in_the_vendors_words(service: Service, client: OpenAI) -> None:
    """Spec §2.5: another account's file never was; one's own that is gone was there."""
    mine = uploaded(client, "会议在杭州举行。")
    workspace = in_store(service, lambda store: store.workspaces.add("another"))
    theirs, _ = made(service, workspace_id=workspace.id)

    with service.client(api_key=theirs) as other:
        assert refused(other, mine) == f"Invalid file [id:{mine}]."
    client.files.delete(mine)
    assert refused(client, mine) == f"File [id:{mine}] cannot be found."


def test_a_call_right_after_an_upload_is_told_to_wait_and_succeeds_later(client: OpenAI, engine: FakeEngine) -> None:
    """Spec §2.5: clients look for this sentence and ask again every two seconds."""
    engine.rules([Rule(text="口令是蓝鲸7431。")])
    text = "\n".join(needles(filler(100, sentences_a_page=400), (50, "云杉项目的启动口令是蓝鲸7431。")))
    stored = client.files.create(file=("large.txt", text.encode()), purpose=DOCUMENT)

    assert refused(client, stored.id) == "File parsing in progress, please try again later."
    wait_for(client, stored.id)
    answer, _ = asked(client, "云杉项目的启动口令是什么？", stored.id)

    assert "蓝鲸7431" in answer


# --- limits ----------------------------------------------------------------------------------------------------------


def test_a_hundred_and_one_files_are_too_many_and_a_hundred_are_not(client: OpenAI, engine: FakeEngine) -> None:
    """Spec §2.3; the text is that of §2.5."""
    engine.rules([Rule(text="没有关系。")])
    one = uploaded(client, "会议在杭州举行。")
    files = [f"file-fe-{number:024x}" for number in range(99)]

    assert refused(client, one, *files, "file-fe-one-more").startswith("Too many files provided.")
    assert refused(client, one, *files) == f"Invalid file [id:{files[0]}]."


def test_files_that_cannot_be_read_are_refused_in_the_vendors_words(client: OpenAI, tmp_path: Path) -> None:
    """Blank, too many pages, a format that nobody reads: a sentence each, and behind it what to do."""
    pdf_of_shared_pages(tmp_path / "long.pdf", 15_001)
    cases = {
        ("blank.txt", b" \n\n "): "content blank.",
        ("long.pdf", (tmp_path / "long.pdf").read_bytes()): "exceeds page limits (15000 pages).",
        ("music.xyz", b"\x00\x01\x02\xff" * 64): "format is not supported.",
    }

    for (name, content), words in cases.items():
        file_id = uploaded(client, content, name)
        assert refused(client, file_id).startswith(f"File [id:{file_id}] {words}")
