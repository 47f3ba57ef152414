"""`hanlin serve`: start everything in order, show how far it is, say what answers, end cleanly."""

import asyncio
import gc
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvloop

from hanlin import logs
from hanlin.cli import show
from hanlin.cli.banner import show_banner
from hanlin.cli.options import config_file
from hanlin.engines.weights import Progress
from hanlin.home import Home, HomeLock, lock, prepare
from hanlin.http.app import BASE, App
from hanlin.http.server import Server, free_address
from hanlin.http.traces import make_tracer
from hanlin.service import embedding_start, start
from hanlin.service.probing import Prober
from hanlin.service.reloading import Reloader
from hanlin.service.studio import Studio
from hanlin.service.weights import Choice, means
from hanlin.settings import Settings, load
from hanlin.words import say

# How long calls that are cut may take to say so.
_LAST_WORDS_S = 2.0
_OBJECTS_BETWEEN_COLLECTIONS = 10_000


def run(home: Home, config: Path | None, flags: Mapping[str, Any]) -> None:
    """Serve until a signal ends it. Raises StartupError and WeightsError for what keeps it from starting."""
    prepare(home)

    def read() -> Settings:
        return load(config_file(home, config), flags=flags).settings

    settings = read()
    logs.set_up(settings.log_format, settings.log_level)
    with lock(home) as held:
        uvloop.run(_serve(home, settings, held, config or home.config_file, read))


async def _serve(home: Home, settings: Settings, held: HomeLock, file: Path, read: Callable[[], Settings]) -> None:
    began = time.monotonic()
    studio = await start.open_studio(home, settings)
    key = await start.first_key(studio.store, studio.keyring.secret, settings)
    address, port = free_address(settings.host, settings.port)
    tracer = make_tracer()
    server = Server(app := App(studio, tracer), address, port)
    reloader = _reloader(home, studio, file, read)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reloader.ask)
    watching: list[asyncio.Task[None]] = []

    def watch() -> None:
        watching.extend((asyncio.create_task(reloader.run()), asyncio.create_task(Prober(studio).run())))

    try:
        await server.start()
        ending = asyncio.create_task(_signal())
        rising = asyncio.create_task(_rise(home, studio, held, _Start(port, key, began, watch)))
        done, _ = await asyncio.wait((ending, rising), return_when=asyncio.FIRST_COMPLETED)
        if rising in done:
            rising.result()
            await ending
        rising.cancel()
        await _drain(studio, app, server)
    finally:
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        await server.stop()
        await studio.close()
        if tracer is not None:
            await asyncio.to_thread(tracer.close, _LAST_WORDS_S)


def _reloader(home: Home, studio: Studio, file: Path, read: Callable[[], Settings]) -> Reloader:
    return Reloader(
        studio,
        file,
        read=read,
        build=lambda new, before: start.fleet(home, new, studio.own_catalogue, show.note, before),
        tell=show.note,
    )


async def _signal() -> None:
    """Return at the first SIGTERM or SIGINT; a second one ends the process at once."""
    came = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, came.set)
    await came.wait()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)


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
        await server.drain(_LAST_WORDS_S)


@dataclass(frozen=True)
class _Start:
    """What the banner says of a start: where, with which key, since when (monotonic seconds).

    `watch` begins to look after the file and the deployments: before all is ready, because what keeps it from getting
    ready may be the file.
    """

    port: int
    key: start.FirstKey | None
    began: float
    watch: Callable[[], None]


async def _rise(home: Home, studio: Studio, held: HomeLock, this: _Start) -> None:
    """Do everything between the open port and the banner."""
    settings = studio.settings
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"http://{host}:{this.port}{BASE}"
    held.announce(url)
    studio.adopt(await start.fleet(home, settings, studio.own_catalogue, show.note))
    this.watch()
    here = start.machine()
    vectors = embedding_start.row(settings)
    studio.vectors_coming = embedding_start.coming(vectors)
    for choice in start.choose_weights(settings, studio.catalogue, home, here):
        path = await _fetch(choice, studio, home)
        deployment = start.embedded(home, settings, choice, path, here)
        studio.deployments = (*studio.deployments, deployment)
    vectors_here = vectors is None or await embedding_start.add_if_here(home, studio, vectors)
    studio.starting = None
    await _until_ready(studio)
    # What is here now stays until the end: the collector need not look at it again with every round.
    gc.collect()
    gc.freeze()
    # Nearly everything that a call makes goes with its last user. Looking for cycles after every 700 objects, which is
    # after a few calls, finds none and costs some percent of the core.
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    show_banner(show.out, url, this.key, studio.cards(), time.monotonic() - this.began)
    if vectors is not None and not vectors_here:
        # Nothing is drawn any more: from here on the terminal belongs to the log.
        await embedding_start.fetch_and_add(home, studio, vectors, show.note)


async def _fetch(choice: Choice, studio: Studio, home: Home) -> Path:
    name = choice.wanted.name
    show.note(say(f"weights: {name} ({choice.reason})", f"权重：{name}（{choice.reason}）"))
    stopped = False

    def watched(report: Progress) -> Progress:
        def progress(done_bytes: int, total_bytes: int, text: str) -> None:
            if stopped:
                raise KeyboardInterrupt
            percent = 100 * done_bytes // max(total_bytes, 1)
            studio.starting = say(f"fetching {name}, {percent}%", f"正在获取 {name}，{percent}%")
            report(done_bytes, total_bytes, text)

        return progress

    try:
        with show.downloading(name) as report:
            return await start.fetch(choice, home, means(start.weight_rows(), watched(report), show.note))
    except asyncio.CancelledError:
        stopped = True  # ends the thread at its next step; what it has is kept for the next start
        raise


async def _until_ready(studio: Studio) -> None:
    """Return once a chat call would be answered. An engine that fails says so, once, and is tried again meanwhile."""
    said: set[str] = set()
    while studio.why_not_ready() is not None:
        for trouble in studio.troubles():
            if trouble not in said:
                show.fail(trouble)
                said.add(trouble)
        await asyncio.sleep(0.05)
