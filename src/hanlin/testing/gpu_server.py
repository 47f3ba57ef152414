"""Stand in for `vllm serve` and for SGLang's server, on a machine without a GPU: as programs with their real options.

    from hanlin.testing.gpu_server import StandIn, install

    programs = install(tmp_path)                    # programs / "vllm", programs / "sglang", programs / "python"
    environment = {"VLLM_STAND_IN": StandIn(loading_s=0.5).json()}

Options are those of the published releases (`gpu_options.toml`), read as strictly: an unknown one ends with the usage
error and status 2. It then loads, prints lines as the real ones do, starts a worker process, and answers by means of
the fake engine. `StandIn` says how it differs from a healthy one; it is read from the environment variable.
"""

import argparse
import asyncio
import os
import signal
import stat
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import msgspec

from hanlin.testing import script
from hanlin.testing.connection import Answer, Connection, Request
from hanlin.testing.routes import Engine
from hanlin.testing.rules import Rule, Setup
from hanlin.testing.script import Step

Kind = Literal["vllm", "sglang"]
Fault = Literal["", "out-of-memory", "crash", "hang", "stubborn"]

VARIABLE = "VLLM_STAND_IN"
_SHELL = '#!/bin/sh\nexec "{python}" -m hanlin.testing.gpu_server {program} "$@"\n'
_WORKER = "import time\nwhile True: time.sleep(60)\n"
_STEP_S = 0.05
_METRICS = {
    b"llamacpp:prompt_tokens_total": b"prompt_tokens_total",
    b"llamacpp:tokens_predicted_total": b"generation_tokens_total",
    b"llamacpp:requests_processing": b"num_requests_running",
}
_GUARDED = {"vllm": ("/v1",), "sglang": ("/",)}
_OPEN = ("/health", "/metrics")


class StandIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How the stand-in behaves.

    It loads for `loading_s` and may have a `fault`: `out-of-memory` ends it while it loads, `hang` keeps it from ever
    getting further; `crash` ends it once it has served for `crash_after_s`; `stubborn` ignores SIGTERM. With `lives`, a
    file, only the first `faulty` starts have the fault. `release` is the version that it says it is.
    """

    loading_s: float = 0.1
    fault: Fault = ""
    crash_after_s: float = 0.0
    lives: str = ""
    faulty: int = 1
    release: str = ""
    rule: tuple[Rule, ...] = ()

    def json(self) -> str:
        return msgspec.json.encode(self).decode()


class Options(msgspec.Struct, frozen=True):
    """The options of one engine's release, by their names (see the comments of `gpu_options.toml`)."""

    version: str
    source: str
    flags: tuple[str, ...]
    values: tuple[str, ...]
    lists: tuple[str, ...]
    tools: tuple[str, ...]
    reasoning: tuple[str, ...]


@cache
def options(kind: Kind) -> Options:
    """Return the options of an engine's release."""
    text = resources.files("hanlin.testing").joinpath("gpu_options.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text)[kind], Options)


def install(folder: Path) -> Path:
    """Write the programs `vllm`, `sglang` and `python` (of SGLang's environment) into a folder, and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    for program in ("vllm", "sglang", "python"):
        file = folder / program
        file.write_text(_SHELL.format(python=sys.executable, program=program))
        file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return folder


def parse(kind: Kind, arguments: Sequence[str]) -> argparse.Namespace:
    """Read a server's arguments as its release does. Raises SystemExit(2) after the usage error."""
    known = options(kind)
    parser = argparse.ArgumentParser(prog=f"{kind} serve", usage=f"{kind} serve [model] [options]")
    negatable = argparse.BooleanOptionalAction if kind == "vllm" else "store_true"
    for name in known.flags:
        parser.add_argument(name, action=negatable, default=None)
    for name in (*known.values, *known.lists):
        parser.add_argument(name, **_value(kind, name, known))
    if kind == "vllm":
        parser.add_argument("model_tag", nargs="?")
        arguments = _as_vllm_reads(arguments, known)
    else:
        arguments = _with_file(arguments)
    read = parser.parse_args(arguments)
    if kind == "vllm" and read.enable_auto_tool_choice and read.tool_call_parser not in known.tools:
        parser.error(f"--enable-auto-tool-choice requires --tool-call-parser, got {read.tool_call_parser!r}")
    return read


def _value(kind: Kind, name: str, known: Options) -> dict[str, Any]:
    if name in ("--port", "--tensor-parallel-size", "--max-num-seqs", "--max-running-requests", "--context-length"):
        return {"type": int}
    if kind == "sglang" and name in ("--tool-call-parser", "--reasoning-parser"):
        return {"choices": known.tools if name == "--tool-call-parser" else known.reasoning}
    if kind == "sglang" and name == "--model-path":
        return {"required": True}
    return {"nargs": "+"} if name in known.lists else {}


def _as_vllm_reads(arguments: Sequence[str], known: Options) -> list[str]:
    """Return the arguments with `_` for `-` undone, opposites turned, and single keys of JSON values left out."""
    read: list[str] = []
    pending = False
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if pending:
            pending = False
        elif not name.startswith("--"):
            read.append(argument)
        elif (name := name.replace("_", "-")).split(".")[0] in known.values and "." in name:
            pending = not equals
        else:
            opposite = name.replace("--disable-", "--enable-", 1)
            turned = name not in known.flags and opposite in known.flags
            read.append(f"--no-{opposite[2:]}" if turned else f"{name}{equals}{value}")
    return read


def _with_file(arguments: Sequence[str]) -> list[str]:
    """Return the arguments with what a `--config` file says put before them."""
    if "--config" not in arguments:
        return list(arguments)
    at = arguments.index("--config")
    file = Path(arguments[at + 1])
    if file.suffix not in (".yaml", ".yml"):
        raise ValueError(f"Config file must be YAML format, got: {file.suffix}")
    pairs = [line.partition(": ") for line in file.read_text(encoding="utf-8").splitlines() if line]
    said = [part for name, _, value in pairs for part in (f"--{name}", value)]
    return [*said, *arguments[:at], *arguments[at + 2 :]]


def main(arguments: Sequence[str]) -> int:
    """Be the program that the first argument names, with the others."""
    program, rest = arguments[0], list(arguments[1:])
    told = msgspec.json.decode(os.environ.get(VARIABLE, "{}"), type=StandIn)
    kind: Kind = "vllm" if program == "vllm" else "sglang"
    release = told.release or options(kind).version
    match rest:
        case ["--version"] if program == "vllm":
            say("INFO 11-26 20:16:12 [__init__.py:216] Automatically detected platform cuda.")
            say(release)
        case ["version"] if program == "sglang":
            say(f"sglang version: {release}")
            say("git revision: 0a1b2c3")
        case ["-c", _] if program == "python":
            say(release)
        case ["serve", *rest] if program != "python":
            return serve(kind, parse(kind, rest), told)
        case ["-m", "sglang.launch_server", *rest] if program == "python":
            return serve(kind, parse(kind, rest), told)
        case _:
            sys.stderr.write(f"{program}: error: invalid choice: {rest!r}\n")
            return 2
    return 0


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def fault_of(told: StandIn) -> Fault:
    """Return the fault of this start, and count it where only some have one."""
    if not told.lives:
        return told.fault
    with open(told.lives, "a+", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")
        file.seek(0)
        return told.fault if len(file.readlines()) <= told.faulty else ""


def serve(kind: Kind, read: argparse.Namespace, told: StandIn) -> int:
    """Load and serve, until told to end or until the fault."""
    fault = fault_of(told)
    if fault == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # A worker that knows nothing of its parent: it lives on unless somebody ends it.
    worker = subprocess.Popen([sys.executable, "-I", "-S", "-c", _WORKER], stdin=subprocess.DEVNULL)  # noqa: S603
    if kind == "sglang":
        say(f"server_args=ServerArgs(model_path={read.model_path!r}, api_key={read.api_key!r}, tp_size=1)")
    if not _load(kind, told.loading_s, fault):
        return 1
    try:
        return asyncio.run(_answer(kind, read, told, fault))
    finally:
        worker.terminate()


def _load(kind: Kind, loading_s: float, fault: Fault) -> bool:
    """Print what a loading engine prints; False when it does not come to its end."""
    steps = max(round(loading_s / _STEP_S), 1)
    prefix = "(EngineCore pid=1) INFO" if kind == "vllm" else "[2026-11-26 20:16:12]"
    for step in range(steps):
        say(f"{prefix} Loading safetensors checkpoint shards: {100 * step // steps}% Completed")
        time.sleep(loading_s / steps)
    if fault == "hang":
        time.sleep(3600)
    if fault == "out-of-memory":
        say("ERROR torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity")
        say("RuntimeError: Engine core initialization failed. See root cause above.")
    return fault != "out-of-memory"


async def _answer(kind: Kind, read: argparse.Namespace, told: StandIn, fault: Fault) -> int:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    if fault != "stubborn":
        loop.add_signal_handler(signal.SIGTERM, ended.set)
    server = Front(kind, read, told.rule)
    listening = await loop.create_server(lambda: Connection(server.respond), read.host or "127.0.0.1", read.port)
    say("INFO:     Application startup complete.")
    if fault == "crash":
        await asyncio.sleep(told.crash_after_s)
        say("ERROR CUDA error: an illegal memory access was encountered")
        os._exit(1)
    await ended.wait()
    listening.close()
    say("INFO:     Shutting down")
    return 0


class Front:
    """What stands between a server's port and the fake engine: its key, its names, and what it refuses."""

    def __init__(self, kind: Kind, read: argparse.Namespace, rules: Sequence[Rule]) -> None:
        self._kind = kind
        named = read.served_model_name or getattr(read, "model_tag", None) or read.model_path
        self._names: tuple[str, ...] = (named,) if isinstance(named, str) else tuple(named)
        given = read.api_key or [os.environ.get("VLLM_API_KEY") if kind == "vllm" else None]
        self._keys = [key for key in ([given] if isinstance(given, str) else given) if key]
        self._calls_tools = kind == "sglang" or bool(read.enable_auto_tool_choice)
        context = read.max_model_len if kind == "vllm" else read.context_length
        self._engine = Engine(Setup(models=self._names, context_tokens=int(context or 0), rule=tuple(rules)))

    def respond(self, request: Request) -> Answer:
        if (refused := self._refusal(request)) is not None:
            status, message = refused
            return Answer(script.error(status, {"error": {"message": message, "code": status}}, {}))
        answer = self._engine.respond(request)
        return self._named(answer) if request.path == "/metrics" else answer

    def _refusal(self, request: Request) -> tuple[int, str] | None:
        guarded = request.path.startswith(_GUARDED[self._kind]) and not request.path.startswith(_OPEN)
        if self._keys and guarded:
            scheme, _, key = request.headers.get("authorization", "").partition(" ")
            if scheme != "Bearer" or key not in self._keys:
                return 401, "Unauthorized"
        if request.method != "POST":
            return None
        body = msgspec.json.decode(request.body)
        if body.get("model") not in self._names:
            return 404, f"The model `{body.get('model')}` does not exist."
        if body.get("tools") and body.get("tool_choice", "auto") == "auto" and not self._calls_tools:
            return 400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
        return None

    def _named(self, answer: Answer) -> Answer:
        """Return the fake engine's figures under the names that the engine gives them."""
        whole = b"".join(step.data for step in answer.steps)
        body = whole.partition(b"\r\n\r\n")[2]
        for theirs, ours in _METRICS.items():
            body = body.replace(theirs, f"{self._kind}:".encode() + ours)
        plain = {"content-type": "text/plain; version=0.0.4"}
        return Answer(iter([Step(script.answer(200, body, plain), end="whole")]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
