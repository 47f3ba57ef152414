"""Text completion as llama.cpp's server speaks it natively: one body out, steps of the generation in.

Its chat endpoint reads tool calls and thoughts in its own way, and cannot be told where an answer begins; here a prompt
goes out and text comes back.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from hanlin.engines.frames import SSEReader, decoded
from hanlin.types import Sampling, Schema, TokenLogprob

# Left out of the last frame: the prompt and the whole configuration, which it would repeat.
_FIELDS = (
    *("content", "stop", "tokens_predicted", "tokens_evaluated", "stop_type", "stopping_word"),
    *("timings/cache_n", "completion_probabilities"),
)


class Step(msgspec.Struct, frozen=True):
    """A frame: some text, or the end. The counts are of the generation so far, `cached` comes with the end only.

    `tokens` are the ids of what was generated; their text may come later, while it may still become a stop text.
    """

    content: str = ""
    tokens: list[int] = []
    stop: bool = False
    stop_type: str = ""
    stopping_word: str = ""
    generated: int = msgspec.field(name="tokens_predicted", default=0)
    prompt: int = msgspec.field(name="tokens_evaluated", default=0)
    cached: int = msgspec.field(name="timings/cache_n", default=0)
    logprobs: list[TokenLogprob] = msgspec.field(name="completion_probabilities", default=[])
    error: Any = None


_step = msgspec.json.Decoder(Step)


@dataclass(frozen=True)
class Pass:
    """One generation: what it continues, where it ends, and what it is held to."""

    prompt: str
    stop: tuple[str, ...] = ()
    limit: int | None = None
    schema: Schema | None = None
    alternatives: int = 0
    sampled: Mapping[str, Any] = field(default_factory=dict)

    def body(self) -> bytes:
        """Return the request's body. `alternatives` above 0 asks for the likelihoods of each token."""
        body: dict[str, Any] = {"prompt": self.prompt, "stream": True, "response_fields": _FIELDS, **self.sampled}
        body["stop"] = self.stop
        if self.limit is not None:
            body["n_predict"] = self.limit
        if self.schema is not None:
            body["json_schema"] = self.schema
        if self.alternatives:
            body["n_probs"] = self.alternatives
        return msgspec.json.encode(body)


def reseeded(sampling: Sampling, by: int) -> Sampling:
    """Return the sampling of another try at the same thing."""
    return msgspec.structs.replace(sampling, seed=((sampling.seed or 0) + by) % 2**31)


class Steps:
    """Turn the bytes of one completion's stream into its steps. `done` becomes true with the last one."""

    def __init__(self) -> None:
        self._reader = SSEReader()
        self.done = False

    def feed(self, piece: bytes) -> Sequence[Step]:
        """Return the steps that `piece` completes. Raises EngineFailed for errors and for what is no frame."""
        steps = []
        for data in self._reader.feed(piece):
            if data.startswith(b"[DONE]"):
                break
            step = decoded(data, _step, "completion")
            steps.append(step)
            self.done = self.done or step.stop
        return steps
