"""A deployment's places: how many run, how many wait, who comes next, and who is refused."""

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hanlin.errors import Overloaded
from hanlin.routing.capacity import Capacity


@dataclass
class Clock:
    """A clock that stands still until a test moves it."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Caller:
    """Somebody who takes a place, notes its name in `entered`, and stays until `leave` is set."""

    capacity: Capacity
    name: str
    entered: list[str]
    who: str = ""
    leave: asyncio.Event = field(default_factory=asyncio.Event)

    async def call(self) -> None:
        async with self.capacity.place(self.who):
            self.entered.append(self.name)
            await self.leave.wait()

    def start(self) -> asyncio.Task[None]:
        return asyncio.create_task(self.call())


async def settle() -> None:
    """Let every task go on until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


async def arrive(capacity: Capacity, names: str, entered: list[str]) -> dict[str, asyncio.Task[None]]:
    """Let callers come one after the other; each name's letter is whose call it is, and each leaves at once."""
    tasks: dict[str, asyncio.Task[None]] = {}
    for name in names.split():
        caller = Caller(capacity, name, entered, who=name[0])
        caller.leave.set()
        tasks[name] = caller.start()
        await settle()
    return tasks


# --- places and the line ---------------------------------------------------------------------------------------------


async def test_calls_beyond_the_slots_wait_in_the_order_in_which_they_came() -> None:
    """First come, first served: nobody is overtaken."""
    capacity, entered = Capacity(1, 2), list[str]()
    callers = [Caller(capacity, name, entered) for name in "abc"]
    tasks = [caller.start() for caller in callers]
    await settle()
    assert (entered, capacity.running, capacity.waiting) == (["a"], 1, 2)

    for caller in callers:
        caller.leave.set()
        await settle()

    assert entered == ["a", "b", "c"]
    assert (capacity.running, capacity.waiting) == (0, 0)
    await asyncio.gather(*tasks)


async def test_a_call_beyond_the_line_is_refused_at_once() -> None:
    """An endless line is worse than an honest 503: its callers would have given up long before their turn."""
    capacity = Capacity(1, 1)
    callers = [Caller(capacity, name, []) for name in "ab"]
    tasks = [caller.start() for caller in callers]
    await settle()

    with pytest.raises(Overloaded) as refused:
        async with capacity.place():
            pass

    assert "1 calls are waiting already" in refused.value.message
    assert (refused.value.status, refused.value.retry_after_s) == (503, 5)
    for caller in callers:
        caller.leave.set()
    await asyncio.gather(*tasks)


async def test_without_a_line_a_free_place_is_still_taken() -> None:
    """`queue_limit = 0` means no waiting, not no calls."""
    capacity = Capacity(1, 0)

    async with capacity.place():
        assert capacity.running == 1

    assert capacity.running == 0


async def test_a_place_that_changes_hands_cannot_be_taken_in_between() -> None:
    """The one who waited has not run yet when the place is given: somebody who comes now must not be faster."""
    capacity, entered = Capacity(1, 2), list[str]()
    await capacity.acquire()
    task = Caller(capacity, "waited", entered).start()
    await settle()

    capacity.release()

    assert not capacity.try_acquire()
    await settle()
    assert entered == ["waited"]
    task.cancel()
    await asyncio.wait([task])


async def test_a_call_that_fails_gives_its_place_back() -> None:
    """A slot lost to every failure would stop the service in the end."""
    capacity = Capacity(1, 0)

    for _ in range(3):
        with pytest.raises(ValueError, match="failed"):
            async with capacity.place():
                raise ValueError("failed")

    assert (capacity.running, capacity.waiting) == (0, 0)


# --- leaving the line ------------------------------------------------------------------------------------------------


async def test_a_caller_that_leaves_the_line_leaves_no_trace() -> None:
    """Clients hang up while they wait; their place in the line must not stay taken."""
    capacity, entered = Capacity(1, 1), list[str]()
    first = Caller(capacity, "first", entered)
    first_task = first.start()
    await settle()
    leaver = Caller(capacity, "leaver", entered).start()
    await settle()

    leaver.cancel()
    await asyncio.wait([leaver])
    last = Caller(capacity, "last", entered)
    last_task = last.start()
    await settle()

    assert (capacity.running, capacity.waiting) == (1, 1)
    first.leave.set()
    last.leave.set()
    await asyncio.gather(first_task, last_task)
    assert entered == ["first", "last"]


async def test_a_place_given_to_a_caller_that_leaves_in_that_moment_goes_to_the_next() -> None:
    """The place and the cancellation may come in the same turn of the loop; a place lost there is lost for ever."""
    capacity, entered = Capacity(1, 2), list[str]()
    await capacity.acquire()
    leaver, patient = Caller(capacity, "leaver", entered).start(), Caller(capacity, "patient", entered).start()
    await settle()

    capacity.release()
    leaver.cancel()
    await settle()

    assert (entered, capacity.running, capacity.waiting) == (["patient"], 1, 0)
    patient.cancel()
    await asyncio.wait([patient])
    assert capacity.running == 0


async def test_a_caller_that_left_does_not_use_up_a_turn_of_its_key() -> None:
    """Keys take turns in being served, and leaving the line is not being served."""
    capacity, entered = Capacity(1, 9), list[str]()
    await capacity.acquire()
    tasks = await arrive(capacity, "a1 a2 b1 b2", entered)

    tasks["a1"].cancel()
    capacity.release()  # in the same moment: a1 still stands in its line
    await settle()

    assert entered == ["a2", "b1", "b2"]
    await asyncio.wait(tasks.values())


Step = tuple[str, int]
_STEPS = st.lists(
    st.tuples(st.sampled_from(["come", "come", "come", "finish", "cancel", "cancel", "turn"]), st.integers(0, 99)),
    max_size=60,
)


@given(slots=st.integers(1, 3), queue_limit=st.integers(0, 6), steps=_STEPS)
@settings(deadline=None, max_examples=150)
def test_whoever_comes_and_goes_no_place_is_lost_and_none_given_twice(
    slots: int, queue_limit: int, steps: list[Step]
) -> None:
    """The law of the room: places taken never exceed the slots, and all come back however their callers leave."""
    asyncio.run(_come_and_go(Capacity(slots, queue_limit), queue_limit, steps))


async def _come_and_go(capacity: Capacity, queue_limit: int, steps: list[Step]) -> None:
    callers: list[tuple[Caller, asyncio.Task[None]]] = []
    inside = 0

    class Counted(Caller):
        async def call(self) -> None:
            nonlocal inside
            async with self.capacity.place(self.who):
                inside += 1
                try:
                    assert inside <= capacity.slots
                    await self.leave.wait()
                finally:
                    inside -= 1

    for kind, number in steps:
        if kind == "come":
            newcomer = Counted(capacity, "", [], who="abc"[number % 3])
            callers.append((newcomer, newcomer.start()))
        elif kind == "turn":
            await asyncio.sleep(0)
        elif callers and kind == "finish":
            callers[number % len(callers)][0].leave.set()
        elif callers:
            callers[number % len(callers)][1].cancel()
        assert 0 <= capacity.waiting <= queue_limit
        assert 0 <= capacity.running <= capacity.slots

    await settle()
    assert capacity.waiting == 0 or capacity.running == capacity.slots == inside
    for caller, _ in callers:
        caller.leave.set()
    results = await asyncio.gather(*(task for _, task in callers), return_exceptions=True)
    assert all(result is None or isinstance(result, Overloaded | asyncio.CancelledError) for result in results)
    assert (capacity.running, capacity.waiting, inside) == (0, 0, 0)


# --- fair between keys -----------------------------------------------------------------------------------------------


async def test_keys_are_served_in_turns_and_each_in_its_order() -> None:
    """One key's burst of a hundred calls must not make another's single call the hundred and first."""
    capacity, entered = Capacity(1, 9), list[str]()
    await capacity.acquire()
    tasks = await arrive(capacity, "a1 a2 a3 a4 b1 b2 c1", entered)

    capacity.release()
    await asyncio.wait(tasks.values())

    assert entered == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]


async def test_a_full_line_makes_room_for_a_key_that_has_fewer_waiting() -> None:
    """Otherwise one key's burst fills the line, and everybody else is refused until it is worked off."""
    capacity, entered = Capacity(1, 3), list[str]()
    await capacity.acquire()
    tasks = await arrive(capacity, "a1 a2 a3 b1", entered)

    with pytest.raises(Overloaded):
        await tasks["a3"]
    assert capacity.waiting == 3

    capacity.release()
    await asyncio.wait(tasks.values())
    assert entered == ["a1", "b1", "a2"]


@pytest.mark.parametrize(
    ("queue_limit", "line", "newcomer"),
    [
        (3, "a1 a2 a3", "a4"),  # its own line is the longest
        (1, "a1", "b1"),  # the other's only one: it would be taken from one to be given to another
        (3, "a1 a2 b1", "b2"),  # they would merely change places
        (0, "", "a1"),
    ],
)
async def test_a_newcomer_is_refused_where_room_for_it_would_be_no_fairer(
    queue_limit: int, line: str, newcomer: str
) -> None:
    """Whoever waits is only refused for somebody who has less; otherwise first come, first served stays the rule."""
    capacity, entered = Capacity(1, queue_limit), list[str]()
    await capacity.acquire()
    waiting = await arrive(capacity, line, entered)

    (late,) = (await arrive(capacity, newcomer, entered)).values()

    with pytest.raises(Overloaded):
        await late
    capacity.release()
    await asyncio.gather(*waiting.values())
    assert sorted(entered) == sorted(line.split())


async def test_one_key_alone_may_fill_the_whole_line() -> None:
    """Room that nobody else asks for is not kept empty."""
    capacity, entered = Capacity(1, 4), list[str]()
    await capacity.acquire()

    tasks = await arrive(capacity, "a1 a2 a3 a4", entered)

    assert capacity.waiting == 4
    capacity.release()
    await asyncio.gather(*tasks.values())


# --- when to come back -----------------------------------------------------------------------------------------------


async def fill(capacity: Capacity, waiting: int) -> list[asyncio.Task[None]]:
    tasks = [Caller(capacity, "", []).start() for _ in range(waiting)]
    await settle()
    return tasks


async def end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@pytest.mark.parametrize(("pause_s", "asked_s"), [(3.0, 9), (0.01, 1), (45.0, 60)])
async def test_a_refused_caller_is_told_when_those_before_it_will_have_been_served(
    pause_s: float, asked_s: int
) -> None:
    """A place became free every `pause_s`, and two wait: whoever comes back earlier is refused again."""
    clock = Clock()
    capacity = Capacity(1, 2, clock)
    for _ in range(5):
        await capacity.acquire()
        clock.now += pause_s
        capacity.release()
    await capacity.acquire()
    tasks = await fill(capacity, waiting=2)

    with pytest.raises(Overloaded) as refused:
        await capacity.acquire()

    assert refused.value.retry_after_s == asked_s
    await end(tasks)


async def test_idle_time_does_not_make_the_estimate_longer() -> None:
    """An hour without calls says nothing about how long a call takes."""
    clock = Clock()
    capacity = Capacity(1, 0, clock)
    for _ in range(5):
        await capacity.acquire()
        clock.now += 2.0
        capacity.release()
        clock.now += 3600.0
    await capacity.acquire()

    assert capacity.retry_after_s() == 2


async def test_a_place_that_is_overdue_makes_the_estimate_longer() -> None:
    """Calls took a second until now; one that has taken forty already promises no free place in a second."""
    clock = Clock()
    capacity = Capacity(1, 0, clock)
    for _ in range(5):
        await capacity.acquire()
        clock.now += 1.0
        capacity.release()
    await capacity.acquire()

    clock.now += 40.0

    assert capacity.retry_after_s() == 40
