"""kill -9 of the service under scenarios: one call is one row and one for each call of its recipe, however it ends;
tokens and money are counted once."""

import json
from pathlib import Path

import httpx2
import pytest

from hanlin.store.rows import LedgerRow, Outcome
from hanlin.testing import FakeEngine, Rule, wait_until
from tests.process.test_service_kill import ledger
from tests.service import KEY, Service, toml_of

LEAVES_AFTER = 5
RULES = [
    Rule(contains="Sleeping", text="睡" * 400, chunk_delay_s=0.02),
    Rule(text="春天来了。", chunk_delay_s=0.002),
]
PRICE = '[[price]]\ndeployment = "fake"\nnames = ["qwen-*"]\nprompt = 3.0\ncompletion = 7.0\n'


def _asked(model: str, text: str, **more: object) -> dict[str, object]:
    return {"model": model, "messages": [{"role": "user", "content": text}], "stream": True, **more}


STEPS = _asked("qwen-math-turbo", "Sleeping")
TRANSLATION = _asked(
    "qwen-mt-plus",
    "The spring has come to us.\nSleeping dogs lie in the sun.",
    translation_options={"source_lang": "English", "target_lang": "Chinese"},
)


def _heard_until_killed(service: Service, body: dict[str, object], pieces: int) -> int:
    """Ask, kill the service once so many pieces have come, and return how many had come in the end."""
    heard = 0
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx2.stream("POST", f"{service.url}/v1/chat/completions", json=body, headers=headers, timeout=60) as answer:
        try:
            for line in answer.iter_lines():
                frame = json.loads(line[6:]) if line.startswith("data: {") else {}
                assert "error" not in frame, frame
                heard += any(choice["delta"].get("content") for choice in frame.get("choices", ()))
                if heard == pieces and service.process is not None and service.process.poll() is None:
                    service.process.kill()
        except httpx2.HTTPError:
            pass
    assert service.process is not None
    service.process.wait()
    return heard


def _costs(rows: list[LedgerRow]) -> list[int]:
    return [round((row.usage.prompt * 3.0 + row.usage.completion * 7.0) * 1000) for row in rows]


@pytest.mark.parametrize(("body", "pieces"), [(STEPS, LEAVES_AFTER), (TRANSLATION, 1)], ids=["maths", "translation"])
def test_a_scenario_that_was_killed_is_one_call_with_what_was_made_for_it(
    tmp_path: Path, body: dict[str, object], pieces: int
) -> None:
    """What the caller was told stands in its own row, what was used in those below: added up, nothing counts twice."""
    with FakeEngine(RULES) as engine:
        home = tmp_path / "home"
        replica = {"name": "fake", "url": engine.base_url, "model": "m", "profile": "vllm", "serves": ["qwen-*"]}
        service = Service(home, config=toml_of(replica, probe_s=3600) + PRICE)
        service.start()
        try:
            heard = _heard_until_killed(service, body, pieces)
            records = engine.wait_for(lambda requests: all(one.state != "running" for one in requests), 60)
            made = sum(one.tokens_made for one in records)
            asked = len(records)
            service.launch()
            service.wait_ready()
            wait_until(lambda: service.metric("hanlin_ledger_pending_rows") == 0, "all rows to be in the database")
        finally:
            service.close()

    rows, totals = ledger(home)
    (own,) = [row for row in rows if not row.parent_id]
    inner = [row for row in rows if row.parent_id]

    assert own.outcome is Outcome.INTERRUPTED
    assert (own.usage.total, own.cost_nanos) == (0, 0)
    assert own.told_completion is not None
    assert heard <= own.told_completion
    assert own.list_cost_nanos > 0
    assert {row.parent_id for row in inner} == {own.id}
    assert len(inner) == asked
    assert any(row.outcome is Outcome.INTERRUPTED for row in inner)
    assert sum(row.usage.completion for row in inner) <= made
    if body is STEPS:
        assert heard <= sum(row.usage.completion for row in inner)
    assert [row.cost_nanos for row in inner] == _costs(inner)
    assert not any(row.list_cost_nanos for row in inner)
    assert sum(total.calls for total in totals) == 1
    assert sum(total.usage.completion for total in totals) == sum(row.usage.completion for row in inner)
    assert sum(total.cost_nanos for total in totals) == sum(row.cost_nanos for row in inner)
