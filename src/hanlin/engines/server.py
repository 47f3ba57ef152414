"""An engine that somebody else runs: any server that speaks OpenAI chat, at its base URL."""

import os
from collections.abc import Callable

from hanlin.engines.chat import ChatEngine
from hanlin.engines.engine import Counters
from hanlin.engines.manner import Manner
from hanlin.engines.profiles import EngineProfile
from hanlin.engines.wire import Address, Client, Deadlines, proxy_for


class ServerEngine:
    """A server at `url`. It is taken to be there; a call that finds it away fails with EngineUnreachable.

    `names` says what the server calls the model that a caller names; "" leaves it to `model`. At most `connections`
    are open at once. Proxies are those of the environment. Raises ValueError for an address that is none.
    """

    def __init__(
        self,
        url: str,
        profile: EngineProfile,
        *,
        model: str = "",
        names: Callable[[str], str] | None = None,
        key: str = "",
        deadlines: Deadlines | None = None,
        connections: int = 256,
    ) -> None:
        if profile.prompts:
            url = url.rstrip("/").removesuffix("/v1")  # what prompts are sent to stands beside it
        address = Address.of_url(url)
        self._client = Client(
            address,
            headers={"Authorization": f"Bearer {key}"} if key else {},
            proxy=proxy_for(address, os.environ),
            connection_limit=connections + 2,  # a call may need a second one, to count or to probe
            idle_limit=connections,
        )
        chat = ChatEngine(self._client, Manner(profile, model, names=names), deadlines or Deadlines())
        self.generate, self.whole, self.fill, self.count = chat.generate, chat.whole, chat.fill, chat.count

    def why_not_ready(self) -> str | None:
        return None

    def trouble(self) -> str | None:
        return None

    def counters(self) -> Counters:
        return Counters(connections=self._client.open_connections)

    async def close(self) -> None:
        self._client.close()
