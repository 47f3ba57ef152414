"""Go on with an answer where another deployment left it: what has been said, and the request that takes it up.

Only plain text can be taken up: thoughts, calls and JSON are in a state that no prompt can restore.
"""

import msgspec

from hanlin.errors import EngineFailed
from hanlin.metering.estimate import generated_tokens
from hanlin.types import Burst, ChatRequest, Event, Message, Texts, Thinking, Usage


class Said(msgspec.Struct, kw_only=True, eq=False):
    """What one choice has said so far. `plain`: it is to be nothing but text. Made for every call, hence a Struct.

    `anything`: an event with content has come. `hidden`: the caller sees nothing before the end, so that all of it can
    be taken back. `before` counts the tokens that earlier attempts have said of this answer. `finish_reason` and
    `usage` are there once it is over; `pieces` is how much has come until now, about a token each. `unseen` are the
    tokens that were generated, as far as anybody can tell, of an answer that would have come as a whole and did not.
    """

    hidden: bool
    plain: bool
    anything: bool = False
    before: int = 0
    pieces: int = 0
    unseen: int = 0
    finish_reason: str | None = None
    usage: Usage | None = None
    _texts: list[str] = []
    _thoughts: list[str] = []

    @property
    def sent(self) -> bool:
        """Whether the caller has seen a part of the answer."""
        return self.anything and not self.hidden

    def check(self) -> None:
        """Raise EngineFailed for an answer that is over without a reason."""
        if self.finish_reason is None:
            raise EngineFailed("its answer ended without a finish reason")

    @property
    def can_continue(self) -> bool:
        """Whether it is plain text, and not over yet."""
        return self.plain and bool(self._texts) and self.finish_reason is None

    def _note(self, burst: Burst) -> None:
        """Take note of what came. A piece of text is taken for a token."""
        if type(burst) is Texts:
            self.anything = True
            self._texts += burst.texts
            self.pieces += len(burst.texts)
            return
        for event in burst:
            if event.usage is not None:
                self.usage = event.usage
                continue
            self.anything = True
            self.pieces += bool(event.text or event.reasoning or event.call)
            if event.is_text:
                self._texts.append(event.text)
                continue
            if event.text:
                self._texts.append(event.text)
            if event.finish_reason is not None:
                self.finish_reason = event.finish_reason
            if event.reasoning or event.call is not None:
                self.plain = False
                if event.reasoning:
                    self._thoughts.append(event.reasoning)

    def used(self, prompt_tokens: int) -> Usage | None:
        """Return what it used: as it was counted, or a guess of what has come until now; None before anything has."""
        if self.usage is not None:
            return self.usage
        if not (self.pieces or self.unseen):
            return None
        reasoning = generated_tokens(len(self._thoughts), "".join(self._thoughts))
        said = generated_tokens(self.pieces - len(self._thoughts), "".join(self._texts))
        return Usage(prompt_tokens, max(reasoning + said, self.unseen), reasoning=reasoning, estimated=True)

    def take_back(self) -> Event:
        """Forget everything, and return the event that makes others forget it. Nobody pays for it, either."""
        self.anything = False
        self.pieces = self.unseen = 0
        self.finish_reason = self.usage = None
        self._texts.clear()
        self._thoughts.clear()
        return Event(restart=True)

    def taken_up(self) -> tuple[str, int]:
        """Return all text, and in how many pieces it came: another attempt goes on behind it."""
        self.before = len(self._texts)
        return "".join(self._texts), self.before

    def noted(self, burst: Burst) -> Burst:
        """Take note of a burst and return it; the usage of a continuing attempt becomes that of the whole answer."""
        if self.before and type(burst) is not Texts:
            burst = [e if e.usage is None else Event(usage=_of_all(e.usage, self.before)) for e in burst]
        self._note(burst)
        return burst


def continued(request: ChatRequest, text: str, tokens: int) -> ChatRequest:
    """Return the request that goes on behind what was said, in about so many tokens."""
    messages = request.messages
    if request.partial:
        text, messages = messages[-1].text + text, messages[:-1]
    sampling = request.sampling
    return request.changed(
        messages=(*messages, Message("assistant", text)),
        partial=True,
        thinking=Thinking(),
        sampling=msgspec.structs.replace(
            sampling,
            max_tokens=less(sampling.max_tokens, tokens),
            max_completion_tokens=less(sampling.max_completion_tokens, tokens),
        ),
    )


def less(limit: int | None, said: int) -> int | None:
    """Return what is left of a limit of tokens."""
    return None if limit is None else max(limit - said, 1)


def _of_all(usage: Usage, before: int) -> Usage:
    """Return the usage of an answer that was continued behind so many pieces: they stood in the second prompt."""
    prompt = max(usage.prompt - before, 0)
    return msgspec.structs.replace(
        usage,
        prompt=prompt,
        completion=usage.completion + before,
        cached=min(usage.cached, prompt),
        estimated=True,
    )
