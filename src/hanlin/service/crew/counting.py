"""What the calls of all workers hold of limits, as the main process counts it, and what becomes of it when one dies.

A dead worker's places and tokens come back at once. The money that its calls held stays held until their rows are read
from its journal, and is then replaced by what they cost: nobody can spend meanwhile what was spent already.
"""

import time
from collections.abc import Callable

from hanlin.metering.limits import Admitted, Demand, Refused, Subject, Verdict
from hanlin.metering.memory import MemoryStore
from hanlin.metering.reserving import Reservation
from hanlin.service.crew.messages import Allowed, Begin, Charge, Denied, Settle, Take, Untold, Who
from hanlin.store.rows import LedgerRow

_ROWLESS_S = 10.0
"""A dead worker's call that has no row by then was never begun, once everything is read that dead workers left."""

_KNOWN_SUBJECTS = 1024


class Counter:
    """Decides for workers in this process's memory. A worker that is started anew is another one.

    `found` is told of every row that a dead process left; `tidy` is to be called now and then.
    """

    def __init__(self, store: MemoryStore | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self.store = store or MemoryStore()
        self._clock = clock
        self._held: dict[int, dict[int, Reservation]] = {}
        self._orphans: dict[str, tuple[Reservation, float]] = {}
        self._calls: set[str] = set()
        self._rows: dict[str, LedgerRow] = {}
        self._subjects: dict[tuple[str, str], Subject] = {}

    @property
    def held(self) -> int:
        """How many calls hold something, those of dead workers left out."""
        return sum(map(len, self._held.values()))

    @property
    def orphans(self) -> int:
        """How many calls of dead workers still hold money."""
        return len(self._orphans)

    def take(self, worker: int, asked: Take) -> Allowed | Denied | Untold:
        """Decide about a demand of a worker's call."""
        held = self._held.setdefault(worker, {})
        reservation = held.get(asked.reservation)
        if reservation is None:
            reservation = Reservation(list(map(self._subject, asked.subjects)), asked.spans, asked.call)
        verdict = self.store.take(reservation, asked.demand)
        if isinstance(verdict, Admitted):
            reservation.holds(verdict, asked.demand)
            held[asked.reservation] = reservation
            if asked.call:
                self._calls.add(asked.call)
        return _answer(asked.number, verdict)

    def settle(self, worker: int, said: Settle) -> None:
        """Replace what a worker's call holds by what it used; nothing, where it holds nothing."""
        reservation = self._held.get(worker, {}).pop(said.reservation, None)
        if reservation is not None:
            self._calls.discard(reservation.call)
            self.store.settle(reservation, Demand(reservation.held.calls, said.used.tokens, said.used.nanos))

    def begin(self, said: Begin) -> None:
        self.store.begin(self._subject(said.subject), said.span, said.nanos)

    def charge(self, said: Charge) -> None:
        self.store.charge(said.id, self._subject(said.subject), said.span, said.nanos)

    def lost(self, worker: int) -> None:
        """Take back what a dead worker's calls held: all but the money, which their rows will tell."""
        for reservation in self._held.pop(worker, {}).values():
            held = reservation.held
            reservation.held = Demand(held.calls, held.tokens, 0)
            self.store.settle(reservation, Demand(held.calls))
            reservation.held = Demand(0, 0, held.nanos)
            if reservation.call and held.nanos:
                self._orphans[reservation.call] = reservation, self._clock()
            else:
                self._calls.discard(reservation.call)
                self.store.settle(reservation, reservation.held)

    def found(self, row: LedgerRow) -> None:
        """Note the row of a dead worker's call, if that holds something still."""
        if row.id in self._calls:
            self._rows[row.id] = row

    def tidy(self, *, all_read: bool) -> None:
        """Settle dead workers' calls whose rows were found; let go of others once everything of theirs is read."""
        for call in [call for call in self._orphans if call in self._rows]:
            row = self._rows[call]
            if row.told_prompt is not None:  # what it cost stands in the rows of the calls that were made for it
                if all_read:
                    self._looked_up(call)
                continue
            self._ends(call, Demand(0, row.usage.total, _nanos(row, self._orphans[call][0])))
        if all_read and self._orphans:
            old = self._clock() - _ROWLESS_S
            for call in [call for call, (_, since) in self._orphans.items() if since <= old]:
                self._ends(call, Demand(0))

    def _looked_up(self, call: str) -> None:
        """Let go of what a recipe's call holds, and have its budgets looked up: some of its rows were never found here,
        because the database had them before.
        """
        reservation, _ = self._orphans[call]
        self._ends(call, Demand(0))
        for subject, span in zip(reservation.subjects, reservation.spans, strict=True):
            if subject.limits.budget is not None:
                self.store.on_forgotten(subject, span)

    def _ends(self, call: str, used: Demand) -> None:
        reservation, _ = self._orphans.pop(call)
        self._calls.discard(call)
        self._rows.pop(call, None)
        self.store.settle(reservation, used)

    def _subject(self, who: Who) -> Subject:
        """Return a subject; the same one for many calls."""
        known = self._subjects.get((who.kind, who.id))
        if known is None or known.limits != who.limits:
            if len(self._subjects) >= _KNOWN_SUBJECTS:
                self._subjects.clear()
            known = self._subjects[who.kind, who.id] = Subject(who.kind, who.id, who.limits)
        return known


def _nanos(row: LedgerRow, reservation: Reservation) -> int:
    """Return what a call cost of the budgets that it counts for: nothing, where it was paid in another currency."""
    budgets = [one.limits.budget for one in reservation.subjects if one.limits.budget is not None]
    return row.cost_nanos if all(budget.currency == row.currency for budget in budgets) else 0


def _answer(number: int, verdict: Verdict) -> Allowed | Denied | Untold:
    if isinstance(verdict, Admitted):
        return Allowed(number, list(verdict.states), verdict.now)
    if isinstance(verdict, Refused):
        states = list(verdict.states)
        return Denied(number, verdict.which, verdict.index, verdict.wait_s, states, verdict.now)
    return Untold(number, verdict.indices)
