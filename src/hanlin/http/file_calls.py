"""What the calls of both Files APIs have in common: whose they are, who answers them, and how a body is taken in."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from time import monotonic
from typing import TypeVar

from hanlin.errors import HanlinError, MethodNotAllowed, PathNotFound
from hanlin.http.exchange import Exchange
from hanlin.service.files import DOCUMENT, Files, permit
from hanlin.service.studio import Studio
from hanlin.store.rows import FileRow, KeyRow

FORM_BYTES = 1024 * 1024
"""What a form may have beside its files."""

ANYWAY = 2
"""How many times as much as the largest file may have is taken in before a refusal, thrown away: a client that is
interrupted while it sends loses the answer, and tries again."""

Handler = Callable[[Studio, Files, KeyRow, Exchange, str], Awaitable[None]]
Room = TypeVar("Room")


async def handle(studio: Studio, exchange: Exchange, methods: Mapping[str, Handler] | None, file_id: str) -> None:
    """Have a call answered by who answers its method; None are the methods of what is not there. Raises HanlinError."""
    if methods is None or studio.files is None:
        raise PathNotFound(f"There is no {exchange.shown_path()} here")
    handler = methods.get(exchange.method)
    if handler is None:
        refusal = MethodNotAllowed(exchange.method)
        refusal.headers = {"allow": ", ".join(methods)}
        raise refusal
    header = exchange.headers.get(b"authorization", b"")
    key = studio.keyring.known(header) or await studio.keyring.authenticate(exchange.bearer(), header)
    exchange.ends_s["key"] = monotonic() - exchange.began
    permit(key, exchange.peer)
    await handler(studio, studio.files, key, exchange, file_id)


@asynccontextmanager
async def taken(
    exchange: Exchange,
    opening: AbstractAsyncContextManager[Room],
    take: Callable[[Room, bytes], Awaitable[None]],
    most_bytes: int,
) -> AsyncIterator[Room]:
    """Open where a body goes, have its pieces taken there, and yield that once all have come; it closes at the end.

    What `opening` and `take` raise is raised when all of it has been sent: what comes until then is thrown away.
    Raises as `pieces` does, too.
    """
    async with AsyncExitStack() as stack:
        room: Room | None = None
        refusal: HanlinError | None = None
        try:
            room = await stack.enter_async_context(opening)
        except HanlinError as problem:
            if exchange.header("expect") is not None:  # nothing has been sent, and nothing will be
                raise
            refusal = problem
        async for piece in exchange.pieces(most_bytes):
            if refusal is None and room is not None:
                try:
                    await take(room, piece)
                except HanlinError as problem:
                    refusal = problem
                    await stack.aclose()
        if refusal is not None or room is None:
            raise refusal or AssertionError
        yield room


def beyond(row: FileRow) -> dict[str, object] | None:
    """Return what is known of a document beyond the contract; None for what is no document."""
    if row.purpose != DOCUMENT:
        return None
    if row.status == "processing":
        return {"pages_done": row.pages_done, "pages_total": row.pages_total or None}
    if row.status == "error":
        return {"reason": row.reason}
    return {"kind": row.kind, "pages": row.pages, "characters": row.characters, "tokens": row.tokens}


def note_ignored(exchange: Exchange, names: Sequence[str]) -> None:
    """Have the answer list what was said and means nothing here."""
    if names:
        exchange.extra_headers["x-hanlin-ignored"] = ", ".join(name[:64] for name in names[:32])


__all__ = ["ANYWAY", "FORM_BYTES", "Handler", "beyond", "handle", "note_ignored", "taken"]
