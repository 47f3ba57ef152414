"""Who does what the commands about keys, workspaces, usage and prices ask for: the home's own database, or a service
that runs somewhere, over its admin API. The commands cannot tell.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Annotated, NamedTuple, TypeVar

import typer

from hanlin.catalogue import load
from hanlin.cli import show
from hanlin.cli.options import Command, HomeOption, effective, home_of, with_options
from hanlin.cli.remote import Remote
from hanlin.cli.show import Misused
from hanlin.cli.stored import looked_up, with_secret
from hanlin.errors import InvalidRequest
from hanlin.home import Home, prepare
from hanlin.metering.prices import PriceList
from hanlin.service.administration.operations import Administration
from hanlin.service.administration.steward import AT_HOME, Steward, own_names
from hanlin.service.administration.values import (
    MOST_ROWS,
    CallPage,
    KeyPage,
    KeysAsked,
    KeyView,
    WorkspacePage,
    WorkspacesAsked,
    WorkspaceView,
)
from hanlin.service.fleet import own_prices
from hanlin.settings import Secret
from hanlin.store.database import Store
from hanlin.words import say

Result = TypeVar("Result")
Page = TypeVar("Page", KeyPage, WorkspacePage, CallPage)
Step = Callable[[Administration], Awaitable[Result]]

_NAMES_OF_MODELS = ("models", "pattern")  # where keys and limits say them


class Where(NamedTuple):
    """What is administered: a home, or the service at `url`, which is "" otherwise."""

    home: Home
    url: str = ""
    key: Secret = Secret("")


_URL = typer.Option(
    "--url", metavar="URL", help=say("A running service, in place of the home.", "运行中的服务地址，代替主目录。")
)
_ADMIN_KEY = typer.Option(
    "--admin-key",
    metavar="KEY",
    envvar="HANLIN_ADMIN_KEY",
    help=say("With --url: a key with a role [$HANLIN_ADMIN_KEY].", "与 --url 连用：带角色的密钥 [$HANLIN_ADMIN_KEY]。"),
)
_OPTIONS = [
    inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
    for name, annotation, default in (
        ("home", HomeOption, None),
        ("url", Annotated[str, _URL], ""),
        ("admin_key", Annotated[str, _ADMIN_KEY], ""),
    )
]


def with_place(command: Command) -> Command:
    """Give a command the options that say what it is about; that reaches it as one value, `place`."""
    return with_options(command, "place", _OPTIONS, lambda said: where(**said))


def where(home: Path | None, url: str, admin_key: str) -> Where:
    """Return what a command is about. Raises Misused for two places at once, and for a service without a key."""
    if not url:
        return Where(home_of(home))
    if home is not None:
        raise Misused(say("--home and --url: give one of them", "--home 与 --url 只能选其一"))
    if not admin_key.strip():
        raise Misused(
            say(
                "--url needs a key with a role: `export HANLIN_ADMIN_KEY=…`; `hanlin keys create --role owner` on the "
                "service's machine makes one",
                "--url 需要带角色的密钥：请 `export HANLIN_ADMIN_KEY=…`；可在服务所在机器上用 "
                "`hanlin keys create --role owner` 创建",
            )
        )
    if not (admin_key.isascii() and admin_key.strip().isprintable()):
        raise Misused(
            say("the admin key is no key: it is not printable ASCII", "管理密钥无效：含有可打印 ASCII 以外的字符")
        )
    return Where(home_of(None), url, Secret(admin_key.strip()))


def changed(place: Where, act: Step[Result]) -> Result:
    """Run a step that changes something. Raises what it raises; of a name that is unknown here it says who may know."""
    if place.url:
        return remotely(place, act)
    prepare(place.home)
    try:
        return with_secret(place.home, lambda store, secret: act(_steward(store, place.home, secret)))
    except InvalidRequest as problem:
        if problem.param in _NAMES_OF_MODELS:
            show.note(
                say(
                    "names that a running service has learned from its upstreams are known to it alone: add --url",
                    "运行中的服务从上游得知的名称只有该服务知道：请加上 --url",
                )
            )
        raise


def looked(place: Where, act: Step[Result], otherwise: Result) -> Result:
    """Run a step that only looks; `otherwise` for a home without a database: looking at it must not make one."""
    if place.url:
        return remotely(place, act)
    return looked_up(place.home, lambda store: act(_steward(store, place.home, b"")), otherwise)


async def pages(ask: Callable[[str], Awaitable[Page]]) -> AsyncIterator[Page]:
    """Yield the pages of a list; `ask` returns the one after a mark, "" for the first."""
    after: str | None = ""
    while after is not None:
        page = await ask(after)
        yield page
        after = page.next


async def every_key(administration: Administration) -> list[KeyView]:
    """Return every key, oldest first."""
    found: list[KeyView] = []
    with show.counting() as counted:
        async for page in pages(lambda after: administration.keys(KeysAsked(after=after, limit=MOST_ROWS))):
            found += page.data
            counted(len(page.data), page.next is None)
    return found


async def every_workspace(administration: Administration) -> list[WorkspaceView]:
    """Return every workspace, oldest first."""
    found: list[WorkspaceView] = []
    with show.counting() as counted:
        async for page in pages(lambda after: administration.workspaces(WorkspacesAsked(after=after, limit=MOST_ROWS))):
            found += page.data
            counted(len(page.data), page.next is None)
    return found


def remotely(place: Where, act: Step[Result]) -> Result:
    """Run a step on the service of a place that is one. Raises Failed, and what the step raises."""

    async def run() -> Result:
        remote = Remote(place.url, place.key)
        try:
            return await act(remote)
        finally:
            await remote.close()

    return asyncio.run(run())


def _steward(store: Store, home: Home, secret: bytes) -> Steward:
    """Return who administers a home. `secret` is b"" for whoever only looks."""
    catalogue, settings = load(), effective(home, None).settings
    return Steward(
        store,
        catalogue,
        PriceList.of(catalogue, own_prices(settings)),
        AT_HOME,
        secret=secret,
        own_names=lambda: own_names(settings.deployment),
    )
