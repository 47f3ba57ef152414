"""What a call may use and what it cost: permission and reservation before it, settlement and a ledger row at its end.

One `Bill` a call, whatever its surface. Its row is in the journal before the last byte of the answer leaves; the
database has it within seconds (`metering.ledger`).
"""

import asyncio
import contextlib
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from fnmatch import fnmatchcase

import msgspec

from hanlin.catalogue.models import Catalogue
from hanlin.errors import AccessDenied, HanlinError, ModelAccessDenied, StoreFailed, UnknownKey
from hanlin.metering.journal import Journal, Mark
from hanlin.metering.journal_calls import Start
from hanlin.metering.journal_left import Found
from hanlin.metering.ledger import LedgerState, LedgerWriter
from hanlin.metering.limits import Demand, Subject
from hanlin.metering.memory import MemoryStore
from hanlin.metering.prices import Cost, Counted, PriceList, checked_usage
from hanlin.metering.reserving import NOTHING, LimitStore, Meter, Reservation
from hanlin.service.charging import Book, Most
from hanlin.service.contents import Conversation, Keeper
from hanlin.service.model_limits import limits_for
from hanlin.store.database import Store
from hanlin.store.rows import UNLIMITED, KeyRow, LedgerRow, Limits, ModelLimits, Outcome
from hanlin.types import Answering, Served, Usage
from hanlin.words import say

log = logging.getLogger("hanlin.service")

_LOOK_S = 1.0  # how soon a changed workspace or limit counts
_KNOWN_KEYS = 1024
_NO_WORKSPACE = ("", UNLIMITED)

_Known = tuple[KeyRow, tuple[str, Limits], tuple[Subject, ...]]
_LAST_ROWS_S = 5.0
_ON_ITS_WAY_S = 1.0


@dataclass(frozen=True)
class Sharing:
    """How a process shares limits and ledger with the others of its service; by default it has none beside it.

    `limits` is where limits are kept, None for its own memory. The one that `takes_over` moves what dead processes
    left, and is told of each row of theirs that is `found`.
    """

    limits: LimitStore | None = None
    takes_over: bool = True
    found: Found | None = None


ALONE = Sharing()


class Accounting:
    """Admits calls and keeps their bills. Without a journal nothing is kept: for services that only tests run."""

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        journal: Journal | None = None,
        sharing: Sharing = ALONE,
        *,
        is_embedded: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """`is_embedded` says whether a deployment is one of the weights that Hanlin runs itself."""
        self._store = store
        self._journal = journal
        self._takes_over = sharing.takes_over
        self._writer = (
            None
            if journal is None
            else LedgerWriter(
                journal,
                store.ledger,
                # Whoever is told of all rows settles what their calls held; else only money is missing.
                cut=self._was_cut if sharing.found is None else None,
                found=sharing.found,
                takes_over=sharing.takes_over,
            )
        )
        self._cut: list[LedgerRow] = []
        self._keeper = None if journal is None else Keeper(store.contents)
        self._keeping: frozenset[str] = frozenset()  # workspaces
        self._workspaces: Mapping[str, tuple[str, Limits]] = {}  # names and limits, by id
        self._model_limits: tuple[ModelLimits, ...] = ()
        self._models: dict[str, Subject] = {}
        self._catalogue = catalogue
        self._subjects: dict[str, _Known] = {}
        self._unkept: dict[str, PriceList] = {}
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._is_embedded = is_embedded
        self._book = Book(PriceList.of(catalogue), is_embedded)
        self.meter = Meter(sharing.limits or MemoryStore(), self._spent)

    async def start(self) -> None:
        """Read what is kept, take over what an earlier process left, and go on in the background."""
        await self._store.prices.keep(self._book.version, self._book.prices.text)
        await self._look()
        self._tasks.append(asyncio.create_task(self._keep_looking()))
        if self._writer is not None:
            if self._takes_over:
                await self._catch_up(self._writer)
                with contextlib.suppress(StoreFailed):  # in a second again
                    await self._charge_cut()
            self._tasks.append(asyncio.create_task(self._writer.run()))
        if self._keeper is not None:
            self._tasks.append(asyncio.create_task(self._keeper.run()))

    async def _catch_up(self, writer: LedgerWriter) -> None:
        """Have what an earlier process left in the database before budgets are read from it, if it takes that now."""
        with contextlib.suppress(TimeoutError, OSError):  # the writer goes on with it, and says what is wrong
            writer.take_over()
            async with asyncio.timeout(_LAST_ROWS_S):
                while not await writer.step():
                    pass

    async def close(self) -> None:
        """Put what is left into the database, as far as that takes it now; the journal keeps the rest."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(HanlinError, TimeoutError):
            async with asyncio.timeout(_LAST_ROWS_S):
                await self._keep_prices()
        await self.meter.close()
        if self._keeper is not None:
            await self._keeper.close(_LAST_ROWS_S)
        if self._writer is not None and self._journal is not None:
            await self._writer.close(_LAST_ROWS_S)
            self._journal.close()

    @property
    def prices(self) -> PriceList:
        """The prices that calls which begin now are charged by."""
        return self._book.prices

    def exchange(self, prices: PriceList) -> None:
        """Charge calls that begin from now on by other prices; those that run keep the ones that they began with.

        The list is in the database as soon as that takes it: rows name its version.
        """
        if prices.version != self._book.version:
            self._book = Book(prices, self._is_embedded)
            self._unkept[prices.version] = prices
            self._changed.set()

    @property
    def keeps_rows(self) -> bool:
        """Whether calls leave rows; where none do, one that holds nothing needs no bill."""
        return self._journal is not None

    def together(self) -> contextlib.AbstractContextManager[None]:
        """Return a block in which bills may end that are written with it, all by one call of the system."""
        return contextlib.nullcontext() if self._journal is None else self._journal.together()

    def take_over(self) -> None:
        """Take over what a process left that has just died, without waiting for the next time."""
        if self._writer is not None:
            with contextlib.suppress(OSError):  # the writer tries again, and says what is wrong
                self._writer.take_over()

    @property
    def has_left(self) -> bool:
        """Whether something of what dead processes left is not in the database yet."""
        return self._writer is not None and self._writer.has_left

    def is_behind(self) -> bool:
        """Say whether rows of an earlier process may be on their way into the database."""
        return self._writer is not None and self._writer.is_behind

    def ledger_state(self) -> LedgerState | None:
        """Return how the way into the ledger stands, None where there is none."""
        return None if self._writer is None else self._writer.state()

    def permit(self, key: KeyRow, surface: str, model: str, peer: Callable[[], str]) -> None:
        """Let a key call a model on a surface. Raises AccessDenied and ModelAccessDenied. `peer` says from where."""
        if key.surfaces and surface not in key.surfaces:
            raise AccessDenied(
                say(f"This key may not call {surface}: {', '.join(key.surfaces)}", f"该密钥不可调用 {surface}")
            )
        if key.models and not any(fnmatchcase(model, pattern) for pattern in key.models):
            raise ModelAccessDenied(
                say(
                    f"This key may call {', '.join(key.models)}, not {model!r}",
                    f"该密钥只可调用 {', '.join(key.models)}，不含 {model!r}",
                )
            )
        if key.addresses:
            permit_from(key, peer())

    def reserve(self, subjects: Sequence[Subject], most: Most, id: str) -> Awaitable[Reservation]:
        """Hold what a call may use of the limits of its `subjects`. Raises QuotaExceeded and LimitsUnavailable.

        Whoever has a reservation owes it a bill; `id` is that of its row.
        """
        tokens, cost = most(self._book)
        return self.meter.reserve(subjects, tokens, cost.nanos, currency=cost.currency, call=id)

    def begin(
        self,
        key: KeyRow,
        id: str,
        surface: str,
        answering: Answering,
        *,
        stream: bool,
        began_unix_s: float,
        prompt_tokens: int,
        reservation: Reservation | None = None,
        of: "Bill | None" = None,
        has_inner: bool = False,
    ) -> "Bill":
        """Begin a call's bill. `prompt_tokens` are an estimate, in case that the service dies under the call.

        `of` is the bill of the call that a recipe makes this one for; `has_inner` says that a recipe will make some.
        """
        book = self._book
        million = book.million(answering)
        if has_inner:  # what it costs stands in the rows of the inner calls
            million = msgspec.structs.replace(million, prompt_nanos=0, answer_nanos=0)
        if of is not None:  # what the list would charge stands in the caller's own row
            million = msgspec.structs.replace(million, list_prompt_nanos=0, list_answer_nanos=0)
        held = NOTHING if reservation is None else reservation.held
        start = Start(
            id,
            began_unix_s,
            key.id,
            key.workspace_id,
            surface,
            answering.model,
            answering.deployment,
            answering.served,
            stream,
            "" if of is None else of.start.id,
            prompt_tokens,
            book.version,
            million.currency,
            million.prompt_nanos,
            million.list_prompt_nanos,
            million.answer_nanos,
            million.list_answer_nanos,
            held.tokens,
            held.nanos,
            has_inner,
        )
        mark = None if self._journal is None else self._journal.began(start)
        keeper = self._keeper if of is None and self._keeping and key.workspace_id in self._keeping else None
        conversation = None if keeper is None else Conversation()
        return Bill(self.meter, book, start, reservation, mark, keeper, conversation, of=of, has_inner=has_inner)

    def subjects(self, key: KeyRow, model: str) -> tuple[Subject, ...]:
        """Return whoever's limits a key's calls of a model count for, none where nobody has any."""
        workspace = self._workspaces.get(key.workspace_id, _NO_WORKSPACE)
        known = self._subjects.get(key.id)
        if known is None or known[1] is not workspace or (known[0] is not key and known[0].limits != key.limits):
            known = self._subjects_of(key, workspace)
        if self._model_limits and (subject := self._model(model)).is_limited:
            return (*known[2], subject)
        return known[2]

    def _subjects_of(self, key: KeyRow, workspace: tuple[str, Limits]) -> "_Known":
        name, limits = workspace
        several = (
            Subject("key", key.counted_as, key.limits, key.name),  # a rotation begins nothing anew
            Subject("workspace", key.workspace_id, limits, name),
        )
        if len(self._subjects) >= _KNOWN_KEYS:
            self._subjects.clear()
        known = self._subjects[key.id] = key, workspace, tuple(one for one in several if one.is_limited)
        return known

    def _model(self, name: str) -> Subject:
        """Return a model as somebody that calls are counted for, with or without limits of its own."""
        subject = self._models.get(name)
        if subject is None:
            model = self._catalogue.find(name)
            own = name if model is None else model.name  # the catalogue knows nothing of the operator's own names
            row = limits_for(own, self._model_limits)
            subject = self._models[name] = Subject("model", own, UNLIMITED if row is None else row.limits)
        return subject

    async def _spent(self, subject: Subject, since: datetime | None) -> int:
        """Return the ledger's sum, with the rows of this process that are on their way into it."""
        budget = subject.limits.budget
        assert budget is not None
        if self._writer is not None:
            await self._writer.catch_up(_ON_ITS_WAY_S)
        if subject.kind == "key":
            return await self._store.ledger.spent(key_id=subject.id, currency=budget.currency, since=since)
        if subject.kind == "workspace":
            return await self._store.ledger.spent(workspace_id=subject.id, currency=budget.currency, since=since)
        model = self._catalogue.find(subject.id)
        names = [subject.id] if model is None else [model.name, *model.aliases]
        return await self._store.ledger.spent(models=names, currency=budget.currency, since=since)

    async def _keep_looking(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._changed.wait()
            self._changed.clear()
            with contextlib.suppress(HanlinError):  # the store has logged it; what was known last goes on to count
                await self._keep_prices()
                await self._look()
                await self._charge_cut()

    def _was_cut(self, _start: Start, row: LedgerRow) -> None:
        self._cut.append(row)

    async def _charge_cut(self) -> None:
        """Count what calls cost that a process died under: whoever keeps the limits has heard nothing of their end."""
        while self._cut:
            row = self._cut[0]
            with contextlib.suppress(UnknownKey):
                subjects = self.subjects(await self._store.keys.get(row.key_id), row.model)
                began_at = row.began_at.timestamp()
                self.meter.charge(row.id, subjects, row.cost_nanos, began_at)
                if row.told_prompt is not None:  # calls that were made for it and had ended have their rows already
                    self.meter.look_up(subjects, began_at)
            del self._cut[0]

    async def _keep_prices(self) -> None:
        for version, prices in list(self._unkept.items()):
            await self._store.prices.keep(version, prices.text)
            self._unkept.pop(version, None)

    async def _look(self) -> None:
        workspaces = await self._store.workspaces.all()
        if self._keeper is not None:  # what is kept stands beside rows, and goes with them
            self._keeping = frozenset(workspace.id for workspace in workspaces if workspace.keeps_content)
        known = {workspace.id: (workspace.name, workspace.limits) for workspace in workspaces}
        if known != self._workspaces:
            self._workspaces = known
        models = await self._store.limits.all()
        if models != self._model_limits:
            self._model_limits, self._models = models, {}


class Bill(msgspec.Struct, eq=False):
    """What one call used and cost. `ends` may be said twice, and counts once: from then on there is a `row`.

    Whoever has a bill with a reservation owes a `settle`. Made for every call, hence a Struct.

    `conversation` takes what is said, of a workspace that keeps it; None for all others. `of` is the bill of the call
    that a recipe makes this one for. `has_inner`: a recipe makes calls for this one. Their rows state what was used,
    this one's what the caller was told; `inner_…` is what they came to, `inner_most` what they could have come to and
    `inner_more` what was held for that beyond this call's own.
    """

    meter: Meter
    book: Book
    start: Start
    reservation: Reservation | None
    mark: Mark | None
    keeper: Keeper | None = None
    conversation: Conversation | None = None
    row: LedgerRow | None = None
    of: "Bill | None" = None
    has_inner: bool = False
    inner_most: Demand = NOTHING
    inner_more: Demand = NOTHING
    inner_tokens: int = 0
    inner_nanos: int = 0
    inner_currency: str | None = None

    async def extend(self, further: Most) -> None:
        """Hold what another call of its recipe may use, beyond what is held already. Raises as `Meter.extend`.

        What was refused counts for nothing: a smaller call may still be made.
        """
        if self.reservation is None:
            return
        tokens, cost = further(self.book)
        own, before = self.start, self.inner_more
        most = self.inner_most = _with(self.inner_most, Demand(0, tokens, cost.nanos))
        # By what was asked for, not by what is held: several may wait for their answers at once.
        wanted = Demand(0, max(most.tokens - own.reserved_tokens, 0), max(most.nanos - own.reserved_nanos, 0))
        more = Demand(0, max(wanted.tokens - before.tokens, 0), max(wanted.nanos - before.nanos, 0))
        if not (more.tokens or more.nanos):
            return
        self.inner_more = _with(before, more)
        try:
            await self.meter.extend(self.reservation, more.tokens, more.nanos, currency=cost.currency)
        except BaseException:
            self.inner_most = _with(self.inner_most, Demand(0, -tokens, -cost.nanos))
            self.inner_more = _with(self.inner_more, Demand(0, -more.tokens, -more.nanos))
            raise

    def rates(self) -> str:
        """Return what is left of the limits that the call counts for: `x-ratelimit-…` headers, as lines of a head."""
        return "" if self.reservation is None else self.meter.rates(self.reservation).lines()

    def delivered(self, completion_tokens: int) -> None:
        """Note how much of the answer has come, before it leaves."""
        if self.mark is not None:
            self.mark.delivered(completion_tokens)

    def ends(
        self,
        outcome: Outcome,
        answering: Answering,
        usage: Usage,
        *,
        status: int = 200,
        code: str = "",
        finish_reason: str = "",
        ends_s: Mapping[str, float],
    ) -> None:
        """Write the call's row. A call that nobody answered is charged nothing."""
        if self.row is not None:
            return
        checked = checked_usage(usage)
        cost = self._cost(Counted(checked.usage, checked.cache_created, usage.explicit), answering)
        used, told, cache_created = checked.usage, None, checked.cache_created
        if self.has_inner:  # what was used stands in the rows of the inner calls
            used, told, cache_created = Usage(), checked.usage, 0
            cost = Cost(currency=cost.currency, list_nanos=cost.list_nanos)
        elif self.of is not None:
            cost = msgspec.structs.replace(cost, list_nanos=0)
        start = self.start
        queue_s, first_s, end_s = ends_s.get("queue"), ends_s.get("first"), ends_s.get("end")
        row = self.row = LedgerRow(
            id=start.id,
            parent_id=start.parent_id,
            began_at=start.began_at,
            key_id=start.key_id,
            workspace_id=start.workspace_id,
            surface=start.surface,
            model=start.model,
            deployment=answering.deployment,
            served=answering.served,
            stream=start.stream,
            outcome=outcome,
            status=status,
            code=code,
            finish_reason=finish_reason,
            usage=used,
            told_prompt=None if told is None else told.prompt,
            told_completion=None if told is None else told.completion,
            cache_created=cache_created,
            estimated=usage.estimated or checked.corrected,
            queue_ms=None if queue_s is None else (queue_s - ends_s.get("plan", 0.0)) * 1000,
            first_token_ms=None if first_s is None else first_s * 1000,
            total_ms=None if end_s is None else end_s * 1000,
            price_version=start.price_version,
            currency=cost.currency,
            cost_nanos=cost.nanos,
            list_cost_nanos=cost.list_nanos,
        )
        if self.mark is not None:
            self.mark.ended(row)
        if self.of is not None:
            self.of.add_inner(row)
        if self.keeper is not None and self.conversation is not None:
            self.keeper.put(self.conversation.row(row.id, row.began_at, row.workspace_id))

    def add_inner(self, row: LedgerRow) -> None:
        """Count a call that was made for this one. Money of a second currency is left out: they cannot be added."""
        self.inner_tokens += row.usage.total
        if row.cost_nanos and self.inner_currency in (None, row.currency):
            self.inner_currency = row.currency
            self.inner_nanos += row.cost_nanos

    def settle(self) -> None:
        """Give back what was held and not used, or take what was used beyond it."""
        row = self.row
        if self.reservation is None:
            return
        if row is None:  # nobody has said how it ended, nor what came of it
            self.meter.release(self.reservation)
        else:
            used = row.usage
            tokens, nanos = used.prompt + used.completion + self.inner_tokens, row.cost_nanos + self.inner_nanos
            self.meter.settle(self.reservation, tokens, nanos, currency=self.inner_currency or row.currency)

    def _cost(self, counted: Counted, answering: Answering) -> Cost:
        used = counted.usage
        if not (used.prompt or used.completion) or answering.served is Served.UNAVAILABLE:
            return Cost()
        return self.book.cost(answering, counted)


def _with(one: Demand, other: Demand) -> Demand:
    return Demand(0, one.tokens + other.tokens, one.nanos + other.nanos)


def permit_from(key: KeyRow, peer: str) -> None:
    """Let a key be used from an address. Raises AccessDenied."""
    if key.addresses and not _is_within(peer, key.addresses):
        raise AccessDenied(say(f"This key may not call from {peer}", f"该密钥不可从 {peer} 调用"))


def _is_within(peer: str, networks: Sequence[str]) -> bool:
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return False
    return any(address in ipaddress.ip_network(network, strict=False) for network in networks)


__all__ = ["Accounting", "Bill", "Sharing", "permit_from"]
