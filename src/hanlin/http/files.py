"""The Files API (spec/surfaces.md §1): uploads that go to the disk as they come, lists, deletions, contents."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from time import monotonic

from hanlin.dialects import openai_files
from hanlin.dialects.openai_files import FileObject
from hanlin.errors import HanlinError, MethodNotAllowed, PathNotFound
from hanlin.http.exchange import Exchange, Gone
from hanlin.http.multipart import Form
from hanlin.service.files import DOCUMENT, Files, permit
from hanlin.service.studio import Studio
from hanlin.store.rows import FileFilters, FileRow, KeyRow

_FORM_BYTES = 1024 * 1024
"""What a form may have beside its file."""

_ANYWAY = 2
"""How many times as much as the largest file may have is taken in before a refusal, thrown away: a client that is
interrupted while it sends loses the answer, and tries again."""

_CONTENT_TYPE = "application/octet-stream"

Handler = Callable[[Studio, Files, KeyRow, Exchange, str], Awaitable[None]]


async def answer(studio: Studio, exchange: Exchange, path: str) -> None:
    """Answer a call of the Files API; `path` is what stands behind `/files`. Raises HanlinError."""
    file_id, slash, rest = path.removeprefix("/").partition("/")
    methods = _LIST if not path else _ONE if file_id and not slash else _CONTENT if rest == "content" else None
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


async def _create(_studio: Studio, files: Files, key: KeyRow, exchange: Exchange, _file_id: str) -> None:
    form = Form(exchange.header("content-type"))
    async with contextlib.AsyncExitStack() as stack:
        refusal: HanlinError | None = None
        upload = None
        try:
            upload = await stack.enter_async_context(files.receive(key.workspace_id))
        except HanlinError as problem:
            if exchange.header("expect") is not None:  # nothing has been sent, and nothing will be
                raise
            refusal = problem
        async for piece in exchange.pieces(_ANYWAY * files.limits.largest_bytes + _FORM_BYTES):
            if refusal is None and upload is not None:
                try:
                    part = form.feed(piece)
                    if "purpose" in form.fields:
                        upload.purpose = openai_files.purpose_of(form.fields["purpose"])
                    await upload.write(part)
                except HanlinError as problem:
                    refusal = problem
                    await stack.aclose()
        if refusal is not None or upload is None:
            raise refusal or AssertionError
        form.end()
        upload.purpose = openai_files.purpose_of(form.fields.get("purpose"))
        row = await files.add(upload, key, form.filename or "file")
    _note_ignored(exchange, [name for name in form.fields if name != "purpose"])
    await exchange.answer(200, openai_files.answer(shown(row)))


async def _listed(_studio: Studio, files: Files, key: KeyRow, exchange: Exchange, _file_id: str) -> None:
    asked = openai_files.listing(exchange.query)
    filters = FileFilters(purpose=asked.purpose, since=asked.since, until=asked.until)
    page = await files.page(key.workspace_id, filters, asked.after, asked.limit)
    if page is None:
        raise openai_files.unknown_mark(asked.after)
    rows, has_more = page
    _note_ignored(exchange, asked.ignored)
    await exchange.answer(200, openai_files.listed([shown(row) for row in rows], has_more=has_more))


async def _retrieved(_studio: Studio, files: Files, key: KeyRow, exchange: Exchange, file_id: str) -> None:
    await exchange.answer(200, openai_files.answer(shown(await files.find(key.workspace_id, file_id))))


async def _deleted(_studio: Studio, files: Files, key: KeyRow, exchange: Exchange, file_id: str) -> None:
    await files.delete(key.workspace_id, file_id)
    await exchange.answer(200, openai_files.deleted(file_id))


async def _content(studio: Studio, files: Files, key: KeyRow, exchange: Exchange, file_id: str) -> None:
    row = await files.find(key.workspace_id, file_id)
    if row.purpose != openai_files.OUTPUT:
        raise openai_files.no_content()
    pieces = files.content(row)
    async with contextlib.aclosing(pieces):
        async for piece in pieces:
            if not exchange.started:
                exchange.begin(200, _CONTENT_TYPE, row.size_bytes)
            try:
                async with asyncio.timeout(studio.settings.reader_stall_s):
                    await exchange.write(piece)
            except TimeoutError:
                raise Gone from None  # the connection ends, so that the rest is missed
            if exchange.gone:
                raise Gone
    if not exchange.started:
        await exchange.answer(200, b"", _CONTENT_TYPE)
        return
    exchange.finish()


def shown(row: FileRow) -> FileObject:
    """Return a file as its owners see it."""
    return FileObject(
        id=row.id,
        bytes=row.size_bytes,
        created_at=int(row.created_at.timestamp()),
        filename=row.filename,
        purpose=row.purpose,
        status=row.status,
        status_details=row.details or None,
        hanlin=_beyond(row) if row.purpose == DOCUMENT else None,
    )


def _beyond(row: FileRow) -> dict[str, object]:
    """Return what is known of a document beyond the contract."""
    if row.status == "processing":
        return {"pages_done": row.pages_done, "pages_total": row.pages_total or None}
    if row.status == "error":
        return {"reason": row.reason}
    return {"kind": row.kind, "pages": row.pages, "characters": row.characters, "tokens": row.tokens}


def _note_ignored(exchange: Exchange, names: "list[str] | tuple[str, ...]") -> None:
    if names:
        exchange.extra_headers["x-hanlin-ignored"] = ", ".join(name[:64] for name in names[:32])


_LIST: Mapping[str, Handler] = {"POST": _create, "GET": _listed}
_ONE: Mapping[str, Handler] = {"GET": _retrieved, "DELETE": _deleted}
_CONTENT: Mapping[str, Handler] = {"GET": _content}

__all__ = ["answer", "shown"]
