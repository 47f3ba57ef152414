"""Gateways to measure beside each other: how each is installed, started in front of two servers, and asked.

Each is set up as its own documents advise for speed: no request logs, one worker, no database. Hanlin checks its key
and chooses between both servers by their load; as `hanlin-accounts` it also holds every call to limits and keeps a
ledger, which none of the others does. What is installed goes into `.venv/bench-*`; the system stays as it is.
"""

import contextlib
import hashlib
import http.client
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version as version_of
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from hanlin.testing import free_port

ROOT = Path(__file__).parents[1]
KEY = "sk-test-of-this-gateway"
START_S = 180.0

_ENVIRONMENTS = ROOT / ".venv"
_NGINX = _ENVIRONMENTS / "bench-nginx"
_BEARER = {"authorization": f"Bearer {KEY}"}
_HANLIN_ENVIRONMENT = {"DASHSCOPE_API_KEY": KEY, "HANLIN_LANG": "en"}
_HANLIN_PATH = "/compatible-mode/v1/chat/completions"


class Absent(Exception):
    """A peer that cannot be had here; the message says why."""


@dataclass(frozen=True)
class Place:
    """Where a peer runs: a folder for its files, its port, and the base URLs of the servers behind it."""

    folder: Path
    port: int
    upstreams: Sequence[str]
    max_body_bytes: int

    def write(self, name: str, text: str) -> str:
        """Write a file of the peer's and return its path."""
        path = self.folder / name
        path.write_text(text, encoding="utf-8")
        return str(path)


@dataclass(frozen=True)
class Peer:
    """A gateway. `install` returns its version or raises Absent; `ready` answers 200 once calls would be served."""

    name: str
    install: Callable[[], str]
    command: Callable[[Place], Sequence[str]]
    ready: str
    headers: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    path: str = "/v1/chat/completions"


# --- nginx: the limit of a proxy -------------------------------------------------------------------------------------


def _nginx() -> str:
    """Return the program's path: the system's own, or the one of Debian's package, unpacked."""
    for path in (shutil.which("nginx"), "/usr/sbin/nginx", str(_NGINX / "usr/sbin/nginx")):
        if path and os.access(path, os.X_OK):
            return path
    return ""


def _install_nginx() -> str:
    if not _nginx():
        if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
            raise Absent("nginx is not installed, and there is no apt-get here to fetch it with")
        # Unpacked and not installed: the package's scripts would start a server on port 80.
        _say("fetching nginx from Debian …")
        _NGINX.mkdir(parents=True, exist_ok=True)
        if os.geteuid() == 0:
            subprocess.run(["apt-get", "-qq", "update"], check=False)
        for package in ("nginx", "nginx-core", "nginx-light"):  # which one holds the program depends on the release
            subprocess.run(["apt-get", "-qq", "download", package], cwd=_NGINX, check=False, stderr=subprocess.DEVNULL)
            for file in _NGINX.glob(f"{package}_*.deb"):
                subprocess.run(["dpkg", "-x", str(file), str(_NGINX)], check=True)
            if _nginx():
                break
    if not _nginx():
        raise Absent("nginx is not installed, and Debian's package could not be fetched")
    said = subprocess.run([_nginx(), "-v"], capture_output=True, text=True, check=False)
    if said.returncode:
        raise Absent(f"nginx does not run: {said.stderr.strip()}")
    return said.stderr.strip().rpartition("/")[2]


def _nginx_command(place: Place) -> Sequence[str]:
    servers = " ".join(f"server {url.removeprefix('http://')};" for url in place.upstreams)
    folders = " ".join(
        f"{kind}_temp_path {place.folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = f"""
        worker_processes 1; pid {place.folder}/pid; daemon off; {"user root;" if os.geteuid() == 0 else ""}
        events {{ worker_connections 8192; }}
        http {{
            access_log off; keepalive_requests 100000000; client_max_body_size {place.max_body_bytes}; {folders}
            upstream canned {{ least_conn; {servers} keepalive 1024; keepalive_requests 100000000; }}
            server {{
                listen 127.0.0.1:{place.port} backlog=4096;
                location / {{
                    proxy_pass http://canned; proxy_http_version 1.1; proxy_set_header Connection "";
                    proxy_buffering off;
                }}
            }}
        }}
    """
    log = f"{place.folder}/error.log"
    return [_nginx(), "-p", str(place.folder), "-e", log, "-c", place.write("nginx.conf", config)]


# --- vllm-router: Rust, in front of engines; checks no key -----------------------------------------------------------


def _vllm_router_command(place: Place) -> Sequence[str]:
    return [
        str(_program("bench-vllm-router", "vllm-router")),
        *("--host", "127.0.0.1", "--port", str(place.port), "--prometheus-port", str(free_port())),
        *("--worker-urls", *place.upstreams, "--policy", "round_robin", "--log-level", "error"),
        *("--max-concurrent-requests", "4096", "--max-payload-size", str(place.max_body_bytes)),
    ]


# --- LiteLLM: Python; one static key ---------------------------------------------------------------------------------


def _litellm_command(place: Place) -> Sequence[str]:
    rows = "".join(
        f"  - model_name: qwen-plus\n"
        f"    litellm_params: {{model: openai/qwen-plus, api_base: '{url}/v1', api_key: none}}\n"
        for url in place.upstreams
    )
    config = f"model_list:\n{rows}general_settings:\n  master_key: {KEY}\nlitellm_settings:\n  telemetry: false\n"
    return [
        str(_program("bench-litellm", "litellm")),
        *("--config", place.write("litellm.yaml", config), "--host", "127.0.0.1", "--port", str(place.port)),
        *("--num_workers", "1", "--telemetry", "False"),
    ]


# --- Hanlin ----------------------------------------------------------------------------------------------------------


def _hanlin_command(place: Place, *, accounts: bool = False) -> Sequence[str]:
    names = [f"server-{number}" for number in range(len(place.upstreams))]
    rows = "".join(
        f'[[deployment]]\nname = "{name}"\nurl = "{url}/v1"\nprofile = "vllm"\nserves = ["qwen-plus"]\nslots = 2048\n'
        for name, url in zip(names, place.upstreams, strict=True)
    )
    route = f'[[route]]\nnames = ["qwen-plus"]\ndeployments = {names}\nchoose = "least-load"\n'.replace("'", '"')
    settings = f'embedded = false\nembeddings = false\nlog_level = "warning"\nmax_body_bytes = {place.max_body_bytes}\n'
    place.write("hanlin.toml", f"ledger = {str(accounts).lower()}\n{settings}{rows}{route}")
    program, home = str(Path(sys.executable).with_name("hanlin")), ("--home", str(place.folder))
    if accounts:  # of every kind, and so wide that no call is refused
        limits = ("--rpm", "1000000000", "--tpm", "1000000000000", "--concurrency", "100000", "--budget", "1000000000")
        subprocess.run([program, "workspaces", "change", "default", *limits, *home], check=True, capture_output=True)
    return [program, "serve", *home, "--port", str(place.port)]


# --- all of them -----------------------------------------------------------------------------------------------------


def _program(environment: str, name: str) -> Path:
    return _ENVIRONMENTS / environment / "bin" / name


def _from_pypi(package: str) -> Callable[[], str]:
    """Return what installs a locked package into an environment of its own and returns its version."""

    def install() -> str:
        environment, lock = _ENVIRONMENTS / f"bench-{package}", ROOT / f"requirements/bench-{package}.lock"
        python, mark = environment / "bin/python", environment / ".lock"
        digest = hashlib.sha256(lock.read_bytes()).hexdigest()
        if not mark.exists() or mark.read_text() != digest:
            _say(f"installing {package} into {environment.relative_to(ROOT)} …")
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(environment)], check=True)
            _pip_install(python, lock)
            mark.write_text(digest)
        program = f"from importlib.metadata import version; print(version({package!r}))"
        return subprocess.run([str(python), "-c", program], capture_output=True, text=True, check=True).stdout.strip()

    return install


def _pip_install(python: Path, lock: Path) -> None:
    """Install what a lock lists and show how far it is. Raises Absent with pip's last words."""
    total = sum("==" in line for line in lock.read_text().splitlines() if not line.startswith("#"))
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--no-compile", "--require-hashes"]
    words: deque[str] = deque(maxlen=20)
    with subprocess.Popen(
        [*command, "-r", str(lock)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as pip:
        assert pip.stdout is not None
        with Progress(console=Console(stderr=True)) as progress:
            task = progress.add_task("packages", total=total)
            for line in pip.stdout:
                words.append(line)
                # A package is announced by one of these; the others are about its file.
                progress.advance(task, line.startswith(("Collecting ", "Processing ")))
    if pip.returncode:
        raise Absent(f"pip could not install {lock.name}:\n{''.join(words)}")


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


PEERS: Mapping[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer("nginx", _install_nginx, _nginx_command, ready="/health"),
        Peer("vllm-router", _from_pypi("vllm-router"), _vllm_router_command, ready="/readiness"),
        Peer(
            "litellm",
            _from_pypi("litellm"),
            _litellm_command,
            ready="/health/liveliness",
            headers=_BEARER,
            # The list of prices comes with the package; without this it is fetched at every start.
            environment={"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR"},
        ),
        Peer(
            "hanlin",
            lambda: version_of("hanlin"),
            _hanlin_command,
            ready="/ready",
            headers=_BEARER,
            environment=_HANLIN_ENVIRONMENT,
            path=_HANLIN_PATH,
        ),
        Peer(
            "hanlin-accounts",
            lambda: version_of("hanlin"),
            partial(_hanlin_command, accounts=True),
            ready="/ready",
            headers=_BEARER,
            environment=_HANLIN_ENVIRONMENT,
            path=_HANLIN_PATH,
        ),
    )
}


@dataclass(frozen=True)
class Running:
    """A process that answers at a port."""

    name: str
    port: int
    pid: int


@contextlib.contextmanager
def started(peer: Peer, upstreams: Sequence[str], core: int, max_body_bytes: int) -> Iterator[Running]:
    """Start a peer on one core and yield it once it answers; it ends with the block. Raises Absent with its output."""
    with tempfile.TemporaryDirectory(prefix=f"bench-{peer.name}-") as folder:
        place = Place(Path(folder), free_port(), upstreams, max_body_bytes)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HANLIN_", "DASHSCOPE_"))}
        with process(peer.command(place), core, {**kept, **peer.environment}, place.folder / "output") as pid:
            until = time.monotonic() + START_S
            while answers(place.port, peer.ready) != 200:
                # A child that has ended is a zombie until it is waited for: its status says so.
                if ended(pid) or time.monotonic() > until:
                    said = (place.folder / "output").read_text(errors="replace")[-2000:]
                    raise Absent(f"{peer.name} did not start:\n{said}")
                time.sleep(0.1)
            yield Running(peer.name, place.port, pid)


@contextlib.contextmanager
def process(
    command: Sequence[str], core: int, environment: Mapping[str, str] | None, output: Path | None
) -> Iterator[int]:
    """Run a command on one core, its children too, and yield its pid; it is ended with the block."""
    with contextlib.ExitStack() as stack:
        where = stack.enter_context(output.open("wb")) if output is not None else None
        with on_core(core):
            child = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=where, stderr=where)
        try:
            yield child.pid
        finally:
            child.terminate()
            try:
                child.wait(15)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """Run on one core within the block; processes that are started there stay on it."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def ended(pid: int) -> bool:
    """Whether a child of ours has ended, without taking its exit code from whoever waits for it."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def answers(port: int, path: str) -> int:
    """Return the status of a GET, 0 when nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()
