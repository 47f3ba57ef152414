"""Find model servers that already run on this machine, and say how `hanlin.toml` makes use of one.

Only the usual ports are asked, one short request each. Knowing another kind of server is a row of `KNOWN`.
"""

import asyncio
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx2
import msgspec

from hanlin.engines.upstreams import upstreams
from hanlin.settings import DeploymentRow

_PATIENCE_S = 1.0
LIMIT_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True)
class Neighbour:
    """A server that was found. `url` is what a `[[deployment]]` takes; `context_tokens` is 0 when it does not say.

    `upstream` is the row of `engines/upstreams.toml` that knows how to speak to it.
    """

    title: str
    url: str
    models: tuple[str, ...]
    context_tokens: int = 0
    upstream: str = ""


@dataclass(frozen=True)
class Contents:
    """What an answer tells: the names that the server knows, and the context of one call."""

    models: tuple[str, ...]
    context_tokens: int = 0


@dataclass(frozen=True)
class KnownServer:
    """A kind of server: where it listens unless told otherwise, what it is asked, how its answer is read.

    `read` returns None for an answer that some other program must have given. `base` follows the address in `url`.
    """

    title: str
    port: int
    path: str
    read: Callable[[bytes], Contents | None]
    base: str = "/v1"
    upstream: str = ""


class _Tag(msgspec.Struct):
    name: str


class _Tags(msgspec.Struct):
    models: list[_Tag]


class _Generation(msgspec.Struct):
    n_ctx: int = 0


class _Props(msgspec.Struct):
    default_generation_settings: _Generation
    model_alias: str = ""
    model_path: str = ""


class _Row(msgspec.Struct):
    id: str
    owned_by: str = ""
    max_model_len: int | None = None


class _Rows(msgspec.Struct):
    data: list[_Row]


def read_tags(body: bytes) -> Contents | None:
    """Read Ollama's list of models."""
    try:
        tags = msgspec.json.decode(body, type=_Tags)
    except msgspec.DecodeError:
        return None
    return Contents(tuple(tag.name for tag in tags.models))


def read_props(body: bytes) -> Contents | None:
    """Read what llama.cpp's server says about itself: it runs one model."""
    try:
        props = msgspec.json.decode(body, type=_Props)
    except msgspec.DecodeError:
        return None
    name = props.model_alias or re.split(r"[/\\]", props.model_path)[-1].removesuffix(".gguf")
    return Contents((name,) if name else (), props.default_generation_settings.n_ctx)


def read_models(owner: str) -> Callable[[bytes], Contents | None]:
    """Return a reader of OpenAI's list of models that takes only what `owner` owns (empty: anybody's)."""

    def read(body: bytes) -> Contents | None:
        try:
            rows = msgspec.json.decode(body, type=_Rows).data
        except msgspec.DecodeError:
            return None
        if owner and not any(row.owned_by == owner for row in rows):
            return None
        return Contents(tuple(row.id for row in rows), max((row.max_model_len or 0 for row in rows), default=0))

    return read


def _known(upstream: str, path: str, read: Callable[[bytes], Contents | None]) -> KnownServer:
    row = upstreams()[upstream]
    address = urlsplit(row.url)
    return KnownServer(row.title, address.port or 80, path, read, address.path, upstream)


KNOWN = (
    _known("ollama", "/api/tags", read_tags),
    _known("vllm", "/v1/models", read_models("vllm")),
    _known("llama-server", "/props", read_props),
    _known("lmstudio", "/v1/models", read_models("")),
    _known("sglang", "/v1/models", read_models("sglang")),
)


async def find(known: Sequence[KnownServer] = KNOWN, patience_s: float = _PATIENCE_S) -> list[Neighbour]:
    """Ask every port of `known` on the loopback address at once; return the servers that answered, in its order."""
    async with httpx2.AsyncClient(timeout=patience_s, trust_env=False) as client:
        found = await asyncio.gather(*(_look(client, server, patience_s) for server in known))
    return [neighbour for neighbour in found if neighbour is not None]


async def _look(client: httpx2.AsyncClient, server: KnownServer, patience_s: float) -> Neighbour | None:
    address = f"http://127.0.0.1:{server.port}"
    body = bytearray()
    try:
        async with asyncio.timeout(2 * patience_s), client.stream("GET", address + server.path) as response:
            if response.status_code != 200:
                return None
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > LIMIT_BYTES:
                    return None
    except (httpx2.HTTPError, TimeoutError):
        return None
    contents = server.read(bytes(body))
    if contents is None:
        return None
    return Neighbour(server.title, address + server.base, contents.models, contents.context_tokens, server.upstream)


def is_used(neighbour: Neighbour, rows: Sequence[DeploymentRow]) -> bool:
    """Whether one of the `[[deployment]]` rows is for this neighbour, by its address or as its upstream."""
    address = neighbour.url.rstrip("/")
    return any(
        row.url.rstrip("/") == address or (not row.url and bool(row.upstream) and row.upstream == neighbour.upstream)
        for row in rows
    )


def deployment_toml(neighbour: Neighbour, name: str = "") -> str:
    """Return the `[[deployment]]` table that lets a neighbour's first model answer every chat name."""
    fields: Mapping[str, object] = {
        "name": name or name_of(neighbour),
        **({"upstream": neighbour.upstream} if neighbour.upstream else {}),
        "url": neighbour.url,
        "model": neighbour.models[0] if neighbour.models else "",
        "serves": ["*"],
        **({"context_tokens": neighbour.context_tokens} if neighbour.context_tokens else {}),
    }
    # JSON's strings, numbers and arrays of strings are TOML's as well, but for one character.
    lines = (f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in fields.items())
    return "\n".join(("[[deployment]]", *lines)).replace("\x7f", "\\u007f")


def name_of(neighbour: Neighbour) -> str:
    """Return what a neighbour's deployment is called."""
    return re.sub(r"[^a-z0-9]+", "-", neighbour.title.lower())
