"""Sums in a solution that are wrong: `12 * 17 = 214`. Pure.

Only what is written in numbers alone is looked at, and only where it stands by itself: `2x + 3 + 4 = 9` says nothing
about 3 + 4. What cannot be judged is taken to be right.
"""

import re
from fractions import Fraction

_MOST_EQUATIONS = 200
_NUMBER = r"\d{1,12}(?:,\d{3}){0,3}(?:\.\d{1,9})?"
_SIGNS = {"+": "+", "-": "-", "−": "-", "*": "*", "×": "*", r"\times": "*", r"\cdot": "*", "·": "*"}
_SIGNS |= {"÷": "/", "/": "/", r"\div": "/"}
_SIGN = "|".join(re.escape(sign) for sign in _SIGNS)
_GAP = "[ \t]{0,4}"
_TERM = re.compile(rf"({_SIGN}){_GAP}({_NUMBER})")
_EQUATION = re.compile(
    rf"(?<![\w.,:^\\])({_NUMBER})((?:{_GAP}(?:{_SIGN}){_GAP}{_NUMBER}){{1,8}}){_GAP}={_GAP}(-?{_NUMBER})(?!\d|,\d)",
    re.ASCII,
)
_BEFORE = re.compile(rf"(?:{_SIGN}|[)\]}}^_%√]){_GAP}\Z")
_BEHIND = re.compile(
    rf"\.\d|{_GAP}(?:{_SIGN}|[(^%‰!]|\\(?:%|sqrt|frac|pi)|\.\.|…|余|R\b|[a-zA-Z](?![a-zA-Z]))|[a-zA-Z]|{_GAP}={_GAP}[^\d\s]"
)
_NEAR = 12  # characters in front of an equation that tell whether it stands by itself


def wrong_sums(text: str) -> list[str]:
    """Return the equations between numbers that do not hold; a result may be rounded to its own decimals."""
    found: list[str] = []
    for number, equation in enumerate(_EQUATION.finditer(text)):
        if number == _MOST_EQUATIONS:
            break
        before = text[max(equation.start() - _NEAR, 0) : equation.start()]
        if _BEFORE.search(before) or _BEHIND.match(text, equation.end()):
            continue
        first, rest, result = equation.groups()
        worth = _worth(first, _TERM.findall(rest))
        if worth is not None and abs(worth - _number(result)) > _rounding(result):
            found.append(equation[0])
    return found


def _worth(first: str, rest: list[tuple[str, str]]) -> Fraction | None:
    """Return what a sum of products is, None where it divides by nothing."""
    total, product = Fraction(0), _number(first)
    for sign, figures in rest:
        value = _number(figures)
        match _SIGNS[sign]:
            case "*":
                product *= value
            case "/":
                if not value:
                    return None
                product /= value
            case plus_or_minus:
                total += product
                product = value if plus_or_minus == "+" else -value
    return total + product


def _number(figures: str) -> Fraction:
    return Fraction(figures.replace(",", ""))


def _rounding(figures: str) -> Fraction:
    """Return how far a result may be off: half of its last decimal, nothing where it has none."""
    decimals = len(figures.partition(".")[2])
    return Fraction(1, 2 * 10**decimals) if decimals else Fraction(0)


__all__ = ["wrong_sums"]
