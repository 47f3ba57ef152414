"""The use case of a text completion: which names fill gaps in code, what may answer, and the answer itself."""

from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec

from hanlin.catalogue.models import Catalogue, Model
from hanlin.errors import ModelNotFound, ModelNotSupported, UnsupportedHere
from hanlin.metering.estimate import texts_tokens
from hanlin.service.attempts import Call
from hanlin.service.chat import so_far
from hanlin.service.continuing import Said, less
from hanlin.service.deployments import Deployment, Route, Serving, Target, remedy
from hanlin.service.gap_by_chat import fill_by_chat
from hanlin.service.patience import Within
from hanlin.service.planning import ANSWER_TOKENS, check_lengths, filled
from hanlin.types import Answering, ChatResult, CompletionRequest, Events, Usage, fold
from hanlin.words import say

_HONOURED = frozenset({"model", "prompt", "suffix", "stream", "stream_options"})


@dataclass(frozen=True)
class CompletionPlan:
    """A completion that may be made: the request with everything filled in, and who answers it."""

    request: CompletionRequest
    model: Model
    deployment: Deployment
    answering: Answering
    stream: Callable[[CompletionRequest], Events]

    def whole(self, request: CompletionRequest) -> Coroutine[Any, Any, ChatResult] | None:  # noqa: ARG002
        """Its answers come in pieces: only then does every engine notice a hang-up."""
        return None


@dataclass(frozen=True)
class AskedText:
    """A completion that the contract allows, and what may answer it. It is what `attempts.Wanted` says."""

    request: CompletionRequest
    model: Model
    catalogue: Catalogue
    route: Route[Deployment]

    def weight(self) -> tuple[int, int]:
        return texts_tokens(tuple(self.pieces())), self.request.sampling.max_tokens or ANSWER_TOKENS

    def pieces(self) -> Iterable[str]:
        return self.request.prompt, self.request.suffix or ""

    def planned(self, target: Target[Deployment]) -> CompletionPlan:
        request, deployment = self.request, target.deployment
        profile = deployment.profile
        learned = _learned(deployment)
        if not learned and any(_learned(other.deployment) for other in self.route.targets):
            raise UnsupportedHere(
                f"{request.model} is answered here by {deployment.title}, which never learned to fill gaps in code",
                param="model",
            )
        sampling = filled(request.sampling, self.model, self.catalogue, profile)
        return CompletionPlan(
            request=msgspec.structs.replace(request, sampling=sampling),
            model=self.model,
            deployment=deployment,
            answering=Answering(
                model=request.model,
                deployment=deployment.name,
                fingerprint=deployment.fingerprint,
                served=target.served,
                ignored=tuple(
                    sorted(name for name in request.given if name not in _HONOURED and not profile.honours(name))
                ),
            ),
            stream=deployment.engine.fill if learned else partial(fill_by_chat, generate=deployment.engine.generate),
        )

    def says(self) -> Said:
        return Said(hidden=not self.request.stream, plain=True)

    def continues(self, deployment: Deployment) -> bool:
        """What has been said is a prompt like any other: whoever learned it can go on."""
        return _learned(deployment)

    def continued(self, request: CompletionRequest, text: str, tokens: int) -> CompletionRequest:
        """In a gap as well: what was said stands before what is left of it."""
        sampling = request.sampling
        return msgspec.structs.replace(
            request,
            prompt=request.prompt + text,
            sampling=msgspec.structs.replace(sampling, max_tokens=less(sampling.max_tokens, tokens)),
        )

    put_together = staticmethod(fold)


def _learned(deployment: Deployment) -> bool:
    """Whether a deployment's weights learned to fill gaps, as far as anybody can tell; others are asked by chat."""
    return deployment.profile.completions or deployment.fills_gaps


CompletionCall = Call[CompletionPlan, ChatResult]


def asked(request: CompletionRequest, catalogue: Catalogue, served: Callable[[Model], Serving]) -> AskedText:
    """Return a completion that the contract allows. Raises ModelNotFound, ModelNotSupported and InvalidRequest."""
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
    if found.deployment is None:
        raise ModelNotFound(request.model, f"{say('Not served here', '此处无法提供')}: {found.why}. {remedy(model)}")
    check_lengths(request.sampling, model)
    return AskedText(request, model, catalogue, found.route)


async def complete(call: CompletionCall, limit_s: float) -> ChatResult:
    """Return a completion's whole text, or after `limit_s` what there is of it, its usage estimated.

    Raises RequestTimedOut when there is nothing until then.
    """
    try:
        with Within(call.router.watch, limit_s):
            return await call.answer()
    except TimeoutError:
        result = so_far(call.heard, limit_s)
        return msgspec.structs.replace(result, usage=Usage(call.prompt_tokens, call.pieces, estimated=True))
