"""Remember what the engine was asked and how each answer went: the rows of `GET /requests`."""

import time
from collections import deque
from typing import Any, Literal

import msgspec

State = Literal["running", "done", "cancelled", "cut", "failed"]

_SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "api-key", "x-api-key", "cookie"})
_ROWS_KEPT = 10_000
_BODY_BYTES_KEPT = 64 * 1024 * 1024


class Record(msgspec.Struct, kw_only=True):
    """One request and its answer so far.

    `state`: `running`, also while it stalls; `done` when all of the answer has left; `cancelled` when the client hung
    up before; `cut` when the rule closed the connection; `failed` when the answer is, or ended with, an error. `rule`
    is the position of the rule that answers, None without one. `prompt_tokens` is how many the prompt has, or the texts
    to embed; `tokens_made` counts what was generated until now, `chunks_sent` what of it has left: both as it happens,
    whatever the answer says of its usage. Times are seconds since the epoch; `cancelled_after_s` counts from the start.
    """

    id: str
    path: str
    body: Any
    headers: dict[str, str]
    rule: int | None = None
    started_at: float
    ended_at: float | None = None
    state: State = "running"
    prompt_tokens: int = 0
    chunks_sent: int = 0
    tokens_made: int = 0
    cancelled_after_s: float | None = None

    def end(self, state: State) -> None:
        """Note how the answer ended. The first end counts."""
        if self.state != "running":
            return
        self.state = state
        self.ended_at = time.time()
        if state == "cancelled":
            self.cancelled_after_s = self.ended_at - self.started_at


class Records:
    """The last requests, oldest first. Bounded: rows by number, their bodies by size (then the oldest become null)."""

    def __init__(self) -> None:
        self._rows: deque[Record] = deque(maxlen=_ROWS_KEPT)
        self._with_body: deque[tuple[Record, int]] = deque()
        self._body_bytes = 0

    def add(self, record: Record, size_bytes: int) -> None:
        """Append a row whose body came in `size_bytes`."""
        if len(self._rows) == _ROWS_KEPT and self._with_body and self._with_body[0][0] is self._rows[0]:
            self._forget_a_body()
        self._rows.append(record)
        self._with_body.append((record, size_bytes))
        self._body_bytes += size_bytes
        while self._body_bytes > _BODY_BYTES_KEPT:
            self._forget_a_body()

    def rows(self) -> list[Record]:
        return list(self._rows)

    def clear(self) -> None:
        """Forget everything; answers that run go on unseen."""
        self._rows.clear()
        self._with_body.clear()
        self._body_bytes = 0

    def _forget_a_body(self) -> None:
        record, size_bytes = self._with_body.popleft()
        record.body = None
        self._body_bytes -= size_bytes


def masked(headers: dict[str, str]) -> dict[str, str]:
    """Return the headers with secrets replaced; the scheme of an Authorization header stays readable."""
    return {name: _mask(value) if name in _SECRET_HEADERS else value for name, value in headers.items()}


def _mask(value: str) -> str:
    scheme, space, _ = value.partition(" ")
    return f"{scheme} ••••" if space else "••••"
