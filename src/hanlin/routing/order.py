"""Put the deployments that could serve a call in the order to try them.

Pure: health, load and luck are arguments. Engines, HTTP and storage are unknown here.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Literal

import msgspec

from hanlin.errors import EngineBusy, EngineError, EngineUnavailable
from hanlin.routing.capacity import Capacity
from hanlin.routing.health import STALL_S, Standing, State, asked_to_wait, available_at
from hanlin.words import say

Choose = Literal["listed", "weighted", "least-load", "prefix"]


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """A deployment as one call sees it. Made for every call, hence a Struct.

    Lower tiers come first. `outstanding_tokens` and `waiting` are its load; where it is `full`, the call would wait.
    `prefix_tokens` of this prompt's beginning it has read already (estimated like `prompt_tokens`). `fallback`
    is another model. `asked_to_wait`: its engine said when to come back; `available_at` is that time, or the end of its
    cooldown; `fault` and `why` are its latest failure's. `continues`: its engine can go on with an answer that another
    one began. `first_rate`: it is known already that it is well, of the first tier, and no fallback.
    """

    name: str
    tier: int = 0
    weight: float = 1
    outstanding_tokens: int = 0
    waiting: int = 0
    full: bool = False
    state: State = "well"
    suspected: bool = False
    ejected: bool = False
    prefix_tokens: int = 0
    fallback: bool = False
    asked_to_wait: bool = False
    available_at: float = 0.0
    fault: str = ""
    why: str = ""
    continues: bool = False
    first_rate: bool = False

    @property
    def is_well(self) -> bool:
        """Nothing speaks against it."""
        return self.state == "well" and not self.suspected and not self.ejected


def candidate(
    name: str,
    standing: Standing,
    capacity: Capacity,
    now: float,
    tier: int = 0,
    weight: float = 1,
    fallback: bool = False,
    prefix_tokens: int = 0,
    **more: Any,
) -> Candidate:
    """Read what stands and runs of a deployment into a candidate; `more` is what a call and a route add to it."""
    health = standing.health
    is_silent = standing.open_calls and now - standing.last_sign >= STALL_S
    if not (more or is_silent or health.rests_until is not None or now < health.waits_until):
        # Nearly always: nothing speaks against it.
        return Candidate(
            name,
            tier,
            weight,
            standing.outstanding_tokens,
            capacity.waiting,
            capacity.running >= capacity.slots,
            prefix_tokens=prefix_tokens,
            fallback=fallback,
            available_at=now,
            fault=health.fault,
            why=health.why,
            first_rate=not (tier or fallback),
        )
    known: dict[str, Any] = {
        "outstanding_tokens": standing.outstanding_tokens,
        "waiting": capacity.waiting,
        "full": capacity.running >= capacity.slots,
        "state": standing.state(now),
        "suspected": standing.suspected(now),
        "asked_to_wait": asked_to_wait(health, now),
        "available_at": available_at(health, now),
        "fault": health.fault,
        "why": health.why,
    }
    return Candidate(name, tier, weight, fallback=fallback, prefix_tokens=prefix_tokens, **(known | more))


def order(candidates: Sequence[Candidate], choose: Choose, *, prompt_tokens: int, draw: float) -> list[Candidate]:
    """Return the candidates in the order to try them; `draw` is uniform in [0, 1), and all that is left to chance.

    Well ones come first, by tier, in a tier by `choose`; then suspected ones, then those that fail too often, then
    those to be probed; after them fallbacks in the same way; at last those that rest, because a try is better than a
    refusal. Those whose engine asked to wait are left out; `why_none` has the error when nobody remains.

    One to be probed is placed as if it were well, and if that makes it the first, it is: the call probes it, and a well
    one is there to take over. Otherwise it waits behind. So no call pays for a probe that could not win it a place.
    """
    if len(candidates) == 1:
        return [] if candidates[0].asked_to_wait else [candidates[0]]
    policy = _POLICIES[choose]
    if all(map(_FIRST_RATE, candidates)):  # nearly always: nothing to sort out
        return policy(candidates, prompt_tokens, draw)
    own: list[Candidate] = []
    fallbacks: list[Candidate] = []
    resting: list[Candidate] = []
    for candidate in candidates:
        if not candidate.asked_to_wait:
            rests = candidate.state in ("resting", "probing")
            (resting if rests else fallbacks if candidate.fallback else own).append(candidate)
    resting.sort(key=lambda candidate: (candidate.fallback, candidate.available_at))

    def arrange(members: Sequence[Candidate]) -> list[Candidate]:
        return policy(members, prompt_tokens, draw)

    return [*_usable(own, arrange), *_usable(fallbacks, arrange), *resting]


def why_none(candidates: Sequence[Candidate], now: float) -> EngineError:
    """Return the error for a call that `order` has nobody for, with the soonest time at which one could be asked."""
    if not candidates:
        return EngineUnavailable(say("no deployment serves this name", "没有部署提供该名称"))
    soonest = min(candidates, key=lambda candidate: candidate.available_at)
    retry_after_s = max(math.ceil(soonest.available_at - now), 1)
    why = f"{soonest.name}: {soonest.why}"
    if all(candidate.fault == "busy" for candidate in candidates):
        return EngineBusy(why, retry_after_s)
    return EngineUnavailable(why, retry_after_s)


_FIRST_RATE = attrgetter("first_rate")
_LOAD = attrgetter("full", "outstanding_tokens", "waiting")

_Policy = Callable[[Sequence[Candidate], int, float], list[Candidate]]
_Arrange = Callable[[Sequence[Candidate]], list[Candidate]]


def _usable(group: Sequence[Candidate], arrange: _Arrange) -> list[Candidate]:
    """Order what does not rest: the probe if it has earned the first place, well, suspected, ejected, to be probed."""
    well: list[Candidate] = []
    suspected: list[Candidate] = []
    ejected: list[Candidate] = []
    to_probe: list[Candidate] = []
    for candidate in group:
        if candidate.state == "to_probe":
            to_probe.append(candidate)
        elif candidate.state == "well":
            (ejected if candidate.ejected else suspected if candidate.suspected else well).append(candidate)
    probe: list[Candidate] = []
    if to_probe and well:
        as_if_well = [candidate for candidate in group if candidate.is_well or candidate.state == "to_probe"]
        probe = [candidate for candidate in _by_tier(as_if_well, arrange)[:1] if not candidate.is_well]
        to_probe = [candidate for candidate in to_probe if candidate not in probe]
    kinds = (probe, well, suspected, ejected, to_probe)
    return [candidate for kind in kinds for candidate in _by_tier(kind, arrange)]


def _by_tier(members: list[Candidate], arrange: _Arrange) -> list[Candidate]:
    if len(members) < 2:
        return members
    tiers = sorted({member.tier for member in members})
    return [chosen for tier in tiers for chosen in arrange([member for member in members if member.tier == tier])]


def _listed(members: Sequence[Candidate], _prompt_tokens: int, _draw: float) -> list[Candidate]:
    return list(members)


def _weighted(members: Sequence[Candidate], _prompt_tokens: int, draw: float) -> list[Candidate]:
    """Draw without replacement. One number is enough: what is left of it after a choice is uniform again.

    The first choice is that part of [0, 1) in which `draw` lies, so draws that are evenly spread give even shares.
    """
    left = [member for member in members if member.weight > 0]
    drawn: list[Candidate] = []
    while left:
        at = draw * sum(member.weight for member in left)
        chosen = left[-1]
        for member in left:
            if at < member.weight:
                chosen = member
                break
            at -= member.weight
        draw = min(max(at / chosen.weight, 0.0), math.nextafter(1.0, 0.0))  # rounding must not lead out of [0, 1)
        left.remove(chosen)
        drawn.append(chosen)
    return drawn + [member for member in members if member.weight <= 0]


def _least_load(members: Sequence[Candidate], _prompt_tokens: int, draw: float) -> list[Candidate]:
    """Order by what is under way, one with a free place before one where the call would wait."""
    turned = _turned(members, draw)
    turned.sort(key=_LOAD)
    return turned


def _prefix(members: Sequence[Candidate], prompt_tokens: int, draw: float) -> list[Candidate]:
    """Order by what would have to be done until this prompt is read: what is under way, and what is new of the prompt.

    A known beginning never saves more than the whole prompt: one that has more to do than the least loaded one and the
    whole prompt together stands behind it, so that a popular beginning cannot overload the one that knows it.
    """

    def load(member: Candidate) -> tuple[bool, int, int]:
        new_tokens = max(prompt_tokens - max(member.prefix_tokens, 0), 0)
        return member.full, member.outstanding_tokens + new_tokens, member.waiting

    turned = _turned(members, draw)
    turned.sort(key=load)
    return turned


def _turned(members: Sequence[Candidate], draw: float) -> list[Candidate]:
    """Return them beginning with another one each time: what is sorted after that goes round among equals."""
    start = int(draw * len(members))
    return [*members[start:], *members[:start]]


_POLICIES: Mapping[Choose, _Policy] = {
    "listed": _listed,
    "weighted": _weighted,
    "least-load": _least_load,
    "prefix": _prefix,
}
