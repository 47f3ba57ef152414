"""What answers, told by the main process and adopted by its workers, so that all of them say the same."""

import asyncio
import dataclasses
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from hanlin.engines.engine import Engine
from hanlin.engines.profiles import EngineProfile
from hanlin.errors import StartupError
from hanlin.service.crew.engines import Remote, RemoteEmbedder, RemoteEngine
from hanlin.service.crew.line import Line
from hanlin.service.crew.messages import (
    Adopted,
    OwnChat,
    OwnVectors,
    ProcessState,
    Pulse,
    Roster,
    Shown,
    Surface,
)
from hanlin.service.crew.places import SharedCapacity
from hanlin.service.deployments import Deployment
from hanlin.service.embedding_planning import EmbeddingDeployment
from hanlin.service.fleet import Fleet, Member, Wanted, assemble, retire
from hanlin.service.studio import Studio
from hanlin.settings import DeploymentRow, Settings

log = logging.getLogger("hanlin.service")

_FEW_SLOTS = 4


# --- the main process' side


def roster(studio: Studio, version: int = 0) -> Roster:
    """Return what answers in a service, as its main process has it."""
    fleet = studio.fleet
    return Roster(
        version,
        fleet.wanted,
        {member.row.name: member.deployment.profile for member in fleet.members if member.row.engine},
        tuple(_own_chat(one) for one in studio.deployments if one.embedded),
        tuple(_own_vectors(one) for one in studio.embedding_deployments if one.embedded),
    )


def _own_chat(one: Deployment) -> OwnChat:
    return OwnChat(
        one.name,
        one.title,
        one.fingerprint,
        one.profile,
        one.capacity.slots,
        one.repository,
        one.context_tokens,
        one.thinking,
        one.fills_gaps,
    )


def _own_vectors(one: EmbeddingDeployment) -> OwnVectors:
    return OwnVectors(
        one.name, one.title, one.fingerprint, one.capacity.slots, one.repository, one.tells_apart, one.fits
    )


def pulse(studio: Studio, processes: Sequence[ProcessState], starting: str | None) -> Pulse:
    """Return how everything in the main process is at this moment."""
    shown = {_ref("chat", one.name): _shown(one) for one in studio.deployments}
    shown |= {_ref("vectors", one.name): _shown(one) for one in studio.embedding_deployments}
    return Pulse(starting, studio.vectors_coming, shown, tuple(processes))


def _shown(one: Deployment | EmbeddingDeployment) -> Shown:
    engine, capacity = one.engine, one.capacity
    restarts = connections = 0
    if isinstance(one, Deployment):
        counters = one.engine.counters()
        restarts, connections = counters.restarts, counters.connections
    return Shown(
        engine.why_not_ready(),
        engine.trouble(),
        restarts,
        connections,
        capacity.slots,
        capacity.running,
        capacity.waiting,
    )


def _ref(surface: Surface, name: str) -> str:
    return f"{surface}/{name}"


# --- a worker's side


def share(total: int, worker: int, workers: int) -> int:
    """Return one worker's part of a number; the parts of all add up to it. Workers count from 1."""
    return total // workers + (worker <= total % workers)


def has_few_slots(row: DeploymentRow, workers: int) -> bool:
    """Whether the main process counts the places at a server elsewhere, instead of each worker its part of them.

    That costs a round trip a call, and keeps a worker from being full while others are idle.
    """
    return row.slots < _FEW_SLOTS * workers


class Adopter:
    """Turns what the main process says into what a worker's studio serves."""

    def __init__(self, studio: Studio, line: Line, socket: Path, worker: int, workers: int) -> None:
        self.adopted = asyncio.Event()
        self._studio = studio
        self._line = line
        self._socket = socket
        self._worker = worker
        self._workers = workers
        # Who waits here waits beside those of the other workers.
        queue_limit = share(studio.settings.queue_limit, worker, workers)
        self._settings: Settings = dataclasses.replace(studio.settings, queue_limit=queue_limit)
        self._shown: dict[str, Shown] = {}
        self._processes: tuple[ProcessState, ...] = ()
        self._leaving: set[asyncio.Task[None]] = set()

    def roster(self, roster: Roster) -> None:
        """Serve by another roster from now on; calls that run go on where they are."""
        studio = self._studio
        try:
            fleet = Fleet() if roster.wanted is None else self._assembled(roster.wanted, roster.managed)
        except StartupError as problem:  # the main process has made the same of it: only their environments can differ
            log.error("what the main process serves cannot be served here: %s", problem)
            return
        for gone in studio.adopt(fleet):
            task = asyncio.create_task(retire(gone, studio.settings.call_limit_s))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
        here = {one.fingerprint: one for one in studio.deployments if one.embedded}
        own = [here.get(told.fingerprint) or self._own_chat(told) for told in roster.chats]
        studio.deployments = (*fleet.deployments, *own)
        vectors = {one.fingerprint: one for one in studio.embedding_deployments if one.embedded}
        own_vectors = [vectors.get(told.fingerprint) or self._own_vectors(told) for told in roster.vectors]
        studio.embedding_deployments = (*fleet.vectors, *own_vectors)
        self._told()
        self._line.tell(Adopted(roster.version))
        self.adopted.set()

    def pulse(self, pulse: Pulse) -> None:
        """Show how everything in the main process is."""
        self._shown = pulse.shown
        studio = self._studio
        studio.starting, studio.vectors_coming = pulse.starting, pulse.vectors_coming
        studio.processes = pulse.processes
        self._told()

    async def close(self) -> None:
        """Wait no longer for calls of deployments that are on their way out."""
        for task in self._leaving:
            task.cancel()
        await asyncio.gather(*self._leaving, return_exceptions=True)

    def _told(self) -> None:
        studio = self._studio
        capacities = [one.capacity for one in studio.deployments] + [
            one.capacity for one in studio.embedding_deployments
        ]
        for capacity in capacities:
            if isinstance(capacity, SharedCapacity):
                capacity.told()

    def _assembled(self, wanted: Wanted, managed: Mapping[str, EngineProfile]) -> Fleet:
        """Return the fleet of a version of the settings, with this worker's part of the places. Raises StartupError."""
        studio = self._studio
        shared = {row.name for row in wanted.rows if row.engine or has_few_slots(row, self._workers)}
        rows = tuple(row if row.name in shared else self._divided(row) for row in wanted.rows)
        fleet = assemble(
            dataclasses.replace(wanted, rows=rows),
            self._settings,
            studio.own_catalogue,
            lambda row: self._managed(row, managed[row.name]),
            studio.fleet,
        )
        members = [self._with_shared_places(one) if one.row.name in shared else one for one in fleet.members]
        return dataclasses.replace(fleet, members=tuple(members))

    def _divided(self, row: DeploymentRow) -> DeploymentRow:
        """Return a row with this worker's part of the places."""
        return msgspec.structs.replace(row, slots=share(row.slots, self._worker, self._workers))

    def _with_shared_places(self, member: Member) -> Member:
        if isinstance(member.deployment.capacity, SharedCapacity):
            return member
        vectors = member.vectors
        return dataclasses.replace(
            member,
            deployment=dataclasses.replace(member.deployment, capacity=self._places("chat", member.row.name)),
            vectors=vectors and dataclasses.replace(vectors, capacity=self._places("vectors", member.row.name)),
        )

    def _managed(self, row: DeploymentRow, profile: EngineProfile) -> tuple[Engine, EngineProfile]:
        return RemoteEngine(self._remote("chat", row.name), profile), profile

    def _own_chat(self, told: OwnChat) -> Deployment:
        return Deployment(
            name=told.name,
            title=told.title,
            fingerprint=told.fingerprint,
            engine=RemoteEngine(self._remote("chat", told.name), told.profile),
            profile=told.profile,
            capacity=self._places("chat", told.name),
            embedded=True,
            repository=told.repository,
            context_tokens=told.context_tokens,
            thinking=told.thinking,
            fills_gaps=told.fills_gaps,
        )

    def _own_vectors(self, told: OwnVectors) -> EmbeddingDeployment:
        return EmbeddingDeployment(
            name=told.name,
            title=told.title,
            fingerprint=told.fingerprint,
            engine=RemoteEmbedder(self._remote("vectors", told.name)),
            capacity=self._places("vectors", told.name),
            embedded=True,
            repository=told.repository,
            tells_apart=told.tells_apart,
            fits=told.fits,
        )

    def _remote(self, surface: Surface, name: str) -> Remote:
        return Remote(self._line, self._socket, name, lambda: self._shown.get(_ref(surface, name)))

    def _places(self, surface: Surface, name: str) -> SharedCapacity:
        return SharedCapacity(
            self._line,
            surface,
            name,
            lambda: self._shown.get(_ref(surface, name)),
            lambda total: share(total, self._worker, self._workers),
        )
