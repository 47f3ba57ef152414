"""What every start does between the open port and the banner, and how a service is told to end."""

import asyncio
import gc
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from hanlin.cli import show
from hanlin.cli.banner import show_banner
from hanlin.engines.weights import Progress
from hanlin.home import Home
from hanlin.http.app import BASE
from hanlin.service import embedding_start, start
from hanlin.service.reloading import Reloader
from hanlin.service.studio import Studio
from hanlin.service.weights import Choice, means
from hanlin.settings import Settings
from hanlin.words import say

LAST_WORDS_S = 2.0
"""How long calls that are cut may take to say so."""

_COLLECTED_AT = 5000
"""How many objects more there must be for Python to look for rubbish among the new ones; it says 700 by itself."""


def reloader(
    home: Home, studio: Studio, file: Path, read: Callable[[], Settings], tell: Callable[[str], None] = show.note
) -> Reloader:
    """Return what follows the settings file; what becomes of it is told."""
    return Reloader(
        studio,
        file,
        read=read,
        build=lambda new, before: start.fleet(home, new, studio.own_catalogue, show.note, before),
        tell=tell,
    )


async def _told_to_end() -> None:
    """Return at the first SIGTERM or SIGINT; a second one ends the process at once."""
    came = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, came.set)
    await came.wait()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)


async def until_told(*work: "asyncio.Task[None]") -> None:
    """Return once the process is told to end. Raises what keeps the work from going on.

    What of the work is not over by then is still the caller's.
    """
    ending = asyncio.create_task(_told_to_end())
    waiting = {ending, *work}
    try:
        while ending in waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    finally:
        ending.cancel()


@dataclass(frozen=True)
class Start:
    """What the banner says of a start: where, with which key, since when (monotonic seconds).

    `watch` begins to look after the file and the deployments: before all is ready, because what keeps it from getting
    ready may be the file. `all_know` waits until every process has what answers.
    """

    url: str
    key: start.FirstKey | None
    began: float
    watch: Callable[[], None]
    all_know: Callable[[], Awaitable[None]]


def url_of(settings: Settings, port: int) -> str:
    """Return the base URL that programs are given."""
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    return f"http://{host}:{port}{BASE}"


def spare_the_collector() -> None:
    """Have Python's collector leave alone what is here now, because it stays until the end.

    It comes seldom, too: what hundreds of calls under way hold is no rubbish, and looking through it again and again
    took a sixteenth of the time of a service that keeps a ledger.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECTED_AT, *gc.get_threshold()[1:])


async def rise(home: Home, studio: Studio, this: Start) -> None:
    """Do everything between the open port and the banner."""
    settings = studio.settings
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
    await studio.load_recipes()
    await _until_ready(studio)
    await this.all_know()
    spare_the_collector()
    took_s = time.monotonic() - this.began
    show_banner(show.out, this.url, this.key, studio.cards(), took_s, workers=settings.workers)
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
