"""What eight callers at once get through the service, beside the same callers on the engine itself: tokens a second.

In turns, three rounds each. Aim: ≥ 0.95 of direct.
"""

import asyncio
import statistics
import time

from bench.common import Peer, call, of_peer, peers, service

CALLERS = 8
ROUNDS = 3
TOKENS = 96


async def tokens_of(peer: Peer, number: int) -> int:
    """Make one call and return how many pieces of text came, a token each."""
    question = f"{number}：请详细介绍一座中国的城市，它的历史、地理和美食。"
    return len([at async for at in peer.deltas(of_peer(peer, call(question, max_tokens=TOKENS, seed=number)))])


async def round_of(peer: Peer, first: int) -> float:
    """Return the tokens a second of one round."""
    began = time.perf_counter()
    counts = await asyncio.gather(*(tokens_of(peer, first + number) for number in range(CALLERS)))
    return sum(counts) / (time.perf_counter() - began)


async def measure() -> None:
    with service() as running:
        direct, through = peers(running)
        await round_of(direct, 0)
        rates: dict[str, list[float]] = {direct.name: [], through.name: []}
        for number in range(ROUNDS):
            for peer in (direct, through) if number % 2 else (through, direct):
                rates[peer.name].append(await round_of(peer, 1 + number * CALLERS))
                print(f"round {number + 1} {peer.name:8} {rates[peer.name][-1]:6.1f} tokens/s")
        ratios = [b / a for a, b in zip(rates["direct"], rates["hanlin"], strict=True)]
        print(f"ratio  median {statistics.median(ratios):.3f} of direct ({CALLERS} callers, {TOKENS} tokens each)")
        direct.client.close()
        through.client.close()


if __name__ == "__main__":
    asyncio.run(measure())
