"""What the benches share: a service on the embedded engine, and one client for it and for the engine itself."""

import contextlib
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from hanlin.engines.frames import SSEReader
from hanlin.engines.profiles import profiles
from hanlin.engines.wire import Address, Client
from tests.conftest import home_with_weights
from tests.service import KEY, Service

WEIGHTS = os.environ.get("TEST_WEIGHTS", "qwen2.5-coder-0.5b-instruct")


@contextlib.contextmanager
def service() -> Iterator[Service]:
    """Start the service on weights that `make` has fetched."""
    with tempfile.TemporaryDirectory() as folder:
        home = home_with_weights(Path(folder) / "home")
        with Service(home, "--weights", WEIGHTS) as running:
            yield running


@dataclass
class Peer:
    """Somewhere to send the same call to: the engine itself, or the service in front of it."""

    name: str
    client: Client
    path: str
    headers: dict[str, str]

    async def deltas(self, body: dict[str, Any]) -> AsyncIterator[float]:
        """Make a streamed call and yield the time of every piece of text that arrives."""
        response = await self.client.send("POST", self.path, msgspec.json.encode(body), headers=self.headers)
        assert response.status == 200, await response.body()
        reader = SSEReader()
        async for piece in response.pieces():
            now = time.perf_counter()
            for data in reader.feed(piece):
                if not data.startswith(b"[DONE]"):
                    for choice in msgspec.json.decode(data)["choices"]:
                        if choice["delta"].get("content"):
                            yield now


def peers(running: Service) -> tuple[Peer, Peer]:
    """Return the engine itself and the service."""
    (socket,) = (running.home / "run").glob("*.sock")
    direct = Peer("direct", Client(Address(socket=str(socket))), "/v1/chat/completions", {})
    through = Peer(
        "hanlin",
        Client(Address.of_url(running.url)),
        "/compatible-mode/v1/chat/completions",
        {"Authorization": f"Bearer {KEY}"},
    )
    return direct, through


def call(question: str, *, max_tokens: int, seed: int = 1) -> dict[str, Any]:
    """Return one body that means the same to both: the engine is given what the service would add."""
    return {
        "model": "qwen-plus",
        "messages": [
            {"role": "system", "content": f"{profiles().weights['qwen2'].identity}\nYou are a helpful assistant."},
            {"role": "user", "content": question},
        ],
        "max_tokens": max_tokens,
        "temperature": 0.7,
        "top_p": 0.8,
        "top_k": 20,
        "presence_penalty": 0,
        "repetition_penalty": 1.0,
        "seed": seed,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def of_peer(peer: Peer, body: dict[str, Any]) -> dict[str, Any]:
    """Leave to the service what it adds itself, so that both prompts are the same tokens."""
    if peer.name == "direct":
        return {**body, "min_p": 0, "repeat_penalty": 1.0}
    system = {"role": "system", "content": "You are a helpful assistant."}
    return {**body, "messages": [system, *body["messages"][1:]]}


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value below which `share` of the values lie."""
    return statistics.quantiles(values, n=100, method="inclusive")[round(share * 100) - 1]
