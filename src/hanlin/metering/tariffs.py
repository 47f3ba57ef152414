"""Read the operator's own prices, as the settings file states them. Pure; what does not fit is refused by its row.

[[price]]
deployment = "gpu"
prompt = 0.5
completion = 2.0
"""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from itertools import pairwise

from hanlin.catalogue.models import PriceTier
from hanlin.errors import StartupError
from hanlin.metering.prices import PriceList, Tariff
from hanlin.settings import PriceRow
from hanlin.words import say

_MOST = 1_000_000
"""The highest price of a million tokens: with it a bill of any call still fits into the database's numbers."""

_CURRENCY = re.compile(r"[A-Z]{3}")
_PRICES = ("prompt", "completion", "cached", "cache_creation", "thinking")

Tariffs = Mapping[str, Sequence[Tariff]]
"""The tariffs of each deployment, in their order: the first that matches a name counts."""


def tariffs_of(rows: Sequence[PriceRow], deployments: Collection[str]) -> Tariffs:
    """Return what the rows come to. `deployments` are the names that there are.

    Raises StartupError, which names the row, for a deployment that does not exist, a price or a currency that is none,
    and tiers that are not in their order or in two currencies.
    """
    found: dict[str, dict[tuple[str, ...], list[PriceRow]]] = {}
    for row in rows:
        _check(row, deployments)
        found.setdefault(row.deployment, {}).setdefault(row.names, []).append(row)
    return {deployment: tuple(_tariff(tiers) for tiers in by_names.values()) for deployment, by_names in found.items()}


def _check(row: PriceRow, deployments: Collection[str]) -> None:
    if row.deployment not in deployments:
        known = ", ".join(sorted(deployments))
        raise _wrong(
            row,
            f"there is no [[deployment]] {row.deployment!r}. Known: {known}",
            f"没有名为 {row.deployment!r} 的 [[deployment]]。已有：{known}",
        )
    if not row.names:
        raise _wrong(row, "names must not be empty; leave it out for all", "names 不能为空；省略即为全部名称")
    if not _CURRENCY.fullmatch(row.currency):
        raise _wrong(
            row,
            f"currency {row.currency!r} is not three capital letters, such as CNY or USD",
            f"currency {row.currency!r} 不是三个大写字母，例如 CNY 或 USD",
        )
    if row.up_to_tokens is not None and row.up_to_tokens < 1:
        raise _wrong(row, "up_to_tokens must be 1 or more", "up_to_tokens 必须不小于 1")
    for name in _PRICES:
        price = getattr(row, name)
        if price is not None and not (math.isfinite(price) and 0 <= price <= _MOST):
            raise _wrong(
                row,
                f"{name} = {price!r} is no price of a million tokens: write 0 to {_MOST:,}",
                f"{name} = {price!r} 不是有效的每百万 token 价格：请写 0 至 {_MOST:,}",
            )
    if row.thinking is not None and row.completion is None:
        raise _wrong(row, "thinking needs a price of completion beside it", "给出 thinking 时须同时给出 completion")
    try:
        PriceList({"": (_tier(row),)})
    except StartupError as error:
        raise _wrong(row, str(error), str(error)) from error


def _tariff(tiers: Sequence[PriceRow]) -> Tariff:
    for lower, higher in pairwise(tiers):
        if lower.up_to_tokens is None or (higher.up_to_tokens or math.inf) <= lower.up_to_tokens:
            raise _wrong(
                higher,
                "is a further tier of the same names: give the tiers before it a smaller up_to_tokens each",
                "是相同名称的又一档：请为其之前各档给出更小的 up_to_tokens",
            )
        if lower.currency != higher.currency:
            raise _wrong(
                higher,
                f"is in {higher.currency}, and a tier of the same names in {lower.currency}",
                f"以 {higher.currency} 计，而相同名称的另一档以 {lower.currency} 计",
            )
    return Tariff(tuple(map(_tier, tiers)), tiers[0].currency, tiers[0].names)


def _tier(row: PriceRow) -> PriceTier:
    return PriceTier(
        row.prompt,
        row.completion,
        row.up_to_tokens,
        output_thinking=row.thinking,
        cached_input=row.cached,
        cache_create=row.cache_creation,
    )


def _wrong(row: PriceRow, en: str, zh: str) -> StartupError:
    title = f"[[price]] {row.deployment!r}"
    if row.names != ("*",):
        title += f" {', '.join(row.names)}"
    return StartupError(say(f"{title}: {en}", f"{title}：{zh}"))


__all__ = ["Tariffs", "tariffs_of"]
