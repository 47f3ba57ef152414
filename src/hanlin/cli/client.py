"""Speak to a service as any program would: where it is, which key it may see, and answers as they come."""

import ipaddress
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self, TypeVar, cast
from urllib.parse import quote, unquote, urlsplit

import httpx2
import msgspec

from hanlin.cli.show import Failed
from hanlin.engines.frames import SSEReader
from hanlin.home import Home, running
from hanlin.keys import adopted
from hanlin.settings import Secret
from hanlin.types import Usage
from hanlin.words import say

KEY_VARIABLES = ("HANLIN_API_KEY", "DASHSCOPE_API_KEY")

_CONNECT_S = 5.0
_SILENCE_S = 600.0  # a server that sends no signs of life may read a long prompt for minutes

Turn = Mapping[str, str]
"""A message as it goes over the wire: its role and its content."""


@dataclass(frozen=True)
class Target:
    """A service: its base URL, and the key that is sent there. `key` is empty when none is."""

    url: str
    key: Secret = field(default=Secret(""))


def key_in(variable: str | None, environment: Mapping[str, str] = os.environ) -> tuple[str, Secret]:
    """Return the variable that holds the user's key, and the key; both empty when there is none.

    Raises Failed when `variable` was named and is not set, StartupError when what it holds cannot be a key.
    """
    if variable is not None and not environment.get(variable):
        raise Failed(
            say(f"{variable} is not set: `export {variable}=…`", f"未设置 {variable}：请 `export {variable}=…`")
        )
    for name in (variable,) if variable is not None else KEY_VARIABLES:
        if text := environment.get(name):
            return name, Secret(adopted(text, name))
    return "", Secret("")


def target(
    home: Home, base_url: str | None, key_variable: str | None, environment: Mapping[str, str] = os.environ
) -> Target:
    """Return the service to speak to: the one at `base_url`, or the one that runs on this home.

    A server off this machine is sent a key only when its variable was named: the usual variables hold the keys of this
    one. Raises Failed when nothing runs, and what `key_in` raises.
    """
    if base_url is None:
        here = running(home)
        if here is None:
            raise Failed(
                say(
                    f"no service runs on {home.path}: start it with `hanlin serve`, or name another with --base-url",
                    f"{home.path} 上没有运行中的服务：请运行 `hanlin serve`，或用 --base-url 指定其他服务",
                )
            )
        base_url = here.url
    url = base_url.rstrip("/")
    if key_variable is None and not is_local(url):
        return Target(url)
    return Target(url, key_in(key_variable, environment)[1])


def is_local(url: str) -> bool:
    """Say whether an address is on this machine. Raises Failed for what is no http(s) address."""
    try:
        parts = urlsplit(url)
        host = parts.hostname if parts.scheme in ("http", "https") else None
    except ValueError:
        host = None
    if not host:
        raise Failed(
            say(
                f"{url!r} is not an address: it begins with http:// or https://",
                f"{url!r} 不是有效地址：应以 http:// 或 https:// 开头",
            )
        )
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


@dataclass(frozen=True)
class Piece:
    """Some text of an answer as it comes; `thinking` for what the model thinks before it answers."""

    text: str
    thinking: bool = False


class Stored(msgspec.Struct, frozen=True):
    """A file at a service; `hanlin` is what a service of ours knows of it beyond the contract."""

    id: str
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: str
    status_details: str | None = None
    hanlin: dict[str, Any] = {}


class _Page(msgspec.Struct):
    data: list[Stored]
    has_more: bool = False


Told = TypeVar("Told")


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None


class _Choice(msgspec.Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Frame(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None
    hanlin: Any = None


@dataclass
class Answer:
    """An answer while it is read: who gives it at once, its pieces as they come, its usage at the end.

    `report` is what a scenario model says about its answer, where it was asked to.
    """

    served_by: str
    ignored: str
    _response: httpx2.Response = field(repr=False)
    usage: Usage | None = None
    finish_reason: str | None = None
    report: Any = None

    def pieces(self) -> Iterator[Piece]:
        """Yield the text as it comes. Raises Failed when the answer ends in an error, or before its end."""
        reader = SSEReader()
        for chunk in self._response.iter_bytes():
            for data in reader.feed(chunk):
                if data.startswith(b"[DONE]"):
                    return
                yield from self._read(data)
        if self.finish_reason is None:
            raise Failed(say("the answer broke off", "回答中断"))

    def _read(self, data: bytes) -> Iterator[Piece]:
        try:
            frame = msgspec.json.decode(data, type=_Frame)
        except msgspec.DecodeError as error:
            raise Failed(say(f"the answer cannot be read: {error}", f"无法解析回答：{error}")) from error
        if frame.error is not None:
            raise Failed(_words({"error": frame.error}) or say("the answer ended in an error", "回答以错误结束"))
        if frame.hanlin is not None:
            self.report = frame.hanlin
        if frame.usage is not None:
            self.usage = Usage(frame.usage.prompt_tokens, frame.usage.completion_tokens)
        for choice in frame.choices:
            self.finish_reason = choice.finish_reason or self.finish_reason
            if thought := choice.delta.reasoning_content:
                yield Piece(thought, thinking=True)
            if text := choice.delta.content:
                yield Piece(text)


@contextmanager
def failures(url: str) -> Iterator[None]:
    """Turn failures of a connection to a service into words."""
    try:
        yield
    except httpx2.ConnectError as error:
        raise Failed(
            say(
                f"{url}: nobody answers ({error}). Is the service running? `hanlin serve` starts one",
                f"{url}：无法连接（{error}）。服务是否在运行？可用 `hanlin serve` 启动",
            )
        ) from error
    except httpx2.TimeoutException as error:
        raise Failed(say(f"{url}: no answer for too long", f"{url}：长时间没有应答")) from error
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        why = str(error) or type(error).__name__
        raise Failed(say(f"{url}: the connection broke: {why}", f"{url}：连接中断：{why}")) from error


class _Watched:
    """A file that tells how much of it has been sent."""

    def __init__(self, file: BinaryIO, report: Callable[[int], None]) -> None:
        self._file = file
        self._report = report

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        self._report(self._file.tell())
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class Service:
    """The connection to one service, until the end of the `with` block."""

    def __init__(self, target: Target) -> None:
        self.target = target
        key = target.key.reveal()
        try:
            # Nobody's proxy reaches this machine's own addresses.
            self._client = httpx2.Client(
                headers={"Authorization": f"Bearer {key}"} if key else {},
                timeout=httpx2.Timeout(_SILENCE_S, connect=_CONNECT_S),
                trust_env=not is_local(target.url),
            )
        except (ImportError, ValueError) as error:
            raise Failed(say(f"the proxy settings do not work: {error}", f"代理设置无效：{error}")) from error

    def models(self) -> list[dict[str, Any]]:
        """Return the rows of the service's list of models. Raises Failed."""
        with failures(self.target.url):
            response = self._client.get(f"{self.target.url}/models", timeout=30.0)
        self._check(response)
        try:
            return msgspec.convert(response.json()["data"], list[dict[str, Any]])
        except (ValueError, LookupError, TypeError) as error:
            raise Failed(self._no_chat_api()) from error

    @contextmanager
    def ask(self, model: str, turns: Sequence[Turn], more: Mapping[str, Any] | None = None) -> Iterator[Answer]:
        """Send a conversation and give its answer as it comes; leaving the block early stops it. Raises Failed.

        `more` are other fields of the request.
        """
        options = {"stream": True, "stream_options": {"include_usage": True}, **(more or {})}
        content = msgspec.json.encode({"model": model, "messages": turns, **options})
        headers = {"Content-Type": "application/json"}
        url = f"{self.target.url}/chat/completions"
        with failures(self.target.url), self._client.stream("POST", url, content=content, headers=headers) as response:
            if response.status_code != 200:
                response.read()
            self._check(response)
            if not response.headers.get("content-type", "").startswith("text/event-stream"):
                raise Failed(self._no_chat_api())
            served_by = unquote(response.headers.get("x-hanlin-served-by", ""))
            yield Answer(served_by, response.headers.get("x-hanlin-ignored", ""), _response=response)

    def upload(
        self, path: Path, purpose: str = "file-extract", report: Callable[[int], None] = lambda _: None
    ) -> Stored:
        """Store a file at the service; `report` is told how many bytes have left. Raises Failed."""
        try:
            with path.open("rb") as content:
                watched = cast(BinaryIO, _Watched(content, report))
                return self._file("POST", "", data={"purpose": purpose}, files={"file": (path.name, watched)})
        except OSError as error:
            raise Failed(say(f"{path}: {error.strerror}", f"{path}：{error.strerror}")) from error

    def file(self, file_id: str) -> Stored:
        """Return a file of the service. Raises Failed."""
        return self._file("GET", f"/{_segment(file_id)}")

    def delete_file(self, file_id: str) -> None:
        """Delete a file of the service. Raises Failed."""
        self._asked("DELETE", f"/{_segment(file_id)}")

    def files(self, purpose: str = "") -> Iterator[Stored]:
        """Yield all files of the service, newest first. Raises Failed."""
        after: dict[str, str] = {}
        while True:
            asked = {**after, **({"purpose": purpose} if purpose else {})}
            page = self._told(self._asked("GET", "", params=asked), _Page)
            yield from page.data
            if not page.has_more or not page.data:
                return
            after = {"after": page.data[-1].id}

    def _file(self, method: str, path: str, **more: Any) -> Stored:
        return self._told(self._asked(method, path, **more), Stored)

    def _asked(self, method: str, path: str, **more: Any) -> httpx2.Response:
        with failures(self.target.url):
            response = self._client.request(method, f"{self.target.url}/files{path}", **more)
        self._check(response)
        return response

    def _told(self, response: httpx2.Response, kind: type[Told]) -> Told:
        try:
            return msgspec.json.decode(response.content, type=kind)
        except msgspec.DecodeError as error:
            raise Failed(self._no_chat_api()) from error

    def _check(self, response: httpx2.Response) -> None:
        if response.status_code == 200:
            return
        try:
            message = _words(response.json())
        except ValueError:
            message = ""
        message = message or f"{self.target.url}: HTTP {response.status_code}"
        if response.status_code in (401, 403) and not self.target.key.reveal() and not is_local(self.target.url):
            message += say(
                "\nNo key was sent: name the variable that holds it with --api-key-env NAME",
                "\n未发送密钥：请用 --api-key-env 变量名 指定存放密钥的环境变量",
            )
        raise Failed(message)

    def _no_chat_api(self) -> str:
        url = self.target.url
        return say(
            f"{url} does not answer as OpenAI's API does: is it the base URL, up to /v1?",
            f"{url} 的应答不符合 OpenAI 接口：它是以 /v1 结尾的基础地址吗？",
        )

    def close(self) -> None:
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _segment(text: str) -> str:
    """Return an id as one part of a path."""
    return quote(text, safe="").replace(".", "%2E")


def _words(body: Any) -> str:
    """Return what an error says: OpenAI's servers say `error.message`, some only `error` or `message`."""
    if not isinstance(body, dict):
        return ""
    error = body.get("error") or body.get("message") or body.get("detail") or ""
    message = error.get("message", "") if isinstance(error, dict) else error
    return message if isinstance(message, str) else ""
