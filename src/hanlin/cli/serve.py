"""`hanlin serve`: start everything in order, show how far it is, say what answers, end cleanly."""

import asyncio
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import uvloop

from hanlin import logs
from hanlin.cli import show
from hanlin.cli.crew import serve_crew
from hanlin.cli.rising import LAST_WORDS_S, Start, reloader, rise, until_told, url_of
from hanlin.home import Home, HomeLock, lock, prepare
from hanlin.http.app import App
from hanlin.http.server import Server, free_address
from hanlin.http.traces import make_tracer
from hanlin.service import start
from hanlin.service.probing import Prober
from hanlin.service.studio import Studio
from hanlin.settings import Settings, config_file, load
from hanlin.words import say


def run(home: Home, config: Path | None, flags: Mapping[str, Any]) -> None:
    """Serve until a signal ends it. Raises StartupError and WeightsError for what keeps it from starting."""
    prepare(home)

    def read() -> Settings:
        return load(config_file(home.config_file, config), flags=flags).settings

    settings = read()
    logs.set_up(settings.log_format, settings.log_level)
    serve = _serve if settings.workers == 1 else serve_crew
    with lock(home) as held:
        uvloop.run(serve(home, settings, held, config or home.config_file, read))


async def _serve(home: Home, settings: Settings, held: HomeLock, file: Path, read: Callable[[], Settings]) -> None:
    began = time.monotonic()
    studio = await start.open_studio(home, settings)
    key = await start.first_key(studio.store, studio.keyring.secret, settings)
    address, port = free_address(settings.host, settings.port)
    tracer = make_tracer()
    server = Server(app := App(studio, tracer), address, port)
    following = reloader(home, studio, file, read)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, following.ask)
    watching: list[asyncio.Task[None]] = []

    def watch() -> None:
        watched = (following.run(), Prober(studio).run(), studio.retention.run(), studio.run_files())
        watching.extend(map(asyncio.create_task, watched))

    try:
        await server.start()
        held.announce(url := url_of(settings, port))
        rising = asyncio.create_task(rise(home, studio, Start(url, key, began, watch, _at_once)))
        watching.append(rising)
        await until_told(rising)
        rising.cancel()
        await _drain(studio, app, server)
    finally:
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        await server.stop()
        await studio.close()
        if tracer is not None:
            await asyncio.to_thread(tracer.close, LAST_WORDS_S)


async def _at_once() -> None:
    """There is no other process to wait for."""


async def _drain(studio: Studio, app: App, server: Server) -> None:
    studio.stopping = True
    if app.open_calls:
        show.note(
            say(
                f"finishing {app.open_calls} open calls, at most {studio.settings.shutdown_s:g} s",
                f"正在完成 {app.open_calls} 个未结束的调用，最多 {studio.settings.shutdown_s:g} 秒",
            )
        )
    if await server.drain(studio.settings.shutdown_s):
        app.cut()
        await server.drain(LAST_WORDS_S)
