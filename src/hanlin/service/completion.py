"""The use case of a text completion: which names fill gaps in code, what answers, and the answer itself."""

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass

import msgspec

from hanlin.catalogue.models import Catalogue, Model
from hanlin.errors import ModelNotFound, ModelNotSupported, UnsupportedHere
from hanlin.service.deployments import Deployment, Serving, remedy
from hanlin.service.planning import check_lengths, filled
from hanlin.types import Answering, CompletionRequest, Events
from hanlin.words import say

_HONOURED = frozenset({"model", "prompt", "suffix", "stream", "stream_options"})


@dataclass(frozen=True)
class CompletionPlan:
    """A completion that may be made: the request with everything filled in, and who answers it."""

    request: CompletionRequest
    model: Model
    deployment: Deployment
    answering: Answering


def plan(request: CompletionRequest, catalogue: Catalogue, served: Callable[[Model], Serving]) -> CompletionPlan:
    """Return what to do about a request. Raises ModelNotFound, ModelNotSupported and InvalidRequest."""
    model = catalogue.find(request.model)
    if model is None:
        raise ModelNotFound(
            request.model, say("`hanlin models` lists the names.", "`hanlin models` 会列出可用的名称。")
        )
    if "fill_in_the_middle" not in model.features:
        raise ModelNotSupported(
            request.model, say("(it does not fill gaps: use chat)", "（它不支持代码补全接口：请使用对话接口）")
        )
    found = served(model)
    deployment = found.deployment
    if deployment is None:
        raise ModelNotFound(request.model, f"{say('Not served here', '此处无法提供')}: {found.why}. {remedy(model)}")
    if not deployment.profile.completions and not deployment.fills_gaps:
        raise UnsupportedHere(
            f"{request.model} is answered here by {deployment.title}, which never learned to fill gaps in code",
            param="model",
        )
    check_lengths(request.sampling, model)
    profile = deployment.profile
    return CompletionPlan(
        request=msgspec.structs.replace(request, sampling=filled(request.sampling, model, catalogue, profile)),
        model=model,
        deployment=deployment,
        answering=Answering(
            model=request.model,
            deployment=deployment.name,
            fingerprint=deployment.fingerprint,
            served=found.served,
            ignored=tuple(
                sorted(name for name in request.given if name not in _HONOURED and not profile.honours(name))
            ),
        ),
    )


async def generate(plan: CompletionPlan) -> Events:
    """Yield the events of the completion, then its usage. Closing the iterator stops the engine."""
    async with plan.deployment.capacity.place(), aclosing(plan.deployment.engine.fill(plan.request)) as events:
        async for burst in events:
            yield burst
