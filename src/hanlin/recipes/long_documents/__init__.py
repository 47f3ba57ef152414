"""Questions about documents of any length: `qwen-long` (spec/scenarios.md §2)."""

from hanlin.catalogue.models import Model
from hanlin.recipes import attachments
from hanlin.recipes.long_documents.answering import Answerer
from hanlin.recipes.recipe import Recipe
from hanlin.types import ChatRequest


def check(request: ChatRequest, _model: Model) -> None:
    """Refuse more files than a request may name."""
    attachments.check_files(attachments.read(request.messages))


def has_documents(request: ChatRequest) -> bool:
    """Whether a request names files, or has documents in its system messages; without them it is a chat like any."""
    return bool(attachments.read(request.messages).attachments)


LONG_DOCUMENTS = Recipe("long-documents", Answerer().run, check, reads_documents=True, applies=has_documents)

__all__ = ["LONG_DOCUMENTS", "check"]
