"""Speak as Model Studio's compatible mode does: each frame field by field, in the order of spec/chat.md §4."""

from hanlin.testing import frames
from hanlin.testing.ask import Ask
from hanlin.testing.frames import Envelope, Json
from hanlin.testing.reply import Choice, Chunk, Counts, Reply
from hanlin.testing.rules import Rule

_ERRORS = {  # type and code of an error by its status, spec/chat.md §12
    400: ("invalid_request_error", "invalid_parameter_error"),
    401: ("invalid_request_error", "invalid_api_key"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("limit_requests", "limit_requests"),
    500: ("internal_error", "internal_error"),
    503: ("ModelUnavailable", "ModelUnavailable"),
}


class OpenAISpeaker:
    """The manner `openai`; completions have the frames of OpenAI's text completions."""

    first_step = 1
    says_done = True

    def __init__(self, envelope: Envelope, ask: Ask, rule: Rule) -> None:
        self._envelope = envelope
        self._ask = ask
        self._rule = rule
        self._thinking: str = rule.reasoning_field

    def progress(self, counts: Counts, step: int, steps: int) -> Json | None:  # noqa: ARG002 (it tells no progress)
        return None

    def role(self, choice: Choice, index: int) -> Json | None:
        if not self._ask.chat:
            return None
        if choice.thinks:
            return self._delta(index, {"content": None, "role": "assistant", self._thinking: ""})
        return self._delta(index, {"content": "", "role": "assistant"})

    def chunk(self, choice: Choice, chunk: Chunk) -> Json:
        logprobs = frames.logprobs((chunk,), self._ask, with_ids=False)
        if not self._ask.chat:
            return self._text(chunk.choice, chunk.text, logprobs, None)
        if chunk.kind == "thinking":
            return self._delta(chunk.choice, {"content": None, self._thinking: chunk.text})
        if chunk.kind == "text":
            # The field that is not used is an explicit null, but only in answers that think.
            unused = {self._thinking: None} if choice.thinks else {}
            return self._delta(chunk.choice, {"content": chunk.text, **unused}, logprobs)
        if chunk.kind == "call":
            return self._delta(chunk.choice, {"content": None, "tool_calls": [self._call(chunk, chunk.text, "")]})
        return self._delta(chunk.choice, {"tool_calls": [self._call(chunk, None, chunk.text)]})

    def finish(self, choice: Choice, index: int) -> Json:
        if not self._ask.chat:
            return self._text(index, "", None, choice.finish_reason)
        unused = {"tool_calls": None} if choice.calls else {self._thinking: None} if choice.thinks else {}
        return self._framed(
            [
                {
                    "delta": {"content": "", **unused},
                    "finish_reason": choice.finish_reason,
                    "index": index,
                    "logprobs": None,
                }
            ]
        )

    def usage(self, counts: Counts) -> Json:
        return self._framed([], frames.usage(counts, self._rule))

    def whole(self, reply: Reply) -> Json:
        answer: Json = {
            "id": self._envelope.id,
            "object": "chat.completion" if self._ask.chat else "text_completion",
            "created": self._envelope.created,
            "model": self._envelope.model,
            "system_fingerprint": None,
            "choices": [self._choice(choice, index) for index, choice in enumerate(reply.choices)],
        }
        return answer if self._rule.omit_usage else {**answer, "usage": frames.usage(reply.counts, self._rule)}

    @staticmethod
    def error(identity: str, status: int, message: str) -> Json:
        kind, code = _ERRORS.get(status, _ERRORS[400 if status < 500 else 500])
        error = {"message": message, "type": kind, "param": None, "code": code}
        return {"error": error, "id": identity, "request_id": identity.removeprefix("chatcmpl-")}

    @staticmethod
    def too_long(identity: str, prompt_tokens: int, context_tokens: int) -> Json:  # noqa: ARG004 (not in the vendor's text)
        return OpenAISpeaker.error(identity, 400, f"Range of input length should be [1, {context_tokens}]")

    def _choice(self, choice: Choice, index: int) -> Json:
        logprobs = frames.logprobs(choice.chunks, self._ask, with_ids=False)
        if not self._ask.chat:
            return {
                "text": choice.text("text"),
                "index": index,
                "logprobs": logprobs,
                "finish_reason": choice.finish_reason,
            }
        message: Json = {"role": "assistant", "content": choice.text("text")}
        if choice.thinks:
            message[self._thinking] = choice.text("thinking")
        if choice.calls:
            message["tool_calls"] = [
                {
                    "id": frames.call_id(self._envelope, index, number),
                    "type": "function",
                    "index": number,
                    "function": {"name": name, "arguments": arguments},
                }
                for number, name, arguments in frames.calls(choice)
            ]
        return {"index": index, "finish_reason": choice.finish_reason, "logprobs": logprobs, "message": message}

    def _call(self, chunk: Chunk, name: str | None, arguments: str) -> Json:
        # Only the first fragment carries the id; the others have an empty one (spec/chat.md §4.4).
        identity = frames.call_id(self._envelope, chunk.choice, chunk.call) if name is not None else ""
        function = {"name": name, "arguments": arguments}
        return {"index": chunk.call, "id": identity, "type": "function", "function": function}

    def _delta(self, index: int, delta: Json, logprobs: Json | None = None) -> Json:
        return self._framed([{"delta": delta, "index": index, "logprobs": logprobs, "finish_reason": None}])

    def _text(self, index: int, text: str, logprobs: Json | None, finish_reason: str | None) -> Json:
        return self._framed([{"text": text, "index": index, "logprobs": logprobs, "finish_reason": finish_reason}])

    def _framed(self, choices: list[Json], usage: Json | None = None) -> Json:
        return {
            "choices": choices,
            "object": "chat.completion.chunk" if self._ask.chat else "text_completion",
            "usage": usage,
            "created": self._envelope.created,
            "system_fingerprint": None,
            "model": self._envelope.model,
            "id": self._envelope.id,
        }
