"""Say a text that a recipe has put together as the answer of a call: its limits kept, its tokens counted."""

from hanlin.catalogue.models import Model
from hanlin.errors import ContextLengthExceeded
from hanlin.recipes.recipe import Base
from hanlin.types import ChatRequest, Event, Events, Message, Usage


async def prompt_within(base: Base, request: ChatRequest, model: Model) -> int:
    """Return the prompt tokens of the caller's own request. Raises ContextLengthExceeded beyond the model's limit."""
    prompt_tokens = await base.count(request)
    limit = model.input_limit_tokens()
    if limit is not None and prompt_tokens > limit:
        raise ContextLengthExceeded(request.model, prompt_tokens, limit)
    return prompt_tokens


async def said(text: str, request: ChatRequest, base: Base, prompt_tokens: int) -> Events:
    """Yield the events of an answer that is this text, or what the caller's stop texts and limits leave of it."""
    text = before_stops(text, request.sampling.stop)
    tokens = await tokens_of(text, request, base)
    limit = answer_limit(request)
    reason = "stop"
    if limit is not None and tokens > limit:
        text, reason = await _beginning(text, limit, request, base), "length"
        tokens = limit
    if text:
        yield [Event(text=text)]
    yield [Event(finish_reason=reason)]
    yield [Event(usage=Usage(prompt_tokens, tokens))]


def answer_limit(request: ChatRequest) -> int | None:
    """Return how many tokens the caller allows an answer that has no reasoning."""
    sampling = request.sampling
    limits = (sampling.max_tokens, sampling.max_completion_tokens)
    return min((limit for limit in limits if limit is not None), default=None)


def before_stops(text: str, stops: tuple[str, ...]) -> str:
    """Return what stands before the first stop text."""
    return text[: min((at for stop in stops if stop and (at := text.find(stop)) >= 0), default=len(text))]


async def tokens_of(text: str, request: ChatRequest, base: Base) -> int:
    """Return how many tokens a text is to the base."""
    if not text:
        return 0
    counted = [
        await base.count(request.changed(messages=(Message("user", content),), tools=(), shape=None, partial=False))
        for content in (text, "")
    ]
    return max(counted[0] - counted[1], 1)


async def _beginning(text: str, limit: int, request: ChatRequest, base: Base) -> str:
    """Return the longest beginning of a text that is no more than so many tokens."""
    short, long = 0, len(text)
    while short < long:
        middle = (short + long + 1) // 2
        if await tokens_of(text[:middle], request, base) <= limit:
            short = middle
        else:
            long = middle - 1
    return text[:short]


__all__ = ["answer_limit", "before_stops", "prompt_within", "said", "tokens_of"]
