"""GPU engines that Hanlin starts itself: vLLM or SGLang in an environment of its own, and the conversation with it.

Never imported, only run: its program is named by the operator, its release asked before a start, its log kept in a
bounded file. It listens on a port of the loopback address that is new at every start, as is the key that it asks for.
"""

import asyncio
import contextlib
import logging
import os
import secrets
import shutil
import socket
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from hanlin.engines import launches
from hanlin.engines.chat import ChatEngine
from hanlin.engines.engine import Counters
from hanlin.engines.engine_log import LogFile, advice, private, telling
from hanlin.engines.launches import GpuOrders, Version
from hanlin.engines.manner import Manner
from hanlin.engines.profiles import EngineProfile, profiles
from hanlin.engines.supervisor import Exited, Ready, Served, State, Supervisor
from hanlin.engines.wire import Address, Client
from hanlin.errors import EngineFailed, HanlinError, StartupError
from hanlin.types import ChatRequest, ChatResult, CompletionRequest, Events
from hanlin.words import say

log = logging.getLogger("hanlin.engine")

# A call may be silent for long while the engine reads the prompts of others. Whether the engine lives is for its
# supervisor to judge, who cuts every call when it does not.
_CALL_SILENCE_S = 3600.0
_HEALTH_S = 5.0
_VERSION_S = 120.0  # vLLM loads half of itself before it names its release
_GRACE_S = 10.0
_KEY_BYTES = 32
_SPARE = 16  # connections beside the slots, for probes and for calls that end just now


def engine_profile(orders: GpuOrders, name: str = "") -> EngineProfile:
    """Return how the orders' engine is spoken to: by the profile `name`, or by its own, or by vLLM's.

    One that was told of no parser for tool calls is offered no tools: vLLM refuses them.
    """
    known = profiles()
    profile = known.engine_named(name) if name else known.engine.get(orders.engine, known.engine["vllm"])
    return profile if orders.calls_tools else msgspec.structs.replace(profile, tools=False)


@dataclass(frozen=True)
class Keeping:
    """One start of an engine, by its keeper."""

    orders: GpuOrders
    command_line: Sequence[str]
    values: Mapping[str, str]
    grace_s: float

    @property
    def name(self) -> str:
        return self.orders.name

    def command(self) -> list[str]:
        return [sys.executable, "-m", "hanlin.engines.keeper"]

    def environment(self) -> dict[str, str]:
        return dict(self.values)

    def line(self) -> dict[str, object]:
        return {"command": list(self.command_line), "parent_pid": os.getpid(), "grace_s": self.grace_s}


class ManagedEngine:
    """One model on one GPU engine. Between `start` and `close` it restarts by itself whatever happens to it.

    `probe_s` is how long it may be idle before it is asked for a token, `stall_s` how long that may take, and
    `load_stall_s` how long it may load without any progress: no line, no memory, no CPU time.
    """

    def __init__(
        self,
        orders: GpuOrders,
        profile: EngineProfile,
        *,
        stall_s: float,
        load_wait_s: float,
        probe_s: float = 60.0,
        load_stall_s: float = 600.0,
        grace_s: float = _GRACE_S,
    ) -> None:
        self.orders = orders
        self._load_wait_s = load_wait_s
        self._stall_s = stall_s
        self._probe_s = probe_s
        self._grace_s = grace_s
        self._open_calls = 0
        self._key = ""
        self._version: Version | None = None
        self._log = LogFile(orders.log_file)
        self._manner = Manner(profile, orders.served, silence_s=_CALL_SILENCE_S)
        self._reach(0)
        served = Served(
            begin=self._begin,
            arrived=self._arrived,
            heard=self._heard,
            ask_after_s=self._ask_after_s,
            loading_stall_s=load_stall_s,
            grace_s=grace_s,
        )
        command = Keeping(orders, (), {}, grace_s)
        self.supervisor = Supervisor(
            command, prepare=self._prepare, probe=self._generate_one, stall_s=stall_s, served=served
        )

    @property
    def state(self) -> State:
        return self.supervisor.state

    @property
    def port(self) -> int:
        """The port of the start that is under way, or was last."""
        return self._client.address.port

    def why_not_ready(self) -> str | None:
        return None if isinstance(self.state, Ready) else str(self.state)

    def start(self) -> None:
        self.supervisor.start()

    def generate(self, request: ChatRequest) -> Events:
        """As `ChatEngine.generate`, once the engine is ready. EngineUnavailable when it is not in time."""
        return self._alive(lambda: self._chat.generate(request))

    def whole(self, request: ChatRequest) -> Coroutine[Any, Any, ChatResult] | None:
        """As `ChatEngine.whole`, once the engine is ready."""
        return self._whole(request) if self._chat.gives_whole(request) else None

    async def _whole(self, request: ChatRequest) -> ChatResult:
        await self.supervisor.ready(self._load_wait_s)
        answer = self._chat.whole(request)  # of the client of now: a start has its own port
        assert answer is not None
        self._open_calls += 1
        try:
            result = await answer
        finally:
            self._open_calls -= 1
        self.supervisor.alive()
        return result

    def fill(self, request: CompletionRequest) -> Events:
        """As `ChatEngine.fill`, once the engine is ready."""
        return self._alive(lambda: self._chat.fill(request))

    async def _alive(self, answer: Callable[[], Events]) -> Events:
        await self.supervisor.ready(self._load_wait_s)
        self._open_calls += 1
        try:
            async with aclosing(answer()) as bursts:
                async for burst in bursts:
                    self.supervisor.alive()
                    yield burst
        finally:
            self._open_calls -= 1

    async def count(self, request: ChatRequest) -> int | None:
        """Return the billed prompt tokens of a request, or None: these engines have no exact way of telling."""
        return await self._chat.count(request)

    def trouble(self) -> str | None:
        """Return what ended the engine last, with its own words and what to do, until it is ready again."""
        exited = self.supervisor.last_exit
        return None if exited is None else f"{self.orders.name}: {_explained(exited)}"

    def counters(self) -> Counters:
        return Counters(self.supervisor.restarts, self._client.open_connections)

    async def close(self) -> None:
        await self.supervisor.stop()
        self._client.close()
        self._health.close()
        self.orders.key_file.unlink(missing_ok=True)

    # What the supervisor asks for

    async def _begin(self) -> Keeping:
        """Choose the port and the key of a start, and say what is started. StartupError when nothing can be."""
        orders = self.orders
        program = shutil.which(orders.executable, path=orders.environment.get("PATH"))
        if program is None:
            raise launches.missing(orders)
        await self._check_release(program)
        if self.supervisor.restarts == 0:
            for sentence in filter(None, (launches.lacks_template(orders), _open_to_users(orders))):
                log.warning("engine %s: %s", orders.name, sentence)
        self._key = secrets.token_urlsafe(_KEY_BYTES) if orders.has_key else ""
        if orders.key_on_file:
            _write_key(orders.key_file, self._key)
        self._reach(_free_port())
        return Keeping(
            orders,
            launches.command(orders, program, self.port),
            launches.child_environment(orders, self._key),
            self._grace_s,
        )

    async def _check_release(self, program: str) -> None:
        """Ask for the engine's release, once, and refuse one that cannot run the weights."""
        if self._version is None:
            said = await _output(launches.version_command(self.orders, program), self.orders)
            self._version = launches.version_in(said)
            if self._version is None:
                log.warning("engine %s: %s names no release: %.200s", self.orders.name, program, said.strip())
                return
            log.info("engine %s: %s %s", self.orders.name, self.orders.title, ".".join(map(str, self._version)))
        if (problem := launches.too_old(self.orders, self._version)) is not None:
            self._version = None  # it may be a newer one by the next try
            raise problem

    def _reach(self, port: int) -> None:
        """Speak to a port from now on. Calls on the last one have ended with their engine."""
        if port:
            self._client.close()
            self._health.close()
        address = Address("127.0.0.1", port)
        self._health: Client = Client(address)
        self._client: Client = Client(replace(address, base="/v1"), connection_limit=self.orders.slots + _SPARE)
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        self._chat = ChatEngine(self._client, replace(self._manner, headers=headers))

    async def _arrived(self) -> bool:
        try:
            response = await self._health.send("GET", "/health", silence_s=_HEALTH_S)
            await response.body()
        except HanlinError:
            return False
        return response.status == 200

    async def _prepare(self) -> None:
        """Have a token made before anybody is let in; it also tells our engine from another server on its port."""
        await self._generate_one()
        self.orders.key_file.unlink(missing_ok=True)

    async def _generate_one(self) -> None:
        """Have one token generated: a completion, because weights without a chat template make those as well."""
        body = msgspec.json.encode({"model": self.orders.served, "prompt": "1", "max_tokens": 1, "temperature": 0})
        headers = self._chat.manner.headers
        response = await self._client.send(
            "POST", "/completions", body, headers=headers, silence_s=self._manner.silence_s
        )
        said = await response.body()
        if response.status != 200:
            raise EngineFailed(f"a completion of one token was answered {response.status}: {said[:200]!r}")

    def _ask_after_s(self) -> float:
        """Under load silence means more: somebody waits for a token that does not come."""
        return min(self._probe_s, self._stall_s / 2) if self._open_calls else self._probe_s

    def _heard(self, line: str) -> str:
        """Keep a line of the engine's log; SGLang writes all its settings there, and the key is one of them."""
        line = line.replace(self._key, "••••") if self._key else line
        self._log.write(line)
        return line


def _explained(exited: Exited) -> str:
    said = telling(exited.last_lines)
    return ". ".join(
        [str(exited), *([say("It said: ", "它的输出：") + " | ".join(said)] if said else []), advice(exited.last_lines)]
    ).removesuffix(". ")


def _open_to_users(orders: GpuOrders) -> str | None:
    """Return a warning where the engine asks for no key, so that every user of this machine can call it."""
    if orders.has_key:
        return None
    return say(
        "asks for no key, because `--config` stands in its arguments: every user of this machine can call it. "
        "Add `api-key: …` to that file only together with a `[[deployment]]` that has a `url`",
        "不校验密钥，因为 arguments 中已有 `--config`：本机所有用户均可调用。"
        "如需在该文件中设置 `api-key`，请改用带 `url` 的 `[[deployment]]`",
    )


def _write_key(file: Path, key: str) -> None:
    """Write the key where only the engine's user can read it."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    with open(file, "x", encoding="utf-8", opener=private) as writing:
        writing.write(f"api-key: {key}\n")


def _free_port() -> int:
    """Return a port that nobody listens on now. Should somebody take it first, the engine ends and is started anew."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def _output(command: Sequence[str], orders: GpuOrders) -> str:
    """Return what a command prints. StartupError when it cannot be run or takes too long."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=launches.child_environment(orders),
    )
    try:
        async with asyncio.timeout(_VERSION_S):
            output, _ = await process.communicate()
    except TimeoutError:
        raise StartupError(
            say(
                f"`{' '.join(command)}` said nothing for {_VERSION_S:g} s: try it in a shell",
                f"`{' '.join(command)}` 超过 {_VERSION_S:g} 秒没有输出：请在终端中尝试",
            )
        ) from None
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return output.decode("utf-8", "replace")
