"""A base model that knows twenty sentences in every language of qwen-mt, and now and then mistakes the language."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from hanlin.recipes.translation import languages
from hanlin.recipes.translation.languages import Language
from hanlin.types import ChatRequest, ChatResult, Choice, Events, Usage, Vector

_ORDER = re.compile(r"Translate the following segment(?: from [^\n]+?)? into ([^\n]+?)\. Output only")
_TEXT = re.compile(r"<(text\d*)>\n(.*)\n</\1>\s*$", re.DOTALL)


@cache
def _table() -> Mapping[str, Mapping[str, Sequence[str] | str]]:
    return tomllib.loads(Path(__file__).with_name("translation_sentences.toml").read_text(encoding="utf-8"))


@cache
def sentences(code: str) -> tuple[str, ...]:
    """Return the twenty sentences of a language; the dialects of Arabic have those of Arabic."""
    row = _table().get(code) or _table()["ar"]
    language = languages.find(code)
    assert language is not None
    space = " " if language.spaced else ""
    return tuple(f"{when}{space}{what}{row.get('stop', '.')}" for when in row["when"] for what in row["what"])


@dataclass
class Polyglot:
    """Says a sentence of `source` in the language that it is asked for; first in another where `strays` has its number.

    A model that strays is cured by the stricter prompt, as models mostly are.
    """

    source: str
    strays: Mapping[int, str] = field(default_factory=dict)
    can_shape: bool = True
    can_continue: bool = False
    fingerprint: str = "polyglot"
    context_tokens: int = 8192
    asked: list[ChatRequest] = field(default_factory=list)

    async def answer(self, request: ChatRequest) -> ChatResult:
        self.asked.append(request)
        text = self._answered(request.messages[-1].text)
        return ChatResult((Choice(0, text, "stop"),), Usage(20, len(text) // 4 + 1))

    def stream(self, request: ChatRequest) -> Events:
        raise AssertionError("a translation is checked before it is told: nothing is streamed")

    async def count(self, request: ChatRequest) -> int:
        return 10 + sum(len(message.text) for message in request.messages) // 4

    async def vectors(self, texts: Sequence[str], purpose: str) -> Sequence[Vector] | None:
        return None

    def _answered(self, prompt: str) -> str:
        order, text = _ORDER.search(prompt), _TEXT.search(prompt)
        assert order is not None
        assert text is not None
        number = sentences(self.source).index(text[2])
        strict = "nothing else" in prompt
        into = languages.find(order[1])
        assert into is not None
        return sentences(self.strays.get(number, into.code) if not strict else into.code)[number]


def strangers(target: Language) -> list[str]:
    """Return languages that models fall into in place of a target, and that can be told from it."""
    common = [code for code in ("en", "zh", "es", "ru", "fr", "ar", "hi") if code != target.code]
    if not target.labels:
        return [code for code in common if not _share_a_script(code, target)]
    if target.is_han:
        return [code for code in common if code != "zh"]
    return common


def _share_a_script(code: str, target: Language) -> bool:
    other = languages.find(code)
    assert other is not None
    return bool({*other.scripts}.intersection(target.scripts))


__all__ = ["Polyglot", "sentences", "strangers"]
