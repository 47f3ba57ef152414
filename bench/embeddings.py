"""How many passages a second become vectors: ten in a call, as the contract allows, beside one a call.

In turns, three rounds each, on the embedded embedding model. Aim: ten in a call are never slower. The memory of the
model's process is printed before and after, because that is what it costs most of.
"""

import contextlib
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
from openai import OpenAI

from tests.conftest import WEIGHTS, home_with_vectors
from tests.service import Service

ROUNDS = 3
BATCH = 10
PASSAGES = {
    "queries of 16 tokens": [f"第{n}单如何申请退货，多久能到账？" for n in range(100)],
    "passages of 250 tokens": [
        f"{n}。" + "自签收之日起七天内，商品未使用可无理由退货，运费由买家承担。" * 12 for n in range(20)
    ],
}


@contextlib.contextmanager
def service() -> Iterator[Service]:
    with tempfile.TemporaryDirectory() as folder:
        home = home_with_vectors(Path(folder) / "home")
        with Service(home, "--weights", WEIGHTS, environment={"HANLIN_EMBEDDINGS": "true"}) as running:
            yield running


def rate(client: OpenAI, texts: Sequence[str], batch: int) -> float:
    """Return the passages a second of one round."""
    began = time.perf_counter()
    for start in range(0, len(texts), batch):
        client.embeddings.create(model="text-embedding-v4", input=list(texts[start : start + batch]))
    return len(texts) / (time.perf_counter() - began)


def memory_mib(running: Service) -> int:
    """Return the resident memory of the embedding model's process: the latest child."""
    child = max(psutil.Process(running.pid).children(), key=lambda process: process.create_time())
    return int(child.memory_info().rss) // 2**20


def measure() -> None:
    with service() as running, running.client(timeout=600) as client:
        began = time.perf_counter()
        tokens = client.embeddings.create(model="text-embedding-v4", input="你好").usage.prompt_tokens
        print(f"first call {time.perf_counter() - began:.2f} s ({tokens} tokens), then {memory_mib(running)} MiB")
        for name, texts in PASSAGES.items():
            counted = client.embeddings.create(model="text-embedding-v4", input=texts[0]).usage.prompt_tokens
            rates: dict[int, list[float]] = {1: [], BATCH: []}
            for number in range(ROUNDS):
                for batch in (1, BATCH) if number % 2 else (BATCH, 1):
                    rates[batch].append(rate(client, texts, batch))
            ratios = [many / one for one, many in zip(rates[1], rates[BATCH], strict=True)]
            print(
                f"{name} ({counted}): {statistics.median(rates[BATCH]):.1f} a second, "
                f"ratio median {statistics.median(ratios):.2f} of one a call ({statistics.median(rates[1]):.1f}); "
                f"{memory_mib(running)} MiB"
            )


if __name__ == "__main__":
    measure()
