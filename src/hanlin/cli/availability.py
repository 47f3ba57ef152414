"""What answers each name here: as the running service says, or, where none can be asked, as a start would have it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from hanlin.catalogue import Catalogue, Model
from hanlin.cli.client import Service, Target, key_in
from hanlin.cli.options import effective
from hanlin.cli.show import Failed
from hanlin.errors import StartupError
from hanlin.home import Home, running
from hanlin.service import preview, start
from hanlin.service.studio import Card
from hanlin.types import Served
from hanlin.words import say


class Here(msgspec.Struct, frozen=True):
    """What answers one name: `by` names it for people, `why` says why nothing does. `context_tokens` 0: unknown.

    `state` is how that is at the moment ("ready", "resting" …), "" where nobody could be asked; `reason` says why.
    """

    served: Served
    by: str = ""
    fingerprint: str = ""
    why: str = ""
    context_tokens: int = 0
    state: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Availability:
    """What answers every name. `note` says where this was learned, when it was not from a running service."""

    names: Mapping[str, Here]
    url: str = ""
    note: str = ""

    def of(self, name: str) -> Here:
        return self.names.get(name) or Here(
            Served.UNAVAILABLE, why=say("the service does not know it", "服务不认识该名称")
        )

    def served(self, model: Model) -> Served:
        return self.of(model.name).served

    def served_at(self, model: Model, tokens: int) -> Served:
        """Say what answers a task of this length: nothing, where what answers otherwise has too little room."""
        return Served.UNAVAILABLE if self.lacks_room(model, tokens) else self.of(model.name).served

    def lacks_room(self, model: Model, tokens: int) -> bool:
        """Whether what answers a name has no room for so many tokens. Names that read files look things up in them."""
        return "file_id" not in model.features and 0 < self.of(model.name).context_tokens < tokens


def availability(home: Home, config: Path | None, key_variable: str | None, catalogue: Catalogue) -> Availability:
    """Ask the service that runs on this home; without one, or without its key, work it out from the settings.

    Raises StartupError for settings that no service could start with.
    """
    service = running(home)
    if service is None:
        note = say(
            "Nothing runs on this home: this is what `hanlin serve` would answer.",
            "该主目录上没有运行中的服务：以下为 `hanlin serve` 启动后的情况。",
        )
        return Availability(_worked_out(home, config, catalogue), note=note)
    try:
        with Service(Target(service.url, key_in(key_variable)[1])) as asked:
            return Availability(from_rows(asked.models()), url=service.url)
    except (Failed, StartupError) as problem:
        note = say(
            f"{service.url} could not be asked: {problem}\nThis is what the settings say.",
            f"无法查询 {service.url}：{problem}\n以下依据设置得出。",
        )
        return Availability(_worked_out(home, config, catalogue), note=note)


def _worked_out(home: Home, config: Path | None, catalogue: Catalogue) -> Mapping[str, Here]:
    return from_cards(preview.cards(home, effective(home, config).settings, catalogue, start.machine()))


class _Row(msgspec.Struct):
    served: Served
    by: str | None = None
    fingerprint: str | None = None
    why: str | None = None
    context_tokens: int | None = None
    state: str | None = None
    reason: str | None = None


class _Listed(msgspec.Struct):
    id: str
    hanlin: _Row


def from_rows(rows: Iterable[Mapping[str, Any]]) -> Mapping[str, Here]:
    """Read the rows of `GET /models`. Raises Failed for those of a service that does not say what answers."""
    try:
        listed = msgspec.convert(list(rows), list[_Listed])
    except msgspec.ValidationError as error:
        raise Failed(
            say(f"its list of models is not Hanlin's ({error})", f"其模型列表不是 Hanlin 的格式（{error}）")
        ) from error
    return {
        row.id: Here(
            row.hanlin.served,
            row.hanlin.by or "",
            row.hanlin.fingerprint or "",
            row.hanlin.why or "",
            row.hanlin.context_tokens or 0,
            row.hanlin.state or "",
            row.hanlin.reason or "",
        )
        for row in listed
    }


def from_cards(cards: Iterable[Card]) -> Mapping[str, Here]:
    """Read what was worked out without a service."""
    found = {}
    for card in cards:
        serving, deployment = card.serving, card.serving.deployment
        if deployment is None:
            found[card.name] = Here(serving.served, why=serving.why)
        else:
            found[card.name] = Here(
                serving.served, deployment.title, deployment.fingerprint, serving.why, deployment.context_tokens
            )
    return found
