"""The socket in front of the application: bind it for ourselves alone, serve, drain, stop."""

import asyncio
import contextlib
import socket

from granian.constants import HTTPModes, Interfaces
from granian.server.embed import Server as Granian

from hanlin.errors import StartupError
from hanlin.http.app import App
from hanlin.words import say


def free_port(host: str, port: int) -> int:
    """Return the port to listen on, one that is free for 0. Raises StartupError when somebody listens there already.

    Granian shares its port with whoever wants it (SO_REUSEPORT): two servers on one port by accident look like random
    failures. So it is probed here, without sharing.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # Connections of a server that has just ended linger on its port; they are no reason to refuse.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise StartupError(
                say(
                    f"{host}:{port} cannot be used: {error.strerror}. Choose another with --port N, "
                    "or end the program that listens there",
                    f"{host}:{port} 无法使用：{error.strerror}。请用 --port N 指定其他端口，或结束占用该端口的程序",
                )
            ) from error
        bound: int = probe.getsockname()[1]
        return bound


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
        )
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._granian.serve())

    async def wait(self) -> None:
        """Return when the server has ended by itself, which it should not."""
        assert self._task is not None
        await asyncio.wait((self._task,))

    async def drain(self, limit_s: float) -> int:
        """Wait until open calls are over, at most `limit_s`; return how many are left."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._app.idle.wait()
        return self._app.open_calls

    async def stop(self) -> None:
        self._granian.stop()  # type: ignore[no-untyped-call]
        await self.wait()
