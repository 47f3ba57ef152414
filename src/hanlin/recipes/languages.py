"""The language that a user writes, as far as its script tells, and the few sentences that are said in it."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_KANA, _HANGUL, _HAN = re.compile("[\u3040-\u30ff]"), re.compile("[\uac00-\ud7af]"), re.compile("[\u3400-\u9fff]")


@dataclass(frozen=True)
class Tongue:
    """A language: its `name` in English, how something is asked for in it, and what is said when nothing is known."""

    name: str
    ask: Callable[[Sequence[str]], str]
    sorry: str


CHINESE = Tongue(
    "Chinese",
    lambda wanted: f"好的，请问{'、'.join(wanted)}是什么？",
    "抱歉，我没有理解您的意思，请换一种说法。",
)
ENGLISH = Tongue(
    "English",
    lambda wanted: f"Sure. Could you please tell me: {'; '.join(wanted)}?",
    "Sorry, I did not understand that. Could you say it in another way?",
)
JAPANESE = Tongue(
    "Japanese",
    lambda wanted: f"かしこまりました。{'、'.join(wanted)}を教えていただけますか？",
    "申し訳ありません、もう一度言い換えていただけますか。",
)
KOREAN = Tongue(
    "Korean",
    lambda wanted: f"네, {', '.join(wanted)}을(를) 알려 주시겠어요?",
    "죄송합니다. 다른 말로 다시 말씀해 주시겠어요?",
)


def language_of(text: str) -> Tongue:
    """Return the language of a text by its script; what is written in another one is taken for English."""
    if _KANA.search(text):
        return JAPANESE
    if _HANGUL.search(text):
        return KOREAN
    return CHINESE if _HAN.search(text) else ENGLISH


__all__ = ["CHINESE", "ENGLISH", "JAPANESE", "KOREAN", "Tongue", "language_of"]
