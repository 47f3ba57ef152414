"""Text completions of the compatible surface: a prompt, or code with a gap to fill (spec/surfaces.md §5).

Pure translation. The tags of a prompt are the contract's; which ones a model reads is its engine's business.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from hanlin.dialects.compatible import fields as reading
from hanlin.dialects.compatible.answers import usage_object
from hanlin.dialects.compatible.errors import error_frame
from hanlin.errors import HanlinError, InvalidRequest
from hanlin.types import Answering, Body, Burst, ChatResult, CompletionRequest, Usage

_PREFIX, _SUFFIX, _MIDDLE = "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"

_NUMBERS = (
    "temperature",
    "top_p",
    "top_k",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "max_tokens",
)


def parse(body: Body) -> CompletionRequest:
    """Read a request body. Raises InvalidRequest."""
    fields = reading.read(body)
    model = reading.model(fields)
    stream = reading.boolean("stream", fields) or False
    prompt, suffix, fills_gap = _gap(reading.value("prompt", fields), reading.text("suffix", fields))
    return CompletionRequest(
        model=model,
        prompt=prompt,
        suffix=suffix,
        fills_gap=fills_gap,
        sampling=reading.sampling(fields, reading.numbers(fields, _NUMBERS)),
        stream=stream,
        include_usage=reading.include_usage(fields, stream=stream),
        given=reading.given(fields),
    )


def _gap(prompt: Any, suffix: str | None) -> tuple[str, str | None, bool]:
    """Return what stands before and behind the gap, and whether there is one; a prompt without tags is taken whole.

    OpenAI's `suffix` counts where the prompt has no tags.
    """
    if prompt is None:
        raise InvalidRequest('Either "prompt" or "messages" must exist and cannot both be none', param="prompt")
    if not isinstance(prompt, str):
        raise InvalidRequest("'prompt' must be String", param="prompt")
    if not prompt:
        raise InvalidRequest("The prompt field is a required field.", param="prompt")
    if not prompt.startswith((_PREFIX, _SUFFIX)):
        return prompt, suffix, suffix is not None
    before, tag, behind = prompt.partition(_SUFFIX)
    before = before.removeprefix(_PREFIX)
    behind, middle, _ = behind.partition(_MIDDLE)
    if not before:
        raise InvalidRequest(
            f"prompt must be {_PREFIX}{{prefix}}{_SUFFIX} or {_PREFIX}{{prefix}}{_SUFFIX}{{suffix}}{_MIDDLE}: "
            "a suffix alone is not supported",
            param="prompt",
        )
    return before, behind if tag and middle else None, True


def answer(result: ChatResult, answering: Answering, *, id: str, created: int) -> bytes:
    """Return the body of an unstreamed answer."""
    choices = [_choice(choice.text, choice.finish_reason) for choice in result.choices]
    return msgspec.json.encode(
        {**_envelope(answering, id, created), "choices": choices, "usage": usage_object(result.usage)}
    )


def _choice(text: str, finish_reason: str | None) -> dict[str, Any]:
    return {"text": text, "index": 0, "finish_reason": finish_reason, "logprobs": None}


def _envelope(answering: Answering, id: str, created: int) -> dict[str, Any]:
    return {
        "id": id,
        "object": "text_completion",
        "created": created,
        "model": answering.model,
        "system_fingerprint": answering.fingerprint,
    }


class Stream:
    """The same answer as it comes: chunks of the same object."""

    def __init__(self, answering: Answering, *, id: str, created: int, include_usage: bool = False) -> None:
        self._envelope = _envelope(answering, id, created)
        self._include_usage = include_usage
        self._usage: Usage | None = None
        self._encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode

    def open(self) -> bytes:
        """Nothing comes before the first text."""
        return b""

    def frames(self, burst: Burst) -> bytes:
        frames: list[bytes] = []
        for event in burst:
            if event.usage is not None:
                self._usage = event.usage
            elif event.text or event.finish_reason is not None:
                frames.append(self._frame([_choice(event.text, event.finish_reason)], None))
        return b"".join(frames)

    def close(self) -> bytes:
        """The end: the usage chunk where it was asked for, and `[DONE]`."""
        usage = b""
        if self._include_usage and self._usage is not None:
            usage = self._frame([], usage_object(self._usage))
        return usage + b"data: [DONE]\n\n"

    def error(self, problem: HanlinError, request_id: str) -> bytes:
        """One typed error in place of the rest of the answer; nothing follows it."""
        return error_frame(problem, request_id)

    def _frame(self, choices: list[dict[str, Any]], usage: dict[str, Any] | None) -> bytes:
        return b"data: %b\n\n" % self._encode({**self._envelope, "choices": choices, "usage": usage})
