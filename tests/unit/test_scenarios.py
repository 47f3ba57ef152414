"""Scenario models: a recipe's calls are routed, billed and stopped like everybody's, and come to one answer."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from hanlin.engines.profiles import profiles
from hanlin.errors import EngineFailed, InvalidRequest, QuotaExceeded
from hanlin.metering.journal import open_journal
from hanlin.metering.prices import Cost
from hanlin.metering.reserving import Reservation
from hanlin.recipes.recipe import Desk, Recipe
from hanlin.service import chat, embedding
from hanlin.service.accounting import Accounting, Bill
from hanlin.service.charging import Most
from hanlin.service.scenarios import InnerBills, ScenarioCall
from hanlin.service.studio import Studio
from hanlin.settings import Settings
from hanlin.store.database import open_store
from hanlin.store.rows import KeyRow, LedgerRow, Limits
from hanlin.testing import HANG, ScriptedEngine
from hanlin.types import ChatRequest, Event, Events, Form, Message, Usage, fold
from tests.values import catalogue_of, deployment, model, request

NOW = datetime(2026, 11, 27, tzinfo=UTC)

SAID = [[Event(text="半")], [Event(text="句"), Event(finish_reason="stop")], [Event(usage=Usage(10, 2))]]
TOLD = Usage(100, 4)


async def _twice(asked: ChatRequest, desk: Desk) -> Events:
    """Answer with what the base model says to two questions, the first of them heard in full before the second."""
    first = await desk.base.answer(asked.changed(messages=(Message("user", "一"),)))
    yield [Event(text=first.choices[0].text)]
    async with aclosing(desk.base.stream(asked.changed(messages=(Message("user", "二"),)))) as bursts:
        async for burst in bursts:
            yield [Event(text=event.text) for event in burst if event.text]
    yield [Event(report=msgspec.Raw(b'{"calls":2}')), Event(finish_reason="stop"), Event(usage=TOLD)]


def _refuses_tools(asked: ChatRequest, _model: object) -> None:
    if asked.tools:
        raise InvalidRequest("The tool call is not supported.", param="tools")


TWICE = Recipe("twice", _twice, _refuses_tools, frozenset({"translation_options"}))


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Callable[..., Studio]]:
    made: list[Studio] = []
    store = await open_store(tmp_path / "hanlin.db")

    def make(*engines: ScriptedEngine, recipe: Recipe = TWICE, **fields: Any) -> Studio:
        found = Studio(Settings(), catalogue_of(model(recipe="twice", **fields)), store, b"secret")
        found.recipes = {recipe.name: recipe}
        found.starting = None
        found.deployments = [deployment(one, name=f"d{number}") for number, one in enumerate(engines)]
        made.append(found)
        return found

    yield make
    await made[0].close()


def scenario(studio: Studio, **fields: Any) -> ScenarioCall:
    call = studio.call(request(**fields))
    assert isinstance(call, ScenarioCall)
    return call


async def test_a_recipe_answers_with_calls_of_the_base_model(studio: Callable[..., Studio]) -> None:
    """Whole and streamed it is the same answer, with the usage and the report that the recipe states."""
    engine = ScriptedEngine(SAID)
    whole = await chat.complete(scenario(studio(engine)), 10)
    streamed = [event async for burst in chat.generate(scenario(studio(engine), stream=True)) for event in burst]

    assert fold(streamed) == whole
    assert whole.choices[0].text == "半句半句"
    assert whole.usage == TOLD
    assert whole.report == msgspec.Raw(b'{"calls":2}')
    assert [one.messages[-1].text for one in engine.requests] == ["一", "二"] * 2


async def test_the_base_model_is_not_told_of_the_scenario(studio: Callable[..., Studio]) -> None:
    """Parameters that only the recipe understands would be refused, or understood once more."""
    engine = ScriptedEngine(SAID)
    asks = {"translation_options": msgspec.Raw(b'{"target_lang":"English"}')}

    await chat.complete(scenario(studio(engine), asks=asks, given=frozenset(asks)), 10)

    assert all(not one.asks and one.n == 1 for one in engine.requests)


async def test_likelihoods_of_a_recipes_words_are_said_to_be_ignored(studio: Callable[..., Studio]) -> None:
    """Its answer is put together from several: nobody knows how likely a word of it was."""
    engine = ScriptedEngine(SAID)
    call = scenario(studio(engine), logprobs=True, given=frozenset({"logprobs"}))

    await chat.complete(call, 10)

    assert call.answering.ignored == ("logprobs",)
    assert not any(one.logprobs for one in engine.requests)


async def test_what_the_contract_refuses_is_refused_before_anything_runs(studio: Callable[..., Studio]) -> None:
    """A recipe answers once, so that several choices cannot be had of it."""
    engine = ScriptedEngine(SAID)
    with pytest.raises(InvalidRequest, match="tool call"):
        scenario(studio(engine), tools=({},))
    with pytest.raises(InvalidRequest, match=r"\[1, 1\]"):
        scenario(studio(engine), n=2)

    assert not engine.requests


async def test_the_vendor_itself_is_asked_as_the_caller_asked(studio: Callable[..., Studio]) -> None:
    """It knows its own scenarios: the parameters go there as they came. What reads documents is run here."""
    asks = {"translation_options": msgspec.Raw(b"{}")}
    vendor = studio()
    vendor.deployments = [
        deployment(ScriptedEngine(SAID), profiles().engine["modelstudio"], embedded=False, serves=("*",))
    ]

    call = vendor.call(request(asks=asks, given=frozenset(asks)))

    assert not isinstance(call, ScenarioCall)
    assert call.plan.request.asks == asks
    assert not call.plan.answering.ignored
    vendor.recipes = {"twice": replace(TWICE, reads_documents=True)}
    assert isinstance(vendor.call(request()), ScenarioCall)


async def test_a_call_that_a_recipe_has_nothing_to_do_for_is_made_as_it_is(studio: Callable[..., Studio]) -> None:
    """Ten megabytes of plain chat need not pass through a recipe. Calls with documents are of the same form: neither
    may be taken for the other.
    """
    engine = ScriptedEngine(SAID)
    plain = replace(TWICE, applies=lambda asked: "文件" in asked.messages[-1].text)
    found = studio(engine, recipe=plain)
    form = Form()

    assert not isinstance(found.call(request("你好", form=form)), ScenarioCall)
    assert isinstance(found.call(request("看文件", form=form)), ScenarioCall)
    assert not isinstance(found.call(request("你好", form=form)), ScenarioCall)


async def test_an_inner_call_takes_a_place_and_the_callers_own_takes_none(studio: Callable[..., Studio]) -> None:
    """With one place at the engine, a call that held one while its recipe asks would wait for itself."""
    engine = ScriptedEngine(SAID)
    found = studio(engine)
    capacity = found.deployments[0].capacity
    while capacity.slots - capacity.running > 1:
        assert capacity.try_acquire()

    async with asyncio.timeout(5):
        result = await chat.complete(scenario(found), 10)

    assert result.choices[0].text == "半句半句"


async def test_who_hangs_up_stops_the_inner_call(studio: Callable[..., Studio]) -> None:
    """An engine that goes on for nobody is the waste that hang-ups are noticed for."""
    engine = ScriptedEngine(lambda asked: SAID if asked.messages[-1].text == "一" else [[Event(text="半")], HANG])
    bursts = chat.generate(scenario(studio(engine), stream=True))
    async for burst in bursts:
        if len(engine.requests) == 2 and burst:
            break
    assert engine.running == 1

    await bursts.aclose()

    assert engine.running == 0


async def test_an_inner_call_goes_to_another_deployment_unseen(studio: Callable[..., Studio]) -> None:
    """The answer says who gave it, and what was tried."""
    broken = ScriptedEngine([EngineFailed("it died")])
    found = studio()
    found.deployments = [
        deployment(broken, name="first", embedded=False, serves=("*",)),
        deployment(ScriptedEngine(SAID), name="second", embedded=False, serves=("*",)),
    ]
    call = scenario(found)

    result = await chat.complete(call, 10)

    assert result.choices[0].text == "半句半句"
    assert call.answering.deployment == "second"
    assert "first;fault=failed" in call.tried()


async def test_a_recipe_learns_what_answered_it(studio: Callable[..., Studio]) -> None:
    """What one model wrote is not kept as another's; replicas of a model are one."""
    seen: list[str] = []

    async def tells(asked: ChatRequest, desk: Desk) -> Events:
        seen.append(desk.base.fingerprint)
        await desk.base.answer(asked)
        seen.append(desk.base.fingerprint)
        yield [Event(text="好"), Event(finish_reason="stop"), Event(usage=TOLD)]

    broken, sound = ScriptedEngine([EngineFailed("it died")]), ScriptedEngine(SAID)
    rest: dict[str, Any] = {"embedded": False, "serves": ("*",)}
    found = studio(recipe=Recipe("twice", tells))
    found.deployments = [
        deployment(broken, name="first", fingerprint="one", **rest),
        deployment(sound, name="second", fingerprint="two", runs="vllm/qwen", **rest),
    ]

    await chat.complete(scenario(found), 10)

    assert seen == ["one", "vllm/qwen"]


# --- bills -----------------------------------------------------------------------------------------------------------


KEY = KeyRow(id="k1", name="one", hash="", hint="", created_at=NOW, limits=Limits(rpm=100, tpm=100_000))


async def _billed(studio: Studio, accounting: Accounting, rows: list[LedgerRow], call: ScenarioCall) -> None:
    subjects = accounting.subjects(KEY, "qwen-plus")
    reservation = await accounting.meter.reserve(subjects, 10, call="outer")
    bill = accounting.begin(
        KEY,
        "outer",
        "chat",
        call.plan.answering,
        stream=False,
        began_unix_s=NOW.timestamp(),
        prompt_tokens=9,
        reservation=reservation,
        has_inner=True,
    )
    ids = iter("ab")
    call.bills = InnerBills(accounting, bill, KEY, lambda: f"inner-{next(ids)}")
    result = await chat.complete(call, 10)
    bill.ends("answered", call.plan.answering, result.usage, ends_s={})  # type: ignore[arg-type]
    bill.settle()
    assert bill.row is not None
    rows.append(bill.row)


async def test_the_ledger_has_a_row_for_the_call_and_one_for_each_of_its_recipe(
    studio: Callable[..., Studio], tmp_path: Path
) -> None:
    """What the caller was told and what really ran are two figures: neither may pass for the other."""
    found = studio(ScriptedEngine(SAID))
    (tmp_path / "journal").mkdir()
    journal = open_journal(tmp_path / "journal")
    accounting = Accounting(found.store, found.catalogue, journal)
    rows: list[LedgerRow] = []
    await _billed(found, accounting, rows, scenario(found))

    written = [row for row, _ in journal.take(10)]
    inner, outer = [row for row in written if row.parent_id], [row for row in written if not row.parent_id]

    assert [(row.id, row.parent_id, row.usage) for row in inner] == [
        ("inner-a", "outer", Usage(10, 2)),
        ("inner-b", "outer", Usage(10, 2)),
    ]
    assert [(row.usage, row.told_prompt, row.told_completion) for row in outer] == [(Usage(), 100, 4)]
    journal.close()


async def test_limits_count_what_ran_and_the_call_once(
    studio: Callable[..., Studio], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two inner calls of twelve tokens are twenty-four tokens and one request."""
    found = studio(ScriptedEngine(SAID))
    accounting = Accounting(found.store, found.catalogue)

    settled: list[tuple[int, int]] = []
    settle = accounting.meter.settle

    def noted(reservation: Reservation, tokens: int, *more: Any, **named: Any) -> Any:
        settled.append((reservation.held.calls, tokens))
        return settle(reservation, tokens, *more, **named)

    monkeypatch.setattr(accounting.meter, "settle", noted)

    await _billed(found, accounting, [], scenario(found))

    assert settled == [(1, 24)]


async def test_a_stream_that_goes_elsewhere_from_the_beginning_says_so(studio: Callable[..., Studio]) -> None:
    """Routing decides anew for each inner call: the answer's head and the ledger name who gave it."""
    found = studio(recipe=LEAVING)
    engines = [ScriptedEngine(SAID), ScriptedEngine(SAID)]
    found.deployments = [
        deployment(engine, name=name, embedded=False, serves=("*",))
        for engine, name in zip(engines, ("first", "second"), strict=True)
    ]
    call = scenario(found, stream=True)
    planned = call.answering.deployment
    next(engine for engine, one in zip(engines, found.deployments, strict=True) if one.name == planned).why = "loading"
    changed: list[str] = []
    call.changed = lambda answering: changed.append(answering.deployment)

    assert [event async for burst in chat.generate(call) for event in burst]

    other = {"first": "second", "second": "first"}[planned]
    assert changed == [other]
    assert call.answering.deployment == other


async def _leaves(asked: ChatRequest, desk: Desk) -> Events:
    """Answer with the first words of the base model, whose stream is left as it is."""
    async for burst in desk.base.stream(asked):
        yield burst


LEAVING = Recipe("twice", _leaves)


async def test_a_stream_that_a_recipe_leaves_open_is_billed_before_its_caller(
    studio: Callable[..., Studio], tmp_path: Path
) -> None:
    """Whenever the interpreter gets to it is too late: the caller's bill is settled without it, and its slot taken."""
    engine = ScriptedEngine([*SAID[:1], HANG])
    found = studio(engine, recipe=LEAVING)
    (tmp_path / "journal").mkdir()
    journal = open_journal(tmp_path / "journal")
    accounting = Accounting(found.store, found.catalogue, journal)
    call = scenario(found, stream=True)
    bill = _begun(accounting, call)
    bursts = chat.generate(call)
    async for burst in bursts:
        if burst:
            break

    await bursts.aclose()

    (inner,) = [row for row, _ in journal.take(10)]
    assert (inner.parent_id, inner.outcome) == ("outer", "cancelled")
    assert inner.usage.completion == bill.inner_tokens - inner.usage.prompt == 1
    assert journal.open_calls == 1  # the caller's own
    assert engine.running == 0
    bill.ends("cancelled", call.plan.answering, Usage(), ends_s={})  # type: ignore[arg-type]
    journal.close()


def _begun(accounting: Accounting, call: ScenarioCall, reservation: Reservation | None = None) -> Bill:
    bill = accounting.begin(
        KEY,
        "outer",
        "chat",
        call.plan.answering,
        stream=True,
        began_unix_s=NOW.timestamp(),
        prompt_tokens=9,
        reservation=reservation,
        has_inner=True,
    )
    ids = iter("abc")
    call.bills = InnerBills(accounting, bill, KEY, lambda: f"inner-{next(ids)}")
    return bill


def _most(tokens: int, nanos: int = 0, currency: str = "CNY") -> Most:
    return lambda _: (tokens, Cost(nanos=nanos, currency=currency))


async def test_what_was_refused_to_a_recipe_is_not_held_against_a_smaller_call(studio: Callable[..., Studio]) -> None:
    """A recipe may ask for less, or answer with what it has: only what was granted counts."""
    found = studio(ScriptedEngine(SAID))
    accounting = Accounting(found.store, found.catalogue)
    reservation = await accounting.meter.reserve(accounting.subjects(KEY, "qwen-plus"), 100, call="outer")
    bill = _begun(accounting, scenario(found), reservation)

    await bill.extend(_most(150))
    with pytest.raises(QuotaExceeded):
        await bill.extend(_most(100_000))
    await bill.extend(_most(50))

    assert reservation.held.tokens == 200


async def test_calls_that_a_recipe_makes_at_once_hold_what_they_need_and_no_more(
    studio: Callable[..., Studio], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store elsewhere takes a moment: who asks meanwhile must not ask for what is on its way already."""
    found = studio(ScriptedEngine(SAID))
    accounting = Accounting(found.store, found.catalogue)
    reservation = await accounting.meter.reserve(accounting.subjects(KEY, "qwen-plus"), 100, call="outer")
    bill = _begun(accounting, scenario(found), reservation)
    extend = accounting.meter.extend

    async def later(*asked: Any, **named: Any) -> None:
        await asyncio.sleep(0)
        await extend(*asked, **named)

    monkeypatch.setattr(accounting.meter, "extend", later)

    await asyncio.gather(*(bill.extend(_most(100)) for _ in range(4)))

    assert reservation.held.tokens == 400


async def test_what_inner_calls_cost_is_settled_in_their_currency(
    studio: Callable[..., Studio], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The caller's own row may have no cost, and then it has the list's currency: the budget's money is theirs."""
    found = studio(ScriptedEngine(SAID))
    accounting = Accounting(found.store, found.catalogue)
    reservation = await accounting.meter.reserve(accounting.subjects(KEY, "qwen-plus"), 10, call="outer")
    call = scenario(found)
    bill = _begun(accounting, call, reservation)
    settled: list[Any] = []
    monkeypatch.setattr(accounting.meter, "settle", lambda *_, currency: settled.append(currency))
    row = LedgerRow(
        id="inner", began_at=NOW, key_id="k1", workspace_id="", surface="chat", model="m", currency="USD", cost_nanos=5
    )

    bill.add_inner(row)
    bill.ends("failed", call.plan.answering, Usage(), ends_s={})  # type: ignore[arg-type]
    bill.settle()

    assert settled == ["USD"]
    assert bill.inner_nanos == 5


async def test_an_inner_answer_that_failed_as_a_whole_costs_nothing(
    studio: Callable[..., Studio], tmp_path: Path
) -> None:
    """Nobody has seen a word of it: as with any call that is not streamed."""
    found = studio(ScriptedEngine([*SAID[:1], InvalidRequest("it is too long")]))
    (tmp_path / "journal").mkdir()
    journal = open_journal(tmp_path / "journal")
    accounting = Accounting(found.store, found.catalogue, journal)
    call = scenario(found)
    bill = _begun(accounting, call)

    with pytest.raises(InvalidRequest):
        await chat.complete(call, 10)

    (inner,) = [row for row, _ in journal.take(10)]
    assert (inner.outcome, inner.usage) == ("failed", Usage())
    bill.ends("failed", call.plan.answering, Usage(), ends_s={})  # type: ignore[arg-type]
    journal.close()


async def _nears(asked: ChatRequest, desk: Desk) -> Events:
    vectors = await desk.base.vectors(["a"], "query")
    yield [Event(text="without" if vectors is None else "with"), Event(finish_reason="stop"), Event(usage=TOLD)]


async def test_vectors_that_nobody_makes_now_are_done_without(
    studio: Callable[..., Studio], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They make a search better; a model for them that is away is no reason to answer nobody."""
    found = studio(ScriptedEngine(SAID), recipe=Recipe("twice", _nears))

    async def away(*_: object) -> None:
        raise EngineFailed("it is away")

    plan = SimpleNamespace(answering=SimpleNamespace())
    monkeypatch.setattr(found, "embedding", lambda *_, **__: SimpleNamespace(plan=plan))
    monkeypatch.setattr(embedding, "embed", away)

    result = await chat.complete(scenario(found), 10)

    assert result.choices[0].text == "without"


async def test_what_leaves_is_noted_before_it_leaves(studio: Callable[..., Studio]) -> None:
    """A service may be killed in between: its caller must not have more than its row says."""
    call = scenario(studio(ScriptedEngine(SAID)), stream=True)
    noted = 0

    def came(pieces: int) -> None:
        nonlocal noted
        noted = pieces

    call.came = came
    said = 0
    async for burst in chat.generate(call):
        said += sum(bool(event.text) for event in burst)
        assert noted == said
    assert said
