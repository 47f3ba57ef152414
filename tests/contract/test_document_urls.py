"""Documents that a request names by their URLs, as the native surface will: fetched, read, and mined."""

import io
import json
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import docx
import msgspec
import pytest

from hanlin.catalogue import load
from hanlin.errors import FileUnfit, UrlNotFetched
from hanlin.home import Home, prepare
from hanlin.service import chat
from hanlin.service.files import open_files
from hanlin.service.library import WorkspaceLibrary
from hanlin.service.studio import Studio
from hanlin.settings import Settings
from hanlin.store.database import open_store
from hanlin.testing import ScriptedEngine
from hanlin.types import ChatRequest, MediaPart, Message, TextPart
from tests.drawn_text import picture_of
from tests.values import deployment

ROWS = [(f"产品{number}", f"{number}99 元") for number in range(40)]
FILES = {
    "/a.csv": "名称,价格\n" + "\n".join(",".join(row) for row in ROWS[:25]),
    "/b.csv": "名称,价格\n" + "\n".join(",".join(row) for row in ROWS[25:]),
    "/blank.txt": " \n",
}


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        body = FILES.get(self.path, "").encode()
        self.send_response(200 if body else 404)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as serving:
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{serving.server_port}"
        serving.shutdown()


async def _studio(home: Home, networks: tuple[str, ...]) -> AsyncIterator[Studio]:
    prepare(home)
    settings = Settings(fetch_networks=networks)
    store = await open_store(home.database)
    studio = Studio(settings, load(), store, b"secret", files=open_files(home, settings, store))
    studio.starting = None
    studio.deployments = (deployment(ScriptedEngine(), context_tokens=16_384),)
    yield studio
    await studio.close()


@pytest.fixture
async def studio(tmp_path: Path) -> AsyncIterator[Studio]:
    async for one in _studio(Home(tmp_path), ("127.0.0.0/8",)):
        yield one


def asked(*urls: str, **more: Any) -> ChatRequest:
    part = {"type": "doc_url", "doc_url": list(urls), "file_parsing_strategy": "auto", **more}
    content = (
        TextPart('提取所有产品，整理成 JSON 数组，例如 [{"名称": "", "价格": ""}]'),
        MediaPart("doc_url", msgspec.Raw(msgspec.json.encode(part))),
    )
    return ChatRequest("qwen-doc-turbo", (Message("system", "You are a helpful assistant."), Message("user", content)))


async def test_documents_are_fetched_read_and_mined_in_their_order(studio: Studio, server: str) -> None:
    """Rows of tables are copied, not written anew: forty products come back to the letter."""
    result = await chat.complete(studio.call(asked(f"{server}/a.csv", f"{server}/b.csv")), 60)

    text = result.choices[0].text.removeprefix("```json").removesuffix("```")
    assert [(row["名称"], row["价格"]) for row in json.loads(text)] == ROWS


async def test_a_fact_in_a_picture_is_read_as_the_strategy_says(tmp_path: Path, studio: Studio) -> None:
    """Spec §3.5: `text_only` ignores it, `text_and_images` finds it; the same bytes are read anew for each."""
    pytest.importorskip("rapidocr")
    picture, path = io.BytesIO(), tmp_path / "a.docx"
    picture_of(["CODE 7431"]).save(picture, "PNG")
    document = docx.Document()
    document.add_paragraph("口令见图。")
    document.add_picture(picture)
    document.save(str(path))
    assert studio.files is not None
    library = WorkspaceLibrary(studio.files, "default")
    told: dict[str, str] = {}

    for strategy in ("text_and_images", "text_only", "auto"):
        taken = await library.take(path.read_bytes(), path.name, strategy)
        told[strategy] = "\n".join(page.text for page in await taken.read())

    assert all("口令见图。" in text for text in told.values())
    assert {strategy: "7431" in text for strategy, text in told.items()} == {
        "text_and_images": True,
        "text_only": False,
        "auto": False,
    }


async def test_what_cannot_be_read_is_said_by_its_name(studio: Studio, server: str) -> None:
    """The vendor's words, as for uploaded files."""
    with pytest.raises(FileUnfit, match=r"blank.txt.*content blank"):
        await chat.complete(studio.call(asked(f"{server}/blank.txt")), 60)


async def test_what_is_not_there_is_said_with_its_url(studio: Studio, server: str) -> None:
    """Nobody should have to guess which of ten it was."""
    with pytest.raises(UrlNotFetched, match=r"/missing.pdf"):
        await chat.complete(studio.call(asked(f"{server}/missing.pdf")), 60)


async def test_urls_lead_nowhere_inside_unless_the_operator_says_so(tmp_path: Path, server: str) -> None:
    """A service that fetches for strangers must not be their way into its own network."""
    async for guarded in _studio(Home(tmp_path), ()):
        with pytest.raises(UrlNotFetched):
            await chat.complete(guarded.call(asked(f"{server}/a.csv")), 60)
