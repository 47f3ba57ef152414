"""English sentences with terms in them and their German, Spanish and Russian, whose nouns change with the sentence.

`Inflecting` is a base model that knows them: it puts a word that it is given into the case that its sentence needs, as
models do, and says the ordinary word where nobody gives it another.
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import msgspec

from hanlin.types import ChatRequest, ChatResult, Choice, Events, Usage, Vector

Forms = Mapping[str, str]
"""A noun in its cases, with its article where the language has one."""

_CASES = {"German": ("nom", "acc", "dat"), "Spanish": ("nom",), "Russian": ("nom", "acc", "pre", "ins")}

# English; then for German, Spanish and Russian the ordinary word and the glossary's.
_NOUNS = """
server | der Server, den Server, dem Server > der Leitrechner, den Leitrechner, dem Leitrechner | el servidor > el equipo anfitrión | сервер, сервер, сервере, сервером > головной блок, головной блок, головном блоке, головным блоком
printer | der Drucker, den Drucker, dem Drucker > das Druckwerk, das Druckwerk, dem Druckwerk | la impresora > la estación gráfica | принтер, принтер, принтере, принтером > печатный пост, печатный пост, печатном посте, печатным постом
battery | die Batterie, die Batterie, der Batterie > der Stromspeicher, den Stromspeicher, dem Stromspeicher | la batería > el acumulador | батарея, батарею, батарее, батареей > аккумулятор, аккумулятор, аккумуляторе, аккумулятором
pump | die Pumpe, die Pumpe, der Pumpe > die Förderanlage, die Förderanlage, der Förderanlage | la bomba > la impulsora | насос, насос, насосе, насосом > нагнетатель, нагнетатель, нагнетателе, нагнетателем
monitor | der Bildschirm, den Bildschirm, dem Bildschirm > das Anzeigefeld, das Anzeigefeld, dem Anzeigefeld | el monitor > el panel visual | монитор, монитор, мониторе, монитором > табло, табло, табло, табло
keyboard | die Tastatur, die Tastatur, der Tastatur > das Bedienfeld, das Bedienfeld, dem Bedienfeld | el teclado > la botonera | клавиатура, клавиатуру, клавиатуре, клавиатурой > пульт, пульт, пульте, пультом
sensor | der Sensor, den Sensor, dem Sensor > der Messfühler, den Messfühler, dem Messfühler | el sensor > el captador | датчик, датчик, датчике, датчиком > измеритель, измеритель, измерителе, измерителем
valve | das Ventil, das Ventil, dem Ventil > die Absperrklappe, die Absperrklappe, der Absperrklappe | la válvula > la compuerta | клапан, клапан, клапане, клапаном > заслонка, заслонку, заслонке, заслонкой
"""  # noqa: E501 (a table)

_PATTERNS = (
    (
        "The {d} costs less than the {e}.",
        {
            "German": "{d.nom} kostet weniger als {e.nom}.",
            "Spanish": "{d.nom} cuesta menos que {e.nom}.",
            "Russian": "{d.nom} стоит намного меньше, чем {e.nom}.",
        },
    ),
    (
        "Please turn off the {d}, then check the {e}.",
        {
            "German": "Bitte schalten Sie {d.acc} aus und prüfen Sie dann {e.acc}.",
            "Spanish": "Por favor, apague {d.nom} y luego compruebe {e.nom}.",
            "Russian": "Пожалуйста, выключите {d.acc}, а затем проверьте {e.acc}.",
        },
    ),
    (
        "She told us about the {d} and the {e}.",
        {
            "German": "Sie hat uns über {d.acc} und {e.acc} berichtet.",
            "Spanish": "Ella nos habló sobre {d.nom} y {e.nom}.",
            "Russian": "Она рассказала нам о {d.pre} и о {e.pre}.",
        },
    ),
    (
        "The {d} works better with the {e}.",
        {
            "German": "{d.nom} arbeitet besser mit {e.dat}.",
            "Spanish": "{d.nom} funciona mejor con {e.nom}.",
            "Russian": "{d.nom} лучше работает вместе с {e.ins}.",
        },
    ),
)


def bare(noun: str) -> str:
    """Return a noun without its article."""
    return re.sub(r"^(?:der|die|das|den|dem|el|la) ", "", noun)


@dataclass(frozen=True)
class Noun:
    """A thing in English, and in another language: the ordinary word and the glossary's, each in its cases."""

    en: str
    ordinary: Forms
    term: Forms


def nouns(language: str) -> tuple[Noun, ...]:
    """Return the nouns of a language."""
    column = 1 + list(_CASES).index(language)

    def forms(words: str) -> Forms:
        return dict(zip(_CASES[language], (word.strip() for word in words.split(",")), strict=True))

    rows = [[cell.strip() for cell in row.split("|")] for row in _NOUNS.strip().splitlines()]
    return tuple(Noun(row[0], *map(forms, row[column].split(">"))) for row in rows)


@dataclass(frozen=True)
class Sentence:
    """A sentence to translate, its glossary, and the nouns of the language that do not occur in it."""

    target_lang: str
    source: str
    used: tuple[Noun, ...]
    others: tuple[Noun, ...]

    @property
    def glossary(self) -> list[dict[str, str]]:
        """Return terms as a caller sends them: also those that the sentence has no use for."""
        return [{"source": noun.en, "target": bare(noun.term["nom"])} for noun in (*self.used, *self.others)]


def directions(count: int) -> Iterator[Sentence]:
    """Yield so many sentences for each of three languages, two terms in each of them, all different."""
    for language in _CASES:
        pairs = list(itertools.permutations(nouns(language), 2))
        for number in range(count):
            english, _ = _PATTERNS[number % len(_PATTERNS)]
            used = pairs[number * 5 % len(pairs)]
            source = english.format(d=used[0].en, e=used[1].en)
            yield Sentence(language, source, used, tuple(noun for noun in nouns(language) if noun not in used))


_ORDER = re.compile(r"Translate the following segment(?: from [\w ]+?)? into (\w+)\. Output only")
_TEXT = re.compile(r"<(text\d*)>\n(.*)\n</\1>\s*$", re.DOTALL)


@dataclass
class Inflecting:
    """`stubborn`: it says the ordinary word also where the glossary's is put into its mouth."""

    stubborn: bool = False
    can_shape: bool = True
    can_continue: bool = False
    fingerprint: str = "pairs"
    context_tokens: int = 8192
    asked: list[ChatRequest] = field(default_factory=list)

    async def answer(self, request: ChatRequest) -> ChatResult:
        self.asked.append(request)
        text = self._answered(request)
        return ChatResult((Choice(0, text, "stop"),), Usage(20, len(text) // 4 + 1))

    def stream(self, request: ChatRequest) -> Events:
        raise AssertionError("a translation is checked before it is told: nothing is streamed")

    async def count(self, request: ChatRequest) -> int:
        return 10 + sum(len(message.text) for message in request.messages) // 4

    async def vectors(self, texts: Sequence[str], purpose: str) -> Sequence[Vector] | None:
        return None

    def _answered(self, request: ChatRequest) -> str:
        prompt = request.messages[-1].text
        if asked := re.search("stand for “(.+)” in the source", prompt):
            assert request.shape is not None
            spans = request.shape.schema["properties"]["words"]["enum"]
            return msgspec.json.encode({"words": _counterpart(asked[1], spans)}).decode()
        if prompt.startswith("Correct the translation"):
            return prompt.rpartition("Translation: ")[2]
        order, text = _ORDER.search(prompt), _TEXT.search(prompt)
        assert order is not None
        assert text is not None
        return self._translated(re.sub(r"</?t>", "", text[2]), order[1])

    def _translated(self, text: str, language: str) -> str:
        if language == "English":
            return _into_english(text)
        if (alone := _noun(text.strip(), language)) is not None:
            return bare(alone.ordinary["nom"])
        for english, others in _PATTERNS:
            pattern = re.escape(english).replace(r"\{d\}", "(?P<d>.+?)").replace(r"\{e\}", "(?P<e>.+?)")
            if match := re.fullmatch(pattern, text, re.IGNORECASE):
                said = re.sub(r"\{(\w)\.(\w+)\}", partial(self._slot, match, language), others[language])
                return said[0].upper() + said[1:]
        raise AssertionError(f"no sentence of ours: {text!r}")

    def _slot(self, match: re.Match[str], language: str, slot: re.Match[str]) -> str:
        return self._form(match[slot[1]], slot[2], language)

    def _form(self, word: str, case: str, language: str) -> str:
        noun = _noun(word, language)
        assert noun is not None
        termed = word.lower() == bare(noun.term["nom"]).lower() and not self.stubborn
        return (noun.term if termed else noun.ordinary)[case]


def _noun(word: str, language: str) -> Noun | None:
    """Return a noun by its English name, or by the glossary's word for it."""
    names = ((noun, {noun.en, bare(noun.term["nom"]).lower()}) for noun in nouns(language))
    return next((noun for noun, known in names if word.lower() in known), None)


def _counterpart(english: str, spans: Sequence[str]) -> str:
    for language in _CASES:
        noun = _noun(english, language)
        said = [bare(form) for form in noun.ordinary.values()] if noun is not None else []
        if found := [span for span in spans if span in said]:
            return found[0]
    return spans[0]


def _into_english(text: str) -> str:
    for language in _CASES:
        for noun in nouns(language):
            if text.strip().lower() in {bare(form).lower() for form in noun.ordinary.values()}:
                return noun.en
    return "thing"


__all__ = ["Inflecting", "Noun", "Sentence", "bare", "directions", "nouns"]
