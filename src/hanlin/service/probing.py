"""See that idle deployments still generate: each is asked for one token now and then.

A server that answers its health page and generates nothing is the failure that pages cannot show. Live calls prove more
than probes do, so only who is idle, suspected, or due for its single probe after a rest is asked.
"""

import asyncio
import logging
from contextlib import aclosing
from functools import partial

from hanlin.errors import EngineError, EngineFailed, EngineStalled, HanlinError
from hanlin.routing.health import Standing
from hanlin.service.deployments import Deployment
from hanlin.service.studio import Studio
from hanlin.settings import Settings
from hanlin.types import ChatRequest, Message, Sampling

log = logging.getLogger("hanlin.service")

_LOOK_EVERY_S = 1.0


def is_due(standing: Standing, now: float, probe_s: float, known_since: float = 0.0) -> bool:
    """Whether a deployment, known since a time, should be asked for a token now."""
    state = standing.state(now)
    if state == "well":
        idle_since = max(standing.last_sign, known_since)
        return standing.suspected(now) or (not standing.open_calls and now - idle_since >= probe_s)
    return state == "to_probe"


def patience_s(deployment: Deployment, settings: Settings) -> float:
    """Return how long a probe may take: one beside long prompts waits for them, as every call does."""
    return settings.first_byte_s if deployment.standing.open_calls else settings.stall_s


class Prober:
    """Owns the probes that are under way, at most one a deployment."""

    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._asking: dict[str, asyncio.Task[None]] = {}
        self._known_since: dict[str, float] = {}

    async def run(self) -> None:
        """Ask whoever is due, until cancelled."""
        try:
            while True:
                await asyncio.sleep(_LOOK_EVERY_S)
                self.look()
        finally:
            for task in self._asking.values():
                task.cancel()
            await asyncio.gather(*self._asking.values(), return_exceptions=True)

    def look(self) -> None:
        """Start the probes that are due now."""
        now, settings = self._studio.router.clock(), self._studio.settings
        deployments = {one.name: one for one in self._studio.deployments if one.probe_model}
        self._known_since = {name: self._known_since.get(name, now) for name in deployments}
        for name, deployment in deployments.items():
            due = is_due(deployment.standing, now, settings.probe_s, self._known_since[name])
            if due and name not in self._asking:
                task = self._asking[name] = asyncio.create_task(self.ask(deployment, patience_s(deployment, settings)))
                task.add_done_callback(partial(self._asked, name))

    def _asked(self, name: str, task: asyncio.Task[None]) -> None:
        del self._asking[name]
        if not task.cancelled() and (problem := task.exception()) is not None:
            log.error("deployment %s could not be probed", name, exc_info=problem)

    async def ask(self, deployment: Deployment, within_s: float) -> None:
        """Ask a deployment for one token, and leave a verdict on it. A call that probes it already is not disturbed."""
        clock, standing = self._studio.router.clock, deployment.standing
        probing = standing.probe_begins(clock())
        if not probing and standing.state(clock()) != "well":
            return
        request = ChatRequest(deployment.probe_model, (Message("user", "1"),), sampling=Sampling(max_tokens=1))
        try:
            async with asyncio.timeout(within_s), aclosing(deployment.engine.generate(request)) as bursts:
                async for burst in bursts:
                    if burst:
                        break
                else:
                    raise EngineFailed("its answer had no token")
            standing.succeeded(clock())
        except TimeoutError:
            self._failed(deployment, EngineStalled(within_s))
        except EngineError as problem:
            self._failed(deployment, problem)
        except HanlinError:
            standing.succeeded(clock())  # it read the request and declined it: it lives
        finally:
            if probing:
                standing.probe_left()

    def _failed(self, deployment: Deployment, problem: EngineError) -> None:
        deployment.standing.failed(problem, self._studio.router.clock())
        log.warning("deployment %s did not generate a token: %s", deployment.name, problem)
