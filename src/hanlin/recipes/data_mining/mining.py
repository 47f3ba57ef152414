"""Data out of documents: JSON of a form, labels of a list, or an answer in words (spec/scenarios.md §3)."""

import re
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import msgspec

from hanlin import schemas
from hanlin.documents.values import Document
from hanlin.errors import AnswerUnfit, UnsupportedHere
from hanlin.metering.estimate import prompt_tokens, text_tokens
from hanlin.recipes import attachments
from hanlin.recipes.attachments import Asked, Attachment, Opened
from hanlin.recipes.data_mining import asking, labelling
from hanlin.recipes.data_mining.amounts import manner_of
from hanlin.recipes.data_mining.asking import DOC_URL, Parsing, Urls
from hanlin.recipes.data_mining.extracting import Extractor
from hanlin.recipes.data_mining.forms import Form, form_of
from hanlin.recipes.data_mining.merging import completed, is_missing
from hanlin.recipes.data_mining.rows import Rows
from hanlin.recipes.long_documents.answering import Answerer
from hanlin.recipes.long_documents.figures import LEAST_SHARE
from hanlin.recipes.long_documents.parts import pages_of
from hanlin.recipes.long_documents.report import Metered
from hanlin.recipes.parallel import each
from hanlin.recipes.recipe import Desk
from hanlin.recipes.tables import Row, Table, tables
from hanlin.types import ChatRequest, Event, Events, Message, Schema, Usage

MOST_FILES = 1
"""File ids of a request (spec/scenarios.md §3.1)."""

STREAMED_S, UNSTREAMED_S = 1800.0, 480.0
"""How long parts are read before the data of those that were read is the answer."""

_SAMPLE_CHARS = 1500
_LEAST_FILLED = 0.1
_FETCHES_AT_ONCE = 4
_LINES_AT_ONCE = 8
_PLAIN_ROLE = re.compile(r"you are a helpful assistant\.?|", re.IGNORECASE)


@runtime_checkable
class Takes(Protocol):
    """A library that also reads what was fetched for one request."""

    async def take(self, content: bytes, name: str, parsing: Parsing) -> Document:
        """Return a document that is kept for this request only. Raises the contract's errors, as `open` does."""


class Mined(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the data came about.

    `strategy`: `rows` of a table were copied or read, `parts` of running text were read, `labels` were chosen. `rows`
    are those of the tables, `missed` those that no record came of; `dropped` are values that were not in the source.
    """

    strategy: str
    prompt_tokens: int = 0
    calls: int = 0
    records: int = 0
    rows: int = 0
    missed: int = 0
    dropped: int = 0
    parts: int = 0
    parts_read: int = 0


class Miner:
    """Mines documents. Questions that are not about data are answered as those about long documents are."""

    def __init__(self, *, answerer: Answerer | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._answerer = answerer or Answerer()
        self._clock = clock

    async def run(self, request: ChatRequest, desk: Desk) -> Events:
        """Yield an answer's events; see `Recipe.run`."""
        asked = attachments.read(request.messages)
        await attachments.check_question(asked, desk.base, request.model)
        opened = await attachments.opened(asked, desk.library)
        if urls := asking.urls_in(request.messages):
            asked, opened = _with(asked, opened, await self._fetched(urls, desk))
        said = tuple(Message(message.role, message.text) for message in request.messages)
        tokens = opened.tokens + prompt_tokens(said) - _held_tokens(asked)
        attachments.check_total(tokens, desk.model.input_limit_tokens())
        task = _Task(request, desk, Metered(desk.base), asked, opened, self._clock)
        told = self._told(task, tokens) if task.is_data else self._answered(task, tokens)
        async with aclosing(told) as bursts:
            async for burst in bursts:
                yield burst

    async def _fetched(self, urls: Sequence[Urls], desk: Desk) -> list[Document]:
        """Fetch and read what URLs point at, in their order. Raises UrlNotFetched, and what reading raises."""
        fetcher, library = desk.fetcher, desk.library
        if fetcher is None or not isinstance(library, Takes):
            raise UnsupportedHere(
                "'doc_url' cannot be fetched here: upload the file and name it as fileid:// in a system message",
                param="messages",
            )
        wanted = [(url, part.parsing) for part in urls for url in part.urls]

        async def one(at: int) -> Document:
            url, parsing = wanted[at]
            found = await fetcher.fetch(url)
            return await library.take(found.content, found.name, parsing)

        done = dict(await each(one, range(len(wanted)), _FETCHES_AT_ONCE))
        return [done[at] for at in range(len(wanted))]

    async def _answered(self, task: "_Task", tokens: int) -> Events:
        """Answer in words, or with labels where the instruction lists some."""
        if task.documents and (labels := await task.labels()):
            lines = []
            for document in task.documents:
                chosen = await labelling.labelled(
                    task.base, task.model, task.instruction, document, labels, several=task.several
                )
                names = "、".join(chosen)
                lines.append(f"{document.name}: {names}" if len(task.documents) > 1 else names)
            report = Mined("labels", task.base.usage.prompt, task.base.calls, records=len(lines))
            for told in _said("\n".join(lines), report, tokens, task.request):
                yield told
            return
        if not task.asked.attachments:
            request = task.request.changed(messages=task.plain_messages)
            async with aclosing(task.desk.base.stream(request)) as bursts:
                async for burst in bursts:
                    yield burst
            return
        answer = self._answerer.answer(task.request, task.desk, task.asked, task.opened, tokens)
        async with aclosing(answer) as bursts:
            async for burst in bursts:
                yield burst

    async def _told(self, task: "_Task", tokens: int) -> Events:
        value, report = await task.mined()
        report = msgspec.structs.replace(report, prompt_tokens=task.base.usage.prompt, calls=task.base.calls)
        text = msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
        if task.request.shape is None and not asking.forbids_fence(task.instruction):
            text = f"```json\n{text}\n```"
        for burst in _said(text, report, tokens, task.request):
            yield burst


def _said(text: str, report: Mined, tokens: int, request: ChatRequest) -> list[list[Event]]:
    """Return the events of a text that is there already; cut where the caller wants no more than some tokens."""
    finish, limit = "stop", request.sampling.max_tokens or request.sampling.max_completion_tokens
    size = text_tokens(text)
    if limit is not None and size > limit:
        text, finish, size = text[: max(len(text) * limit // size, 1)], "length", limit
    lines = text.splitlines(keepends=True)
    pieces = ["".join(lines[at : at + _LINES_AT_ONCE]) for at in range(0, len(lines), _LINES_AT_ONCE)]
    return [
        *([Event(text=piece)] for piece in pieces),
        [Event(report=msgspec.Raw(msgspec.json.encode(report)))],
        [Event(finish_reason=finish)],
        [Event(usage=Usage(tokens, size, estimated=True))],
    ]


def _with(asked: Asked, opened: Opened, fetched: Sequence[Document]) -> tuple[Asked, Opened]:
    """Return a request to which fetched documents were attached, ahead of its last question."""
    users = [at for at, step in enumerate(asked.steps) if isinstance(step, Message) and step.role == "user"]
    at = users[-1] if users else len(asked.steps)
    steps = (*asked.steps[:at], Attachment(ids=tuple(one.id for one in fetched)), *asked.steps[at:])
    before = sum(isinstance(step, Attachment) for step in asked.steps[:at])
    texts = tuple(replace_media(step) if isinstance(step, Message) else step for step in steps)
    groups = (*opened.at[:before], tuple(fetched), *opened.at[before:])
    return replace(asked, steps=texts), Opened(groups)


def replace_media(message: Message) -> Message:
    """Return a message without its URLs: they have become documents."""
    if not any(part.kind == DOC_URL for part in message.media):
        return message
    return msgspec.structs.replace(message, content=message.text)


def _held_tokens(asked: Asked) -> int:
    """Return what documents that stand in messages take there: they are counted as documents."""
    return sum(text_tokens(attachment.text) for attachment in asked.attachments if attachment.text)


@dataclass
class _Task:
    """One request, and everything that is needed to answer it."""

    request: ChatRequest
    desk: Desk
    base: Metered
    asked: Asked
    opened: Opened
    clock: Callable[[], float]
    instruction: str = field(init=False)

    def __post_init__(self) -> None:
        role = "" if _PLAIN_ROLE.fullmatch(self.asked.role.strip()) else self.asked.role
        self.model = self.desk.model.name
        self.documents: Sequence[Document] = self.opened.documents
        question = self.asked.question.strip()
        if not self.documents:  # the text stands beside the instruction, and may be as long as a document
            question = asking.brief(question, self.base.context_tokens // 4)
        self.instruction = "\n\n".join(part for part in (role, question) if part)
        self.several = asking.several_labels(self.instruction)

    @property
    def is_data(self) -> bool:
        """Whether the answer is JSON."""
        return self.request.shape is not None or asking.wants_json(self.instruction)

    @property
    def limit_s(self) -> float:
        return STREAMED_S if self.request.stream else UNSTREAMED_S

    @property
    def plain_messages(self) -> tuple[Message, ...]:
        return tuple(map(replace_media, self.request.messages))

    async def labels(self) -> tuple[str, ...]:
        """Return the labels that the instruction lists; none where it is about no classes."""
        if not asking.classifies(self.instruction):
            return ()
        return asking.labels_in(self.instruction) or await labelling.labels_named(
            self.base, self.model, self.instruction
        )

    async def mined(self) -> tuple[Any, Mined]:
        """Return the data. Raises AnswerUnfit where the caller's own schema cannot be kept to."""
        documents = self.documents
        if not documents:  # the text stands in the question itself
            documents = (await self.desk.library.hold(self.asked.question, "text"),)
        sample = (await documents[0].read(1, 1))[0].text[:_SAMPLE_CHARS]
        labels = asking.labels_in(self.instruction) if asking.classifies(self.instruction) else ()
        form = await form_of(self.base, self.model, self.instruction, self.request.shape, sample, labels)
        value, report = await self._of_tables(form, documents) or await self._of_text(form, documents)
        made = completed(manner_of(self.instruction).written(value), form.plain, strict=form.given)
        why = "what it demands is not in the documents" if is_missing(made) else ""
        if form.given and not why:
            made = schemas.fitted(made, form.schema)
            why = schemas.problem(made, form.schema) or ""
        if why:
            raise AnswerUnfit(why)
        records = made if form.records and form.records[0] is None else (made or {}).get((form.records or ("",))[0])
        return made, msgspec.structs.replace(report, records=len(records) if isinstance(records, list) else 1)

    async def _of_tables(self, form: Form, documents: Sequence[Document]) -> tuple[Any, Mined] | None:
        """Return the records of documents that are tables; None where they are not, or no list is asked for."""
        place = form.records
        if place is None or not all(_is_flat(part) for part in place[1]["properties"].values()):
            return None
        found: list[Table] = []
        for document in documents:
            some = await _record_tables(document)
            if not some:
                return None
            found += some
        key, record = place
        began = self.clock()
        rows = [
            Rows(self.base, self.model, self.instruction, record, table, lambda: self.clock() - began < self.limit_s)
            for table in found
        ]
        about = [one for one in rows if one.goes_on() and await one.find()]
        rows = about or (rows if len(rows) == 1 else [])  # of several tables, those that have such columns
        if not rows:
            return None
        records = [made for one in rows for made in await one.records()]
        report = Mined(
            "rows",
            rows=sum(len(one.table.rows) for one in rows),
            missed=sum(one.missed for one in rows),
            dropped=sum(one.dropped for one in rows),
        )
        if key is None:
            return records, report
        others = {name: part for name, part in form.plain["properties"].items() if name != key}
        rest: Any = {}
        if others:
            rest, _ = await self._of_text(
                Form({"type": "object", "properties": others, "required": list(others)}), documents
            )
        return {**(rest or {}), key: records}, report

    async def _of_text(self, form: Form, documents: Sequence[Document]) -> tuple[Any, Mined]:
        extractor = Extractor(
            self.base,
            self.model,
            self.instruction,
            form,
            self.limit_s,
            self.clock,
        )
        value = await extractor.extract(documents)
        report = Mined("parts", dropped=extractor.dropped, parts=extractor.parts, parts_read=extractor.parts_read)
        return value, report


def _is_flat(schema: Schema) -> bool:
    return schema.get("type") not in ("object", "array")


async def _record_tables(document: Document) -> list[Table]:
    """Return the tables of a document that is little else; none of any other. Those with the same head are one."""
    pages = [page async for page in pages_of(document)]
    found, share = tables(pages)
    if share < LEAST_SHARE:
        return []
    rows: dict[tuple[str, ...], list[Row]] = {}
    for table in map(_named, found):
        rows.setdefault(table.headers, []).extend(table.rows)
    return [Table(headers, tuple(some)) for headers, some in rows.items()]


def _named(table: Table) -> Table:
    """Return a table whose columns all have names, each its own.

    A column without one in which hardly anything stands is a remark beside the table, and left out.
    """
    kept: dict[str, int] = {}
    for at, header in enumerate(table.headers):
        filled = sum(bool(row.cells[at]) for row in table.rows)
        if not header and filled < _LEAST_FILLED * len(table.rows):
            continue
        name, count = header or f"column {at + 1}", 1
        while name in kept:
            count += 1
            name = f"{header} {count}"
        kept[name] = at
    if list(kept) == list(table.headers):
        return table
    rows = tuple(Row(tuple(row.cells[at] for at in kept.values()), row.page) for row in table.rows)
    return Table(tuple(kept), rows)


__all__ = ["MOST_FILES", "Mined", "Miner", "Takes"]
