"""Amounts of money as people write and read them; inside they are nanos, whole numbers. Pure."""

import re
from decimal import Decimal

from hanlin.service.administration.values import MOST, BudgetTerms
from hanlin.service.administration.views import exact
from hanlin.store.rows import NANOS
from hanlin.words import say

_AMOUNT = re.compile(
    r"(?:(?P<before>[A-Za-z]{3}|[¥￥])\s*)?(?P<units>[0-9]+(?:\.[0-9]+)?)\s*(?P<after>[A-Za-z]{3}|元)?"
)
_SIGNS = {"¥": "CNY", "￥": "CNY", "元": "CNY"}
_SHOWN = {"CNY": "¥"}

_DECIMALS = 4


def amount(text: str) -> tuple[int, str]:
    """Read `10`, `2.50 CNY`, `USD 3` or `¥10`: the nanos, and the currency, "" where none is named.

    Raises ValueError, whose message says what to write.
    """
    found = _AMOUNT.fullmatch(text.strip())
    if found is None or (found["before"] and found["after"]):
        raise ValueError(
            say("write an amount such as 10, 2.50 CNY or USD 3", "请写成 10、2.50 CNY 或 USD 3 这样的金额")
        )
    nanos = Decimal(found["units"]).scaleb(9)
    if nanos != nanos.to_integral_value():
        raise ValueError(say("nine decimal places are the most", "最多九位小数"))
    if nanos > MOST:
        most = MOST // NANOS
        raise ValueError(say(f"{most:,} is the most that can be counted", f"最多可计 {most:,}"))
    currency = found["before"] or found["after"] or ""
    return int(nanos), _SIGNS.get(currency, currency.upper())


def rounded(nanos: int, decimals: int = _DECIMALS) -> str:
    """Write nanos as units for a column of a table. What is too small to be seen there does not look like nothing."""
    step = 10 ** (9 - decimals)
    if nanos == 0:
        return "0"
    if 0 < nanos < step:
        return f"<{Decimal(1).scaleb(-decimals)}"
    return f"{Decimal((nanos + step // 2) // step).scaleb(-decimals):,.{decimals}f}"


def sign(currency: str) -> str:
    """Return what stands before an amount or in the head of a column."""
    return _SHOWN.get(currency, currency)


def priced(nanos: int, currency: str) -> str:
    """Write an exact amount with its currency: `¥2.50`, `USD 3`."""
    mark = sign(currency)
    return f"{mark}{' ' if len(mark) > 1 else ''}{exact(nanos)}"


def of_budget(budget: BudgetTerms) -> str:
    """Write a budget as briefly as it can be: `¥10/month`."""
    period = {
        "day": say("/day", "/天"),
        "month": say("/month", "/月"),
        "total": say(" in all", " 总计"),
    }[budget.period]
    return priced(budget.nanos, budget.currency) + period
