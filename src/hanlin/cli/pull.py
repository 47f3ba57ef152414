"""`hanlin pull`: fetch the published weights of a name in the form that fits this machine, and list what is here."""

from collections.abc import Sequence

import msgspec
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from hanlin.catalogue import Catalogue, WeightsCatalogue
from hanlin.cli import show
from hanlin.cli.show import Failed
from hanlin.engines.weights import Installed, Means, installed, memory_needed
from hanlin.engines.weights.errors import size
from hanlin.engines.weights.store import find, quarantine, read_manifest, verify
from hanlin.home import Home, prepare
from hanlin.service import start
from hanlin.service import weights as choosing
from hanlin.service.weights import Pull
from hanlin.words import say


def list_installed(home: Home, as_json: bool) -> None:
    """Print the weights of this home."""
    found = installed(home.models)
    if as_json:
        show.data(found)
    elif found:
        show.page(view(found))
    else:
        show.note(
            say(
                "no weights yet: `hanlin pull NAME` fetches some, and so does the first `hanlin serve`",
                "尚无权重：可用 `hanlin pull 名称` 获取，首次 `hanlin serve` 也会获取",
            )
        )


def view(found: Sequence[Installed]) -> RenderableType:
    """Return the list."""
    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    table.add_column(say("name", "名称"), no_wrap=True)
    table.add_column(say("published as", "发布名称"), overflow="fold")
    table.add_column(say("form", "量化"), no_wrap=True)
    table.add_column(say("size", "大小"), justify="right", no_wrap=True)
    table.add_column("SHA-256", no_wrap=True)
    for one in found:
        table.add_row(
            Text(one.name or "?"), Text(one.repository), one.quantisation, size(one.size_bytes), one.sha256[:12]
        )
    return table


def pull(name: str, home: Home, catalogue: Catalogue, quantisation: str, as_json: bool) -> None:
    """Choose, say what and why, fetch, say what to do next. Raises WeightsError, StartupError and Failed."""
    prepare(home)
    rows = start.weight_rows()
    here = start.machine()
    with show.err.status(say(f"looking for the weights of {name}", f"正在查找 {name} 的权重")):
        how = choosing.means(rows, _unwatched, show.note)
        planned = plan(name, rows, catalogue, quantisation, here.free_bytes, how)
    first = planned.parts[0]
    memory_bytes = _memory_bytes(planned, rows)
    title = choosing.titles(planned.parts)
    show.note(
        say(
            f"{title}, {size(planned.size_bytes)}, about {size(memory_bytes)} of memory while it serves "
            f"({size(here.free_bytes)} are free): {planned.reason}",
            f"{title}，{size(planned.size_bytes)}，运行时约占内存 {size(memory_bytes)}"
            f"（当前可用 {size(here.free_bytes)}）：{planned.reason}",
        )
    )
    was_here = repaired(home, first.sha256)
    with show.downloading(first.name) as report:
        path = choosing.pull(planned, home.models, choosing.means(rows, report, show.note))
    done = {
        "name": first.name,
        "repository": first.repository,
        "quantisation": first.quantisation,
        "size_bytes": planned.size_bytes,
        "memory_bytes": memory_bytes,
        "sha256": first.sha256,
        "path": str(path),
        "reason": planned.reason,
        "was_here": was_here,
    }
    if as_json:
        show.data(done)
        return
    state = say("is here already", "已在本机") if was_here else say("is here", "已就绪")
    show.out.print(Text.assemble(("✓ ", "green"), (first.name, "bold"), f" {state}, SHA-256 {first.sha256[:12]}…"))
    row = rows.rows.get(first.name)
    chats = row is None or row.kind == "chat"  # the embedding model runs beside whatever chats
    command = f"hanlin serve --weights {first.name}" if chats else "hanlin serve"
    show.out.print(Text.assemble((say("next: ", "下一步："), "bold"), command))


def plan(
    name: str, rows: WeightsCatalogue, catalogue: Catalogue, quantisation: str, free_bytes: int, how: Means
) -> Pull:
    """Decide what is fetched; a `quantisation` that was asked for is taken or refused, never replaced by another."""
    if quantisation:
        # Our own rows come first, and each is of one quantisation: those of another must not hide what the hubs have.
        own = {row.name: row for row in rows.rows.values() if row.quantisation == quantisation.upper()}
        repositories = msgspec.structs.replace(rows.repositories, quantisations=(quantisation.upper(),))
        rows = msgspec.structs.replace(rows, rows=own, repositories=repositories)
    planned = choosing.plan_pull(name, rows, catalogue.find(name), free_bytes, how)
    found = planned.parts[0].quantisation
    if quantisation and found.upper() != quantisation.upper():
        raise Failed(
            say(
                f"{name}: {quantisation} is not published, or too large. Take another --quantisation: there is "
                f"{planned.reason}",
                f"{name}：未发布 {quantisation}，或内存放不下。请换用其他 --quantisation：现有 {planned.reason}",
            )
        )
    return planned


def repaired(home: Home, sha256: str) -> bool:
    """Say whether these weights are here and whole, reading all of them; what is damaged is put aside."""
    if find(home.models, sha256) is None:
        return False
    if is_whole(home, sha256):
        return True
    quarantine(home.models, sha256)
    show.note(say("the file on the disk is damaged; fetching it again", "磁盘上的文件已损坏，正在重新获取"))
    return False


def is_whole(home: Home, sha256: str) -> bool:
    """Read installed weights, every file of a set, and say whether their digests are right."""
    manifest = read_manifest(home.models, sha256)
    digests = (manifest.digests if manifest is not None else ()) or (sha256,)
    return all(verify(home.models / digest, digest) for digest in digests)


def _memory_bytes(planned: Pull, rows: WeightsCatalogue) -> int:
    measured = rows.rows.get(planned.parts[0].name)
    return measured.memory_bytes if measured is not None else memory_needed(planned.size_bytes)


def _unwatched(_done_bytes: int, _total_bytes: int, _text: str) -> None:
    """Nothing is fetched while it is being decided what to fetch."""


__all__ = ["is_whole", "list_installed", "plan", "pull", "repaired", "view"]
