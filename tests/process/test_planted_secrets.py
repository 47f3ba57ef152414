"""Planted keys, prompts and answers, and the search for them in everything that a service leaves behind.

Every route is called well and badly: answered, refused, failed, cut, cancelled, timed out, limited; by a service that
logs as much as it can, is traced, reads its settings again, loses its engine and is killed.
"""

import contextlib
import http.client
import json
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from hanlin.http.app import PREFIXES, ROUTES
from hanlin.testing import FakeEngine, Rule, free_port, wait_until
from hanlin.testing.gpu_server import VARIABLE, StandIn, install
from hanlin.testing.rules import ToolCall
from tests import collector, planted
from tests.contract.test_cli import hanlin
from tests.planted import ANSWERS, KEYS, PROMPTS
from tests.service import Service, toml_of

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


NO_KEY: Mapping[str, str] = {}


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


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

    def __init__(self, home: Path, engine: FakeEngine, programs: Path, sink: collector.Collector) -> None:
        self.engine = engine
        self.sink = sink
        self.left = Left()
        self.limited = self.made = ""
        self._programs = programs
        environment = {
            "DASHSCOPE_API_KEY": KEYS["first"],
            "UPSTREAM_KEY": KEYS["upstream"],
            "UNUSED_API_KEY": KEYS["elsewhere"],
            "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url,
            "OTEL_EXPORTER_OTLP_HEADERS": f"x-api-key={KEYS['collector']}",
            "OTEL_BSP_SCHEDULE_DELAY": "100",
            VARIABLE: StandIn(rule=tuple(RULES)).json(),
        }
        self.service = Service(home, config=self.config("text"), environment=environment)

    def config(self, form: str) -> str:
        """Return the settings, with log lines in a form."""
        return toml_of(
            *(self._server(name, self.engine) for name in ("one", "two")),
            {"name": "away", "url": f"http://127.0.0.1:{free_port()}/v1", "serves": ["qwen-max"]},
            self._child(self._programs),
            first_byte_s=SILENCE_S,
            silence_s=SILENCE_S,
            unstreamed_limit_s=3 * SILENCE_S,
            probe_s=3600,
            log_level="debug",
            log_format=form,
        )

    @staticmethod
    def _server(name: str, engine: FakeEngine) -> dict[str, Any]:
        row = {"name": name, "url": engine.base_url, "profile": "vllm", "key_env": "UPSTREAM_KEY"}
        return {**row, "serves": ["qwen-plus", "qwen-coder-*", "text-embedding-*"]}

    @staticmethod
    def _child(programs: Path) -> dict[str, Any]:
        row = {"name": "gpu", "engine": "vllm", "weights": "Qwen/Qwen3-8B", "serves": ["qwen3-8b"]}
        return {**row, "executable": str(programs / "vllm")}

    # --- asking

    def send(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] = NO_KEY, *, leaves: bool = False
    ) -> tuple[int, bytes]:
        """Call the service and keep all that it answers, the head included; `leaves`: after the first piece."""
        connection = http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=30)
        try:
            connection.request(method, path, body or None, headers)
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
        return self.send("POST", path, json.dumps(body).encode(), bearer(key or KEYS["first"]), **how)

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        more = {"DASHSCOPE_API_KEY": KEYS["first"], "UPSTREAM_KEY": KEYS["upstream"]}
        return hanlin(self.service.home, *arguments, **more)

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
        self._note(path, self.send("POST", path, raw[:-1] + PROMPTS["malformed"].encode(), bearer(KEYS["first"])))
        self._note(path, self.send("POST", path, b'"' + PROMPTS["malformed"].encode() + b'"', bearer(KEYS["first"])))
        self._note(path, self.send("POST", path, raw + b" " * 7_000_000, bearer(KEYS["first"])))
        self._note(path, self.send("POST", path, raw))
        self._note(path, self.send("POST", path, raw, {"cookie": KEYS["cookie"], "authorization": KEYS["wrong"]}))

    def call_into_trouble(self, bare: str) -> None:
        make, path = BODIES[bare], f"/v1{bare}"
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
        generating = [f"{prefix}{bare}" for prefix in PREFIXES for bare in BODIES]
        for path, methods in ROUTES.items():
            asked = f"{path}?api_key={KEYS['query']}"
            for method in {"GET", "POST", "DELETE", *methods}:
                for headers in (NO_KEY, bearer(KEYS["wrong"]), bearer(KEYS["first"])):
                    if path not in generating or method != "POST":
                        self.left.answers.append((f"{method} {path}", self.send(method, asked, b"", headers)[1]))
        for path in generating:
            self.call_well(path)
            self.call_badly(path)
        for path in PREFIXES:
            for name in ("qwen-plus", "no-such", KEYS["query"]):
                said = self.send("GET", f"{path}/models/{name}", b"", bearer(KEYS["first"]))[1]
                self.left.answers += [(f"GET model {name}", said)] if name != KEYS["query"] else []
        self.left.answers.append(("GET a key", self.send("GET", f"/v1/{KEYS['noise']}", b"", bearer(KEYS["wrong"]))[1]))
        self._say(f"{KEYS['noise']} / HTTP/1.1\r\n\r\n".encode())
        self._say(f"POST /v1/completions HTTP/1.1\r\n{KEYS['noise']}\r\n\r\n".encode())

    def _say(self, noise: bytes) -> None:
        """Send what is no request, and keep the refusal."""
        with socket.create_connection(("127.0.0.1", self.service.port), timeout=30) as connection:
            connection.sendall(noise)
            connection.shutdown(socket.SHUT_WR)
            self.left.answers.append(("noise", b"".join(iter(lambda: connection.recv(65536), b""))))

    def trouble(self) -> None:
        """Make calls that fail in every way, all at once: many of them wait for an end of patience."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(self.call_into_trouble, BODIES))

    def misconfigure(self) -> None:
        """Have the running service read files that hold a key where none belongs."""
        for wrong in planted.misplaced():
            told = self.service.output().count("hanlin.toml")
            self.service.configure(wrong)
            self.service.hup()
            wait_until(partial(self._has_told_more, told), f"a word about {wrong}")
        self.service.configure(self.config("text"))
        self.service.hup()

    def _has_told_more(self, than: int) -> bool:
        return self.service.output().count("hanlin.toml") > than

    def print_all(self) -> None:
        """Run the commands that show what is known of keys, calls, settings and the machine."""
        commands: tuple[tuple[str, ...], ...] = (
            *(("keys", "list", "--json"), ("usage", "--by", "key", "--json"), ("usage", "--calls", "50", "--json")),
            *(("config", "--json"), ("doctor", "--json"), ("keys", "revoke", KEYS["elsewhere"])),
        )
        with ThreadPoolExecutor(4) as pool:
            for arguments, done in zip(commands, pool.map(lambda one: self.command(*one), commands), strict=True):
                if KEYS["elsewhere"] not in arguments:  # what a person typed may be repeated to that person
                    self.left.printed.append((" ".join(arguments), (done.stdout + done.stderr).encode()))

    def lose_the_engine(self) -> None:
        """Kill the engine under a call, and ask again while it is away."""
        connection = http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=30)
        body = json.dumps(chat("[slow]", stream=True))
        connection.request("POST", "/v1/chat/completions", body, bearer(KEYS["first"]))
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


@pytest.fixture
def planting(tmp_path: Path) -> Iterator[Planting]:
    with FakeEngine(RULES, port=free_port()) as engine, collector.serving() as sink:
        made = Planting(tmp_path / "home", engine, install(tmp_path / "programs"), sink)
        with made.service:
            yield made


def test_what_is_planted_is_found_nowhere(planting: Planting) -> None:
    """A log line, a trace, a row or an error that holds a key or a prompt is read by people who should not see it."""
    service, left = planting.service, planting.left
    planting.make_keys()
    planting.walk()
    planting.trouble()
    asked = json.dumps([record.body for record in planting.engine.requests()]).encode()
    planting.misconfigure()
    planting.lose_the_engine()
    hits = [hit for process in planting.processes() for hit in _of_process(process, planting.secrets)]
    planting.call("/v1/chat/completions", chat("[slow]", stream=True), leaves=True)
    left.printed.append(("the service", service.output().encode()))
    service.stop(signal.SIGKILL)
    hits += planted.found_below(service.home, planting.secrets)
    service.configure(planting.config("json"))
    service.start()
    planting.trouble()
    planting.print_all()
    wait_until(lambda: service.metric("hanlin_ledger_pending_rows") == 0, "the rows to be in the database")
    for page in ("/metrics", "/health"):
        left.answers.append((page, planting.send("GET", page)[1]))
    service.stop()
    left.printed.append(("the service, started again", service.output().encode()))
    hits += planted.found_below(service.home, planting.secrets)

    for where, content in (*left.answers, *left.printed):
        hits += planted.found(where, content, planting.secrets)
    for where, content in left.quoting:  # its own words are told to the caller whom the engine quotes, but no key
        hits += planted.found(where, content, KEYS)
    for body in planting.sink.bodies:
        hits += planted.found("a trace", body, planting.secrets)

    assert not hits, "\n".join(hits)
    assert {name for name, value in PROMPTS.items() if value.encode() in asked} == PROMPTS.keys() - UNSENT
    assert any(span.name == "chat qwen-plus" for span in planting.sink.spans)


UNSENT = {"image", "malformed"}
"""What no engine is asked, because the call is refused."""


def _of_process(process: psutil.Process, secrets: Mapping[str, str]) -> list[str]:
    """Look at what everybody on the machine can see of a process; a child's environment is for us alone to set."""
    hits = planted.found(f"the command line of {process.pid}", " ".join(process.cmdline()).encode(), secrets)
    if process.parent() == psutil.Process():
        return hits
    rules = process.environ().pop(VARIABLE, "")  # the stand-in's own: what it is to say
    environment = "\n".join(process.environ().values()).replace(rules, "")
    return hits + planted.found(f"the environment of {process.pid}", environment.encode(), secrets)
