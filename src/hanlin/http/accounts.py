"""What became of a request that asks for tokens or vectors, put together when it is over, for whoever counts.

Calls that were refused count as well: a client with a wrong key is something that operators look for.
"""

from contextlib import aclosing

from hanlin.errors import HanlinError
from hanlin.service.accounting import Bill
from hanlin.service.attempts import Call
from hanlin.service.records import CallRecord
from hanlin.store.rows import Outcome
from hanlin.types import Answering, Events, Served, Surface, Usage

_LEFT = 499

NOBODY = Answering("", "", "", Served.UNAVAILABLE)


class Account:
    """One such request. Its handler fills in what it learns; `record` is asked for once, at the end."""

    __slots__ = ("answering", "bill", "call", "model", "operation", "stream", "usage")

    def __init__(self, operation: Surface) -> None:
        self.operation = operation
        self.model = ""
        self.stream = False
        self.answering = NOBODY
        self.usage = Usage()
        self.call: Call | None = None
        self.bill: Bill | None = None

    def settle(self, ends_s: dict[str, float], status: int, problem: HanlinError | None) -> None:
        """Write the bill, if there is one and it is not written. `status` 0: the caller has left without an answer."""
        bill, call = self.bill, self.call
        if bill is None or bill.ended:
            return
        usage, estimated = self.usage, False
        reasons: tuple[str, ...] = ()
        if call is not None:
            usage, reasons = call.usage, call.finish_reasons
            if usage.total == 0 and call.pieces:  # nobody has counted to the end
                usage, estimated = Usage(call.prompt_tokens, call.pieces), True
        outcome = Outcome.CANCELLED if status in (0, _LEFT) else Outcome.FAILED if problem else Outcome.ANSWERED
        bill.ends(
            outcome,
            self.answering if call is None else call.plan.answering,
            usage,
            estimated=estimated,
            status=status or _LEFT,
            code="" if problem is None else problem.code or problem.type,
            finish_reason=reasons[0] if reasons else "",
            ends_s=ends_s,
        )

    async def counting(self, events: Events) -> Events:
        """Yield events as they come, and keep the usage that they end with."""
        async with aclosing(events) as bursts:
            async for burst in bursts:
                for event in burst:
                    if event.usage is not None:
                        self.usage = event.usage
                yield burst

    @property
    def by(self) -> str:
        """What answered, for the log; "" as long as nobody has."""
        answering = self.answering if self.call is None else self.call.answering
        return f"{answering.served}; {answering.fingerprint}" if answering is not NOBODY else ""

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
        answering = self.answering if call is None else call.plan.answering
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
            usage=self.usage if call is None else call.usage,
            attempts=() if call is None else tuple(call.attempts),
            finish_reasons=() if call is None else call.finish_reasons,
        )
