"""`hanlin ask`: a question about files, which are uploaded, read, asked about, and removed unless they are kept."""

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from hanlin.cli import chat as chatting
from hanlin.cli import show
from hanlin.cli.chat import Talk
from hanlin.cli.client import Service, Target
from hanlin.cli.show import Failed, Misused
from hanlin.words import say

DEFAULT_MODEL = "qwen-long"
ROLE = "You are a helpful assistant."

_POLL_S = 0.5
_STORED = re.compile(r"file-fe-\w+")


def parted(words: Sequence[str]) -> tuple[list[str], str]:
    """Part the words of the command line into files and the question: the last word, or all that are no files.

    Raises Misused where there is no file, or nothing is asked.
    """
    files = [word for word in words[:-1] if _STORED.fullmatch(word) or Path(word).is_file()]
    question = " ".join(word for word in words if word not in files)
    missing = [word for word in words[:-1] if word not in files]
    if missing and all("/" in word or re.search(r"\.\w{1,5}$", word) for word in missing):
        raise Misused(say(f"{missing[0]}: there is no such file", f"{missing[0]}：没有此文件"))
    if not files or not question.strip():
        raise Misused(
            say(
                "name one file or several, and then the question. See `hanlin ask --help`",
                "请先列出一个或多个文件，再写问题。请看 `hanlin ask --help`",
            )
        )
    return files, question


def ask(
    target: Target,
    files: Sequence[str],
    talk: Talk,
    *,
    keep: bool,
    as_json: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Upload what is not stored yet, wait until all is read, ask, print the answer as it comes. Raises Failed."""
    with Service(target) as service, uploaded(service, files, keep=keep) as ids:
        for file_id in ids:
            wait(service, file_id, sleep)
        references = ",".join(f"fileid://{file_id}" for file_id in ids)
        chatting.answer_once(service, about(talk, references), as_json)
        if keep:
            show.remark(say("kept: ", "已保留：") + " ".join(ids))


def about(talk: Talk, references: str) -> Talk:
    """Return the conversation with its documents, behind the role and ahead of the question."""
    leading = ({"role": "system", "content": talk.system or ROLE}, {"role": "system", "content": references})
    return Talk(talk.model, turns=(*leading, *talk.turns))


@contextlib.contextmanager
def uploaded(service: Service, files: Sequence[str], *, keep: bool) -> Iterator[list[str]]:
    """Give the ids of files, in order; what was uploaded for this is removed in the end, unless it is kept."""
    ids: list[str] = []
    sent: list[str] = []
    try:
        for word in files:
            if not _STORED.fullmatch(word):
                sent.append(_sent(service, Path(word)))
            ids.append(word if _STORED.fullmatch(word) else sent[-1])
        yield ids
    finally:
        for file_id in () if keep else sent:
            with contextlib.suppress(Failed):
                service.delete_file(file_id)


def _sent(service: Service, path: Path) -> str:
    size = path.stat().st_size
    with show.downloading(path.name) as report:
        doing = say(f"sending {path.name}", f"正在上传 {path.name}")
        return service.upload(path, report=lambda done: report(done, size, doing)).id


def wait(service: Service, file_id: str, sleep: Callable[[float], None] = time.sleep) -> None:
    """Wait until a file has been read. Raises Failed when it cannot be."""
    stored = service.file(file_id)
    with show.err.status(say(f"reading {stored.filename}", f"正在解析 {stored.filename}")):
        while stored.status in ("processing", "uploaded"):
            sleep(_POLL_S)
            stored = service.file(file_id)
    if stored.status != "processed":
        why = stored.status_details or stored.status
        raise Failed(say(f"{stored.filename} cannot be read: {why}", f"{stored.filename} 无法解析：{why}"))


__all__ = ["DEFAULT_MODEL", "about", "ask", "parted", "uploaded", "wait"]
