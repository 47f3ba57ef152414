"""The times that budgets hold for: days and months in UTC, and for good. Pure."""

import math
from datetime import UTC, datetime, timedelta

import msgspec

from hanlin.store.rows import Budget, Period


class Span(msgspec.Struct, frozen=True):
    """The period that a budget is in. `label` tells its counter from those of other periods and currencies.

    It began at `since` (None: with the first call ever) and is over at `ends_at`, UNIX time.
    """

    label: str = ""
    since: datetime | None = None
    ends_at: float = math.inf

    @property
    def until(self) -> datetime | None:
        """When the budget begins anew; None when it never does."""
        return None if math.isinf(self.ends_at) else datetime.fromtimestamp(self.ends_at, UTC)


NO_SPAN = Span()
"""That of somebody without a budget."""


def span(budget: Budget, at: float) -> Span:
    """Return the period that holds at a UNIX time."""
    label, since, until = _bounds(budget.period, datetime.fromtimestamp(at, UTC))
    return Span(f"{budget.currency} {label}", since, math.inf if until is None else until.timestamp())


def _bounds(period: Period, at: datetime) -> tuple[str, datetime | None, datetime | None]:
    day = at.replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "day":
        return f"{day:%Y-%m-%d}", day, day + timedelta(days=1)
    if period == "month":
        month = day.replace(day=1)
        return f"{month:%Y-%m}", month, (month + timedelta(days=31)).replace(day=1)
    return period, None, None
