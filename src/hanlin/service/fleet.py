"""The deployments and routes of one version of the settings: checked, built, and exchanged for a newer version.

What did not change between two versions is kept as it is, with its connections and what is known of its health.
"""

import asyncio
import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path

import msgspec

from hanlin.catalogue.models import Catalogue
from hanlin.engines.embedding import ServerEmbedder
from hanlin.engines.engine import Engine
from hanlin.engines.launches import orders_of
from hanlin.engines.profiles import EngineProfile, profiles
from hanlin.engines.server import ServerEngine
from hanlin.engines.wire import Address, Deadlines
from hanlin.errors import StartupError
from hanlin.metering.prices import PriceList
from hanlin.metering.tariffs import Tariffs, tariffs_of
from hanlin.routing.capacity import Capacity
from hanlin.service import upstreams
from hanlin.service.deployments import EMBEDDED, Deployment
from hanlin.service.embedding_planning import EmbeddingDeployment
from hanlin.settings import VARIABLE, DeploymentRow, RouteRow, Settings
from hanlin.words import say

log = logging.getLogger("hanlin.service")

_EVERY_NAME = ("*",)
_WILD = "*?["
_IDLE_CHECK_S = 0.25
_QUIET_CHECKS = 12  # a call may be between two attempts, or between its plan and its first one


Start = Callable[[DeploymentRow], tuple[Engine, EngineProfile]]
"""Starts the engine of a row that names one (`engine = "vllm"`). Raises StartupError naming the row."""


@dataclass(frozen=True)
class Member:
    """A deployment of the file, and what it was made of: the same row with the same key gives the same deployment."""

    row: DeploymentRow
    key: str
    deployment: Deployment
    vectors: EmbeddingDeployment | None = None


@dataclass(frozen=True)
class Fleet:
    """What a version of the settings asks for. `guests` are names that it serves and the catalogue does not know.

    `wanted` is what it was assembled from. `prices` None leaves them as they are.
    """

    members: tuple[Member, ...] = ()
    routes: tuple[RouteRow, ...] = ()
    guests: tuple[str, ...] = ()
    wanted: "Wanted | None" = None
    prices: PriceList | None = None

    @property
    def deployments(self) -> tuple[Deployment, ...]:
        return tuple(member.deployment for member in self.members)

    @property
    def vectors(self) -> tuple[EmbeddingDeployment, ...]:
        """Those that answer embedding names."""
        return tuple(member.vectors for member in self.members if member.vectors is not None)


@dataclass(frozen=True)
class Wanted:
    """What the settings come to, before anything is built: every row complete, every route checked."""

    rows: tuple[DeploymentRow, ...]
    routes: tuple[RouteRow, ...]
    guests: tuple[str, ...]
    own: Tariffs


def stated(settings: Settings, catalogue: Catalogue, environment: Mapping[str, str] = os.environ) -> Wanted:
    """Return what the tables and `--upstream` ask for. Raises StartupError, which names the row and the remedy."""
    rows, routes = upstreams.from_flag(settings.upstream, environment)
    flagged = [upstreams.resolved(row, environment) for row in rows]
    return _checked(settings, flagged, routes, catalogue, environment)


async def learned(
    settings: Settings,
    catalogue: Catalogue,
    tell: Callable[[str], None],
    environment: Mapping[str, str] = os.environ,
    before: Fleet | None = None,
) -> Wanted:
    """Return what is `stated`, once the servers of `--upstream` have been asked what they have.

    Those that are away now, and said so when `before` was made, are taken at that word.
    """
    there = [member.row for member in before.members] if before is not None else []
    rows, routes = upstreams.from_flag(settings.upstream, environment)
    flagged = [upstreams.resolved(row, environment) for row in rows]
    flagged, routes, told = await upstreams.acquainted(flagged, routes, environment, there)
    for line in told:
        tell(line)
    return _checked(settings, flagged, routes, catalogue, environment)


def _checked(
    settings: Settings,
    flagged: Sequence[DeploymentRow],
    flag_routes: Sequence[RouteRow],
    catalogue: Catalogue,
    environment: Mapping[str, str],
) -> Wanted:
    rows = (*(upstreams.resolved(row, environment) for row in settings.deployment), *flagged)
    routes = (*settings.route, *flag_routes)
    _check_names(rows)
    for row in rows:
        _check_row(row, catalogue, environment)
    for route in routes:
        _check_route(route, rows, catalogue)
    guests = [name for name in _stated_names(rows) if name not in catalogue.by_name]
    own = tariffs_of(settings.price, [row.name for row in rows] + [EMBEDDED])
    for deployment, tariffs in own.items():
        for pattern in (pattern for tariff in tariffs for pattern in tariff.names):
            if not _matching(pattern, catalogue) and not any(fnmatchcase(name, pattern) for name in guests):
                raise StartupError(
                    say(
                        f"[[price]] {deployment!r}: {pattern!r} matches no name. `hanlin models` lists them",
                        f"[[price]] {deployment!r}：{pattern!r} 不匹配任何名称。`hanlin models` 会列出全部名称",
                    )
                )
    return Wanted(rows, routes, tuple(guests), own)


def own_names(settings: Settings) -> tuple[str, ...]:
    """Return the names that the `[[deployment]]` tables state one by one, without a look at anything else."""
    return _stated_names(settings.deployment)


def _stated_names(rows: Sequence[DeploymentRow]) -> tuple[str, ...]:
    stated = dict.fromkeys(name for row in rows for name in (*(row.serves or ()), *row.names))
    return tuple(name for name in stated if not any(sign in name for sign in _WILD))


def own_prices(settings: Settings, environment: Mapping[str, str] = os.environ) -> Tariffs:
    """Return the operator's own prices, without a look at the rest of the settings. Raises StartupError."""
    flagged, _ = upstreams.from_flag(settings.upstream, environment)
    return tariffs_of(settings.price, [row.name for row in (*settings.deployment, *flagged)] + [EMBEDDED])


def assemble(
    asked: Wanted,
    settings: Settings,
    catalogue: Catalogue,
    start: Start,
    before: Fleet | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Fleet:
    """Build what is asked for. Members of `before` whose row and key are the same are taken over as they are."""
    kept = {_identity(member.row, member.key): member for member in (before.members if before is not None else ())}
    members: dict[str, Member] = {}
    # Processes come last: what fails before them leaves nothing running that nobody owns.
    for row in sorted(asked.rows, key=lambda row: bool(row.engine)):
        key = environment.get(row.key_env, "") if row.key_env else ""
        found = kept.get(_identity(row, key))
        if found is None:
            engine, profile = start(row) if row.engine else server(row, key, settings)
            deployment = _deployment(row, engine, profile, settings, catalogue)
            vectors = None if row.engine else _vectors(row, key, deployment, settings, catalogue)
            found = Member(row, key, deployment, vectors)
        members[row.name] = found
    prices = PriceList.of(catalogue, asked.own)
    return Fleet(tuple(members[row.name] for row in asked.rows), asked.routes, asked.guests, asked, prices)


def _identity(row: DeploymentRow, key: str) -> tuple[bytes, str]:
    return msgspec.json.encode(row), key


async def retire(deployment: Deployment | EmbeddingDeployment, limit_s: float) -> None:
    """Close a deployment that the settings no longer name, once nobody calls it any more, at most `limit_s` later."""
    try:
        async with asyncio.timeout(limit_s):
            quiet = 0
            while quiet < _QUIET_CHECKS:
                await asyncio.sleep(_IDLE_CHECK_S)
                capacity = deployment.capacity
                busy = deployment.standing.open_calls or capacity.running or capacity.waiting
                quiet = 0 if busy else quiet + 1
    except TimeoutError:
        log.warning("deployment %s: still has open calls after %g s, they are cut", deployment.name, limit_s)
    finally:
        await deployment.engine.close()


def _check_names(rows: Sequence[DeploymentRow]) -> None:
    twice = [name for name, count in Counter(row.name for row in rows).items() if count > 1]
    if twice:
        raise StartupError(
            say(
                f"[[deployment]]: the name {twice[0]!r} is used twice. Give each its own",
                f"[[deployment]]：名称 {twice[0]!r} 重复。请为每个部署使用不同的名称",
            )
        )
    if any(row.name == EMBEDDED for row in rows):
        raise StartupError(
            say(
                f"[[deployment]]: {EMBEDDED!r} is what routes call Hanlin's own weights. Choose another name",
                f"[[deployment]]：{EMBEDDED!r} 专指 Hanlin 内置的权重。请换一个名称",
            )
        )


def _check_row(row: DeploymentRow, catalogue: Catalogue, environment: Mapping[str, str]) -> None:
    if not row.name:
        raise _wrong(row, "needs a name of its own", "需要一个名称")
    if row.profile and row.profile not in (known := profiles().engine):
        listed = ", ".join(sorted(known))
        raise _wrong(
            row,
            f"there is no profile {row.profile!r}. Known: {listed}",
            f"没有 profile {row.profile!r}。已有：{listed}",
        )
    if bool(row.url) == bool(row.engine):
        raise _wrong(
            row,
            "says neither where it is nor what to start, or both. Give one of url, upstream and engine",
            "未说明地址或要启动的引擎，或两者都有。请在 url、upstream、engine 中选择其一",
        )
    if row.engine:
        orders_of(row, logs=Path(), run=Path(), environment=environment)  # says itself what is wrong
    else:
        _check_address(row)
    if row.key_env and not VARIABLE.fullmatch(row.key_env):
        raise _wrong(
            row,
            "key_env is no name of a variable. The key itself does not belong into the file: "
            "`export NAME=…` and write the name",
            "key_env 不是环境变量名。密钥本身不应写在文件中：请 `export 名称=…`，并填写该名称",
        )
    if row.key_env and not environment.get(row.key_env):
        raise _wrong(
            row,
            f"{row.key_env} is not set: `export {row.key_env}=…`",
            f"未设置 {row.key_env}：请 `export {row.key_env}=…`",
        )
    for pattern in row.serves or ():
        if any(sign in pattern for sign in _WILD) and not _matching(pattern, catalogue):
            raise _wrong(
                row,
                f"serves {pattern!r}, which matches no name. `hanlin models` lists them",
                f"serves 中的 {pattern!r} 不匹配任何名称。`hanlin models` 会列出全部名称",
            )


def _check_address(row: DeploymentRow) -> None:
    try:
        Address.of_url(row.url)
    except ValueError as error:  # UnicodeError, of a host that is no name, is one as well
        raise _wrong(
            row, f"url: {error}. Write http://host:port/v1", f"url：{error}。请写成 http://host:port/v1"
        ) from error


def _check_route(route: RouteRow, rows: Sequence[DeploymentRow], catalogue: Catalogue) -> None:
    title = "[[route]] " + ", ".join(route.names)
    own = {name for row in rows for name in (*(row.serves or ()), *row.names)}
    for pattern in route.names:
        if not _matching(pattern, catalogue) and pattern not in own:
            raise StartupError(
                say(
                    f"{title}: {pattern!r} matches no name. `hanlin models` lists them",
                    f"{title}：{pattern!r} 不匹配任何名称。`hanlin models` 会列出全部名称",
                )
            )
    known = {row.name for row in rows} | {EMBEDDED}
    for name in (*route.deployments, *route.fallbacks):
        if name not in known:
            listed = ", ".join(sorted(known))
            raise StartupError(
                say(
                    f"{title}: there is no [[deployment]] {name!r}. Known: {listed}",
                    f"{title}：没有名为 {name!r} 的 [[deployment]]。已有：{listed}",
                )
            )
    twice = [name for name, count in Counter((*route.deployments, *route.fallbacks)).items() if count > 1]
    if twice:
        raise StartupError(
            say(
                f"{title}: {twice[0]!r} is named twice. Name each of deployments and fallbacks once",
                f"{title}：{twice[0]!r} 重复。deployments 与 fallbacks 中的名称只能各出现一次",
            )
        )
    if not route.names or not route.deployments:
        raise StartupError(
            say(f"{title}: names and deployments must not be empty", f"{title}：names 与 deployments 不能为空")
        )
    if route.weights and (route.choose != "weighted" or len(route.weights) != len(route.deployments)):
        raise StartupError(
            say(
                f'{title}: weights go with choose = "weighted", one for each of the deployments',
                f'{title}：weights 仅用于 choose = "weighted"，且与 deployments 一一对应',
            )
        )


def _matching(pattern: str, catalogue: Catalogue) -> bool:
    return any(fnmatchcase(name, pattern) for name in catalogue.by_name)


def _wrong(row: DeploymentRow, en: str, zh: str) -> StartupError:
    return StartupError(say(f"[[deployment]] {row.name!r}: {en}", f"[[deployment]] {row.name!r}：{zh}"))


def server(row: DeploymentRow, key: str, settings: Settings) -> tuple[Engine, EngineProfile]:
    """Return the engine of a row with an address. Raises StartupError."""
    profile = profiles().engine_named(row.profile or "openai")
    try:
        engine = ServerEngine(
            row.url,
            profile,
            model=row.model,
            names=partial(upstreams.names_there, row) if row.names else None,
            key=key,
            deadlines=_deadlines(settings),
            connections=row.slots,
        )
    except ValueError as error:  # of a proxy in the environment
        raise _wrong(row, f"{error}", f"{error}") from error
    return engine, profile


def _probe_model(row: DeploymentRow, catalogue: Catalogue) -> str:
    """Return a chat name that the server surely knows, "" when none is; any will do where it has one model for all.

    A name that merely fits a pattern is a guess, and a server that knows no such model would be taken for one that
    refuses to work.
    """
    chat = [model.name for model in catalogue.models.values() if model.chats and not catalogue.missing(model)]
    serves = row.serves if row.serves is not None else _EVERY_NAME
    served = [name for name in chat if any(fnmatchcase(name, pattern) for pattern in serves)]
    if row.model and served:
        return served[0]
    stated = dict.fromkeys(name for name in (*serves, *row.names) if not any(sign in name for sign in _WILD))
    return next((name for name in stated if _can_chat(name, catalogue)), "")


def _can_chat(name: str, catalogue: Catalogue) -> bool:
    """Whether a name is one of chat; one that the catalogue does not know is taken for one."""
    model = catalogue.find(name)
    return model is None or (model.chats and not catalogue.missing(model))


def _vectors(
    row: DeploymentRow, key: str, server: Deployment, settings: Settings, catalogue: Catalogue
) -> EmbeddingDeployment | None:
    """Return the row as something that answers embedding names, None when it serves none of them.

    It is the same server as that of its chat, whose places it shares. Its health is its own: another model answers, and
    long silence is no sign of sickness there.
    """
    embedder = ServerEmbedder(
        row.url,
        model=row.model,
        names=partial(upstreams.names_there, row) if row.names else None,
        key=key,
        deadlines=_deadlines(settings),
        codes=server.profile.codes,
    )
    deployment = EmbeddingDeployment(
        name=row.name,
        title=row.name,
        fingerprint=row.name,
        engine=embedder,
        capacity=server.capacity,
        embedded=False,
        serves=row.serves if row.serves is not None else _EVERY_NAME,
        one_model=bool(row.model),
        fits=row.fit_vectors,
        there=embedder.there,
        runs=server.runs,
    )
    models = (model for model in catalogue.models.values() if model.embeds)
    return deployment if any(deployment.answers(model) for model in models) else None


def _deadlines(settings: Settings) -> Deadlines:
    return Deadlines(settings.connect_s, settings.first_byte_s, settings.silence_s, settings.call_limit_s)


def _deployment(
    row: DeploymentRow, engine: Engine, profile: EngineProfile, settings: Settings, catalogue: Catalogue
) -> Deployment:
    return Deployment(
        name=row.name,
        title=row.name,
        fingerprint=row.name,
        engine=engine,
        profile=profile,
        capacity=Capacity(row.slots, settings.queue_limit),
        embedded=False,
        context_tokens=row.context_tokens,
        serves=row.serves if row.serves is not None else _EVERY_NAME,
        repository=row.repository or (row.weights if row.engine else ""),
        runs=f"{row.profile or row.engine}/{row.model or row.weights}" if row.model or row.weights else "",
        probe_model="" if row.engine or upstreams.is_rented(row) else _probe_model(row, catalogue),
    )


__all__ = [
    "Fleet",
    "Member",
    "Start",
    "Wanted",
    "assemble",
    "learned",
    "own_names",
    "own_prices",
    "retire",
    "server",
    "stated",
]
