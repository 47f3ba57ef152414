"""How a workbook shows its numbers: which are dates, times or shares, and what people then read."""

import math
import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from hanlin.documents.parsers import xml

_S = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_MOST_FORMS = 100_000


@dataclass(frozen=True)
class Form:
    """A number's form. `date` and `time` are what it shows of a moment; `percent` are the digits of a share.

    `digits` are those that a whole number has at least: codes keep their zeros.
    """

    date: bool = False
    time: bool = False
    percent: int | None = None
    since_1904: bool = False
    digits: int = 0


GENERAL = Form()

# Numbers of forms that no file writes out (ECMA-376, 18.8.30), with those that Chinese versions add.
_DATES = frozenset({14, 15, 16, 17, 22, *range(27, 32), 36, *range(50, 55), 57, 58})
_TIMES = frozenset({18, 19, 20, 21, 22, 32, 33, 34, 35, 45, 46, 47, 55, 56})
_ASIDE = re.compile(r'"[^"]*"|\\.|\[(?!h+\]|m+\]|s+\])[^\]]*\]|_.|\*.')


def forms(styles: xml.Element | None, *, since_1904: bool) -> list[Form]:
    """Return the forms of a workbook's cells, in the order in which cells name them."""
    if styles is None:
        return []
    own = {
        str(element.get("numFmtId")): str(element.get("formatCode", ""))
        for element in styles.iterfind(f"{_S}numFmts/{_S}numFmt")
    }
    found = []
    for element in styles.iterfind(f"{_S}cellXfs/{_S}xf"):
        number = str(element.get("numFmtId", "0"))
        found.append(_written(own[number], since_1904) if number in own else _built_in(number, since_1904))
    return found[:_MOST_FORMS]


def _built_in(number: str, since_1904: bool) -> Form:
    known = int(number) if number.isascii() and number.isdigit() and len(number) < 4 else 0
    if known in (9, 10):
        return Form(percent=0 if known == 9 else 2)
    return Form(known in _DATES, known in _TIMES, None, since_1904)


def _written(code: str, since_1904: bool) -> Form:
    """Read a form that is written out, such as `yyyy"年"m"月"d"日"` or `0.0%`."""
    plain = _ASIDE.sub("", code.partition(";")[0]).lower()
    if "%" in plain:
        digits = re.search(r"\.([0#?]+)", plain)
        return Form(percent=len(digits[1]) if digits else 0)
    if re.fullmatch("0{2,20}", plain):
        return Form(digits=len(plain))
    if "general" in plain or re.search(r"[0#?]", plain.replace("ss.0", "").replace("ss.00", "")):
        return GENERAL
    time = "h" in plain or "s" in plain
    date = "y" in plain or "d" in plain or ("m" in plain and not time)
    return Form(date, time, None, since_1904)


def shown(value: str, form: Form) -> str:
    """Return a cell's number as people see it, or as it is written where it is none."""
    try:
        number = float(value)
    except ValueError:
        return value
    if not math.isfinite(number):
        return value
    if form.percent is not None:
        return f"{number * 100:.{min(form.percent, 10)}f}%"
    if form.date or form.time:
        return _moment(number, form) or _number(value, number)
    plain = _number(value, number)
    return plain.zfill(form.digits) if number >= 0 and plain.isdigit() else plain


def _number(value: str, number: float) -> str:
    if number.is_integer() and abs(number) < 1e15:
        return str(int(number))
    return value if len(value) < 12 and "e" not in value.lower() else f"{number:.15g}"


def _moment(number: float, form: Form) -> str | None:
    """Return a day count as a date, a time or both; None for one that no calendar has."""
    if not 0 <= number < 2_958_466:  # the year 10000
        return None
    if form.time and not form.date and number >= 1:  # a duration
        minutes = round(number * 1440)
        return f"{minutes // 60}:{minutes % 60:02d}"
    start = datetime(1904, 1, 1) if form.since_1904 else datetime(1899, 12, 30)
    try:
        moment = start + timedelta(seconds=round(number * 86_400))
    except OverflowError:
        return None
    clock = f"{moment:%H:%M:%S}" if moment.second else f"{moment:%H:%M}"
    if not form.date:
        return clock
    return f"{moment:%Y-%m-%d} {clock}" if form.time else f"{moment:%Y-%m-%d}"


__all__ = ["GENERAL", "Form", "forms", "shown"]
