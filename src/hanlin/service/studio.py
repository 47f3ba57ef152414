"""The running service as a whole: who may call, what answers which name, whether it is ready."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from hanlin.catalogue.models import Catalogue, Model
from hanlin.documents.values import Library
from hanlin.errors import EngineUnavailable, ModelNotFound
from hanlin.media.fetching import Fetcher
from hanlin.metering.journal import Journal
from hanlin.recipes.table import RECIPES
from hanlin.service import completion, embedding_planning
from hanlin.service.accounting import ALONE, Accounting, Sharing
from hanlin.service.attempts import Call, Router
from hanlin.service.chat import ChatCall
from hanlin.service.completion import CompletionCall
from hanlin.service.crew.messages import ProcessState
from hanlin.service.deployments import Deployment, Serving, serving
from hanlin.service.embedding import EmbeddingCall
from hanlin.service.embedding_planning import EmbeddingDeployment, EmbeddingServing
from hanlin.service.files import Files
from hanlin.service.fleet import Fleet
from hanlin.service.guests import with_guests
from hanlin.service.keyring import Keyring
from hanlin.service.library import WorkspaceLibrary
from hanlin.service.passage_vectors import PassageVectors
from hanlin.service.planning import Asked, asked, remembered
from hanlin.service.retention import Retention
from hanlin.service.scenarios import NO_DOCUMENTS, ScenarioCall
from hanlin.settings import Settings
from hanlin.store.database import Store
from hanlin.store.rows import DEFAULT_WORKSPACE
from hanlin.types import ChatRequest, CompletionRequest, EmbeddingRequest, Form
from hanlin.words import say

log = logging.getLogger("hanlin.service")

_KNOWN_FORMS = 512


@dataclass(frozen=True)
class Card:
    """One callable name with what it promises and what answers it here."""

    name: str
    model: Model
    serving: Serving | EmbeddingServing


@dataclass(frozen=True)
class DeploymentState:
    """A word for how a deployment is, and why it would not answer a call now; "" when it would."""

    word: str
    why_not: str


class Studio:
    """Owns the deployments and the database from the start to `close`.

    `starting` says what is still to be done before calls can be answered; None once that is over. `vectors_coming` says
    the same of the embedding weights, which come after everything else; "" when they are here or not wanted.
    `processes` are the workers of a service that has several. Without `files` none are taken: for services that only
    tests run.
    """

    def __init__(
        self,
        settings: Settings,
        catalogue: Catalogue,
        store: Store,
        secret: bytes,
        journal: Journal | None = None,
        sharing: Sharing = ALONE,
        files: Files | None = None,
    ) -> None:
        self.settings = settings
        self.catalogue = catalogue
        self.recipes = RECIPES
        self.router = Router(retry_share=settings.retry_share)
        self._own_catalogue = catalogue
        self._fleet = Fleet()
        self._deployments: tuple[Deployment, ...] = ()
        self._servings: dict[str, Serving] = {}
        self._forms: dict[Form, Asked] = {}
        self.embedding_deployments: tuple[EmbeddingDeployment, ...] = ()
        self.vectors_coming = ""
        self.starting: str | None = say("starting", "正在启动")
        self.stopping = False
        self.processes: tuple[ProcessState, ...] = ()
        self.store = store
        self.keyring = Keyring(store.keys, secret)
        self.accounting = Accounting(store, catalogue, journal, sharing, is_embedded=self._is_embedded)
        self.files = files
        self._fetcher = Fetcher(allowed=settings.fetch_networks, most_bytes=settings.max_document_bytes)
        self.retention = Retention(store, settings.ledger_keep_days, self.accounting.is_behind)

    @property
    def deployments(self) -> tuple[Deployment, ...]:
        """Everything that generates: the operator's first, then the weights that Hanlin runs itself."""
        return self._deployments

    @deployments.setter
    def deployments(self, deployments: Sequence[Deployment]) -> None:
        self._deployments = tuple(deployments)
        self._servings.clear()
        self._forms.clear()

    @property
    def fleet(self) -> Fleet:
        return self._fleet

    @property
    def own_catalogue(self) -> Catalogue:
        """The catalogue without the names of the operator's own."""
        return self._own_catalogue

    def adopt(self, fleet: Fleet) -> list[Deployment | EmbeddingDeployment]:
        """Serve by another version of the settings from now on; return the deployments that it no longer has.

        Calls that run go on where they are: who retires a deployment waits for them.
        """
        before, now = self._fleet.deployments, fleet.deployments
        vectors_before = self._fleet.vectors
        embedded = [deployment for deployment in self._deployments if deployment not in before]
        for gone in [one for one in before if one not in now]:
            self.router.prefixes.forget(gone.name)
        self._fleet = fleet
        if fleet.prices is not None:
            self.accounting.exchange(fleet.prices)
        self.catalogue = with_guests(self._own_catalogue, fleet.guests)
        self.deployments = (*now, *embedded)
        own_vectors = [deployment for deployment in self.embedding_deployments if deployment.embedded]
        self.embedding_deployments = (*fleet.vectors, *own_vectors)
        dropped: list[Deployment | EmbeddingDeployment] = [one for one in before if one not in now]
        return dropped + [vectors for vectors in vectors_before if vectors not in fleet.vectors]

    def _is_embedded(self, deployment: str) -> bool:
        names = [one.name for one in self._deployments if one.embedded]
        return deployment in names or any(one.embedded and one.name == deployment for one in self.embedding_deployments)

    def serving(self, model: Model) -> Serving:
        """Return what a chat name gets here; worked out once for each version of the settings."""
        found = self._servings.get(model.name)
        if found is None:
            found = serving(model, self.catalogue, self._deployments, self._fleet.routes)
            self._servings[model.name] = found
        return found

    async def load_recipes(self) -> None:
        """Load the scenarios of the names that something answers here, beside the calls: else the first ones wait."""
        scenarios = [model for model in self.catalogue.models.values() if model.recipe in self.recipes]
        for name in sorted({model.recipe for model in scenarios if self.serving(model).deployment is not None}):
            await asyncio.to_thread(self.recipes.get, name)

    def call(
        self,
        request: ChatRequest,
        *,
        began: float | None = None,
        ends_s: dict[str, float] | None = None,
        who: str = "",
        workspace: str = DEFAULT_WORKSPACE,
    ) -> ChatCall:
        """Return a chat call that may be made, for whoever may read the documents of a workspace.

        Raises as `planning.asked` and `Call`, EngineUnavailable while the service starts or stops.
        """
        if self.stopping:
            raise EngineUnavailable(say("the service is shutting down", "服务正在关闭"))
        known = self._forms.get(request.form) if request.form is not None else None
        allowed = self._asked(request) if known is None else msgspec.structs.replace(known, request=request)
        if allowed.recipe is not None:
            return ScenarioCall(
                allowed,
                self.router,
                self.library(workspace),
                self.embedding,
                self._fetcher,
                began=began,
                ends_s=ends_s,
                who=who,
            )
        return Call(allowed, self.router, began=began, ends_s=ends_s, who=who)

    def _asked(self, request: ChatRequest) -> Asked:
        try:
            allowed = asked(request, self.catalogue, self.serving, strict=self.settings.strict, recipes=self.recipes)
        except ModelNotFound:
            # A name that nothing answers yet may be answered once the weights are here.
            model = self.catalogue.find(request.model)
            if self.starting is None or model is None or self.catalogue.missing(model):
                raise
            raise EngineUnavailable(self.starting) from None
        if request.form is not None and (known := remembered(allowed)) is not None:
            if len(self._forms) >= _KNOWN_FORMS:
                self._forms.clear()
            self._forms[request.form] = known
        return allowed

    def completion(
        self,
        request: CompletionRequest,
        *,
        began: float | None = None,
        ends_s: dict[str, float] | None = None,
        who: str = "",
    ) -> CompletionCall:
        """Return a text completion that may be made. Raises as `completion.asked` and `Call`, and as `call` does."""
        if self.stopping:
            raise EngineUnavailable(say("the service is shutting down", "服务正在关闭"))
        try:
            allowed = completion.asked(request, self.catalogue, self.serving)
        except ModelNotFound:
            if self.starting is None or self.catalogue.find(request.model) is None:
                raise
            raise EngineUnavailable(self.starting) from None
        return Call(allowed, self.router, began=began, ends_s=ends_s, who=who)

    def embedding(
        self,
        request: EmbeddingRequest,
        *,
        began: float | None = None,
        ends_s: dict[str, float] | None = None,
        who: str = "",
    ) -> EmbeddingCall:
        """Return a call for vectors that may be made. Raises as `embedding_planning.asked` and `Call`.

        EngineUnavailable while the service stops, or what answers is still to come.
        """
        if self.stopping:
            raise EngineUnavailable(say("the service is shutting down", "服务正在关闭"))
        coming = self.vectors_coming or self.starting or ""
        allowed = embedding_planning.asked(
            request, self.catalogue, self.embedding_deployments, coming, self._fleet.routes
        )
        return Call(allowed, self.router, began=began, ends_s=ends_s, who=who)

    def library(self, workspace: str) -> Library:
        """Return the documents of a workspace."""
        files = self.files
        return NO_DOCUMENTS if files is None else WorkspaceLibrary(files, workspace)

    def cards(self) -> list[Card]:
        """Return every callable name, in the catalogue's order."""
        return [self.card(name) for name in self.catalogue.names()]

    def card(self, name: str) -> Card:
        """Return one name's card. Raises ModelNotFound."""
        model = self.catalogue.find(name)
        if model is None:
            raise ModelNotFound(name)
        if model.embeds:
            vectors = embedding_planning.serving(
                model, self.embedding_deployments, self.vectors_coming, self._fleet.routes
            )
            return Card(name, model, vectors)
        return Card(name, model, self.serving(model))

    def why_not_ready(self) -> str | None:
        """Return None when a chat call would be answered now, else the reason."""
        if self.stopping:
            return say("shutting down", "正在关闭")
        if self.starting is not None:
            return self.starting
        reasons = [self.state(deployment).why_not for deployment in self.deployments]
        if not reasons:
            return say("there is no deployment", "没有任何部署")
        return reasons[0] if all(reasons) else None

    def state(self, deployment: Deployment | EmbeddingDeployment) -> DeploymentState:
        """Return how a deployment is: what its engine says first, then what its calls have shown."""
        now = self.router.clock()
        standing = deployment.standing
        if (why := deployment.engine.why_not_ready()) is not None:
            exited = deployment.engine.trouble() is not None
            return DeploymentState("exited" if exited else "loading", why)
        if (word := standing.state(now)) in ("resting", "probing"):
            return DeploymentState(word, standing.health.why or word)
        if standing.suspected(now):
            return DeploymentState("suspected", say("its calls are silent", "其调用长时间无响应"))
        return DeploymentState("ready", "")

    def troubles(self) -> list[str]:
        """Return what is wrong with engines that should be running, a sentence each."""
        found = [deployment.engine.trouble() for deployment in self.deployments]
        return [trouble for trouble in found if trouble is not None]

    async def run_files(self, *, reads: bool = True, tidies: bool = True) -> None:
        """Read uploaded documents, and delete what nobody has any more, until cancelled."""
        if self.files is None:
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(self.files.run(reads=reads, tidies=tidies))
            if reads and self.settings.document_vectors:
                group.create_task(PassageVectors(self.files.shelf, self.embedding, self._is_busy).run())

    def _is_busy(self) -> bool:
        """Whether somebody waits for what is made here."""
        return any(one.embedded and one.capacity.running for one in self.deployments) or any(
            one.embedded and one.capacity.running for one in self.embedding_deployments
        )

    async def close(self) -> None:
        if self.files is not None:
            await self.files.close()
        await self.keyring.close()
        await self.accounting.close()
        for deployment in self.deployments:
            await deployment.engine.close()
        for vectors in self.embedding_deployments:
            await vectors.engine.close()
        await self.store.close()
