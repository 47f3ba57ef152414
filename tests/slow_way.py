"""A network that takes its time, between a client and a server of this machine."""

import asyncio


class SlowWay:
    """A way to a port on which everything takes its time."""

    def __init__(self, port: int) -> None:
        self.delay_s = 0.0
        self._port = port
        self._pipes: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> "SlowWay":
        self._server = await asyncio.start_server(self._open, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for pipe in self._pipes:
            pipe.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)
        for writer in self._writers:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)

    async def _open(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, there[1]]
        self._pipes += [
            asyncio.create_task(self._pipe(reader, there[1])),
            asyncio.create_task(self._pipe(there[0], writer)),
        ]

    async def _pipe(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            await asyncio.sleep(self.delay_s)
            target.write(data)
        target.close()
