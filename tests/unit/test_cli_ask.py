"""`hanlin ask`: which words are files, what is sent, and what becomes of what was uploaded."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hanlin.cli.ask import ask, parted
from hanlin.cli.chat import Talk
from hanlin.cli.client import Target
from hanlin.cli.show import Failed, Misused


class Stub(ThreadingHTTPServer):
    """A service of files and chat, by the wire alone. `states` are those that a file goes through."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.states = ["processing", "processed"]
        self.calls: list[str] = []
        self.bodies: list[bytes] = []
        self.fails = False

    @property
    def target(self) -> Target:
        return Target(f"http://127.0.0.1:{self.server_port}/v1")


class _Handler(BaseHTTPRequestHandler):
    server: Stub

    def log_message(self, *_: object) -> None:
        pass

    def _take(self) -> None:
        self.server.calls.append(f"{self.command} {self.path.removeprefix('/v1')}")
        self.server.bodies.append(self.rfile.read(int(self.headers.get("content-length", 0))))

    def _say(self, body: bytes, kind: str = "application/json", status: int = 200) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _file(self, state: str) -> None:
        row = {"id": "file-fe-1", "object": "file", "filename": "a.txt", "bytes": 9, "created_at": 1764499365}
        more = {"purpose": "file-extract", "status": state, "status_details": "blank"}
        self._say(json.dumps(row | more).encode())

    def do_POST(self) -> None:
        self._take()
        if self.path.endswith("/files"):
            self._file("processing")
        elif self.server.fails:
            self._say(b'{"error":{"message":"content blank."}}', status=400)
        else:
            chunk = {"choices": [{"delta": {"content": "42"}, "finish_reason": "stop"}]}
            self._say(f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n".encode(), "text/event-stream")

    def do_GET(self) -> None:
        self._take()
        states = self.server.states
        self._file(states.pop(0) if len(states) > 1 else states[0])

    def do_DELETE(self) -> None:
        self._take()
        self._say(b'{"id":"file-fe-1","deleted":true}')


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HANLIN_LANG", "en")


@pytest.fixture
def stub() -> Iterator[Stub]:
    with Stub() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "a.txt"
    path.write_text("答案是42。", encoding="utf-8")
    return str(path)


def test_files_come_first_and_the_question_last(file: str) -> None:
    """Quotes around the question are a habit of some; ids of stored files are files."""
    assert parted([file, "what is it?"]) == ([file], "what is it?")
    assert parted([file, "what", "is", "it?"]) == ([file], "what is it?")
    assert parted(["file-fe-abc123", file, "it?"]) == (["file-fe-abc123", file], "it?")


@pytest.mark.parametrize("words", [["what is it?"], ["nothing.pdf", "what is it?"], ["file-fe-abc123"]])
def test_without_a_file_or_a_question_nothing_is_sent(words: list[str]) -> None:
    """A file that is not there must not become part of the question."""
    with pytest.raises(Misused):
        parted(words)


def test_a_file_is_uploaded_waited_for_asked_about_and_removed(
    stub: Stub, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The answer alone goes to stdout, and nothing is left at the service."""
    waits: list[float] = []

    ask(stub.target, [file], Talk("qwen-long").asked("答案？"), keep=False, as_json=False, sleep=waits.append)

    assert stub.calls == [
        "POST /files",
        "GET /files/file-fe-1",
        "GET /files/file-fe-1",
        "POST /chat/completions",
        "DELETE /files/file-fe-1",
    ]
    assert b'name="purpose"\r\n\r\nfile-extract' in stub.bodies[0]
    assert "答案是42。".encode() in stub.bodies[0]
    sent = json.loads(stub.bodies[3])
    assert sent["model"] == "qwen-long"
    assert [message["role"] for message in sent["messages"]] == ["system", "system", "user"]
    assert sent["messages"][1]["content"] == "fileid://file-fe-1"
    assert capsys.readouterr().out == "42\n"
    assert len(waits) == 1


def test_a_kept_file_stays_and_its_id_is_told(stub: Stub, file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The next question names it by that."""
    ask(stub.target, [file], Talk("m").asked("?"), keep=True, as_json=False, sleep=lambda _: None)

    assert not any(call.startswith("DELETE") for call in stub.calls)
    assert "file-fe-1" in capsys.readouterr().err


def test_a_stored_file_is_asked_about_and_never_removed(stub: Stub) -> None:
    """It is somebody's, and was not put there for this question."""
    ask(stub.target, ["file-fe-1"], Talk("m").asked("?"), keep=False, as_json=False, sleep=lambda _: None)

    assert not any(call.startswith(("DELETE", "POST /files")) for call in stub.calls)


def test_a_file_that_cannot_be_read_is_said_and_removed(stub: Stub, file: str) -> None:
    """With the service's reason."""
    stub.states = ["error"]

    with pytest.raises(Failed, match="cannot be read: blank"):
        ask(stub.target, [file], Talk("m").asked("?"), keep=False, as_json=False)

    assert stub.calls[-1] == "DELETE /files/file-fe-1"


def test_a_refused_question_leaves_nothing_behind(stub: Stub, file: str) -> None:
    """Also when the call fails."""
    stub.fails = True

    with pytest.raises(Failed, match="content blank"):
        ask(stub.target, [file], Talk("m").asked("?"), keep=False, as_json=False, sleep=lambda _: None)

    assert stub.calls[-1] == "DELETE /files/file-fe-1"
