"""The embedded engine: a llama.cpp child under a supervisor, and the conversation with it."""

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace

from hanlin.engines.chat import ChatEngine
from hanlin.engines.engine import Counters
from hanlin.engines.llama import Orders
from hanlin.engines.manner import Manner
from hanlin.engines.profiles import WeightsProfile, profiles
from hanlin.engines.supervisor import Exited, Ready, State, Supervisor
from hanlin.engines.wire import Address, Client
from hanlin.errors import EngineFailed
from hanlin.types import ChatRequest, CompletionRequest, Events

# A call is silent for minutes while the engine reads the long prompts of others: llama.cpp fills a batch from the first
# slot on. Whether the engine lives is for its supervisor to judge, who cuts every call when it does not.
_CALL_SILENCE_S = 3600.0


class EmbeddedEngine:
    """One model in one llama.cpp process. Between `start` and `close` it restarts by itself whatever happens to it."""

    def __init__(self, orders: Orders, weights: WeightsProfile, *, stall_s: float, load_wait_s: float) -> None:
        self.orders = orders
        self._load_wait_s = load_wait_s
        self._client = Client(Address(socket=orders.socket))
        manner = Manner(profiles().engine["llama"], orders.name, weights, silence_s=_CALL_SILENCE_S)
        self._chat = ChatEngine(self._client, manner)
        self.supervisor = Supervisor(orders, prepare=self._prepare, probe=self._probe, stall_s=stall_s)

    @property
    def state(self) -> State:
        return self.supervisor.state

    def why_not_ready(self) -> str | None:
        return None if isinstance(self.state, Ready) else str(self.state)

    def start(self) -> None:
        self.supervisor.start()

    def generate(self, request: ChatRequest) -> Events:
        """As `ChatEngine.generate`, once the child is ready. EngineUnavailable when it is not in time."""
        return self._alive(lambda: self._chat.generate(request))

    def whole(self, request: ChatRequest) -> None:
        """llama.cpp notices that a caller has left only while it streams."""

    def fill(self, request: CompletionRequest) -> Events:
        """As `ChatEngine.fill`, once the child is ready."""
        return self._alive(lambda: self._chat.fill(request))

    async def _alive(self, answer: Callable[[], Events]) -> Events:
        await self.supervisor.ready(self._load_wait_s)
        async with aclosing(answer()) as bursts:
            async for burst in bursts:
                self.supervisor.alive()
                yield burst

    async def count(self, request: ChatRequest) -> int | None:
        """Return the billed prompt tokens of a request, exactly."""
        await self.supervisor.ready(self._load_wait_s)
        return await self._chat.count(request)

    def trouble(self) -> str | None:
        return f"{self.orders.name}: {self.state}" if isinstance(self.state, Exited) else None

    def counters(self) -> Counters:
        return Counters(self.supervisor.restarts, self._client.open_connections)

    async def close(self) -> None:
        await self.supervisor.stop()
        self._client.close()

    async def _prepare(self) -> None:
        """Learn what the identity line costs in tokens, so that nobody is billed for it."""
        identity = self._chat.manner.weights.identity
        tokens = await self._chat.tokens(f"{identity}\n") if identity else 0
        self._chat.manner = replace(self._chat.manner, unbilled_tokens=tokens)

    async def _probe(self) -> None:
        response = await self._client.send("GET", "/metrics", silence_s=self._chat.manner.silence_s)
        await response.body()
        if response.status != 200:
            raise EngineFailed(f"/metrics answered {response.status}")
