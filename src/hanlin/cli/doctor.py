"""`hanlin doctor`: look at this machine and this home, and say what is wrong and what to do about it.

Facts are gathered here; what they mean is `service.diagnosis`.
"""

import asyncio
import contextlib
import dataclasses
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

import psutil
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hanlin.catalogue import Catalogue, load
from hanlin.cli import show
from hanlin.cli.adopting import Adopted, adopt
from hanlin.cli.client import key_in
from hanlin.cli.options import effective
from hanlin.cli.prose import Prose
from hanlin.cli.pull import is_whole
from hanlin.engines.weights import find, installed, memory_needed
from hanlin.errors import HanlinError, StartupError
from hanlin.home import Home, Running, prepare, running
from hanlin.http.server import free_address
from hanlin.keys import hash_key
from hanlin.service import embedding_start, neighbours, start
from hanlin.service.backends import database_of, open_database, secret_of
from hanlin.service.diagnosis import Facts, Finding, KeyState, Level, WeightsState, diagnose, worst
from hanlin.service.weights import Choice
from hanlin.settings import Secret, Settings
from hanlin.words import say

_ENGINE_S = 60.0


def doctor(home: Home, config: Path | None, as_json: bool, write: bool = False) -> bool:
    """Print the findings; return whether nothing fails.

    With `write`, servers that were found are put into `hanlin.toml` first. Raises StartupError when that is not to be.
    """
    with show.err.status(say("looking around", "正在检查")):
        facts = gather(home, config)
    adopted = None
    if write:
        adopted = adopt(config or home.config_file, facts.neighbours)
        facts = dataclasses.replace(facts, settings=_settings(home, config)[0])
    findings = diagnose(facts)
    if as_json:
        written = {"written": {"file": str(adopted.file), "text": adopted.text}} if adopted is not None else {}
        listed = [dataclasses.asdict(finding) for finding in findings]
        show.data({"worst": worst(findings), "findings": listed, **written})
    else:
        show.page(view(findings))
        if adopted is not None:
            show.page(view_adopted(adopted, is_running=facts.running is not None))
    return worst(findings) is not Level.FAIL


def view_adopted(adopted: Adopted, *, is_running: bool) -> RenderableType:
    """Return what was written where, and when it takes effect."""
    if not adopted.text:
        return Padding(Prose(_nothing_to_add()), (1, 0, 0, 0))
    head = say(f"appended to {adopted.file}:", f"已追加到 {adopted.file}：")
    tail = (
        say("the running service takes it over by itself", "运行中的服务会自动载入")
        if is_running
        else say("it counts from the next start: `hanlin serve`", "下次启动时生效：`hanlin serve`")
    )
    parts = (Prose(show.plain(head)), Padding(Prose(show.plain(adopted.text), "cyan"), (0, 0, 0, 2)), Prose(tail))
    return Padding(Group(*parts), (1, 0, 0, 0))


def _nothing_to_add() -> str:
    return say(
        "nothing to add to hanlin.toml: every server with a model that was found is used, or none was found",
        "hanlin.toml 无需添加：找到的、已加载模型的服务均已使用，或未找到任何服务",
    )


_MARKS: Mapping[Level, tuple[str, str]] = {
    Level.OK: ("✓", "green"),
    Level.WARN: ("!", "yellow"),
    Level.FAIL: ("✗", "bold red"),
}


def view(findings: Sequence[Finding]) -> RenderableType:
    """Return the findings as a list, remedies below what they are for, and the count at the end."""
    table = Table.grid(padding=(0, 1))
    table.add_column(no_wrap=True)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        detail: RenderableType = Prose(show.plain(finding.detail))
        if finding.remedy:
            remedy = Prose(show.plain(finding.remedy), "cyan")
            arrowed = Table.grid(padding=(0, 1))
            arrowed.add_row(Text("→", "cyan"), remedy)
            detail = Group(detail, arrowed)
        table.add_row(Text(*_MARKS[finding.level]), Text(finding.title), detail)
    return Group(table, Padding(_summary(findings), (1, 0, 0, 0)))


def _summary(findings: Sequence[Finding]) -> Text:
    failed = sum(finding.level is Level.FAIL for finding in findings)
    warned = sum(finding.level is Level.WARN for finding in findings)
    if failed:
        return Text(say(f"problems: {failed}, warnings: {warned}", f"问题 {failed} 个，警告 {warned} 个"), "bold red")
    if warned:
        return Text(say(f"it will work; warnings: {warned}", f"可以运行；警告 {warned} 个"), "yellow")
    return Text(say("all is well", "一切正常"), "green")


def gather(home: Home, config: Path | None) -> Facts:
    """Look at everything that the checks want to know. A home that exists gets the folders and tables that it lacks."""
    settings, settings_problem = _settings(home, config)
    home_problem = _home_problem(home)
    service = None if home_problem else running(home)
    weights, weights_problem = _weights(home, settings)
    engine_version, engine_problem = _engine() if settings.embedded else ("", "")
    return Facts(
        python=tuple(sys.version_info[:3]),
        pip=_version("pip"),
        architecture=platform.machine(),
        cpu_flags=_cpu_flags(),
        cores=len(os.sched_getaffinity(0)),
        memory_free_bytes=psutil.virtual_memory().available,
        disk_free_bytes=shutil.disk_usage(_existing(home.path)).free,
        home=home.path,
        home_problem=home_problem,
        settings=settings,
        settings_problem=settings_problem,
        port_problem=_port_problem(settings, service),
        engine_version=engine_version,
        engine_problem=engine_problem,
        weights=weights,
        weights_problem=weights_problem,
        keys=KeyState() if home_problem else _keys(home, settings),
        running=service,
        neighbours=asyncio.run(neighbours.find()),
    )


def _settings(home: Home, config: Path | None) -> tuple[Settings, str]:
    try:
        return effective(home, config).settings, ""
    except StartupError as problem:
        return Settings(), str(problem)


def _home_problem(home: Home) -> str:
    if not home.path.exists():
        above = _existing(home.path)
        if os.access(above, os.W_OK | os.X_OK):
            return ""
        return say(f"{above}: this user may not make a folder there", f"{above}：当前用户无权在此创建目录")
    try:
        prepare(home)
        running(home)
    except StartupError as problem:
        return str(problem)
    return ""


def _existing(path: Path) -> Path:
    """Return the nearest folder above that exists, or the path itself."""
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _port_problem(settings: Settings, service: Running | None) -> str:
    if service is not None:
        return ""
    try:
        free_address(settings.host, settings.port)
    except StartupError as problem:
        return str(problem)
    return ""


def _weights(home: Home, settings: Settings) -> tuple[tuple[WeightsState, ...], str]:
    """Look at the weights that a start would run, and at all others that are here; every one is read in full."""
    catalogue, rows = load(), start.weight_rows()
    choices, problem = _choices(home, settings, catalogue)
    if (vectors := embedding_start.row(settings)) is not None:
        choices.append(embedding_start.choice(vectors))
    states = []
    for choice in choices:
        wanted, row = choice.wanted, rows.find(choice.wanted.name)
        memory_bytes = row.memory_bytes if row is not None else memory_needed(wanted.size_bytes)
        state = _state(home, wanted.sha256)
        states.append(WeightsState(wanted.name, wanted.size_bytes, memory_bytes, state, wanted=True))
    chosen = {choice.wanted.sha256 for choice in choices}
    for one in installed(home.models):
        if one.sha256 not in chosen:
            state = _state(home, one.sha256)
            name = one.name or one.sha256[:12]
            states.append(WeightsState(name, one.size_bytes, memory_needed(one.size_bytes), state, wanted=False))
    return tuple(states), problem


def _choices(home: Home, settings: Settings, catalogue: Catalogue) -> tuple[list[Choice], str]:
    try:
        return start.choose_weights(settings, catalogue, home, start.machine()), ""
    except StartupError as problem:
        return [], str(problem)


def _state(home: Home, sha256: str) -> str:
    if find(home.models, sha256) is None:
        return "missing"
    return "intact" if is_whole(home, sha256) else "damaged"


def _engine() -> tuple[str, str]:
    """Load the engine's library in a process of its own: where it cannot run, it may take its process with it."""
    command = [sys.executable, "-P", "-c", "import xllamacpp"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_ENGINE_S, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return "", say(f"it did not load within {_ENGINE_S:g} s", f"{_ENGINE_S:g} 秒内未能加载")
    if done.returncode == 0:
        return _version("xllamacpp"), ""
    lines = done.stderr.strip().splitlines()
    if lines:
        return "", lines[-1]
    return "", say(f"loading it ends with signal {-done.returncode}", f"加载时因信号 {-done.returncode} 终止")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _cpu_flags() -> frozenset[str]:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() in ("flags", "Features"):
                return frozenset(value.split())
    return frozenset()


def _keys(home: Home, settings: Settings) -> KeyState:
    try:
        variable, key = key_in(None)
        where = database_of(home, settings)
        if isinstance(where, Path) and not where.exists():
            return KeyState(variable=variable)
        if not settings.secret.reveal() and not home.secret_file.exists():
            return KeyState(problem=_secret_lost(home))
        return asyncio.run(_stored_keys(home, settings, variable, key))
    except (StartupError, HanlinError) as problem:
        return KeyState(problem=str(problem))


def _secret_lost(home: Home) -> str:
    return say(
        f"{home.secret_file} is missing, and without it no stored key works. Restore it from a backup; "
        "or revoke them all with `hanlin keys revoke ID`, and make new ones",
        f"缺少 {home.secret_file}，没有它，已保存的密钥均无法使用。请从备份恢复；"
        "或用 `hanlin keys revoke 编号` 吊销全部密钥后重新创建",
    )


async def _stored_keys(home: Home, settings: Settings, variable: str, key: Secret) -> KeyState:
    secret = secret_of(home, settings)
    hashed = hash_key(secret, key.reveal())
    async with await open_database(home, settings, secret) as store:
        rows = await store.keys.all()
        known = await store.keys.find(hashed) is not None
    working = sum(row.revoked_at is None for row in rows)
    return KeyState(working, len(rows) - working, variable, known)
