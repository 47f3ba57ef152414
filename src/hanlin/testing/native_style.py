"""Speak as llama.cpp's server does at `POST /completion` (build b11549): its own frames, not OpenAI's.

A stream has no `[DONE]`. `tokens` of a frame are the ids that were made, also while their text is held back; the frame
in which a stop text was found has `timings`; the last frame tells everything, or only what `response_fields` names.
"""

from typing import Any

import msgspec

from hanlin.testing import frames, tokens
from hanlin.testing.ask import Ask
from hanlin.testing.frames import Envelope, Json
from hanlin.testing.llama_style import LlamaSpeaker, timings
from hanlin.testing.reply import Choice, Chunk, Counts, Reply
from hanlin.testing.rules import Rule

END_ID = 3
"""The id of the token that ends a generation; it is counted as any other."""


class NativeSpeaker:
    """The manner of native completions."""

    first_step = 0
    says_done = False

    def __init__(self, envelope: Envelope, ask: Ask, rule: Rule) -> None:
        self._envelope = envelope
        self._ask = ask
        self._rule = rule
        self._prompt_tokens = ask.prompt_tokens
        self._cached = 0

    def progress(self, counts: Counts, step: int, steps: int) -> Json | None:
        # Asked first, whether it is told or not: later frames know only their choice.
        self._cached = counts.cached
        if not self._ask.return_progress:
            return None
        told = {
            "total": counts.prompt,
            "cache": counts.cached,
            "processed": counts.cached + (counts.prompt - counts.cached) * step // steps,
            "time_ms": round(self._rule.prefill_delay_s * step * 1000),
        }
        return {**self._frame(0, "", [0], 0), "prompt_progress": told}

    def role(self, choice: Choice, index: int) -> Json | None:  # noqa: ARG002 (it has no roles)
        return None

    def chunk(self, choice: Choice, chunk: Chunk) -> Json:
        frame = self._frame(chunk.choice, chunk.said, _ids(chunk), chunk.made)
        if choice.stop_type == "word" and chunk is choice.chunks[-1]:
            frame["timings"] = self._timings(chunk.made)
        if self._ask.logprobs:
            frame["completion_probabilities"] = self._likelihoods(chunk, chunk.said)
        return frame

    def finish(self, choice: Choice, index: int) -> Json:
        return self._selected(self._whole(choice, index, ""))

    def usage(self, counts: Counts) -> Json:
        raise NotImplementedError("native completions have no usage frame")

    def whole(self, reply: Reply) -> Json:
        self._cached = reply.counts.cached
        answers = [self._unstreamed(choice, index) for index, choice in enumerate(reply.choices)]
        # Several answers are a list, which `Json` does not say: only what encodes it sees them.
        return answers[0] if len(answers) == 1 else answers  # type: ignore[return-value]

    @staticmethod
    def error(identity: str, status: int, message: str) -> Json:
        return LlamaSpeaker.error(identity, status, message)

    @staticmethod
    def too_long(identity: str, prompt_tokens: int, context_tokens: int) -> Json:
        return LlamaSpeaker.too_long(identity, prompt_tokens, context_tokens)

    def _unstreamed(self, choice: Choice, index: int) -> Json:
        text = "".join(chunk.text for chunk in choice.chunks)
        chunks = choice.chunks
        if choice.stop_type == "word":
            text = text[: text.index(choice.stopping_word)]
        answer = self._whole(choice, index, text)
        if self._ask.body.get("return_tokens") is True:
            answer["tokens"] = [one for chunk in chunks for one in _ids(chunk)]
        if self._ask.logprobs:
            told = [entry for chunk in chunks for entry in self._likelihoods(chunk, chunk.text)]
            stop_tokens = tokens.count(choice.stopping_word)
            answer["completion_probabilities"] = told[: len(told) - stop_tokens]
        return self._selected(answer)

    def _whole(self, choice: Choice, index: int, content: str) -> Json:
        made = choice.chunks[-1].made if choice.chunks else 0
        slot = self._ask.body.get("id_slot")
        return {
            "index": index,
            "content": content,
            "tokens": [],
            "id_slot": slot if isinstance(slot, int) and slot >= 0 else 0,
            "stop": True,
            "model": self._envelope.model,
            "tokens_predicted": made,
            "tokens_evaluated": self._prompt_tokens,
            "generation_settings": self._settings(),
            "prompt": self._ask.prompt,
            "has_new_line": any("\n" in chunk.text for chunk in choice.chunks),
            "truncated": choice.truncated,
            "stop_type": choice.stop_type,
            "stopping_word": choice.stopping_word,
            "tokens_cached": max(self._prompt_tokens + made - 1, 0),
            "timings": self._timings(made),
        }

    def _frame(self, index: int, content: str, ids: list[int], made: int) -> Json:
        return {
            "index": index,
            "content": content,
            "tokens": ids,
            "stop": False,
            "id_slot": -1,
            "tokens_predicted": made,
            "tokens_evaluated": self._prompt_tokens,
        }

    def _settings(self) -> Json:
        """Return what the generation was told, as far as the fake knows it."""
        body = self._ask.body
        limit = body.get("n_predict", body.get("max_tokens", -1))
        schema = body.get("json_schema")
        made = "" if schema is None else f"%llguidance {{}}\nstart: %json {msgspec.json.encode(schema).decode()}"
        usual: Json = {"seed": 4294967295, "temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05}
        return {
            **{name: body.get(name, value) for name, value in usual.items()},
            "stop": list(self._ask.stop),
            "max_tokens": limit,
            "n_predict": limit,
            "stream": self._ask.stream,
            "n_probs": self._ask.top_logprobs,
            "grammar": body.get("grammar") or made,
        }

    def _selected(self, answer: Json) -> Json:
        """Return only the wanted fields, where some are named: a path is a name with slashes, and stays one."""
        wanted = self._ask.body.get("response_fields")
        if not wanted:
            return answer
        found = {path: _at(answer, path) for path in wanted}
        return {path: value for path, value in found.items() if value is not _NOTHING}

    def _timings(self, made: int) -> Json:
        return timings(Counts(prompt=self._prompt_tokens, completion=made, reasoning=0, cached=self._cached))

    def _likelihoods(self, chunk: Chunk, said: str) -> list[Json]:
        """Return the likelihood of each token; its text is what left with it, the alternatives' their own."""
        entries: list[Json] = []
        for token in chunk.tokens:
            text = said if len(chunk.tokens) == 1 else token
            identity = {"id": END_ID} if chunk.kind == "end" else {}
            ranks = [
                {**frames.likelihood(token, rank, with_ids=not identity), **identity}
                for rank in range(self._ask.top_logprobs)
            ]
            spelled = list(text.encode("utf-8", "surrogatepass"))
            entries.append({**ranks[0], "token": text, "bytes": spelled, "top_logprobs": ranks})
        return entries


_NOTHING: Any = object()


def _at(answer: Json, path: str) -> Any:
    found: Any = answer
    for step in path.split("/"):
        if not isinstance(found, dict) or step not in found:
            return _NOTHING
        found = found[step]
    return found


def _ids(chunk: Chunk) -> list[int]:
    return [END_ID] if chunk.kind == "end" else [one for token in chunk.tokens for one in tokens.encode(token)]
