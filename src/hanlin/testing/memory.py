"""Remember what was read and generated: for cached tokens, and for generations that come in several passes."""

from collections import OrderedDict, deque

from hanlin.testing import tokens
from hanlin.testing.ask import Ask
from hanlin.testing.rules import Rule

_TEXTS_KEPT = 64
_HEADS_KEPT = 256
_PASSES_KEPT = 8


class PrefixCache:
    """The texts that an engine still holds; bounded, the oldest go first."""

    def __init__(self) -> None:
        self._texts: deque[list[str]] = deque(maxlen=_TEXTS_KEPT)

    def cached(self, prompt: str) -> int:
        """Return how many of the prompt's tokens were seen before. Its last one is always read anew."""
        wanted = tokens.split(prompt)
        return min(max((_common(wanted, text) for text in self._texts), default=0), max(len(wanted) - 1, 0))

    def keep(self, text: str) -> None:
        """Remember a prompt with what was generated behind it."""
        self._texts.append(tokens.split(text))


class Pass:
    """One pass: its prompt, what came of it, and the rule that said so."""

    def __init__(self, prompt: str, made: str, index: int | None, rule: Rule) -> None:
        self.prompt = prompt
        self.made = made
        self.index = index
        self.rule = rule


class Passes:
    """The latest passes of generations, by the conversation that they answer.

    A pass that goes on with what one of them made is answered by the same rule, and is no further request to it.
    """

    def __init__(self) -> None:
        self._by_head: OrderedDict[str, deque[Pass]] = OrderedDict()

    def before(self, ask: Ask) -> Pass | None:
        """Return the pass that this one continues, None when it is the first of its generation."""
        continued = [
            (shared, one)
            for one in self._by_head.get(ask.head, ())
            if ask.prompt.startswith(one.prompt) and len(ask.prompt) > len(one.prompt)
            if (shared := _common(ask.prompt[len(one.prompt) :], one.made)) or not one.made
        ]
        return max(continued, key=lambda found: len(found[1].prompt) + found[0])[1] if continued else None

    def keep(self, ask: Ask, made: str, index: int | None, rule: Rule) -> None:
        self._by_head.setdefault(ask.head, deque(maxlen=_PASSES_KEPT)).append(Pass(ask.prompt, made, index, rule))
        self._by_head.move_to_end(ask.head)
        while len(self._by_head) > _HEADS_KEPT:
            self._by_head.popitem(last=False)


def _common(one: "list[str] | str", other: "list[str] | str") -> int:
    size = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        size += 1
    return size
