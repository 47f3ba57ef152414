"""What a start would run and which names that would answer, worked out without starting anything.

The same decisions as a real start; only the engines are missing, so no call can be made.
"""

from hanlin.catalogue import Catalogue
from hanlin.engines.engine import Counters
from hanlin.engines.llama import SLOTS, Machine, context_that_fits
from hanlin.engines.profiles import profiles
from hanlin.errors import EngineUnavailable
from hanlin.home import Home
from hanlin.routing.capacity import Capacity
from hanlin.service import embedding_planning, embedding_start, start
from hanlin.service.deployments import Deployment, serving
from hanlin.service.fleet import assemble, stated
from hanlin.service.guests import with_guests
from hanlin.service.studio import Card
from hanlin.service.weights import Choice, titles
from hanlin.settings import Settings
from hanlin.types import ChatRequest, CompletionRequest, EmbeddingRequest, EmbeddingResult, Events
from hanlin.words import say


class NotRunning:
    """The engine of a deployment that only exists on paper."""

    def generate(self, request: ChatRequest) -> Events:  # noqa: ARG002
        raise EngineUnavailable(self.why_not_ready())

    def whole(self, request: ChatRequest) -> None:  # noqa: ARG002
        return None

    def fill(self, request: CompletionRequest) -> Events:  # noqa: ARG002
        raise EngineUnavailable(self.why_not_ready())

    async def count(self, request: ChatRequest) -> int | None:  # noqa: ARG002
        return None

    async def embed(self, request: EmbeddingRequest, limit_tokens: int | None) -> EmbeddingResult:  # noqa: ARG002
        raise EngineUnavailable(self.why_not_ready())

    def why_not_ready(self) -> str:
        return say("nothing is running: start `hanlin serve`", "服务未运行：请启动 `hanlin serve`")

    def trouble(self) -> str | None:
        return None

    def counters(self) -> Counters:
        return Counters()

    async def close(self) -> None:
        pass


def cards(home: Home, settings: Settings, catalogue: Catalogue, here: Machine) -> list[Card]:
    """Return every callable name with what would answer it, in the catalogue's order. Raises StartupError."""
    asked = stated(settings, catalogue)
    catalogue = with_guests(catalogue, asked.guests)
    fleet = assemble(
        asked, settings, catalogue, lambda row: (NotRunning(), profiles().engine_named(row.profile or row.engine))
    )
    deployments = (
        *fleet.deployments,
        *(_on_paper(choice, settings, here) for choice in start.choose_weights(settings, catalogue, home, here)),
    )
    vectors = list(fleet.vectors)
    if (weights := embedding_start.row(settings)) is not None:
        vectors.append(embedding_start.of_weights(weights, NotRunning(), settings))

    def card(name: str) -> Card:
        model = catalogue.by_name[name]
        if model.embeds:
            return Card(name, model, embedding_planning.serving(model, vectors, routes=fleet.routes))
        return Card(name, model, serving(model, catalogue, deployments, fleet.routes))

    return [card(name) for name in catalogue.names()]


def _on_paper(choice: Choice, settings: Settings, here: Machine) -> Deployment:
    wanted = choice.wanted
    slots = settings.slots or SLOTS
    context = settings.context_tokens or context_that_fits(here.free_bytes, wanted.size_bytes, slots)
    return Deployment(
        name=wanted.name,
        title=titles([wanted]),
        fingerprint=f"{wanted.name}@{wanted.sha256[:12]}",
        engine=NotRunning(),
        profile=profiles().engine["llama"],
        capacity=Capacity(slots, settings.queue_limit),
        embedded=True,
        repository=wanted.repository,
        context_tokens=min(context, choice.context_tokens),
    )
