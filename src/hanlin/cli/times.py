"""Moments and lengths of time as people write them. Pure: now is an argument.

What names no zone is UTC, as the days of budgets and bills are; a date is its first moment.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Literal

from hanlin.words import say

_LENGTH = re.compile(r"([0-9]{1,6})\s*([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def length(text: str) -> timedelta:
    """Read `90s`, `30m`, `12h`, `30d`, `2w`. Raises ValueError, whose message says what to write."""
    found = _LENGTH.fullmatch(text.strip().lower())
    if found is None:
        raise ValueError(say("write a length such as 30m, 12h or 7d", "请写成 30m、12h、7d 这样的时长"))
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def moment(text: str, now: datetime, direction: Literal["ago", "from now"]) -> datetime:
    """Read a date, an ISO time, or a length that is counted from now. Raises ValueError as `length` does."""
    try:
        if _LENGTH.fullmatch(text.strip().lower()):
            return now + length(text) if direction == "from now" else now - length(text)
        read = datetime.fromisoformat(text.strip())
        return (read if read.tzinfo else read.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(
            say(
                "write a date (2026-12-31), a time (2026-12-31T18:00+08:00) or a length (30d, 12h)",
                "请写日期（2026-12-31）、时间（2026-12-31T18:00+08:00）或时长（30d、12h）",
            )
        ) from error


def shown(at: datetime) -> str:
    """Write a moment as briefly as it can be, in UTC: `2026-12-31`, `2026-12-31 18:00`."""
    at = at.astimezone(UTC)
    return f"{at:%Y-%m-%d}" if (at.hour, at.minute, at.second) == (0, 0, 0) else f"{at:%Y-%m-%d %H:%M}"


def day(at: datetime) -> str:
    """Write a moment's day in UTC."""
    return f"{at.astimezone(UTC):%Y-%m-%d}"


def left(time: timedelta) -> str:
    """Write about how long something lasts yet, in hours or minutes: `5 h`, `40 min`."""
    minutes = max(round(time.total_seconds() / 60), 1)
    if minutes < 60:
        return say(f"{minutes} min", f"{minutes} 分钟")
    return say(f"{round(minutes / 60)} h", f"{round(minutes / 60)} 小时")
