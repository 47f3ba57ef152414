"""The embedded embedding model: a llama.cpp child that exists while somebody wants vectors, and the talk with it.

It is started by the first call and ended after a while without one, because what it takes most of is memory.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import msgspec

from hanlin.engines import embedding, vectors
from hanlin.engines.llama import Orders
from hanlin.engines.nmt_nfkc import characters, spaced
from hanlin.engines.profiles import EmbeddingProfile
from hanlin.engines.supervisor import Exited, Ready, Supervisor
from hanlin.engines.wire import Address, Client
from hanlin.errors import ContextLengthExceeded, EngineFailed
from hanlin.types import EmbeddingRequest, EmbeddingResult, Usage, Vector
from hanlin.words import say

log = logging.getLogger("hanlin.engine")

IDLE_S = 600.0
# Whether the engine lives is for its supervisor to judge, who cuts every call when it does not.
_CALL_SILENCE_S = 3600.0
_PIECE_CHARACTERS = 16_384


class ChildEmbedder:
    """One embedding model in one llama.cpp process, which comes and goes between the calls.

    A text longer than the model's window is read in windows, and their vectors are averaged by their tokens.
    """

    def __init__(
        self,
        orders: Orders,
        profile: EmbeddingProfile,
        *,
        stall_s: float,
        load_wait_s: float,
        idle_s: float = IDLE_S,
    ) -> None:
        self.orders = orders
        self._profile = profile
        self._stall_s = stall_s
        self._load_wait_s = load_wait_s
        self._idle_s = idle_s
        self._client = Client(Address(socket=orders.socket))
        self._supervisor: Supervisor | None = None
        self._turning = asyncio.Lock()  # held while the child is started or ended
        self._open_calls = 0
        self._resting: asyncio.Task[None] | None = None
        self._ends: tuple[list[int], list[int]] = ([], [])  # the tokens around every window
        self._led: Mapping[str, int] = {}  # the tokens of the prefixes, which nobody is billed for

    @property
    def asleep(self) -> bool:
        """Whether there is no process at the moment."""
        return self._supervisor is None

    @property
    def pid(self) -> int | None:
        return self._supervisor.pid if self._supervisor is not None else None

    def state(self) -> str:
        """Say what the child is doing, for people."""
        if self._supervisor is None:
            return say("asleep until it is called", "休眠中，有调用时启动")
        return str(self._supervisor.state)

    def why_not_ready(self) -> str | None:
        if self._supervisor is None or isinstance(self._supervisor.state, Ready):
            return None  # a call wakes it
        return str(self._supervisor.state)

    def trouble(self) -> str | None:
        if self._supervisor is not None and isinstance(self._supervisor.state, Exited):
            return f"{self.orders.name}: {self._supervisor.state}"
        return None

    async def embed(self, request: EmbeddingRequest, limit_tokens: int | None) -> EmbeddingResult:
        async with self._awake() as supervisor:
            prefix = self._profile.prefix(request.purpose)
            texts = [await self._tokens(prefix + await _normalised(text)) for text in request.texts]
            counts = [max(len(tokens) - self._led[request.purpose], 0) for tokens in texts]
            for count in counts:
                if limit_tokens is not None and count > limit_tokens:
                    raise ContextLengthExceeded(request.model, count, limit_tokens, param="input")
            found = [await self._vector(tokens, supervisor) for tokens in texts]
            return EmbeddingResult(tuple(found), Usage(prompt=sum(counts)))

    async def close(self) -> None:
        async with self._turning:
            if self._resting is not None:
                self._resting.cancel()
            await self._end()
        self._client.close()

    async def _vector(self, tokens: list[int], supervisor: Supervisor) -> Vector:
        """Read one text window by window. Between two windows others get their turn, and a hang-up ends it."""
        first, last = self._ends
        room = self.orders.context_tokens - len(first) - len(last)
        windows = [tokens[start : start + room] for start in range(0, len(tokens), room)] or [tokens]
        found = []
        for window in windows:
            found.append(await self._ask([*first, *window, *last]))
            supervisor.alive()
        return vectors.unit(vectors.average(found, [max(len(window), 1) for window in windows]))

    async def _ask(self, tokens: list[int]) -> Vector:
        # Not of length 1 yet: the mean over a whole text is one over its windows only before that.
        body = msgspec.json.encode({"input": [tokens], "encoding_format": "float", "embd_normalize": -1})
        response = await self._client.send("POST", "/v1/embeddings", body, silence_s=_CALL_SILENCE_S)
        data = await response.body()
        if response.status != 200:
            raise EngineFailed(f"the engine answered {response.status}: {data[:300].decode('utf-8', 'replace')}")
        return embedding.read(data, ("",)).vectors[0]

    async def _tokens(self, text: str, *, ends: bool = False) -> list[int]:
        """Return the tokens of a text. Marks that it spells out are text like any other."""
        body = msgspec.json.encode({"content": text, "add_special": ends, "parse_special": False})
        response = await self._client.send("POST", "/tokenize", body, silence_s=_CALL_SILENCE_S)
        data = await response.body()
        try:
            return msgspec.json.decode(data, type=_Tokens).tokens
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise EngineFailed(f"the engine's tokens are not what they should be: {error}") from error

    # The child's life

    @asynccontextmanager
    async def _awake(self) -> AsyncIterator[Supervisor]:
        """Have the child run and ready within the block. EngineUnavailable when it is not in time."""
        async with self._turning:
            if self._resting is not None:
                self._resting.cancel()
            supervisor = self._supervisor
            if supervisor is None:
                supervisor = self._supervisor = Supervisor(
                    self.orders, prepare=self._prepare, probe=self._probe, stall_s=self._stall_s
                )
                supervisor.start()
            self._open_calls += 1
        try:
            await supervisor.ready(self._load_wait_s)
            yield supervisor
        finally:
            self._open_calls -= 1
            if not self._open_calls:
                self._resting = asyncio.create_task(self._rest(), name=f"rest {self.orders.name}")

    async def _rest(self) -> None:
        await asyncio.sleep(self._idle_s)
        async with self._turning:
            if not self._open_calls:
                await self._end()
                log.info("engine %s: ended after %g s without a call", self.orders.name, self._idle_s)

    async def _end(self) -> None:
        try:
            if self._supervisor is not None:
                await self._supervisor.stop()
        finally:
            self._supervisor = None

    async def _prepare(self) -> None:
        """Learn which tokens begin and end a text, and what the prefixes cost."""
        ends = await self._tokens("", ends=True)
        middle = len(ends) // 2
        self._ends = (ends[:middle], ends[middle:])
        self._led = {
            purpose: len(await self._tokens(self._profile.prefix(purpose))) for purpose in ("document", "query")
        }

    async def _probe(self) -> None:
        response = await self._client.send("GET", "/metrics", silence_s=_CALL_SILENCE_S)
        await response.body()
        if response.status != 200:
            raise EngineFailed(f"/metrics answered {response.status}")


async def _normalised(text: str) -> str:
    """Return the text as the vocabulary knows it; a book of it must not hold up everybody's streams."""
    pieces = []
    for start in range(0, len(text), _PIECE_CHARACTERS):
        pieces.append(characters(text[start : start + _PIECE_CHARACTERS]))
        await asyncio.sleep(0)
    return spaced("".join(pieces))


class _Tokens(msgspec.Struct):
    tokens: list[int]
