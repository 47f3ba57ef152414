"""Put together what answers calls for vectors, from the settings and the weights that are here."""

import asyncio
from pathlib import Path

from hanlin.catalogue import Weights
from hanlin.engines.embedding import Embedder
from hanlin.engines.embedding_child import ChildEmbedder
from hanlin.engines.llama import Machine, embedding_orders
from hanlin.engines.profiles import EmbeddingProfile, profiles
from hanlin.engines.weights import Tell, WeightsError, store
from hanlin.errors import StartupError
from hanlin.home import Home
from hanlin.routing.capacity import Capacity
from hanlin.service import start
from hanlin.service import weights as choosing
from hanlin.service.embedding_planning import EmbeddingDeployment
from hanlin.service.studio import Studio
from hanlin.settings import Settings
from hanlin.words import say

# Calls that are read in turns, window by window; each holds its texts, and one of the engine's few connections.
_AT_ONCE = 4
_AGAIN_S = (30.0, 120.0, 600.0)


def row(settings: Settings) -> Weights | None:
    """Return the weights of the embedded embedding model, None where the settings switch it off."""
    rows = start.weight_rows()
    if not (settings.embedded and settings.embeddings and rows.embeddings):
        return None
    return rows.rows[rows.embeddings]


def choice(weights: Weights) -> choosing.Choice:
    """Return embedding weights as something to fetch."""
    return choosing.Choice(choosing.wanted(weights), weights.context_tokens, say("for embeddings", "用于文本向量"))


def coming(weights: Weights | None) -> str:
    """Say that the weights will be here, "" where none are wanted."""
    if weights is None:
        return ""
    return say(f"{weights.name} comes after the chat model", f"{weights.name} 将在对话模型之后就绪")


async def add_if_here(home: Home, studio: Studio, weights: Weights) -> bool:
    """Have embedding names answered where the weights are on the disk and whole; return whether they are."""
    if not await asyncio.to_thread(store.whole, home.models, weights.sha256):
        return False
    _add(home, studio, weights, home.models / weights.sha256)
    return True


async def fetch_and_add(home: Home, studio: Studio, weights: Weights, tell: Tell) -> None:
    """Fetch the weights and have embedding names answered. What fails is told, and tried again after a while."""
    tell(say(f"fetching {weights.name} for embeddings", f"正在获取文本向量模型 {weights.name}"))
    failures = 0
    while True:
        try:
            path = await _fetched(home, studio, weights, tell)
            break
        except WeightsError as problem:
            again_s = _AGAIN_S[min(failures, len(_AGAIN_S) - 1)]
            failures += 1
            tell(problem.message)
            studio.vectors_coming = say(
                f"{weights.name} could not be fetched; trying again in {again_s:g} s",
                f"未能获取 {weights.name}；{again_s:g} 秒后重试",
            )
            await asyncio.sleep(again_s)
    _add(home, studio, weights, path)
    tell(say(f"{weights.name} answers embedding names", f"{weights.name} 已可提供文本向量"))


async def _fetched(home: Home, studio: Studio, weights: Weights, tell: Tell) -> Path:
    stopped = False

    def progress(done_bytes: int, total_bytes: int, _text: str) -> None:
        if stopped:
            raise KeyboardInterrupt
        percent = 100 * done_bytes // max(total_bytes, 1)
        studio.vectors_coming = say(f"fetching {weights.name}, {percent}%", f"正在获取 {weights.name}，{percent}%")

    try:
        return await start.fetch(choice(weights), home, choosing.means(start.weight_rows(), progress, tell))
    except asyncio.CancelledError:
        stopped = True  # ends the thread at its next step; what it has is kept for the next start
        raise


def _add(home: Home, studio: Studio, weights: Weights, path: Path) -> None:
    deployment = embedded(home, studio.settings, weights, path, start.machine())
    studio.embedding_deployments = (*studio.embedding_deployments, deployment)
    studio.vectors_coming = ""


def embedded(home: Home, settings: Settings, weights: Weights, path: Path, here: Machine) -> EmbeddingDeployment:
    """Return the deployment of embedding weights that lie at `path`; its process is started by the first call."""
    told = embedding_orders(
        weights.name,
        path,
        start.socket(home, weights.sha256[:12]),
        here,
        window_tokens=weights.context_tokens,
        threads=settings.threads,
        spin=settings.spin,
    )
    profile = _profile(weights)
    engine = ChildEmbedder(told, profile, stall_s=settings.stall_s, load_wait_s=settings.load_wait_s)
    return of_weights(weights, engine, settings)


def of_weights(weights: Weights, engine: Embedder, settings: Settings) -> EmbeddingDeployment:
    """Return the deployment of the embedded embedding model on this engine."""
    return EmbeddingDeployment(
        name=weights.name,
        title=choosing.titles([choosing.wanted(weights)]),
        fingerprint=f"{weights.name}@{weights.sha256[:12]}",
        engine=engine,
        capacity=Capacity(_AT_ONCE, settings.queue_limit),
        embedded=True,
        repository=weights.repository,
        tells_apart=_profile(weights).tells_apart,
        fits=True,
    )


def _profile(weights: Weights) -> EmbeddingProfile:
    found = profiles().embedding.get(weights.profile)
    if found is None:
        raise StartupError(f"weights {weights.name!r}: unknown embedding profile {weights.profile!r}")
    return found
