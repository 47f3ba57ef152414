"""What a call is charged by: a list with what is remembered of it, and the most that a call could cost."""

from typing import Any

import msgspec
import pytest

from hanlin.catalogue.models import PriceTier
from hanlin.metering.prices import Cost, Counted, PriceList, Tariff
from hanlin.service.charging import Book, most_of, most_of_text
from hanlin.service.deployments import Deployment
from hanlin.testing import ScriptedEngine
from hanlin.types import Answering, Sampling, Served, Thinking, Usage
from tests.values import model, request, route_of, server_of

LISTED = {"qwen-plus": (PriceTier(1.0, 2.0),)}
ANSWERING = Answering("qwen-plus", "cheap", "", Served.UPSTREAM)


def book(**own: Tariff) -> Book:
    prices = PriceList(LISTED, {deployment: (tariff,) for deployment, tariff in own.items()})
    return Book(prices, lambda deployment: deployment == "small-weights")


def tariff(price: float, **more: Any) -> Tariff:
    return Tariff((PriceTier(price, price),), **more)


def server(name: str) -> Deployment:
    return server_of(ScriptedEngine(), name)


def test_weights_that_hanlin_runs_share_one_tariff() -> None:
    """Whatever they are called: which they are is decided by memory, at the start."""
    ours = msgspec.structs.replace(ANSWERING, deployment="small-weights", served=Served.STAND_IN)

    charged = book(embedded=tariff(3.0)).cost(ours, Counted(Usage(10)))
    without = book(cheap=tariff(3.0)).cost(ours, Counted(Usage(10)))

    assert (charged.nanos, charged.list_nanos) == (30_000, 10_000)
    assert (without.nanos, without.list_nanos) == (0, 10_000)


def test_what_a_million_costs_is_remembered_for_each_that_answers() -> None:
    """And never by another book."""
    one, other = book(cheap=tariff(3.0)), book(cheap=tariff(4.0, currency="USD"))

    found = [one.million(ANSWERING), one.million(ANSWERING), other.million(ANSWERING)]

    assert found[0] is found[1]
    assert [(each.currency, each.prompt_nanos) for each in found[1:]] == [("CNY", 3 * 10**9), ("USD", 4 * 10**9)]
    assert found[2].list_answer_nanos == 2 * 10**9


@pytest.mark.parametrize(
    ("own", "held"),
    [
        ({"cheap": tariff(1.0), "dear": tariff(9.0)}, "dear"),
        ({"cheap": tariff(9.0), "dear": tariff(1.0)}, "cheap"),
        ({"cheap": tariff(1.0), "dear": tariff(9.0, currency="USD")}, "cheap"),
        ({"cheap": tariff(0.0), "dear": tariff(9.0)}, "cheap"),
    ],
    ids=["dearer-elsewhere", "cheaper-elsewhere", "another-currency", "free-here"],
)
def test_money_is_held_for_the_dearest_that_may_answer(own: dict[str, Tariff], held: str) -> None:
    """A budget is kept whoever takes over; what costs nothing where it begins is not refused for money."""
    charged_by = book(**own)
    asking = request(sampling=Sampling(max_tokens=100))
    route = route_of(server("cheap"), server("dear"))

    tokens, cost = most_of(asking, model(), ANSWERING, route)(charged_by)

    expected = msgspec.structs.replace(ANSWERING, deployment=held)
    assert cost == charged_by.cost(expected, Counted(Usage(tokens - 100, 100)))


def test_a_call_that_thinks_holds_the_longest_answer_at_the_price_of_thinking() -> None:
    """Nobody knows how much of it will be thought, and a budget is kept whatever comes."""
    prices = PriceList({"qwen-plus": (PriceTier(1.0, 2.0, output_thinking=8.0),)})
    plain, thinking = (
        most_of(request("a" * 50, thinking=how), model(max_output_tokens=100), ANSWERING, route_of(server("cheap")))
        for how in (Thinking(), Thinking(on=True, budget_tokens=100))
    )

    charged_by = Book(prices, lambda _: False)
    assert plain(charged_by) == (123, Cost(23_000 + 200_000, 23_000 + 200_000))
    assert thinking(charged_by) == (223, Cost(23_000 + 1_600_000, 23_000 + 1_600_000))


def test_a_text_holds_its_prompt_and_the_longest_answer() -> None:
    """Vectors have none."""
    assert most_of_text(("a" * 50,), 7, ANSWERING)(book())[1] == Cost(24_000, 24_000)
    assert most_of_text(("a" * 50,), 0, ANSWERING)(book()) == (10, Cost(10_000, 10_000))
