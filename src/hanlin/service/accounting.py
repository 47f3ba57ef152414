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

import msgspec

from hanlin.catalogue.models import Catalogue, Model
from hanlin.errors import AccessDenied, HanlinError, ModelAccessDenied
from hanlin.metering.estimate import Estimate, estimate, texts_tokens
from hanlin.metering.journal import Journal, Mark
from hanlin.metering.journal_calls import Start
from hanlin.metering.ledger import LedgerState, LedgerWriter
from hanlin.metering.limits import Subject
from hanlin.metering.memory import MemoryStore
from hanlin.metering.prices import Cost, Counted, PriceList, checked_usage
from hanlin.metering.reserving import NOTHING, Meter, Reservation
from hanlin.store.database import Store
from hanlin.store.rows import UNLIMITED, KeyRow, LedgerRow, Limits, Outcome
from hanlin.types import Answering, ChatRequest, Served, Usage
from hanlin.words import say

log = logging.getLogger("hanlin.service")

_LOOK_S = 1.0  # how soon a changed workspace counts
_KNOWN_KEYS = 1024
_MILLION = 1_000_000
_LAST_ROWS_S = 5.0
_HELD_ANSWER_TOKENS = 2048
"""What is held of a limit of tokens for an answer whose caller sets no limit: nearly all are shorter, and what is more
is taken when it is known."""


class _Million(msgspec.Struct, frozen=True, gc=False):
    """What a million tokens cost, in nanos."""

    currency: str
    prompt_nanos: int
    list_prompt_nanos: int
    answer_nanos: int
    list_answer_nanos: int


class Accounting:
    """Admits calls and keeps their bills. Without a journal nothing is kept: for services that only tests run."""

    def __init__(self, store: Store, catalogue: Catalogue, journal: Journal | None = None) -> None:
        self._store = store
        self._journal = journal
        self._writer = None if journal is None else LedgerWriter(journal, store.ledger)
        self._workspaces: Mapping[str, Limits] = {}
        self._subjects: dict[str, tuple[KeyRow, Limits, tuple[Subject, ...]]] = {}
        self._millions: dict[tuple[str, str, Served], _Million] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.prices = PriceList.of(catalogue)
        self.meter = Meter(MemoryStore(), self._spent)

    async def start(self) -> None:
        """Read what is kept, take over what an earlier process left, and go on in the background."""
        await self._store.prices.keep(self.prices.version, self.prices.text)
        await self._look()
        self._tasks.append(asyncio.create_task(self._keep_looking()))
        if self._writer is not None:
            await self._catch_up(self._writer)
            self._tasks.append(asyncio.create_task(self._writer.run()))

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
        await self.meter.close()
        if self._writer is not None and self._journal is not None:
            await self._writer.close(_LAST_ROWS_S)
            self._journal.close()

    @property
    def keeps_rows(self) -> bool:
        """Whether calls leave rows; where none do, one that holds nothing needs no bill."""
        return self._journal is not None

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

    async def reserve(self, subjects: Sequence[Subject], most: "Most") -> Reservation:
        """Hold what a call may use of the limits of its `subjects`. Raises QuotaExceeded and LimitsUnavailable.

        Whoever has a reservation owes it a bill.
        """
        tokens, cost = most(self.prices)
        return await self.meter.reserve(subjects, tokens, cost.nanos, currency=cost.currency)

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
    ) -> "Bill":
        """Begin a call's bill. `prompt_tokens` are an estimate, in case that the service dies under the call."""
        known = self._millions.get((answering.model, answering.deployment, answering.served))
        million = known or self._of_a_million(answering)
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
            price_version=self.prices.version,
            currency=million.currency,
            cost_nanos=prompt_tokens * million.prompt_nanos // _MILLION,
            list_cost_nanos=prompt_tokens * million.list_prompt_nanos // _MILLION,
        )
        mark = None
        if self._journal is not None:
            held = NOTHING if reservation is None else reservation.held
            mark = self._journal.began(
                Start(
                    row=row,
                    reserved_tokens=held.tokens,
                    reserved_nanos=held.nanos,
                    answer_nanos=million.answer_nanos,
                    list_answer_nanos=million.list_answer_nanos,
                )
            )
        return Bill(self, row, reservation, mark)

    def _of_a_million(self, answering: Answering) -> "_Million":
        """Return what a million tokens cost where a prompt is short, for calls whose counts nobody will know."""
        name, deployment, served = answering.model, answering.deployment, answering.served
        prompt, answer = (
            self.prices.cost(name, Counted(usage), deployment=deployment, served=served)
            for usage in (Usage(1000), Usage(0, 1000))
        )
        if len(self._millions) >= _KNOWN_KEYS:
            self._millions.clear()
        million = self._millions[name, deployment, served] = _Million(
            prompt.currency,
            1000 * prompt.nanos,
            1000 * prompt.list_nanos,
            1000 * answer.nanos,
            1000 * answer.list_nanos,
        )
        return million

    def subjects(self, key: KeyRow) -> tuple[Subject, ...]:
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

    async def _spent(self, subject: Subject, since: datetime | None) -> int:
        budget = subject.limits.budget
        assert budget is not None
        if subject.kind == "key":
            return await self._store.ledger.spent(key_id=subject.id, currency=budget.currency, since=since)
        return await self._store.ledger.spent(workspace_id=subject.id, currency=budget.currency, since=since)

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            with contextlib.suppress(HanlinError):  # the store has logged it; what was known last goes on to count
                await self._look()

    async def _look(self) -> None:
        limits = {workspace.id: workspace.limits for workspace in await self._store.workspaces.all()}
        if limits != self._workspaces:
            self._workspaces = limits


Most = Callable[[PriceList], tuple[int, Cost]]
"""Says how many tokens a call is taken for, and what it could cost at most."""


def most_of(request: ChatRequest, model: Model, answering: Answering) -> Most:
    """Return what says the most of a chat call."""

    def most(prices: PriceList) -> tuple[int, Cost]:
        likely: Estimate = estimate(request, model, cap_tokens=_HELD_ANSWER_TOKENS)
        counted = Counted(likely.most(thinks=request.thinking.on))
        return likely.tokens, prices.cost(
            answering.model, counted, deployment=answering.deployment, served=answering.served
        )

    return most


def most_of_text(texts: Sequence[str], output_tokens: int, answering: Answering) -> Most:
    """Return what says the most of a call whose prompt is text."""

    def most(prices: PriceList) -> tuple[int, Cost]:
        usage = Usage(texts_tokens(texts), output_tokens)
        cost = prices.cost(answering.model, Counted(usage), deployment=answering.deployment, served=answering.served)
        return usage.total, cost

    return most


class Bill(msgspec.Struct, eq=False):
    """What one call used and cost. `ends` may be said twice, and counts once; whoever has a bill with a reservation
    owes a `settle`. Made for every call, hence a Struct.
    """

    accounting: Accounting
    row: LedgerRow
    reservation: Reservation | None
    mark: Mark | None
    ended: bool = False

    def headers(self) -> Mapping[str, str]:
        """Return what is left of the limits that the call counts for, as `x-ratelimit-…` headers."""
        return {} if self.reservation is None else self.accounting.meter.rates(self.reservation).headers()

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
        estimated: bool = False,
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
        cost = self._cost(checked.usage, answering)
        began = self.row
        queue_s, first_s, end_s = ends_s.get("queue"), ends_s.get("first"), ends_s.get("end")
        row = self.row = LedgerRow(
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
            estimated=estimated or checked.corrected,
            queue_ms=None if queue_s is None else (queue_s - ends_s.get("plan", 0.0)) * 1000,
            first_token_ms=None if first_s is None else first_s * 1000,
            total_ms=None if end_s is None else end_s * 1000,
            price_version=began.price_version,
            currency=cost.currency,
            cost_nanos=cost.nanos,
            list_cost_nanos=cost.list_nanos,
        )
        if self.mark is not None:
            self.mark.ended(row)

    async def settle(self) -> None:
        """Give back what was held and not used, or take what was used beyond it."""
        if self.reservation is not None:
            row = self.row
            await self.accounting.meter.settle(self.reservation, row.usage.total, row.cost_nanos)

    def _cost(self, usage: Usage, answering: Answering) -> Cost:
        if not (usage.prompt or usage.completion) or answering.served is Served.UNAVAILABLE:
            return Cost()
        return self.accounting.prices.cost(
            answering.model, Counted(usage), deployment=answering.deployment, served=answering.served
        )


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


__all__ = ["Accounting", "Bill", "most_of", "most_of_text", "permit_from"]
