"""The socket in front of the application: bind it for ourselves alone, serve, drain, stop.

Plain HTTP/1.1: whoever wants TLS or HTTP/2 puts a proxy in front.
"""

import asyncio
import contextlib
import math
import resource
import socket
from collections.abc import Coroutine
from typing import Any, Protocol

from hanlin.errors import EngineUnavailable, HanlinError, StartupError
from hanlin.http.connection import Connection
from hanlin.http.exchange import Exchange
from hanlin.http.limits import Limits
from hanlin.words import say

# Connections that wait to be accepted, and those that are open at once, idle ones of clients' pools included: many more
# than calls, so that a probe always gets through. How many calls there may be is decided by `routing.capacity`.
_BACKLOG = 1024
_CONNECTIONS = 8192
# How many more are told that there are too many; beyond them they are closed without a word.
_REFUSED = 256
# Files that the process needs for everything else.
_OTHER_FILES = 512

_LOOK_S = 1.0
_FLUSH_S = 1.0
_UNSENT_BYTES = 128 * 1024

# Accepted connections have the options of the socket that they came in on. A peer that vanished without a word is
# noticed after about a minute; and the kernel takes no more than is of use ahead of a slow reader, who would otherwise
# be noticed megabytes later.
_OPTIONS = (
    (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES),
)


class Application(Protocol):
    """What answers. `idle` is set while no call is open."""

    idle: asyncio.Event

    @property
    def open_calls(self) -> int: ...
    def __call__(self, exchange: Exchange, /) -> Coroutine[Any, Any, None]: ...


def free_address(host: str, port: int) -> tuple[str, int]:
    """Return the numeric address and the port to listen on, one that is free for port 0.

    Raises StartupError when the name is unknown or somebody listens there already.
    """
    try:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # Connections of a server that has just ended linger on its port; they are no reason to refuse.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
            bound: tuple[str, int] = probe.getsockname()[:2]
            return bound
    except OSError as error:
        raise _unusable(host, port, error) from error


def reserved(host: str, port: int) -> socket.socket:
    """Return a socket that keeps an address for the processes that share it, until it is closed. It does not listen.

    Before the first of them listens, a program that insists can still have it; their start then fails, and says so.
    Raises StartupError when somebody else has the address, or the system lets no two processes listen on one.
    """
    if not hasattr(socket, "SO_REUSEPORT"):
        raise StartupError(
            say(
                "this system lets only one process listen on a port (no SO_REUSEPORT): set workers = 1",
                "本系统的一个端口只能由一个进程监听（不支持 SO_REUSEPORT）：请设置 workers = 1",
            )
        )
    try:
        return _bound(host, port, shared=True)
    except OSError as error:
        raise _unusable(host, port, error) from error


def _unusable(host: str, port: int, error: OSError) -> StartupError:
    return StartupError(
        say(
            f"{host}:{port} cannot be used: {error.strerror}. Choose another with --port N or --host ADDRESS, "
            "or end the program that listens there",
            f"{host}:{port} 无法使用：{error.strerror}。请用 --port N 或 --host 地址 另选，或结束占用该端口的程序",
        )
    )


class Server:
    """A listening socket and its connections in this process's event loop, from `start` to `stop`."""

    def __init__(
        self,
        app: Application,
        host: str,
        port: int,
        *,
        limits: Limits | None = None,
        connections: int = _CONNECTIONS,
        shared: bool = False,
    ) -> None:
        """`shared`: other processes of this user listen on the same port."""
        self.app = app
        self.limits = limits or Limits()
        self.draining = False
        self._host = host
        self._port = port
        self._most = connections
        self._shared = shared
        self._connections: set[Connection] = set()
        self._listening: asyncio.Server | None = None
        self._look_timer: asyncio.TimerHandle | None = None
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    @property
    def port(self) -> int:
        """The port that is listened on."""
        assert self._listening is not None
        return int(self._listening.sockets[0].getsockname()[1])

    async def start(self) -> None:
        """Listen. Raises StartupError when the address cannot be had, perhaps only now."""
        self._most = min(self._most, max(_files() - _OTHER_FILES, 16))
        loop = asyncio.get_running_loop()
        try:
            listening = _bound(self._host, self._port, shared=self._shared)
        except OSError as error:
            raise _unusable(self._host, self._port, error) from error
        self._listening = await loop.create_server(lambda: Connection(self), sock=listening, backlog=_BACKLOG)

    async def drain(self, limit_s: float) -> int:
        """Wait until open calls are over, at most `limit_s`; return how many are left.

        Idle connections are closed, others after their answer. New ones are still taken: the application tells them why
        it takes no calls any more, where a closed port would say nothing.
        """
        self.draining = True
        for connection in tuple(self._connections):
            connection.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self.app.idle.wait()
        return self.app.open_calls

    async def stop(self) -> None:
        """Listen no longer and close every connection. What was answered still leaves, if its client reads it now."""
        self.draining = True
        if self._listening is not None:
            self._listening.close()
        for connection in tuple(self._connections):
            connection.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FLUSH_S):
                await self._empty.wait()
        for connection in tuple(self._connections):
            connection.abort()
        if self._look_timer is not None:
            self._look_timer.cancel()

    # what connections tell

    def joined(self, connection: Connection) -> HanlinError | None:
        """Learn of a new connection; return why it is refused, if it is."""
        self._connections.add(connection)
        self._empty.clear()
        if self._look_timer is None:
            self._look_later()
        if len(self._connections) <= self._most:
            return None
        if len(self._connections) > self._most + _REFUSED:
            connection.abort()
        return EngineUnavailable(say("too many connections are open", "打开的连接过多"))

    def lost(self, connection: Connection) -> None:
        """Forget a connection."""
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()

    def _look_later(self) -> None:
        limits = self.limits
        shortest_s = min(limits.progress_s, limits.head_s, limits.idle_s, limits.flush_s, limits.linger_s)
        self._look_timer = asyncio.get_running_loop().call_later(min(_LOOK_S, shortest_s / 4), self._look)

    def _look(self) -> None:
        """End what is overdue. One timer for all of them: a call sets times, and touches no timer."""
        now = asyncio.get_running_loop().time()
        for connection in [one for one in self._connections if one.due_at <= now]:
            connection.due_at = math.inf
            connection.abort()
        self._look_timer = None
        if self._connections:
            self._look_later()


def _bound(host: str, port: int, *, shared: bool = False) -> socket.socket:
    family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        for level, option, value in _OPTIONS:
            bound.setsockopt(level, option, value)
        if shared:  # the kernel gives each connection to one of those that listen
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:  # `::` means every address, those of IPv4 too
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        bound.bind(where)
        bound.setblocking(False)
    except BaseException:
        bound.close()
        raise
    return bound


def _files() -> int:
    """Return how many files this process may open, after asking for as many as it may ask for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _CONNECTIONS + _REFUSED + _OTHER_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return _CONNECTIONS + _REFUSED + _OTHER_FILES if soft == resource.RLIM_INFINITY else soft
