"""The Files API (spec/surfaces.md §1): uploads that go to the disk as they come, lists, deletions, contents."""

import asyncio
import contextlib
from collections.abc import Mapping

from hanlin.dialects import openai_files
from hanlin.dialects.openai_files import FileObject
from hanlin.http.exchange import Exchange, Gone
from hanlin.http.file_calls import ANYWAY, FORM_BYTES, Handler, beyond, handle, note_ignored, taken
from hanlin.http.multipart import Form
from hanlin.service.files import Files, Upload
from hanlin.service.studio import Studio
from hanlin.store.rows import FileFilters, FileRow, KeyRow

_CONTENT_TYPE = "application/octet-stream"


async def answer(studio: Studio, exchange: Exchange, path: str) -> None:
    """Answer a call of the Files API; `path` is what stands behind `/files`. Raises HanlinError."""
    file_id, slash, rest = path.removeprefix("/").partition("/")
    methods = _LIST if not path else _ONE if file_id and not slash else _CONTENT if rest == "content" else None
    await handle(studio, exchange, methods, file_id)


async def _create(_studio: Studio, files: Files, key: KeyRow, exchange: Exchange, _file_id: str) -> None:
    form = Form(exchange.header("content-type"))

    async def take(upload: Upload, piece: bytes) -> None:
        parts = form.feed(piece)
        if "purpose" in form.fields:
            upload.purpose = openai_files.purpose_of(form.last("purpose"))
        for _, part in parts:
            await upload.write(part)

    most_bytes = ANYWAY * files.limits.largest_bytes + FORM_BYTES
    async with taken(exchange, files.receive(key.workspace_id), take, most_bytes) as upload:
        form.end()
        upload.purpose = openai_files.purpose_of(form.last("purpose"))
        row = await files.add(upload, key, form.filenames[0])
    note_ignored(exchange, [name for name in form.fields if name != "purpose"])
    await exchange.answer(200, openai_files.answer(shown(row)))


async def _listed(_studio: Studio, files: Files, key: KeyRow, exchange: Exchange, _file_id: str) -> None:
    asked = openai_files.listing(exchange.query)
    filters = FileFilters(purpose=asked.purpose, since=asked.since, until=asked.until)
    page = await files.page(key.workspace_id, filters, asked.after, asked.limit)
    if page is None:
        raise openai_files.unknown_mark(asked.after)
    rows, has_more = page
    note_ignored(exchange, asked.ignored)
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
        hanlin=beyond(row),
    )


_LIST: Mapping[str, Handler] = {"POST": _create, "GET": _listed}
_ONE: Mapping[str, Handler] = {"GET": _retrieved, "DELETE": _deleted}
_CONTENT: Mapping[str, Handler] = {"GET": _content}

__all__ = ["answer", "shown"]
