"""How much later the first token comes through the service than from the engine itself; and what the service weighs.

Both are asked the same in turns, so that the machine's moods hit both. Aims: p50 of the added time ≤ 5 ms, service
process ≤ 150 MB resident, ready ≤ 10 s from the start with the weights in place.
"""

import asyncio
import time

import psutil

from bench.common import Peer, call, of_peer, peers, quantile, service

ROUNDS = 60


async def first_token_s(peer: Peer, number: int) -> float:
    """Return the time to the first piece of text of one call."""
    began = time.perf_counter()
    deltas = peer.deltas(of_peer(peer, call(f"第{number}题：你是谁？", max_tokens=2)))
    async for at in deltas:
        await deltas.aclose()  # type: ignore[attr-defined]
        return at - began
    raise AssertionError("no text came")


async def measure() -> None:
    began = time.perf_counter()
    with service() as running:
        ready_s = time.perf_counter() - began
        direct, through = peers(running)
        times: dict[str, list[float]] = {direct.name: [], through.name: []}
        for number in range(ROUNDS):
            # The second of a pair finds the prompt in the engine's cache: who is second changes, after a call for both.
            await first_token_s(direct, number)
            order = (direct, through) if number % 2 else (through, direct)
            for peer in order:
                times[peer.name].append(await first_token_s(peer, number))
        for name, values in times.items():
            p50, p95 = (quantile(values, share) * 1000 for share in (0.5, 0.95))
            print(f"{name:8} time to first token: p50 {p50:7.2f} ms, p95 {p95:7.2f} ms")
        added = [(b - a) * 1000 for a, b in zip(times["direct"], times["hanlin"], strict=True)]
        print(f"added    p50 {quantile(added, 0.5):.2f} ms, p95 {quantile(added, 0.95):.2f} ms ({ROUNDS} pairs)")
        print(f"ratio    p50 {quantile(times['hanlin'], 0.5) / quantile(times['direct'], 0.5):.3f}")
        print(f"resident {psutil.Process(running.pid).memory_info().rss / 1e6:.0f} MB (service process)")
        print(f"ready    {ready_s:.1f} s after the start, weights in place")
        direct.client.close()
        through.client.close()


if __name__ == "__main__":
    asyncio.run(measure())
