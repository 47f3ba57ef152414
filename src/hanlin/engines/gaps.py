"""Code with a gap, as engines are shown it: in the tags that the weights learned, or in the contract's own."""

from collections.abc import Sequence
from typing import Any

import msgspec

from hanlin.engines.completions import Pass
from hanlin.engines.manner import Manner, sampled
from hanlin.types import CompletionRequest

_PREFIX, _SUFFIX, _MIDDLE = "<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"


def gap_pass(request: CompletionRequest, manner: Manner, stop: Sequence[str]) -> Pass:
    """Return the pass that fills a gap, or goes on where a plain prompt ends.

    A prefix alone is a gap with nothing behind it: without the tag of the middle, models write what comes behind.
    """
    tags = manner.weights.gaps
    prompt = request.prompt
    ends: tuple[str, ...] = ()
    if request.fills_gap and tags is not None:
        prompt = f"{tags.prefix}{request.prompt}{tags.suffix}{request.suffix or ''}{tags.middle}"
        ends = tags.ends
    return Pass(
        prompt=prompt,
        stop=(*stop, *ends),
        limit=request.sampling.max_tokens,
        sampled=sampled(request.sampling, manner.profile),
    )


def encode_gap(request: CompletionRequest, manner: Manner, stop: Sequence[str]) -> bytes:
    """Return the body for a server's own completions."""
    prompt = request.prompt
    if request.fills_gap:
        prompt = f"{_PREFIX}{prompt}{_SUFFIX}"
        prompt += f"{request.suffix}{_MIDDLE}" if request.suffix is not None else ""
    body: dict[str, Any] = {
        "model": manner.there(request.model),
        "prompt": prompt,
        "stream": True,
        "stream_options": {"include_usage": True},
        **sampled(request.sampling, manner.profile),
    }
    if request.sampling.max_tokens is not None:
        body["max_tokens"] = request.sampling.max_tokens
    if stop:
        body["stop"] = stop
    return msgspec.json.encode(body)
