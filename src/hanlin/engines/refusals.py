"""What a server's refusal means: by its status first, by its words second. The same on every surface."""

import math
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from hanlin.engines.frames import by_code
from hanlin.engines.profiles import Failing
from hanlin.errors import EngineBusy, EngineFailed, EngineRefused, EngineUnavailable, HanlinError, InvalidRequest

_RETRY_S = 5
_KEY_REFUSED = frozenset({401, 402})
_NAME_REFUSED = frozenset({403, 404})
_AWAY = frozenset({502, 503, 504, 529})  # a proxy without its server, one that is loading, one that has too much to do
_BUSY_S = 1.0  # how long a server is left alone that is busy and does not say for how long
_LONGEST_RETRY_S = 60  # SDKs obey no longer ones (spec/surfaces.md §9.1)


class Refusal(msgspec.Struct, frozen=True):
    """A response that is no answer. `told` is the error that it holds, undecoded; None where it holds none.

    `context_tokens` is there where a prompt of `prompt_tokens` was too long for the server's context, else 0.
    """

    status: int
    message: str
    told: Any = None
    asked_wait_s: int | None = None
    prompt_tokens: int = 0
    context_tokens: int = 0

    @classmethod
    def read(cls, status: int, headers: Mapping[str, str], data: bytes) -> "Refusal":
        asked_s = _asked_wait_s(headers)
        try:
            told = msgspec.json.decode(data, type=_ErrorBody).error
            error = msgspec.convert(told, _Error)
        except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError):
            return cls(status, data[:300].decode("utf-8", "replace"), asked_wait_s=asked_s)
        too_long = status == 400 and error.type == "exceed_context_size_error"
        return cls(status, error.message, told, asked_s, error.n_prompt_tokens, error.n_ctx if too_long else 0)

    def problem(self, codes: Mapping[str, Failing]) -> HanlinError:
        """Return the error that it stands for; `codes` are the server's own."""
        problem = by_code(self.told, codes)
        if problem is None:
            return _problem(self.status, self.message, self.asked_wait_s)
        if isinstance(problem, EngineBusy | EngineUnavailable) and self.asked_wait_s is not None:
            problem.retry_after_s = self.asked_wait_s
            problem.asked_wait_s = self.asked_wait_s
        return problem


def _problem(status: int, message: str, asked_s: int | None) -> HanlinError:
    """Return the error that a status stands for. What is wrong with our key is not for callers to read."""
    if status == 429:
        busy = EngineBusy(message or "the engine answered 429", asked_s or _RETRY_S)
        busy.asked_wait_s = asked_s or _BUSY_S
        return busy
    if status in _AWAY:
        away = EngineUnavailable(message or f"the engine answered {status}", asked_s or _RETRY_S)
        away.asked_wait_s = asked_s
        return away
    if status in _KEY_REFUSED:
        return EngineRefused(f"the engine does not take the key of its deployment: it answered {status}")
    if status in _NAME_REFUSED:
        said = f" {message}" if status == 404 else f" it answered {status}"
        lacking = EngineRefused(f"the engine has no such model for us:{said}")
        lacking.blames = False  # other names may be fine
        return lacking
    if 400 <= status < 500 and status != 408:
        return InvalidRequest(f"the engine refused the request: {message}")
    return EngineFailed(f"the engine answered {status}: {message}")


def _asked_wait_s(headers: Mapping[str, str]) -> int | None:
    """Return how long an engine asks to wait (in seconds, milliseconds, or until a date), None when it does not say."""
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        seconds: float | None = milliseconds / 1000
    elif (seconds := _number(headers.get("retry-after"))) is None and "retry-after" in headers:
        seconds = _until(headers["retry-after"])
    return None if seconds is None else min(max(math.ceil(seconds), 1), _LONGEST_RETRY_S)


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _until(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).timestamp() - time.time()
    except ValueError:
        return None


class _Error(msgspec.Struct):
    message: str = ""
    type: str | None = None
    n_prompt_tokens: int = 0
    n_ctx: int = 0


class _ErrorBody(msgspec.Struct):
    error: Any


__all__ = ["Refusal"]
