"""The use case of a call for vectors: find a place, run the engine, hand on vectors as long as promised."""

import asyncio

import msgspec

from hanlin.engines.vectors import fitted
from hanlin.errors import RequestTimedOut, UnsupportedHere
from hanlin.service.embedding_planning import EmbeddingPlan
from hanlin.types import EmbeddingResult


async def embed(plan: EmbeddingPlan, limit_s: float) -> EmbeddingResult:
    """Return a plan's vectors. Raises RequestTimedOut when it takes longer than `limit_s`."""
    deployment = plan.deployment
    try:
        async with asyncio.timeout(limit_s), deployment.capacity.place():
            result = await deployment.engine.embed(plan.request, plan.limit_tokens)
    except TimeoutError:
        raise RequestTimedOut(limit_s) from None
    return _as_promised(result, plan)


def _as_promised(result: EmbeddingResult, plan: EmbeddingPlan) -> EmbeddingResult:
    """Return vectors of the length that the caller was promised: an index built for it takes no other."""
    found = len(result.vectors[0])
    if found == plan.dimensions:
        return result
    if not plan.deployment.fits:
        raise UnsupportedHere(
            f"What answers for {plan.request.model} here makes vectors of {found} numbers, not of {plan.dimensions}: "
            f"{plan.deployment.title}. Ask for dimensions={found} if {plan.request.model} has it, or set "
            "fit_vectors = true in its [[deployment]], which pads or shortens them",
            param="dimensions",
        )
    return msgspec.structs.replace(result, vectors=tuple(fitted(vector, plan.dimensions) for vector in result.vectors))
