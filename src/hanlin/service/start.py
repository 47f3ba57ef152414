"""Put a service together from its home, its settings and its environment, step by step.

Each step is a function, so that whoever starts the service can show what is going on between them.
"""

import asyncio
import hashlib
import math
import os
import stat
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import msgspec
import psutil

from hanlin.catalogue import WeightsCatalogue, load_weights
from hanlin.catalogue.loading import load
from hanlin.catalogue.models import Catalogue
from hanlin.engines.embedded import EmbeddedEngine
from hanlin.engines.engine import Engine
from hanlin.engines.launches import orders_of
from hanlin.engines.llama import Machine, orders
from hanlin.engines.managed import ManagedEngine, engine_profile
from hanlin.engines.profiles import EngineProfile, profiles
from hanlin.engines.weights import Means
from hanlin.errors import DuplicateKey, StartupError
from hanlin.home import Home
from hanlin.keys import adopted, hash_key, hint, new_key
from hanlin.metering.journal import open_journal
from hanlin.routing.capacity import Capacity
from hanlin.service import weights as choosing
from hanlin.service.accounting import ALONE, Sharing
from hanlin.service.backends import open_database, open_limits, secret_of
from hanlin.service.deployments import Deployment
from hanlin.service.files import open_files
from hanlin.service.fleet import Fleet, assemble, learned
from hanlin.service.studio import Studio
from hanlin.settings import DeploymentRow, Secret, Settings
from hanlin.store.database import Store
from hanlin.words import say

# The system's limit for the path of a Unix socket is 108 bytes with its end.
_SOCKET_PATH_BYTES = 100
_CGROUP = Path("/sys/fs/cgroup")
_GPU_STALL_S = 60.0  # the least patience with an engine that reads prompts of 100,000 tokens


@dataclass(frozen=True)
class FirstKey:
    """The key that a start made or took over. `shown` is its text when it was made here, to be shown this once."""

    hint: str
    source: str
    shown: Secret


async def open_studio(home: Home, settings: Settings, sharing: Sharing = ALONE) -> Studio:
    """Open what is kept in a home and return the service, still without deployments. Raises StartupError."""
    secret = secret_of(home, settings)
    catalogue = load()
    store = await open_database(home, settings, secret)
    journal = open_journal(home.journal) if settings.ledger else None
    sharing = replace(sharing, limits=sharing.limits or await open_limits(settings, secret))
    studio = Studio(settings, catalogue, store, secret, journal, sharing, open_files(home, settings, store))
    await studio.accounting.start()
    return studio


async def first_key(
    store: Store, secret: bytes, settings: Settings, environment: Mapping[str, str] = os.environ
) -> FirstKey | None:
    """Make sure that there is a key, and return it when this start made or adopted it.

    HANLIN_API_KEY is taken first, then DASHSCOPE_API_KEY, so that programs need no edit; only their hash is kept.
    Without either a key is made.
    """
    if await store.keys.all():
        return None
    key, source = settings.api_key.reveal(), "HANLIN_API_KEY"
    if not key:
        key, source = environment.get("DASHSCOPE_API_KEY", ""), "DASHSCOPE_API_KEY"
    if key.strip():
        key = adopted(key, source)
        shown = Secret("")
    else:
        key, source = new_key(), "made"
        shown = Secret(key)
    try:
        await store.keys.add("first", hash_key(secret, key), hint(key))
    except DuplicateKey:  # another service that shares the database has just taken it
        return None
    return FirstKey(hint(key), source, shown)


def machine() -> Machine:
    """Look at this machine: memory that is free now, and the cores that this process may use."""
    free_bytes, cores = psutil.virtual_memory().available, len(os.sched_getaffinity(0))
    return within_limits(Machine(free_bytes, cores), _CGROUP)


def within_limits(here: Machine, cgroup: Path) -> Machine:
    """Return what a container's limits (cgroup v2) leave of a machine; all of it where there are none."""
    limit, used = _number(cgroup / "memory.max"), _number(cgroup / "memory.current")
    free_bytes = here.free_bytes if limit is None else min(here.free_bytes, max(limit - (used or 0), 0))
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
        cores = min(here.cores, max(math.ceil(int(quota) / int(period)), 1))
    except (OSError, ValueError):
        cores = here.cores  # no such file, or "max": no limit
    return Machine(free_bytes, cores)


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):
        return None


@cache
def weight_rows() -> WeightsCatalogue:
    """Return the packaged weights catalogue."""
    return load_weights()


def choose_weights(settings: Settings, catalogue: Catalogue, home: Home, here: Machine) -> list[choosing.Choice]:
    """Return the weights that the embedded engine will run, by the settings or by memory. Raises StartupError."""
    rows = weight_rows()
    if not settings.embedded:
        return []
    if not settings.weights:
        return [choosing.choose_default(rows, here.free_bytes, small=settings.small)]
    named = [choosing.named(name, rows, catalogue.find(name), home.models) for name in settings.weights]
    return list({choice.wanted.sha256: choice for choice in named}.values())


def embedded(home: Home, settings: Settings, choice: choosing.Choice, path: Path, here: Machine) -> Deployment:
    """Return the deployment of weights that lie at `path`, its engine started."""
    wanted = choice.wanted
    told = orders(
        wanted.name,
        path,
        socket(home, wanted.sha256[:12]),
        here,
        trained_tokens=choice.context_tokens,
        threads=settings.threads,
        slots=settings.slots,
        context_tokens=settings.context_tokens,
        spin=settings.spin,
    )
    profile = profiles().for_weights(wanted.repository)
    if not settings.identity:
        profile = msgspec.structs.replace(profile, identity="", default_system="")
    engine = EmbeddedEngine(told, profile, stall_s=settings.stall_s, load_wait_s=settings.load_wait_s)
    engine.start()
    return Deployment(
        name=wanted.name,
        title=choosing.titles([wanted]),
        fingerprint=f"{wanted.name}@{wanted.sha256[:12]}",
        engine=engine,
        profile=profiles().engine["llama"],
        capacity=Capacity(told.slots, settings.queue_limit),
        embedded=True,
        repository=wanted.repository,
        context_tokens=told.context_tokens,
        thinking=profile.thinking if profile.thinking == "prompted" else "",
        fills_gaps=profile.gaps is not None,
    )


async def fleet(
    home: Home, settings: Settings, catalogue: Catalogue, tell: Callable[[str], None], before: Fleet | None = None
) -> Fleet:
    """Return what the tables and `--upstream` ask for, its engines started. Raises StartupError naming the row."""
    asked = await learned(settings, catalogue, tell, before=before)
    return assemble(asked, settings, catalogue, partial(managed, home, settings), before)


def managed(home: Home, settings: Settings, row: DeploymentRow) -> tuple[Engine, EngineProfile]:
    """Start the engine that a row names. Raises StartupError naming the row."""
    orders = orders_of(row, logs=home.path / "logs", run=home.run)
    profile = engine_profile(orders, row.profile)
    engine = ManagedEngine(
        orders,
        profile,
        stall_s=max(settings.stall_s, _GPU_STALL_S),
        load_wait_s=settings.load_wait_s,
        probe_s=settings.probe_s,
    )
    engine.start()
    return engine, profile


async def fetch(choice: choosing.Choice, home: Home, how: Means) -> Path:
    """Return the weights' file, fetched if need be, without blocking the service."""
    return await asyncio.to_thread(choosing.ensure, choice, home.models, how)


def socket(home: Home, name: str) -> Path:
    """Return the path of an engine's socket, short enough for the system."""
    path = home.run / f"{name}.sock"
    if len(os.fsencode(path)) <= _SOCKET_PATH_BYTES:
        return path
    # One folder a home, the same at every start, so that they do not pile up.
    digest = hashlib.sha256(os.fsencode(home.path)).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"hanlin-{os.geteuid()}-{digest}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise StartupError(
            say(
                f"{folder}: is not ours alone. Remove it, or choose a home with a shorter path",
                f"{folder}：不归本用户独有。请删除它，或换用路径更短的主目录",
            )
        )
    return folder / f"{name}.sock"
