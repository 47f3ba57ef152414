"""The use case of a scenario model: its recipe, run over a base model that is reached as everybody reaches one.

The caller's call and those that its recipe makes are one call to whoever admits it: one place among the caller's, one
reservation that grows with the calls of the recipe, one row in the ledger with a row below it for each of them. A place
at a deployment is taken by the inner calls only, so a call never waits for itself.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

import msgspec

from hanlin.documents.values import Document, Library
from hanlin.errors import EngineError, HanlinError, InvalidRequest, RequestTimedOut, UnsupportedHere
from hanlin.media.fetching import Fetcher
from hanlin.metering.estimate import prompt_tokens
from hanlin.recipes.recipe import Desk
from hanlin.service import embedding
from hanlin.service.accounting import Accounting, Bill
from hanlin.service.attempts import Call, Router
from hanlin.service.charging import Most, most_of, most_of_text
from hanlin.service.embedding import EmbeddingCall
from hanlin.service.passage_vectors import wanted
from hanlin.service.planning import NO_THINKING, Asked, Plan
from hanlin.store.rows import KeyRow, Outcome
from hanlin.types import ChatRequest, ChatResult, EmbeddingRequest, Events, Surface, Vector, fold

_ROOM_TOKENS = 4096
"""What a deployment is taken to have room for that does not say."""

_SHOWN_ATTEMPTS = 16

_LIMIT_S = 60.0


Ends = Callable[[BaseException | None], None]

Bills = Callable[[Call[Any, Any], Surface, Most], Awaitable[Ends]]
"""Admits an inner call under its caller's reservation, and begins its bill; returns what is told how it ended, once.

Raises what `Meter.extend` raises.
"""


async def _unbilled(_call: Call[Any, Any], _surface: Surface, _most: Most) -> Ends:
    return lambda _: None


class InnerBills:
    """Bills what a recipe calls as rows below its caller's own."""

    def __init__(self, accounting: Accounting, bill: Bill, key: KeyRow, new_id: Callable[[], str]) -> None:
        self._accounting = accounting
        self._bill = bill
        self._key = key
        self._new_id = new_id

    async def __call__(self, call: Call[Any, Any], surface: Surface, most: Most) -> Ends:
        await self._bill.extend(most)
        inner = self._accounting.begin(
            self._key,
            self._new_id(),
            surface,
            call.plan.answering,
            stream=True,
            began_unix_s=time.time(),
            prompt_tokens=call.prompt_tokens,
            of=self._bill,
        )
        call.came = inner.delivered

        def ends(problem: BaseException | None) -> None:
            call.ends_s["end"] = call.router.clock() - call.began
            reasons = call.finish_reasons
            inner.ends(
                _outcome(problem),
                call.plan.answering,
                call.spent(),
                status=_status(problem),
                code=(problem.code or problem.type) if isinstance(problem, HanlinError) else "",
                finish_reason=reasons[0] if reasons else "",
                ends_s=call.ends_s,
            )

        return ends


def _outcome(problem: BaseException | None) -> Outcome:
    if problem is None:
        return Outcome.ANSWERED
    return Outcome.FAILED if isinstance(problem, Exception) else Outcome.CANCELLED


def _status(problem: BaseException | None) -> int:
    if problem is None:
        return 200
    return problem.status if isinstance(problem, HanlinError) else 500 if isinstance(problem, Exception) else 499


class ScenarioCall(Call[Plan, ChatResult]):
    """A call whose answer a recipe makes. To whoever asked it is a call like any other.

    `plan` says who answers; it follows the inner calls. `bills` admits and bills them. `vectors` makes a call for
    vectors, and raises what that raises; `fetcher` gets what URLs point at.
    """

    def __init__(
        self,
        asked: Asked,
        router: Router,
        library: Library,
        vectors: Callable[[EmbeddingRequest], EmbeddingCall],
        fetcher: Fetcher | None = None,
        *,
        began: float | None = None,
        ends_s: dict[str, float] | None = None,
        who: str = "",
    ) -> None:
        super().__init__(asked, router, began=began, ends_s=ends_s, who=who)
        self.bills: Bills = _unbilled
        self._library = library
        self._vectors = vectors
        self._fetcher = fetcher
        self._wanted = asked

    @property
    def at_once(self) -> bool:
        return False

    def tried(self) -> str:
        """Return the attempts of all inner calls until now, the first of them only where they are many."""
        over = [f"{one.deployment};fault={one.fault}" if one.fault else one.deployment for one in self.attempts]
        shown = list(dict.fromkeys([*over, *self.under_way]))
        return ", ".join(shown[:_SHOWN_ATTEMPTS]) or self.plan.deployment.name

    async def choice(self, number: Callable[[Any], Any] | None = None) -> Events:
        """Yield what the recipe says. Closing the iterator stops every inner call."""
        assert number is None, "a recipe answers once"
        said = self._wanted.says()
        self.said.append(said)
        recipe = self._wanted.recipe
        assert recipe is not None, "calls without one are made as they are"
        base = _Base(self)
        desk = Desk(self._wanted.model, base, self._library, self._fetcher)
        try:
            async with aclosing(recipe.run(self._wanted.request, desk)) as bursts:
                async for burst in bursts:
                    if burst and "first" not in self.ends_s:
                        self.ends_s["first"] = self.router.clock() - self.began
                    burst = said.noted(burst)
                    self.came(said.pieces)  # before it leaves: nobody is to have more than the journal knows of
                    yield burst
            said.check()
        finally:
            await base.close()

    async def answer(self) -> ChatResult:
        """Return the recipe's whole answer."""
        async with aclosing(self.choice()) as bursts:
            async for burst in bursts:
                self.heard += burst
        return fold(self.heard)

    def inner(self, request: ChatRequest) -> Call[Plan, ChatResult]:
        """Return a call of the base model. It plans anew: what has been learnt of deployments meanwhile counts."""
        asked = self._wanted
        thought = request.thinking if request.thinking.on else NO_THINKING
        plain = msgspec.structs.replace(
            asked, request=_plain(request), thinking=thought, recipe=None, takes=frozenset()
        )
        return Call(plain, self.router, who=self.who)

    def followed(self, inner: Call[Any, Any]) -> None:
        """Take over what an inner call has shown: who answers, and what was tried."""
        self.attempts += inner.attempts
        if "queue" not in self.ends_s and "queue" in inner.ends_s:
            self.ends_s["queue"] = inner.began + inner.ends_s["queue"] - self.began

    def answered_by(self, plan: Plan) -> None:
        """Note who answers, before the first word of it is said."""
        before = self.plan
        if plan.deployment is before.deployment:
            return
        answering = msgspec.structs.replace(plan.answering, ignored=before.answering.ignored)
        self.plan = msgspec.structs.replace(before, deployment=plan.deployment, answering=answering)
        if answering != before.answering:
            self.changed(answering)

    async def vectors(self, texts: Sequence[str], purpose: str) -> Sequence[Vector] | None:
        """Return vectors of texts, or None where nothing here makes any, or not now: recipes go on by words."""
        request = wanted(texts, "query" if purpose == "query" else "document")
        try:
            call = self._vectors(request)
        except HanlinError:  # nothing makes vectors here, or not yet
            return None
        ends = await self.bills(call, "embeddings", most_of_text(request.texts, 0, call.plan.answering))
        try:
            result = await embedding.embed(call, _LIMIT_S)
        except BaseException as problem:  # whatever ends it ends its bill, and goes on
            ends(problem)
            if isinstance(problem, EngineError | RequestTimedOut):
                return None
            raise
        ends(None)
        return result.vectors


def _plain(request: ChatRequest) -> ChatRequest:
    """Return a request of a recipe's own as it is made: nothing of the caller's scenario is part of it."""
    sampling = request.sampling
    set_here = {name for name in sampling.__struct_fields__ if getattr(sampling, name) not in (None, ())}
    return request.changed(
        n=1, sent=None, asks={}, given=frozenset(set_here), include_usage=True, logprobs=False, top_logprobs=0
    )


class _NoDocuments:
    """Stands for the library of a service that keeps no files."""

    async def open(self, ids: Sequence[str]) -> Sequence[Document]:
        if ids:
            raise InvalidRequest(f"Invalid file [id:{ids[0]}].", param="messages")
        return ()

    async def hold(self, text: str, name: str) -> Document:  # noqa: ARG002
        raise UnsupportedHere("Nothing here reads documents", param="messages")


NO_DOCUMENTS: Library = _NoDocuments()


class _Base:
    """The base model of one call, as its recipe sees it."""

    def __init__(self, call: ScenarioCall) -> None:
        self._call = call
        self._open: dict[Events, Ends] = {}

    @property
    def context_tokens(self) -> int:
        return self._call.plan.deployment.context_tokens or _ROOM_TOKENS

    @property
    def can_shape(self) -> bool:
        return self._call.plan.deployment.profile.can_shape("json_schema")

    @property
    def can_continue(self) -> bool:
        return self._call.plan.deployment.profile.can_continue

    @property
    def fingerprint(self) -> str:
        deployment = self._call.plan.deployment
        return deployment.runs or deployment.fingerprint

    async def answer(self, request: ChatRequest) -> ChatResult:
        inner = self._call.inner(request.changed(stream=False))
        ends = await self._begin(inner)
        try:
            result = await inner.answer()
        except BaseException as problem:  # whatever ends it ends its bill, and goes on
            if isinstance(problem, Exception):  # what came of a whole answer that failed is nobody's to pay
                for said in inner.said:
                    said.take_back()
            self._end(inner, ends, problem)
            raise
        self._end(inner, ends, None)
        self._call.answered_by(inner.plan)
        return result

    async def stream(self, request: ChatRequest) -> Events:
        inner = self._call.inner(request.changed(stream=True))
        ends = await self._begin(inner)
        inner.changed = lambda _: self._call.answered_by(inner.plan)
        bursts = inner.choice()
        self._open[bursts] = partial(self._end, inner, ends)
        problem: BaseException | None = None
        try:
            async for burst in bursts:
                if burst:
                    self._call.answered_by(inner.plan)
                yield burst
        except BaseException as error:
            problem = error
            raise
        finally:
            await self._over(bursts, problem)

    async def count(self, request: ChatRequest) -> int:
        inner = self._call.inner(request)
        counted = await inner.plan.deployment.engine.count(inner.plan.request)
        return counted if counted is not None else prompt_tokens(request.messages, request.tools)

    async def vectors(self, texts: Sequence[str], purpose: str) -> Sequence[Vector] | None:
        return await self._call.vectors(texts, purpose)

    async def close(self) -> None:
        """Stop what a recipe has left open, and end its bills: whoever owes the outer one's does not wait for them."""
        for bursts in list(self._open):
            await self._over(bursts, GeneratorExit())

    async def _over(self, bursts: Events, problem: BaseException | None) -> None:
        ends = self._open.pop(bursts, None)
        if ends is None:  # `close` came first
            return
        try:
            await bursts.aclose()
        finally:
            ends(problem)

    async def _begin(self, inner: Call[Plan, ChatResult]) -> Ends:
        plan = inner.plan
        most = most_of(plan.request, plan.model, plan.answering, inner.asked.route)
        return await self._call.bills(inner, "chat", most)

    def _end(self, inner: Call[Plan, ChatResult], ends: Ends, problem: BaseException | None) -> None:
        ends(problem)
        self._call.followed(inner)


__all__ = ["NO_DOCUMENTS", "Bills", "InnerBills", "ScenarioCall"]
