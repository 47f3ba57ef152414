"""What a call costs: by the list, by the operator's own prices, and when nobody has set any."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hanlin.catalogue.loading import load
from hanlin.catalogue.models import PriceTier
from hanlin.errors import StartupError
from hanlin.metering.prices import Cost, Counted, PriceList, Tariff, checked_usage
from hanlin.store.rows import NANOS
from hanlin.types import Served, Usage

MILLION = 1_000_000
PLUS = (
    PriceTier(0.8, 2, up_to_tokens=128_000, output_thinking=8, cached_input=0.16, cache_create=1, cache_hit=0.08),
    PriceTier(2.4, 20, up_to_tokens=256_000, output_thinking=24),
    PriceTier(4.8, 48, up_to_tokens=1_000_000),
)
counts = st.integers(-1_000, 2_000_000)


def price_list(*tiers: PriceTier, **own: list[Tariff]) -> PriceList:
    return PriceList({"plus": tiers or PLUS}, own)


def list_nanos(counted: Counted, *tiers: PriceTier) -> int:
    return price_list(*tiers).cost("plus", counted).nanos


def usage(prompt: int = 0, completion: int = 0, cached: int = 0, reasoning: int = 0) -> Usage:
    return Usage(prompt, completion, cached, reasoning)


def test_a_million_tokens_cost_what_the_list_says() -> None:
    """One yuan is 10⁹ nanos, and a bill is a whole number of them."""
    assert list_nanos(Counted(usage(100_000))) == 80_000_000
    assert list_nanos(Counted(usage(0, MILLION))) == 2 * NANOS
    assert list_nanos(Counted(usage(1, 1))) == 800 + 2_000


@pytest.mark.parametrize(
    ("prompt", "nanos_a_token"), [(128_000, 800), (128_001, 2_400), (256_001, 4_800), (2_000_000, 4_800)]
)
def test_a_whole_request_is_billed_at_the_tier_of_its_input(prompt: int, nanos_a_token: int) -> None:
    """spec/chat.md §16: no part of it at a lower one; beyond the last tier the last one holds."""
    assert list_nanos(Counted(usage(prompt))) == prompt * nanos_a_token


def test_a_call_that_thought_pays_for_all_its_output_as_thinking() -> None:
    """spec/chat.md §5.2; one that could have and did not pays the ordinary price."""
    assert list_nanos(Counted(usage(0, 1_000, reasoning=10))) == 8_000_000
    assert list_nanos(Counted(usage(0, 1_000))) == 2_000_000
    assert list_nanos(Counted(usage(0, 1_000), thought=True)) == 8_000_000


def test_tokens_of_the_cache_have_their_own_prices() -> None:
    """spec/chat.md §10: implicit hits, explicit hits, and what is written to an explicit cache."""
    assert list_nanos(Counted(usage(1_000, cached=600))) == 400 * 800 + 600 * 160
    assert list_nanos(Counted(usage(1_000, cached=600), explicit=True)) == 400 * 800 + 600 * 80
    assert list_nanos(Counted(usage(1_000, cached=600), 300, explicit=True)) == 100 * 800 + 600 * 80 + 300 * 1_000


def test_a_discount_that_is_not_listed_is_not_given() -> None:
    """Our engines cache every prompt; what the vendor's list says nothing of costs what input costs."""
    assert list_nanos(Counted(usage(200_000, cached=100_000), 50_000)) == 200_000 * 2_400


def test_batch_files_cost_half_and_get_no_discount_of_the_cache() -> None:
    """spec/surfaces.md §2.7, spec/chat.md §10; a listed batch price comes first."""
    listed = PriceTier(0.8, 2, cached_input=0.16, batch_input=0.3, batch_output=0.9)

    assert list_nanos(Counted(usage(1_000, 500, cached=600), batch=True)) == 1_000 * 400 + 500 * 1_000
    assert list_nanos(Counted(usage(1_000, 500, cached=600), batch=True), listed) == 1_000 * 300 + 500 * 900
    assert list_nanos(Counted(usage(0, 500, reasoning=1), batch=True)) == 500 * 4_000


def test_off_peak_hours_have_their_own_row() -> None:
    """DeepSeek's newer models cost half at night."""
    tiers = (PriceTier(1, 4, period="off-peak"), PriceTier(2, 8, period="peak"))

    assert list_nanos(Counted(usage(1_000)), *tiers) == 2_000_000
    assert list_nanos(Counted(usage(1_000), hours="off-peak"), *tiers) == 1_000_000


def test_prices_below_a_nano_are_exact_until_the_sum_is_rounded_once() -> None:
    """qwen3-vl-flash's explicit cache costs 187.5 nanos a token."""
    tier = PriceTier(0.15, 1.5, cache_create=0.1875)

    assert list_nanos(Counted(usage(2), 2), tier) == 375
    assert list_nanos(Counted(usage(MILLION), MILLION), tier) == 187_500_000


def test_what_has_no_price_costs_nothing_and_says_so() -> None:
    """A bill of 0 must not look like a price of 0."""
    nothing = price_list().cost("unheard-of", Counted(usage(10, 10)))
    half = price_list(PriceTier(0.5)).cost("plus", Counted(usage(10, 10)))
    free = price_list(PriceTier(0, 0)).cost("plus", Counted(usage(10, 10)))

    assert nothing == Cost(0, 0, priced=False, listed=False)
    assert half == Cost(5_000, 5_000, priced=False, listed=False)
    assert free == Cost(0, 0, priced=True, listed=True)
    assert price_list().cost("unheard-of", Counted(usage())).priced


def test_a_stand_in_costs_nothing_and_shows_what_the_name_would_have_cost() -> None:
    """It is not what the name promises."""
    cost = price_list().cost("plus", Counted(usage(1_000)), deployment="small", served=Served.STAND_IN)

    assert cost == Cost(0, 800_000)


@pytest.mark.parametrize("served", [Served.EXACT, Served.CLOSEST, Served.UPSTREAM])
def test_what_honours_the_name_costs_its_list_price(served: Served) -> None:
    """Without a tariff of the operator's own."""
    assert price_list().cost("plus", Counted(usage(1_000)), served=served) == Cost(800_000, 800_000)


def test_the_operators_own_prices_come_first_whatever_is_answered() -> None:
    """They are what the tokens cost here, for a name that is stood in for, too; the list stands beside them."""
    own = [Tariff((PriceTier(3, 9),), "USD", ("special-*",)), Tariff((PriceTier(1, 5),), "EUR")]
    prices = price_list(gpu=own)

    cost = prices.cost("plus", Counted(usage(1_000)), deployment="gpu", served=Served.STAND_IN)
    special = prices.cost("special-one", Counted(usage(1_000)), deployment="gpu")
    elsewhere = prices.cost("plus", Counted(usage(1_000)), deployment="other")

    assert cost == Cost(1_000_000, 800_000, "EUR")
    assert special == Cost(3_000_000, 0, "USD", listed=False)
    assert elsewhere == Cost(800_000, 800_000)


def test_a_version_names_its_content() -> None:
    """An old row of the ledger keeps its price: the list is kept, and read again."""
    old = price_list(gpu=[Tariff((PriceTier(3, 9),), "USD")])
    new = price_list(gpu=[Tariff((PriceTier(4, 9),), "USD")])
    counted = Counted(usage(1_000))

    again = PriceList.read(old.text)

    assert old.version != new.version
    assert again.version == old.version
    assert again.cost("plus", counted, deployment="gpu") == old.cost("plus", counted, deployment="gpu")
    assert PriceList.read(again.text).text == old.text


def test_the_version_does_not_depend_on_the_order_of_the_rows() -> None:
    """The same prices have the same version on every machine."""
    one = PriceList({"a": PLUS, "b": PLUS[:1]})
    other = PriceList({"b": PLUS[:1], "a": PLUS, "without-prices": ()})

    assert one.version == other.version


def test_a_price_finer_than_a_bill_is_refused() -> None:
    """Rounding it in silence would charge something else than is written."""
    with pytest.raises(StartupError, match="1e-10"):
        PriceList({"plus": (PriceTier(1e-10),)})


def test_every_price_of_the_catalogue_can_be_charged() -> None:
    """Aliases cost what their model does."""
    catalogue = load()
    prices = PriceList.of(catalogue)

    for name, model in catalogue.by_name.items():
        cost = prices.cost(name, Counted(usage(MILLION)))
        tier = model.price(MILLION)
        assert cost.listed == (tier is not None)
        assert cost.nanos == (0 if tier is None else round(tier.input * NANOS))


# Worked out by hand from the list, in nanos: a price of 0.8 yuan for a million tokens is 800 nanos a token.
BILLS: list[tuple[str, Counted, int]] = [
    # 6,000 fresh at 0.8, 4,000 cached at 0.16, 500 of the answer at 2
    ("qwen-plus", Counted(Usage(10_000, 500, cached=4_000)), 4_800_000 + 640_000 + 1_000_000),
    # the second tier, 2.4; the answer was thought about: all of it at 24
    ("qwen-plus", Counted(Usage(200_000, 500, reasoning=300)), 480_000_000 + 12_000_000),
    # 32,768 is the last length of the first tier (2.5 and 10), the next one is charged at 4 and 16
    ("qwen3-max", Counted(Usage(32_768, 1_000)), 81_920_000 + 10_000_000),
    ("qwen3-max", Counted(Usage(32_769, 1_000)), 131_076_000 + 16_000_000),
    # an explicit cache: 500 fresh at 0.15, 1,000 written at 0.188, 1,500 read at 0.015; 100 at 1.5
    (
        "qwen-flash",
        Counted(Usage(3_000, 100, cached=1_500), 1_000, explicit=True),
        75_000 + 188_000 + 22_500 + 150_000,
    ),
    # 187.5 nanos a token, rounded once
    ("qwen3-vl-flash", Counted(Usage(3), 3), 563),
    # batch files at their listed price, 1.2 and 4.8; of a thinking answer at half of 2 and of 20
    ("qwen-max", Counted(Usage(1_000, 200), batch=True), 1_200_000 + 960_000),
    ("qwen3-32b", Counted(Usage(1_000, 200, reasoning=150), batch=True), 1_000_000 + 2_000_000),
    # by day 2, cached 0.2 and 8, at night half of it
    ("deepseek-v4.1-flash", Counted(Usage(1_000, 50, cached=400)), 1_200_000 + 80_000 + 400_000),
    ("deepseek-v4.1-flash", Counted(Usage(1_000, 50, cached=400), hours="off-peak"), 600_000 + 40_000 + 200_000),
    # 20 and 100
    ("kimi-k3", Counted(Usage(100, 10)), 2_000_000 + 1_000_000),
    # vectors: 0.5, nothing comes out that could cost anything; 0.25 in a batch file
    ("text-embedding-v4", Counted(Usage(1_234)), 617_000),
    ("text-embedding-v4", Counted(Usage(1_234), batch=True), 308_500),
    # a model that always thinks has one price of answers, 4; 1.6 for the prompt
    ("qwq-plus", Counted(Usage(700, 90, reasoning=80)), 1_120_000 + 360_000),
    # 0.3 and 0.6, thought about 3
    ("qwen-turbo", Counted(Usage(100, 10)), 30_000 + 6_000),
    ("qwen-turbo", Counted(Usage(100, 10, reasoning=1)), 30_000 + 30_000),
    # longer than the last tier: charged at it, 20 and 200
    ("qwen3-coder-plus", Counted(Usage(1_000_001, 1)), 20_000_020_000 + 200_000),
]


@pytest.mark.parametrize(("name", "counted", "nanos"), BILLS, ids=lambda value: value if isinstance(value, str) else "")
def test_the_catalogues_bills_are_those_worked_out_by_hand(name: str, counted: Counted, nanos: int) -> None:
    """Tiers, thinking, caches, batch files, hours: what a reader of the vendor's page would come to."""
    assert PriceList.of(load()).cost(name, counted).nanos == nanos


@given(counts, counts, counts, counts, counts)
def test_a_usage_is_made_to_add_up_and_says_when_it_did_not(
    prompt: int, completion: int, cached: int, reasoning: int, created: int
) -> None:
    """Engines have reported more cached tokens than the prompt has, some of them twice, and negative ones."""
    checked = checked_usage(Usage(prompt, completion, cached, reasoning, created))
    right = checked.usage

    assert min(right.prompt, right.completion, right.cached, right.reasoning, checked.cache_created) >= 0
    assert right.cached + checked.cache_created <= right.prompt
    assert right.reasoning <= right.completion
    adds_up = 0 <= cached <= prompt and 0 <= reasoning <= completion and 0 <= created <= prompt - max(cached, 0)
    assert checked.corrected != adds_up
    again = checked_usage(replace(right, cache_created=checked.cache_created))
    assert again == replace(checked, corrected=False)


@given(counts, counts, counts, counts, counts, st.booleans(), st.booleans())
def test_no_bill_is_negative_and_more_output_never_costs_less(
    prompt: int, completion: int, cached: int, reasoning: int, created: int, explicit: bool, batch: bool
) -> None:
    """Whatever an engine counts."""
    checked = checked_usage(Usage(prompt, completion, cached, reasoning, created))
    more = Usage(checked.usage.prompt, checked.usage.completion + 1, checked.usage.cached, checked.usage.reasoning)

    cost = list_nanos(Counted(checked.usage, checked.cache_created, explicit, batch=batch))

    assert 0 <= cost <= list_nanos(Counted(more, checked.cache_created, explicit, batch=batch))
