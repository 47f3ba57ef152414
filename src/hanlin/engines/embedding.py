"""What turns texts into vectors: the protocol of it, and the one that asks a server that somebody else runs.

Vectors come as long as the model makes them; fitting them to what was promised is not decided here.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec

from hanlin.engines.profiles import Failing
from hanlin.engines.refusals import Refusal
from hanlin.engines.wire import Address, Client, Deadlines, proxy_for
from hanlin.errors import EngineFailed
from hanlin.types import EmbeddingRequest, EmbeddingResult, Usage, Vector


class Embedder(Protocol):
    """One embedding model on one server. Any number of calls may run at once."""

    async def embed(self, request: EmbeddingRequest, limit_tokens: int | None) -> EmbeddingResult:
        """Return a vector for each text.

        Raises ContextLengthExceeded for a text above `limit_tokens`, where the engine can count them.
        """

    def why_not_ready(self) -> str | None:
        """Return None when a call would be answered now, else what is going on."""

    def trouble(self) -> str | None:
        """Return what went wrong, when something did and is not mended yet."""

    async def close(self) -> None:
        """End everything that this embedder started."""


class ServerEmbedder:
    """A server at `url` that speaks OpenAI embeddings. It is taken to be there, as `ServerEngine` takes it."""

    def __init__(
        self,
        url: str,
        *,
        model: str = "",
        names: Callable[[str], str] | None = None,
        key: str = "",
        deadlines: Deadlines | None = None,
        codes: Mapping[str, Failing] | None = None,
    ) -> None:
        """`names` says what the server calls a model, as for `ServerEngine`; `codes` what its own errors mean."""
        address = Address.of_url(url)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = Client(address, headers=headers, proxy=proxy_for(address, os.environ))
        self._key = key
        self._model = model
        self._names = names
        self._codes = codes or {}
        self._deadlines = deadlines or Deadlines()

    async def embed(self, request: EmbeddingRequest, limit_tokens: int | None) -> EmbeddingResult:  # noqa: ARG002
        body: dict[str, Any] = {
            "model": self.there(request.model),
            "input": list(request.texts),
            "encoding_format": "float",
        }
        if request.dimensions is not None:
            body["dimensions"] = request.dimensions
        response = await self._client.send("POST", "/embeddings", msgspec.json.encode(body), deadlines=self._deadlines)
        data = await response.body()
        if response.status != 200:
            problem = Refusal.read(response.status, response.headers, data).problem(self._codes)
            problem.conceal(self._key)
            raise problem
        return read(data, request.texts)

    def there(self, name: str) -> str:
        """Return what the server calls the model that a caller names."""
        return (self._names(name) if self._names is not None else self._model) or name

    def why_not_ready(self) -> str | None:
        return None

    def trouble(self) -> str | None:
        return None

    async def close(self) -> None:
        self._client.close()


class _Row(msgspec.Struct):
    embedding: list[float]
    index: int = 0


class _Counts(msgspec.Struct):
    prompt_tokens: int = 0


class _Answer(msgspec.Struct):
    data: list[_Row]
    usage: _Counts | None = None


_read_answer = msgspec.json.Decoder(_Answer)


def read(data: bytes, texts: tuple[str, ...]) -> EmbeddingResult:
    """Read an answer to these texts. Raises EngineFailed when it is none."""
    try:
        answer = _read_answer.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise EngineFailed(f"the engine's vectors are not what they should be: {error}") from error
    rows = sorted(answer.data, key=lambda row: row.index)
    lengths = {len(row.embedding) for row in rows}
    if len(rows) != len(texts) or len(lengths) != 1 or 0 in lengths:
        raise EngineFailed(f"the engine gave {len(rows)} vectors of {sorted(lengths)} numbers for {len(texts)} texts")
    vectors: tuple[Vector, ...] = tuple(row.embedding for row in rows)
    counted = answer.usage.prompt_tokens if answer.usage is not None else 0
    if counted:
        return EmbeddingResult(vectors, Usage(counted))
    # A server that does not count: about four bytes a token, in Chinese and in English.
    return EmbeddingResult(vectors, Usage(sum(len(text.encode()) // 4 + 1 for text in texts), estimated=True))
