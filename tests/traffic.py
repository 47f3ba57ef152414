"""Callers that ask a service for everything it generates, for ever, and keep book of what they got."""

import http.client
import itertools
import json
import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hanlin.testing import Rule

RULES = [
    Rule(contains="slowly", text="慢" * 300, chunk_delay_s=0.01, first_delay_s=0.05),
    Rule(contains="think", thinking="想一想" * 4, text="好的", chunk_delay_s=0.002, thinks_when_asked=True),
    Rule(contains="break", text="天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往", cut_after_chunks=7, chunk_delay_s=0.002),
    Rule(contains="fail", status=500),
    Rule(text="春眠不觉晓，处处闻啼鸟。", chunk_delay_s=0.002),
]
"""What the engine makes of the words that callers say; a piece is a token."""

DEADLINE_S = 60.0
_BETWEEN_TRIES_S = 0.02


@dataclass(frozen=True)
class Kind:
    """A way to call: the route, the word that says what the engine does, after how many pieces the caller leaves."""

    path: str
    word: str = "hello"
    stream: bool = False
    leaves_after: int | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    def body(self, tag: str) -> bytes:
        text = f"{self.word} {tag}"
        bodies: dict[str, dict[str, Any]] = {
            "/chat/completions": {"model": "qwen-plus", "messages": [{"role": "user", "content": text}]},
            "/completions": {"model": "qwen-coder-turbo", "prompt": text},
            "/embeddings": {"model": "text-embedding-v4", "input": [text, "你好"], "dimensions": 1024},
        }
        return json.dumps({**bodies[self.path], **({"stream": True} if self.stream else {}), **self.more}).encode()


CHAT, TEXT, VECTORS = "/chat/completions", "/completions", "/embeddings"
KINDS = (
    *(Kind(path, word, stream) for path in (CHAT, TEXT) for stream in (False, True) for word in ("hello", "slowly")),
    *(Kind(path, "slowly", stream=True, leaves_after=5) for path in (CHAT, TEXT)),
    *(Kind(path, "break", stream) for path in (CHAT, TEXT) for stream in (False, True)),
    *(Kind(path, "fail") for path in (CHAT, TEXT, VECTORS)),
    *(Kind(VECTORS, word) for word in ("hello", "hello", "slowly")),
    *(Kind(CHAT, "think", stream, more={"enable_thinking": True}) for stream in (False, True)),
    *(Kind(CHAT, "hello", stream, more={"n": 2}) for stream in (False, True)),
)


@dataclass
class Seen:
    """What a caller saw of one call. `whole`: to the last byte; `pieces` of an answer have come, `id` is its call's."""

    tag: str
    kind: Kind
    began: float
    ended: float = 0.0
    id: str = ""
    status: int = 0
    pieces: int = 0
    whole: bool = False
    error: bool = False


class Caller(threading.Thread):
    """Makes one call after the other with a key of its own, whatever becomes of them, until `over`."""

    def __init__(self, port: int, key: str, name: str, over: threading.Event) -> None:
        super().__init__(name=name)
        self.seen: list[Seen] = []
        self._port = port
        self._headers = {"authorization": f"Bearer {key}"}
        self._over = over
        self._chance = random.Random(name)

    def run(self) -> None:
        for number in itertools.count():
            if self._over.is_set():
                return
            seen = Seen(f"<{self.name}.{number}>", self._chance.choice(KINDS), time.time())
            try:
                self._call(seen)
            except (OSError, http.client.HTTPException):  # the service died, or is not there
                time.sleep(_BETWEEN_TRIES_S)
            seen.ended = time.time()
            self.seen.append(seen)

    def _call(self, seen: Seen) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=DEADLINE_S)
        try:
            connection.request("POST", f"/v1{seen.kind.path}", seen.kind.body(seen.tag), self._headers)
            answer = connection.getresponse()
            seen.status, seen.id = answer.status, answer.headers.get("x-request-id", "")
            if not seen.kind.stream or answer.status != http.client.OK:
                answer.read()
                seen.error = answer.status != http.client.OK
                seen.whole = True
                return
            for line in answer:
                _note(seen, line)
                if seen.kind.leaves_after is not None and seen.pieces >= seen.kind.leaves_after:
                    return
        finally:
            connection.close()


def _note(seen: Seen, line: bytes) -> None:
    seen.whole |= line.startswith(b"data: [DONE]")
    if not line.startswith(b"data: {"):
        return
    frame = json.loads(line[6:])
    if "error" in frame:
        seen.error = seen.whole = True
    for choice in frame.get("choices", ()):
        said = choice.get("delta", choice)
        seen.pieces += any(said.get(name) for name in ("content", "reasoning_content", "text"))


__all__ = ["DEADLINE_S", "RULES", "Caller", "Kind", "Seen"]
