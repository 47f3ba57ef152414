"""Prompts and answers of workspaces that keep them: what is stored of a running service's calls, and what never is."""

import json
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from hanlin.store.database import Store
from hanlin.store.rows import Content, KeyRow
from hanlin.testing import FakeEngine, Rule
from tests.accounts import in_store, made, once_stored, rows_of
from tests.contract.test_accounting_wire import BREAKS, FAILS, ask, client_of, post, refused
from tests.service import Service, toml_of

TAKES_EFFECT_S = 1.5
SECRET = "the quick brown fox of nobody else"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    thinks = Rule(contains="think", text="好", thinking="想了想")
    with FakeEngine([FAILS, BREAKS, thinks, Rule(text="你好，世界")]) as engine:
        config = toml_of({"name": "fake", "url": engine.base_url, "profile": "vllm"}, retry_share=0, probe_s=3600)
        with Service(tmp_path_factory.mktemp("home"), config=config) as service:
            yield service


@pytest.fixture(scope="module")
def keeping(service: Service) -> tuple[str, KeyRow]:
    """A key of a workspace that keeps content, switched on while the service runs."""
    workspace = in_store(service, lambda store: store.workspaces.add("keeps"))
    in_store(
        service,
        lambda store: store.workspaces.change(
            workspace.id, lambda row: msgspec.structs.replace(row, keeps_content=True), who="cli"
        ),
    )
    time.sleep(TAKES_EFFECT_S)
    return made(service, workspace_id=workspace.id)


def kept(service: Service, call_id: str) -> tuple[Any, Any]:
    """Wait for what a call said and was told."""
    content = once_stored(service, lambda store: store.contents.find(call_id), f"content of {call_id}")
    return json.loads(content.prompt), json.loads(content.answer)


@pytest.mark.parametrize("stream", [False, True])
def test_a_chat_is_kept_as_it_was_asked_and_answered(
    service: Service, keeping: tuple[str, KeyRow], stream: bool
) -> None:
    """Thoughts beside the text, whether streamed or not."""
    key, _ = keeping
    more: dict[str, Any] = {"model": "qwen3-32b", "extra_body": {"enable_thinking": True}, "content": "think"}
    if stream:
        call_id = next(iter([*ask(service, key, stream=True, **more)])).id
    else:
        call_id = ask(service, key, content="think", model="qwq-plus").id

    asked, answered = kept(service, call_id.removeprefix("chatcmpl-"))

    assert asked == {"messages": [{"role": "user", "content": "think"}]}
    (choice,) = answered["choices"]
    assert (choice["text"], choice["reasoning"], choice["finish_reason"]) == ("好", "想了想", "stop")


def test_completions_and_vectors_are_kept_as_well(service: Service, keeping: tuple[str, KeyRow]) -> None:
    """A gap with what came into it; of vectors the texts, which is all that anybody can read."""
    key, made_row = keeping
    before = len(rows_of(service, made_row, 0))
    client_of(service, key).completions.create(model="qwen-coder-turbo", prompt="def f(", suffix="return")
    assert post(service, "/v1/completions", key, stream=True).status_code == 200
    assert post(service, "/v1/embeddings", key).status_code == 200

    gap, streamed, vectors = (kept(service, row.id) for row in rows_of(service, made_row, before + 3)[-3:])

    assert gap[0]["suffix"] == "return"
    assert gap[1]["choices"][0]["text"]
    assert streamed[1]["choices"][0]["text"]
    assert vectors == ({"input": ["你好"]}, {"choices": []})


def test_of_a_call_that_broke_or_failed_there_is_what_there_was(service: Service, keeping: tuple[str, KeyRow]) -> None:
    """Those are the ones that somebody will look at."""
    key, made_row = keeping
    before = len(rows_of(service, made_row, 0))
    refused(service, key, content="please fail")
    with pytest.raises(Exception, match=r"."):
        list(ask(service, key, content="please break", stream=True))

    failed, broken = (kept(service, row.id) for row in rows_of(service, made_row, before + 2)[-2:])

    assert failed == ({"messages": [{"role": "user", "content": "please fail"}]}, {"choices": []})
    assert broken[1]["choices"][0]["text"] == "一二三"


def test_nothing_is_kept_of_anybody_else(service: Service) -> None:
    """Neither in the table nor anywhere in the home, once the service has ended its part."""
    key, made_row = made(service)
    ask(service, key, content=SECRET)
    list(ask(service, key, content=SECRET, stream=True))
    rows = rows_of(service, made_row, 2)
    time.sleep(TAKES_EFFECT_S)

    async def of_all(store: Store) -> list[Content | None]:
        return [await store.contents.find(row.id) for row in rows]

    found = in_store(service, of_all)

    assert found == [None, None]
    files = [path for path in service.home.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]


def test_what_is_switched_off_is_kept_no_more(service: Service) -> None:
    """Within a second; every change of it is in the audit log."""
    workspace = in_store(service, lambda store: store.workspaces.add("on-and-off", keeps_content=True))
    key, made_row = made(service, workspace_id=workspace.id)
    time.sleep(TAKES_EFFECT_S)
    first = ask(service, key).id.removeprefix("chatcmpl-")
    kept(service, first)
    in_store(
        service,
        lambda store: store.workspaces.change(
            workspace.id, lambda row: msgspec.structs.replace(row, keeps_content=False), who="cli"
        ),
    )
    time.sleep(TAKES_EFFECT_S)
    ask(service, key)
    second = rows_of(service, made_row, 2)[-1].id
    time.sleep(TAKES_EFFECT_S)

    assert in_store(service, lambda store: store.contents.find(second)) is None
    (change, _) = in_store(service, lambda store: store.audit.page(subject=workspace.id))
    assert ('"keeps_content":true' in change.before, '"keeps_content":false' in change.after) == (True, True)
