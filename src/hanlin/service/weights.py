"""Which weights the embedded engine runs, and getting them here: where catalogue rows meet installed files."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hanlin.catalogue import Weights, WeightsCatalogue
from hanlin.catalogue.models import Model
from hanlin.engines.weights import hubs, plan, store
from hanlin.engines.weights.errors import NoSource
from hanlin.engines.weights.fetch import Means, fetch, fetch_set
from hanlin.engines.weights.values import Hub, Progress, Tell, Wanted, with_environment
from hanlin.errors import StartupError
from hanlin.words import say

# Weights that are not of our catalogue say nothing of what they were trained for; every current model takes this much.
_CONTEXT_TOKENS = 32_768


@dataclass(frozen=True)
class Choice:
    """Weights to run, and the sentence that says why these."""

    wanted: Wanted
    context_tokens: int
    reason: str


def wanted(row: Weights) -> Wanted:
    """Translate a catalogue row for the fetching."""
    return Wanted(
        row.name,
        row.size_bytes,
        row.sha256,
        row.sources,
        row.repository,
        row.quantisation,
        made_from=row.made_from,
    )


def choose_default(catalogue: WeightsCatalogue, free_bytes: int, *, small: bool) -> Choice:
    """Choose between the two default weights by the memory that is free now."""
    enough = free_bytes >= catalogue.default_free_bytes
    row = catalogue.rows[catalogue.small if small or not enough else catalogue.default]
    free, needed = free_bytes / 2**30, catalogue.default_free_bytes / 2**30
    if small:
        reason = say("the small default was asked for", "指定使用较小的默认权重")
    elif enough:
        reason = say(f"{free:.0f} GiB of memory are free", f"可用内存 {free:.0f} GiB")
    else:
        reason = say(
            f"{free:.1f} GiB of memory are free, the larger default wants {needed:.0f}",
            f"可用内存 {free:.1f} GiB，较大的默认权重需要 {needed:.0f} GiB",
        )
    return Choice(wanted(row), row.context_tokens, reason)


def named(name: str, catalogue: WeightsCatalogue, model: Model | None, models: Path) -> Choice:
    """Find weights by their own name or by the catalogue name whose published weights they are.

    Rows of the catalogue can be fetched; others must have been pulled. Raises StartupError with the remedy.
    """
    row = catalogue.find(name) or (catalogue.find(model.open_weights) if model and model.open_weights else None)
    if row is not None and row.kind != "chat":
        raise StartupError(
            say(
                f"weights {name!r} make vectors and do not chat: they run by themselves, unless embeddings = false",
                f"权重 {name!r} 用于生成向量，不能对话：除非 embeddings = false，否则会自动运行",
            )
        )
    if row is not None:
        return Choice(wanted(row), row.context_tokens, say("chosen in the settings", "由设置指定"))
    for installed in store.installed(models):
        if name == installed.name or (model is not None and installed.repository == model.open_weights):
            have = Wanted(
                installed.name,
                installed.size_bytes,
                installed.sha256,
                (),
                installed.repository,
                installed.quantisation,
            )
            return Choice(have, _CONTEXT_TOKENS, say("chosen in the settings", "由设置指定"))
    raise StartupError(
        say(
            f"weights {name!r} are not here: run `hanlin pull {name}`, or take one of {', '.join(catalogue.rows)}",
            f"没有权重 {name!r}：请先运行 `hanlin pull {name}`，或使用 {', '.join(catalogue.rows)} 之一",
        )
    )


def means(
    catalogue: WeightsCatalogue, progress: Progress, tell: Tell, environment: Mapping[str, str] = os.environ
) -> Means:
    """Return what a fetch works with: the catalogue's hubs, moved where the usual variables say."""
    rows = [Hub(hub.kind, hub.endpoint, hub.revision) for hub in catalogue.repositories.hubs]
    return Means(hubs=with_environment(rows, environment), progress=progress, tell=tell)


def ensure(choice: Choice, models: Path, how: Means) -> Path:
    """Return the file to run, whole and with the right digest; fetch what is missing or damaged."""
    sha256 = choice.wanted.sha256
    here = store.find(models, sha256)
    if here is not None:
        # Read every time, not only when its date has changed: a bad disk changes bytes and leaves the date.
        if store.whole(models, sha256):
            return here
        store.quarantine(models, sha256)
        how.tell(
            say(
                f"{choice.wanted.name}: the file on disk is damaged and was put aside; fetching it again",
                f"{choice.wanted.name}：磁盘上的文件已损坏并被移开，正在重新获取",
            )
        )
    return fetch(choice.wanted, models, how)


@dataclass(frozen=True)
class Pull:
    """What `hanlin pull` will fetch for a name: its files in order, and why these."""

    parts: tuple[Wanted, ...]
    reason: str

    @property
    def size_bytes(self) -> int:
        return sum(part.size_bytes for part in self.parts)


def plan_pull(name: str, catalogue: WeightsCatalogue, model: Model | None, free_bytes: int, how: Means) -> Pull:
    """Find what to fetch for a name: a row of ours, or the published weights of a catalogue name on the hubs.

    Asks the hubs over the network for names without a row. Raises WeightsError, and StartupError for unknown names.
    """
    row = catalogue.find(name) or (catalogue.find(model.open_weights) if model and model.open_weights else None)
    if row is not None:
        return Pull((wanted(row),), say("a row of our own catalogue", "本项目目录中的权重"))
    if model is None:
        raise StartupError(
            say(
                f"{name!r} is neither a model nor weights that Hanlin knows: `hanlin models` lists them",
                f"{name!r} 不是 Hanlin 已知的模型或权重：`hanlin models` 会列出全部",
            )
        )
    if model.open_weights is None:
        raise NoSource(
            say(
                f"{name}: its weights were never published; it can only be rented or stood in for",
                f"{name}：其权重从未公开，只能租用或由其他模型代答",
            )
        )
    rules = catalogue.repositories
    located = hubs.locate(model.open_weights, rules.of(model.open_weights), how.hubs, tell=how.tell)
    choice = plan.pick(located.files, free_bytes, rules.quantisations, name=name)
    return Pull(located.wanted(choice, how.hubs, name), choice.reason)


def pull(planned: Pull, models: Path, how: Means) -> Path:
    """Fetch what was planned and return the path to give the engine."""
    return fetch_set(planned.parts, models, how)


def titles(parts: Sequence[Wanted]) -> str:
    """Name weights as people do: what was published, and its quantisation."""
    first = parts[0]
    published = first.repository.rpartition("/")[2] or first.name
    return f"{published} {first.quantisation}".strip()
