"""What answers which name: deployments as values, and the mapping from the catalogue's names to them.

Pure. The mapping is the operator's (`serves`); without one, an embedded text model stands in for every text chat name.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from hanlin.catalogue.models import Catalogue, Model
from hanlin.engines.engine import Engine
from hanlin.engines.profiles import EngineProfile
from hanlin.routing.capacity import Capacity
from hanlin.types import Served
from hanlin.words import say


@dataclass(frozen=True)
class Deployment:
    """One model on one engine. `title` is what people read, `fingerprint` what every response carries.

    `repository` is the published model that it runs, "" when unknown. `context_tokens` is what one call may use,
    prompt and answer together, 0 when unknown. `serves` are names or patterns; embedded ones stand in for the rest.
    `thinking` is "prompted" where its weights never learned to think, `fills_gaps` says whether they learned that.
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


@dataclass(frozen=True)
class Serving:
    """What a name gets here. `why` says why it is unavailable, in the user's language, or is empty."""

    served: Served
    deployment: Deployment | None = None
    why: str = ""


def serving(model: Model, catalogue: Catalogue, deployments: Sequence[Deployment]) -> Serving:
    """Decide what answers a model's name: the operator's mapping first, then the same weights, then a stand-in.

    A name whose callers need what Hanlin does not carry yet (images, audio) is unavailable whoever is there.
    """
    if not model.chats:
        return Serving(Served.UNAVAILABLE, why=say("it is not a chat model", "它不是对话模型"))
    if lacking := catalogue.missing(model):
        return Serving(Served.UNAVAILABLE, why="; ".join(need.why for need in lacking))
    for deployment in deployments:
        if any(fnmatchcase(name, pattern) for pattern in deployment.serves for name in (model.name, *model.aliases)):
            return Serving(Served.UPSTREAM, deployment)
    embedded = [deployment for deployment in deployments if deployment.embedded]
    for deployment in embedded:
        if model.open_weights and deployment.repository == model.open_weights:
            exact = model.open_weights_match == "exact"
            return Serving(Served.EXACT if exact else Served.CLOSEST, deployment)
    if embedded:
        return Serving(Served.STAND_IN, embedded[0])
    return Serving(Served.UNAVAILABLE, why=say("no deployment serves this name", "没有部署提供该名称"))


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
