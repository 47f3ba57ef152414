"""The running service as a whole: who may call, what answers which name, whether it is ready."""

import logging
import time
from dataclasses import dataclass

from hanlin.catalogue.models import Catalogue, Model
from hanlin.errors import EngineUnavailable, InvalidApiKey, ModelNotFound
from hanlin.keys import hash_key, hint
from hanlin.service import completion, embedding_planning
from hanlin.service.completion import CompletionPlan
from hanlin.service.deployments import Deployment, Serving, serving
from hanlin.service.embedding_planning import EmbeddingDeployment, EmbeddingPlan, EmbeddingServing
from hanlin.service.planning import Plan, plan
from hanlin.settings import Settings
from hanlin.store.database import Store
from hanlin.store.keys import KeyRow
from hanlin.types import ChatRequest, CompletionRequest, EmbeddingRequest
from hanlin.words import say

log = logging.getLogger("hanlin.service")

_KNOWN_KEYS = 1024
_BELIEVED_S = 1.0


@dataclass(frozen=True)
class Card:
    """One callable name with what it promises and what answers it here."""

    name: str
    model: Model
    serving: Serving | EmbeddingServing


class Studio:
    """Owns the deployments and the database from the start to `close`.

    `starting` says what is still to be done before calls can be answered; None once that is over. `vectors_coming` says
    the same of the embedding weights, which come after everything else; "" when they are here or not wanted.
    """

    def __init__(self, settings: Settings, catalogue: Catalogue, store: Store, secret: bytes) -> None:
        self.settings = settings
        self.catalogue = catalogue
        self.deployments: tuple[Deployment, ...] = ()
        self.embedding_deployments: tuple[EmbeddingDeployment, ...] = ()
        self.vectors_coming = ""
        self.starting: str | None = say("starting", "正在启动")
        self.stopping = False
        self.store = store
        self.secret = secret
        self._known: dict[str, tuple[KeyRow, float]] = {}

    async def authenticate(self, key: str | None) -> KeyRow:
        """Return the row of a caller's key. Raises InvalidApiKey, which says which line is missing."""
        if not key:
            raise InvalidApiKey(
                say(
                    "No key was sent: run `export DASHSCOPE_API_KEY=…` with the key that the first start showed, "
                    "or make another with `hanlin keys create`",
                    "请求未携带密钥：请运行 `export DASHSCOPE_API_KEY=…`（首次启动时显示的密钥），"
                    "或用 `hanlin keys create` 新建一个",
                )
            )
        hashed = hash_key(self.secret, key)
        row = await self._find(hashed)
        if row is None:
            sent = f"…{hint(key)}" if hint(key) else say("The key that was sent", "所发送的密钥")
            raise InvalidApiKey(
                say(
                    f"{sent} is not a key of this service: run `export DASHSCOPE_API_KEY=…` with the key that "
                    "the first start showed, or make another with `hanlin keys create`",
                    f"{sent} 不是本服务的密钥：请运行 `export DASHSCOPE_API_KEY=…`（首次启动时显示的密钥），"
                    "或用 `hanlin keys create` 新建一个",
                )
            )
        return row

    async def _find(self, hashed: str) -> KeyRow | None:
        """Look a key up; an answer is believed for a second, so that one that was revoked elsewhere stops soon."""
        now = time.monotonic()
        known = self._known.get(hashed)
        if known is not None and now < known[1]:
            return known[0]
        row = await self.store.keys.find(hashed)
        if len(self._known) >= _KNOWN_KEYS:
            self._known.clear()
        if row is not None:  # an unknown key may be made at any moment
            self._known[hashed] = (row, now + _BELIEVED_S)
        return row

    def plan(self, request: ChatRequest) -> Plan:
        """Decide what a call gets, as `planning.plan`. Raises EngineUnavailable while the service starts or stops."""
        if self.stopping:
            raise EngineUnavailable(say("the service is shutting down", "服务正在关闭"))
        try:
            return plan(request, self.catalogue, self.deployments, strict=self.settings.strict)
        except ModelNotFound:
            # A name that nothing answers yet may be answered once the weights are here.
            model = self.catalogue.find(request.model)
            if self.starting is None or model is None or self.catalogue.missing(model):
                raise
            raise EngineUnavailable(self.starting) from None

    def plan_completion(self, request: CompletionRequest) -> CompletionPlan:
        """Decide what a text completion gets, as `completion.plan`. Raises EngineUnavailable as `plan` does."""
        if self.stopping:
            raise EngineUnavailable(say("the service is shutting down", "服务正在关闭"))
        try:
            return completion.plan(request, self.catalogue, self.deployments)
        except ModelNotFound:
            if self.starting is None or self.catalogue.find(request.model) is None:
                raise
            raise EngineUnavailable(self.starting) from None

    def plan_embedding(self, request: EmbeddingRequest) -> EmbeddingPlan:
        """Decide what a call for vectors gets, as `embedding_planning.plan`. Raises EngineUnavailable when stopping."""
        if self.stopping:
            raise EngineUnavailable(say("the service is shutting down", "服务正在关闭"))
        coming = self.vectors_coming or self.starting or ""
        return embedding_planning.plan(request, self.catalogue, self.embedding_deployments, coming)

    def cards(self) -> list[Card]:
        """Return every callable name, in the catalogue's order."""
        return [self.card(name) for name in self.catalogue.names()]

    def card(self, name: str) -> Card:
        """Return one name's card. Raises ModelNotFound."""
        model = self.catalogue.find(name)
        if model is None:
            raise ModelNotFound(name)
        if model.embeds:
            vectors = embedding_planning.serving(model, self.embedding_deployments, self.vectors_coming)
            return Card(name, model, vectors)
        return Card(name, model, serving(model, self.catalogue, self.deployments))

    def why_not_ready(self) -> str | None:
        """Return None when a chat call would be answered now, else the reason."""
        if self.stopping:
            return say("shutting down", "正在关闭")
        if self.starting is not None:
            return self.starting
        reasons = [deployment.engine.why_not_ready() for deployment in self.deployments]
        if not reasons:
            return say("there is no deployment", "没有任何部署")
        return reasons[0] if all(reasons) else None

    def troubles(self) -> list[str]:
        """Return what is wrong with engines that should be running, a sentence each."""
        found = [deployment.engine.trouble() for deployment in self.deployments]
        return [trouble for trouble in found if trouble is not None]

    async def close(self) -> None:
        for deployment in self.deployments:
            await deployment.engine.close()
        for vectors in self.embedding_deployments:
            await vectors.engine.close()
        await self.store.close()
