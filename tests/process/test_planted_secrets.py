"""Planted keys, prompts and answers, and the search for them in everything that a service leaves behind.

Every route is called well and badly: answered, refused, failed, cut, cancelled, timed out, limited; by a service that
logs as much as it can, is traced, reads its settings again, loses its engine and is killed.
"""

import asyncio
import contextlib
import http.client
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from hanlin.home import Home
from hanlin.http.app import PREFIXES, ROUTES
from hanlin.testing import FakeEngine, Rule, free_port, wait_until
from hanlin.testing.gpu_server import VARIABLE, StandIn, install
from hanlin.testing.rules import ToolCall
from tests import collector, planted
from tests.contract.test_cli import hanlin
from tests.planted import ANSWERS, KEYS, PROMPTS
from tests.service import START_S, Service, toml_of

SILENCE_S = 1.0
QUOTED = {"error": {"message": f"cannot: {PROMPTS['question']} {PROMPTS['prefix']} by Bearer {KEYS['upstream']}"}}
"""What an engine says that quotes its caller, and even its caller's key."""

SAYS = (ANSWERS["answer"], " ", ANSWERS["answer"])
RULES = [
    Rule(contains="[400]", status=400, body=QUOTED),
    Rule(contains="[429]", status=429, body=QUOTED),
    Rule(contains="[500]", status=500, body=QUOTED),
    Rule(contains="[error]", chunks=SAYS, error_after_chunks=2, body=QUOTED),
    Rule(contains="[garbage]", chunks=SAYS, garbage_after_chunks=1),
    Rule(contains="[cut]", chunks=SAYS, cut_after_chunks=1),
    Rule(contains="[stall]", chunks=SAYS, stall_after_chunks=1),
    Rule(contains="[slow]", chunks=SAYS * 100, chunk_delay_s=0.05),
    Rule(contains="[tool]", tool_calls=(ToolCall("look", {"what": ANSWERS["call"]}),)),
    Rule(contains="[think]", thinking=ANSWERS["thought"], chunk_tokens=100, text=ANSWERS["answer"]),
    Rule(contains=PROMPTS["prefix"], chunks=(ANSWERS["code"],)),
    Rule(chunks=SAYS),
]
ENDS = ("[400]", "[429]", "[500]", "[error]", "[garbage]", "[cut]", "[stall]")

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "look",
            "description": PROMPTS["description"],
            "parameters": {"type": "object", "properties": {"what": {"type": "string"}}},
        },
    }
]


def chat(ask: str = "", **more: Any) -> dict[str, Any]:
    called = {"id": "call-1", "type": "function", "function": {"name": "look", "arguments": ""}}
    called["function"] = {"name": "look", "arguments": json.dumps({"what": PROMPTS["argument"]})}
    return {
        "model": "qwen-plus",
        "messages": [
            {"role": "system", "content": PROMPTS["system"]},
            {"role": "user", "content": PROMPTS["history"]},
            {"role": "assistant", "content": None, "tool_calls": [called]},
            {"role": "tool", "tool_call_id": "call-1", "content": PROMPTS["result"]},
            {"role": "user", "content": f"{PROMPTS['question']} {ask}"},
        ],
        **more,
    }


def text(ask: str = "", **more: Any) -> dict[str, Any]:
    return {"model": "qwen-coder-turbo", "prompt": f"{PROMPTS['prefix']} {ask}", "suffix": PROMPTS["suffix"], **more}


def vectors(ask: str = "", **more: Any) -> dict[str, Any]:
    texts = [f"{PROMPTS['document']} {ask}"]
    return {"model": "text-embedding-v4", "input": texts, "dimensions": 1024, **more}


BODIES = {"/chat/completions": chat, "/completions": text, "/embeddings": vectors}


@dataclass
class Left:
    """What callers and people were told: whole responses by what was asked, and what commands printed."""

    answers: list[tuple[str, bytes]] = field(default_factory=list)
    quoting: list[tuple[str, bytes]] = field(default_factory=list)
    printed: list[tuple[str, bytes]] = field(default_factory=list)


class Planting:
    """A service in front of engines that say and quote what is planted, and its callers."""

    def __init__(self, home: Path, engine: FakeEngine, programs: Path, sink: collector.Collector, form: str) -> None:
        self.engine = engine
        self.left = Left()
        self.limited = self.made = ""
        self._config = toml_of(
            *(self._server(name, engine) for name in ("one", "two")),
            {"name": "away", "url": f"http://127.0.0.1:{free_port()}/v1", "serves": ["qwen-max"]},
            {"name": "gpu", "engine": "vllm", "weights": "Qwen/Qwen3-8B", "executable": str(programs / "vllm")}
            | {"serves": ["qwen3-8b"]},
            first_byte_s=SILENCE_S,
            silence_s=SILENCE_S,
            unstreamed_limit_s=3 * SILENCE_S,
            probe_s=3600,
            log_level="debug",
            log_format=form,
        )
        environment = {
            "DASHSCOPE_API_KEY": KEYS["first"],
            "UPSTREAM_KEY": KEYS["upstream"],
            "UNUSED_API_KEY": KEYS["elsewhere"],
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
            "OTEL_EXPORTER_OTLP_HEADERS": f"x-api-key={KEYS['collector']}",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            VARIABLE: StandIn(rule=tuple(RULES)).json(),
        }
        self.service = Service(home, config=self._config, environment=environment)

    @staticmethod
    def _server(name: str, engine: FakeEngine) -> dict[str, Any]:
        row = {"name": name, "url": engine.base_url, "profile": "vllm", "key_env": "UPSTREAM_KEY"}
        return {**row, "serves": ["qwen-plus", "qwen-coder-*", "text-embedding-*"]}

    # --- asking

    def send(
        self, method: str, path: str, body: bytes | None = None, *, leaves: bool = False, **headers: str
    ) -> tuple[int, bytes]:
        """Call the service and keep all that it answers, the head included; `leaves`: after the first piece."""
        connection = http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=30)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            head = "".join(f"{name}: {value}\n" for name, value in answer.headers.items()).encode()
            if leaves:
                answer.readline()
                return answer.status, head
            with contextlib.suppress(http.client.IncompleteRead):
                return answer.status, head + answer.read()
            return answer.status, head
        finally:
            connection.close()

    def call(self, path: str, body: Mapping[str, Any], key: str = "", **how: Any) -> tuple[int, bytes]:
        bearer = {"authorization": f"Bearer {key or KEYS['first']}"}
        return self.send("POST", path, json.dumps(body).encode(), **bearer, **how)

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        more = {"DASHSCOPE_API_KEY": KEYS["first"], "UPSTREAM_KEY": KEYS["upstream"]}
        done = hanlin(self.service.home, *arguments, **more)
        return done

    def make_keys(self) -> None:
        """Make keys by the command that shows them, this once."""
        made = self.command("keys", "create", "--name", "made", "--json")
        limited = self.command("keys", "create", "--name", "limited", "--rpm", "0", "--json")
        self.made, self.limited = json.loads(made.stdout)["key"], json.loads(limited.stdout)["key"]
        assert made.stdout.count(self.made) == 1

    @property
    def secrets(self) -> dict[str, str]:
        return {**KEYS, "made": self.made, "limited": self.limited, **PROMPTS, **ANSWERS}

    # --- what is done

    def call_well(self, path: str) -> None:
        make = BODIES[_bare(path)]
        status, said = self.call(path, make(), self.made)
        assert status == 200, said
        if make is vectors:
            return
        status, said = self.call(path, make(stream=True))
        assert status == 200, said
        assert planted.found("the answer", said, ANSWERS), "the search does not find what is there"
        if make is chat:
            for ask, more in (("[tool]", {"tools": TOOLS}), ("[think]", {"enable_thinking": True}), ("", {"n": 2})):
                for stream in (False, True):
                    assert self.call(path, chat(ask, stream=stream, **more))[0] == 200
            assert self.call(path, chat(model="qwen3-8b"))[0] == 200

    def call_badly(self, path: str) -> None:
        make = BODIES[_bare(path)]
        bad = [
            (make(), self.limited),
            (make(), KEYS["wrong"]),
            (make(model="no-such-model"), ""),
            (make(model="qwen-max"), ""),
            (make(temperature="hot", dimensions="many"), ""),
            (make(seed=[], max_tokens=-1, encoding_format=[], stop=7), ""),
        ]
        for body, key in bad:
            status, said = self.call(path, body, key)
            assert status >= 400 or make is not chat, said
            if status >= 400:
                self.left.answers.append((f"{path} {status}", said))
        picture = {"type": "image_url", "image_url": {"url": f"http://x/{PROMPTS['image']}"}}
        self._note(path, self.call(path, chat(messages=[{"role": "user", "content": [picture]}])))
        raw = json.dumps(make()).encode()
        bearer = {"authorization": f"Bearer {KEYS['first']}"}
        self._note(path, self.send("POST", path, raw[:-1] + PROMPTS["malformed"].encode(), **bearer))
        self._note(path, self.send("POST", path, b'"' + PROMPTS["malformed"].encode() + b'"', **bearer))
        self._note(path, self.send("POST", path, raw + b" " * 7_000_000, **bearer))
        self._note(path, self.send("POST", path, raw))
        self._note(path, self.send("POST", path, raw, cookie=KEYS["cookie"], authorization=KEYS["wrong"]))

    def call_into_trouble(self, path: str) -> None:
        make = BODIES[_bare(path)]
        for ask in ENDS:
            for stream in (False, True) if make is not vectors else (False,):
                status, said = self.call(path, make(ask, stream=stream) if stream else make(ask))
                self.left.quoting.append((f"{path} {ask} {status}", said))
        if make is not vectors:
            self.call(path, make("[slow]", stream=True), leaves=True)
            self._note(path, self.call(path, make("[slow]")))

    def _note(self, path: str, answer: tuple[int, bytes]) -> None:
        status, said = answer
        if status >= 400:
            self.left.answers.append((f"{path} {status}", said))

    def walk(self) -> None:
        """Call every route there is, and some that are not."""
        for path, methods in ROUTES.items():
            asked = f"{path}?api_key={KEYS['query']}"
            for method in ("GET", "POST", "DELETE"):
                for bearer in ({}, {"authorization": f"Bearer {KEYS['wrong']}"}):
                    if "POST" not in methods or method != "POST":
                        self.left.answers.append((f"{method} {path}", self.send(method, asked, **bearer)[1]))
            if "POST" in methods:
                self.call_well(path)
                self.call_badly(path)
        for path in PREFIXES:
            self.call_into_trouble(f"{path}/chat/completions")
            for name in ("qwen-plus", "no-such", KEYS["query"]):
                bearer = {"authorization": f"Bearer {KEYS['first']}"}
                said = self.send("GET", f"{path}/models/{name}", **bearer)[1]
                self.left.answers += [(f"GET model {name}", said)] if name != KEYS["query"] else []
        for path in ("/v1/completions", "/v1/embeddings"):
            self.call_into_trouble(path)
        with contextlib.suppress(OSError, http.client.HTTPException):
            self.send("GET", f"/ {KEYS['query']}", authorization=KEYS["wrong"])

    def misconfigure(self) -> None:
        """Have the running service read files that hold a key where none belongs."""
        for wrong in _misplaced():
            before = self.service.output().count("hanlin.toml")
            self.service.configure(wrong)
            self.service.hup()
            wait_until(lambda: self.service.output().count("hanlin.toml") > before, f"a word about {wrong}")
        self.service.configure(self._config)
        self.service.hup()

    def print_all(self) -> None:
        for arguments in (
            *(("keys", "list"), ("keys", "list", "--json"), ("usage",), ("usage", "--json"), ("usage", "--csv")),
            *(("config",), ("config", "--json"), ("models",), ("doctor",), ("doctor", "--json"), ("prices", "qwen-plus")),
            *(("workspaces", "list"), ("keys", "revoke", KEYS["elsewhere"]), ("keys", "rotate", "no-such")),
        ):
            done = self.command(*arguments)
            if KEYS["elsewhere"] not in arguments:
                self.left.printed.append((" ".join(arguments), (done.stdout + done.stderr).encode()))

    def lose_the_engine(self) -> None:
        """Kill the engine under a call, and ask again while it is away."""
        connection = http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=30)
        bearer = {"authorization": f"Bearer {KEYS['first']}"}
        connection.request("POST", "/v1/chat/completions", json.dumps(chat("[slow]", stream=True)), bearer)
        answer = connection.getresponse()
        answer.readline()
        self.engine.kill()
        self.left.quoting.append(("a stream whose engine died", answer.read()))
        connection.close()
        for path, make in BODIES.items():
            self.left.answers.append((f"{path} without an engine", self.call(f"/v1{path}", make())[1]))
        self.engine.start()

    def processes(self) -> list[psutil.Process]:
        own = psutil.Process(self.service.pid)
        return [own, *own.children(recursive=True)]


def _bare(path: str) -> str:
    return path.removeprefix(next(prefix for prefix in PREFIXES if path.startswith(prefix)))


def _misplaced() -> Iterator[str]:
    key = KEYS["misplaced"]
    yield f"api_kay = {key!r}\n"
    yield f"port = {key!r}\n"
    yield f"weights = {{ key = {key!r} }}\n"
    yield f"api_key = {key}\n"
    yield f'[[deployment]]\nname = "x"\nurl = "http://127.0.0.1:1/v1"\nkey = "{key}"\n'
    yield f'[[deployment]]\nname = "x"\nurl = "http://user:{key}@127.0.0.1:1/v1"\n'
    yield f'[[deployment]]\nname = "x"\nurl = "http://127.0.0.1:1/v1?key={key}"\n'
    yield f'[[deployment]]\nname = "x"\nurl = "http://127.0.0.1:1/v1"\nkey_env = "{key}"\n'
    yield f'[[deployment]]\nname = "x"\nengine = "vllm"\nweights = "a/b"\narguments = ["--api-key", "{key}"]\n'
    yield f'[[deployment]]\nname = "x"\nengine = "vllm"\nweights = "a/b"\narguments = ["--api-key={key}"]\n'


@pytest.mark.parametrize("form", ["text", "json"])
def test_what_is_planted_is_found_nowhere(tmp_path: Path, form: str) -> None:
    """A log line, a trace, a row or an error that holds a key or a prompt is read by people who should not see it."""
    home = tmp_path / "home"
    with (
        FakeEngine(RULES, port=free_port()) as engine,
        collector.serving() as sink,
        Planting(home, engine, install(tmp_path / "programs"), sink, form).service as service,
    ):
        planting = None
        del planting, service
