"""How a connection comes about: TCP or a Unix socket, a tunnel through a proxy, TLS; and why none does."""

import asyncio
import os
import socket
import ssl
from functools import lru_cache
from typing import cast

from hanlin.engines.wire.address import Address
from hanlin.engines.wire.connection import Connection
from hanlin.engines.wire.proxies import Proxy
from hanlin.errors import EngineUnreachable

_TUNNEL_HEAD_LIMIT_BYTES = 64 * 1024


class Dialler:
    """Opens connections to one address, each way in the same time limit."""

    def __init__(self, address: Address, proxy: Proxy | None, tls: ssl.SSLContext | None) -> None:
        self._address = address
        self._proxy = proxy
        self._tls = (tls or trusting()) if address.tls else None

    @property
    def where(self) -> str:
        """The place in the words of an error."""
        via = f" through the proxy at {self._proxy.where}" if self._proxy is not None else ""
        return f"the engine at {self._address.where}{via}"

    async def dial(self, connection: Connection, within_s: float) -> None:
        """Open a connection. Raises EngineUnreachable; nothing is left open then, nor when it is cancelled."""
        try:
            async with asyncio.timeout(within_s):
                await self._open(connection)
        except (OSError, UnicodeError) as error:
            connection.close()
            raise EngineUnreachable(f"no connection to {self.where}: {reason(error, within_s)}") from error
        except BaseException:
            connection.close()
            raise

    async def _open(self, connection: Connection) -> None:
        loop, address, proxy, tls = asyncio.get_running_loop(), self._address, self._proxy, self._tls
        if address.socket:
            await loop.create_unix_connection(lambda: connection, address.socket)
        elif proxy is None:
            await loop.create_connection(lambda: connection, address.host, address.port, ssl=tls)
        elif tls is None:
            await loop.create_connection(lambda: connection, proxy.host, proxy.port)
        else:
            await self._open_through(proxy, tls, connection)

    async def _open_through(self, proxy: Proxy, tls: ssl.SSLContext, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        raw, tunnel = await loop.create_connection(_Tunnel, proxy.host, proxy.port)
        try:
            raw.write(_connect_head(self._address, proxy))
            _check(await tunnel.answer)
            transport = await loop.start_tls(raw, connection, tls, server_hostname=self._address.host)
            connection.connection_made(cast(asyncio.BaseTransport, transport))
        except BaseException:
            raw.abort()
            raise


class _Tunnel(asyncio.Protocol):
    """A connection to a proxy until the tunnel stands. `answer` becomes the head of what it says to CONNECT."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._head = b""

    def data_received(self, data: bytes) -> None:
        self._head += data
        if self.answer.done():
            return
        if b"\r\n\r\n" in self._head:
            self.answer.set_result(self._head)
        elif len(self._head) > _TUNNEL_HEAD_LIMIT_BYTES:
            self.answer.set_exception(ConnectionError("the proxy does not come to an end of its headers"))

    def connection_lost(self, error: Exception | None) -> None:
        if not self.answer.done():
            self.answer.set_exception(error or ConnectionError("the proxy hung up before the tunnel stood"))


def _connect_head(address: Address, proxy: Proxy) -> bytes:
    lines = [f"CONNECT {address.where} HTTP/1.1", f"Host: {address.where}"]
    if proxy.authorization:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def _check(head: bytes) -> None:
    """Raise ConnectionError unless the head of a proxy's answer says that the tunnel stands."""
    words = head.split(b"\r\n", 1)[0].split(b" ", 2)
    if not words[0].startswith(b"HTTP/1.") or len(words) < 2 or not words[1].isdigit():
        raise ConnectionError("what answers there is not an HTTP proxy")
    if words[1] == b"407":
        raise ConnectionError(WANTS_PASSWORD)
    if not words[1].startswith(b"2"):
        raise ConnectionError(f"the proxy answered {words[1].decode()} to CONNECT")


WANTS_PASSWORD = "the proxy wants a user name and a password: http://user:password@host:port"  # noqa: S105


def reason(error: Exception, within_s: float) -> str:
    """Say in a few words why no connection came about."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted ({error.verify_message})"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed ({error.reason or error}); is it an https address?"
    if isinstance(error, socket.gaierror):
        return f"its name was not found ({error.strerror})"
    if isinstance(error, UnicodeError):
        return "its name cannot be the name of a host"
    if isinstance(error, TimeoutError):
        return f"it timed out after {within_s:g} s"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, OSError) and error.errno and error.errno > 0:
        return os.strerror(error.errno)
    return str(error) or type(error).__name__


def trusting() -> ssl.SSLContext:
    """Return the context that trusts what the system trusts, or SSL_CERT_FILE and SSL_CERT_DIR: one for all clients."""
    return _trusting(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))


@lru_cache(maxsize=4)
def _trusting(cert_file: str | None, cert_dir: str | None) -> ssl.SSLContext:  # noqa: ARG001 (read by OpenSSL itself)
    context = ssl.create_default_context()  # reads some hundred certificates, which takes about 20 ms
    context.set_alpn_protocols(["http/1.1"])
    return context
