"""The heads of requests as bytes. What is the same in every request is written once."""

import re
from collections.abc import Mapping

from hanlin.engines.wire.address import Address
from hanlin.engines.wire.proxies import Proxy

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_UNFIT_IN_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_UNFIT_IN_TARGET = re.compile(r"[^\x21-\x7e]")
_OURS = frozenset({"host", "content-length", "transfer-encoding", "connection", "proxy-authorization"})
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_KNOWN_LIMIT = 256


class Heads:
    """The heads of requests to one address. `headers` go with every request, before those of the request itself."""

    def __init__(self, address: Address, headers: Mapping[str, str], proxy: Proxy | None) -> None:
        # A proxy that does not tunnel is told the whole address.
        plain_proxy = proxy if proxy is not None and not address.tls else None
        self._prefix = address.base if plain_proxy is None else f"http://{address.authority}{address.base}"
        self._constant = f"Host: {address.authority}\r\n".encode("ascii")
        if plain_proxy is not None and plain_proxy.authorization:
            self._constant += f"Proxy-Authorization: {plain_proxy.authorization}\r\n".encode("ascii")
        self._constant += encoded(headers)
        self._has_type = _names_type(headers)
        self._known: dict[tuple[str, str], bytes] = {}

    def head(self, method: str, path: str, size: int, headers: Mapping[str, str] | None) -> bytes:
        """Return the head of a request with a body of `size` bytes, up to the empty line after it.

        A body is JSON unless a header says otherwise. Raises ValueError for what would break out of its line.
        """
        head = self._known.get((method, path)) or self._first(method, path)
        has_type = self._has_type
        if headers:
            head += encoded(headers)
            has_type = has_type or _names_type(headers)
        if not size:
            return head + (b"Content-Length: 0\r\n\r\n" if method in _WITH_BODY else b"\r\n")
        if has_type:
            return b"%bContent-Length: %d\r\n\r\n" % (head, size)
        return b"%bContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (head, size)

    def _first(self, method: str, path: str) -> bytes:
        target = self._prefix + path
        if not _NAME.fullmatch(method) or _UNFIT_IN_TARGET.search(target):
            raise ValueError("the method or the path of a request has characters that cannot stand there")
        head = f"{method} {target} HTTP/1.1\r\n".encode("ascii") + self._constant
        if len(self._known) >= _KNOWN_LIMIT:  # paths with an id in them would fill the memory
            self._known.clear()
        self._known[method, path] = head
        return head


def encoded(headers: Mapping[str, str]) -> bytes:
    """Return headers as lines. Raises ValueError, without the value, for one that cannot be sent as a line."""
    lines = []
    for name, value in headers.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of a header")
        if name.lower() in _OURS:
            raise ValueError(f"the header {name} is written by the client itself")
        try:
            if _UNFIT_IN_VALUE.search(value):
                raise ValueError
            lines.append(f"{name}: {value}\r\n".encode("latin-1"))
        except ValueError:
            raise ValueError(f"the value of the header {name} has characters that cannot stand there") from None
    return b"".join(lines)


def _names_type(headers: Mapping[str, str]) -> bool:
    return any(name.lower() == "content-type" for name in headers)
