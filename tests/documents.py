"""Documents in memory, and a base model that can read: what tests of recipes about documents begin with."""

import asyncio
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from hanlin.catalogue.models import Model
from hanlin.documents import words
from hanlin.documents.values import Document, Found, Page, Passage
from hanlin.errors import ContextLengthExceeded, InvalidRequest
from hanlin.metering.estimate import prompt_tokens, text_tokens
from hanlin.recipes.recipe import Desk, Recipe
from hanlin.recipes.tables import tables
from hanlin.recipes.texts import is_chinese, numbers, terms
from hanlin.types import ChatRequest, ChatResult, Choice, Event, Events, Message, Usage, Vector, fold
from tests.values import LIMIT_S, model

_SENTENCE = re.compile(r"[^。！？!?\n]+?(?:[。！？!?]|\.(?=\s|$)|\n|$)")
_MARK = re.compile(
    r"^\[(?P<name>(?!p\.\d)[^\]|]+?(?= p\.\d|\]| \|))?(?: ?p\.(?P<first>\d+)(?:-(?P<last>\d+))?)?(?: \| [^\]]*)?\]$",
    re.MULTILINE,
)
_LINE_MARK = re.compile(r"（第(\d+)页）|\(p\. (\d+)\)")


@lru_cache(4096)
def _words(text: str) -> frozenset[str]:
    return frozenset(words.cut(text).split())


@dataclass
class MemoryDocument:
    """A document whose pages are given: a passage is a page, and search counts the words that are shared."""

    id: str
    name: str
    all_pages: Sequence[Page]
    looked_at: int = 0
    kept: dict[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        return hashlib.sha256("\f".join(page.text for page in self.all_pages).encode()).hexdigest()

    @property
    def pages(self) -> int:
        return len(self.all_pages)

    @property
    def tokens(self) -> int:
        return sum(text_tokens(page.text) for page in self.all_pages)

    async def read(self, first: int = 1, last: int | None = None) -> Sequence[Page]:
        return self.all_pages[first - 1 : last]

    async def passages(self) -> Sequence[Passage]:
        return [
            Passage(number, page.number, page.number, page.label, page.text)
            for number, page in enumerate(page for page in self.all_pages if page.text.strip())
        ]

    async def around(self, passage: Passage, before: int = 1, after: int = 1) -> Sequence[Passage]:
        return (await self.passages())[max(passage.number - before, 0) : passage.number + after + 1]

    async def count(self) -> int:
        return len(await self.passages())

    async def frequencies(self, terms: Sequence[str]) -> Mapping[str, int]:
        texts = [_words(passage.text) for passage in await self.passages()]
        return {term: sum(term in text for text in texts) for term in terms}

    async def search(self, question: str, limit: int, vector: Vector | None = None) -> Sequence[Found]:
        self.looked_at += 1
        wanted = [term.text for term in words.terms(question)]
        often = await self.frequencies(wanted)
        scored = [
            Found(passage, sum(1 / (1 + often[term]) for term in wanted if term in _words(passage.text)))
            for passage in await self.passages()
        ]
        best = sorted((found for found in scored if found.score > 0), key=lambda found: -found.score)
        return best[:limit]

    async def noted(self, key: str) -> str | None:
        return self.kept.get(key)

    async def note(self, key: str, text: str) -> None:
        self.kept[key] = text


@dataclass
class MemoryLibrary:
    """The documents of one caller, by id; `taken` are those that were fetched for a request."""

    documents: dict[str, Document] = field(default_factory=dict)
    taken: list[tuple[bytes, str, str]] = field(default_factory=list)

    async def open(self, ids: Sequence[str]) -> Sequence[Document]:
        for name in ids:
            if name not in self.documents:
                raise InvalidRequest(f"Invalid file [id:{name}].", param="messages")
        return [self.documents[name] for name in ids]

    async def hold(self, text: str, name: str) -> Document:
        return document(text, name=name)

    async def take(self, content: bytes, name: str, parsing: str) -> Document:
        self.taken.append((content, name, parsing))
        return document(content.decode(), name=name)


def document(*pages: str | Page, name: str = "report.pdf", id: str = "") -> MemoryDocument:
    """Return a document of these pages."""
    made = [Page(at + 1, page) if isinstance(page, str) else page for at, page in enumerate(pages)]
    return MemoryDocument(id or f"file-fe-{name}", name, made)


def library(*documents: MemoryDocument) -> MemoryLibrary:
    return MemoryLibrary({one.id: one for one in documents})


def asked(*messages: tuple[str, str], **fields: Any) -> ChatRequest:
    """Return a request to `qwen-long` of these roles and texts."""
    return ChatRequest(
        **{"model": "qwen-long", "messages": tuple(Message(role, text) for role, text in messages), **fields}
    )


def about(question: str, *files: MemoryDocument, **fields: Any) -> ChatRequest:
    """Return a question about files, as the documentation writes it."""
    references = ",".join(f"fileid://{file.id}" for file in files)
    return asked(("system", "You are a helpful assistant."), ("system", references), ("user", question), **fields)


async def events_of(
    recipe: Recipe, request: ChatRequest, base: "Scholar", shelf: MemoryLibrary, **more: Any
) -> list[Event]:
    """Return all events of a recipe's answer; a refusal is raised as the service would raise it."""
    row: Model = more.pop("model", None) or model("qwen-long", max_output_tokens=8192, max_input_tokens=10_000_000)
    recipe.check(request, row)
    async with asyncio.timeout(6 * LIMIT_S):
        return [event async for burst in recipe.run(request, Desk(row, base, shelf, **more)) for event in burst]


async def answer(recipe: Recipe, request: ChatRequest, base: "Scholar", shelf: MemoryLibrary, **more: Any) -> str:
    """Return the text of a recipe's answer."""
    return fold(await events_of(recipe, request, base, shelf, **more)).choices[0].text


Reply = Callable[[ChatRequest], str | None]


@dataclass
class Scholar:
    """A base model that reads what it is given: it finds sentences by their words, rows by their columns.

    It knows nothing else. `replies` are asked first, in order: what one returns is said, None leaves it to the next.
    Prompts beyond `context_tokens` are refused, as engines refuse them.
    """

    context_tokens: int = 8192
    fingerprint: str = "scholar"
    can_shape: bool = True
    can_continue: bool = True
    replies: list[Reply] = field(default_factory=list)
    requests: list[ChatRequest] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0
    has_vectors: bool = False

    @property
    def prompts(self) -> list[str]:
        return ["\n".join(message.text for message in request.messages) for request in self.requests]

    async def answer(self, request: ChatRequest) -> ChatResult:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        try:
            text, finish, usage = await self._said(request)
        finally:
            self.at_once -= 1
        return ChatResult((Choice(0, text, finish),), usage)

    async def stream(self, request: ChatRequest) -> Events:
        text, finish, usage = await self._said(request)
        for piece in re.findall(r"\s*\S{1,7}|\s+", text):
            yield [Event(text=piece)]
        yield [Event(finish_reason=finish)]
        yield [Event(usage=usage)]

    async def count(self, request: ChatRequest) -> int:
        return prompt_tokens(request.messages)

    async def vectors(self, texts: Sequence[str], purpose: str) -> Sequence[Vector] | None:
        return [(1.0, 0.0) for _ in texts] if self.has_vectors else None

    async def _said(self, request: ChatRequest) -> tuple[str, str, Usage]:
        self.requests.append(request)
        prompt = await self.count(request)
        if prompt > self.context_tokens:
            raise ContextLengthExceeded("small", prompt, self.context_tokens)
        text = next((said for reply in self.replies if (said := reply(request)) is not None), None)
        if text is None:
            text = json.dumps(shaped(request), ensure_ascii=False) if request.shape else spoken(request)
        limit = min(request.sampling.max_tokens or self.context_tokens, self.context_tokens - prompt)
        finish = "stop"
        while text_tokens(text) > limit:
            text, finish = text[: max(len(text) * 9 // 10, 1)], "length"
            if len(text) <= 1:
                break
        return text, finish, Usage(prompt, text_tokens(text))


@dataclass(frozen=True)
class Block:
    """A part of a prompt below its mark."""

    name: str
    first: int
    text: str


def blocks(text: str) -> list[Block]:
    marks = list(_MARK.finditer(text))
    ends = [*(mark.start() for mark in marks[1:]), len(text)][: len(marks)]
    return [
        Block(mark["name"] or "", int(mark["first"] or 1), text[mark.end() : end])
        for mark, end in zip(marks, ends, strict=True)
    ]


def question_of(request: ChatRequest) -> str:
    """Return what is asked: what stands behind the rules, or behind the word for it."""
    text = next(message.text for message in reversed(request.messages) if message.role == "user")
    for word in ("\n\n问题：", "\n\nQuestion: "):
        if word in text:
            return text.rsplit(word, 1)[1]
    return text.rsplit("\n\n", 1)[-1]


_AROUND = ("\n\n下面是", "\n\nBelow is", "\n\n其中与", "\n\nThe sentences", "\n\n请根据", "\n\nAnswer from")
"""Where documents end and a recipe's own words begin."""


def sentences(request: ChatRequest) -> Iterator[tuple[str, str, int]]:
    """Yield the sentences of the documents in a prompt: file, sentence, page."""
    for message in request.messages:
        material = message.text
        for word in (
            "\n\n以上是从",
            "\n\nAbove are",
            "\n\n下面是",
            "\n\nBelow is",
            "\n\n其中与",
            "\n\nThe sentences",
            "\n\n请只根据",
            "\n\nAnswer from",
        ):
            material = material.split(word)[0]
        for block in blocks(material):
            for sentence in _SENTENCE.findall(block.text):
                noted = _LINE_MARK.search(sentence)
                page = int(noted[1] or noted[2]) if noted else block.first
                plain = _LINE_MARK.sub("", sentence).strip(" -\n")
                if plain:
                    yield block.name, plain, page


def close_to(question: str, sentence: str) -> float:
    wanted = terms(question)
    return len(wanted & terms(sentence)) / len(wanted) if wanted else 0.0


def spoken(request: ChatRequest) -> str:
    """Answer with the sentence nearest to the question; a note with all that are near."""
    question = question_of(request)
    chinese = is_chinese(question)
    last = request.messages[-1].text
    found = [(close_to(question, sentence), sentence, page) for _, sentence, page in sentences(request)]
    if "概括全文" in last or "summed up later" in last:
        chinese = "概括全文" in last
        some = [(sentence, page) for at, (_, sentence, page) in enumerate(found) if at % 20 == 0][:12]
        return "\n".join(f"- {s}（第{p}页）" if chinese else f"- {s} (p. {p})" for s, p in some)
    if "逐条摘出" in last or "point by point" in last:
        near = [(sentence, page) for near, sentence, page in found if near >= 0.2][:12] or [
            (sentence, page) for at, (_, sentence, page) in enumerate(found) if at % 40 == 0
        ]
        return "\n".join(f"- {s}（第{p}页）" if chinese else f"- {s} (p. {p})" for s, p in near) or (
            "无" if chinese else "none"
        )
    if "关键词" in last or "key words" in last:
        return question
    if "全部" in last and "不要遗漏" in last:
        return "\n".join(re.findall(r"^- .*$", last, re.MULTILINE))
    if "由程序" in last or "by a program" in last:
        return re.split("：|: ", last.split("由程序" if chinese else "by a program")[1], maxsplit=1)[1].split("\n")[0]
    if "笔记" in last or "notes were taken" in last:
        return " ".join(sentence for _, sentence, _ in found[:5])
    if found and max(found)[0] >= 0.3:
        _, sentence, page = max(found, key=lambda row: row[0])
        return f"{sentence}（第{page}页）" if chinese else f"{sentence} (p. {page})"
    return "文件中没有提到。" if chinese else "The documents do not mention it."


def shaped(request: ChatRequest) -> Any:
    """Fill in the form that a request asks for, from what the prompt holds."""
    assert request.shape is not None
    properties = request.shape.schema.get("properties", {})
    question = question_of(request)
    if "items" in properties:
        near = [(sentence, page) for _, sentence, page in sentences(request) if close_to(question, sentence) >= 0.25]
        return {"items": [{"text": sentence, "page": page} for sentence, page in near[:40]]}
    if "conditions" in properties:
        return _query(question, properties, request.messages[-1].text)
    if "records" in properties:
        form = properties["records"]
        return {"records": _records(request, form["items"])[: form["maxItems"]]}
    if "labels" in properties:
        return {"labels": _label(request, properties["labels"])}
    if "many" in properties:
        told = request.messages[-1].text.rsplit("Instruction:", 1)[1]
        named = [name for part in _FIELDS.findall(told) for name in re.split("[、,，和]", part) if name.strip()]
        return {"many": True, "fields": [{"name": name.strip(), "type": "string"} for name in named]}
    if all("(none)" in part.get("enum", ()) for part in properties.values()):
        return {name: _column(name, part["enum"]) for name, part in properties.items()}
    records = _records(request, request.shape.schema)
    return records[0] if records else dict.fromkeys(properties)
    raise AssertionError(f"no idea how to fill {request.shape.schema}")


_FIELDS = re.compile("(?:字段|包括|fields)[：:]?([^。.\n]+)")
_PAIR = re.compile(r"([^\s：:，,；;|]+)\s*[：:]\s*([^，,；;。|\n]+)")


def _column(name: str, headers: list[str]) -> str:
    """Return the column that shares two characters with a field."""
    return next((header for header in headers if len(set(name) & set(header)) > 1), "(none)")


def _label(request: ChatRequest, form: Any) -> Any:
    labels = form["items"]["enum"] if "items" in form else form["enum"]
    text = request.messages[-1].text
    counts = {label: text.count(label) for label in labels}
    best = max(labels, key=lambda label: counts[label])
    return [label for label in labels if counts[label] > 2] or [best] if "items" in form else best


def _records(request: ChatRequest, record: Any) -> list[dict[str, Any]]:
    """Return the records of a prompt: rows whose headers are fields, lines that name some of them."""
    wanted = list(record["properties"])
    text = re.split("\n\n以上是|\n\nAbove is|\n\nMake one", request.messages[-1].text)[0]
    found: list[dict[str, Any]] = []
    for table in tables([Page(1, text)])[0]:
        columns = {name: at for at, name in enumerate(table.headers)}
        if any(name in columns for name in wanted if name != "#"):
            for row in table.rows:
                made = {name: row.cells[columns[name]] if name in columns else None for name in wanted}
                found.append({name: int(value or 0) if name == "#" else value for name, value in made.items()})
    for line in text.splitlines():
        pairs = dict(_PAIR.findall(line)) if not line.startswith("|") else {}
        if any(name in pairs for name in wanted):
            found.append({name: pairs.get(name, "").strip() or None for name in wanted})
    return found


def _query(question: str, properties: Any, told: str) -> Any:
    [table] = tables([Page(1, told)])[0][:1]
    headers = properties["conditions"]["items"]["properties"]["column"]["enum"]
    conditions = []
    for line in told.splitlines():
        header, colon, values = line.partition(": ")
        if colon and header in headers:
            conditions += [
                {"column": header, "is": "=", "value": value} for value in values.split(", ") if value in question
            ]
    named = [header for header in headers if header.casefold() in question.casefold()]
    words = {
        "合计": "sum",
        "总额": "sum",
        "平均": "average",
        "最大": "max",
        "最高": "max",
        "列出": "list",
        "total": "sum",
    }
    operation = next((made for word, made in words.items() if word in question), "count")
    assert table.headers
    column = next((header for header in named if header not in [row["column"] for row in conditions]), headers[0])
    made = {"operation": operation, "column": column, "conditions": conditions}
    return {name: made[name] for name in properties}


def filler(pages: int, *, chinese: bool = True, sentences_a_page: int = 12) -> list[str]:
    """Return pages of text that is about nothing in particular, no two sentences alike."""
    made = []
    for page in range(pages):
        lines = []
        for at in range(sentences_a_page):
            one, two, three = page % 17, (page * 7 + at) % 13, (page + at * 5) % 11
            number = page * sentences_a_page + at
            lines.append(
                f"第{number}段记录了{_PLACES[two]}的{_THINGS[three]}在{_TIMES[one]}的日常维护，结果符合预期。"
                if chinese
                else f"Entry {number} records routine care of {_THINGS_EN[three]} in {_PLACES_EN[two]}, as expected."
            )
        made.append("\n".join(lines))
    return made


_PLACES = "东区 西区 南楼 北楼 一号厅 二号厅 三号厅 码头 食堂 操场 车棚 花房 水塔".split()  # noqa: SIM905
_THINGS = "灯具 水泵 门窗 管道 电梯 栏杆 草坪 雨棚 地砖 风扇 配电箱".split()  # noqa: SIM905
_TIMES = (
    "一月 二月 三月 四月 五月 六月 七月 八月 九月 十月 冬月 腊月 早春 盛夏 初秋 深冬 年末".split()  # noqa: SIM905
)
_PLACES_EN = "Ashford Berwick Corby Dunmow Epworth Frome Goole Hexham Ilkley Jarrow Kendal Leek Malton".split()  # noqa: SIM905
_THINGS_EN = "lamps pumps doors pipes lifts rails lawns roofs tiles fans boxes".split()  # noqa: SIM905


def needles(pages: list[str], *facts: tuple[int, str]) -> list[str]:
    """Return pages with sentences put into the middle of some of them, by page number."""
    made = list(pages)
    for number, fact in facts:
        lines = made[number - 1].split("\n")
        lines.insert(len(lines) // 2, fact)
        made[number - 1] = "\n".join(lines)
    return made


__all__ = [
    "MemoryDocument",
    "MemoryLibrary",
    "Scholar",
    "about",
    "answer",
    "asked",
    "document",
    "events_of",
    "filler",
    "library",
    "needles",
    "numbers",
]
