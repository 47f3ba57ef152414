"""Where an engine listens. Pure: nothing here looks a name up or opens anything."""

import ipaddress
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

_PATH_MARKS = "/%:@!$&'()*+,;="  # what may stand in a path as it is (RFC 3986 §3.3)


@dataclass(frozen=True)
class Address:
    """A Unix socket, or host and port. `base` is put before every path."""

    host: str = ""
    port: int = 0
    socket: str = ""
    base: str = ""
    tls: bool = False

    @classmethod
    def of_url(cls, url: str) -> "Address":
        """Read `http(s)://host[:port][/base]`. Raises ValueError for anything else, without repeating a secret."""
        parts = urlsplit(url)
        try:
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if parts.scheme not in ("http", "https") or not host:
            raise ValueError(f"{url.rpartition('@')[2]!r} is not an http(s) address")
        if parts.username is not None or parts.query or parts.fragment:
            raise ValueError(
                f"the address of {host} has more than host, port and path: "
                "a user name, a query or a fragment would not be sent"
            )
        tls = parts.scheme == "https"
        host = host if host.isascii() else host.encode("idna").decode()
        base = quote(parts.path.rstrip("/"), safe=_PATH_MARKS)
        return cls(host, port or (443 if tls else 80), "", base, tls)

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        if self.socket:
            return "localhost"
        return _bracketed(self.host) if self.port == (443 if self.tls else 80) else self.where

    @property
    def where(self) -> str:
        """The place in the words of an error: never a path."""
        return "its socket" if self.socket else f"{_bracketed(self.host)}:{self.port}"

    @property
    def is_here(self) -> bool:
        """Whether it can only be this machine: a Unix socket, or a loopback name or number."""
        if self.socket or self.host == "localhost" or self.host.endswith(".localhost"):
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
