"""The settings file while the service runs: when it is read again, what is exchanged, what is told, what stays."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from hanlin.errors import StartupError
from hanlin.service import fleet as fleet_module
from hanlin.service import reloading
from hanlin.service.deployments import Deployment
from hanlin.service.fleet import Fleet, Member
from hanlin.service.reloading import Reloader, held, stamp
from hanlin.service.studio import Studio
from hanlin.settings import DeploymentRow, RouteRow, Settings, load
from hanlin.store.database import open_store
from hanlin.testing import HANG, ScriptedEngine, says
from hanlin.testing.scripted import Step
from tests.values import LIMIT_S, catalogue_of, model, request, server_of, whole

URL = "http://127.0.0.1:9/v1"


def table(*names: str, more: str = "") -> str:
    return more + "".join(f'[[deployment]]\nname = "{name}"\nurl = "{URL}"\n' for name in names)


@dataclass
class House:
    """A service with its settings file, a reloader, and scripted engines in place of servers."""

    studio: Studio
    file: Path
    told: list[str] = field(default_factory=list)
    engines: dict[str, ScriptedEngine] = field(default_factory=dict)
    script: list[Step] = field(default_factory=lambda: list(says("a")))
    taken: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.reloader = Reloader(self.studio, self.file, read=self.read, build=self.build, tell=self.tell)

    def read(self) -> Settings:
        return load(self.file, {}).settings

    async def build(self, settings: Settings, before: Fleet) -> Fleet:
        def member(row: DeploymentRow) -> Member:
            kept = [member for member in before.members if member.row == row]
            return kept[0] if kept else Member(row, "", self.server(row))

        return Fleet(tuple(member(row) for row in settings.deployment), settings.route)

    def server(self, row: DeploymentRow) -> Deployment:
        engine = self.engines[row.name] = ScriptedEngine(self.script)
        return server_of(engine, row.name, serves=("*",))

    def tell(self, line: str) -> None:
        self.told.append(line)
        self.taken.set()

    async def next_line(self) -> str:
        """Return what is told next."""
        await asyncio.wait_for(self.taken.wait(), LIMIT_S)
        self.taken.clear()
        return self.told[-1]

    @property
    def names(self) -> list[str]:
        return [deployment.name for deployment in self.studio.deployments]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reloading, "_LOOK_EVERY_S", 0.002)
    monkeypatch.setattr(reloading, "_SETTLES_S", 0.002)
    monkeypatch.setattr(fleet_module, "_IDLE_CHECK_S", 0.0005)
    monkeypatch.setenv("HANLIN_LANG", "en")


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A house whose file names one deployment, `gpu-1`, which is in force."""
    file = tmp_path / "hanlin.toml"
    file.write_text(table("gpu-1"))
    studio = Studio(Settings(), catalogue_of(model()), await open_store(tmp_path / "hanlin.db"), b"secret")
    studio.starting = None
    house = House(studio, file)
    assert await house.reloader.reload()
    house.told.clear()
    house.taken.clear()
    yield house
    await studio.close()


@pytest.fixture
async def watched(house: House) -> AsyncIterator[House]:
    """The same house, its file watched."""
    running = asyncio.create_task(house.reloader.run())
    yield house
    running.cancel()
    await asyncio.wait((running,))


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(LIMIT_S):
        while not holds():  # noqa: ASYNC110 (engines tell nobody when they are closed)
            await asyncio.sleep(0.001)


# --- what is exchanged -----------------------------------------------------------------------------------------------


async def test_a_good_file_is_in_force_for_the_next_call(house: House) -> None:
    """And the service says what it has now."""
    house.file.write_text(table("gpu-2", "gpu-1") + '[[route]]\nnames = ["*"]\ndeployments = ["gpu-2"]\n')

    assert await house.reloader.reload()

    assert house.told == ["settings reloaded; deployments: gpu-2, gpu-1"]
    assert house.studio.call(request()).answering.deployment == "gpu-2"
    assert house.studio.fleet.routes == (RouteRow(("*",), ("gpu-2",)),)


async def test_what_did_not_change_keeps_its_calls_and_its_standing(house: House) -> None:
    """A reload is no restart."""
    [before] = house.studio.deployments
    house.file.write_text(table("gpu-1", "gpu-2"))

    await house.reloader.reload()

    assert house.studio.deployments[0] is before
    assert not house.engines["gpu-1"].closed


async def test_weights_that_hanlin_runs_itself_stay(house: House) -> None:
    """No row of the file makes them, and none takes them away."""
    small = server_of(ScriptedEngine(), "small")
    house.studio.deployments = (*house.studio.deployments, small)
    house.file.write_text(table("gpu-2"))

    await house.reloader.reload()

    assert house.names == ["gpu-2", "small"]


async def test_a_deployment_that_is_dropped_is_closed_after_its_calls(house: House) -> None:
    """New calls go elsewhere at once; who is being answered sees nothing of it."""
    goes_on = asyncio.Event()
    house.script[:0] = [goes_on]
    house.file.write_text(table("gpu-2"))
    await house.reloader.reload()
    call = asyncio.create_task(whole(house.studio.call(request())))
    await asyncio.wait_for(house.engines["gpu-2"].called.wait(), LIMIT_S)

    house.file.write_text(table("gpu-1"))
    await house.reloader.reload()
    assert house.studio.call(request()).answering.deployment == "gpu-1"
    await asyncio.sleep(0.02)
    assert not house.engines["gpu-2"].closed
    goes_on.set()

    assert (await asyncio.wait_for(call, LIMIT_S)).choices[0].text == "a"
    await until(lambda: house.engines["gpu-2"].closed)


async def test_the_end_of_the_watch_closes_what_is_on_its_way_out(house: House) -> None:
    """Engines that Hanlin started must not outlive it."""
    house.script[:] = [HANG]
    house.file.write_text(table("gpu-2"))
    await house.reloader.reload()
    call = asyncio.create_task(whole(house.studio.call(request())))
    await asyncio.wait_for(house.engines["gpu-2"].called.wait(), LIMIT_S)
    house.file.write_text(table("gpu-1"))
    await house.reloader.reload()

    running = asyncio.create_task(house.reloader.run())
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait((running,))

    assert house.engines["gpu-2"].closed
    call.cancel()
    await asyncio.wait((call,))


async def test_settings_that_need_a_restart_are_named(house: House) -> None:
    """Whoever changes them must know that they do not hold yet."""
    house.file.write_text(table("gpu-1", more="port = 9000\nqueue_limit = 5\n"))

    assert await house.reloader.reload()

    assert house.told == ["settings reloaded; deployments: gpu-1; a restart is needed for: port, queue_limit"]
    assert house.studio.settings.queue_limit == Settings().queue_limit


def test_what_is_exchanged_needs_no_restart() -> None:
    """The three that a running service follows; every other field does."""
    exchanged: dict[str, Any] = {
        "deployment": (DeploymentRow("a", url=URL),),
        "route": (RouteRow(("*",), ("a",)),),
        "upstream": ("deepseek",),
    }

    assert held(Settings(), Settings(**exchanged)) == []
    assert held(Settings(), replace(Settings(), stall_s=9.0, host="0.0.0.0")) == ["host", "stall_s"]


async def test_what_is_told_is_in_the_users_language(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """As everything that people read."""
    monkeypatch.setenv("HANLIN_LANG", "zh")
    house.file.write_text(table(more="port = 9000\n"))
    await house.reloader.reload()
    house.file.write_text("[")
    await house.reloader.reload()

    assert house.told[0] == "设置已重新加载；部署：无；以下设置需重启后生效：port"
    assert house.told[1].startswith(f"{house.file} 未生效，继续使用原有设置：{house.file}：不是有效的 TOML")


# --- what is not -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "why"),
    [("[", "not TOML"), ('colour = "red"\n', "unknown setting 'colour'"), (table("a", more="port = -1\n"), "port")],
)
async def test_a_bad_file_leaves_everything_as_it_is_and_says_why(house: House, text: str, why: str) -> None:
    """A typing error must not end a service."""
    before = house.studio.fleet
    house.file.write_text(text)

    assert not await house.reloader.reload()

    assert house.studio.fleet is before
    assert not house.engines["gpu-1"].closed
    [line] = house.told
    assert line.startswith(f"{house.file} was not taken over, what was in force before goes on: ")
    assert why in line


@pytest.mark.parametrize("problem", [StartupError("[[deployment]] 'gpu-2': no"), ZeroDivisionError("ours")])
async def test_a_fleet_that_cannot_be_built_leaves_everything_as_it_is(house: House, problem: Exception) -> None:
    """Whatever the reason; one that nobody foresaw must not end the watch either."""

    async def fails(settings: Settings, before: Fleet) -> Fleet:
        raise problem

    before = house.studio.fleet
    house.reloader._build = fails

    assert not await house.reloader.reload()

    assert house.studio.fleet is before
    assert str(problem) in house.told[0]


# --- when the file is read -------------------------------------------------------------------------------------------


def written(file: Path, text: str) -> None:
    file.write_text(text)


def replaced(file: Path, text: str) -> None:
    new = file.with_suffix(".new")
    new.write_text(text)
    new.replace(file)


@pytest.mark.parametrize("change", [written, replaced])
async def test_a_changed_file_is_followed(watched: House, change: Callable[[Path, str], None]) -> None:
    """Written anew or replaced by another: editors do one or the other."""
    change(watched.file, table("gpu-1", "gpu-2"))

    assert await watched.next_line() == "settings reloaded; deployments: gpu-1, gpu-2"
    assert watched.names == ["gpu-1", "gpu-2"]


async def test_a_file_that_did_not_change_is_left_alone(watched: House) -> None:
    """Reading it would be noise."""
    await asyncio.sleep(0.03)

    assert watched.told == []


async def test_whoever_asks_has_it_read_in_any_case(watched: House) -> None:
    """SIGHUP: also what the file does not show may have changed."""
    watched.reloader.ask()

    assert await watched.next_line() == "settings reloaded; deployments: gpu-1"


async def test_an_edit_during_the_start_counts(house: House) -> None:
    """Weights may take minutes to come, and whoever edits the file meanwhile expects it to hold."""
    house.file.write_text(table("gpu-2"))

    running = asyncio.create_task(house.reloader.run())
    line = await house.next_line()
    running.cancel()
    await asyncio.wait((running,))

    assert line == "settings reloaded; deployments: gpu-2"


async def test_a_file_that_is_gone_changes_nothing_until_it_is_there_again(watched: House) -> None:
    """Without it the defaults would hold, which nobody asked for."""
    watched.file.unlink()
    assert "the file is gone" in await watched.next_line()
    assert watched.names == ["gpu-1"]

    watched.file.write_text(table("gpu-2"))
    assert await watched.next_line() == "settings reloaded; deployments: gpu-2"


async def test_after_a_bad_file_the_next_one_is_read(watched: House) -> None:
    """The mistake is mended where it was made."""
    watched.file.write_text("[")
    assert "was not taken over" in await watched.next_line()

    watched.file.write_text(table("gpu-2"))
    assert await watched.next_line() == "settings reloaded; deployments: gpu-2"


async def test_a_change_while_it_is_read_is_not_missed(watched: House) -> None:
    """Asking servers what they have takes seconds."""
    goes_on, building = asyncio.Event(), asyncio.Event()
    build: Callable[[Settings, Fleet], Awaitable[Fleet]] = watched.reloader._build

    async def slowly(settings: Settings, before: Fleet) -> Fleet:
        building.set()
        await goes_on.wait()
        return await build(settings, before)

    watched.reloader._build = slowly
    watched.file.write_text(table("gpu-2"))
    await asyncio.wait_for(building.wait(), LIMIT_S)
    watched.file.write_text(table("gpu-2", "gpu-3"))
    goes_on.set()

    await until(lambda: watched.names == ["gpu-2", "gpu-3"])


async def test_a_file_that_is_still_being_written_is_read_when_it_is_whole(
    watched: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of it may be a good file with fewer deployments."""
    looks = [(1, 10, 1), (2, 20, 1), (3, 30, 1)]
    seen: list[reloading.Stamp] = []

    def look(_file: Path) -> reloading.Stamp:
        seen.append(looks[min(len(seen), 2)])
        return seen[-1]

    monkeypatch.setattr(reloading, "stamp", look)
    monkeypatch.setattr(watched.reloader, "_read", lambda: Settings(port=len(seen)))

    assert (await watched.next_line()).endswith("a restart is needed for: port")
    assert watched.reloader._read().port >= 4  # it was looked at until two looks were the same


def test_a_stamp_changes_with_the_file(tmp_path: Path) -> None:
    """Size, time or the file itself; a file that is not there has none."""
    file = tmp_path / "hanlin.toml"
    assert stamp(file) is None

    file.write_text("a")
    first = stamp(file)
    assert stamp(file) == first
    os.utime(file, ns=(1, 1))
    second = stamp(file)
    replaced(file, "b")
    os.utime(file, ns=(1, 1))

    assert len({first, second, stamp(file)}) == 3
