"""Data out of documents: `qwen-doc-turbo` (spec/scenarios.md §3)."""

import msgspec

from hanlin.catalogue.models import Model
from hanlin.errors import InvalidRequest, UnsupportedHere
from hanlin.recipes import attachments
from hanlin.recipes.data_mining.asking import DOC_URL, urls_in
from hanlin.recipes.data_mining.mining import MOST_FILES, Miner, Takes
from hanlin.recipes.recipe import Recipe
from hanlin.types import ChatRequest

SKILL = "skill"


def check(request: ChatRequest, _model: Model) -> None:
    """Refuse more files and URLs than a request may name, and slides, which nothing here renders."""
    if _asks_for_slides(request):
        if not request.stream:
            raise InvalidRequest("The parameter skill is only supported in stream mode", param=SKILL)
        raise UnsupportedHere(
            "'skill' asks for slides, and nothing here renders them: leave it out and ask for an outline instead",
            param=SKILL,
        )
    attachments.check_files(attachments.read(request.messages), MOST_FILES)
    urls_in(request.messages)


def _asks_for_slides(request: ChatRequest) -> bool:
    raw = request.asks.get(SKILL)
    return raw is not None and msgspec.json.decode(raw) not in (None, [], {})


DATA_MINING = Recipe("data-mining", Miner().run, check, frozenset({SKILL, DOC_URL}), reads_documents=True)

__all__ = ["DATA_MINING", "Takes", "check"]
