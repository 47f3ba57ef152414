"""Small values that unit tests start from: a request, a model, a catalogue, a deployment."""

from typing import Any

from hanlin.catalogue.models import Catalogue, Model, SamplingGroup
from hanlin.catalogue.tasks import Tasks
from hanlin.engines.engine import Engine
from hanlin.engines.profiles import EngineProfile, profiles
from hanlin.routing.capacity import Capacity
from hanlin.service.deployments import Deployment
from hanlin.service.planning import Plan
from hanlin.types import Answering, ChatRequest, Message, Served

ANSWERING = Answering("qwen-plus", "small", "small@0123456789ab", Served.STAND_IN)


def request(content: str = "你好", **fields: Any) -> ChatRequest:
    """Return a request of one user message to qwen-plus."""
    return ChatRequest(**{"model": "qwen-plus", "messages": (Message("user", content),), **fields})


def model(name: str = "qwen-plus", **fields: Any) -> Model:
    """Return a chat model without limits."""
    basics: dict[str, Any] = {
        "name": name,
        "family": "plus",
        "owner": "qwen",
        "description": "One.",
        "suits": ("general",),
        "grade": 3,
        "endpoint": "chat/completions",
        "source": "https://example.org",
        "as_of": "2026-10",
    }
    return Model(**(basics | fields))


def catalogue_of(
    *models: Model, groups: tuple[SamplingGroup, ...] = (), needs: dict[str, Any] | None = None
) -> Catalogue:
    """Return a catalogue of these models only."""
    by_name = {name: model for model in models for name in (model.name, *model.aliases)}
    return Catalogue(
        models={model.name: model for model in models},
        by_name=by_name,
        groups={group.name: group for group in groups},
        families={},
        needs=needs or {},
        features={},
        owners={},
        tasks=Tasks({}, (), ()),
    )


def deployment(engine: Engine, profile: EngineProfile | None = None, **fields: Any) -> Deployment:
    """Return an embedded deployment named `small` with four slots and room for four more calls."""
    basics: dict[str, Any] = {
        "name": "small",
        "title": "Small-0.5B Q4",
        "fingerprint": "small@0123456789ab",
        "engine": engine,
        "profile": profile or profiles().engine["llama"],
        "capacity": Capacity(4, 4),
        "embedded": True,
    }
    return Deployment(**(basics | fields))


def plan_of(engine: Engine, asked: ChatRequest | None = None, *, limits: Model | None = None, **fields: Any) -> Plan:
    """Return the plan of a request that a deployment of this engine answers."""
    return Plan(asked or request(), limits or model(), deployment(engine, **fields), ANSWERING)
