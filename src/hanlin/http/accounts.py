"""What became of a request that asks for tokens or vectors, put together when it is over, for whoever counts.

Calls that were refused count as well: a client with a wrong key is something that operators look for.
"""

from hanlin.errors import HanlinError
from hanlin.service.attempts import Call
from hanlin.service.records import CallRecord
from hanlin.types import Answering, Served, Usage

NOBODY = Answering("", "", "", Served.UNAVAILABLE)


class Account:
    """One such request. Its handler fills in what it learns; `record` is asked for once, at the end."""

    __slots__ = ("answering", "call", "model", "operation", "stream", "usage")

    def __init__(self, operation: str) -> None:
        self.operation = operation
        self.model = ""
        self.stream = False
        self.answering = NOBODY
        self.usage = Usage()
        self.call: Call | None = None

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
