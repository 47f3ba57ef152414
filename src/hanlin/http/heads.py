"""Heads of requests, judged; heads of answers, written. Pure: no socket and no clock here."""

from collections.abc import Mapping, Sequence
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

HEADERS = 128
"""How many header lines a request may have."""

Lines = Sequence[tuple[bytes, bytes]]


def fault(version: str, method: str, lines: Lines, headers: Mapping[bytes, bytes]) -> str:
    """Say what keeps a request from being read in one way only, as everybody on its path reads it; "" when nothing.

    `headers` are the same `lines` with their names in small letters. Lengths that contradict each other, folded lines
    and bare line feeds have been refused by the parser already (RFC 9112 §6.3, §5.2, §2.2).
    """
    if version not in ("1.1", "1.0"):
        return f"only HTTP/1.1 and 1.0 are spoken here, not {version}"
    if method == "CONNECT":
        return "this is no proxy: CONNECT is not known here"
    if len(lines) > HEADERS:
        return f"it has more than {HEADERS} headers"
    if version == "1.1" and b"host" not in headers:
        return "it has no Host header"
    if len(headers) != len(lines) and sum(name.lower() == b"host" for name, _ in lines) > 1:
        return "it has several Host headers"
    coding = headers.get(b"transfer-encoding")
    if coding is not None and (version == "1.0" or coding.strip().lower() != b"chunked"):
        return "a body can be sent with Transfer-Encoding: chunked in HTTP/1.1, and in no other coding"
    return ""


def path_of(target: bytes) -> str:
    """Return the path of a request's target as it was sent, without its query; `*` as it is."""
    path = target.decode("ascii", "replace")
    if not path.startswith("/") and "://" in path:  # the whole address, as programs tell a proxy (RFC 9112 §3.2.2)
        path = "/" + path.partition("://")[2].partition("?")[0].partition("/")[2]
    return path.partition("?")[0] if "?" in path else path


def query_of(target: bytes) -> str:
    """Return the query of a request's target as it was sent, "" where there is none."""
    return target.decode("ascii", "replace").partition("?")[2].partition("#")[0]


def head(
    status: int, content_type: str, request_id: str, second: int, more: Mapping[str, str], written: str = ""
) -> str:
    """Return the head of an answer up to the lines that say how long it is. `second` is now, since 1970.

    `more` are further headers, `written` such as are lines already.
    """
    opening = f"{_opening(status, content_type)}x-request-id: {request_id}\r\n{_date(second)}{written}"
    return opening + lines(more) if more else opening


def lines(headers: Mapping[str, str]) -> str:
    """Return headers as the lines of a head."""
    values = "".join(headers.values())
    if values.isascii() and values.isprintable():  # one look at all of them, as nearly always
        return "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    return "".join([line(name, value) for name, value in headers.items()])


def line(name: str, value: str) -> str:
    """Return a header as a line; what such a line cannot carry is percent-encoded."""
    return f"{name}: {value if value.isascii() and value.isprintable() else _fitting(value)}\r\n"


@lru_cache(maxsize=256)
def _opening(status: int, content_type: str) -> str:
    try:
        reason = HTTPStatus(status).phrase
    except ValueError:
        reason = ""
    return f"HTTP/1.1 {status} {reason}\r\ncontent-type: {content_type}\r\n"


@lru_cache(maxsize=2)
def _date(second: int) -> str:
    return f"date: {formatdate(second, usegmt=True)}\r\n"


def _fitting(value: str) -> str:
    """Percent-encode what a header cannot carry (line ends, Chinese), as UTF-8."""
    return "".join(
        character if " " <= character <= "~" else "".join(f"%{byte:02X}" for byte in character.encode())
        for character in value
    )
