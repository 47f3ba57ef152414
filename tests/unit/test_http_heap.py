"""Memory that large requests leave behind: it goes back to the system, and the next one does not need more."""

import asyncio
import subprocess
import sys

import pytest

from hanlin.http import heap
from hanlin.http.exchange import Exchange
from tests.http_echo import request
from tests.http_peer import Line

# Texts that go one after the other, each with something small behind it that stays: the C library keeps their places.
PROGRAM = """
import ctypes, os
from hanlin.http import heap
def resident(): return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
for _ in range(3):  # from the second time on, texts of this size come from its heap
    texts, stay = [], []
    for _ in range(20):
        texts.append("x" * 2_000_000)
        stay.append(bytearray(50_000))
    texts.clear()
before = resident()
heap.give_back()
print(before - resident())
"""


@pytest.mark.skipif(heap._trim is None, reason="this C library keeps nothing, or cannot be told")
def test_what_nobody_uses_is_given_back() -> None:
    """All but what is kept for the next one."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)

    assert float(done.stdout) > 15


@pytest.mark.parametrize(("size", "times"), [(heap.LARGE_BYTES, 1), (heap.LARGE_BYTES - 1, 0), (0, 0)])
async def test_it_is_done_once_a_large_request_is_over(size: int, times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for every small one: it is a look at all that is free."""
    done: list[int] = []
    monkeypatch.setattr(heap, "give_back", lambda: done.append(1))

    async def take(exchange: Exchange) -> None:
        await exchange.body(2 * heap.LARGE_BYTES)
        await exchange.answer(200, b"taken")

    line = Line(take)
    line.send(request("/x", method="POST", body=b"x" * size))
    await line.until(b"taken")
    await asyncio.sleep(20 * heap.SOON_S)

    assert len(done) == times
