"""Run the fake engine as a process: `python -m hanlin.testing.engine --port 0 --rules FILE`.

Prints one line of JSON, `{"url": …, "uds": …, "pid": …}`, as soon as it listens, and nothing else. Ends on SIGTERM and
SIGINT. With `--from-stdin` the set-up is the first line of the standard input, as JSON, and the engine ends when that
input does: so it cannot outlive the process that started it.
"""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import uvloop

from hanlin.testing import rules
from hanlin.testing.connection import Connection
from hanlin.testing.routes import Engine
from hanlin.testing.rules import Setup
from hanlin.words import say

_BACKLOG = 1024


class Listening(msgspec.Struct, frozen=True):
    """Where the engine listens. With a Unix socket the host of `url` stands for nothing."""

    url: str
    uds: str | None
    pid: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to end. Returns the exit status: 2 where the rules or the address are wrong."""
    options = _options(arguments)
    try:
        setup = _setup(options)
        uvloop.run(_serve(setup, options))
        if options.uds:
            Path(options.uds).unlink(missing_ok=True)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


async def _serve(setup: Setup, options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for wanted in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(wanted, ended.set)
    engine = Engine(setup)
    if options.uds:
        server = await loop.create_unix_server(lambda: Connection(engine.respond), options.uds, backlog=_BACKLOG)
        listening = Listening("http://localhost", options.uds, os.getpid())
    else:
        server = await loop.create_server(
            lambda: Connection(engine.respond), options.host, options.port, backlog=_BACKLOG
        )
        port = server.sockets[0].getsockname()[1]
        listening = Listening(f"http://{options.host}:{port}", None, os.getpid())
    lifeline = await _watch_stdin(ended.set) if options.from_stdin else None
    sys.stdout.write(msgspec.json.encode(listening).decode() + "\n")
    sys.stdout.flush()
    await ended.wait()
    server.close()
    if lifeline is not None:
        lifeline.close()


class _Lifeline(asyncio.Protocol):
    """Calls `ended` when the standard input ends; whatever comes from there is ignored."""

    def __init__(self, ended: Callable[[], None]) -> None:
        self._ended = ended

    def connection_lost(self, _error: Exception | None) -> None:
        self._ended()


async def _watch_stdin(ended: Callable[[], None]) -> asyncio.BaseTransport:
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: _Lifeline(ended), sys.stdin)
    return transport


def _setup(options: argparse.Namespace) -> Setup:
    if options.from_stdin:
        return msgspec.json.decode(_first_line(), type=Setup)
    setup = rules.load(options.rules) if options.rules else Setup()
    return msgspec.structs.replace(setup, style=options.style) if options.style else setup


def _first_line() -> bytes:
    # Read by the byte: nothing behind the line may be swallowed into a buffer that the event loop does not see.
    line = bytearray()
    while (byte := os.read(sys.stdin.fileno(), 1)) not in (b"", b"\n"):
        line += byte
    return bytes(line)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m hanlin.testing.engine",
        description=say(
            "A scriptable fake engine that speaks OpenAI chat.", "可编排的模拟引擎，兼容 OpenAI 对话接口。"
        ),
    )
    parser.add_argument("--host", default="127.0.0.1", help=say("address to listen on", "监听地址"))
    parser.add_argument(
        "--port", type=int, default=0, help=say("port to listen on; 0: any free one", "监听端口，0 表示任选")
    )
    parser.add_argument("--uds", help=say("listen on this Unix socket instead", "改为监听此 Unix 套接字"))
    parser.add_argument("--rules", type=Path, help=say("file with rules, TOML or JSON", "规则文件（TOML 或 JSON）"))
    parser.add_argument("--style", choices=("openai", "llama"), help=say("manner of speaking", "应答风格"))
    parser.add_argument(
        "--from-stdin",
        action="store_true",
        help=say("read the set-up from stdin, and end when it ends", "从标准输入读取设置，输入结束时退出"),
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
