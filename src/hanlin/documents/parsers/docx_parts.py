"""What a Word document says about its paragraphs in other parts: styles, numbering, notes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from hanlin.documents.parsers import flow, xml
from hanlin.documents.parsers.archive import Archive

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_CHAIN = 12  # how far a style is followed to those that it is based on
_NOTE_CHARACTERS = 4_000
_HEADING = re.compile("(?:heading|标题) ?([1-9])")  # Word keeps the English name, other programs may not
_CHINESE = "〇一二三四五六七八九"
_CHINESE_FORMATS = {
    *("chineseCounting", "chineseCountingThousand", "chineseLegalSimplified", "ideographDigital"),
    *("japaneseCounting", "taiwaneseCounting", "taiwaneseCountingThousand", "ideographTraditional"),
}
_ROMAN = ((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl"), (10, "x"))
_ROMAN_UNITS = ("", "i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix")


@dataclass(frozen=True)
class Style:
    """`level` is that of a heading, 0 for ordinary text. `list_id` and `depth` are of the list that it belongs to."""

    level: int = 0
    list_id: str = ""
    depth: int | None = None
    based_on: str = ""


@dataclass(frozen=True)
class Level:
    """How a level of a list is numbered: `%2` in `text` is the number of the second level."""

    form: str = "decimal"
    text: str = ""
    start: int = 1
    style: str = ""


@dataclass
class Numbering:
    """The lists of a document, and where each of them has come to."""

    levels: Mapping[str, Mapping[int, Level]] = field(default_factory=dict)  # by list
    shared: Mapping[str, str] = field(default_factory=dict)  # which lists count on together
    counts: dict[str, dict[int, int]] = field(default_factory=dict)

    def next(self, list_id: str, depth: int) -> str | None:
        """Count the next item and return its label: "-" for a bullet, None where there is no such list."""
        levels = self.levels.get(list_id)
        if levels is None:
            return None
        level = levels.get(depth, Level())
        counts = self.counts.setdefault(self.shared.get(list_id, list_id), {})
        counts[depth] = counts.get(depth, level.start - 1) + 1
        for deeper in [key for key in counts if key > depth]:
            del counts[deeper]
        if level.form == "bullet":
            return "-"
        text = level.text or f"%{depth + 1}."
        for above in range(depth + 1):
            at = levels.get(above, Level())
            number = counts.get(above, at.start)
            form = at.form if above == depth or "%1." not in level.text else "decimal"
            text = text.replace(f"%{above + 1}", numbered(number, form))
        return text.strip()

    def depth_of(self, list_id: str, style_id: str) -> int | None:
        """Return the depth that a list gives to paragraphs of a style."""
        levels = self.levels.get(list_id, {})
        return next((depth for depth, level in levels.items() if level.style and level.style == style_id), None)


def numbered(number: int, form: str) -> str:
    """Write a number as a list does."""
    if form in ("lowerLetter", "upperLetter"):
        text = chr(97 + (number - 1) % 26) * ((number - 1) // 26 % 8 + 1)
        return text.upper() if form == "upperLetter" else text
    if form in ("lowerRoman", "upperRoman"):
        text = _roman(number)
        return text.upper() if form == "upperRoman" else text
    if form in _CHINESE_FORMATS:
        return _chinese(number)
    if form == "decimalEnclosedCircle" and 1 <= number <= 20:
        return chr(0x245F + number)
    if form == "decimalZero":
        return f"{number:02d}"
    return "" if form == "none" else str(number)


def _roman(number: int) -> str:
    if not 0 < number < 4000:
        return str(number)
    text = ""
    for value, letters in _ROMAN:
        text += letters * (number // value)
        number %= value
    return text + _ROMAN_UNITS[number]


def _chinese(number: int) -> str:
    """Return a number below a thousand in Chinese: 十二, 二十, 一百零五."""
    if not 0 < number < 1000:
        return str(number)
    hundreds, tens, units = number // 100, number // 10 % 10, number % 10
    text = f"{_CHINESE[hundreds]}百" if hundreds else ""
    if tens:
        text += "十" if tens == 1 and not hundreds else f"{_CHINESE[tens]}十"
    elif hundreds and units:
        text += "零"
    return text + (_CHINESE[units] if units else "")


def styles(archive: Archive, name: str) -> dict[str, Style]:
    """Return the styles of paragraphs, each with what it has from those that it is based on."""
    root = xml.parsed(archive.read(name)) if name else None
    own = {}
    for element in root.iterfind(f"{W}style") if root is not None else ():
        if element.get(f"{W}type") == "paragraph":
            own[str(element.get(f"{W}styleId"))] = _style(element)
    return {name: _with_bases(style, own) for name, style in own.items()}


def _style(element: xml.Element) -> Style:
    name = str(_value(element.find(f"{W}name")) or "").lower()
    outline = _number(_value(element.find(f"{W}pPr/{W}outlineLvl")))
    level = 0
    if name in ("title", "标题"):
        level = 1
    elif numbered := _HEADING.fullmatch(name):
        level = int(numbered[1])
    elif outline is not None and outline < 9:
        level = outline + 1
    return Style(
        level,
        _value(element.find(f"{W}pPr/{W}numPr/{W}numId")) or "",
        _number(_value(element.find(f"{W}pPr/{W}numPr/{W}ilvl"))),
        _value(element.find(f"{W}basedOn")) or "",
    )


def _with_bases(style: Style, own: Mapping[str, Style]) -> Style:
    level, list_id, depth, base = style.level, style.list_id, style.depth, style.based_on
    for _ in range(_CHAIN):
        if (below := own.get(base)) is None:
            break
        level = level or below.level
        list_id = list_id or below.list_id
        depth = below.depth if depth is None else depth
        base = below.based_on
    return Style(level, list_id, depth)


def numbering(archive: Archive, name: str) -> Numbering:
    """Return the lists of a document."""
    root = xml.parsed(archive.read(name)) if name else None
    if root is None:
        return Numbering()
    abstract = {
        str(element.get(f"{W}abstractNumId")): {
            _number(level.get(f"{W}ilvl")) or 0: _level(level) for level in element.iterfind(f"{W}lvl")
        }
        for element in root.iterfind(f"{W}abstractNum")
    }
    levels, shared = {}, {}
    for element in root.iterfind(f"{W}num"):
        list_id = str(element.get(f"{W}numId"))
        base = _value(element.find(f"{W}abstractNumId")) or ""
        levels[list_id] = abstract.get(base, {})
        starts_anew = element.find(f"{W}lvlOverride/{W}startOverride") is not None
        shared[list_id] = list_id if starts_anew else f"abstract {base}"
    return Numbering(levels, shared)


def _level(element: xml.Element) -> Level:
    return Level(
        _value(element.find(f"{W}numFmt")) or "decimal",
        _value(element.find(f"{W}lvlText")) or "",
        1 if (start := _number(_value(element.find(f"{W}start")))) is None else start,
        _value(element.find(f"{W}pStyle")) or "",
    )


def notes(archive: Archive, name: str) -> dict[str, str]:
    """Return the texts of footnotes or endnotes by their numbers."""
    root = xml.parsed(archive.read(name)) if name else None
    found = {}
    for element in root if root is not None else ():
        lines = ("".join(paragraph.itertext(f"{W}t")) for paragraph in element.iterfind(f"{W}p"))
        if (text := flow.joined(lines)) and element.get(f"{W}type") is None:
            found[str(element.get(f"{W}id"))] = text[:_NOTE_CHARACTERS]
    return found


def _value(element: xml.Element | None) -> str | None:
    return None if element is None else element.get(f"{W}val")


def _number(value: str | None) -> int | None:
    return int(value) if value is not None and value.isascii() and value.isdigit() and len(value) < 7 else None


__all__ = ["Numbering", "Style", "W", "notes", "numbered", "numbering", "styles"]
