"""Read a request to generate, as far as the fake engine looks into it."""

from collections.abc import Mapping
from typing import Any

import msgspec

from hanlin.testing import tokens


class Ask(msgspec.Struct, frozen=True):
    """What a caller wants. `question` is the text of the last user message, `prompt` what a model would be given.

    `max_tokens` is the smaller of the request's two limits, None without any.
    """

    body: dict[str, Any]
    chat: bool
    model: str
    question: str
    prompt: str
    stream: bool
    include_usage: bool
    n: int
    max_tokens: int | None
    stop: tuple[str, ...]
    logprobs: bool
    top_logprobs: int
    return_progress: bool

    @property
    def prompt_tokens(self) -> int:
        return tokens.count(self.prompt)


def read(body: Any, *, chat: bool) -> Ask:
    """Return what `body` asks for. Raises ValueError where it is no request at all; it does not judge values."""
    if not isinstance(body, dict):
        raise ValueError("the body is not a JSON object")
    messages = body.get("messages") if chat else [{"role": "user", "content": _prompt(body)}]
    if not isinstance(messages, list) or not all(isinstance(message, dict) for message in messages):
        raise ValueError("'messages' is not a list of objects")
    options = body.get("stream_options")
    limits = [body[name] for name in ("max_tokens", "max_completion_tokens") if isinstance(body.get(name), int)]
    wanted = body.get("logprobs")
    return Ask(
        body=body,
        chat=chat,
        model=str(body.get("model") or ""),
        question=_question(messages),
        prompt=tokens.prompt_of(messages, body.get("tools") or ()) if chat else _prompt(body),
        stream=body.get("stream") is True,
        include_usage=isinstance(options, Mapping) and options.get("include_usage") is True,
        n=body["n"] if isinstance(body.get("n"), int) and body["n"] > 0 else 1,
        max_tokens=min((limit for limit in limits if limit >= 0), default=None),
        stop=_stops(body.get("stop")),
        logprobs=wanted is not None and wanted is not False,
        # Completions ask for the number of alternatives with `logprobs` itself.
        top_logprobs=int((body.get("top_logprobs") if chat else wanted) or 0),
        return_progress=body.get("return_progress") is True,
    )


def _prompt(body: Mapping[str, Any]) -> str:
    prompt = body.get("prompt")
    if isinstance(prompt, list):
        return tokens.decode(prompt) if all(isinstance(part, int) for part in prompt) else "".join(map(str, prompt))
    return str(prompt or "")


def _question(messages: list[dict[str, Any]]) -> str:
    for message in reversed(messages):
        if message.get("role") == "user":
            return tokens.text_of(message.get("content"))
    return ""


def _stops(stop: Any) -> tuple[str, ...]:
    """Return the stop texts: a string, strings, token ids, or lists of token ids."""
    if isinstance(stop, str):
        return (stop,) if stop else ()
    if not isinstance(stop, list):
        return ()
    return tuple(
        one if isinstance(one, str) else tokens.decode([one] if isinstance(one, int) else one)
        for one in stop
        if one != ""
    )
