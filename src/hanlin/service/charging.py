"""What calls are charged by from a moment on: a price list, what a million tokens cost by it, the most of a call."""

from collections.abc import Callable, Sequence

import msgspec

from hanlin.catalogue.models import Model
from hanlin.metering.estimate import Estimate, estimate, texts_tokens
from hanlin.metering.prices import Charges, Cost, Counted, PriceList
from hanlin.service.deployments import EMBEDDED, Deployment, Route, Target
from hanlin.types import Answering, ChatRequest, Served, Usage

_KNOWN = 1024
_HELD_ANSWER_TOKENS = 2048
"""What is held of a limit of tokens for an answer whose caller sets no limit: nearly all are shorter, and what is more
is taken when it is known."""


class Million(msgspec.Struct, frozen=True, gc=False):
    """What a million tokens cost, in nanos."""

    currency: str
    prompt_nanos: int
    list_prompt_nanos: int
    answer_nanos: int
    list_answer_nanos: int


class Book:
    """A price list in force, and what is remembered of it. Prices change by another book in its place, never within.

    `is_embedded` says whether a deployment runs the weights that Hanlin runs itself, which share one tariff.
    """

    __slots__ = ("_charges", "_is_embedded", "_millions", "_shares", "prices", "version")

    def __init__(self, prices: PriceList, is_embedded: Callable[[str], bool]) -> None:
        self.prices = prices
        self.version = prices.version
        self._shares = EMBEDDED in prices.own
        self._is_embedded = is_embedded
        self._charges: dict[tuple[str, str, Served], Charges] = {}
        self._millions: dict[tuple[str, str, Served], Million] = {}

    def cost(self, answering: Answering, counted: Counted) -> Cost:
        """Return what a call costs that was answered like this."""
        deployment, served = answering.deployment, answering.served
        if self._shares and self._is_embedded(deployment):
            deployment = EMBEDDED
        of = (answering.model, deployment, served)
        charges = self._charges.get(of)
        if charges is None:
            if len(self._charges) >= _KNOWN:
                self._charges.clear()
            charges = self.prices.charges(answering.model, deployment=deployment, served=served)
            self._charges[of] = charges
        return charges.cost(counted)

    def million(self, answering: Answering) -> Million:
        """Return what a million tokens cost where a prompt is short, for calls whose counts nobody will know."""
        of = (answering.model, answering.deployment, answering.served)
        known = self._millions.get(of)
        if known is None:
            prompt, answer = (self.cost(answering, Counted(usage)) for usage in (Usage(1000), Usage(0, 1000)))
            known = Million(
                prompt.currency,
                1000 * prompt.nanos,
                1000 * prompt.list_nanos,
                1000 * answer.nanos,
                1000 * answer.list_nanos,
            )
            if len(self._millions) >= _KNOWN:
                self._millions.clear()
            self._millions[of] = known
        return known


Most = Callable[[Book], tuple[int, Cost]]
"""Says how many tokens a call is taken for, and what it could cost at most."""


def most_of(request: ChatRequest, model: Model, answering: Answering, route: Route[Deployment]) -> Most:
    """Return what says the most of a chat call.

    It may cost something here and more at a deployment that takes it over: money is held for the dearest. A call that
    costs nothing where it begins holds nothing, so that it is never refused for money.
    """

    def most(book: Book) -> tuple[int, Cost]:
        likely: Estimate = estimate(request, model, cap_tokens=_HELD_ANSWER_TOKENS)
        longest = likely.output_limit
        # What it can come to at most: nothing of it cached and, if it thinks, all of it at the price of thinking.
        counted = Counted(Usage(likely.prompt, longest, 0, longest if request.thinking.on else 0))
        cost = book.cost(answering, counted)
        if cost.nanos and book.prices.own and len(route.targets) > 1:  # by the list, all cost the same or nothing
            others = [book.cost(_elsewhere(answering, target), counted) for target in route.targets]
            cost = max(cost, *(one for one in others if one.currency == cost.currency), key=lambda one: one.nanos)
        return likely.prompt + likely.output, cost

    return most


def _elsewhere(answering: Answering, target: Target[Deployment]) -> Answering:
    return msgspec.structs.replace(answering, deployment=target.deployment.name, served=target.served)


def most_of_text(texts: Sequence[str], output_tokens: int, answering: Answering) -> Most:
    """Return what says the most of a call whose prompt is text."""

    def most(book: Book) -> tuple[int, Cost]:
        usage = Usage(texts_tokens(texts), output_tokens)
        return usage.total, book.cost(answering, Counted(usage))

    return most


__all__ = ["Book", "Million", "Most", "most_of", "most_of_text"]
