"""The use cases of whoever administers, on the database: what the admin API and the command line do is done here.

Each validates, changes, and leaves its line in the audit log, so that no way of asking can differ from another.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

import msgspec
from msgspec import UNSET

from hanlin.catalogue.models import Catalogue, Model
from hanlin.errors import InvalidRequest, UnknownCall, UnknownPrice
from hanlin.keys import hash_key, hint, new_key
from hanlin.metering.prices import LIST_CURRENCY, PriceList
from hanlin.service.administration import cursors, rules, views
from hanlin.service.administration.values import (
    MOST_TOTALS,
    AuditAsked,
    AuditPage,
    CallContent,
    CallDetail,
    CallPage,
    CallsAsked,
    CallsFilter,
    KeyChange,
    KeyPage,
    KeysAsked,
    KeyView,
    MadeKey,
    ModelLimitsChange,
    ModelLimitsNamed,
    ModelLimitsPage,
    ModelLimitsView,
    NewKey,
    NewWorkspace,
    OwnPrices,
    Price,
    PriceListView,
    Prices,
    PricesAsked,
    RotatedKey,
    Rotation,
    Usage,
    UsageAsked,
    WorkspaceChange,
    WorkspacePage,
    WorkspacesAsked,
    WorkspaceView,
)
from hanlin.service.guests import with_guests
from hanlin.service.model_limits import remove_limits, set_limits
from hanlin.settings import DeploymentRow
from hanlin.store.database import Store
from hanlin.store.rows import Filters, KeyRow, Limits, Role, Workspace
from hanlin.words import say

_WILD = "*?["


class Actor(msgspec.Struct, frozen=True):
    """In whose name something is done: `who` for the audit log, and what that may.

    `at_home`: whoever may write the home's files may do everything, also what would lock all others out.
    """

    who: str
    role: Role
    at_home: bool = False


AT_HOME = Actor("cli", "owner", at_home=True)


class Steward:
    """Administers a service in the name of an actor. The methods are those of `operations.Administration`.

    `secret` is what keys are hashed with; `own_names` returns the names that only the operator's deployments answer.
    Whether the actor may call an operation at all is decided before, by the table of operations; what it may do to
    which key is decided here. Methods raise StoreFailed when the database cannot be used, and InvalidRequest.
    """

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        prices: PriceList,
        actor: Actor,
        *,
        secret: bytes,
        own_names: Callable[[], Iterable[str]] = tuple,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._prices = prices
        self._actor = actor
        self._secret = secret
        self._own_names = own_names
        self._now = now

    async def me(self) -> KeyView:
        """Return the key that the actor brought. Raises UnknownKey for one that has none."""
        return await self.key(self._actor.who)

    # keys

    async def keys(self, asked: KeysAsked) -> KeyPage:
        asked = rules.checked(asked)
        workspace_id = (await self._store.workspaces.called(asked.workspace)).id if asked.workspace else ""
        page = await self._store.keys.page(cursors.mark_of(asked.after), asked.limit, workspace_id=workspace_id)
        now = self._now()
        return KeyPage(data=tuple(views.key_view(row, now) for row in page.rows), next=cursors.written(page.next))

    async def key(self, key_id: str) -> KeyView:
        """Return a key. Raises UnknownKey."""
        return self._seen(await self._store.keys.get(key_id))

    async def make_key(self, new: NewKey) -> MadeKey:
        """Make a key. Raises UnknownWorkspace and RoleAccessDenied."""
        new = rules.checked(new)
        rules.may_touch(self._actor.role, new.role)
        workspace = await self._store.workspaces.called(new.workspace)
        text = new_key()
        row = await self._store.keys.add(
            new.name,
            hash_key(self._secret, text),
            hint(text),
            workspace_id=workspace.id,
            role=new.role,
            models=self._patterns(new.models),
            surfaces=tuple(dict.fromkeys(new.surfaces)),
            addresses=rules.networks(new.addresses),
            limits=views.limits_of(new.limits),
            expires_at=rules.expiry(new.expires_at, self._now()),
            who=self._actor.who,
        )
        return MadeKey(**msgspec.structs.asdict(self._seen(row)), key=text)

    async def change_key(self, key_id: str, change: KeyChange) -> KeyView:
        """Change a key. Raises UnknownKey, UnknownWorkspace and RoleAccessDenied."""
        change = rules.checked(change)
        given = {name: value for name, value in msgspec.structs.asdict(change).items() if value is not UNSET}
        if not given:
            raise _nothing()
        if "workspace" in given:
            given["workspace_id"] = (await self._store.workspaces.called(given.pop("workspace"))).id
        if "models" in given:
            given["models"] = self._patterns(given["models"])
        if "surfaces" in given:
            given["surfaces"] = tuple(dict.fromkeys(given["surfaces"]))
        if "addresses" in given:
            given["addresses"] = rules.networks(given["addresses"])
        if "expires_at" in given:
            given["expires_at"] = rules.expiry(given["expires_at"], self._now())
        limits = given.pop("limits", None)

        def edit(row: KeyRow) -> KeyRow:
            held = row.limits if limits is None else rules.changed_limits(row.limits, limits)
            return msgspec.structs.replace(row, **given, limits=held)

        row = await self._store.keys.change(key_id, edit, who=self._actor.who, check=self._check)
        return self._seen(row)

    async def rotate_key(self, key_id: str, rotation: Rotation) -> RotatedKey:
        """Replace a key by a new one that may the same. Raises UnknownKey and RoleAccessDenied."""
        rotation = rules.checked(rotation)
        text = new_key()
        row = await self._store.keys.rotate(
            key_id,
            hash_key(self._secret, text),
            hint(text),
            timedelta(seconds=rotation.overlap_s),
            who=self._actor.who,
            check=self._check,
        )
        replaced = await self.key(key_id)
        return RotatedKey(**msgspec.structs.asdict(self._seen(row)), key=text, replaced=replaced)

    async def revoke_key(self, key_id: str) -> KeyView:
        """Stop a key for good. Raises UnknownKey and RoleAccessDenied."""
        return self._seen(await self._store.keys.revoke(key_id, who=self._actor.who, check=self._check))

    def _seen(self, row: KeyRow) -> KeyView:
        return views.key_view(row, self._now())

    def _patterns(self, given: Sequence[str]) -> tuple[str, ...]:
        return rules.patterns(given, self._catalogue.names(), self._own_names)

    def _check(self, old: KeyRow, new: KeyRow, owners: Sequence[KeyRow]) -> None:
        rules.may_touch(self._actor.role, old.role, new.role)
        if not self._actor.at_home:
            rules.stays_owned(old, new, owners, self._now())

    # workspaces

    async def workspaces(self, asked: WorkspacesAsked) -> WorkspacePage:
        asked = rules.checked(asked)
        page = await self._store.workspaces.page(cursors.mark_of(asked.after), asked.limit)
        return WorkspacePage(data=tuple(map(views.workspace_view, page.rows)), next=cursors.written(page.next))

    async def workspace(self, word: str) -> WorkspaceView:
        """Return a workspace by its id or name. Raises UnknownWorkspace."""
        return views.workspace_view(await self._store.workspaces.called(word))

    async def make_workspace(self, new: NewWorkspace) -> WorkspaceView:
        new = rules.checked(new)
        row = await self._store.workspaces.add(
            new.name, limits=views.limits_of(new.limits), keeps_content=new.keeps_content, who=self._actor.who
        )
        return views.workspace_view(row)

    async def change_workspace(self, word: str, change: WorkspaceChange) -> WorkspaceView:
        """Change a workspace, by its id or name. Raises UnknownWorkspace."""
        change = rules.checked(change)
        given = {name: value for name, value in msgspec.structs.asdict(change).items() if value is not UNSET}
        if not given:
            raise _nothing()
        limits = given.pop("limits", None)

        def edit(row: Workspace) -> Workspace:
            held = row.limits if limits is None else rules.changed_limits(row.limits, limits)
            return msgspec.structs.replace(row, **given, limits=held)

        found = await self._store.workspaces.called(word)
        return views.workspace_view(await self._store.workspaces.change(found.id, edit, who=self._actor.who))

    # usage

    async def usage(self, asked: UsageAsked) -> Usage:
        """Add calls up. Raises UnknownKey and UnknownWorkspace for what a filter names and nobody knows."""
        asked = rules.checked(asked)
        by = tuple(dict.fromkeys(asked.by))
        filters = await self._filters(asked)
        rows = await self._store.ledger.totals([views.DIMENSIONS[word] for word in by], filters)
        if len(rows) > MOST_TOTALS:
            raise InvalidRequest(
                say(
                    f"by: {len(rows):,} rows, at most {MOST_TOTALS:,} fit. Ask about less time or fewer dimensions",
                    f"by：共 {len(rows):,} 行，最多 {MOST_TOTALS:,} 行。请缩短时间范围或减少维度",
                ),
                param="by",
            )
        total = await self._store.ledger.totals((), filters)
        keys = {row.key_id for row in rows if row.key_id is not None}
        names = await self._names(keys, workspaces="workspace" in by)
        return Usage(
            since=asked.since,
            until=asked.until,
            by=by,
            rows=tuple(views.usage_row(row, by, names) for row in views.in_order(rows)),
            total=tuple(views.usage_row(row, (), names) for row in total),
        )

    async def calls(self, asked: CallsAsked) -> CallPage:
        """List calls. Raises UnknownKey and UnknownWorkspace for what a filter names and nobody knows."""
        asked = rules.checked(asked)
        page = await self._store.ledger.page(await self._filters(asked), cursors.mark_of(asked.after), asked.limit)
        names = await self._names({call.key_id for call in page.rows}, workspaces=bool(page.rows))
        return CallPage(data=tuple(views.call_view(call, names) for call in page.rows), next=cursors.written(page.next))

    async def call(self, call_id: str) -> CallDetail:
        """Return one call, with its content where that is kept. Raises UnknownCall."""
        call = await self._store.ledger.find(call_id)
        if call is None:
            raise UnknownCall(
                say(
                    f"no call has the id {call_id!r}: calls are there within two seconds of their end",
                    f"没有编号为 {call_id!r} 的调用：调用结束后两秒内可见",
                )
            )
        kept = await self._store.contents.find(call_id)
        content = None if kept is None else CallContent(prompt=_json(kept.prompt), answer=_json(kept.answer))
        view = views.call_view(call, await self._names({call.key_id}, workspaces=True))
        return CallDetail(**msgspec.structs.asdict(view), content=content)

    async def _filters(self, asked: CallsFilter) -> Filters:
        if asked.since is not None and asked.until is not None and asked.since >= asked.until:
            raise InvalidRequest(
                say("since is not before until: no time lies between them", "since 不早于 until：其间没有时间"),
                param="since",
            )
        if asked.key:
            await self._store.keys.get(asked.key)
        return Filters(
            key_id=asked.key,
            workspace_id=(await self._store.workspaces.called(asked.workspace)).id if asked.workspace else "",
            model=asked.model,
            outcome=asked.outcome,
            since=asked.since,
            until=asked.until,
        )

    async def _names(self, keys: set[str], *, workspaces: bool) -> views.Names:
        return views.Names(
            {row.id: row for row in await self._store.keys.some(keys)} if keys else {},
            {row.id: row.name for row in await self._store.workspaces.all()} if workspaces else {},
        )

    # limits of models

    async def limits(self) -> ModelLimitsPage:
        catalogue = self._callable()
        rows = await self._store.limits.all()
        return ModelLimitsPage(data=tuple(views.model_limits_view(row, catalogue) for row in rows))

    async def change_limits(self, change: ModelLimitsChange) -> ModelLimitsView:
        """Set or change limits. Raises InvalidRequest, also for what matches no name that can be called."""
        change, catalogue = rules.checked(change), self._callable()

        def edit(old: Limits) -> Limits:
            return rules.changed_limits(old, change.limits)

        row = await set_limits(self._store, catalogue, change.pattern, edit, who=self._actor.who)
        return views.model_limits_view(row, catalogue)

    async def remove_limits(self, named: ModelLimitsNamed) -> ModelLimitsView:
        """Remove limits, and return what they were. Raises UnknownLimits."""
        named, catalogue = rules.checked(named), self._callable()
        row = await remove_limits(self._store, catalogue, named.pattern, who=self._actor.who)
        return views.model_limits_view(row, catalogue)

    def _callable(self) -> Catalogue:
        """Return the catalogue with the names that only the operator's deployments answer."""
        own = (name for name in self._own_names() if name not in self._catalogue.by_name)
        return with_guests(self._catalogue, [name for name in own if not any(sign in name for sign in _WILD)])

    # prices

    async def prices(self, asked: PricesAsked) -> Prices:
        """Return list prices of names. Raises UnknownPrice for a name, or a pattern, that is nobody's."""
        return priced(rules.checked(asked), self._catalogue, self._prices)

    async def price_list(self, version: str) -> PriceListView:
        """Return a price list that calls were charged by. Raises UnknownPrice."""
        row = await self._store.prices.find(version)
        if row is None:
            raise UnknownPrice(
                say(f"{version}: no price list of this version was used here", f"{version}：此处未使用过该版本的价目表")
            )
        return PriceListView(version=row.version, made_at=row.made_at, list=msgspec.json.decode(row.text))

    # audit

    async def audit(self, asked: AuditAsked) -> AuditPage:
        asked = rules.checked(asked)
        before = cursors.number_of(asked.after)
        who = asked.who or None
        rows = await self._store.audit.page(subject=asked.subject, who=who, before=before, limit=asked.limit + 1)
        shown = rows[: asked.limit]
        more = len(rows) > asked.limit
        return AuditPage(
            data=tuple(map(views.audit_view, shown)), next=cursors.numbered(shown[-1].id if more else None)
        )


def own_names(rows: Iterable[DeploymentRow]) -> Iterable[str]:
    """Return the names and patterns that the operator's deployments answer."""
    return [name for row in rows for name in (*(row.serves or ()), *row.names)]


def priced(asked: PricesAsked, catalogue: Catalogue, prices: PriceList) -> Prices:
    """Return list prices of names; of all where none is asked for. Raises UnknownPrice for what is nobody's."""
    found: dict[str, Model] = {}
    for word in asked.name:
        found |= _meant(word, catalogue)
    return Prices(
        version=prices.version,
        currency=LIST_CURRENCY,
        per_tokens=1_000_000,
        prices=tuple(
            Price(name=name, tiers=model.prices) for name, model in (found if asked.name else catalogue.models).items()
        ),
        own=tuple(_own(prices, found if asked.name else None)),
    )


def _own(prices: PriceList, names: Collection[str] | None) -> Iterator[OwnPrices]:
    """Yield the operator's tariffs: all, or those that hold for one of the names."""
    for deployment, tariffs in sorted(prices.own.items()):
        for tariff in tariffs:
            if names is None or any(fnmatchcase(name, pattern) for name in names for pattern in tariff.names):
                yield OwnPrices(deployment=deployment, names=tariff.names, currency=tariff.currency, tiers=tariff.tiers)


def _meant(word: str, catalogue: Catalogue) -> dict[str, Model]:
    if any(sign in word for sign in _WILD):
        found = {name: model for name, model in catalogue.models.items() if fnmatchcase(name, word)}
    else:
        model = catalogue.find(word)
        found = {} if model is None else {word: model}
    if not found:
        hint = rules.alike(word, catalogue.names())
        raise UnknownPrice(
            say(f"no model is called {word!r}: {hint}", f"没有名为 {word!r} 的模型：{hint}"), param="name"
        )
    return found


def _json(text: str) -> Any:
    return msgspec.json.decode(text)


def _nothing() -> InvalidRequest:
    return InvalidRequest(say("nothing to change was given", "没有给出要修改的内容"))
