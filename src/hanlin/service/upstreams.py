"""Make deployments of upstreams: a row of the settings with everything its upstream knows, and `--upstream` as rows.

Pure but for `discovered`, which asks a server what it has. Addresses, names and manners are rows of
`engines/upstreams.toml`; an environment is passed in, and what is taken from it is the name of a variable, not a key.
"""

import asyncio
import difflib
import re
from collections.abc import Mapping, Sequence
from urllib.parse import SplitResult, urlsplit

import httpx2
import msgspec

from hanlin.engines.upstreams import Upstream, name_there, upstreams
from hanlin.errors import StartupError
from hanlin.service.neighbours import LIMIT_BYTES, Contents, read_models
from hanlin.settings import DeploymentRow, RouteRow
from hanlin.words import say

KEY_OF_A_URL = "UPSTREAM_API_KEY"
_MOST_NAMES = 512  # of a server's list
_EVERY_NAME = ("*",)
_FALLBACKS = ("embedded",)
_PATIENCE_S = 3.0


def resolved(row: DeploymentRow, environment: Mapping[str, str]) -> DeploymentRow:
    """Return a row with what its upstream says where it says nothing itself. A row that is complete stays as it is.

    Raises StartupError for an upstream that nobody knows, and for a key or workspace that is not in the environment.
    """
    if not row.upstream:
        return msgspec.structs.replace(row, profile=row.profile or row.engine or "openai")
    title = f"[[deployment]] {row.name!r}"
    known = _known(row.upstream, title)
    return msgspec.structs.replace(
        row,
        url=row.url or _url(known, environment, title),
        key_env=row.key_env or _key_variable(row, known, environment, title),
        profile=row.profile or known.profile,
        serves=row.serves if row.serves is not None else known.serves,
        # A model that the row names counts for every name that it gives no other: the upstream's table would hide it.
        names=row.names if row.model else {**row.names, **{k: v for k, v in known.names.items() if k not in row.names}},
    )


def names_there(row: DeploymentRow, name: str) -> str:
    """Return what a resolved row's server calls the model that a caller names."""
    return name_there(row.names, name) or row.model or name


def is_rented(row: DeploymentRow) -> bool:
    """Whether calls of this row cost money, so that it is not to be probed without need.

    A server at an address of the operator's own is taken for theirs.
    """
    return row.upstream in upstreams() and upstreams()[row.upstream].rented


def from_flag(names: Sequence[str], environment: Mapping[str, str]) -> tuple[list[DeploymentRow], list[RouteRow]]:
    """Return the deployments and routes of `--upstream`: each is a known name or a URL, and falls back on our weights.

    The rows are still to be `resolved`. Raises StartupError for what is neither.
    """
    rows: list[DeploymentRow] = []
    routes: list[RouteRow] = []
    for name in dict.fromkeys(name.rstrip("/") for name in names):
        row = _of_url(name, environment) if "://" in name else DeploymentRow(name, upstream=name)
        serves = _known(row.upstream, f"--upstream {name}").serves if row.upstream else _EVERY_NAME
        if any(other.name == row.name for other in rows):
            row = msgspec.structs.replace(row, name=f"{row.name}-{len(rows) + 1}")
        rows.append(row)
        routes.append(RouteRow(names=serves, deployments=(row.name,), fallbacks=_FALLBACKS))
    return rows, routes


def _of_url(url: str, environment: Mapping[str, str]) -> DeploymentRow:
    """Return the row of an address: that of a known upstream with its key, or of anybody's."""
    parts = _parts(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise StartupError(
            say(
                f"--upstream {url}: is no address. Write http://host:port/v1, or one of: {_listed()}",
                f"--upstream {url}：不是有效地址。请使用 http://host:port/v1，或其一：{_listed()}",
            )
        )
    at_home = next((name for name, one in upstreams().items() if one.rented and _is_at(url, one)), "")
    name = at_home or re.sub(r"[^a-z0-9]+", "-", parts.netloc.rpartition("@")[2].lower()).strip("-")
    key_env = KEY_OF_A_URL if not at_home and environment.get(KEY_OF_A_URL) else ""
    return DeploymentRow(name, url=url, upstream=at_home, key_env=key_env)


def _is_at(url: str, known: Upstream) -> bool:
    """Whether an address is an upstream's own, so that its key may go there: the same host, as safely."""
    here, home = _parts(url), urlsplit(known.url)
    host = re.escape(home.hostname or "").replace(re.escape("{workspace}"), "[A-Za-z0-9-]+")
    return here.scheme == home.scheme and re.fullmatch(host, here.hostname or "") is not None


def _parts(url: str) -> SplitResult:
    """Split an address; what is none has no parts."""
    try:
        return urlsplit(url)
    except ValueError:
        return SplitResult("", "", "", "", "")


def _known(name: str, title: str) -> Upstream:
    if name in upstreams():
        return upstreams()[name]
    near = difflib.get_close_matches(name, upstreams(), n=1, cutoff=0.5)
    meant_en, meant_zh = (f" Did you mean {near[0]!r}?", f"是否想用 {near[0]!r}？") if near else ("", "")
    raise StartupError(
        say(
            f"{title}: {name!r} is no known upstream.{meant_en} Known: {_listed()}; or give a URL",
            f"{title}：未知的上游 {name!r}。{meant_zh}已知：{_listed()}；也可使用网址",
        )
    )


def _listed() -> str:
    return ", ".join(sorted(upstreams()))


def _url(known: Upstream, environment: Mapping[str, str], title: str) -> str:
    if not known.workspace_env:
        return known.url
    workspace = next((environment[name] for name in known.workspace_env if environment.get(name)), "")
    # It becomes a part of the host that the key is sent to.
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?", workspace):
        variable = known.workspace_env[0]
        raise StartupError(
            say(
                f"{title}: {variable} holds no workspace id: `export {variable}=…` (the console shows it)",
                f"{title}：{variable} 中没有有效的业务空间 ID：请 `export {variable}=…`（可在控制台查看）",
            )
        )
    return known.url.replace("{workspace}", workspace)


def _key_variable(row: DeploymentRow, known: Upstream, environment: Mapping[str, str], title: str) -> str:
    """Return the first usual variable that holds a key; "" where none is needed."""
    found = next((name for name in known.key_env if environment.get(name)), "")
    elsewhere = bool(row.url) and not _is_at(row.url, known)  # a proxy of the operator's own
    if found and not elsewhere:
        return found
    if elsewhere or not known.rented:
        return ""
    listed = ", ".join(known.key_env)
    raise StartupError(
        say(
            f"{title}: {known.title} needs a key. `export {known.key_env[0]}=…` (looked for: {listed}), "
            "or name the variable that holds it in hanlin.toml (key_env)",
            f"{title}：{known.title} 需要密钥。请 `export {known.key_env[0]}=…`（已查找：{listed}），"
            "或在 hanlin.toml 中用 key_env 指定存放密钥的变量",
        )
    )


async def discovered(url: str, key: str = "", patience_s: float = _PATIENCE_S) -> Contents | None:
    """Ask a server at its base URL what models it has; None when it does not say so within `patience_s`."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    body = bytearray()
    try:
        async with (
            asyncio.timeout(patience_s),
            httpx2.AsyncClient(timeout=patience_s, headers=headers, trust_env=not _is_here(url)) as client,
            client.stream("GET", url.rstrip("/") + "/models") as response,
        ):
            if response.status_code != 200:
                return None
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > LIMIT_BYTES:
                    return None
    except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError):
        return None
    return read_models("")(bytes(body))


def _is_here(url: str) -> bool:
    """Whether an address is this machine's, which no proxy leads to."""
    return (_parts(url).hostname or "") in ("localhost", "127.0.0.1", "::1")


def is_open(row: DeploymentRow) -> bool:
    """Whether a resolved row leaves to its server what it has: it serves every name, and says none of the server's."""
    serves_all = row.serves is None or row.serves == _EVERY_NAME
    return serves_all and bool(row.url) and not row.model and not row.names and not is_rented(row)


def fitted(row: DeploymentRow, contents: Contents) -> DeploymentRow:
    """Return a row that fits what its server has: one model answers every name, several answer to their own names.

    Names that the catalogue does not know become the operator's own.
    """
    context_tokens = row.context_tokens or contents.context_tokens
    if len(contents.models) == 1:
        return msgspec.structs.replace(row, model=contents.models[0], serves=_EVERY_NAME, context_tokens=context_tokens)
    names = tuple(name for name in contents.models if not any(sign in name for sign in "*?["))[:_MOST_NAMES]
    return msgspec.structs.replace(row, serves=names or _EVERY_NAME, context_tokens=context_tokens)


async def acquainted(
    rows: Sequence[DeploymentRow],
    routes: Sequence[RouteRow],
    environment: Mapping[str, str],
    before: Sequence[DeploymentRow] = (),
) -> tuple[list[DeploymentRow], list[RouteRow], list[str]]:
    """Ask the servers of `from_flag`, resolved, what they have; return rows, routes, and what is worth telling.

    A server that does not answer is no error: it may come up later, and gets callers' names as they are until then,
    unless it is known from `before`, the rows in force, what it has.
    """
    asked = await asyncio.gather(*(_asked(row, environment) for row in rows))
    known_before = {(row.name, row.url): row for row in before}
    settled: dict[str, DeploymentRow] = {}
    told: list[str] = []
    for row, contents in zip(rows, asked, strict=True):
        settled[row.name] = row if contents is None else fitted(row, contents)
        if is_open(row) and contents is None and (row.name, row.url) in known_before:
            settled[row.name] = known_before[row.name, row.url]
        elif is_open(row) and contents is None:
            told.append(
                say(
                    f"{row.name}: {row.url}/models does not say what it has; every name is passed on as it is",
                    f"{row.name}：{row.url}/models 未返回模型列表；所有名称将原样转发",
                )
            )
    return list(settled.values()), [_following(route, settled) for route in routes], told


async def _asked(row: DeploymentRow, environment: Mapping[str, str]) -> Contents | None:
    if not is_open(row):
        return None
    return await discovered(row.url, environment.get(row.key_env, "") if row.key_env else "")


def _following(route: RouteRow, rows: Mapping[str, DeploymentRow]) -> RouteRow:
    row = rows.get(route.deployments[0])
    if row is None or row.serves is None:
        return route
    return msgspec.structs.replace(route, names=row.serves)


__all__ = ["acquainted", "discovered", "fitted", "from_flag", "is_open", "is_rented", "names_there", "resolved"]
