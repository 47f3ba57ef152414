"""The native Files API (spec/surfaces.md §1.6): the same files as `http.files`, several in one form, in pages.

What is wrong with one file of a form is told of that file; the others are kept.
"""

from collections.abc import Mapping, Sequence

from hanlin.dialects import dashscope_files, flat, nested
from hanlin.dialects.dashscope_files import Failure, FileDetail
from hanlin.errors import HanlinError, InvalidPurpose, TooManyUploads, UnknownFile
from hanlin.http.exchange import Exchange
from hanlin.http.file_calls import ANYWAY, FORM_BYTES, Handler, beyond, handle, note_ignored, taken
from hanlin.http.multipart import Form
from hanlin.service.files import Files, Intake, Upload
from hanlin.service.studio import Studio
from hanlin.store.rows import FileRow, KeyRow

PATH = "/api/v1/files"

_MOST_PARTS = 4 * dashscope_files.MOST_FILES
_CALL_BYTES = 5 * 1024**3
"""How much one form may bring, unless a single file may have more: what the vendor keeps for an account in all."""

_WORKSPACE = "x-dashscope-workspace"


async def answer(studio: Studio, exchange: Exchange, path: str) -> None:
    """Answer a call; `path` is what stands behind `/files`, a slash at its end says nothing. Raises HanlinError."""
    file_id = path.removeprefix("/").removesuffix("/")
    await handle(studio, exchange, None if "/" in file_id else _ONE if file_id else _LIST, file_id)


def error(problem: HanlinError, request_id: str) -> bytes:
    """Return the body of an error: flat, but for a wrong purpose, which was recorded in the other envelope."""
    written = nested.error if isinstance(problem, InvalidPurpose) else flat.error
    return written(problem, request_id)


class _Coming:
    """A file of a form: an upload, or the problem that there is instead."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.upload: Upload | None = None
        self.problem: HanlinError | None = None

    def fail(self, problem: HanlinError) -> None:
        self.problem = problem
        if self.upload is not None:
            self.upload.drop()
            self.upload = None


class _Arrivals:
    """The files of a form, in its order, as they come."""

    def __init__(self, form: Form) -> None:
        self.files: list[_Coming] = []
        self._form = form

    async def take(self, intake: Intake, piece: bytes) -> None:
        """Take in a piece of the form. Raises MalformedBody and InvalidPurpose, which are about all of it."""
        for number, part in self._form.feed(piece):
            await self._reach(intake, number)
            file = self.files[number]
            if file.upload is not None:
                file.upload.purpose = dashscope_files.said_purpose(self._said("purpose"), number)
                try:
                    await file.upload.write(part)
                except HanlinError as problem:
                    file.fail(problem)

    async def end(self, intake: Intake) -> None:
        """Know that nothing more comes, and what each file is for. Raises as `take` does."""
        self._form.end()
        await self._reach(intake, len(self._form.filenames) - 1)
        await _settle(self.files[-1])
        for number, file in enumerate(self.files):
            purpose = dashscope_files.purpose_of(self._said("purpose"), number, file.name)
            if file.upload is not None:
                file.upload.purpose = purpose

    def description(self, number: int) -> str:
        said = self._said("descriptions")
        return said[number] if number < len(said) else ""

    def _said(self, field: str) -> Sequence[str]:
        return self._form.fields.get(field, ())

    async def _reach(self, intake: Intake, number: int) -> None:
        """Begin the files up to one of a number; those before it are here as a whole."""
        while len(self.files) <= number:
            if self.files:
                await _settle(self.files[-1])
            file = _Coming(self._form.filenames[len(self.files)])
            self.files.append(file)
            try:
                if len(self.files) > dashscope_files.MOST_FILES:
                    raise TooManyUploads(dashscope_files.MOST_FILES)
                file.upload = intake.begin()
            except HanlinError as problem:
                file.fail(problem)


async def _settle(file: _Coming) -> None:
    """Have all of a file on the disk, and nothing of it in memory."""
    if file.upload is not None:
        try:
            await file.upload.finish()
        except HanlinError as problem:
            file.fail(problem)


async def _create(_studio: Studio, files: Files, key: KeyRow, exchange: Exchange, _file_id: str) -> None:
    form = Form(exchange.header("content-type"), dashscope_files.FILES, most_files=_MOST_PARTS, most_parts=_MOST_PARTS)
    arrivals = _Arrivals(form)
    most_bytes = max(ANYWAY * files.limits.largest_bytes, _CALL_BYTES) + FORM_BYTES
    kept = []
    async with taken(exchange, files.intake(key.workspace_id), arrivals.take, most_bytes) as intake:
        await arrivals.end(intake)
        for number, file in enumerate(arrivals.files):
            if file.upload is not None:
                words = arrivals.description(number)
                try:
                    # Many would be waited for one after another.
                    row = await files.add(file.upload, key, file.name, words, waits=len(arrivals.files) == 1)
                except HanlinError as problem:
                    file.fail(problem)
                else:
                    kept.append((file.name, row.id))
    failed = [(file.name, file.problem) for file in arrivals.files if file.problem is not None]
    if not kept and (ours := next((problem for _, problem in failed if problem.status >= 500), None)):
        raise ours  # no fault of theirs: the same again helps, which a success does not say
    _note_ignored(exchange, key, [name for name in form.fields if name not in dashscope_files.FIELDS])
    failures = [Failure(name, *flat.words(problem)) for name, problem in failed]
    await exchange.answer(200, dashscope_files.uploaded(kept, failures, exchange.id))


async def _listed(_studio: Studio, files: Files, key: KeyRow, exchange: Exchange, _file_id: str) -> None:
    asked = dashscope_files.listing(exchange.query)
    rows, total = await files.numbered(key.workspace_id, asked.skip, asked.page_size)
    _note_ignored(exchange, key, asked.ignored)
    body = dashscope_files.listed([shown(row) for row in rows], total, asked, exchange.id)
    await exchange.answer(200, body)


async def _retrieved(_studio: Studio, files: Files, key: KeyRow, exchange: Exchange, file_id: str) -> None:
    try:
        row = await files.find(key.workspace_id, file_id)
    except UnknownFile:
        raise dashscope_files.missing() from None
    _note_ignored(exchange, key)
    await exchange.answer(200, dashscope_files.answer(shown(row), exchange.id))


async def _deleted(_studio: Studio, files: Files, key: KeyRow, exchange: Exchange, file_id: str) -> None:
    try:
        await files.delete(key.workspace_id, file_id)
    except UnknownFile:
        raise dashscope_files.missing() from None
    _note_ignored(exchange, key)
    await exchange.answer(200, dashscope_files.deleted(exchange.id))


def shown(row: FileRow) -> FileDetail:
    """Return a file as its owners see it; a document with its status, which the contract has no field for."""
    more = beyond(row)
    if more is not None:
        more = {"status": row.status, "status_details": row.details or None, **more}
    return FileDetail(
        id=dashscope_files.number_of(row.id),
        name=row.filename,
        description=row.description,
        purpose=row.purpose,
        size=row.size_bytes,
        md5=row.md5,
        file_id=row.id,
        user_id=row.workspace_id,
        api_key_id=row.key_id,
        gmt_create=dashscope_files.clock(row.created_at),
        hanlin=more,
    )


def _note_ignored(exchange: Exchange, key: KeyRow, names: Sequence[str] = ()) -> None:
    """List what means nothing here: among it a workspace that is another than the key's."""
    if exchange.header(_WORKSPACE) not in (None, key.workspace_id):
        names = [_WORKSPACE, *names]
    note_ignored(exchange, names)


_LIST: Mapping[str, Handler] = {"POST": _create, "GET": _listed}
_ONE: Mapping[str, Handler] = {"GET": _retrieved, "DELETE": _deleted}

__all__ = ["PATH", "answer", "error", "shown"]
