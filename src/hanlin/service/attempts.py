"""Run one call on the deployments that may answer it: which is tried first, and what a failure leads to.

`routing` decides; the waiting is here. Until the first word has left, another deployment can take over unseen. After it
a plain text is continued where the next deployment can do that; everything else ends with one error.
"""

import asyncio
import math
import random
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import reduce
from types import TracebackType
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from hanlin.engines.wire import Watch
from hanlin.errors import EngineError, HanlinError, UnsupportedHere
from hanlin.routing.budget import RetryBudget
from hanlin.routing.health import Health, Standing
from hanlin.routing.order import Candidate, candidate, order, why_none
from hanlin.routing.outcome import Continue, Failover, Fallback, GiveUp, Policy, Retry, Tried, after_failure
from hanlin.routing.outliers import ejected
from hanlin.routing.prefix import Fingerprints, PrefixIndex, fingerprints
from hanlin.service.continuing import Said
from hanlin.service.deployments import Answers, Route, Target
from hanlin.service.records import Attempt
from hanlin.types import Answering, Burst, ChatResult, EmbeddingResult, Event, Events, Usage

_BEFORE_GOING_ON_S = 0.3  # an engine that died is not known to be dead at once
_RETRIES_A_SECOND = 1.0  # where calls are few, their share would be none
_AWAY = ("resting", "probing")
_TOKENS_PER_S = 20.0  # what an engine is taken to generate for one caller before it has shown how fast it is

A = TypeVar("A", bound=ChatResult | EmbeddingResult)


class Planned(Protocol):
    """What a call becomes on one deployment: the request in full, and what answers it there.

    `whole` returns what waits for the answer in one piece, or None where it comes as the events of `stream`. Each
    attempt gets the request anew. `stream` is None where there is no such thing.
    """

    @property
    def request(self) -> Any: ...
    @property
    def deployment(self) -> Answers: ...
    @property
    def answering(self) -> Answering: ...
    @property
    def stream(self) -> Callable[[Any], Events] | None: ...
    @property
    def whole(self) -> Callable[[Any], Coroutine[Any, Any, Any] | None]: ...


P = TypeVar("P", bound=Planned)
P_co = TypeVar("P_co", bound=Planned, covariant=True)
A_co = TypeVar("A_co", bound=ChatResult | EmbeddingResult, covariant=True)


class Wanted(Protocol[P_co, A_co]):
    """A call that the contract allows, of any surface, and what is particular to its surface."""

    @property
    def route(self) -> Route[Any]: ...
    def weight(self) -> tuple[int, int]:
        """Return about how many tokens its prompt has, and how many its answer is taken for."""

    def pieces(self) -> Iterable[str]:
        """Return the prompt in the order in which an engine reads it; nothing where no engine keeps what it read."""

    def planned(self, target: Target[Any], /) -> P_co:
        """Return what it becomes on a deployment. Raises UnsupportedHere for what that cannot do."""

    def says(self) -> Said:
        """Return what keeps book of one choice of its answer."""

    def continues(self, deployment: Any, /) -> bool:
        """Whether a deployment can go on with an answer that another one began."""

    def continued(self, request: Any, text: str, tokens: int, /) -> Any:
        """Return the request that goes on behind what was said, in about so many tokens."""

    def put_together(self, events: Sequence[Event], /) -> A_co:
        """Return the whole answer that events come to."""


def shared_prompt(total: Usage, choice: Usage) -> Usage:
    """Add one choice's usage to the total: the prompt and what of it was cached count once."""
    first = total if total.prompt else choice
    return msgspec.structs.replace(
        first,
        completion=total.completion + choice.completion,
        reasoning=total.reasoning + choice.reasoning,
        estimated=total.estimated or choice.estimated,
    )


def nothing(_value: object) -> None:
    pass


class Router:
    """What the calls so far have taught about deployments. One a service; time and chance are arguments."""

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
        *,
        retry_share: float = 0.1,
    ) -> None:
        self.clock = clock
        self.draw = draw
        self.policy = Policy()
        self.watch = Watch()
        self.budget = RetryBudget(retry_share, least_per_s=_RETRIES_A_SECOND if retry_share else 0.0)
        self.prefixes = PrefixIndex()

    def candidates(self, asked: Wanted[Any, Any], prompt_tokens: int, prompt: Fingerprints) -> list[Candidate]:
        """Return what speaks for and against each deployment that may answer."""
        now = self.clock()
        targets = asked.route.targets
        if len(targets) == 1:  # nothing to choose, so only what the outcome of a failure hangs on
            deployment = targets[0].deployment
            return [candidate(deployment.name, deployment.standing, deployment.capacity, now)]
        seen = self.prefixes.seen(prompt) if prompt else {}
        characters = sum(map(len, asked.pieces())) if seen else 0
        outliers: set[str] | None = None
        found = []
        for target in targets:
            deployment = target.deployment
            name, standing = deployment.name, deployment.standing
            known = min(seen[name] * prompt_tokens // max(characters, 1), prompt_tokens) if name in seen else 0
            about = (name, standing, deployment.capacity, now, target.tier, target.weight, target.fallback, known)
            why = deployment.engine.why_not_ready()
            if why is None and not standing.health.bad:  # nearly always
                found.append(candidate(*about))
                continue
            more: dict[str, Any] = {}
            if standing.health.bad:
                outliers = self._outliers(targets, now) if outliers is None else outliers
                if name in outliers:
                    more["ejected"] = True
            if why is not None:
                # One that Hanlin starts itself, and that is not there yet, rests: others go first.
                more["state"], more["why"] = "resting", why
            found.append(candidate(*about, **more))
        return found

    def _outliers(self, targets: Sequence[Target[Any]], now: float) -> set[str]:
        groups: dict[bool, dict[str, Health]] = {}
        for target in targets:
            groups.setdefault(target.fallback, {})[target.deployment.name] = target.deployment.standing.health
        return {name for group in groups.values() for name in ejected(group, now)}


class Call(Generic[P, A]):
    """One call from its plan to its end. `plan` and `answering` are those of whoever answers now.

    `changed` is called when somebody else begins to answer, before its first word; `came` for every burst with how many
    pieces have come until then, of all choices. `attempts` are the finished ones.
    `under_way` are the deployments of those that are not. `heard` is what has come of an answer that is wanted as a
    whole.
    Raises what planning raises when no deployment can do what is asked, EngineUnavailable or EngineBusy when all of
    them rest.
    """

    def __init__(
        self,
        asked: Wanted[P, A],
        router: Router,
        *,
        began: float | None = None,
        ends_s: dict[str, float] | None = None,
        who: str = "",
    ) -> None:
        """`ends_s` takes the ends of its phases, in seconds since it `began`."""
        self.asked = asked
        self.attempts: list[Attempt] = []
        self.said: list[Said] = []
        self.heard: list[Event] = []
        self.changed: Callable[[Answering], None] = nothing
        self.came: Callable[[int], None] = nothing
        self.router = router
        self.who = who
        self.began = router.clock() if began is None else began
        self.ends_s = {} if ends_s is None else ends_s
        self.under_way: list[str] = []
        self._prompt: Fingerprints = ()
        self._targets = asked.route.by_name
        self.prompt_tokens, answer_tokens = asked.weight()
        self.tokens = self.prompt_tokens + answer_tokens
        if len(self._targets) > 1 and asked.route.choose == "prefix":
            self._prompt = fingerprints(asked.pieces())
        router.budget.deposit(router.clock())
        self._ahead = self._ordered()
        self.plan = self._first()

    @property
    def answering(self) -> Answering:
        return self.plan.answering

    @property
    def usage(self) -> Usage:
        """What its choices used, as far as they have come to their ends."""
        if len(self.said) == 1:
            return self.said[0].usage or Usage()
        return reduce(shared_prompt, (said.usage for said in self.said if said.usage is not None), Usage())

    def spent(self) -> Usage:
        """Return what its choices have used until now, guessed for those that nobody has counted to their ends.

        Attempts that were given up for another one count for nothing: what they said was never said.
        """
        if len(self.said) == 1:
            said = self.said[0]
            return said.usage or said.used(self.prompt_tokens) or Usage()
        found = [said.usage or said.used(self.prompt_tokens) for said in self.said]
        return reduce(shared_prompt, filter(None, found), Usage())

    @property
    def pieces(self) -> int:
        """How much has come of its choices until now, about a token each."""
        return sum([said.pieces for said in self.said])

    @property
    def finish_reasons(self) -> tuple[str, ...]:
        if len(self.said) == 1:
            reason = self.said[0].finish_reason
            return () if reason is None else (reason,)
        return tuple([said.finish_reason for said in self.said if said.finish_reason is not None])

    @property
    def at_once(self) -> bool:
        """Whether the first attempt has answered, as nearly always."""
        attempts = self.attempts
        return len(attempts) == 1 and not self.under_way and not attempts[0].fault

    def tried(self) -> str:
        """Return the attempts for people and programs, in their order: `gpu-1;fault=stalled, gpu-2`."""
        over = [f"{one.deployment};fault={one.fault}" if one.fault else one.deployment for one in self.attempts]
        return ", ".join([*over, *self.under_way])

    def with_continuing(self, one: Candidate) -> Candidate:
        """Return a candidate that knows whether it can go on with an answer, which only a failure asks for."""
        return msgspec.structs.replace(one, continues=self.asked.continues(self._targets[one.name].deployment))

    def candidates(self) -> list[Candidate]:
        """Return what speaks for and against each deployment now."""
        return self.router.candidates(self.asked, self.prompt_tokens, self._prompt)

    def _ordered(self) -> list[Candidate]:
        route = self.asked.route
        found = self.candidates()
        ordered = order(found, route.choose, prompt_tokens=self.prompt_tokens, draw=self.router.draw())
        if not ordered:
            raise why_none(found, self.router.clock())
        return ordered

    def _first(self) -> P:
        """Plan for the first deployment that can do what is asked; those before it are left out."""
        problem: UnsupportedHere | None = None
        while self._ahead:
            try:
                return self.planned(self._ahead[0])
            except UnsupportedHere as why:
                problem = problem or why
                self._ahead.pop(0)
        assert problem is not None  # nobody was left out without one
        raise problem

    def fits(self, one: Candidate) -> bool:
        """Whether a candidate can do what is asked."""
        try:
            self.planned(one)
        except UnsupportedHere:
            return False
        return True

    def planned(self, one: Candidate) -> P:
        """Return what the call becomes on a candidate. Raises UnsupportedHere, also for a prompt that is too long."""
        target = self._targets[one.name]
        room = target.deployment.context_tokens
        if one.fallback and 0 < room < self.prompt_tokens:
            raise UnsupportedHere(f"{target.deployment.title} has no room for the prompt", param="messages")
        return self.asked.planned(target)

    def has_place(self, plan: P) -> None:
        """Note that an attempt waits no longer: its engine reads the prompt from here on."""
        if "queue" not in self.ends_s:
            self.ends_s["queue"] = self.router.clock() - self.began
        if self._prompt:
            self.router.prefixes.note(self._prompt, plan.deployment.name)

    def has_tried(self, plan: P, fault: str, began: float, ended: float, *, continued: bool) -> None:
        """Note an attempt that is over."""
        name = plan.deployment.name
        self.under_way.remove(name)
        self.attempts.append(Attempt(name, fault, began - self.began, ended - self.began, continued))

    def takes_over(self, plan: P) -> None:
        """Note who answers from here on."""
        if "first" not in self.ends_s:
            self.ends_s["first"] = self.router.clock() - self.began
        if plan is not self.plan:
            before, self.plan = self.plan, plan
            if plan.answering != before.answering:  # choices that went the same way have plans of their own
                self.changed(plan.answering)

    async def choice(self, number: Callable[[Any], Any] | None = None) -> Events:
        """Yield one choice's events, from as many attempts as it takes. `number` makes a request this choice's own;
        None where it is the only one.

        Closing the iterator stops the engine that answers. Raises EngineError when nobody could answer.
        """
        run = _Choice(self, self._ahead, number)
        said = run.said
        while True:
            try:
                with run.attempt() as attempt:
                    plan = run.plan
                    async with plan.deployment.capacity.place(self.who):
                        self.has_place(plan)
                        assert plan.stream is not None, "nobody asks for vectors as a stream"
                        bursts = plan.stream(run.request)
                        try:
                            async for burst in bursts:
                                yield attempt.noted(burst)
                        finally:
                            await bursts.aclose()
                    said.check()
                return
            except EngineError as error:
                decision = run.after(error)
            if said.anything and not isinstance(decision, Continue):
                yield [said.take_back()]
            await run.go_on(decision)

    async def answer(self) -> A:
        """Return the answer of a call with one choice, from as many attempts as it takes. Raises as `choice`.

        An answer that breaks off is made anew: nobody has seen anything of it.
        """
        run = _Choice(self, self._ahead)
        while True:
            try:
                with run.attempt() as attempt:
                    plan, request = run.plan, run.request
                    capacity = plan.deployment.capacity
                    if not capacity.try_acquire():
                        await capacity.acquire(self.who)
                    try:
                        self.has_place(plan)
                        whole = plan.whole(request)
                        if whole is not None:
                            attempt.asks()
                            return attempt.answered(await whole)
                        assert plan.stream is not None, "it comes in one way or the other"
                        return await self._put_together(plan.stream(request), attempt, run.said)
                    finally:
                        capacity.release()
            except EngineError as error:
                decision = run.after(error)
            run.said.take_back()
            self.heard.clear()
            await run.go_on(decision)

    async def _put_together(self, bursts: Events, attempt: "_Attempt[P, A]", said: Said) -> A:
        try:
            async for burst in bursts:
                self.heard += attempt.noted(burst)
        finally:
            await bursts.aclose()
        said.check()
        return self.asked.put_together(self.heard)


class _Attempt(msgspec.Struct, Generic[P, A], eq=False):
    """One try: counted as load while it lasts, and with a verdict on its deployment at its end. Made for every call,
    hence a Struct.
    """

    _call: Call[P, A]
    _plan: P
    _said: Said
    _standing: Standing
    _began: float = 0.0
    _probing: bool = False
    _asked_at: float | None = None

    def __enter__(self) -> "_Attempt[P, A]":
        call, standing = self._call, self._standing
        began = self._began = call.router.clock()
        call.under_way.append(self._plan.deployment.name)
        self._probing = standing.health.rests_until is not None and standing.probe_begins(began)
        standing.call_begins(call.tokens, began)
        return self

    def noted(self, burst: Burst) -> Burst:
        """Take note of what came, if only as a sign of life, and return what the caller is to see of it."""
        standing, now = self._standing, self._call.router.clock()
        standing.sign_of_life(now)
        if not burst:
            return burst
        if self._probing:
            self._probing = False
            standing.succeeded(now)
        call, said = self._call, self._said
        call.takes_over(self._plan)
        burst = said.noted(burst)
        call.came(said.pieces if len(call.said) == 1 else call.pieces)
        return burst

    def asks(self) -> None:
        """Note that an answer is asked for as a whole: nothing will be heard of it before its end."""
        self._asked_at = self._call.router.clock()

    def answered(self, result: A) -> A:
        """Take note of an answer that came as a whole, and return it. The verdict is that of the end."""
        self._call.takes_over(self._plan)
        said = self._said
        said.usage = result.usage
        if isinstance(result, ChatResult):
            if self._asked_at is not None:
                self._standing.generated(result.usage.completion, self._call.router.clock() - self._asked_at)
            said.finish_reason = result.choices[0].finish_reason
            if said.finish_reason is None:
                said.check()
        return result

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        call, standing = self._call, self._standing
        now = call.router.clock()
        standing.call_ends(call.tokens)
        if error is None:
            fault = ""
            standing.succeeded(now)
        elif isinstance(error, HanlinError):
            fault = error.fault if isinstance(error, EngineError) else "declined"
            standing.failed(error, now)
        elif isinstance(error, Exception):
            fault = "failed"  # our own, or nobody's: no verdict on the deployment
        else:
            fault = "left"  # the caller hung up
            if self._asked_at is not None:
                self._said.unseen = self._unseen(now - self._asked_at)
        if self._probing:
            standing.probe_left()
        call.has_tried(self._plan, fault, self._began, now, continued=bool(self._said.before))

    def _unseen(self, took_s: float) -> int:
        """Return about how many tokens were generated in a time, of an answer that nobody will ever see."""
        sampling = self._plan.request.sampling
        tokens = int(took_s * (self._standing.tokens_per_s or _TOKENS_PER_S))
        return max(min(tokens, sampling.max_tokens or sampling.max_completion_tokens or tokens), 1)


class _Choice(Generic[P, A]):
    """One choice's attempts: where it is, what it has said, and who is left.

    `plan` and `request` are those of the attempt that is under way, or comes next. It begins with the first of those
    ahead, wherever another choice has gone by now.
    """

    def __init__(
        self, call: Call[P, A], ahead: Sequence[Candidate], number: Callable[[Any], Any] | None = None
    ) -> None:
        self.said = call.asked.says()
        call.said.append(self.said)
        self._call = call
        self._number = number
        self._on = ahead[0]
        self._ahead = list(ahead[1:])
        self._attempts = 0
        self._attempts_here = 0
        self.plan = call.plan if call.plan.deployment.name == self._on.name else call.planned(self._on)
        if self._ahead and self.plan.deployment.standing.health.rests_until is not None:
            self._look_again()
        self.request = self.plan.request if number is None else number(self.plan.request)

    def _look_again(self) -> None:
        """Leave the first to others where somebody well is ahead: it has begun to rest, or to be probed, since."""
        standing = self.plan.deployment.standing
        if self._on.state not in _AWAY and standing.state(self._call.router.clock()) in _AWAY:
            for other in self._ahead:
                if other.is_well and not other.fallback and self._call.fits(other):
                    self._turn_to(other)
                    return

    def attempt(self) -> _Attempt[P, A]:
        self._attempts += 1
        self._attempts_here += 1
        return _Attempt(self._call, self.plan, self.said, self.plan.deployment.standing)

    def after(self, error: EngineError) -> Retry | Failover | Fallback | Continue:
        """Decide what a failed attempt leads to, by what is known now of those that are left. Raises what ends it."""
        call, said = self._call, self.said
        router, now = call.router, call.router.clock()
        fresh = {one.name: call.with_continuing(one) for one in call.candidates()}
        self._ahead = [one for one in self._ahead if call.fits(one)]
        ahead = [fresh[one.name] for one in self._ahead if not fresh[one.name].asked_to_wait]
        tried = Tried(
            on=call.with_continuing(self._on),
            attempts_here=self._attempts_here,
            attempts=self._attempts,
            events_sent=said.sent,
            can_continue=said.can_continue,
            elapsed_s=now - call.began,
        )
        decision = after_failure(
            error, tried, ahead, router.policy, budget_left=router.budget.left(now), draw=router.draw()
        )
        if decision.takes_budget:
            router.budget.take(now)
        if isinstance(decision, GiveUp):
            if error.retry_after_s is not None:
                waits_s = [math.ceil(one.available_at - now) for one in fresh.values() if one.asked_to_wait]
                error.retry_after_s = min(error.retry_after_s, *waits_s) if waits_s else error.retry_after_s
            raise decision.error
        return decision

    async def go_on(self, decision: Retry | Failover | Fallback | Continue) -> None:
        """Wait as long as a decision says, and turn to whom it names."""
        if isinstance(decision, Retry):
            await asyncio.sleep(decision.wait_s)
            return
        if decision.to.name == self.plan.deployment.name:
            await asyncio.sleep(_BEFORE_GOING_ON_S)
        self._turn_to(decision.to)
        self.request = self.plan.request if self._number is None else self._number(self.plan.request)
        if isinstance(decision, Continue):
            self.request = self._call.asked.continued(self.request, *self.said.taken_up())

    def _turn_to(self, other: Candidate) -> None:
        """Go to another deployment, or stay where an answer is to be continued."""
        if other.name == self._on.name:
            return
        self._on = other
        self._attempts_here = 0
        self._ahead = [one for one in self._ahead if one.name != other.name]
        self.plan = self._call.planned(other)
