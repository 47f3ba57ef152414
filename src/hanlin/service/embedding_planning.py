"""Decide what a call for vectors gets: what may answer the name, and what it must be refused or told.

As with chat, a parameter is honoured, or refused by name, or listed as ignored. Unlike texts, vectors of two models
have nothing to do with each other, and an index that is made of both finds nothing: a call goes on to deployments of
the same model alone.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import groupby
from typing import Never

import msgspec

from hanlin.catalogue.models import Catalogue, Model, Vectors
from hanlin.engines.embedding import Embedder
from hanlin.engines.vectors import fitted
from hanlin.errors import EngineUnavailable, InvalidRequest, ModelNotFound, ModelNotSupported, UnsupportedHere
from hanlin.metering.estimate import texts_tokens
from hanlin.routing.capacity import Capacity
from hanlin.routing.health import Standing
from hanlin.service.continuing import Said
from hanlin.service.deployments import EMBEDDED, Route, Target, matches
from hanlin.settings import RouteRow
from hanlin.types import Answering, EmbeddingRequest, EmbeddingResult, Event, Served
from hanlin.words import say

_HONOURED = frozenset({"model", "input", "dimensions", "encoding_format"})
_PURPOSES = frozenset({"input_type", "text_type"})
_EVERYTHING = "*"


@dataclass(frozen=True)
class EmbeddingDeployment:
    """One embedding model on one engine. `title`, `fingerprint`, `repository`, `serves` and `runs` are as a
    `Deployment`'s.

    `one_model`: it is one model whatever name it is asked for, so that a `serves` of everything says nothing about
    vectors. `tells_apart`: it makes a difference whether a text is a document or a query. `fits`: vectors of another
    length than promised are padded or shortened, else refused. `context_tokens` is 0: long texts are read in windows.
    `there` says what a name is called where it is answered: deployments that call it the same make the same vectors.
    A server's `capacity` is that of its chat, too.
    """

    name: str
    title: str
    fingerprint: str
    engine: Embedder
    capacity: Capacity
    embedded: bool
    repository: str = ""
    serves: tuple[str, ...] = ()
    one_model: bool = False
    tells_apart: bool = False
    fits: bool = False
    context_tokens: int = 0
    there: Callable[[str], str] = field(default=str, compare=False)
    runs: str = ""
    standing: Standing = field(default_factory=Standing, compare=False)

    def answers(self, model: Model) -> bool:
        """Whether the operator has mapped this name to it."""
        patterns = [pattern for pattern in self.serves if not (self.one_model and pattern == _EVERYTHING)]
        return any(fnmatchcase(name, pattern) for pattern in patterns for name in (model.name, *model.aliases))


_NO_ROUTE: Route[EmbeddingDeployment] = Route()


@dataclass(frozen=True)
class EmbeddingServing:
    """What a name gets here: as a rule `deployment`, the first of its `route`.

    `why` says why it is unavailable, in the user's language, or is empty.
    """

    served: Served
    deployment: EmbeddingDeployment | None = None
    why: str = ""
    route: Route[EmbeddingDeployment] = _NO_ROUTE


@dataclass(frozen=True)
class EmbeddingPlan:
    """A call that may be made: what it promises, who answers it, how long vectors are to be, and the statement."""

    request: EmbeddingRequest
    deployment: EmbeddingDeployment
    dimensions: int
    limit_tokens: int | None
    answering: Answering
    stream: None = None

    async def whole(self, request: EmbeddingRequest) -> EmbeddingResult:
        """Return the vectors, as long as promised."""
        return _as_promised(await self.deployment.engine.embed(request, self.limit_tokens), self)


@dataclass(frozen=True)
class AskedVectors:
    """A call for vectors that the contract allows, and what may answer it. It is what `attempts.Wanted` says."""

    request: EmbeddingRequest
    dimensions: int
    limit_tokens: int | None
    route: Route[EmbeddingDeployment]

    def weight(self) -> tuple[int, int]:
        return texts_tokens(self.request.texts), 0

    def pieces(self) -> Iterable[str]:
        """Nothing: no engine keeps what it has read of them."""
        return ()

    def planned(self, target: Target[EmbeddingDeployment]) -> EmbeddingPlan:
        request, deployment = self.request, target.deployment
        return EmbeddingPlan(
            request=request,
            deployment=deployment,
            dimensions=self.dimensions,
            limit_tokens=self.limit_tokens,
            answering=Answering(
                model=request.model,
                deployment=deployment.name,
                fingerprint=deployment.fingerprint,
                served=target.served,
                ignored=ignored(request, deployment),
            ),
        )

    def says(self) -> Said:
        return Said(hidden=True, plain=False)

    def continues(self, _deployment: EmbeddingDeployment) -> bool:
        return False

    def continued(self, _request: EmbeddingRequest, _text: str, _tokens: int) -> Never:
        raise AssertionError("there is no half of a vector to go on with")

    def put_together(self, _events: Sequence[Event]) -> EmbeddingResult:
        raise AssertionError("vectors do not come as events")


def serving(
    model: Model,
    deployments: Sequence[EmbeddingDeployment],
    coming: str = "",
    routes: Sequence[RouteRow] = (),
) -> EmbeddingServing:
    """Decide what answers an embedding model's name: the operator's mapping, then its own weights, then a stand-in.

    `coming` says what is going on where weights that could answer are not here yet.
    """
    for route in (_routed(model, deployments, routes), _mapped(model, deployments), _own(model, deployments)):
        if route.targets:
            first = route.targets[0]
            alike = tuple(target for target in route.targets if _makes_the_same(target, first, model.name))
            return EmbeddingServing(first.served, first.deployment, route=Route(alike, route.choose))
    nothing = say("no deployment serves this name", "没有部署提供该名称")
    return EmbeddingServing(Served.UNAVAILABLE, why=coming or nothing)


def _makes_the_same(one: Target[EmbeddingDeployment], other: Target[EmbeddingDeployment], name: str) -> bool:
    if one.deployment is other.deployment:
        return True
    servers = not one.deployment.embedded and not other.deployment.embedded
    return servers and one.deployment.there(name) == other.deployment.there(name)


def _routed(
    model: Model, deployments: Sequence[EmbeddingDeployment], routes: Sequence[RouteRow]
) -> Route[EmbeddingDeployment]:
    """Return the operator's own route, without its fallbacks, which are other models."""
    row = next((row for row in routes if matches(model, row.names)), None)
    if row is None:
        return Route()
    weights = dict(zip(row.deployments, row.weights, strict=False))
    listed = row.choose == "listed"
    return Route(
        tuple(
            Target(found, relation(model, found), tier if listed else 0, weights.get(name, 1.0))
            for tier, name in enumerate(row.deployments)
            if (found := _named(name, deployments)) is not None
        ),
        row.choose,
    )


def _named(name: str, deployments: Sequence[EmbeddingDeployment]) -> EmbeddingDeployment | None:
    return next((one for one in deployments if (one.embedded if name == EMBEDDED else one.name == name)), None)


def _mapped(model: Model, deployments: Sequence[EmbeddingDeployment]) -> Route[EmbeddingDeployment]:
    """Return the deployments that the operator has mapped the name to, in the file's order; replicas share a tier."""
    groups = groupby((one for one in deployments if one.answers(model)), key=lambda one: one.runs or one.name)
    return Route(tuple(Target(one, Served.UPSTREAM, tier) for tier, (_, many) in enumerate(groups) for one in many))


def _own(model: Model, deployments: Sequence[EmbeddingDeployment]) -> Route[EmbeddingDeployment]:
    """Return the embedded weights of this name, or those that stand in for it."""
    embedded = [Target(one, relation(model, one)) for one in deployments if one.embedded]
    own = [target for target in embedded if target.served is not Served.STAND_IN]
    return Route(tuple((own or embedded)[:1]))


def relation(model: Model, deployment: EmbeddingDeployment) -> Served:
    """Say how the vectors of a deployment relate to a model's name."""
    if not deployment.embedded:
        return Served.UPSTREAM
    if model.open_weights and deployment.repository == model.open_weights:
        return Served.EXACT if model.open_weights_match == "exact" else Served.CLOSEST
    return Served.STAND_IN


def asked(
    request: EmbeddingRequest,
    catalogue: Catalogue,
    deployments: Sequence[EmbeddingDeployment],
    coming: str = "",
    routes: Sequence[RouteRow] = (),
) -> AskedVectors:
    """Return a call for vectors that the contract allows.

    Raises ModelNotFound, ModelNotSupported, InvalidRequest, and EngineUnavailable where an answer is only `coming`.
    """
    model = catalogue.find(request.model)
    if model is None:
        names = say("`hanlin models` lists the names.", "`hanlin models` 会列出可用的名称。")
        raise ModelNotFound(request.model, names)
    if model.vectors is None:
        raise ModelNotSupported(request.model, say("(it is no embedding model)", "（它不是向量模型）"))
    limit_tokens = model.input_limit_tokens()
    _check(request, model.name, model.vectors, limit_tokens)
    found = serving(model, deployments, coming, routes)
    if found.deployment is None:
        raise EngineUnavailable(coming) if coming else _unavailable(request.model, found)
    return AskedVectors(request, request.dimensions or model.vectors.default, limit_tokens, found.route)


def _as_promised(result: EmbeddingResult, plan: EmbeddingPlan) -> EmbeddingResult:
    """Return vectors of the length that the caller was promised: an index built for it takes no other."""
    found = len(result.vectors[0])
    if found == plan.dimensions:
        return result
    if not plan.deployment.fits:
        raise UnsupportedHere(
            f"What answers for {plan.request.model} here makes vectors of {found} numbers, not of {plan.dimensions}: "
            f"{plan.deployment.title}. Ask for dimensions={found} if {plan.request.model} has it, or set "
            "fit_vectors = true in its [[deployment]], which pads or shortens them",
            param="dimensions",
        )
    return msgspec.structs.replace(result, vectors=tuple(fitted(vector, plan.dimensions) for vector in result.vectors))


def _check(request: EmbeddingRequest, name: str, promises: Vectors, limit_tokens: int | None) -> None:
    if len(request.texts) > promises.texts:
        raise InvalidRequest(
            f"Value error, batch size is invalid, it should not be larger than {promises.texts}.", param="input"
        )
    if "" in request.texts:
        raise InvalidRequest(
            f"Range of input length should be [1, {limit_tokens}]: text {request.texts.index('')} of 'input' is empty",
            param="input",
        )
    if request.dimensions is not None and request.dimensions not in promises.dimensions:
        allowed = ", ".join(map(str, promises.dimensions))
        raise InvalidRequest(f"'dimensions' should be one of [{allowed}] for {name}", param="dimensions")


def ignored(request: EmbeddingRequest, deployment: EmbeddingDeployment) -> tuple[str, ...]:
    """Return the wire names that the caller sent and the answer does not honour, sorted."""
    honoured = _HONOURED | _PURPOSES if deployment.tells_apart else _HONOURED
    return tuple(sorted(request.given - honoured))


def _unavailable(name: str, found: EmbeddingServing) -> ModelNotFound:
    remedy = say(
        "Set embeddings = true, or map the name to a server in hanlin.toml ([[deployment]])",
        "请设置 embeddings = true，或在 hanlin.toml 中用 [[deployment]] 将该名称映射到某个服务",
    )
    return ModelNotFound(name, f"{say('Not served here', '此处无法提供')}: {found.why}. {remedy}")
