"""The order in which deployments are tried: who is well, who has least to do, who has read the prompt already."""

from collections import Counter
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanlin.errors import EngineBusy, EngineFailed, EngineUnavailable
from hanlin.routing.capacity import Capacity
from hanlin.routing.health import Standing
from hanlin.routing.order import Candidate, Choose, candidate, order, why_none

CHOICES: tuple[Choose, ...] = ("listed", "weighted", "least-load", "prefix")


def names(candidates: Sequence[Candidate], choose: Choose = "listed", *, prompt: int = 100, draw: float = 0.0) -> str:
    return " ".join(one.name for one in order(candidates, choose, prompt_tokens=prompt, draw=draw))


# --- who comes before whom, whatever the policy ----------------------------------------------------------------------


@pytest.mark.parametrize("choose", CHOICES)
def test_well_then_suspected_then_failing_then_another_model_then_resting(choose: Choose) -> None:
    """Every step down is a worse bet for the caller; a try at what rests is still better than a refusal."""
    candidates = [
        Candidate("resting", state="resting", available_at=9.0),
        Candidate("probing", state="probing", available_at=1.0),
        Candidate("other model", fallback=True),
        Candidate("other model resting", fallback=True, state="resting", available_at=0.0),
        Candidate("failing", ejected=True),
        Candidate("silent and failing", ejected=True, suspected=True, tier=1),
        Candidate("silent", suspected=True),
        Candidate("well", outstanding_tokens=10**6),
    ]

    found = order(candidates, choose, prompt_tokens=100, draw=0.5)

    assert [each.name for each in found] == [
        "well",
        "silent",
        "failing",
        "silent and failing",
        "other model",
        "probing",
        "resting",
        "other model resting",
    ]


@pytest.mark.parametrize("choose", CHOICES)
def test_tiers_come_in_their_order_but_sickness_counts_more(choose: Choose) -> None:
    """A second tier is there for the times when the first one cannot."""
    candidates = [
        Candidate("second", tier=1),
        Candidate("first", tier=0, outstanding_tokens=5000, waiting=9, full=True),
        Candidate("first but silent", tier=0, suspected=True),
    ]

    assert [each.name for each in order(candidates, choose, prompt_tokens=100, draw=0.0)] == [
        "first",
        "second",
        "first but silent",
    ]


@given(
    st.lists(
        st.builds(
            Candidate,
            name=st.text(max_size=2),
            tier=st.integers(0, 2),
            weight=st.sampled_from([0, 1, 3, 100]),
            outstanding_tokens=st.integers(0, 9000),
            waiting=st.integers(0, 3),
            full=st.booleans(),
            state=st.sampled_from(["well", "well", "resting", "to_probe", "probing"]),
            suspected=st.booleans(),
            ejected=st.booleans(),
            prefix_tokens=st.integers(0, 5000),
            fallback=st.booleans(),
            asked_to_wait=st.booleans(),
        ),
        max_size=8,
        unique_by=lambda each: each.name,
    ),
    st.sampled_from(CHOICES),
    st.floats(0, 1, exclude_max=True),
)
@settings(deadline=None)
def test_everybody_willing_is_in_the_order_once(candidates: list[Candidate], choose: Choose, draw: float) -> None:
    """The law of the room: nobody is lost, nobody is tried twice, and no other model comes before one of the same."""
    found = order(candidates, choose, prompt_tokens=300, draw=draw)

    assert Counter(found) == Counter(each for each in candidates if not each.asked_to_wait)
    fallback_first = [each.fallback for each in found].index(True) if any(each.fallback for each in found) else 99
    rests = ("resting", "probing")
    usable = [at for at, each in enumerate(found) if not each.fallback and each.state not in rests]
    assert all(at < fallback_first for at in usable) or found[fallback_first].state in rests


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 5000)), min_size=2, max_size=5),
    st.sampled_from(CHOICES),
    st.floats(0, 1, exclude_max=True),
)
@settings(deadline=None)
def test_what_is_known_beforehand_changes_no_order(
    loads: list[tuple[int, int, int]], choose: Choose, draw: float
) -> None:
    """Where all are of the first rate nothing is sorted out any more: it would come to the same."""
    plain = []
    for at, (tokens, running, read_tokens) in enumerate(loads):
        standing, capacity = Standing(), Capacity(2, 4)
        standing.call_begins(tokens, 9.9)
        capacity.running = running
        found = candidate(str(at), standing, capacity, 10.0, prefix_tokens=read_tokens)
        assert found.first_rate
        plain.append(found)
    unknown = [msgspec.structs.replace(one, first_rate=False) for one in plain]

    assert names(plain, choose, draw=draw) == names(unknown, choose, draw=draw)
    for other in (
        candidate("tier", Standing(), capacity, 0.0, 1),
        candidate("other", Standing(), capacity, 0.0, 0, 1, True),
    ):
        assert not other.first_rate


def test_nobody_is_asked_before_the_time_that_its_engine_named() -> None:
    """It would refuse again, and some upstreams lengthen the ban for it. With others left, they answer."""
    busy = Candidate("busy", state="resting", asked_to_wait=True)

    assert names([busy, Candidate("free")]) == "free"
    assert names([busy, Candidate("sick", state="resting")]) == "sick"
    assert names([busy]) == ""


# --- the probe -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("candidates", "choose", "expected"),
    [
        ([Candidate("p", state="to_probe"), Candidate("w")], "listed", "p w"),
        ([Candidate("w"), Candidate("p", state="to_probe")], "listed", "w p"),
        ([Candidate("w", outstanding_tokens=9), Candidate("p", state="to_probe")], "least-load", "p w"),
        ([Candidate("w"), Candidate("p", state="to_probe", outstanding_tokens=9)], "least-load", "w p"),
        ([Candidate("w", tier=0), Candidate("p", tier=1, state="to_probe")], "least-load", "w p"),
        ([Candidate("w", tier=1), Candidate("p", tier=0, state="to_probe")], "least-load", "p w"),
        ([Candidate("p", weight=0, state="to_probe"), Candidate("w")], "weighted", "w p"),
        ([Candidate("p", state="to_probe"), Candidate("s", suspected=True)], "listed", "s p"),
        ([Candidate("p", state="to_probe"), Candidate("f", fallback=True)], "listed", "p f"),
        ([Candidate("p", state="to_probe"), Candidate("r", state="resting")], "listed", "p r"),
        ([Candidate("p", state="to_probe")], "listed", "p"),
    ],
)
def test_a_call_probes_where_it_would_have_gone_anyway_and_somebody_well_takes_over(
    candidates: list[Candidate], choose: Choose, expected: str
) -> None:
    """Callers pay for probes with their patience: none pays that had not a better place to win, or nothing to lose."""
    assert names(candidates, choose) == expected


def test_a_call_probes_one_deployment_only() -> None:
    """After two failed probes it would have used up its attempts before it comes to the one that is well."""
    candidates = [Candidate("p1", state="to_probe"), Candidate("p2", state="to_probe"), Candidate("w")]

    assert names(candidates) == "p1 w p2"


# --- the policies ----------------------------------------------------------------------------------------------------


def test_listed_ones_are_tried_as_they_are_listed() -> None:
    """The operator's order, load or no load."""
    assert names([Candidate("b", outstanding_tokens=9999), Candidate("a")], draw=0.9) == "b a"


def test_weights_are_shares_of_the_first_places() -> None:
    """Evenly spread draws give exact shares: no luck is added to that of the draw."""
    candidates = [Candidate("a", weight=1), Candidate("b", weight=3), Candidate("never first", weight=0)]

    first = Counter(names(candidates, "weighted", draw=at / 400).split()[0] for at in range(400))

    assert first == {"a": 100, "b": 300}


def test_second_places_are_drawn_by_weight_too() -> None:
    """When the first choice fails, its share of the calls must not all fall on the same neighbour."""
    candidates = [Candidate("a", weight=2), Candidate("b", weight=1), Candidate("c", weight=1)]

    orders = Counter(names(candidates, "weighted", draw=(at + 0.5) / 1200) for at in range(1200))

    assert orders == {"a b c": 300, "a c b": 300, "b a c": 200, "b c a": 100, "c a b": 200, "c b a": 100}


def test_a_weight_of_zero_is_only_tried_after_the_others() -> None:
    """How a deployment is drained without being taken out."""
    candidates = [Candidate("drained", weight=0), Candidate("a"), Candidate("also drained", weight=0)]

    assert names(candidates, "weighted", draw=0.99) == "a drained also drained"


@given(
    st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=8),
    st.one_of(st.floats(0, 1, exclude_max=True), st.just(1.0 - 2**-53)),
)
@settings(deadline=None)
def test_every_draw_gives_a_whole_order(weights: list[float], draw: float) -> None:
    """One number serves all places; what rounding leaves of it must never fall off the end."""
    candidates = [Candidate(str(at), weight=weight) for at, weight in enumerate(weights)]

    assert sorted(names(candidates, "weighted", draw=draw).split()) == [each.name for each in candidates]


@pytest.mark.parametrize(
    ("candidates", "expected"),
    [
        ([Candidate("a", outstanding_tokens=9), Candidate("b", outstanding_tokens=3)], "b a"),
        ([Candidate("a", waiting=2, full=True), Candidate("b", waiting=1, full=True)], "b a"),
        ([Candidate("a", full=True), Candidate("b", outstanding_tokens=9000)], "b a"),  # there it would wait
    ],
)
def test_the_least_loaded_one_comes_first(candidates: list[Candidate], expected: str) -> None:
    """Tokens under way, not calls: a call may be ten tokens or a hundred thousand."""
    assert names(candidates, "least-load") == expected
    assert names(candidates, "prefix") == expected  # none has read anything of the prompt


def test_equals_take_turns() -> None:
    """An idle group must not send everything to the one that is listed first."""
    candidates = [Candidate("a"), Candidate("b"), Candidate("c")]

    found = [names(candidates, "least-load", draw=draw) for draw in (0.0, 0.4, 0.99)]

    assert found == ["a b c", "b c a", "c a b"]


@pytest.mark.parametrize(
    ("read", "under_way", "expected"),
    [
        (0, 0, "a knows"),
        (800, 0, "knows a"),
        (800, 799, "knows a"),  # still sooner done than reading it all anew
        (800, 801, "a knows"),
        (99_999, 1001, "a knows"),  # more than the prompt can nobody have read of it
    ],
)
def test_who_has_read_the_beginning_comes_first_unless_it_has_more_to_do_than_that_saves(
    read: int, under_way: int, expected: str
) -> None:
    """A prefix that everybody uses would send everybody to one replica (zxuhan's study of llm-router)."""
    candidates = [Candidate("a"), Candidate("knows", prefix_tokens=read, outstanding_tokens=under_way)]

    assert names(candidates, "prefix", prompt=1000) == expected


# --- never worse than least-load -------------------------------------------------------------------------------------

_GROUPS = st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 8000)), min_size=1, max_size=8)


@given(_GROUPS, st.integers(1, 8000), st.floats(0, 1, exclude_max=True))
@settings(deadline=None)
def test_a_call_is_done_no_later_by_prefix_than_by_least_load(
    group: list[tuple[int, int]], prompt: int, draw: float
) -> None:
    """For each single call, exactly: what is under way before it, and what it adds, is at most what it would be there.

    So, whatever is known, nobody is chosen that has more to do than the least loaded one and the whole prompt.
    """
    candidates = [
        Candidate(str(at), outstanding_tokens=tokens, prefix_tokens=min(read, prompt))
        for at, (tokens, read) in enumerate(group)
    ]

    def done_after(choose: Choose) -> int:
        first = order(candidates, choose, prompt_tokens=prompt, draw=draw)[0]
        return first.outstanding_tokens + prompt - first.prefix_tokens

    assert done_after("prefix") <= done_after("least-load")
    chosen = order(candidates, "prefix", prompt_tokens=prompt, draw=draw)[0]
    assert chosen.outstanding_tokens <= min(tokens for tokens, _ in group) + prompt


Call = tuple[float, int, int, int, int]
"""Arrival in seconds, tokens of the prompt, of its beginning that it shares, which beginning, tokens of the answer."""

_CALLS = st.lists(
    st.tuples(
        st.floats(0, 5000), st.integers(1, 4000), st.integers(0, 4000), st.integers(0, 6), st.integers(0, 800)
    ).map(lambda call: (call[0], call[1], min(call[2], call[1]), call[3], call[4])),
    min_size=1,
    max_size=60,
).map(sorted)


def simulated(calls: Sequence[Call], replicas: int, choose: Choose) -> tuple[float, float]:
    """Let replicas work one token a second, one call after the other; return when all is done, and the mean latency."""
    done = [0.0] * replicas
    read: list[dict[int, int]] = [{} for _ in range(replicas)]
    latencies = 0.0
    for number, (arrival, prompt, shared, beginning, answer) in enumerate(calls):
        known = [min(shared, each.get(beginning, 0)) for each in read]
        candidates = [
            Candidate(str(at), outstanding_tokens=int(max(done[at] - arrival, 0)), prefix_tokens=known[at])
            for at in range(replicas)
        ]
        draw = number * 0.6180339887 % 1
        chosen = int(order(candidates, choose, prompt_tokens=prompt, draw=draw)[0].name)
        done[chosen] = max(done[chosen], arrival) + prompt - known[chosen] + answer
        read[chosen][beginning] = max(read[chosen].get(beginning, 0), shared)
        latencies += done[chosen] - arrival
    return max(done), latencies / len(calls)


@given(_CALLS, st.integers(1, 5))
@settings(deadline=None)
def test_no_traffic_makes_prefix_break_the_bound_of_least_load(calls: list[Call], replicas: int) -> None:
    """Graham's bound of list scheduling: everything is done after the work's fair share and one more call.

    It is what least-load guarantees, counted with nothing read before; prefix keeps it for any traffic whatsoever.
    """
    work = [prompt + answer for _, prompt, _, _, answer in calls]

    end, _ = simulated(calls, replicas, "prefix")

    assert end <= calls[-1][0] + sum(work) / replicas + max(work) + len(calls)  # a token of rounding for each call


@given(_CALLS, st.integers(1, 5))
@settings(deadline=None)
def test_where_no_beginning_is_shared_prefix_is_least_load(calls: list[Call], replicas: int) -> None:
    """Nothing is paid for an advantage that is not there."""
    unshared = [(arrival, prompt, 0, beginning, answer) for arrival, prompt, _, beginning, answer in calls]

    assert simulated(unshared, replicas, "prefix") == simulated(unshared, replicas, "least-load")


@pytest.mark.parametrize("load", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("beginnings", [1, 4, 30])
def test_on_uniform_traffic_prefix_is_done_as_soon_as_least_load(load: float, beginnings: int) -> None:
    """Calls of like beginnings come evenly: the last one is done at most 1% later, the mean one at most 2%.

    A greedy choice may be unlucky for those who come later, so the whole has a factor where the single call has none.
    """
    replicas, count = 4, 400
    calls: list[Call] = []
    for number in range(count):
        spread = number * 0.7548776662 % 1
        prompt = 200 + int(3600 * spread)
        arrival = number * 2300 / replicas / load
        calls.append((arrival, prompt, prompt * 6 // 10, number * 7919 % beginnings, 300))

    end, mean = simulated(calls, replicas, "prefix")

    least_end, least_mean = simulated(calls, replicas, "least-load")
    assert end <= least_end * 1.01
    assert mean <= least_mean * 1.02


# --- when nobody is left ---------------------------------------------------------------------------------------------


def waiting(name: str, until: float, fault: str) -> Candidate:
    why = f"it asks to wait until {until:g}"
    return Candidate(name, state="resting", asked_to_wait=True, available_at=until, fault=fault, why=why)


def test_the_error_says_who_can_be_asked_soonest_and_when() -> None:
    """Rounded up: a client that comes back a moment too early is refused once more."""
    error = why_none([waiting("slow", 130.0, "busy"), waiting("quick", 107.2, "busy")], now=100.0)

    assert isinstance(error, EngineBusy)
    assert error.retry_after_s == 8
    assert "quick: it asks to wait until 107.2" in error.message


def test_not_only_limits_make_it_a_503() -> None:
    """A 429 tells a client that it asks too much; where an engine is loading, that is not true."""
    error = why_none([waiting("a", 130.0, "busy"), waiting("b", 107.2, "unavailable")], now=100.0)

    assert isinstance(error, EngineUnavailable)
    assert error.retry_after_s == 8


def test_without_any_deployment_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the operator's to mend."""
    monkeypatch.setenv("HANLIN_LANG", "en")

    assert "no deployment serves this name" in why_none([], now=0.0).message


# --- what a candidate is made of -------------------------------------------------------------------------------------


async def test_a_candidate_is_read_from_what_stands_and_what_runs() -> None:
    """One place that knows which number comes from where."""
    standing, capacity = Standing(), Capacity(1, 4)
    standing.call_begins(700, 10.0)
    for _ in range(3):
        standing.failed(EngineFailed("died"), 11.0)
    await capacity.acquire()

    found = candidate("gpu-1", standing, capacity, 18.0)

    assert found == Candidate(
        "gpu-1",
        outstanding_tokens=700,
        full=True,
        state="to_probe",
        suspected=True,
        available_at=18.0,
        fault="failed",
        why=standing.health.why,
    )
