"""kill -9 of the service under traffic: every call that ended is billed what the engine made of it, once; every call
that was cut leaves one row between what its caller got and what the engine made."""

import asyncio
import json
import os
import random
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from hanlin.home import Home, server_secret
from hanlin.keys import hash_key, new_key
from hanlin.store.database import open_store
from hanlin.store.rows import LedgerRow, Outcome, Total
from hanlin.testing import FakeEngine, wait_until
from hanlin.testing.records import Record
from hanlin.types import Usage
from tests.service import Service, toml_of
from tests.traffic import DEADLINE_S, RULES, Caller, Seen

KILLS = int(os.environ.get("TEST_SERVICE_KILLS", "4"))
CALLERS = 8


class Made:
    """What the engine made for each call by its own count, whatever its answers said of it."""

    def __init__(self) -> None:
        self._records: dict[str, list[Record]] = defaultdict(list)

    def collect(self, engine: FakeEngine) -> None:
        """Take what is over from the engine, once all of it is: the service is dead."""
        for record in engine.wait_for(lambda requests: all(one.state != "running" for one in requests), DEADLINE_S):
            tags = set(re.findall(r"<caller-\d+\.\d+>", json.dumps(record.body)))
            assert tags or record.body["max_tokens"] == 1, record  # Hanlin itself asks for a token, to see who is well
            for tag in tags:
                self._records[tag].append(record)
        engine.forget_requests()

    def of(self, seen: Seen) -> list[Record]:
        return self._records[seen.tag]

    def whole(self, seen: Seen) -> Usage:
        """Return what the answer that came through was made of. What a stream has said is kept when it breaks off."""
        done = [one for one in self.of(seen) if one.state == "done"]
        said = self.of(seen) if seen.kind.stream else done
        return Usage(max(one.prompt_tokens for one in done), sum(one.tokens_made for one in said))

    def at_most(self, seen: Seen) -> int:
        return sum(one.tokens_made for one in self.of(seen))


def keys_for(service: Service, count: int) -> dict[str, str]:
    """Make keys as `hanlin keys create` does; return their ids by their texts."""

    async def make() -> dict[str, str]:
        secret = server_secret(Home(service.home))
        async with await open_store(Home(service.home).database) as store:
            texts = [new_key() for _ in range(count)]
            return {text: (await store.keys.add("caller", hash_key(secret, text), text[-4:])).id for text in texts}

    return asyncio.run(make())


def ledger(home: Path) -> tuple[list[LedgerRow], Sequence[Total]]:
    """Return every row, oldest first, and the daily sums."""

    async def read() -> tuple[list[LedgerRow], Sequence[Total]]:
        async with await open_store(Home(home).database) as store:
            page = await store.ledger.page(limit=10_000)
            rows = list(page.rows)
            while page.next is not None:
                page = await store.ledger.page(before=page.next, limit=10_000)
                rows += page.rows
            return rows[::-1], await store.ledger.totals(by=("key_id", "surface", "deployment"))

    return asyncio.run(read())


def killed(service: Service, engine: FakeEngine, made: Made, chance: random.Random) -> None:
    """Kill the service at any moment of its life, its start included, and start it anew."""
    time.sleep(chance.uniform(0.0, 0.8))
    assert service.process is not None
    assert service.process.poll() is None, service.output()
    service.process.kill()
    service.process.wait()
    made.collect(engine)
    service.launch()
    if chance.random() < 0.3:
        time.sleep(chance.uniform(0.0, 1.5))
    else:
        service.wait_ready()


def check(seen: Seen, rows: Sequence[LedgerRow], made: Made) -> str:
    """See that a call has left the row that it must have; return how it ended, "" when it never became one."""
    told = f"{seen}\n{rows}\n{made.of(seen)}"
    if not rows:
        assert not made.of(seen), f"lost: {told}"
        assert seen.status in (0, 503), f"lost: {told}"
        return ""
    assert len(rows) == 1, f"more than once: {told}"
    (row,) = rows
    assert seen.id in ("", row.id), told
    counted = row.usage
    if row.outcome is Outcome.ANSWERED:
        assert not seen.error, told
        assert Usage(counted.prompt, counted.completion) == made.whole(seen), told
        assert not row.estimated, told
    elif seen.whole:
        assert seen.error, told
        assert row.outcome is Outcome.FAILED, told
        if seen.kind.stream:
            assert counted.completion == made.at_most(seen), told
        else:  # nobody saw a word, and what was tried before the last attempt is not the caller's to pay
            assert counted.completion <= max(one.tokens_made for one in made.of(seen)), told
    else:
        assert seen.pieces <= counted.completion <= made.at_most(seen), told
    return str(row.outcome)


def ended_in_every_way(callers: Sequence[Caller], since: float) -> bool:
    """Whether calls that began since a time were answered, failed, and left by their callers."""
    seen = [one for caller in callers for one in tuple(caller.seen) if one.began > since]
    left = [one for one in seen if one.pieces == one.kind.leaves_after]
    whole = [one for one in seen if one.whole and one.status != 503]  # with that nothing was tried
    return bool(left) and {one.error for one in whole} == {True, False}


def test_every_call_has_its_row_after_the_service_was_killed_again_and_again(tmp_path: Path) -> None:
    """Streamed and not, cancelled and failed, on every route that generates; the daily sums are those of the rows."""
    chance, over, made = random.Random(9), threading.Event(), Made()
    with FakeEngine(RULES) as engine:
        replicas = [
            {"name": name, "url": engine.base_url, "model": "m", "profile": profile, "serves": ["qwen-*", "text-*"]}
            for name, profile in (("one", "vllm"), ("two", "openai"))
        ]
        service = Service(tmp_path / "home", config=toml_of(*replicas, probe_s=3600))
        service.start()
        keys = keys_for(service, CALLERS)
        callers = [Caller(service.port, key, f"caller-{number}", over) for number, key in enumerate(keys)]
        try:
            for caller in callers:
                caller.start()
            for _ in range(KILLS):
                killed(service, engine, made, chance)
            service.wait_ready()
            since = time.time()
            wait_until(lambda: ended_in_every_way(callers, since), "calls to end in every way", DEADLINE_S)
        finally:
            over.set()
            for caller in callers:
                caller.join()
            wait_until(lambda: service.metric("hanlin_ledger_pending_rows") == 0, "all rows to be in the database")
            service.close()
        made.collect(engine)

    rows, sums = ledger(tmp_path / "home")
    ends: Counter[str] = Counter()
    for caller, key_id in zip(callers, keys.values(), strict=True):
        left = [row for row in rows if row.key_id == key_id]
        for seen in caller.seen:
            its = [row for row in left if seen.began <= row.began_at.timestamp() <= seen.ended]
            ends[check(seen, its, made)] += 1
            left = [row for row in left if row not in its]
        assert not left, f"rows of calls that nobody made: {left}"
    for outcome in Outcome:
        assert ends[outcome] >= 1, ends
    assert ends[Outcome.INTERRUPTED] >= KILLS
    _check_sums(rows, sums)
    assert os.listdir(tmp_path / "home" / "journal") == ["lock"]


def _check_sums(rows: Sequence[LedgerRow], sums: Sequence[Total]) -> None:
    expected: dict[tuple[str, str, str], list[int]] = defaultdict(lambda: [0] * 7)
    for row in rows:
        usage = row.usage
        counted = (
            1,
            usage.prompt,
            usage.completion,
            usage.cached,
            usage.reasoning,
            row.cost_nanos,
            row.list_cost_nanos,
        )
        so_far = expected[row.key_id, row.surface, row.deployment]
        so_far[:] = [before + more for before, more in zip(so_far, counted, strict=True)]
    found = {
        (str(each.key_id), str(each.surface), str(each.deployment)): [
            *(each.calls, each.usage.prompt, each.usage.completion, each.usage.cached, each.usage.reasoning),
            *(each.cost_nanos, each.list_cost_nanos),
        ]
        for each in sums
    }
    assert found == dict(expected)
