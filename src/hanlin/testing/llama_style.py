"""Speak as llama.cpp's server does (build b11549), with what a client of OpenAI's API does not expect.

A null content comes with the role, `usage` appears in the last frame only and has `timings` beside it, tokens have ids
among their likelihoods, and progress is told while the prompt is read. Timings are made up: one millisecond a token.
"""

from hanlin.testing import frames
from hanlin.testing.ask import Ask
from hanlin.testing.frames import Envelope, Json
from hanlin.testing.reply import Choice, Chunk, Counts, Reply
from hanlin.testing.rules import Rule

FINGERPRINT = "b0"


class LlamaSpeaker:
    """The manner `llama`."""

    first_step = 1
    says_done = True

    def __init__(self, envelope: Envelope, ask: Ask, rule: Rule) -> None:
        self._envelope = envelope
        self._ask = ask
        self._rule = rule

    def progress(self, counts: Counts, step: int, steps: int) -> Json | None:
        if not self._ask.return_progress:
            return None
        unread = counts.prompt - counts.cached
        told = {
            "total": counts.prompt,
            "cache": counts.cached,
            "processed": counts.cached + unread * step // steps,
            "time_ms": round(self._rule.prefill_delay_s * step * 1000),
        }
        return {**self._delta(0, {"role": "assistant", "content": None}), "prompt_progress": told}

    def role(self, choice: Choice, index: int) -> Json | None:  # noqa: ARG002 (thinking changes nothing here)
        return self._delta(index, {"role": "assistant", "content": None}) if self._ask.chat else None

    def chunk(self, choice: Choice, chunk: Chunk) -> Json:  # noqa: ARG002 (thinking changes nothing here)
        logprobs = frames.logprobs((chunk,), self._ask, with_ids=True)
        if not self._ask.chat:
            return self._text(chunk.choice, chunk.text, logprobs, None)
        return self._delta(chunk.choice, self._said(chunk), logprobs)

    def finish(self, choice: Choice, index: int) -> Json:
        if not self._ask.chat:
            return self._text(index, "", None, choice.finish_reason)
        return self._framed([{"finish_reason": choice.finish_reason, "index": index, "delta": {}}])

    def usage(self, counts: Counts) -> Json:
        return {**self._framed([]), "usage": frames.usage(counts, self._rule), "timings": timings(counts)}

    def whole(self, reply: Reply) -> Json:
        answer: Json = {
            "choices": [self._choice(choice, index) for index, choice in enumerate(reply.choices)],
            "created": self._envelope.created,
            "model": self._envelope.model,
            "system_fingerprint": FINGERPRINT,
            "object": "chat.completion" if self._ask.chat else "text_completion",
        }
        if not self._rule.omit_usage:
            answer["usage"] = frames.usage(reply.counts, self._rule)
        return {**answer, "id": self._envelope.id, "timings": timings(reply.counts)}

    @staticmethod
    def error(identity: str, status: int, message: str) -> Json:  # noqa: ARG004 (its errors have no id)
        kinds = {
            400: "invalid_request_error",
            401: "authentication_error",
            404: "not_found_error",
            503: "unavailable_error",
        }
        return {"error": {"code": status, "message": message, "type": kinds.get(status, "server_error")}}

    @staticmethod
    def too_long(identity: str, prompt_tokens: int, context_tokens: int) -> Json:  # noqa: ARG004 (its errors have no id)
        message = (
            f"request ({prompt_tokens} tokens) exceeds the available context size ({context_tokens} tokens), "
            "try increasing it"
        )
        error = {"code": 400, "message": message, "type": "exceed_context_size_error"}
        return {"error": {**error, "n_prompt_tokens": prompt_tokens, "n_ctx": context_tokens}}

    def _said(self, chunk: Chunk) -> Json:
        if chunk.kind in ("thinking", "text"):
            return {self._rule.reasoning_field if chunk.kind == "thinking" else "content": chunk.text}
        if chunk.kind == "call":
            identity = frames.call_id(self._envelope, chunk.choice, chunk.call).removeprefix("call_")
            function = {"name": chunk.text, "arguments": ""}
            return {"tool_calls": [{"index": chunk.call, "id": identity, "type": "function", "function": function}]}
        return {"tool_calls": [{"index": chunk.call, "function": {"arguments": chunk.text}}]}

    def _choice(self, choice: Choice, index: int) -> Json:
        logprobs = frames.logprobs(choice.chunks, self._ask, with_ids=True)
        likelihoods = {"logprobs": logprobs} if logprobs is not None else {}
        reason = choice.finish_reason
        if not self._ask.chat:
            return {"text": choice.text("text"), "index": index, "logprobs": logprobs, "finish_reason": reason}
        text = self._ask.said + choice.text("text")  # unstreamed, the message that was continued is told as well
        message: Json = {"role": "assistant", "content": None if choice.calls and not text else text}
        if choice.thinks:
            message[self._rule.reasoning_field] = choice.text("thinking")
        if choice.calls:
            message["tool_calls"] = [
                {
                    "type": "function",
                    "function": {"name": name, "arguments": arguments},
                    "id": frames.call_id(self._envelope, index, number).removeprefix("call_"),
                }
                for number, name, arguments in frames.calls(choice)
            ]
        return {"finish_reason": reason, "index": index, "message": message, **likelihoods}

    def _delta(self, index: int, delta: Json, logprobs: Json | None = None) -> Json:
        likelihoods = {"logprobs": logprobs} if logprobs is not None else {}
        return self._framed([{"finish_reason": None, "index": index, "delta": delta, **likelihoods}])

    def _text(self, index: int, text: str, logprobs: Json | None, finish_reason: str | None) -> Json:
        return self._framed([{"text": text, "index": index, "logprobs": logprobs, "finish_reason": finish_reason}])

    def _framed(self, choices: list[Json]) -> Json:
        return {
            "choices": choices,
            "created": self._envelope.created,
            "id": self._envelope.id,
            "model": self._envelope.model,
            "system_fingerprint": FINGERPRINT,
            "object": "chat.completion.chunk" if self._ask.chat else "text_completion",
        }


def timings(counts: Counts) -> Json:
    """Return the server's account of an answer: tokens and times, read and made."""
    read, made = counts.prompt - counts.cached, counts.completion
    return {
        "cache_n": counts.cached,
        "prompt_n": read,
        "prompt_ms": float(read),
        "prompt_per_token_ms": 1.0,
        "prompt_per_second": 1000.0,
        "predicted_n": made,
        "predicted_ms": float(made),
        "predicted_per_token_ms": 1.0,
        "predicted_per_second": 1000.0,
    }
