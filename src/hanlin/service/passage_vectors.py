"""Vectors for the passages of documents: made while nothing else is to be done, by the model that runs here.

A document can be asked about long before it has all of them, and each makes its search a little better. A model that is
rented, or that others share, is never set to work by itself.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Literal

from hanlin.documents.shelf import Shelf
from hanlin.documents.vectors import embed
from hanlin.errors import HanlinError
from hanlin.service import embedding
from hanlin.service.embedding import EmbeddingCall
from hanlin.store.passages import IndexUnusable
from hanlin.types import EmbeddingRequest, Vector

log = logging.getLogger("hanlin.service")

_NAME = "text-embedding-v4"
"""Vectors of passages and of questions must come from one model: whatever answers this name here."""

_DIMENSIONS = 512  # the least of the name that a small model's 384 fit into
_LIMIT_S = 120.0
_AT_ONCE = 64
_LOOK_S = 5.0
_BUSY_S = 0.5


def wanted(texts: Sequence[str], purpose: Literal["query", "document"]) -> EmbeddingRequest:
    """Return the request for vectors of passages, or of a question that is compared with them."""
    return EmbeddingRequest(_NAME, tuple(texts), dimensions=_DIMENSIONS, purpose=purpose)


class PassageVectors:
    """Works through the documents on a shelf while `run` is under way, the newest first, a few passages at a time.

    `call` makes a call for vectors, and raises what that raises; `is_busy` says whether somebody waits for an answer.
    """

    def __init__(
        self, shelf: Shelf, call: Callable[[EmbeddingRequest], EmbeddingCall], is_busy: Callable[[], bool]
    ) -> None:
        self._shelf = shelf
        self._call = call
        self._is_busy = is_busy
        self._done: set[str] = set()

    async def run(self) -> None:
        """Give documents their vectors, until cancelled."""
        while True:
            added = 0
            try:
                added = await self.step()
            except HanlinError as problem:  # the model is away, or too slow now
                log.debug("passages get no vectors now: %s", problem)
            except OSError as error:
                log.warning("vectors of passages cannot be kept: %s", error)
            if not added:
                await asyncio.sleep(_LOOK_S)

    async def step(self) -> int:
        """Give some passages of one document their vectors; return how many, 0 when there is nothing to do."""
        model = self._model()
        if not model:
            return 0
        digests = await asyncio.to_thread(self._shelf.newest)
        self._done &= set(digests)
        for digest in digests:
            if digest in self._done:
                continue
            folder = self._shelf.path(digest)
            try:
                added = await embed(folder, self._vectors, model, most=_AT_ONCE, turn=self._turn)
            except (FileNotFoundError, IndexUnusable):  # deleted meanwhile; an index is repaired by who searches it
                added = 0
            except (HanlinError, OSError):
                raise
            except Exception:  # a mistake of ours must not end the reading of all documents, which runs beside this
                log.exception("%s: its passages get no vectors", digest)
                added = 0
            if added:
                return added
            self._done.add(digest)
        return 0

    def _model(self) -> str:
        """Return what makes vectors here, by its fingerprint; "" when that is no model of Hanlin's own."""
        try:
            plan = self._call(wanted(("?",), "document")).plan
        except HanlinError:
            return ""
        return plan.answering.fingerprint if plan.deployment.embedded else ""

    async def _turn(self) -> None:
        while self._is_busy():  # noqa: ASYNC110 - nobody says when an engine has nothing more to do
            await asyncio.sleep(_BUSY_S)

    async def _vectors(self, texts: Sequence[str]) -> Sequence[Vector]:
        result = await embedding.embed(self._call(wanted(texts, "document")), _LIMIT_S)
        return result.vectors


__all__ = ["PassageVectors", "wanted"]
