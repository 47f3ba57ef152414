"""What answers which name: deployments as values, and the mapping from the catalogue's names to them.

Pure. The mapping is the operator's (`[[route]]`, then `serves`); without one, an embedded text model stands in for
every text chat name.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from itertools import groupby
from typing import Generic, Protocol, TypeVar

from hanlin.catalogue.models import Catalogue, Model
from hanlin.engines.engine import Engine
from hanlin.engines.profiles import EngineProfile
from hanlin.routing.capacity import Capacity
from hanlin.routing.health import Standing
from hanlin.routing.order import Choose
from hanlin.settings import RouteRow
from hanlin.types import Served
from hanlin.words import say

EMBEDDED = "embedded"
"""What routes call the weights that Hanlin runs itself."""


@dataclass(frozen=True)
class Deployment:
    """One model on one engine. `title` is what people read, `fingerprint` what every response carries.

    `repository` is the published model that it runs, "" when unknown. `context_tokens` is what one call may use,
    prompt and answer together, 0 when unknown. `serves` are names or patterns; embedded ones stand in for the rest.
    `thinking` is "prompted" where its weights never learned to think, `fills_gaps` says whether they learned that.
    `runs` is the same for deployments that are replicas of each other. `probe_model` is the name that it is asked for a
    token by, to see that it generates; "" for engines with a supervisor of their own, and where a call costs money.
    """

    name: str
    title: str
    fingerprint: str
    engine: Engine
    profile: EngineProfile
    capacity: Capacity
    embedded: bool
    repository: str = ""
    context_tokens: int = 0
    serves: tuple[str, ...] = ()
    thinking: str = ""
    fills_gaps: bool = False
    runs: str = ""
    probe_model: str = ""
    standing: Standing = field(default_factory=Standing, compare=False)


class Ready(Protocol):
    """What an engine of any kind says of itself."""

    def why_not_ready(self) -> str | None: ...


class Answers(Protocol):
    """What routing has to know of a deployment, whatever it makes: text or vectors. The words are `Deployment`'s."""

    @property
    def name(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def engine(self) -> Ready: ...
    @property
    def capacity(self) -> Capacity: ...
    @property
    def context_tokens(self) -> int: ...
    @property
    def standing(self) -> Standing: ...


D = TypeVar("D", bound=Answers)


@dataclass(frozen=True)
class Target(Generic[D]):
    """A deployment that may answer a name, and how it relates to the name.

    Tiers are tried in their order; `weight` counts within one. `fallback`: it answers with another model.
    """

    deployment: D
    served: Served
    tier: int = 0
    weight: float = 1.0
    fallback: bool = False


@dataclass(frozen=True)
class Route(Generic[D]):
    """Everything that may answer a name, and how one is chosen among those of a tier."""

    targets: tuple[Target[D], ...] = ()
    choose: Choose = "prefix"

    @cached_property
    def by_name(self) -> Mapping[str, Target[D]]:
        """The targets by their deployments' names."""
        return {target.deployment.name: target for target in self.targets}


@dataclass(frozen=True)
class Serving:
    """What a name gets here: as a rule `deployment`, the first of its `route`.

    `why` says why it is unavailable, in the user's language, or is empty.
    """

    served: Served
    deployment: Deployment | None = None
    why: str = ""
    route: Route[Deployment] = Route()


def serving(
    model: Model, catalogue: Catalogue, deployments: Sequence[Deployment], routes: Sequence[RouteRow] = ()
) -> Serving:
    """Decide what answers a model's name: the operator's mapping first, then the same weights, then a stand-in.

    A name whose callers need what Hanlin does not carry yet (images, audio) is unavailable whoever is there.
    """
    if not model.chats:
        return Serving(Served.UNAVAILABLE, why=say("it is not a chat model", "它不是对话模型"))
    if lacking := catalogue.missing(model):
        return Serving(Served.UNAVAILABLE, why="; ".join(need.why for need in lacking))
    for route in (_routed(model, deployments, routes), _mapped(model, deployments), _stand_in(model, deployments)):
        if route.targets:
            first = route.targets[0]
            return Serving(first.served, first.deployment, route=route)
    return Serving(Served.UNAVAILABLE, why=say("no deployment serves this name", "没有部署提供该名称"))


def relation(model: Model, deployment: Deployment) -> Served:
    """Say how what a deployment runs relates to a model's name."""
    if deployment.repository and deployment.repository == model.open_weights:
        return Served.EXACT if model.open_weights_match == "exact" else Served.CLOSEST
    return Served.STAND_IN if deployment.embedded or deployment.repository else Served.UPSTREAM


def matches(model: Model, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns is for the model, by its name or an alias."""
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in (model.name, *model.aliases))


def _routed(model: Model, deployments: Sequence[Deployment], routes: Sequence[RouteRow]) -> Route[Deployment]:
    """Return the operator's own route. Embedded weights that are still to come are left out of it."""
    row = next((row for row in routes if matches(model, row.names)), None)
    if row is None:
        return Route()
    weights = dict(zip(row.deployments, row.weights, strict=False))
    listed = row.choose == "listed"
    targets = [
        Target(found, relation(model, found), tier if listed else 0, weights.get(name, 1.0))
        for tier, name in enumerate(row.deployments)
        if (found := _named(name, model, deployments)) is not None
    ]
    fallbacks = [
        Target(found, relation(model, found), len(row.deployments) + tier, fallback=True)
        for tier, name in enumerate(row.fallbacks)
        if (found := _named(name, model, deployments)) is not None
    ]
    return Route((*targets, *fallbacks), row.choose)


def _named(name: str, model: Model, deployments: Sequence[Deployment]) -> Deployment | None:
    if name == EMBEDDED:
        return next((target.deployment for target in _stand_in(model, deployments).targets), None)
    return next((deployment for deployment in deployments if deployment.name == name), None)


def _mapped(model: Model, deployments: Sequence[Deployment]) -> Route[Deployment]:
    """Return the deployments whose `serves` names the model; replicas in a row share a tier.

    Those that state the name go before patterns, otherwise the file's order counts.
    """
    mapped = [deployment for deployment in deployments if matches(model, deployment.serves)]
    mapped.sort(key=lambda deployment: {model.name, *model.aliases}.isdisjoint(deployment.serves))
    groups = groupby(mapped, key=lambda deployment: deployment.runs or deployment.name)
    return Route(
        tuple(
            Target(deployment, relation(model, deployment), tier)
            for tier, (_, replicas) in enumerate(groups)
            for deployment in replicas
        )
    )


def _stand_in(model: Model, deployments: Sequence[Deployment]) -> Route[Deployment]:
    """Return the embedded weights of this name, or those that stand in for it."""
    embedded = [deployment for deployment in deployments if deployment.embedded]
    own = [deployment for deployment in embedded if relation(model, deployment) is not Served.STAND_IN]
    return Route(tuple(Target(deployment, relation(model, deployment)) for deployment in (own or embedded)[:1]))


def remedy(model: Model) -> str:
    """Return what an operator can do to have a name answered that nothing here can answer."""
    if model.open_weights and model.chats and not model.needs:
        return say(
            f"Run `hanlin pull {model.name}` and `hanlin serve --weights {model.name}`, "
            "or map the name to a server in hanlin.toml ([[deployment]])",
            f"请运行 `hanlin pull {model.name}` 与 `hanlin serve --weights {model.name}`，"
            "或在 hanlin.toml 中用 [[deployment]] 将该名称映射到某个服务",
        )
    if model.chats and not model.needs:
        return say(
            "Map the name to a server in hanlin.toml ([[deployment]])",
            "请在 hanlin.toml 中用 [[deployment]] 将该名称映射到某个服务",
        )
    return say(
        "`hanlin models` lists the names that are answered here",
        "`hanlin models` 会列出此处可用的名称",
    )
