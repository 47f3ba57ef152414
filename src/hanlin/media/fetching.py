"""Fetch what a caller's URL points at, and nothing that the caller could not reach without us.

A name is resolved once, every address it has is looked at, and the connection goes to one of those, so that a name
which changes its address in between leads nowhere else. Redirects are followed by hand, and each is looked at again.
Nothing is fetched through a proxy of the environment: what that can reach is not known here.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import unquote, urljoin, urlsplit

import httpx2

from hanlin.errors import UrlNotFetched

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

MOST_BYTES = 150 * 1024 * 1024
MOST_REDIRECTS = 5
_URL_CHARS = 4096
_NO_DOCUMENTS = ("video/", "audio/", "multipart/", "font/", "model/")
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PORTS = {"http": 80, "https": 443}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_UNICAST = ipaddress.ip_network("2000::/3")
"""All IPv6 addresses that anybody has been given; others wrap IPv4 ones in ways that are out of use, or lead inside."""

_FORBIDDEN = tuple(
    map(
        ipaddress.ip_network,
        (
            "100.64.0.0/10",  # shared by carriers, and where some clouds keep their metadata
            "192.0.0.0/24",
            "198.18.0.0/15",
            "168.63.129.16/32",  # Azure's own
            "192.88.99.0/24",  # to whoever turns IPv6 into IPv4
            "2001::/32",  # Teredo and what else carries an IPv4 address that nobody has looked at
            "2002::/16",
            "3fff::/20",
        ),
    )
)
"""What `ipaddress` does not call private in every version of it, and leads inside all the same."""


@dataclass(frozen=True)
class Fetched:
    """A file from elsewhere: its bytes, the name it has there, and what its server calls it."""

    content: bytes
    name: str
    content_type: str


async def resolved(host: str, port: int) -> Sequence[str]:
    """Return the addresses of a name, as the system has them."""
    rows = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(row[4][0]) for row in rows))


class Fetcher:
    """Fetches files of callers.

    `allowed` are networks that may be reached although they are private: the operator's choice. `transport` replaces
    the network in tests; it is told the address in the URL, and the name in the Host header.
    """

    def __init__(
        self,
        *,
        allowed: Collection[str] = (),
        most_bytes: int = MOST_BYTES,
        limit_s: float = 120.0,
        silence_s: float = 15.0,
        resolve: Resolve = resolved,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._allowed: tuple[Network, ...] = tuple(ipaddress.ip_network(network) for network in allowed)
        self._most_bytes = most_bytes
        self._limit_s = limit_s
        self._silence_s = silence_s
        self._resolve = resolve
        self._transport = transport

    async def fetch(self, url: str, *, most_bytes: int | None = None) -> Fetched:
        """Return what is at a URL. Raises UrlNotFetched for whatever cannot be had, or must not."""
        limit = min(most_bytes or self._most_bytes, self._most_bytes)
        try:
            async with asyncio.timeout(self._limit_s):
                return await self._followed(url, limit)
        except TimeoutError as error:
            raise refused(url, f"it took longer than {self._limit_s:g} s") from error
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
            # What the other side or the network said may tell of places inside; the kind of failure is enough.
            raise refused(url, _reason(error)) from error

    async def _followed(self, url: str, limit: int) -> Fetched:
        at = url
        timeout = httpx2.Timeout(self._silence_s)
        async with httpx2.AsyncClient(transport=self._transport, trust_env=False, timeout=timeout) as client:
            for _ in range(MOST_REDIRECTS + 1):
                host, port, direct = await self._direct(at, url)
                request = client.build_request(
                    "GET",
                    direct,
                    headers={"Host": _authority(host, port, at), "User-Agent": "hanlin", "Accept-Encoding": "identity"},
                    extensions={"sni_hostname": host},
                )
                response = await client.send(request, stream=True)
                try:
                    if response.status_code in _REDIRECTS and (target := response.headers.get("location")):
                        at = urljoin(at, target)
                        continue
                    return await self._read(response, at, url, limit)
                finally:
                    await response.aclose()
        raise refused(url, f"it redirects more than {MOST_REDIRECTS} times")

    async def _read(self, response: httpx2.Response, at: str, url: str, limit: int) -> Fetched:
        if response.status_code != 200:
            raise refused(url, f"its server answers HTTP {response.status_code}")
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise refused(url, "its server packs it although it was asked not to")
        content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type.startswith(_NO_DOCUMENTS):
            raise refused(url, f"it is no document but {content_type}")
        size = response.headers.get("content-length", "")
        if size.isdigit() and int(size) > limit:
            raise refused(url, f"it has {int(size)} bytes, and {limit} are allowed")
        content = bytearray()
        async for piece in response.aiter_bytes():
            content += piece
            if len(content) > limit:
                raise refused(url, f"it has more than {limit} bytes")
        if not content:
            raise refused(url, "it is empty")
        return Fetched(bytes(content), _name(at, response.headers.get("content-disposition", "")), content_type)

    async def _direct(self, at: str, url: str) -> tuple[str, int, str]:
        """Return a URL's host and port, and the URL with an address that may be reached in the place of the host."""
        if len(at) > _URL_CHARS:
            raise refused(url, "it is too long")
        parts = urlsplit(at)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise refused(url, "it is not an http(s) address")
        if parts.username is not None or parts.password is not None:
            raise refused(url, "it holds a user name or a password")
        host, port = parts.hostname, parts.port or _PORTS[parts.scheme]
        host = host if host.isascii() else host.encode("idna").decode()
        try:
            addresses = await self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise refused(url, "its name was not found") from error
        found = [ipaddress.ip_address(address.partition("%")[0]) for address in addresses]
        if not found or not all(map(self.may_reach, found)):  # one bad address is reason enough to distrust the name
            raise refused(url, "it is not a public address")
        address = f"[{found[0]}]" if found[0].version == 6 else str(found[0])
        query = f"?{parts.query}" if parts.query else ""
        return host, port, f"{parts.scheme}://{address}:{port}{parts.path or '/'}{query}"

    def may_reach(self, address: Address) -> bool:
        """Whether an address is public, or of a network that the operator allows."""
        plain = _plain(address)
        if any(plain.version == network.version and plain in network for network in self._allowed):
            return True
        return (
            plain.is_global
            and not plain.is_multicast
            and (plain.version == 4 or plain in _UNICAST)
            and not any(plain.version == network.version and plain in network for network in _FORBIDDEN)
        )


def _plain(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one stands for, if it does."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _authority(host: str, port: int, url: str) -> str:
    name = f"[{host}]" if ":" in host else host
    return name if port == _PORTS[urlsplit(url).scheme] else f"{name}:{port}"


def _name(url: str, disposition: str) -> str:
    """Return the name of a file: what its server says, or the end of its path; never with a folder."""
    said = ""
    for part in disposition.split(";"):
        key, _, value = part.strip().partition("=")
        if key.lower() == "filename*":
            said = unquote(value.rpartition("'")[2])
            break
        if key.lower() == "filename":
            said = value.strip('" ')
    name = (said or unquote(urlsplit(url).path)).replace("\\", "/").rstrip("/").rpartition("/")[2]
    return "".join(character for character in name if character.isprintable())[-120:] or "document"


def _reason(error: Exception) -> str:
    if isinstance(error, httpx2.TimeoutException):
        return "its server does not answer in time"
    if isinstance(error, httpx2.ConnectError | OSError):
        return "no connection came about"
    return "its server does not speak HTTP as it should" if isinstance(error, httpx2.HTTPError) else "it is malformed"


def refused(url: str, why: str) -> UrlNotFetched:
    """Return the refusal of a URL. It names no address that was found: a caller learns nothing of what is inside."""
    return UrlNotFetched(shown(url), why, field="doc_url")


def shown(url: str) -> str:
    """Return a URL as messages may show it: without a query, which may hold a signature, and without a password."""
    try:
        parts = urlsplit(url[:_URL_CHARS])
        host = parts.hostname or ""
    except ValueError:
        return "(malformed)"
    return f"{parts.scheme}://{host}{parts.path}"[:200] if host else url[:60]


__all__ = ["MOST_BYTES", "MOST_REDIRECTS", "Fetched", "Fetcher", "resolved", "shown"]
