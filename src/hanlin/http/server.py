"""The socket in front of the application: bind it for ourselves alone, serve, drain, stop."""

import asyncio
import contextlib
import socket

from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server as Granian

from hanlin.errors import StartupError
from hanlin.http.app import App
from hanlin.words import say

# Connections that wait to be accepted, and those that are open at once, idle ones of clients' pools included: many more
# than calls, so that a probe always gets through. How many calls there may be is decided by `routing.capacity`.
_BACKLOG = 1024
_CONNECTIONS = 8192


def free_address(host: str, port: int) -> tuple[str, int]:
    """Return the numeric address and the port to listen on, one that is free for port 0.

    Raises StartupError when the name is unknown or somebody listens there already. Granian shares its port with whoever
    wants it (SO_REUSEPORT): two servers on one port by accident look like random failures. So it is probed here,
    without sharing.
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
        raise StartupError(
            say(
                f"{host}:{port} cannot be used: {error.strerror}. Choose another with --port N or --host ADDRESS, "
                "or end the program that listens there",
                f"{host}:{port} 无法使用：{error.strerror}。请用 --port N 或 --host 地址 另选，或结束占用该端口的程序",
            )
        ) from error


class Server:
    """Granian in this process's event loop, from `start` to `stop`."""

    def __init__(self, app: App, host: str, port: int) -> None:
        self._app = app
        self._granian = Granian(
            app,
            address=host,
            port=port,
            interface=Interfaces.ASGINL,
            http=HTTPModes.http1,
            websockets=False,
            log_enabled=False,
            backlog=_BACKLOG,
            backpressure=_CONNECTIONS,
        )
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._granian.serve())

    async def wait(self) -> None:
        """Return when the server has ended by itself, which it should not."""
        assert self._task is not None
        await asyncio.wait((self._task,))

    def failure(self) -> BaseException | None:
        """Return what ended the server, None when it runs or was stopped."""
        if self._task is None or not self._task.done() or self._task.cancelled():
            return None
        return self._task.exception()

    async def drain(self, limit_s: float) -> int:
        """Wait until open calls are over, at most `limit_s`; return how many are left."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._app.idle.wait()
        return self._app.open_calls

    async def stop(self) -> None:
        self._granian.stop()  # type: ignore[no-untyped-call]
        await self.wait()
