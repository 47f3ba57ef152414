"""What a call may use and what it cost: permission and reservation before it, settlement and a ledger row at its end.

One `Bill` a call, whatever its surface. Its row is in the journal before the last byte of the answer leaves; the
database has it within seconds (`metering.ledger`).
"""

import asyncio
import contextlib
import ipaddress
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from hanlin.catalogue.models import Catalogue
from hanlin.errors import AccessDenied, HanlinError, ModelAccessDenied
from hanlin.metering.journal import Journal, Mark
from hanlin.metering.journal_calls import Start
from hanlin.metering.ledger import LedgerState, LedgerWriter
from hanlin.metering.limits import Subject
from hanlin.metering.memory import MemoryStore
from hanlin.metering.prices import Cost, Counted, PriceList, checked_usage
from hanlin.metering.reserving import Meter, Reservation
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
_MILLION = 1_000_000
_LAST_ROWS_S = 5.0


class Accounting:
    """Admits calls and keeps their bills. Without a journal nothing is kept: for services that only tests run."""

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        journal: Journal | None = None,
        *,
        is_embedded: Callable[[str], bool] = lambda _: False,
    ) -> None:
        """`is_embedded` says whether a deployment is one of the weights that Hanlin runs itself."""
        self._store = store
        self._journal = journal
        self._writer = None if journal is None else LedgerWriter(journal, store.ledger)
        self._keeper = None if journal is None else Keeper(store.contents)
        self._keeping: frozenset[str] = frozenset()  # workspaces
        self._workspaces: Mapping[str, Limits] = {}
        self._model_limits: tuple[ModelLimits, ...] = ()
        self._models: dict[str, Subject] = {}
        self._catalogue = catalogue
        self._subjects: dict[str, tuple[KeyRow, Limits, tuple[Subject, ...]]] = {}
        self._unkept: dict[str, PriceList] = {}
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._is_embedded = is_embedded
        self._book = Book(PriceList.of(catalogue), is_embedded)
        self.meter = Meter(MemoryStore(), self._spent)

    async def start(self) -> None:
        """Read what is kept, take over what an earlier process left, and go on in the background."""
        await self._store.prices.keep(self._book.version, self._book.prices.text)
        await self._look()
        self._tasks.append(asyncio.create_task(self._keep_looking()))
        if self._writer is not None:
            await self._catch_up(self._writer)
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
        if key.addresses and not _is_within(peer(), key.addresses):
            raise AccessDenied(say(f"This key may not call from {peer()}", f"该密钥不可从 {peer()} 调用"))

    async def admit(
        self,
        key: KeyRow,
        id: str,
        surface: str,
        answering: Answering,
        *,
        stream: bool,
        began_unix_s: float,
        prompt_tokens: int,
        most: Most,
    ) -> "Bill":
        """Hold what a call may use, and begin its bill. Raises QuotaExceeded and LimitsUnavailable.

        `most` says what that is, and is only asked where something is limited. `prompt_tokens` are an estimate, for the
        bill of a call that the service dies under.
        """
        book = self._book
        subjects = self._subjects_of(key)
        if self._model_limits and (model := self._model(answering.model)).is_limited:
            subjects = (*subjects, model)
        reservation = None
        tokens = nanos = 0
        if subjects:
            tokens, cost = most(book)
            nanos = cost.nanos
            reservation = await self.meter.reserve(subjects, tokens, nanos, currency=cost.currency)
        million = book.million(answering)
        row = LedgerRow(
            id=id,
            began_at=datetime.fromtimestamp(began_unix_s, UTC),
            key_id=key.id,
            workspace_id=key.workspace_id,
            surface=surface,
            model=answering.model,
            deployment=answering.deployment,
            served=answering.served,
            stream=stream,
            usage=Usage(prompt_tokens),
            estimated=True,
            price_version=book.version,
            currency=million.currency,
            cost_nanos=prompt_tokens * million.prompt_nanos // _MILLION,
            list_cost_nanos=prompt_tokens * million.list_prompt_nanos // _MILLION,
        )
        mark = None
        if self._journal is not None:
            mark = self._journal.began(
                Start(
                    row=row,
                    reserved_tokens=tokens,
                    reserved_nanos=nanos,
                    answer_nanos=million.answer_nanos,
                    list_answer_nanos=million.list_answer_nanos,
                )
            )
        keeps = self._keeping and key.workspace_id in self._keeping
        return Bill(self.meter, book, row, reservation, mark, self._keeper if keeps else None)

    def _subjects_of(self, key: KeyRow) -> tuple[Subject, ...]:
        """Return whoever's limits a key's calls count for, none where nobody has any."""
        workspace = self._workspaces.get(key.workspace_id, UNLIMITED)
        known = self._subjects.get(key.id)
        if known is not None and known[0].limits == key.limits and known[1] is workspace:
            return known[2]
        if key.limits == UNLIMITED and workspace == UNLIMITED:
            return ()
        several = (
            Subject("key", key.counted_as, key.limits, key.name),  # a rotation begins nothing anew
            Subject("workspace", key.workspace_id, workspace),
        )
        limited = tuple(subject for subject in several if subject.is_limited)
        if len(self._subjects) >= _KNOWN_KEYS:
            self._subjects.clear()
        self._subjects[key.id] = key, workspace, limited
        return limited

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
        budget = subject.limits.budget
        assert budget is not None
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

    async def _keep_prices(self) -> None:
        for version, prices in list(self._unkept.items()):
            await self._store.prices.keep(version, prices.text)
            self._unkept.pop(version, None)

    async def _look(self) -> None:
        workspaces = await self._store.workspaces.all()
        if self._keeper is not None:  # what is kept stands beside rows, and goes with them
            self._keeping = frozenset(workspace.id for workspace in workspaces if workspace.keeps_content)
        limits = {workspace.id: workspace.limits for workspace in workspaces}
        if limits != self._workspaces:
            self._workspaces = limits
        models = await self._store.limits.all()
        if models != self._model_limits:
            self._model_limits, self._models = models, {}


class Bill:
    """What one call used and cost. `ends` may be said twice, and counts once; whoever has a bill owes a `settle`.

    `conversation` takes what is said, of a workspace that keeps it; None for all others.
    """

    __slots__ = ("_book", "_keeper", "_mark", "_meter", "_reservation", "_row", "conversation", "ended")

    def __init__(
        self,
        meter: Meter,
        book: Book,
        row: LedgerRow,
        reservation: Reservation | None,
        mark: Mark | None,
        keeper: Keeper | None = None,
    ) -> None:
        self._meter = meter
        self._book = book
        self._row = row
        self._reservation = reservation
        self._mark = mark
        self._keeper = keeper
        self.conversation = None if keeper is None else Conversation()
        self.ended = False

    def headers(self) -> Mapping[str, str]:
        """Return what is left of the limits that the call counts for, as `x-ratelimit-…` headers."""
        return {} if self._reservation is None else self._meter.rates(self._reservation).headers()

    @property
    def prompt_tokens(self) -> int:
        """What the prompt was taken for when the call was admitted."""
        return self._row.usage.prompt

    def delivered(self, completion_tokens: int) -> None:
        """Note how much of the answer has come, before it leaves."""
        if self._mark is not None:
            self._mark.delivered(completion_tokens)

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
        if self.ended:
            return
        self.ended = True
        checked = checked_usage(usage)
        cost = self._cost(Counted(checked.usage, checked.cache_created, usage.explicit), answering)
        began = self._row
        queue_s, first_s, end_s = ends_s.get("queue"), ends_s.get("first"), ends_s.get("end")
        row = self._row = LedgerRow(
            id=began.id,
            began_at=began.began_at,
            key_id=began.key_id,
            workspace_id=began.workspace_id,
            surface=began.surface,
            model=began.model,
            deployment=answering.deployment,
            served=answering.served,
            stream=began.stream,
            outcome=outcome,
            status=status,
            code=code,
            finish_reason=finish_reason,
            usage=checked.usage,
            cache_created=checked.cache_created,
            estimated=usage.estimated or checked.corrected,
            queue_ms=None if queue_s is None else (queue_s - ends_s.get("plan", 0.0)) * 1000,
            first_token_ms=None if first_s is None else first_s * 1000,
            total_ms=None if end_s is None else end_s * 1000,
            price_version=began.price_version,
            currency=cost.currency,
            cost_nanos=cost.nanos,
            list_cost_nanos=cost.list_nanos,
        )
        if self._mark is not None:
            self._mark.ended(row)
        if self._keeper is not None and self.conversation is not None:
            self._keeper.put(self.conversation.row(row.id, row.began_at, row.workspace_id))

    async def settle(self) -> None:
        """Give back what was held and not used, or take what was used beyond it."""
        if self._reservation is not None:
            row = self._row
            await self._meter.settle(self._reservation, row.usage.total, row.cost_nanos, currency=row.currency)

    def _cost(self, counted: Counted, answering: Answering) -> Cost:
        if not counted.usage.total or answering.served is Served.UNAVAILABLE:
            return Cost()
        return self._book.cost(answering, counted)


def _is_within(peer: str, networks: Sequence[str]) -> bool:
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return False
    return any(address in ipaddress.ip_network(network, strict=False) for network in networks)


__all__ = ["Accounting", "Bill"]
