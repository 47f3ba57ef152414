"""The admin API's calls: who may, what they ask for, the answer. What is done is `service.administration`'s."""

import msgspec

from hanlin.errors import RoleAccessDenied
from hanlin.http.admin import description, routes
from hanlin.http.exchange import Exchange
from hanlin.keys import concealed
from hanlin.service.accounting import permit_from
from hanlin.service.administration import rules, tables
from hanlin.service.administration.steward import Actor, Steward, own_names
from hanlin.service.administration.values import AuditPage, CallPage, KeyPage, ModelLimitsPage, Usage, WorkspacePage
from hanlin.service.studio import Studio
from hanlin.store.rows import KeyRow, Role
from hanlin.words import say

CSV = "text/csv; charset=utf-8"

_MOST_BODY_BYTES = 64 * 1024


async def answer(studio: Studio, exchange: Exchange) -> None:
    """Answer a call of the admin API. Raises HanlinError for one that is refused."""
    exchange.extra_headers["cache-control"] = "no-store"
    path, exchange.path = exchange.path, concealed(exchange.path)  # which is logged, and programs mistake keys for ids
    route, arguments = routes.route_of(path, exchange.method)
    key = await _caller(studio, exchange, route.role)
    asked, form = routes.parameters(route, exchange.query)
    given: list[str | msgspec.Struct] = [*arguments]
    if route.query is not None:
        given.append(asked)
    if route.method != "GET":
        said = routes.body(route, await exchange.body(_MOST_BODY_BYTES))
        if route.body is not None:
            given.append(said)
    if route is routes.DESCRIPTION:
        await exchange.answer(200, description.encoded())
        return
    done = await getattr(_steward(studio, key), route.name)(*given)
    if form == "csv":
        await exchange.answer(route.status, _csv(exchange, done).encode(), CSV)
    else:
        await exchange.answer(route.status, msgspec.json.encode(done))


async def _caller(studio: Studio, exchange: Exchange, needed: Role) -> KeyRow:
    """Return the key of a call, if its role is enough. Raises InvalidApiKey and AccessDenied."""
    brought = exchange.bearer()
    key = await studio.keyring.authenticate(brought)
    permit_from(key, exchange.peer())
    if studio.keyring.is_temporary(brought):
        raise RoleAccessDenied(
            say(
                "A temporary key administers nothing: use the key that it was made with",
                "临时密钥不能用于管理：请使用其所属的密钥",
            )
        )
    rules.require(key.role, needed)
    return key


def _steward(studio: Studio, key: KeyRow) -> Steward:
    return Steward(
        studio.store,
        studio.own_catalogue,
        studio.accounting.prices,
        Actor(key.id, key.role),
        secret=studio.keyring.secret,
        own_names=lambda: own_names(member.row for member in studio.fleet.members),
    )


def _csv(exchange: Exchange, done: Usage | CallPage | KeyPage | WorkspacePage | AuditPage | ModelLimitsPage) -> str:
    if isinstance(done, Usage):
        return tables.table(done.rows, tables.usage_head(done.by))
    if done.next is not None:
        exchange.extra_headers[routes.NEXT] = done.next
    return tables.table(done.data, tables.page_head(done))
