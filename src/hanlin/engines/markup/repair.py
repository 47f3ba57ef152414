"""Read JSON that a model has nearly got right, where only one reading is possible.

Libraries that repair anything (json-repair) also guess where a string was meant to end, or make an object of prose. A
call with guessed arguments is worse than a call that is refused, so what would need a guess is left alone here.
"""

import ast
import json
import re
from typing import Any, NoReturn

# What is not a string is mended; strings only lose their single quotes.
_PART = re.compile(
    r"""
      (?P<string> "(?:[^"\\]|\\.)*" )
    | (?P<python> '(?:[^'\\]|\\.)*' )
    | (?P<comma> ,\s*(?=[}\]]|\Z) )
    | (?P<opens> [{\[] )
    | (?P<closes> [}\]] )
    | \b (?P<word> True|False|None ) \b
    """,
    re.VERBOSE | re.DOTALL,
)
_WORDS = {"True": "true", "False": "false", "None": "null"}
_CLOSES = {"{": "}", "[": "]"}
_ESCAPES = frozenset("\\'\"abfnrtvxuU")


def repaired(text: str) -> Any | None:
    """Return the value that `text` can only mean, None if there is no such value (or if it is null).

    Mended are line ends and tabs within strings, commas before a closing bracket, missing brackets at the end, and
    single quotes and `True`, `False`, `None` as Python writes them.
    """
    text = text.strip()
    try:
        try:
            value = _loaded(text)
        except ValueError:
            value = _loaded(_mended(text))
        json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair could not be sent to anybody
    except (ValueError, RecursionError):
        return None
    return value


def _loaded(text: str) -> Any:
    return json.loads(text, strict=False, parse_constant=_refuse)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


def _mended(text: str) -> str:
    """Return `text` as JSON would say it. Raises ValueError where brackets do not match."""
    missing: list[str] = []

    def mend(part: re.Match[str]) -> str:
        written = part.group()
        match part.lastgroup:
            case "python":
                return json.dumps(_python_string(written), ensure_ascii=False)
            case "comma":
                return ""
            case "word":
                return _WORDS[written]
            case "opens":
                missing.append(_CLOSES[written])
            case "closes":
                if not missing or missing.pop() != written:
                    raise ValueError(f"{written} closes nothing")
        return written

    return _PART.sub(mend, text) + "".join(reversed(missing))


def _python_string(written: str) -> str:
    """Decode a string in single quotes. Raises ValueError for escapes that Python warns of or does not know."""
    if any(escaped not in _ESCAPES for escaped in re.findall(r"\\(.)", written, re.DOTALL)):
        raise ValueError("an unknown escape")
    try:
        return str(ast.literal_eval(written.replace("\r", "\\r").replace("\n", "\\n")))
    except SyntaxError as error:
        raise ValueError("not a string of Python") from error
