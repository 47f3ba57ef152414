"""What must survive a translation: links, addresses, markup, code, placeholders, numbers with their units.

A text is sent as it is first, for models keep most of this by themselves; what they lose is found by comparing, and
asked for again behind marks (`masked`, `restored`), which is never wrong but costs the model its sight of them.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence

import msgspec

# Nothing here scans on without a bound: a text may be made of openings that are never closed.
KEPT = re.compile(
    r"""
    ```.{0,4000}?```|`[^`\n]{1,400}`                                             # code
  | <!--.{0,2000}?-->|</?[A-Za-z][A-Za-z0-9:-]*(?:\s[^<>\n]{0,2000})?/?>           # markup
  | &(?:[a-zA-Z]{2,8}|\#\d{1,6}|\#x[0-9a-fA-F]{1,6});
  | (?:https?|ftp)://[^\s<>"'，。；！？、（）《》「」]*[^\s<>"'，。；！？、（）《》「」.,;:!?)\]}]   # links
  | (?<![A-Za-z0-9])www\.[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+
    (?:/[^\s<>"'，。；！？、（）]*[^\s<>"'，。；！？、（）.,;:!?)])?
  | (?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+              # addresses of mail
  | \$\{[^{}\n]{1,80}\}|\{\{[^{}\n]{1,80}\}\}|\{[A-Za-z0-9_.:!,\ \[\]-]{0,60}\}   # {placeholders}
  | %\([A-Za-z_]\w*\)[a-zA-Z]|%\d+\$[a-zA-Z@]|%(?:\.\d+)?(?:[sdfiux@]|l[du])(?![A-Za-z])   # %s
  | \$[A-Z_]{2,}\b|\\[nrt]                                           # $HOME, \n written out
  | (?<=\s)\|(?=\s|$)                                                # bars of tables
    """,
    re.VERBOSE | re.DOTALL,
)

_NUMBER = re.compile(r"(?<![A-Za-z_])\d+(?:[.,]\d+)*")
_SCALES = (
    (re.compile(r"\s?(?:百万|million\b|mio\b)", re.I), 1_000_000),
    (re.compile(r"\s?(?:千万)"), 10_000_000),
    (re.compile(r"\s?(?:万|萬)"), 10_000),
    (re.compile(r"\s?(?:亿|億)"), 100_000_000),
    (re.compile(r"\s?(?:billion\b|十亿)", re.I), 1_000_000_000),
    (re.compile(r"\s?thousand\b", re.I), 1000),
)
_WORDS = (
    ("zero", "零"), ("one", "一"), ("two", "二|两|兩"), ("three", "三"), ("four", "四"), ("five", "五"), ("six", "六"),
    ("seven", "七"), ("eight", "八"), ("nine", "九"), ("ten", "十"), ("eleven", "十一"), ("twelve", "十二"),
)  # fmt: skip
_ORDINALS = (
    *("zeroth", "first", "second", "third", "fourth", "fifth", "sixth"),
    *("seventh", "eighth", "ninth", "tenth", "eleventh", "twelfth"),
)
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)

# Symbols of units, and how people write them out.
_UNITS = {
    "kg": "kilograms?|kilos?|公斤|千克",
    "g": "grams?|克",
    "mg": "milligrams?|毫克",
    "km": "kilomet(?:er|re)s?|公里|千米",
    "m": "met(?:er|re)s?|米",
    "cm": "centimet(?:er|re)s?|厘米",
    "mm": "millimet(?:er|re)s?|毫米",
    "ml": "millilit(?:er|re)s?|毫升",
    "mL": "millilit(?:er|re)s?|毫升",
    "L": "lit(?:er|re)s?|升",
    "°C": "℃|degrees? celsius|摄氏度|度",
    "℃": "°C|degrees? celsius|摄氏度|度",
    "%": "percent|per cent|％",
    "kW": "kilowatts?|千瓦",
    "W": "watts?|瓦",
    "V": "volts?|伏特?",
    "Hz": "hertz|赫兹?",
    "MHz": "megahertz|兆赫",
    "GHz": "gigahertz|吉赫",
    "MB": "megabytes?|兆字节",
    "GB": "gigabytes?|吉字节",
    "TB": "terabytes?|太字节",
    "km/h": "kilomet(?:er|re)s? per hour|公里每小时|公里/小时|千米/小时",
}
_MEASURE = re.compile(
    r"(?<![A-Za-z_\d])(?<!\d[.,])(\d++(?:[.,]\d++)*+)(\s?)("
    + "|".join(re.escape(unit) for unit in sorted(_UNITS, key=len, reverse=True))
    + r")(?![A-Za-z])"
)


def kept(text: str) -> list[str]:
    """Return what must be found in a translation to the letter, in the text's order."""
    return [match[0] for match in KEPT.finditer(text)]


def without_kept(text: str) -> str:
    """Return a text with a space in place of all that is kept."""
    return KEPT.sub(" ", text)


def blanked(text: str) -> str:
    """Return a text with blanks in place of all that is kept; everything else stands where it stood."""
    return KEPT.sub(lambda found: " " * len(found[0]), text)


def lost(source: str, output: str) -> tuple[list[str], list[str]]:
    """Return what of the kept parts a translation misses, and what of the kind it has too many."""
    want, have = Counter(kept(source)), Counter(kept(output))
    return sorted((want - have).elements()), sorted((have - want).elements())


class Masked(msgspec.Struct, frozen=True):
    """A text whose kept parts are marks: `#1#` stands for the first of `parts`."""

    text: str
    parts: tuple[str, ...]


_MARKS = ("#{}#", "X{}X", "[{}]", "@{}@", "⟦{}⟧")


def masked(text: str) -> Masked | None:
    """Put marks in place of what is kept; None where there is nothing to mark, or every kind of mark is taken."""
    parts = tuple(kept(text))
    form = next((form for form in _MARKS if not re.search(_pattern(form), text)), None)
    if not parts or form is None:
        return None
    numbers = iter(range(1, len(parts) + 1))
    return Masked(KEPT.sub(lambda _found: form.format(next(numbers)), text), (form, *parts))


def restored(output: str, mask: Masked) -> str | None:
    """Put the parts back; None unless every mark is there exactly once."""
    form, *parts = mask.parts
    pattern = re.compile(_pattern(form))
    seen = [int(number) for number in pattern.findall(output)]
    if sorted(seen) != list(range(1, len(parts) + 1)):
        return None
    return pattern.sub(lambda mark: parts[int(mark[1]) - 1], output)


def _pattern(form: str) -> str:
    opening, closing = form.split("{}")
    return rf"{re.escape(opening)}\s?(\d{{1,9}})\s?{re.escape(closing)}"


def parted(text: str) -> list[tuple[str, bool]]:
    """Cut a text at what is kept: its parts in order, each with whether it is such; joined they are the text."""
    found: list[tuple[str, bool]] = []
    at = 0
    for match in KEPT.finditer(text):
        found += [(text[at : match.start()], False), (match[0], True)]
        at = match.end()
    found.append((text[at:], False))
    return [(part, keeps) for part, keeps in found if part]


def numbers(text: str) -> Counter[str]:
    """Return the values of a text's numbers; what is kept to the letter does not count.

    Signs that group digits do not count, 3万 and 30,000 are the same, and so are full-width digits.
    """
    plain = unicodedata.normalize("NFKC", without_kept(text))
    return Counter(_value(match, plain) for match in _NUMBER.finditer(plain))


def _value(match: re.Match[str], text: str) -> str:
    value = _digits(match[0])
    for pattern, scale in _SCALES:
        if pattern.match(text, match.end()):
            scaled = value * scale
            break
    else:
        scaled = value
    return f"{scaled:.10g}"


def _digits(number: str) -> float:
    """Read a number in anybody's way of writing: what groups three digits is no decimal point."""
    if re.fullmatch(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?", number):
        return float(number.replace(",", ""))
    if re.fullmatch(r"\d{1,3}(?:\.\d{3}){2,}(?:,\d+)?", number):
        return float(number.replace(".", "").replace(",", "."))
    parts = re.split(r"[.,]", number)
    if len(parts) == 2:
        return float(".".join(parts))
    return float("".join(parts)[:300])


def numbers_lost(source: str, output: str) -> tuple[list[str], list[str]]:
    """Return the values that a translation misses, and those that it has too many.

    Small numbers may be words and months names, on either side.
    """
    want, have = numbers(source), numbers(output)
    missing = [value for value in (want - have).elements() if not _said(value, output)]
    extra = [value for value in (have - want).elements() if not _said(value, source)]
    return sorted(missing), sorted(extra)


def is_small(value: str) -> bool:
    """Whether a number may be a word."""
    return value.isdigit() and int(value) <= len(_MONTHS)


def _said(value: str, text: str) -> bool:
    """Whether a text has a small number as a word of English or Chinese, or as a month."""
    if not is_small(value):
        return False
    number = int(value)
    words = [] if number == 0 else [rf"\b{_MONTHS[number - 1]}\b", rf"\b{_MONTHS[number - 1][:3]}\b"]
    return (bool(words) and re.search("|".join(words), text) is not None) or _word(number).search(text) is not None


def _word(number: int) -> re.Pattern[str]:
    english, chinese = _WORDS[number]
    return re.compile(rf"\b(?:{english}|{_ORDINALS[number]})\b|{chinese}", re.IGNORECASE)


# What is counted with these behind a number; 一起 and 三角 count nothing.
_MEASURES = (
    "个個台臺本份位名只隻条條张張件次天年月日号號楼樓层層分秒块塊元杯辆輛座间間种種章页頁步段家所架艘枚颗顆双雙对對组組"
    "批套期届屆节節项項岁歲周倍米升克吨噸人"
)


def spelled_in_digits(source: str, output: str, *, english: bool = True) -> str:
    """Return a translation in which small numbers are digits again where the text has digits: 3 books, not three.

    `english` says that it is in English, where "one" stays, being more than a number; words of other languages are not
    known, but for Chinese ones in front of what is counted.
    """
    missing = list((numbers(source) - numbers(output)).elements())
    for value in missing:
        if not value.isdigit() or int(value) >= len(_WORDS) or _is_month(value, output):
            continue
        word, chinese = _WORDS[int(value)]
        counted = rf"(?<![一二三四五六七八九十百千万第])(?:{chinese})(?=[{_MEASURES}])"
        pattern = rf"\b{word}\b|{counted}" if english and value != "1" else counted
        output = re.sub(pattern, value, output, count=1, flags=re.IGNORECASE)
    return output


def _is_month(value: str, text: str) -> bool:
    return 1 <= int(value) <= 12 and re.search(rf"\b{_MONTHS[int(value) - 1][:3]}", text) is not None


def numbers_put_right(source: str, output: str) -> str:
    """Return a translation whose wrong numbers are the text's: as many are wrong as are missing, in their order."""
    missing, extra = numbers_lost(source, output)
    if not missing or len(missing) != len(extra):
        return output
    plain = unicodedata.normalize("NFKC", source)
    written = {_value(match, plain): match[0] for match in _NUMBER.finditer(plain)}
    wanted = [value for value in _in_order(source) if value in missing]
    wrong = Counter(extra)

    def exchanged(match: re.Match[str]) -> str:
        value = _value(match, match.string)
        if wrong[value] and wanted:
            wrong[value] -= 1
            return written[wanted.pop(0)]
        return match[0]

    right = "".join(part if keeps else _NUMBER.sub(exchanged, part) for part, keeps in parted(output))
    return right if numbers_lost(source, right) == ([], []) else output


def _in_order(text: str) -> list[str]:
    plain = unicodedata.normalize("NFKC", without_kept(text))
    return [_value(match, plain) for match in _NUMBER.finditer(plain)]


def measures(text: str) -> Iterator[tuple[str, str]]:
    """Yield the numbers of a text that have a unit's symbol behind them, each with the symbol."""
    for match in _MEASURE.finditer(without_kept(text)):
        yield match[1], match[3]


def units_lost(source: str, output: str) -> Sequence[str]:
    """Return the measures of a text whose unit a translation has neither as the symbol nor in words."""
    return [
        f"{number} {unit}"
        for number, unit in measures(source)
        if not re.search(rf"{re.escape(number)}\s?(?:{re.escape(unit)}|{_UNITS[unit]})", output, re.IGNORECASE)
    ]


def with_units(source: str, output: str) -> str:
    """Return a translation in which a unit that was left out stands behind its number again."""
    for lacking in units_lost(source, output):
        number, unit = lacking.split(" ", 1)
        bare = re.compile(rf"(?<![\d.,]){re.escape(number)}(?![\d.,]*\d)(?!\s?(?:{'|'.join(map(re.escape, _UNITS))}))")
        output = bare.sub(rf"\g<0> {unit}", output, count=1)
    return output


__all__ = [
    "Masked",
    "blanked",
    "is_small",
    "kept",
    "lost",
    "masked",
    "measures",
    "numbers",
    "numbers_lost",
    "numbers_put_right",
    "parted",
    "restored",
    "spelled_in_digits",
    "units_lost",
    "with_units",
    "without_kept",
]
