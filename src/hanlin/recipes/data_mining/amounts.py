"""Amounts without their signs, where an instruction asks for that: `¥1,234.50` is 1234.50, `35元` is 35. Pure."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_ASKED = re.compile(
    r"(?:去[掉除]|不[带含要]|无|移除|删除)[^。\n]{0,8}(?:货币|单位|符号|￥|¥|\$|千分位|逗号)|[只仅](?:保留|要)数字|纯数字"
    r"|\b(?:without|no|strip|remove)\b[^.\n]{0,24}\b(?:currency|symbols?|units?|separators?|signs?)\b"
    r"|\b(?:digits|numbers) only\b",
    re.IGNORECASE,
)
_UNITS_TOO = re.compile(r"单位|[只仅](?:保留|要)数字|纯数字|\bunits?\b|\b(?:digits|numbers) only\b", re.IGNORECASE)
_MONEY = "人民币|美元|美金|欧元|英镑|日元|港元|港币|元|圆|rmb|cny|usd|eur|gbp|jpy|hkd"
_AMOUNT = re.compile(
    rf"(?P<minus>[-−]?)\s*+(?:[¥$€£]|hk\$|us\$|{_MONEY})?\s*+(?P<number>[-−]?\d[\d,]*+(?:\.\d++)?)\s*+"
    rf"(?:(?P<money>{_MONEY}|[¥$€£])|(?P<unit>%|[^\W\d_]{{1,4}}))?",
    re.IGNORECASE,
)
_SCALES = ("万", "亿", "%")  # without them it would be another amount


@dataclass(frozen=True)
class Manner:
    """How amounts are to be written: `bare` without currency and separators, with `units` without other units too."""

    bare: bool = False
    units: bool = False

    def written(self, value: Any) -> Any:
        """Return a value with all amounts of money and measures in it written so; other text stays as it is."""
        if not self.bare:
            return value
        if isinstance(value, Mapping):
            return {key: self.written(part) for key, part in value.items()}
        if isinstance(value, list):
            return list(map(self.written, value))
        return self._bare(value) if isinstance(value, str) else value

    def _bare(self, text: str) -> str:
        found = _AMOUNT.fullmatch(unicodedata.normalize("NFKC", text).strip())
        if found is None:
            return text
        unit = found["unit"] or ""
        kept = "" if self.units and not unit.startswith(_SCALES) else unit
        return f"{found['minus']}{found['number'].replace(',', '')}{kept}"


def manner_of(instruction: str) -> Manner:
    """Return how an instruction wants amounts to be written: as the document has them, unless it says otherwise."""
    return Manner(bool(_ASKED.search(instruction)), bool(_UNITS_TOO.search(instruction)))


__all__ = ["Manner", "manner_of"]
