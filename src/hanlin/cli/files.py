"""`hanlin files`: upload documents to a service and look after them, as programs do over its Files API."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import RenderableType

from hanlin.cli import show, times
from hanlin.cli.client import Service, Stored, target
from hanlin.cli.help import Menu, Page, examples
from hanlin.cli.options import BaseUrlOption, HomeOption, JsonOption, KeyVariableOption, home_of
from hanlin.cli.show import Failed
from hanlin.cli.tables import Column, Fitting, table
from hanlin.words import say

files = typer.Typer(
    name="files",
    cls=Menu,
    no_args_is_help=True,
    help=say(
        "Upload documents, and list, show and delete files.\n\nAsks the service that runs on this home, or another at "
        "--base-url. Files belong to the workspace of the key.",
        "上传文档，列出、查看与删除文件。\n\n默认使用该主目录上运行的服务，也可用 --base-url 指定其他服务。"
        "文件属于密钥所在的业务空间。",
    ),
    epilog=examples("hanlin files upload contract.pdf", "hanlin files list", "hanlin files delete file-fe-…"),
)

PurposeOption = Annotated[
    str, typer.Option("--purpose", metavar="P", help=say("file-extract, batch, fine-tune.", "用途，同左。"))
]

_POLL_S = 0.5


@files.command(
    cls=Page,
    help=say(
        "Upload files, and wait until documents have been read.\n\nTheir ids go to stdout, a line each.",
        "上传文件，并等待文档解析完毕。\n\n编号输出到标准输出，每行一个。",
    ),
    epilog=examples(
        "hanlin files upload contract.pdf annex.docx", "hanlin files upload lines.jsonl --purpose batch --json"
    ),
)
def upload(
    paths: Annotated[
        list[Path], typer.Argument(metavar=say("FILE", "文件"), help=say("What is uploaded.", "要上传的文件。"))
    ],
    purpose: PurposeOption = "file-extract",
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help=say("Wait for documents to be read.", "等待解析完毕。"))
    ] = True,
    base_url: BaseUrlOption = None,
    key_variable: KeyVariableOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    unread = 0
    with Service(target(home_of(home), base_url, key_variable)) as service:
        for path in paths:
            stored = service.upload(path, purpose)
            if wait:
                stored = read(service, stored)
            if as_json:
                show.data(stored)
            else:
                show.out.print(stored.id)
                show.note(f"{show.plain(stored.filename)}: {state(stored)}")
            unread += stored.status == "error"
    if unread:
        raise Failed(
            say(f"{unread} of {len(paths)} files cannot be read", f"{len(paths)} 个文件中有 {unread} 个无法解析")
        )


def read(service: Service, stored: Stored, sleep: Callable[[float], None] = time.sleep) -> Stored:
    """Return a file once it has been read, or cannot be."""
    while stored.status == "processing":
        sleep(_POLL_S)
        stored = service.file(stored.id)
    return stored


@files.command(
    "list",
    cls=Page,
    help=say("List files, newest first.\n\nDates are UTC.", "列出文件，新的在前。\n\n日期为 UTC。"),
    epilog=examples("hanlin files list", "hanlin files list --purpose batch --json"),
)
def list_files(
    purpose: PurposeOption = "",
    base_url: BaseUrlOption = None,
    key_variable: KeyVariableOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    with Service(target(home_of(home), base_url, key_variable)) as service:
        rows = list(service.files(purpose))
    if as_json:
        show.data(rows)
    elif rows:
        show.page(view(rows))
    else:
        show.note(
            say("no files: `hanlin files upload FILE` stores one", "没有文件：可用 `hanlin files upload 文件` 上传")
        )


@files.command(
    "show",
    cls=Page,
    help=say("Show a file: how far it is read, or why it cannot be.", "查看文件：解析进度，或无法解析的原因。"),
    epilog=examples("hanlin files show file-fe-…", "hanlin files show file-fe-… --json"),
)
def show_file(
    file_id: Annotated[str, typer.Argument(metavar="ID", help=say("Its id.", "文件编号。"))],
    base_url: BaseUrlOption = None,
    key_variable: KeyVariableOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    with Service(target(home_of(home), base_url, key_variable)) as service:
        stored = service.file(file_id)
    if as_json:
        show.data(stored)
    else:
        show.page(view([stored]))


@files.command(
    cls=Page,
    help=say(
        "Delete files.\n\nTheir bytes and their text go with them, unless another file has the same.",
        "删除文件。\n\n内容与解析结果一并删除，除非另有文件内容相同。",
    ),
    epilog=examples("hanlin files delete file-fe-…"),
)
def delete(
    file_ids: Annotated[list[str], typer.Argument(metavar="ID", help=say("Their ids.", "文件编号。"))],
    base_url: BaseUrlOption = None,
    key_variable: KeyVariableOption = None,
    home: HomeOption = None,
) -> None:
    with Service(target(home_of(home), base_url, key_variable)) as service:
        for file_id in file_ids:
            service.delete_file(file_id)
            show.note(say(f"{file_id}: deleted", f"{file_id}：已删除"))


def state(stored: Stored) -> str:
    """Return in a few words how a file is."""
    known = stored.hanlin
    if stored.status == "error":
        return stored.status_details or stored.status
    if stored.status == "processing":
        done, total = known.get("pages_done"), known.get("pages_total")
        return f"{stored.status} {done}/{total}" if total else stored.status
    if pages := known.get("pages"):
        return say(f"{stored.status}, {pages} pages", f"{stored.status}，{pages} 页")
    return stored.status


def view(rows: Sequence[Stored]) -> RenderableType:
    """Return files as a table, with as many columns as there is room for."""
    made = [times.shown(datetime.fromtimestamp(row.created_at, UTC)) for row in rows]
    full = table(
        (
            Column("id", whole=True),
            Column(say("name", "名称")),
            Column(say("bytes", "字节"), right=True),
            Column(say("purpose", "用途")),
            Column(say("state", "状态")),
            Column(say("made", "创建")),
        ),
        [
            (row.id, row.filename, f"{row.bytes:,}", row.purpose, state(row), at)
            for row, at in zip(rows, made, strict=True)
        ],
    )
    short = table(
        (Column("id", whole=True), Column(say("name", "名称")), Column(say("state", "状态"))),
        [(row.id, row.filename, state(row)) for row in rows],
    )
    return Fitting(full, short)
