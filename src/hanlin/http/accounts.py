"""What became of a request that asks for tokens or vectors, put together when it is over, for whoever counts.

Calls that were refused count as well: a client with a wrong key is something that operators look for.
"""

from typing import Any

import msgspec

from hanlin.errors import HanlinError
from hanlin.service.accounting import Bill
from hanlin.service.attempts import Call
from hanlin.service.records import CallRecord
from hanlin.store.rows import Outcome
from hanlin.types import Answering, Served, Surface, Usage

_LEFT = 499

NOBODY = Answering("", "", "", Served.UNAVAILABLE)
_NOTHING = Usage()


class Account(msgspec.Struct, eq=False):
    """One such request. Its handler fills in what it learns; `record` is asked for once, at the end.

    `usage` is what the caller was told, as far as that is not the call's own count. Made for every call, hence a
    Struct.
    """

    operation: Surface
    model: str = ""
    stream: bool = False
    usage: Usage = _NOTHING
    finish_reasons: tuple[str, ...] = ()
    call: Call[Any, Any] | None = None
    bill: Bill | None = None

    def settle(self, ends_s: dict[str, float], status: int, problem: HanlinError | None) -> None:
        """Write the bill, if there is one and it is not written. `status` 0: the caller has left without an answer."""
        bill, call = self.bill, self.call
        if bill is None or bill.row is not None or call is None:
            return
        reasons = self.finish_reasons = call.finish_reasons
        outcome = Outcome.CANCELLED if status in (0, _LEFT) else Outcome.FAILED if problem else Outcome.ANSWERED
        # Whoever waited for a whole answer and got an error in its place has got nothing.
        got_nothing = outcome is Outcome.FAILED and not self.stream
        told = self.usage
        usage = self.usage = Usage() if got_nothing else told if told.prompt or told.completion else call.spent()
        bill.ends(
            outcome,
            call.plan.answering,
            usage,
            status=status or _LEFT,
            code="" if problem is None else problem.code or problem.type,
            finish_reason=reasons[0] if reasons else "",
            ends_s=ends_s,
        )

    @property
    def by(self) -> str:
        """What answered, for the log; "" as long as nobody has."""
        if self.call is None:
            return ""
        answering = self.call.answering
        return f"{answering.served}; {answering.fingerprint}"

    def record(
        self,
        *,
        request_id: str,
        began_unix_s: float,
        phases_s: dict[str, float],
        status: int,
        problem: HanlinError | None,
    ) -> CallRecord:
        call = self.call
        answering = NOBODY if call is None else call.plan.answering
        if call is not None and (self.bill is None or self.bill.row is None):
            self.usage, self.finish_reasons = call.usage, call.finish_reasons
        return CallRecord(
            operation=self.operation,
            request_id=request_id,
            model=self.model,
            deployment=answering.deployment,
            fingerprint=answering.fingerprint,
            served=answering.served,
            stream=self.stream,
            began_unix_s=began_unix_s,
            phases_s=phases_s,
            status=status,
            code="" if problem is None else problem.code or problem.type,
            usage=self.usage,
            attempts=() if call is None else tuple(call.attempts),
            finish_reasons=self.finish_reasons,
        )
