"""The operator's own prices as the settings file states them: what they come to, and what is refused by its row."""

from pathlib import Path
from typing import Any

import pytest

from hanlin.catalogue.models import PriceTier
from hanlin.errors import StartupError
from hanlin.metering.prices import Tariff
from hanlin.metering.tariffs import tariffs_of
from hanlin.settings import PriceRow, load

DEPLOYMENTS = ("gpu", "maker", "embedded")


@pytest.fixture(autouse=True)
def _english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


def row(**fields: Any) -> PriceRow:
    return PriceRow(**{"deployment": "gpu", "prompt": 1.0, "completion": 2.0, **fields})


def test_a_row_is_a_tariff_of_its_deployment() -> None:
    """Every kind of tokens by the word that the ledger has for it."""
    found = tariffs_of(
        [row(cached=0.1, cache_creation=1.25, thinking=8.0, names=("qwen3-*",), currency="USD")], DEPLOYMENTS
    )

    tier = PriceTier(1.0, 2.0, output_thinking=8.0, cached_input=0.1, cache_create=1.25)
    assert found == {"gpu": (Tariff((tier,), "USD", ("qwen3-*",)),)}


def test_rows_with_the_same_names_are_tiers_and_others_stand_in_their_order() -> None:
    """As the vendor's list has them: a whole request is charged at the tier of its prompt."""
    rows = [
        row(names=("qwen-plus",), up_to_tokens=1000),
        row(names=("qwen-plus",), prompt=3.0, up_to_tokens=2000),
        row(prompt=9.0),
        row(deployment="maker", prompt=7.0),
        row(names=("qwen-plus",), prompt=4.0),
    ]

    found = tariffs_of(rows, DEPLOYMENTS)

    assert [[tier.input for tier in tariff.tiers] for tariff in found["gpu"]] == [[1.0, 3.0, 4.0], [9.0]]
    assert [tier.up_to_tokens for tier in found["gpu"][0].tiers] == [1000, 2000, None]
    assert [tariff.tiers[0].input for tariff in found["maker"]] == [7.0]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([row(deployment="nobody")], r"\[\[price\]\] 'nobody': there is no .* Known: embedded, gpu, maker"),
        ([row(prompt=-1.0)], r"\[\[price\]\] 'gpu': prompt = -1.0 is no price"),
        ([row(names=("qwen3-*",), thinking=float("nan"))], r"\[\[price\]\] 'gpu' qwen3-\*: thinking = nan"),
        ([row(cached=float("inf"))], "cached = inf is no price"),
        ([row(completion=2e6)], "completion = 2000000.0 is no price"),
        ([row(completion=1e-10)], "'gpu': the price 1e-10 has more than nine decimal places"),
        ([row(currency="yuan")], "currency 'yuan' is not three capital letters"),
        ([row(names=())], "names must not be empty"),
        ([row(up_to_tokens=0)], "up_to_tokens must be 1 or more"),
        ([row(completion=None, thinking=1.0)], "thinking needs a price of completion"),
        ([row(), row()], "is a further tier of the same names"),
        ([row(up_to_tokens=5), row(up_to_tokens=5)], "is a further tier of the same names"),
        ([row(up_to_tokens=5), row(currency="USD")], "is in USD, and a tier of the same names in CNY"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_row(rows: list[PriceRow], words: str) -> None:
    """A price that is silently another one is found on a bill, months later."""
    with pytest.raises(StartupError, match=words):
        tariffs_of(rows, DEPLOYMENTS)


@pytest.mark.parametrize("line", ['prompt = "dear"', "output = 3", "names = 4"])
def test_a_field_that_nobody_knows_or_that_is_no_price_stops_the_start(tmp_path: Path, line: str) -> None:
    """By the file's own reader."""
    file = tmp_path / "hanlin.toml"
    file.write_text(f'[[price]]\ndeployment = "gpu"\nprompt = 1\n{line}\n'.replace("prompt = 1\nprompt", "prompt"))

    with pytest.raises(StartupError, match="price"):
        load(file, {})
