"""The calls of one translation: how tokens are drawn, how long an answer may get, what it all used."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from hanlin.recipes.recipe import Base
from hanlin.recipes.translation.segmenting import size
from hanlin.types import ChatRequest, Message, Sampling, Shape

_TIMES_SOURCE = 3  # a translation three times as long as its text is none: the model repeats itself
_LEAST_TOKENS = 64


@dataclass(frozen=True)
class Said:
    """An answer of the base model. `cut`: its tokens were used up; `tokens`: how many it has."""

    text: str
    cut: bool
    tokens: int


@dataclass
class Asking:
    """Asks the base model as the caller's request wants it; `calls` counts."""

    request: ChatRequest
    base: Base
    calls: int = 0
    _empty: int | None = field(default=None, init=False)

    @property
    def draws(self) -> bool:
        """Whether answers that are drawn differ: at temperature 0 all of them are the likeliest one."""
        return self.request.sampling.temperature != 0

    async def say(
        self, messages: tuple[Message, ...], source: str, seed: int | None, *, limit: int | None = None
    ) -> Said:
        """Return the answer to a prompt about `source`, the likeliest one; with a `seed`, one that is drawn.

        It ends after `limit` tokens, where there is one, and in any case when it cannot be a translation any more.
        """
        most = int(_TIMES_SOURCE * max(size(source), 1)) + _LEAST_TOKENS
        most = most if limit is None else min(most, limit)
        return await self._answer(messages, self._sampling(seed, most), None)

    async def pick(self, messages: tuple[Message, ...], words: Sequence[str]) -> str:
        """Return which of some words answers a question; "" where the model says something else."""
        schema = {
            "type": "object",
            "properties": {"words": {"enum": list(words)}},
            "required": ["words"],
            "additionalProperties": False,
        }
        shape = Shape("json_schema", "words", schema) if self.base.can_shape else None
        most = int(2 * max(map(size, words))) + _LEAST_TOKENS
        said = await self._answer(messages, self._sampling(None, most), shape)
        if shape is None:
            return said.text.strip(" .。\"“”'`")
        try:
            answer: Any = msgspec.json.decode(said.text)
            word = answer["words"]
        except (msgspec.DecodeError, KeyError, TypeError):
            return ""
        return word if isinstance(word, str) else ""

    async def tokens_of(self, text: str) -> int:
        """Return how many tokens a text has by itself."""
        if self._empty is None:
            self._empty = await self.base.count(self._asked((Message("user", ""),), Sampling(), None))
        count = await self.base.count(self._asked((Message("user", text),), Sampling(), None))
        return max(count - self._empty, 0)

    async def prompt_tokens(self, messages: tuple[Message, ...]) -> int:
        """Return the tokens of a prompt, the model's own template included."""
        return await self.base.count(self._asked(messages, Sampling(), None))

    async def _answer(self, messages: tuple[Message, ...], sampling: Sampling, shape: Shape | None) -> Said:
        self.calls += 1
        result = await self.base.answer(self._asked(messages, sampling, shape))
        choice = result.choices[0]
        return Said(choice.text, choice.finish_reason == "length", result.usage.completion)

    def _asked(self, messages: tuple[Message, ...], sampling: Sampling, shape: Shape | None) -> ChatRequest:
        return ChatRequest(self.request.model, messages, sampling, shape=shape, repeatable=True)

    def _sampling(self, seed: int | None, most: int) -> Sampling:
        """The contract's default is the likeliest token (top_k 1), whatever the temperature."""
        own = self.request.sampling
        drawn = seed is not None
        if own.top_k in (None, 1) and not drawn:
            return Sampling(
                temperature=0.0,
                top_k=1,
                presence_penalty=own.presence_penalty,
                frequency_penalty=own.frequency_penalty,
                repetition_penalty=own.repetition_penalty,
                seed=own.seed,
                max_tokens=most,
            )
        return Sampling(
            temperature=own.temperature if own.temperature is not None else _TEMPERATURE,
            top_p=own.top_p if own.top_p is not None else _TOP_P,
            top_k=_DRAWN_TOP_K if own.top_k in (None, 1) else own.top_k,
            presence_penalty=own.presence_penalty,
            frequency_penalty=own.frequency_penalty,
            repetition_penalty=own.repetition_penalty,
            seed=((own.seed or 0) + seed) % _SEEDS if seed is not None else own.seed,
            max_tokens=most,
        )


# The contract's own (catalogue/sampling.toml, "qwen-mt"), for the translations that are drawn to be chosen from.
_TEMPERATURE = 0.65
_TOP_P = 0.8
_DRAWN_TOP_K = 20
_SEEDS = 2**31

__all__ = ["Asking", "Said"]
