"""The ways to translate one piece of text: the cheapest first, others for what it got wrong, and the best of all.

The ways:

    switched   terms stand in the source as they are to be translated: models leave them there, in the right form
    plain      the text as it is; where a term is missing, it takes the place of the words that say it
    again      told in the target language, with the guard against orders and an example
    filled     words and phrases that stayed in the source's language, each translated by itself
    tagged     as switched, with the terms between tags
    edit       a draft and the terms that it lacks
    sentences  each sentence by itself
    masked     marks in place of links, markup and placeholders
    parts      what stands between those, each by itself: nothing can be lost
"""

import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from hanlin.recipes.translation import checking, mending, prompts, protecting, terms
from hanlin.recipes.translation.asking import Asking, Said
from hanlin.recipes.translation.checking import Aim, Fault
from hanlin.recipes.translation.languages import Language, is_unspaced
from hanlin.recipes.translation.memory import chrf, same
from hanlin.recipes.translation.options import Options, Pair
from hanlin.recipes.translation.segmenting import sentences
from hanlin.recipes.translation.terms import Use


class Candidate(msgspec.Struct, frozen=True):
    """A translation, the way it was made, and what is wrong with it. `tokens` None: nobody has counted them."""

    way: str
    text: str
    faults: tuple[Fault, ...]
    tokens: int | None = None

    @property
    def weight(self) -> int:
        return checking.weight(self.faults)


class Outcome(msgspec.Struct, frozen=True):
    """The translation that is taken, what was put right on the way to it, and what is still wrong."""

    text: str
    way: str
    tokens: int | None
    corrected: tuple[Fault, ...] = ()
    left: tuple[Fault, ...] = ()


@dataclass(frozen=True)
class Tier:
    """What a model's name promises: `ways` that may be gone, and translations to choose from."""

    ways: frozenset[str]
    candidates: int = 1


_PLAIN = frozenset({"switched", "plain"})
TIERS: Mapping[str, Tier] = {
    "qwen-mt-lite": Tier(_PLAIN | {"parts"}),
    "qwen-mt-plus": Tier(_PLAIN | {"again", "filled", "tagged", "edit", "sentences", "masked", "parts"}, candidates=3),
}
USUAL = Tier(_PLAIN | {"again", "filled", "tagged", "edit", "sentences", "masked", "parts"})

_ASTRAY = frozenset({"empty", "loop", "cut", "language", "echo", "length", "question", "untranslated"})

# Which faults of the best translation so far another way may cure, in the order in which the ways are gone.
CURES: Sequence[tuple[str, frozenset[str]]] = (
    ("plain", frozenset(checking.WEIGHTS)),
    ("switched", frozenset({"terms"})),
    ("again", _ASTRAY | {"numbers", "units"}),
    ("filled", frozenset({"untranslated"})),
    ("tagged", frozenset({"terms"})),
    ("edit", frozenset({"terms"})),
    ("masked", frozenset({"kept"})),
    ("sentences", _ASTRAY | {"terms", "numbers", "kept"}),
    ("parts", frozenset({"kept"})),
)

_MOST_SPANS = 300
_TERM_TAG = "t"
_MOST_LEFT_OVER = 6


@dataclass
class Translator:
    """Translates pieces of one text. It remembers how the model says single words: terms come again and again."""

    asking: Asking
    options: Options
    tier: Tier
    renderings: dict[tuple[str, Language | None, Language], str] = field(default_factory=dict)

    @property
    def _enforces(self) -> bool:
        return self.options.extras.enforce_terms

    async def translate(self, aim: Aim, examples: Sequence[Pair], *, whole: bool = True) -> Outcome:
        """Return the best translation that the ways of the tier lead to. `whole` False: a piece of a piece."""
        first = await self._go(self._first_way(aim), aim, examples, None)
        tried = [first]
        if self.options.extras.check:
            for way, cures in CURES:
                best = _best(tried)
                if not best.faults:
                    break
                if self._leads(way, cures, best, aim, tried, whole=whole):
                    tried.append(await self._go(way, aim, examples, best))
            if self._lacks_terms(best := _best(tried)):
                tried.append(await self._placed(best, aim, sure=False))
            tried += await self._more(aim, examples, tried, whole=whole)
        best = _best(tried)
        corrected = tuple(fault for fault in first.faults if fault not in best.faults)
        return Outcome(best.text, best.way, best.tokens, corrected, best.faults)

    def _first_way(self, aim: Aim) -> str:
        """English words get their number and article by rule, so a sentence stays just as the model makes it unasked;
        elsewhere only the model knows the form that a term needs."""
        by_rule = aim.target.forms == "english" and self.options.extras.check
        return "switched" if aim.wanted and self._enforces and not by_rule else "plain"

    def _lacks_terms(self, candidate: Candidate) -> bool:
        return self._enforces and any(fault.kind == "terms" for fault in candidate.faults)

    def _leads(
        self, way: str, cures: frozenset[str], best: Candidate, aim: Aim, tried: Sequence[Candidate], *, whole: bool
    ) -> bool:
        """Whether a way may be gone, and may cure what is wrong with the best translation so far."""
        if way not in self.tier.ways or any(candidate.way == way for candidate in tried):
            return False
        if way == "sentences" and (not whole or len(sentences(aim.text)) < 2):
            return False
        if way == "parts" and not whole:
            return False
        if way in ("switched", "tagged", "edit") and not self._enforces:
            return False
        return any(fault.kind in cures for fault in best.faults)

    async def _more(
        self, aim: Aim, examples: Sequence[Pair], tried: Sequence[Candidate], *, whole: bool
    ) -> list[Candidate]:
        """Make as many translations without fault as are to be chosen from; drawn, each with a seed of its own."""
        wanted = (self.options.extras.candidates or self.tier.candidates) if self.asking.draws else 1
        sound = sum(not candidate.faults for candidate in tried)
        more: list[Candidate] = []
        if not whole:
            return more
        if sound and sound < wanted and all(candidate.way != "plain" for candidate in tried):
            more.append(await self._go("plain", aim, examples, None))
        seeds = range(1, wanted - sound - len(more) + 1)
        return [*more, *[await self._go("plain", aim, examples, None, seed=seed) for seed in seeds]]

    async def _go(
        self, way: str, aim: Aim, examples: Sequence[Pair], best: Candidate | None, seed: int | None = None
    ) -> Candidate:
        ways: Mapping[str, Callable[[], Awaitable[Candidate]]] = {
            "switched": lambda: self._asked(way, aim, self._switched(aim), examples),
            "plain": lambda: self._plain(aim, examples, seed),
            "again": lambda: self._asked(way, aim, self._switched(aim), (), strict=True),
            "tagged": lambda: self._tagged(aim, examples),
            "filled": lambda: self._filled(aim, best),
            "edit": lambda: self._edited(aim, best),
            "sentences": lambda: self._by_sentence(aim, examples),
            "masked": lambda: self._masked(aim, examples),
            "parts": lambda: self._by_parts(aim, examples),
        }
        return await ways[way]()

    def _switched(self, aim: Aim) -> str:
        return terms.switched(aim.text, aim.wanted, aim.target) if self._enforces else aim.text

    async def _asked(
        self, way: str, aim: Aim, text: str, examples: Sequence[Pair], *, strict: bool = False, seed: int | None = None
    ) -> Candidate:
        glossary = () if self._enforces else tuple(use.term for use in aim.wanted)
        messages = prompts.translation(
            text,
            aim.source,
            aim.target,
            style=self.options.domains,
            glossary=glossary,
            examples=examples,
            strict=strict,
        )
        candidate = self._judged(way, aim, await self.asking.say(messages, aim.text, seed))
        if self.options.extras.check and _repeats(candidate.text, aim.text, examples):
            return msgspec.structs.replace(candidate, faults=(*candidate.faults, Fault("echo", "an example")))
        return candidate

    def _judged(self, way: str, aim: Aim, said: Said) -> Candidate:
        text = self._mended(aim, said.text)
        faults = checking.faults(aim, text, cut=said.cut) if self.options.extras.check else ()
        return Candidate(way, text, faults, said.tokens if text == said.text.strip() else None)

    def _mended(self, aim: Aim, output: str) -> str:
        text = mending.cleaned(aim.text, output)
        if not self.options.extras.check:
            return text
        text = protecting.spelled_in_digits(aim.text, text, english=aim.target.code == "en")
        text = protecting.numbers_put_right(aim.text, text)
        text = protecting.with_units(aim.text, text)
        text = mending.in_script(text, aim.target, tuple(use.term.target for use in aim.wanted))
        text = terms.exact(text, aim.wanted, aim.target)
        return mending.ended(aim.text.rstrip(), text, aim.target)

    async def _plain(self, aim: Aim, examples: Sequence[Pair], seed: int | None) -> Candidate:
        candidate = await self._asked("plain", aim, aim.text, examples, seed=seed)
        return await self._placed(candidate, aim, sure=True) if self._lacks_terms(candidate) else candidate

    async def _tagged(self, aim: Aim, examples: Sequence[Pair]) -> Candidate:
        said = await self.asking.say(
            prompts.translation(
                terms.switched(aim.text, aim.wanted, aim.target, tag=_TERM_TAG),
                aim.source,
                aim.target,
                style=self.options.domains,
                examples=examples,
                tag=_TERM_TAG,
            ),
            aim.text,
            None,
        )
        return self._judged("tagged", aim, replace(said, text=re.sub(rf"</?{_TERM_TAG}/?>", "", said.text)))

    async def _placed(self, draft: Candidate, aim: Aim, *, sure: bool) -> Candidate:
        """Put the terms that a draft lacks in place of the words that it has for them.

        `sure`: only where the model translates one into the other, this way or that.
        """
        text = draft.text
        for use in terms.missing(text, aim.wanted, aim.target):
            text = await self._with(text, use, aim, sure=sure) or text
        return Candidate("placed", text, checking.faults(aim, text), None)

    async def _with(self, draft: str, use: Use, aim: Aim, *, sure: bool) -> str | None:
        """Return a draft with a term in it; None where nothing in it stands for the term."""
        lacking = len(terms.missing(draft, aim.wanted, aim.target))
        rendering = await self._rendering(use.term, aim)
        for words in dict.fromkeys((await self._counterpart(draft, use, aim), rendering)):
            if not words or (sure and not await self._means(words, use.term, aim)):
                continue
            changed = terms.put(draft, words, use.term.target, aim.target, limit=use.times)
            if changed is not None and len(terms.missing(changed, aim.wanted, aim.target)) < lacking:
                return changed
        return None

    async def _counterpart(self, draft: str, use: Use, aim: Aim) -> str:
        """Return the words of a draft that stand for a term, as the model says: it can answer with words of it only."""
        rendering = terms.level(await self._rendering(use.term, aim))
        if aim.target.spaced and rendering and terms.form_of(rendering, aim.target.forms).search(terms.level(draft)):
            return rendering  # whole words; characters may be part of a longer word
        spans = _spans(draft, [other.term.target for other in aim.wanted])
        if not spans or len(spans) > _MOST_SPANS:
            return ""
        picked = await self.asking.pick(prompts.counterpart(aim.text, draft, use.term.source), spans)
        return re.sub(r"^(?:the|an?)\s+", "", picked, flags=re.IGNORECASE)

    async def _means(self, words: str, term: Pair, aim: Aim) -> bool:
        """Whether words of a draft translate a term, as far as the model can tell from words alone."""
        if _alike(words, await self._rendering(term, aim)):
            return True
        if aim.source is None:
            return False
        back = msgspec.structs.replace(aim, source=aim.target, target=aim.source)
        return _alike(await self._rendering(Pair(words, words), back), term.source)

    async def _rendering(self, term: Pair, aim: Aim) -> str:
        """Return how the model translates a term where nobody tells it how."""
        asked = (term.source, aim.source, aim.target)
        if asked not in self.renderings:
            said = await self.asking.say(prompts.translation(term.source, aim.source, aim.target), term.source, None)
            text = mending.in_script(mending.cleaned(term.source, said.text), aim.target)
            self.renderings[asked] = re.sub(r"^(?:the|an?)\s+", "", text, flags=re.IGNORECASE).strip(" .。,，!?！？")
        return self.renderings[asked]

    async def _filled(self, aim: Aim, best: Candidate | None) -> Candidate:
        assert best is not None, "a draft is what is filled"
        text = best.text
        for _ in range(_MOST_LEFT_OVER):
            left = checking.left_over(aim, text)
            if not left:
                break
            at = text.index(left)
            said = await self._rendering(Pair(left, left), aim)
            if not said or terms.level(said) == terms.level(left):
                break
            text = terms.exchanged(text, [((at, at + len(left)), said)], apart=aim.target.spaced)
        return Candidate("filled", text, checking.faults(aim, text), None)

    async def _edited(self, aim: Aim, best: Candidate | None) -> Candidate:
        assert best is not None, "a draft is what is edited"
        lacking = [use.term for use in terms.missing(best.text, aim.wanted, aim.target)]
        return self._judged(
            "edit", aim, await self.asking.say(prompts.edit(aim.text, best.text, lacking), aim.text, None)
        )

    async def _masked(self, aim: Aim, examples: Sequence[Pair]) -> Candidate:
        text = self._switched(aim)
        mask = protecting.masked(text)
        if mask is None:
            return Candidate("masked", "", (Fault("empty"),))
        messages = prompts.translation(mask.text, aim.source, aim.target, style=self.options.domains, examples=examples)
        said = await self.asking.say(messages, aim.text, None)
        restored = protecting.restored(mending.cleaned(mask.text, said.text), mask)
        return self._judged("masked", aim, replace(said, text=restored or ""))

    async def _by_sentence(self, aim: Aim, examples: Sequence[Pair]) -> Candidate:
        return await self._joined("sentences", aim, [(part, False) for part in sentences(aim.text)], examples)

    async def _by_parts(self, aim: Aim, examples: Sequence[Pair]) -> Candidate:
        return await self._joined("parts", aim, protecting.parted(aim.text), examples)

    async def _joined(
        self, way: str, aim: Aim, parts: Sequence[tuple[str, bool]], examples: Sequence[Pair]
    ) -> Candidate:
        """Translate parts each by itself, those that are kept excepted, and join them as words are joined there."""
        done: list[str] = []
        tokens: int | None = 0
        for part, keeps in parts:
            body = part.strip()
            if keeps or not any(character.isalpha() for character in body):
                done.append(_fitted(part, aim) if not keeps else part)
                continue
            wanted = terms.uses(body, [use.term for use in aim.wanted], aim.source)
            outcome = await self.translate(replace_aim(aim, body, wanted), examples, whole=False)
            tokens = None if tokens is None or outcome.tokens is None else tokens + outcome.tokens
            start, end = part.index(body), part.index(body) + len(body)
            before, after = part[:start], part[end:]
            text = _uncapitalised(outcome.text, body, done)
            done += [before or _lead(done, text, aim), text, _gap(after, body, aim)]
        text = _spaced("".join(done), aim)
        return Candidate(way, text, checking.faults(aim, text), tokens)


def replace_aim(aim: Aim, text: str, wanted: tuple[Use, ...]) -> Aim:
    """Return what a part of a text has to become."""
    return msgspec.structs.replace(aim, text=text, wanted=wanted)


def _fitted(part: str, aim: Aim) -> str:
    """Return what is nothing but signs, as the target writes them."""
    if aim.target.spaced and is_unspaced(aim.text):
        return part.translate(_NARROW)
    return part


_NARROW = str.maketrans(
    {"，": ", ", "。": ". ", "；": "; ", "：": ": ", "！": "! ", "？": "? ", "、": ", ", "（": " (", "）": ") "}
)


def _lead(done: Sequence[str], text: str, aim: Aim) -> str:
    """Return the space that a word needs behind something that was kept, which the source wrote without one."""
    last = next((part for part in reversed(done) if part), "")
    opens = last.startswith("<") and not last.startswith("</")
    return " " if aim.target.spaced and text[:1].isalnum() and last and not last[-1].isspace() and not opens else ""


def _gap(after: str, body: str, aim: Aim) -> str:
    if aim.target.spaced and not after and is_unspaced(body):
        return " "
    return "" if not aim.target.spaced and after == " " and body[-1:] in ".!?" else after


def _uncapitalised(text: str, body: str, done: Sequence[str]) -> str:
    """Return a part that stands within a sentence without the capital that it got by standing alone."""
    inside = bool(done) and not re.search(r"[.!?。！？:：]\s*$", "".join(done))
    if inside and len(text) > 1 and text[0].isupper() and text[1].islower() and not body[:1].isupper():
        return text[0].lower() + text[1:]
    return text


def _spaced(text: str, aim: Aim) -> str:
    if not aim.target.spaced:
        return text.strip()
    return re.sub(r"(?<=\S) +(?=[,.;:!?)](?:\s|$)|</)", "", re.sub(r"(?<=\S) {2,}(?=\S)", " ", text)).strip()


def _best(tried: Sequence[Candidate]) -> Candidate:
    """Return the one with the least faults; of several, the one that is most like all others: what they agree on."""
    least = min(candidate.weight for candidate in tried)
    equal = [candidate for candidate in tried if candidate.weight == least]
    if len(equal) < 3:
        return equal[0]
    votes = Counter(candidate.text for candidate in equal)  # at low temperatures many are the same

    def agreed(text: str) -> float:
        return sum(times * chrf(text, other) for other, times in votes.items())

    chosen = max(votes, key=agreed)
    return next(candidate for candidate in equal if candidate.text == chosen)


def _repeats(output: str, text: str, examples: Sequence[Pair]) -> bool:
    """Whether a translation is that of an example, which is another text."""
    return any(same(output) == same(pair.target) and same(text) != same(pair.source) for pair in examples)


_ALIKE = 25.0


def _alike(words: str, rendering: str) -> bool:
    """Whether words could be another form of what the model says for a term: they share a word, or some characters."""
    return chrf(terms.level(words), terms.level(rendering)) >= _ALIKE


def _spans(draft: str, taken: Sequence[str]) -> list[str]:
    """Return what in a draft could stand for a term: up to four words, or six characters, within a clause."""
    free = draft
    for term in taken:
        free = re.sub(re.escape(term), "\n", free, flags=re.IGNORECASE)
    found: dict[str, None] = {}
    for clause in re.split(r"[\n,.;:!?，。；：！？、()（）“”\"]+", free):
        for run in re.findall(r"[\u3040-\u30ff\u3400-\u9fff]+", clause):
            found.update((run[at : at + n], None) for n in range(1, 7) for at in range(len(run) - n + 1))
        if not is_unspaced(clause):
            words = clause.split()
            found.update((" ".join(words[at : at + n]), None) for n in range(1, 5) for at in range(len(words) - n + 1))
    return list(found)


__all__ = ["CURES", "TIERS", "USUAL", "Candidate", "Outcome", "Tier", "Translator"]
