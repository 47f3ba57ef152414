"""What a GPU engine is told when it is started: vLLM or SGLang, from a `[[deployment]]` row and from `launches.toml`.

Pure, but for the look at the machine in `orders_of`. The process is kept by `keeper`, its life is `supervisor`'s, the
conversation with it `managed`'s.
"""

import os
import re
import secrets
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Literal

import msgspec

from hanlin.errors import StartupError
from hanlin.settings import DeploymentRow
from hanlin.words import say

Version = tuple[int, ...]
Kind = Literal["vllm", "sglang"]

TITLES: Mapping[Kind, str] = {"vllm": "vLLM", "sglang": "SGLang"}

# What an engine needs of our environment: where things are, how to reach the hubs, and its own settings. All else stays
# out, since keys live there; a hub's token is passed on purpose, because gated weights cannot be fetched without it.
_KEPT = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "XDG_CACHE_HOME"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "OMP_NUM_THREADS"),
    }
)
_KEPT_BEGINNINGS = (
    *("CUDA_", "NVIDIA_", "NCCL_", "GLOO_", "UCX_", "TORCH", "PYTORCH_", "TRITON_", "FLASHINFER_", "HF_"),
    *("MODELSCOPE_", "VLLM_", "SGLANG_"),
)

# Where the engine listens, for whom and under which name is ours to say; and a key on the command line is everybody's.
_OURS = ("--host", "--port", "--uds", "--api-key", "--served-model-name", "--model", "--model-path")
_KEY_ON_FILE = "--config"


class Flags(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one engine is told for a model (see the comments of `launches.toml`)."""

    tools: str = ""
    reasoning: str = ""
    options: tuple[str, ...] = ()
    minimum: str = ""
    template: str = ""


class Launch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one family of published models is started on either engine."""

    models: tuple[str, ...]
    source: str
    vllm: Flags
    sglang: Flags

    def flags(self, engine: Kind) -> Flags:
        return self.vllm if engine == "vllm" else self.sglang


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    launch: tuple[Launch, ...]


@cache
def launches() -> tuple[Launch, ...]:
    """Return the packaged rows, in the order in which they are tried."""
    text = resources.files("hanlin.engines").joinpath("launches.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), _File).launch


def launch_for(model: str) -> Launch:
    """Return the row of a published model: `model` is its repository, or a folder that is named after it."""
    name = _own_name(model)
    return next(row for row in launches() if any(fnmatchcase(name.lower(), one.lower()) for one in row.models))


def _own_name(model: str) -> str:
    """Return a model's name without its maker; a folder of the hub's cache has it further up."""
    parts = PurePosixPath(model).parts
    cached = [part for part in parts if part.startswith("models--")]
    return (cached[-1].split("--")[-1] if cached else parts[-1]) if parts else ""


@dataclass(frozen=True)
class GpuOrders:
    """Everything that is needed to start one engine, again and again.

    `weights` is a repository or the path of a folder, `repository` the published model that they are ("" when only
    `weights` says so). `gpus` are the cards, `shards` how many the weights are spread over. `context_tokens` is 0 where
    the weights' own is taken. `environment` is all that the engine gets of ours.
    """

    name: str
    engine: Kind
    weights: str
    repository: str
    served: str
    executable: str
    arguments: tuple[str, ...]
    gpus: tuple[int, ...]
    shards: int
    context_tokens: int
    slots: int
    log_file: Path
    key_file: Path
    environment: Mapping[str, str] = field(repr=False)

    @property
    def title(self) -> str:
        return TITLES[self.engine]

    @property
    def flags(self) -> Flags:
        return launch_for(self.repository or self.weights).flags(self.engine)

    @property
    def calls_tools(self) -> bool:
        """Whether the engine reads the calls that the model writes; without, vLLM refuses tools."""
        return bool(self.flags.tools) or _given("--tool-call-parser", self.arguments)

    @property
    def key_on_file(self) -> bool:
        """Whether the engine reads its key from `key_file`: SGLang has no variable for it, and takes one such file."""
        return self.engine == "sglang" and not _given(_KEY_ON_FILE, self.arguments)

    @property
    def has_key(self) -> bool:
        return self.engine == "vllm" or self.key_on_file


def orders_of(
    row: DeploymentRow,
    *,
    logs: Path,
    run: Path,
    environment: Mapping[str, str] = os.environ,
    devices: Path = Path("/dev"),
) -> GpuOrders:
    """Return the orders of a row with an `engine`. Raises StartupError naming the row and what to do.

    `logs` is where its log is kept, `run` a folder that nobody else can read.
    """
    engine = row.engine
    if engine == "":
        raise _refused(row, "has no engine: set `engine` to vllm or sglang", "没有 engine：请设为 vllm 或 sglang")
    _check(row)
    kept = kept_environment(environment)
    file = re.sub(r"[^\w.-]", "_", row.name)
    return GpuOrders(
        name=row.name,
        engine=engine,
        weights=_weights(row),
        repository=row.repository,
        served=row.model or row.name,
        executable=row.executable or engine,
        arguments=row.arguments,
        gpus=row.gpus,
        shards=len(row.gpus) or _visible_gpus(kept, devices),
        context_tokens=row.context_tokens,
        slots=row.slots,
        log_file=logs / f"{file}.log",
        key_file=run / f"{file}-{secrets.token_hex(4)}.yaml",  # a changed row starts before the old engine has ended
        environment=kept,
    )


def _refused(row: DeploymentRow, en: str, zh: str) -> StartupError:
    return StartupError(say(f"[[deployment]] {row.name!r}: {en}", f"[[deployment]] {row.name!r}：{zh}"))


def _check(row: DeploymentRow) -> None:
    """Refuse what contradicts itself, and what would take out of our hands how the engine is reached."""
    for other in ("url", "upstream", "key_env"):
        if getattr(row, other):
            raise _refused(
                row,
                f"has both `engine` and `{other}`: Hanlin starts an engine itself, and finds its address and key. "
                "Remove one of them",
                f"同时设置了 `engine` 和 `{other}`：引擎由 Hanlin 启动，地址与密钥也由它决定。请删除其中之一",
            )
    if not row.weights:
        raise _refused(
            row,
            f'engine {row.engine!r} needs weights: name a repository (`weights = "Qwen/Qwen3-8B"`) or a folder',
            f'engine {row.engine!r} 需要 weights：请填写仓库名（`weights = "Qwen/Qwen3-8B"`）或文件夹',
        )
    if row.weights.startswith("-"):
        raise _refused(row, f"weights {row.weights!r} are no repository", f"weights {row.weights!r} 不是仓库名")
    if len(set(row.gpus)) != len(row.gpus):
        raise _refused(row, f"gpus {list(row.gpus)} names one twice", f"gpus {list(row.gpus)} 中有重复的编号")
    for argument in row.arguments:
        name = _option(argument)
        if name in _OURS or name.startswith("--ssl-"):
            written = argument.partition("=")[0]  # without its value, which may be a key
            raise _refused(
                row,
                f"arguments: leave out `{written}`: Hanlin sets how the engine is reached",
                f"arguments：请去掉 `{written}`：引擎的访问方式由 Hanlin 设定",
            )


def _weights(row: DeploymentRow) -> str:
    """Return a repository as it is, and a folder as an absolute path that exists."""
    if not row.weights.startswith(("/", "./", "../", "~")):
        return row.weights
    folder = Path(os.path.abspath(Path(row.weights).expanduser()))
    if not folder.exists():
        raise _refused(row, f"weights: {folder} does not exist", f"weights：{folder} 不存在")
    return str(folder)


def _option(argument: str) -> str:
    """Return the option that an argument names, in its usual spelling (vLLM takes `_` for `-`)."""
    return argument.split("=", 1)[0].replace("_", "-") if argument.startswith("--") else ""


def _given(option: str, arguments: Sequence[str]) -> bool:
    return any(_option(argument) == option for argument in arguments)


def kept_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return what an engine gets of our environment."""
    return {
        name: value
        for name, value in environment.items()
        if (name in _KEPT or name.startswith(_KEPT_BEGINNINGS)) and name != "VLLM_API_KEY"
    }


def _visible_gpus(environment: Mapping[str, str], devices: Path) -> int:
    """Return how many cards an engine would see; 1 where that cannot be known."""
    named = environment.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return max(len([one for one in named.split(",") if one.strip()]), 1)
    return max(len([one for one in devices.glob("nvidia*") if one.name.removeprefix("nvidia").isdecimal()]), 1)


def child_environment(orders: GpuOrders, key: str = "") -> dict[str, str]:
    """Return the engine's environment. `key` is the one that it asks its callers for."""
    values = {"VLLM_NO_USAGE_STATS": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID", "PYTHONUNBUFFERED": "1"}
    values |= orders.environment
    if orders.gpus:
        values["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, orders.gpus))
    if key and orders.engine == "vllm":
        values["VLLM_API_KEY"] = key
    return values


def command(orders: GpuOrders, program: str, port: int) -> list[str]:
    """Return the command that starts the engine: our options, the model's, the operator's; the last one of a name wins.

    No key stands in it: every user of the machine can read the commands that run.
    """
    flags, sglang = orders.flags, orders.engine == "sglang"
    told = [*_subcommand(program, orders), "--served-model-name", orders.served, "--host", "127.0.0.1"]
    told += ["--port", str(port), "--tensor-parallel-size", str(orders.shards)]
    told += ["--max-running-requests" if sglang else "--max-num-seqs", str(orders.slots)]
    if orders.context_tokens:
        told += ["--context-length" if sglang else "--max-model-len", str(orders.context_tokens)]
    told += ["--enable-cache-report" if sglang else "--enable-prompt-tokens-details"]  # cached tokens in the usage
    if flags.tools:
        told += [] if sglang else ["--enable-auto-tool-choice"]
        told += ["--tool-call-parser", flags.tools]
    if flags.reasoning:
        told += ["--reasoning-parser", flags.reasoning]
    told += flags.options
    if orders.key_on_file:
        told += [_KEY_ON_FILE, str(orders.key_file)]
    return [*told, *orders.arguments]


def _is_python(program: str) -> bool:
    return PurePosixPath(program).name.startswith("python")


def _subcommand(program: str, orders: GpuOrders) -> list[str]:
    """Return how a program is made to serve: `executable` may be the engine's own, or its environment's Python."""
    if orders.engine == "vllm":
        module = ["-m", "vllm.entrypoints.cli.main"] if _is_python(program) else []
        return [program, *module, "serve", orders.weights]
    return [
        program,
        *(["-m", "sglang.launch_server"] if _is_python(program) else ["serve"]),
        "--model-path",
        orders.weights,
    ]


def version_command(orders: GpuOrders, program: str) -> list[str]:
    """Return the command that prints the engine's release; Python reads it from the package, without loading it."""
    if _is_python(program):
        return [program, "-c", f"import importlib.metadata as m; print(m.version({orders.engine!r}))"]
    return [program, "--version" if orders.engine == "vllm" else "version"]


def version_in(text: str) -> Version | None:
    """Return the release that the last line of its kind names, as `0.33.0rc1+cu129` or `sglang version: 0.5.23`."""
    for line in reversed(text.splitlines()):
        if found := re.fullmatch(r"(?:\w+ version: )?(\d+)\.(\d+)(?:\.(\d+))?\S*", line.strip()):
            return tuple(int(part or 0) for part in found.groups())
    return None


def too_old(orders: GpuOrders, version: Version) -> StartupError | None:
    """Return why a release cannot run the orders' weights, and what to do about it."""
    minimum = version_in(orders.flags.minimum)
    if minimum is None or version >= minimum:
        return None
    here, wanted = ".".join(map(str, version)), orders.flags.minimum
    package, model = orders.engine, orders.repository or orders.weights
    return StartupError(
        say(
            f"{model} needs {orders.title} {wanted} or newer, {orders.executable} is {here}: "
            f'`pip install -U "{package}>={wanted}"` in its environment',
            f"{model} 需要 {orders.title} {wanted} 或更高版本，{orders.executable} 为 {here}："
            f'请在其环境中执行 `pip install -U "{package}>={wanted}"`',
        )
    )


def missing(orders: GpuOrders) -> StartupError:
    """Return what to do when the engine's program is not there."""
    home = f"/opt/{orders.engine}"
    return StartupError(
        say(
            f"{orders.executable}: no such program. Install {orders.title} into an environment of its own: "
            f"`python -m venv {home} && {home}/bin/pip install {orders.engine}`, "
            f'and name it in the deployment: `executable = "{home}/bin/{orders.engine}"`',
            f"{orders.executable}：找不到该程序。请将 {orders.title} 安装到独立环境："
            f"`python -m venv {home} && {home}/bin/pip install {orders.engine}`，"
            f'并在部署中写明：`executable = "{home}/bin/{orders.engine}"`',
        )
    )


def lacks_template(orders: GpuOrders) -> str | None:
    """Return what to do for tools to work, where the weights' own chat template does not know them."""
    template = orders.flags.template
    if not template or _given("--chat-template", orders.arguments):
        return None
    return say(
        f"the model is told of no tools: its chat template leaves them out. Fetch {template} from the examples of "
        f'{orders.title}\'s repository, and add `arguments = ["--chat-template", "/path/to/{template}"]`',
        f"模型不会得知工具：其对话模板不含工具部分。请从 {orders.title} 仓库的示例中获取 {template}，"
        f'并添加 `arguments = ["--chat-template", "/path/to/{template}"]`',
    )
