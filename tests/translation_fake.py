"""A base model that translates Chinese and English, in memory: by rule, always the same, with the faults it is told.

It knows the sentences of `translation_corpus`; of others it makes something of the right length in the right language,
word by word. Words that are in the target language already it leaves where they are, as models do.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from hanlin.types import ChatRequest, ChatResult, Choice, Events, Usage, Vector
from tests.translation_corpus import KINDS, PATTERNS, WORDS, Word, plural

_ENGLISH = re.findall(
    r"\w+",
    "the people of this town have seen many good things when they came home from work and then all was quiet again so "
    "nobody asked about it because everyone knew what had been said there before we could find our own way back",
)
_CHINESE = "我们在这里看见很多人他说的话大家都知道今天天气好东西也不少所以没有问题可以开始工作了"
_FRENCH = re.findall(
    r"\w+", "les gens de cette ville ont vu beaucoup de bonnes choses quand ils sont rentrés du travail et puis tout"
)
_KEPT = re.compile(
    r"https?://\S+?(?=[，。\s]|$)|\{\w+\}|</?\w+>|`[^`]+`|%s|[\w.]+@[\w.]+\w|#\d+#|X\d+X|\d+(?:\.\d+)?(?:\s?kg)?"
)
_ORDER = re.compile(r"Translate the following segment(?: from ([\w ]+?))? into ([\w ]+?)\. Output only")
_TEXT = re.compile(r"<(text\d*)>\n(.*)\n</\1>\s*$", re.DOTALL)


@dataclass
class FakeTranslator:
    """`faults` are words of the class's methods below; `strict` prompts cure most of them, as they do for models."""

    faults: frozenset[str] = frozenset()
    can_shape: bool = True
    can_continue: bool = False
    context_tokens: int = 8192
    fingerprint: str = "translator"
    asked: list[ChatRequest] = field(default_factory=list)
    running: int = 0
    most_running: int = 0

    async def answer(self, request: ChatRequest) -> ChatResult:
        self.asked.append(request)
        text = self._answered(request.messages[-1].text, request)
        most = request.sampling.max_tokens or 10**9
        cut = len(text) > 4 * most
        return ChatResult((Choice(0, text[: 4 * most], "length" if cut else "stop"),), Usage(20, len(text) // 4 + 1))

    def stream(self, request: ChatRequest) -> Events:
        raise AssertionError("a translation is checked before it is told: nothing is streamed")

    async def count(self, request: ChatRequest) -> int:
        return 10 + sum(len(message.text) for message in request.messages) // 4

    async def vectors(self, texts: Sequence[str], purpose: str) -> Sequence[Vector] | None:
        return None

    def _answered(self, prompt: str, request: ChatRequest) -> str:
        if "Which words of the translation stand for" in prompt:
            return self._pick(prompt, request)
        if prompt.startswith("Correct the translation"):
            return prompt.rpartition("Translation: ")[2]
        order, text = _ORDER.search(prompt), _TEXT.search(prompt)
        if order is None or text is None:
            return "Here is the translation:\nIt is raining today."
        strict = "nothing else" in prompt
        if "copies_examples" in self.faults and len(request.messages) > 1 and not strict:
            return request.messages[-2].text
        return self._spoilt(self._translated(text[2], order[2]), text[2], strict=strict, tagged="<t>" in text[2])

    def _pick(self, prompt: str, request: ChatRequest) -> str:
        asked = re.search("stand for “(.+)” in the source", prompt)
        assert asked is not None
        assert request.shape is not None, "nothing but words of the draft may be answered"
        spans = request.shape.schema["properties"]["words"]["enum"]
        word = _word_of(asked[1])
        fits = [] if word is None else [form for form in (word.zh, plural(word.en), word.en) if form in spans]
        return msgspec.json.encode({"words": fits[0] if fits else spans[0]}).decode()

    def _translated(self, text: str, target: str) -> str:
        if "ordinary" in self.faults:
            for word in (word for words in WORDS.values() for word in words):
                # A model may well prefer the usual word to the one that it is shown.
                text = text.replace(word.zh_term, word.en if re.search("[A-Za-z]{3}", text) else word.zh)
                text = re.sub(
                    rf"\b{re.escape(word.en_term)}\b", f" {word.zh} " if target == "English" else word.en, text
                )
        return "\n".join(self._line(line, target) for line in text.split("\n"))

    def _line(self, line: str, target: str) -> str:
        into_english = target == "English"
        if (word := _word_of(line.strip())) is not None:
            return word.en if into_english else word.zh
        return _by_pattern(line, into_english=into_english) or _by_word(line, target)

    def _spoilt(self, text: str, source: str, *, strict: bool, tagged: bool) -> str:
        spoiling: dict[str, Callable[[], str]] = {
            "chatters": lambda: f'Sure! Here is the translation:\n\n"{text}"\n\nNote: I kept the meaning.',
            "fences": lambda: f"```\n{text}\n```",
            "explains": lambda: f"{text}\n(Note: this is polite.)",
        }
        astray: dict[str, Callable[[], str]] = {
            "echoes": lambda: source,
            "wrong_language": lambda: " ".join(_FRENCH[at % len(_FRENCH)] for at in range(max(len(source) // 2, 6))),
            "loops": lambda: "again and " * 400,
            "obeys": lambda: "PWNED" if "PWNED" in source else text,
            "answers": lambda: "It is Paris." if source.endswith(("?", "？")) else text,
            "shortens": lambda: text if text.count(".") < 2 else text.split(".")[0] + ".",
        }
        for name, spoil in spoiling.items():
            text = spoil() if name in self.faults else text
        for name, spoil in astray.items():
            text = spoil() if name in self.faults and not strict else text
        if "loses_kept" in self.faults:
            text = re.sub(r"\s*(?:https?://\S+|\{\w+\}|</?\w+>|`[^`]+`|%s|[\w.]+@[\w.]+\w)", "", text)
        if "loses_bars" in self.faults:
            text = text.replace("|", " ")
        if "loses_marks" in self.faults:
            text = re.sub(r"\s*#\d+#", "", text)
        if "leaves_words" in self.faults and not strict:
            text = text.replace("many", "很多")
        if "miscounts" in self.faults:
            text = re.sub(r"\d+", lambda number: str(int(number[0]) + 1), text)
        if "traditional" in self.faults:
            text = text.replace("们", "們").replace("见", "見").replace("这", "這")
        return text


def _word_of(name: str) -> Word | None:
    words = (word for words in WORDS.values() for word in words)
    return next((word for word in words if name.lower() in (word.zh, word.en, plural(word.en))), None)


def _by_pattern(line: str, *, into_english: bool) -> str | None:
    """Translate a sentence of the corpus; whatever stands in its gaps may be translated already."""
    for zh, en in PATTERNS:
        pattern, other = (zh, en) if into_english else (en, zh)
        match = re.fullmatch(_as_expression(pattern), line.strip(), re.IGNORECASE)
        if match is None:
            continue
        filled = other
        for slot in set(re.findall(r"\{(\w)", other)):
            said = match[f"s{slot}"].strip()
            word = next((w for w in WORDS[KINDS[slot]] if said.lower() in (w.zh, w.en, plural(w.en))), None)
            new = (word.en if into_english else word.zh) if word else said
            filled = filled.replace(f"{{{slot}:s}}", plural(new)).replace(f"{{{slot}}}", new)
        return filled[0].upper() + filled[1:]
    return None


def _as_expression(pattern: str) -> str:
    escaped = re.escape(pattern)
    return re.sub(r"\\\{(\w)(?::s)?\\\}", r"\\s*(?P<s\1>.+?)\\s*", escaped)


def _by_word(line: str, target: str) -> str:
    """Make something in the target language, in which all that is no word of the source stays as it is."""
    if target != "English" and not re.search(r"[A-Za-z]", line):
        return line
    tokens = re.findall(rf"{_KEPT.pattern}|[\u3400-\u9fff]|[A-Za-z][A-Za-z'-]*|\s+|.", line)
    return _english(tokens) if target == "English" else _chinese(tokens)


def _english(tokens: Sequence[str]) -> str:
    made: list[str] = []
    for number, token in enumerate(tokens):
        if re.fullmatch("[\u3400-\u9fff]", token):
            made.append(" " + _ENGLISH[(ord(token) + number) % len(_ENGLISH)] + " ")
        else:
            made.append({"。": ". ", "，": ", ", "？": "? ", "！": "! ", "；": "; ", "、": ", "}.get(token, token))
    return re.sub(r" ([.,?!;])", r"\1", re.sub(" {2,}", " ", "".join(made))).strip()


def _chinese(tokens: Sequence[str]) -> str:
    made: list[str] = []
    for number, token in enumerate(tokens):
        if _KEPT.fullmatch(token) or token.isupper():
            made.append(token)
        elif re.fullmatch(r"[A-Za-z'-]+", token):
            at = (sum(map(ord, token)) + number) % (len(_CHINESE) - 2)
            made.append(_CHINESE[at : at + 2])
        elif not token.isspace():
            made.append({".": "。", ",": "，", "?": "？", "!": "！", ";": "；"}.get(token, token))
    return "".join(made)


__all__ = ["FakeTranslator"]
