"""What became of one call: the values that metrics, traces and the ledger are made of.

Nothing here names a caller, a prompt or an answer.
"""

import msgspec

from hanlin.types import Served, Usage


class Attempt(msgspec.Struct, frozen=True, gc=False):
    """One try of a call. `fault` is the error's word (`EngineError.fault`), "" for the one that answered.

    Times are seconds since the call came. `continued`: it went on with an answer that another attempt had begun.
    """

    deployment: str
    fault: str = ""
    began_s: float = 0.0
    ended_s: float = 0.0
    continued: bool = False


class CallRecord(msgspec.Struct, frozen=True, gc=False):
    """One call, when it is over.

    `operation` is `chat`, `text_completion` or `embeddings`. `phases_s` are the ends of its phases in their order, in
    seconds since it came (`body`, `key`, `plan`, `queue`, `first`, `end`; those that were never reached are missing).
    `status` is the HTTP status that was sent, 499 when the caller hung up; `code` the error's, "" without one.
    """

    operation: str
    request_id: str
    model: str
    deployment: str
    fingerprint: str
    served: Served
    stream: bool
    began_unix_s: float
    phases_s: dict[str, float]
    status: int
    code: str
    usage: Usage
    attempts: tuple[Attempt, ...]
    finish_reasons: tuple[str, ...]
