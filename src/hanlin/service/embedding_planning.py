"""Decide what a call for vectors gets: what answers the name, and what it must be refused or told.

Pure. As with chat, a parameter is honoured, or refused by name, or listed as ignored.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from hanlin.catalogue.models import Catalogue, Model, Vectors
from hanlin.engines.embedding import Embedder
from hanlin.errors import EngineUnavailable, InvalidRequest, ModelNotFound, ModelNotSupported
from hanlin.routing.capacity import Capacity
from hanlin.types import Answering, EmbeddingRequest, Served
from hanlin.words import say

_HONOURED = frozenset({"model", "input", "dimensions", "encoding_format"})
_PURPOSES = frozenset({"input_type", "text_type"})
_EVERYTHING = "*"


@dataclass(frozen=True)
class EmbeddingDeployment:
    """One embedding model on one engine. `title`, `fingerprint`, `repository` and `serves` are as a `Deployment`'s.

    `one_model`: it is one model whatever name it is asked for, so that a `serves` of everything says nothing about
    vectors. `tells_apart`: it makes a difference whether a text is a document or a query. `fits`: vectors of another
    length than promised are padded or shortened, else refused. `context_tokens` is 0: long texts are read in windows.
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

    def answers(self, model: Model) -> bool:
        """Whether the operator has mapped this name to it."""
        patterns = [pattern for pattern in self.serves if not (self.one_model and pattern == _EVERYTHING)]
        return any(fnmatchcase(name, pattern) for pattern in patterns for name in (model.name, *model.aliases))


@dataclass(frozen=True)
class EmbeddingServing:
    """What a name gets here. `why` says why it is unavailable, in the user's language, or is empty."""

    served: Served
    deployment: EmbeddingDeployment | None = None
    why: str = ""


@dataclass(frozen=True)
class EmbeddingPlan:
    """A call that may be made: what it promises, who answers it, how long vectors are to be, and the statement."""

    request: EmbeddingRequest
    deployment: EmbeddingDeployment
    dimensions: int
    limit_tokens: int | None
    answering: Answering


def serving(model: Model, deployments: Sequence[EmbeddingDeployment], coming: str = "") -> EmbeddingServing:
    """Decide what answers an embedding model's name: the operator's mapping, then its own weights, then a stand-in.

    `coming` says what is going on where weights that could answer are not here yet.
    """
    for deployment in deployments:
        if deployment.answers(model):
            return EmbeddingServing(Served.UPSTREAM, deployment)
    embedded = [deployment for deployment in deployments if deployment.embedded]
    for deployment in embedded:
        if model.open_weights and deployment.repository == model.open_weights:
            exact = model.open_weights_match == "exact"
            return EmbeddingServing(Served.EXACT if exact else Served.CLOSEST, deployment)
    if embedded:
        return EmbeddingServing(Served.STAND_IN, embedded[0])
    nothing = say("no deployment serves this name", "没有部署提供该名称")
    return EmbeddingServing(Served.UNAVAILABLE, why=coming or nothing)


def plan(
    request: EmbeddingRequest, catalogue: Catalogue, deployments: Sequence[EmbeddingDeployment], coming: str = ""
) -> EmbeddingPlan:
    """Return what to do about a request.

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
    found = serving(model, deployments, coming)
    if found.deployment is None:
        raise EngineUnavailable(coming) if coming else _unavailable(request.model, found)
    return EmbeddingPlan(
        request=request,
        deployment=found.deployment,
        dimensions=request.dimensions or model.vectors.default,
        limit_tokens=limit_tokens,
        answering=Answering(
            model=request.model,
            deployment=found.deployment.name,
            fingerprint=found.deployment.fingerprint,
            served=found.served,
            ignored=ignored(request, found.deployment),
        ),
    )


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
