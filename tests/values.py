"""Small values that unit tests start from: a request, a model, a catalogue, a deployment, a call, a clock."""

import asyncio
from dataclasses import dataclass
from typing import Any

from hanlin.catalogue.models import Catalogue, Model, SamplingGroup
from hanlin.catalogue.tasks import Tasks
from hanlin.engines.engine import Engine
from hanlin.engines.profiles import EngineProfile, profiles
from hanlin.routing.capacity import Capacity
from hanlin.routing.order import Choose
from hanlin.service.attempts import Call, Router
from hanlin.service.chat import ChatCall, complete, generate
from hanlin.service.deployments import Deployment, Route, Target
from hanlin.service.planning import Asked, Plan
from hanlin.types import Answering, ChatRequest, ChatResult, Event, Message, Served, Thinking

LIMIT_S = 10.0
"""How long what should take no time may take."""

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
    here = deployment(engine, **fields)
    return Plan(asked or request(), limits or model(), here, ANSWERING, engine.generate, engine.whole)


def call_of(plan: Plan, router: Router | None = None) -> ChatCall:
    """Return a call that runs as planned, on the plan's deployment alone."""
    route = Route((Target(plan.deployment, plan.answering.served),))
    call = Call(Asked(plan.request, plan.model, catalogue_of(plan.model), Thinking(), route), router or Router())
    call.plan = plan
    return call


@dataclass
class Clock:
    """A clock that stands still until a test moves it."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def router_of(clock: Clock | None = None, *, draw: float = 0.0, retry_share: float = 0.1) -> Router:
    """Return a router that has seen nothing yet, to which time and chance are what a test says."""
    return Router(clock or Clock(), lambda: draw, retry_share=retry_share)


def server_of(engine: Engine, name: str, profile: str = "vllm", **fields: Any) -> Deployment:
    """Return a server of the operator's own; it can continue an answer unless its profile says otherwise."""
    basics: dict[str, Any] = {"name": name, "title": name, "fingerprint": name, "embedded": False}
    return deployment(engine, profiles().engine[profile], **(basics | fields))


def route_of(
    *deployments: Deployment, fallback: Deployment | None = None, choose: Choose = "listed"
) -> Route[Deployment]:
    """Return a route to deployments of a name's own model, each in its order, and to one of another model."""
    own = [Target(one, Served.UPSTREAM, tier if choose == "listed" else 0) for tier, one in enumerate(deployments)]
    others = [Target(fallback, Served.STAND_IN, len(own), fallback=True)] if fallback is not None else []
    return Route((*own, *others), choose)


def routed_call(
    route: Route[Deployment],
    asked: ChatRequest | None = None,
    router: Router | None = None,
    *,
    limits: Model | None = None,
    thinking: Thinking | None = None,
    ends_s: dict[str, float] | None = None,
) -> ChatCall:
    """Return a call of a name that a route answers. Raises as `Call`."""
    limits = limits or model()
    allowed = Asked(asked or request(), limits, catalogue_of(limits), thinking or Thinking(), route)
    return Call(allowed, router or router_of(), ends_s=ends_s)


async def whole(call: ChatCall) -> ChatResult:
    """Return a call's whole answer, as callers without a stream get it."""
    return await complete(call, LIMIT_S)


async def events_of(call: ChatCall) -> list[Event]:
    """Return everything that comes of a call."""
    async with asyncio.timeout(LIMIT_S):
        return [event async for burst in generate(call) for event in burst]
