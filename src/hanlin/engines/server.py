"""An engine that somebody else runs: any server that speaks OpenAI chat, at its base URL."""

from collections.abc import Mapping

from hanlin.engines.chat import ChatEngine
from hanlin.engines.manner import Manner
from hanlin.engines.profiles import EngineProfile
from hanlin.engines.wire import Address, Client
from hanlin.types import ChatRequest, CompletionRequest, Events


class ServerEngine:
    """A server at `url`. It is taken to be there; a call that finds it away fails with EngineUnavailable."""

    def __init__(
        self, url: str, profile: EngineProfile, *, model: str = "", key: str = "", silence_s: float = 60.0
    ) -> None:
        headers: Mapping[str, str] = {"Authorization": f"Bearer {key}"} if key else {}
        if profile.prompts:
            url = url.rstrip("/").removesuffix("/v1")  # what prompts are sent to stands beside it
        self._client = Client(Address.of_url(url))
        self._chat = ChatEngine(self._client, Manner(profile, model, silence_s=silence_s, headers=headers))

    def generate(self, request: ChatRequest) -> Events:
        return self._chat.generate(request)

    def fill(self, request: CompletionRequest) -> Events:
        return self._chat.fill(request)

    async def count(self, request: ChatRequest) -> int | None:
        return await self._chat.count(request)

    def why_not_ready(self) -> str | None:
        return None

    def trouble(self) -> str | None:
        return None

    async def close(self) -> None:
        self._client.close()
