"""Which deployments of a group fail so much more often than the others that calls should pass them by.

A breaker sees failures in a row; this sees the deployment that fails two of three calls and succeeds in between.
"""

from collections.abc import Mapping

from hanlin.routing.health import Health, counts

LEAST_SAMPLES = 5
_FAILS_MORE_THAN = 0.5
_WORSE_BY = 0.3


def ejected(healths: Mapping[str, Health], now: float) -> set[str]:
    """Return the names of the outliers: the worst first, never more than half of the group, rounded down.

    An outlier fails more than half of its calls of late, and 0.3 more than the mean of the others that were called
    often enough to be compared. Where all fail alike, it is not the deployments that are at fault. What is counted
    fades, so that an ejected one is tried again within minutes though nobody calls it.
    """
    if len(healths) < 2:
        return set()
    rates: dict[str, float] = {}
    for name, health in healths.items():
        good, bad = counts(health, now)
        if good + bad >= LEAST_SAMPLES:
            rates[name] = bad / (good + bad)
    outliers = [name for name in rates if _stands_out(name, rates)]
    worst_first = sorted(outliers, key=lambda name: (-rates[name], name))
    return set(worst_first[: len(healths) // 2])


def _stands_out(name: str, rates: Mapping[str, float]) -> bool:
    others = len(rates) - 1
    if not others or rates[name] <= _FAILS_MORE_THAN:
        return False
    return rates[name] >= (sum(rates.values()) - rates[name]) / others + _WORSE_BY
