"""Prices of the operator's own, as bills have them: by deployment, changed while the service runs, old rows kept."""

from collections.abc import Iterator
from typing import Any

import pytest

from hanlin.metering.prices import Counted, PriceList
from hanlin.store.rows import LedgerRow
from hanlin.testing import FakeEngine, Rule, wait_until
from hanlin.types import Served
from tests.accounts import once_stored, row_of
from tests.contract.test_accounting_wire import ask
from tests.service import Service, toml_of

SLOW = Rule(contains="slowly", text="慢" * 40, chunk_delay_s=0.05)


@pytest.fixture(scope="module")
def engine() -> Iterator[FakeEngine]:
    with FakeEngine([SLOW, Rule(text="你好，世界")]) as engine:
        yield engine


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, engine: FakeEngine) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("home"), config=config_of(engine, 3.0)) as service:
        yield service


def config_of(engine: FakeEngine, prompt: float) -> str:
    deployment = toml_of({"name": "fake", "url": engine.base_url, "profile": "vllm"}, probe_s=3600)
    price = (
        f'[[price]]\ndeployment = "fake"\nnames = ["qwen-*"]\nprompt = {prompt}\ncompletion = 7.0\ncurrency = "USD"\n'
    )
    return f"{deployment}\n{price}"


def called(service: Service, model: str = "qwen-plus", **more: Any) -> LedgerRow:
    return row_of(service, ask(service, model=model, **more).id.removeprefix("chatcmpl-"))


def nanos(row: LedgerRow, prompt: float) -> int:
    return round((row.usage.prompt * prompt + row.usage.completion * 7.0) * 1000)


def test_a_call_costs_what_its_deployment_says_with_the_list_beside_it(service: Service) -> None:
    """A name without a tariff costs what the list says."""
    own, listed = called(service), called(service, "deepseek-v3.2")

    assert (own.currency, own.cost_nanos) == ("USD", nanos(own, 3.0))
    assert own.list_cost_nanos == round((own.usage.prompt * 0.8 + own.usage.completion * 2.0) * 1000)
    assert (listed.currency, listed.cost_nanos) == ("CNY", listed.list_cost_nanos)
    assert listed.cost_nanos > 0


def test_a_changed_file_changes_the_prices_of_the_calls_that_begin_then(service: Service, engine: FakeEngine) -> None:
    """No restart, no half of one list and half of another: a call that runs is charged by the prices it began with."""
    before = called(service)
    stream = ask(service, content="slowly", stream=True, stream_options={"include_usage": True})
    first = next(iter(stream))
    service.configure(config_of(engine, 5.0))
    service.hup()
    wait_until(lambda: called(service).price_version != before.price_version, "other prices")

    after = called(service)
    list(stream)
    running = row_of(service, first.id.removeprefix("chatcmpl-"))

    assert after.cost_nanos == nanos(after, 5.0)
    assert (running.price_version, running.cost_nanos) == (before.price_version, nanos(running, 3.0))


def test_an_old_row_can_be_worked_out_again(service: Service, engine: FakeEngine) -> None:
    """Its list is in the database, whatever the file says by now."""
    row = called(service)
    service.configure(config_of(engine, 9.0))
    service.hup()
    wait_until(lambda: called(service).price_version != row.price_version, "other prices")

    kept = once_stored(service, lambda store: store.prices.find(row.price_version), "the old list")

    counted = Counted(row.usage)
    cost = PriceList.read(kept.text).cost(row.model, counted, deployment=row.deployment, served=Served(row.served))
    assert (cost.nanos, cost.list_nanos, cost.currency) == (row.cost_nanos, row.list_cost_nanos, row.currency)


def test_a_file_with_a_wrong_price_changes_nothing(service: Service, engine: FakeEngine) -> None:
    """The service says which row is wrong, and goes on as before."""
    before = called(service)
    service.configure(config_of(engine, -1.0))
    service.hup()

    wait_until(lambda: "'fake' qwen-*: prompt = -1.0 is no price" in service.output(), "the refusal")

    assert called(service).price_version == before.price_version
