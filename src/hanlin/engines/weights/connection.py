"""The HTTP client for weights and listings: deadlines, redirects, tokens, and words for what goes wrong."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import httpx2

from hanlin.engines.weights.errors import SourceUnreachable
from hanlin.engines.weights.values import Patience
from hanlin.settings import Secret
from hanlin.words import say

NO_TOKEN = Secret("")
_MAX_REDIRECTS = 5
_PASSING_STATUSES = {408, 425, 429}  # besides 5xx


@contextmanager
def http_client(label: str, patience: Patience, token: Secret) -> Iterator[httpx2.Client]:
    """Give a client with our deadlines that follows redirects; the library drops the token at another origin."""
    headers = {"Accept-Encoding": "identity", "User-Agent": "hanlin"}
    if token.reveal():
        headers["Authorization"] = f"Bearer {token.reveal()}"
    try:
        client = httpx2.Client(
            headers=headers,
            follow_redirects=True,
            max_redirects=_MAX_REDIRECTS,
            timeout=httpx2.Timeout(patience.silence_s, connect=patience.connect_s),
        )
    except (ImportError, ValueError, httpx2.InvalidURL) as error:
        # A proxy variable that names a scheme which is unknown, or needs a package that is not installed.
        why = say(f"the proxy settings do not work: {error}", f"代理设置无效：{error}")
        raise SourceUnreachable(label, why) from error
    with client:
        yield client


def is_passing(status: int) -> bool:
    """Say whether an answer of this status may be another one a little later."""
    return status in _PASSING_STATUSES or status >= 500


def retry_after_s(headers: Mapping[str, str]) -> float:
    """Return the seconds of Retry-After; dates are not understood and count as nothing."""
    value = headers.get("retry-after", "")
    return float(value) if value.isdecimal() else 0.0


def what_happened(error: httpx2.TransportError) -> str:
    """Name a failure of the connection as the user knows it."""
    if isinstance(error, httpx2.ConnectTimeout):
        return say("no answer to the connection attempt", "连接超时")
    if isinstance(error, httpx2.TimeoutException):
        return say("no data for too long", "长时间没有数据")
    if isinstance(error, httpx2.ConnectError):
        return say(f"cannot connect ({error})", f"无法连接（{error}）")
    return say(
        f"the connection broke ({error or type(error).__name__})", f"连接中断（{error or type(error).__name__}）"
    )
