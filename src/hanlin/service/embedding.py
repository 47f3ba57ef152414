"""The use case of a call for vectors: run it where it may be answered, within its time."""

from hanlin.errors import RequestTimedOut
from hanlin.service.attempts import Call
from hanlin.service.embedding_planning import EmbeddingPlan
from hanlin.service.patience import Within
from hanlin.types import EmbeddingResult

EmbeddingCall = Call[EmbeddingPlan, EmbeddingResult]


async def embed(call: EmbeddingCall, limit_s: float) -> EmbeddingResult:
    """Return a call's vectors. Raises RequestTimedOut when it takes longer than `limit_s`."""
    try:
        with Within(call.router.watch, limit_s):
            return await call.answer()
    except TimeoutError:
        raise RequestTimedOut(limit_s) from None
