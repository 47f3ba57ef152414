"""What a call costs: to the nano, from what it counted and a list of prices that has a version.

Pure. A list is worked out from the catalogue's rows and the operator's own tariffs; which list a ledger row was charged
by stands in the row, and an old list can be kept and read again (`text`, `read`), so that no bill changes later.
"""

import hashlib
from collections.abc import Mapping, Sequence
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from hanlin.catalogue.models import Catalogue, PriceTier
from hanlin.errors import StartupError
from hanlin.types import Served, Usage
from hanlin.words import say

LIST_CURRENCY = "CNY"
"""The catalogue's prices are those of the vendor's Beijing site."""

Hours = Literal["peak", "off-peak"]

_FINE = 1_000_000
"""Prices are multiplied in millionths of a nano and rounded once, at the end: a price may have nine decimal places."""

_BATCH_DIVISOR = 2  # spec/surfaces.md §2.7: half the price, of whatever the price is
_VERSION_DIGITS = 12


class Checked(msgspec.Struct, frozen=True, gc=False):
    """A usage that adds up: its four counts, and beside them what was written to a cache.

    `corrected`: it did not add up as it came.
    """

    usage: Usage
    cache_created: int = 0
    corrected: bool = False


def checked_usage(usage: Usage) -> Checked:
    """Return a usage whose parts are parts: nothing negative, cached and cache-created within the prompt, reasoning
    within the completion.

    The sums are believed before their parts, because the sums are what every engine counts: engines have reported more
    cached tokens than the prompt has, and the same ones twice.
    """
    prompt, completion = usage.prompt, usage.completion
    if (
        0 <= usage.cached <= prompt - usage.cache_created
        and usage.cache_created >= 0
        and 0 <= usage.reasoning <= completion
    ):
        return Checked(Usage(prompt, completion, usage.cached, usage.reasoning), usage.cache_created)
    prompt, completion = max(prompt, 0), max(completion, 0)
    cached = min(max(usage.cached, 0), prompt)
    created = min(max(usage.cache_created, 0), prompt - cached)
    reasoning = min(max(usage.reasoning, 0), completion)
    told = (usage.prompt, usage.completion, usage.cached, usage.reasoning, usage.cache_created)
    corrected = told != (prompt, completion, cached, reasoning, created)
    return Checked(Usage(prompt, completion, cached, reasoning), created, corrected)


class Counted(msgspec.Struct, frozen=True, gc=False):
    """What a call is charged for.

    `cache_created` tokens of the prompt were written to an explicit cache; `explicit`: the cached ones were read from
    one. `thought` None: as its usage says; a call that was to think and did not is charged as one that does not.
    `batch`: it came in a batch file. `hours` matters to models that cost less at night.
    """

    usage: Usage
    cache_created: int = 0
    explicit: bool = False
    thought: bool | None = None
    batch: bool = False
    hours: Hours = "peak"


class Cost(msgspec.Struct, frozen=True, gc=False):
    """What a call costs (`nanos` of `currency`), and what the vendor's list would charge for its name (`list_nanos`,
    always CNY).

    What has no price counts 0, and says so: `priced` and `listed` are False when something of the call is missing from
    `nanos` or `list_nanos` for that reason. A cost of 0 that is `priced` is a price.
    """

    nanos: int = 0
    list_nanos: int = 0
    currency: str = LIST_CURRENCY
    priced: bool = True
    listed: bool = True


class Tariff(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The operator's own prices of a deployment, as a catalogue row has them, for the names that match a pattern.

    They hold whatever the deployment answers for, a name it stands in for as well: it is what the tokens cost here.
    """

    tiers: Annotated[tuple[PriceTier, ...], Meta(min_length=1)]
    currency: Annotated[str, Meta(pattern=r"^[A-Z]{3}$")] = LIST_CURRENCY
    names: tuple[str, ...] = ("*",)


class PriceList:
    """Every price that holds at a time: `listed` by name and alias, the operator's `own` by deployment.

    `text` is all of it in JSON, `version` is made of the text: the same prices have the same version everywhere and
    always. `own` are the operator's, by deployment. Raises StartupError when a price has more than nine decimal places.
    """

    def __init__(
        self, listed: Mapping[str, tuple[PriceTier, ...]], own: Mapping[str, Sequence[Tariff]] | None = None
    ) -> None:
        tariffs = {deployment: tuple(several) for deployment, several in (own or {}).items()}
        given = _Content({name: tiers for name, tiers in listed.items() if tiers}, tariffs)
        # Read once what was given: a price that was written as 3 and one as 3.0 are the same.
        content = msgspec.json.decode(msgspec.json.encode(given), type=_Content)
        text = msgspec.json.encode(content, order="sorted")
        self.text = text.decode()
        self.version = hashlib.sha256(text).hexdigest()[:_VERSION_DIGITS]
        self.own: Mapping[str, tuple[Tariff, ...]] = content.own
        self._listed = {name: _rates(tiers) for name, tiers in content.listed.items()}
        self._own = {
            deployment: tuple((tariff, _rates(tariff.tiers)) for tariff in several)
            for deployment, several in content.own.items()
        }

    @classmethod
    def of(cls, catalogue: Catalogue, own: Mapping[str, Sequence[Tariff]] | None = None) -> "PriceList":
        """Return the list of this catalogue and the operator's tariffs."""
        return cls({name: model.prices for name, model in catalogue.by_name.items()}, own)

    @classmethod
    def read(cls, text: str) -> "PriceList":
        """Return the list that had this `text`. Raises msgspec.DecodeError for anything else."""
        kept = msgspec.json.decode(text, type=_Content)
        return cls(kept.listed, kept.own)

    def cost(self, name: str, counted: Counted, *, deployment: str = "", served: Served = Served.UPSTREAM) -> Cost:
        """Return what a call of this name costs when this deployment answers it.

        The operator's tariff comes first; without one a stand-in costs nothing, because it is not what the name
        promises, and anything else costs what the list says.
        """
        return self.charges(name, deployment=deployment, served=served).cost(counted)

    def charges(self, name: str, *, deployment: str = "", served: Served = Served.UPSTREAM) -> "Charges":
        """Return what calls of this name are charged when this deployment answers them, as `cost` has it."""
        listed = self._listed.get(name, ())
        for tariff, rates in self._own.get(deployment, ()):
            if any(fnmatchcase(name, pattern) for pattern in tariff.names):
                return Charges(listed, rates, tariff.currency)
        return Charges(listed, free=served is Served.STAND_IN)


class Charges(msgspec.Struct, frozen=True):
    """What calls of one name are charged that one deployment answers: by the list, or by the operator's `own` tariff;
    nothing where they are `free`."""

    _listed: "tuple[_Rates, ...]"
    _own: "tuple[_Rates, ...] | None" = None
    _currency: str = LIST_CURRENCY
    free: bool = False

    def cost(self, counted: Counted) -> Cost:
        """Return what a call costs."""
        list_nanos, listed = _charge(self._listed, counted)
        if self._own is not None:
            nanos, priced = _charge(self._own, counted)
            return Cost(nanos, list_nanos, self._currency, priced, listed)
        if self.free:
            return Cost(0, list_nanos, listed=listed)
        return Cost(list_nanos, list_nanos, LIST_CURRENCY, listed, listed)


class _Content(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    listed: dict[str, tuple[PriceTier, ...]]
    own: dict[str, tuple[Tariff, ...]]


class _Rates(msgspec.Struct, frozen=True):
    """A tier as whole numbers: what a token costs, in `_FINE` parts of a nano; None where there is no price."""

    up_to_tokens: int | None
    hours: Hours | None
    prompt: int
    cached: int
    explicit: int
    created: int
    output: int | None
    output_thinking: int | None
    batch_prompt: int
    batch_output: int | None
    batch_output_thinking: int | None


def _rates(tiers: Sequence[PriceTier]) -> tuple[_Rates, ...]:
    return tuple(_rates_of(tier) for tier in tiers)


def _rates_of(tier: PriceTier) -> _Rates:
    """Fill a tier's gaps: a discount that is not listed is not given, and every batch token costs half."""
    prompt = _fine(tier.input)
    cached = prompt if tier.cached_input is None else _fine(tier.cached_input)
    output = None if tier.output is None else _fine(tier.output)
    thinking = output if tier.output_thinking is None else _fine(tier.output_thinking)
    batch_output = _half(output) if tier.batch_output is None else _fine(tier.batch_output)
    return _Rates(
        up_to_tokens=tier.up_to_tokens,
        hours=tier.period,
        prompt=prompt,
        cached=cached,
        explicit=cached if tier.cache_hit is None else _fine(tier.cache_hit),
        created=prompt if tier.cache_create is None else _fine(tier.cache_create),
        output=output,
        output_thinking=thinking,
        batch_prompt=-(-prompt // _BATCH_DIVISOR) if tier.batch_input is None else _fine(tier.batch_input),
        batch_output=batch_output,
        # The list has no batch price of thinking: it is half of its price, as the others are of theirs.
        batch_output_thinking=batch_output if tier.output_thinking is None else _half(thinking),
    )


def _half(fine: int | None) -> int | None:
    return None if fine is None else -(-fine // _BATCH_DIVISOR)


def _fine(price: float) -> int:
    """Turn a price of a million tokens into that of one, exactly as it was written."""
    a_token = Decimal(repr(price)) * 1000 * _FINE
    if a_token != a_token.to_integral_value():
        raise StartupError(
            say(f"the price {price!r} has more than nine decimal places", f"价格 {price!r} 的小数位超过九位")
        )
    return int(a_token)


def _charge(tiers: Sequence[_Rates], counted: Counted) -> tuple[int, bool]:
    """Return the nanos of a call, and whether all of it has a price."""
    usage, hours = counted.usage, counted.hours
    tier = None
    for one in tiers:  # that of the whole request: the first it fits, or the last one where it fits none
        if one.hours is None or one.hours == hours:
            tier = one
            if one.up_to_tokens is None or usage.prompt <= one.up_to_tokens:
                break
    if tier is None:
        return 0, not usage.total
    thought = usage.reasoning > 0 if counted.thought is None else counted.thought
    if counted.batch:  # no discount of the cache in batch files: spec/chat.md §10
        fine = usage.prompt * tier.batch_prompt
        output = tier.batch_output_thinking if thought else tier.batch_output
    else:
        fresh = usage.prompt - usage.cached - counted.cache_created
        fine = fresh * tier.prompt + usage.cached * (tier.explicit if counted.explicit else tier.cached)
        fine += counted.cache_created * tier.created
        output = tier.output_thinking if thought else tier.output
    fine += usage.completion * (output or 0)
    return (fine + _FINE // 2) // _FINE, output is not None or not usage.completion
