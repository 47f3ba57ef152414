"""Settings, declared once: name, type, default and sentence. File, environment, flags and `hanlin config` use it.

Read at start, frozen, passed as arguments. Later sources win: default, `hanlin.toml`, `HANLIN_*`, flag. A value that
does not fit, or a key that nobody knows, stops the start with its place and what to do (`StartupError`).
"""

import dataclasses
import os
import re
import tomllib
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from hanlin.errors import StartupError
from hanlin.words import say


class Secret(str):
    """Text that must never be shown: its `repr` is masked. Use `reveal()` where the value itself is needed."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'••••'" if len(self) else "''"

    def reveal(self) -> str:
        return str.__str__(self)

    __str__ = __repr__


class DeploymentRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A `[[deployment]]` of `hanlin.toml`: something that generates, and the names it answers.

    It is one of three: a server at `url`; a known `upstream` (`deepseek`), whose row gives address, key and manners
    unless they stand here; or an `engine` (`vllm`, `sglang`) that Hanlin starts itself with `weights` (a repository or
    a folder) on `gpus` (all when empty), by `executable` with further `arguments`.

    `serves` are catalogue names or patterns (`qwen3-*`); None leaves them to the upstream's row, or means every name.
    `model` is the name sent to the server (empty: the caller's), `names` what single names are called there.
    `repository` is the published model that it runs, as on its hub; "" when unknown. `key_env` names the environment
    variable with its key; `context_tokens` is what one call may use, 0 when unknown; `slots` how many calls it takes at
    once. `fit_vectors`: its vectors are padded or shortened to the length that a name promises.
    """

    name: str
    url: str = ""
    upstream: str = ""
    engine: typing.Literal["", "vllm", "sglang"] = ""
    weights: str = ""
    gpus: tuple[Annotated[int, Meta(ge=0)], ...] = ()
    executable: str = ""
    arguments: tuple[str, ...] = ()
    serves: tuple[str, ...] | None = None
    model: str = ""
    names: dict[str, str] = {}
    repository: str = ""
    key_env: str = ""
    profile: str = ""
    context_tokens: Annotated[int, Meta(ge=0)] = 0
    slots: Annotated[int, Meta(ge=1)] = 64
    fit_vectors: bool = False


class RouteRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A `[[route]]` of `hanlin.toml`: which deployments answer names, in which order, and who stands in for them.

    `names` are names or patterns; the first route that matches counts. `deployments` are names of `[[deployment]]`
    rows, or `embedded` for the weights that Hanlin runs itself. `choose`: `listed` tries them in their order;
    `weighted` draws by `weights`, one a deployment; `least-load` takes the one with the fewest tokens under way;
    `prefix` the one that has read the prompt's beginning already, unless it has more to do than others. `fallbacks`
    answer with another model when none of them can, and only calls that fit them.
    """

    names: tuple[str, ...]
    deployments: tuple[str, ...]
    choose: typing.Literal["listed", "weighted", "least-load", "prefix"] = "listed"
    weights: tuple[Annotated[int, Meta(ge=0)], ...] = ()
    fallbacks: tuple[str, ...] = ()


class PriceRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A `[[price]]` of `hanlin.toml`: what a million tokens cost at one deployment, for the names that match.

    `deployment` is the name of a `[[deployment]]`, or `embedded` for the weights that Hanlin runs itself. Of the rows
    of a deployment, the first whose `names` match counts. Rows with the same names are tiers by the length of the
    prompt: each holds for prompts of at most `up_to_tokens`, the last one for all that are longer. `completion` None:
    what comes out costs nothing, as vectors. Any other price that is None is that of which it is a kind: `cached` and
    `cache_creation` of `prompt`, `thinking` of `completion`.
    """

    deployment: str
    prompt: float
    completion: float | None = None
    cached: float | None = None
    cache_creation: float | None = None
    thinking: float | None = None
    names: tuple[str, ...] = ("*",)
    currency: str = "CNY"
    up_to_tokens: int | None = None


FlagKind = typing.Literal["switch", "either", "append", "store"]
Port = Annotated[int, Meta(ge=0, le=65535)]
Count = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Share = Annotated[float, Meta(ge=0, le=100)]
Bytes = Annotated[int, Meta(ge=1024)]
Processes = Annotated[int, Meta(ge=1, le=64)]


def setting(default: Any, en: str, zh: str) -> Any:
    """Declare a setting: its default and its sentence in both languages."""
    return dataclasses.field(default=default, metadata={"en": en, "zh": zh})


@dataclass(frozen=True)
class Settings:
    """Everything that an operator can set. Units are in the names."""

    host: str = setting("127.0.0.1", "Address to listen on.", "监听地址。")
    port: Port = setting(8080, "Port to listen on.", "监听端口。")
    workers: Processes = setting(
        1,
        "Processes that answer calls; more than one share the port, the engines, the limits and the ledger.",
        "应答调用的进程数；多个进程共享端口、引擎、限额与账目。",
    )
    api_key: Secret = setting(
        Secret(""), "Taken as the first key when none exists yet.", "尚无密钥时，作为第一个密钥。"
    )
    weights: tuple[str, ...] = setting(
        (), "Weights that the embedded engine runs; empty: chosen by memory.", "内置引擎运行的权重；留空则按内存选择。"
    )
    small: bool = setting(False, "Take the small default weights.", "使用较小的默认权重。")
    embedded: bool = setting(True, "Run the embedded engine.", "运行内置引擎。")
    embeddings: bool = setting(
        True,
        "Answer embedding names with the embedded engine as well; its model is fetched in the background.",
        "同时由内置引擎提供文本向量；其模型在后台下载。",
    )
    strict: bool = setting(
        False,
        "Refuse calls that the vendor refuses only because they are not streamed.",
        "与官方一致：拒绝仅因未使用流式而被官方拒绝的调用。",
    )
    ledger: bool = setting(
        True,
        "Keep a row of every call, with what it used and cost; budgets need it.",
        "为每次调用保留一条账目（用量与费用）；预算功能依赖于此。",
    )
    ledger_keep_days: Count = setting(
        0,
        "For how many days rows of calls are kept, those of today left out; daily sums stay. 0: for ever.",
        "每次调用的账目保留多少天（不含当天）；每日合计一直保留。0 表示永久保留。",
    )
    database: Secret = setting(
        Secret(""),
        "Address of a PostgreSQL database that several services share, postgresql://USER:PASSWORD@HOST/DATABASE; "
        "empty: a file of the home.",
        "多个服务共用的 PostgreSQL 数据库地址，如 postgresql://用户:密码@主机/数据库；留空则使用主目录中的文件。",
    )
    secret: Secret = setting(
        Secret(""),
        "What keys are hashed with, 64 hex digits, the same for all services on one database; empty: the home's file "
        "`secret`.",
        "计算密钥哈希所用的机密，64 位十六进制数，共用数据库的服务须相同；留空则用主目录中的 `secret` 文件。",
    )
    redis: Secret = setting(
        Secret(""),
        "Address of a Redis that keeps the limits of several services, redis://USER:PASSWORD@HOST:PORT/NUMBER; empty: "
        "memory.",
        "为多个服务共同保存限额的 Redis 地址，如 redis://用户:密码@主机:端口/编号；留空则保存在内存中。",
    )
    redis_policy: typing.Literal["closed", "open"] = setting(
        "closed",
        "What limited calls get while Redis is away. closed: 503; open: this service's share of every limit.",
        "Redis 不可用时如何处理受限的调用。closed：返回 503；open：在本服务分得的份额内继续。",
    )
    redis_services: Annotated[int, Meta(ge=1)] = setting(
        1,
        "How many services share Redis; while it is away, an open one takes such a part of every limit.",
        "共用 Redis 的服务数；Redis 不可用且策略为 open 时，每项限额按此数均分。",
    )
    limit_pace: typing.Literal["minute", "second"] = setting(
        "minute",
        "What of a minute's calls and tokens may be used at once. minute: all; second: a sixtieth, as the vendor has "
        "it.",
        "每分钟的调用数与 token 数，一次最多可用多少。minute：全部；second：六十分之一，与官方一致。",
    )
    limit_burst: Count = setting(
        0,
        "How many times the even rate of a limit of calls may come within one second; 0: any number.",
        "一秒内允许的调用数，以限额平均速率的倍数计；0 表示不限。",
    )
    identity: bool = setting(
        True,
        "Lead prompts to Qwen weights with Qwen's own identity line.",
        "在 Qwen 权重的提示词前加上其自身的身份说明。",
    )
    threads: Count = setting(0, "Threads of the embedded engine; 0: from the machine.", "内置引擎线程数；0 表示自动。")
    spin: Count = setting(
        1000, "How long idle engine threads spin before they sleep (GOMP_SPINCOUNT).", "引擎空闲线程休眠前的自旋次数。"
    )
    slots: Count = setting(0, "Calls the embedded engine decodes at once; 0: 4.", "内置引擎并行数；0 表示 4。")
    context_tokens: Count = setting(
        0,
        "Context of each call on the embedded engine; 0: from memory.",
        "内置引擎每次调用的上下文长度；0 表示按内存选择。",
    )
    queue_limit: Count = setting(256, "Calls that may wait for a free slot.", "允许排队等待的调用数。")
    max_body_bytes: Bytes = setting(6_291_456, "Largest request body.", "请求体大小上限。")
    files_folder: str = setting(
        "",
        "Folder of uploaded files and of what was read from them, one for all services on a database; empty: the home.",
        "存放上传文件及其解析结果的文件夹，共用数据库的服务须相同；留空则使用主目录。",
    )
    files_limit: Count = setting(10_000, "Files that a workspace may have.", "每个业务空间最多保存的文件数。")
    files_limit_bytes: Bytes = setting(
        107_374_182_400,
        "Bytes that the files of a workspace may have together.",
        "每个业务空间全部文件的字节数上限。",
    )
    max_document_bytes: Bytes = setting(
        157_286_400, "Largest document (file-extract).", "单个文档（file-extract）的字节数上限。"
    )
    max_image_bytes: Bytes = setting(
        20_971_520, "Largest image (file-extract).", "单个图片（file-extract）的字节数上限。"
    )
    max_batch_bytes: Bytes = setting(524_288_000, "Largest file of a batch.", "单个批处理文件（batch）的字节数上限。")
    max_fine_tune_bytes: Bytes = setting(
        314_572_800, "Largest file for fine-tuning.", "单个微调文件（fine-tune）的字节数上限。"
    )
    disk_reserve_bytes: Count = setting(
        536_870_912,
        "What stays free on the disk that files lie on; uploads that would take it are refused.",
        "存放文件的磁盘须保留的可用字节数；会占用这部分空间的上传将被拒绝。",
    )
    fetch_networks: tuple[str, ...] = setting(
        (),
        "Private networks that URLs of callers may lead to, such as 10.1.0.0/16; public addresses always may.",
        "调用方的网址可以访问的内部网络，如 10.1.0.0/16；公网地址始终可以访问。",
    )
    readers: Processes = setting(1, "Documents that each process reads at the same time.", "每个进程同时解析的文档数。")
    document_vectors: bool = setting(
        True,
        "Search documents by meaning too: vectors are made in the background, by the embedded model.",
        "同时按语义检索文档：由内置模型在后台生成向量。",
    )
    load_wait_s: Seconds = setting(
        30.0, "How long a call waits for an engine that is loading.", "引擎加载时，调用最多等待的秒数。"
    )
    stall_s: Seconds = setting(
        8.0,
        "Silence after which the embedded engine is taken for dead and replaced.",
        "内置引擎无响应超过此秒数即视为失效并重启。",
    )
    connect_s: Seconds = setting(5.0, "How long a connection to a server may take.", "连接其他服务的最长秒数。")
    first_byte_s: Seconds = setting(
        120.0, "How long a server may take to begin its answer.", "其他服务开始回答前的最长秒数。"
    )
    silence_s: Seconds = setting(
        120.0, "Silence within an answer after which a server is given up.", "回答中途无响应超过此秒数即放弃该服务。"
    )
    call_limit_s: Seconds = setting(3600.0, "Longest call to a server.", "对其他服务单次调用的最长秒数。")
    retry_share: Share = setting(
        0.1,
        "Share of calls that may be tried a second time, so that retries never multiply the load of a sick server; "
        "0: none.",
        "允许重试的调用比例，避免重试加重故障服务的负载；0 表示不重试。",
    )
    probe_s: Seconds = setting(
        60.0,
        "How long a server may be idle before it is asked for one token, to see that it still generates.",
        "服务空闲超过此秒数后，会请求它生成一个 token 以确认其可用。",
    )
    unstreamed_limit_s: Seconds = setting(600.0, "Longest unstreamed call.", "非流式调用的最长秒数。")
    reader_stall_s: Seconds = setting(
        120.0, "How long a caller may refuse to read its stream.", "调用方停止读取流的最长秒数。"
    )
    keepalive_s: Seconds = setting(10.0, "Comment interval on silent streams.", "流式响应静默时发送注释的间隔秒数。")
    shutdown_s: Seconds = setting(
        30.0, "How long open calls may go on after SIGTERM.", "收到 SIGTERM 后等待未完成调用的秒数。"
    )
    log_format: typing.Literal["text", "json"] = setting(
        "text", "Form of log lines: text or json.", "日志格式：text 或 json。"
    )
    log_level: typing.Literal["debug", "info", "warning", "error"] = setting(
        "info", "Least level that is logged.", "日志级别。"
    )
    upstream: tuple[str, ...] = setting(
        (),
        "Serve an upstream's names: dashscope, deepseek, moonshot, zhipu, openai …, or a URL; the embedded model steps "
        "in when it fails.",
        "转接上游服务的模型：dashscope、deepseek、moonshot、zhipu、openai 等，或网址；上游失败时由内置模型代答。",
    )
    deployment: tuple[DeploymentRow, ...] = setting(
        (),
        "Servers, upstreams and engines that answer ([[deployment]] tables; file only).",
        "提供回答的服务、上游与引擎（[[deployment]] 表，仅限文件）。",
    )
    route: tuple[RouteRow, ...] = setting(
        (),
        "Which deployments answer which names ([[route]] tables; file only).",
        "各名称由哪些部署回答（[[route]] 表，仅限文件）。",
    )
    price: tuple[PriceRow, ...] = setting(
        (),
        "What a million tokens cost at a deployment ([[price]] tables; file only); without one, what the list says.",
        "各部署每百万 token 的自定价格（[[price]] 表，仅限文件）；没有则按官方价目。",
    )


@dataclass(frozen=True)
class Effective:
    """The settings in force, and where each came from: `default`, a file's path, `HANLIN_X`, or `--x`."""

    settings: Settings
    origin: Mapping[str, str]


FIELDS = {field.name: field for field in dataclasses.fields(Settings)}
TABLES = ("deployment", "route", "price")
"""Settings that only a file can hold."""
_TYPES = typing.get_type_hints(Settings, include_extras=True)


def default_home(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the folder that holds all state: HANLIN_HOME, or ~/.hanlin."""
    return Path(environment.get("HANLIN_HOME") or Path.home() / ".hanlin").expanduser()


def config_file(usual: Path, given: Path | None) -> Path | None:
    """Return the settings file that counts: the one that was named, or the `usual` one where it exists."""
    named = given or (Path(os.environ["HANLIN_CONFIG"]) if os.environ.get("HANLIN_CONFIG") else None)
    return named or (usual if usual.is_file() else None)


def load(
    file: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    flags: Mapping[str, Any] | None = None,
) -> Effective:
    """Read every source and return what is in force. `flags` holds only what was given (None counts as not given)."""
    values: dict[str, Any] = {}
    origin = dict.fromkeys(FIELDS, "default")
    for source, pairs in (
        *([(str(file), _from_file(file))] if file is not None else []),
        *((f"HANLIN_{name.upper()}", [(name, value)]) for name, value in _from_environment(environment)),
        *((flag_of(name), [(name, value)]) for name, value in (flags or {}).items() if value is not None),
    ):
        for name, value in pairs:
            values[name] = _convert(name, value, source)
            origin[name] = source
    return Effective(Settings(**values), origin)


def _from_file(file: Path) -> Iterable[tuple[str, Any]]:
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise StartupError(
            say(f"{file}: cannot be read ({error.strerror})", f"{file}：无法读取（{error.strerror}）")
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StartupError(say(f"{file}: not TOML: {error}", f"{file}：不是有效的 TOML：{error}")) from error
    for name, value in table.items():
        if name not in FIELDS:
            raise StartupError(
                say(
                    f"{file}: unknown setting {name!r}. `hanlin config` lists the known ones",
                    f"{file}：未知设置 {name!r}。`hanlin config` 会列出所有设置",
                )
            )
        yield name, value


_SERVICE = re.compile(r"HANLIN_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_\w+)")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
"""What names of environment variables look like; keys that stand in their place do not."""

_SHOWN_CHARACTERS = 24  # every key is longer
_NOT_SETTINGS = {"HANLIN_HOME", "HANLIN_LANG", "HANLIN_CONFIG", "HANLIN_ADMIN_KEY"}


def _of_kubernetes(variable: str, value: str) -> bool:
    """Recognise what Kubernetes puts into every container beside Services such as hanlin and hanlin-redis."""
    return _SERVICE.fullmatch(variable) is not None or (variable.endswith("_PORT") and "://" in value)


def _from_environment(environment: Mapping[str, str]) -> Iterable[tuple[str, Any]]:
    for variable, value in sorted(environment.items()):
        if not variable.startswith("HANLIN_") or variable in _NOT_SETTINGS or _of_kubernetes(variable, value):
            continue
        name = variable.removeprefix("HANLIN_").lower()
        if name not in FIELDS or name in TABLES:
            raise StartupError(
                say(
                    f"{variable}: unknown setting. `hanlin config` lists the known ones; unset it",
                    f"{variable}：未知设置。`hanlin config` 会列出所有设置；请取消该变量",
                )
            )
        yield name, value


def _convert(name: str, value: Any, source: str) -> Any:
    wanted = _TYPES[name]
    if wanted is Secret:
        if not isinstance(value, str):
            raise StartupError(say(f"{source}: {name} must be text", f"{source}：{name} 必须是文本"))
        return Secret(value)
    if isinstance(value, str) and typing.get_origin(wanted) is tuple:
        value = [item.strip() for item in value.split(",") if item.strip()]
    try:
        return msgspec.convert(value, wanted, strict=False)
    except msgspec.ValidationError as error:
        sentence = FIELDS[name].metadata[("zh" if say("en", "zh") == "zh" else "en")]
        raise StartupError(
            say(
                f"{source}: {name}{_shown(value)} does not fit: {error}. {sentence} Correct or remove it",
                f"{source}：{name}{_shown(value)} 无效：{error}。{sentence}请更正或删除",
            )
        ) from error


def told(settings: Settings) -> dict[str, Any]:
    """Return settings as values that can be sent to another process of the service, secrets revealed: by a pipe."""
    values = {name: getattr(settings, name) for name in FIELDS}
    return {name: value.reveal() if isinstance(value, Secret) else value for name, value in values.items()}


def heard(values: Mapping[str, Any]) -> Settings:
    """Return the settings that were `told`."""
    return msgspec.convert(values, Settings, dec_hook=lambda kind, value: kind(value))


def _shown(value: Any) -> str:
    """Return a value that does not fit as people wrote it, "" where it could be a key in the wrong place."""
    text = f" = {value!r}"
    return text if len(text) <= _SHOWN_CHARACTERS and isinstance(value, str | int | float) else ""


def is_secret(name: str) -> bool:
    """Say whether a setting's value must be masked when shown."""
    return _TYPES[name] is Secret


def _kind_of_flag(name: str) -> FlagKind:
    wanted = _TYPES[name]
    if wanted is bool:
        return "either" if FIELDS[name].default else "switch"
    return "append" if typing.get_origin(wanted) is tuple else "store"


# A secret on the command line can be read by every user of the machine; tables belong into the file.
FLAGS = {name: _kind_of_flag(name) for name in FIELDS if not is_secret(name) and name not in TABLES}
"""The settings that a command line can give, and how: a `switch` has no value, `either` can be denied (`--no-…`),
`append` may be given again, `store` has a value, as text."""


def flag_of(name: str) -> str:
    """Return a setting's flag, as `--keepalive-s`."""
    return f"--{name.replace('_', '-')}"


def type_name(name: str) -> str:
    """Return a setting's type as people read it: `int`, `text | json`, `list`."""
    wanted = _TYPES[name]
    if typing.get_origin(wanted) is Annotated:
        wanted = typing.get_args(wanted)[0]
    if typing.get_origin(wanted) is typing.Literal:
        return " | ".join(typing.get_args(wanted))
    if typing.get_origin(wanted) is tuple:
        return "list"
    return "text" if wanted in (str, Secret) else wanted.__name__ if isinstance(wanted, type) else str(wanted)


__all__ = [
    "FIELDS",
    "FLAGS",
    "TABLES",
    "VARIABLE",
    "DeploymentRow",
    "Effective",
    "FlagKind",
    "PriceRow",
    "RouteRow",
    "Secret",
    "Settings",
    "config_file",
    "default_home",
    "flag_of",
    "heard",
    "is_secret",
    "load",
    "told",
    "type_name",
]
