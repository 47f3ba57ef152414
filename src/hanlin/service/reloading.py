"""Follow the settings file while the service runs: deployments and routes are exchanged, streams go on.

A file that does not fit changes nothing: the old settings stay in force, and the reason is told.
"""

import asyncio
import contextlib
import dataclasses
import logging
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from hanlin.errors import StartupError
from hanlin.service.fleet import Fleet, retire
from hanlin.service.studio import Studio
from hanlin.settings import Settings
from hanlin.words import say

log = logging.getLogger("hanlin.service")

_LOOK_EVERY_S = 1.0
_SETTLES_S = 0.5  # half of a file may be a good one, with fewer deployments: it is read once nobody writes to it

# What a running service can exchange; everything else holds from the start to the end.
_EXCHANGED = frozenset({"deployment", "route", "upstream", "price"})

Stamp = tuple[int, int, int]


class Reloader:
    """Owns the watch over the file, and the deployments that are on their way out.

    `read` returns the settings of this moment, `build` a fleet of them that takes over what is the same as in the
    present one. Both raise StartupError. `tell` shows people a line.
    """

    def __init__(
        self,
        studio: Studio,
        file: Path,
        *,
        read: Callable[[], Settings],
        build: Callable[[Settings, Fleet], Awaitable[Fleet]],
        tell: Callable[[str], None],
    ) -> None:
        self._studio = studio
        self._file = file
        self._was_there = file.exists()
        self._first = stamp(file)  # an edit during the start counts as well
        self._read = read
        self._build = build
        self._tell = tell
        self._asked = asyncio.Event()
        self._leaving: set[asyncio.Task[None]] = set()

    def ask(self) -> None:
        """Have the file read again, whether it has changed or not (SIGHUP)."""
        self._asked.set()

    async def run(self) -> None:
        """Reload whenever the file changes or somebody asks, until cancelled."""
        seen = self._first
        try:
            while True:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_EVERY_S):
                        await self._asked.wait()
                now = stamp(self._file)
                if not self._asked.is_set():
                    if now == seen:
                        continue
                    now = await self._settled(now)
                self._asked.clear()
                seen = now
                await self.reload()
        finally:
            for task in self._leaving:
                task.cancel()
            await asyncio.gather(*self._leaving, return_exceptions=True)

    async def _settled(self, now: Stamp | None) -> Stamp | None:
        """Return the file's stamp once it stays what it is."""
        before: Stamp | None = (0, 0, 0)
        while now != before and not self._asked.is_set():
            before = now
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SETTLES_S):
                    await self._asked.wait()
            now = stamp(self._file)
        return now

    async def reload(self) -> bool:
        """Read the settings again and exchange what can be exchanged; return whether they are in force now."""
        studio = self._studio
        try:
            settings = self._settings()
            fleet = await self._build(settings, studio.fleet)
        except StartupError as problem:
            self._refuse(str(problem))
            return False
        except Exception as problem:  # whatever a file may bring about, the next one is read all the same
            log.exception("%s could not be taken over", self._file)
            self._refuse(repr(problem))
            return False
        for deployment in studio.adopt(fleet):
            task = asyncio.create_task(retire(deployment, studio.settings.call_limit_s))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
        await studio.load_recipes()
        self._tell(_summary(fleet, held(studio.settings, settings)))
        return True

    def _settings(self) -> Settings:
        """Read the settings. Without the file they came from they would be the defaults, which nobody asked for."""
        there = self._file.exists()
        if self._was_there and not there:
            raise StartupError(say("the file is gone", "文件不存在"))
        self._was_there = there
        return self._read()

    def _refuse(self, why: str) -> None:
        self._tell(
            say(
                f"{self._file} was not taken over, what was in force before goes on: {why}",
                f"{self._file} 未生效，继续使用原有设置：{why}",
            )
        )


def held(before: Settings, now: Settings) -> list[str]:
    """Return the names of settings that have changed and need a restart."""
    return [
        field.name
        for field in dataclasses.fields(Settings)
        if field.name not in _EXCHANGED and getattr(before, field.name) != getattr(now, field.name)
    ]


def stamp(file: Path) -> Stamp | None:
    """Return what changes when a file is written or replaced; None where there is none."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _summary(fleet: Fleet, waiting: list[str]) -> str:
    names = ", ".join(deployment.name for deployment in fleet.deployments) or say("none", "无")
    line = say(f"settings reloaded; deployments: {names}", f"设置已重新加载；部署：{names}")
    if waiting:
        line += say(f"; a restart is needed for: {', '.join(waiting)}", f"；以下设置需重启后生效：{'、'.join(waiting)}")
    return line
