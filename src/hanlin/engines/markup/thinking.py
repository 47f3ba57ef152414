"""Take the thinking off the front of a generation."""

import re

from hanlin.engines.markup.forms import THINKING, prefixes

_OPENS = tuple(form.opens for form in THINKING)
_CLOSES = tuple(form.closes for form in THINKING)
_PARTS_OF_CLOSES = prefixes(_CLOSES)
_MAY_CLOSE = re.compile("[" + "".join({mark[0] for mark in _CLOSES}) + r"]|\s\Z")


class ThinkingBlock:
    """The thinking at the start of a generation. `over` becomes true with the first character of the answer.

    `inside`: the prompt has opened the block already.
    """

    def __init__(self, *, inside: bool) -> None:
        self.over = False
        self._inside = inside
        self._begun = False  # it is known whether there is a block
        self._closed = False
        self._closes = _CLOSES
        self._spoken = False
        self._held = ""

    @property
    def goes_on(self) -> bool:
        """Whether what comes next is thinking, as far as is known."""
        return self._inside and not self._closed and not self.over

    def feed(self, text: str, *, ended: bool = False) -> tuple[str, str]:
        """Return the reasoning that is certain now, and what belongs to the answer (only once `over`).

        White space around the reasoning is dropped, and what stands between it and the answer.
        """
        if self._spoken and not self._held and not self._closed and not ended and not _MAY_CLOSE.search(text):
            return text, ""
        self._held += text
        if not self._begun:
            self._begin(ended)
        reasoning = self._read(ended) if self._begun and self._inside and not self._closed else ""
        if self._closed:
            self._held = self._held.lstrip()
            self.over = bool(self._held)
        elif self._begun and not self._inside:
            self.over = True
        if ended or self.over:
            self.over = True
            rest, self._held = self._held, ""
            return reasoning, rest
        return reasoning, ""

    def _begin(self, ended: bool) -> None:
        start = self._held.lstrip()
        for form in THINKING:
            if start.startswith(form.opens):
                self._begun = self._inside = True
                self._closes = (form.closes,)
                self._held = start[len(form.opens) :]
                return
        self._begun = ended or not any(opens.startswith(start) for opens in _OPENS)

    def _read(self, ended: bool) -> str:
        held = self._held
        ends = [(held.find(mark), mark) for mark in self._closes if mark in held]
        if ends:
            end, mark = min(ends)
            self._closed = True
            self._held = held[end + len(mark) :]
        else:
            end = len(held)
            at = max(held.rfind(mark[0]) for mark in self._closes)
            if not ended and at >= 0 and held[at:] in _PARTS_OF_CLOSES:
                end = at
            end = len(held[:end].rstrip())
            self._held = "" if ended else held[end:]
        reasoning = held[:end].rstrip()
        if not self._spoken:
            reasoning = reasoning.lstrip()
            self._spoken = bool(reasoning)
        return reasoning
