"""XML of strangers: without entities, without a network, and never held as a whole where it can be long."""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from lxml import etree

from hanlin.documents.parsers.archive import Archive, Part
from hanlin.documents.parsers.work import Work
from hanlin.documents.unreadable import DocumentUnreadable

_CHUNK_BYTES = 64 * 1024

_STRICT = (  # the names that the stricter of Office's two formats has for the same things
    (b"http://purl.oclc.org/ooxml/wordprocessingml/", b"http://schemas.openxmlformats.org/wordprocessingml/2006/"),
    (b"http://purl.oclc.org/ooxml/spreadsheetml/", b"http://schemas.openxmlformats.org/spreadsheetml/2006/"),
    (b"http://purl.oclc.org/ooxml/presentationml/", b"http://schemas.openxmlformats.org/presentationml/2006/"),
    (b"http://purl.oclc.org/ooxml/drawingml/", b"http://schemas.openxmlformats.org/drawingml/2006/"),
    (b"http://purl.oclc.org/ooxml/officeDocument/", b"http://schemas.openxmlformats.org/officeDocument/2006/"),
)

Element = Any
"""An element of a small document; lxml has no type for it that says more."""


class Target(Protocol):
    """What hears the elements of a document one by one."""

    def start(self, tag: str, attributes: Mapping[str, str]) -> None: ...
    def end(self, tag: str) -> None: ...
    def data(self, data: str) -> None: ...
    def close(self) -> object: ...


def stream(part: Part, target: Target, work: Work) -> Iterator[None]:
    """Tell a target of a part's elements, with a pause after each of its chunks. Raises lxml's errors of syntax."""
    parser = etree.XMLParser(target=target, resolve_entities=False, no_network=True, load_dtd=False)
    while chunk := part.read(_CHUNK_BYTES):
        parser.feed(chunk)
        work.tick(part.done, part.size)
        yield
    parser.close()
    yield


def parsed(data: bytes) -> Element | None:
    """Return the root of a small document, None for one that is not there."""
    if not data:
        return None
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    for strict, usual in _STRICT:
        data = data.replace(strict, usual)
    return etree.fromstring(data, parser)


def required(archive: Archive, name: str) -> Element:
    """Return the root of a small part that a document cannot do without. Raises DocumentUnreadable."""
    root = parsed(archive.read(name))
    if root is None:
        raise DocumentUnreadable("broken")
    return root


def relations(archive: Archive, name: str) -> dict[str, tuple[str, str]]:
    """Return what a part of an Office document points to: each relation's type (its last word), and the part's name."""
    folder, _, file = name.rpartition("/")
    root = parsed(archive.read(f"{folder}/_rels/{file}.rels" if folder else f"_rels/{file}.rels"))
    found = {}
    for relation in root if root is not None else ():
        if relation.get("TargetMode") != "External" and (target := relation.get("Target")):
            kind = str(relation.get("Type", "")).rpartition("/")[2]
            found[str(relation.get("Id"))] = (kind, within(folder, target))
    return found


def within(folder: str, target: str) -> str:
    """Return the name of a part that is given as seen from a folder of the archive."""
    parts = [] if target.startswith("/") else folder.split("/")
    for step in target.split("/"):
        if step == "..":
            parts = parts[:-1]
        elif step not in ("", "."):
            parts = [*parts, step]
    return "/".join(filter(None, parts))


def main_part(archive: Archive, usual: str) -> str:
    """Return the name of an Office document's main part."""
    for kind, target in relations(archive, "").values():
        if kind == "officeDocument" and archive.has(target):
            return target
    return usual


def title(archive: Archive) -> str:
    """Return the title that an Office document gives itself, "" when it gives none or not in good order."""
    try:
        root = parsed(archive.read("docProps/core.xml"))
    except etree.XMLSyntaxError:
        return ""
    found = root.findtext("{http://purl.org/dc/elements/1.1/}title") if root is not None else None
    return found or ""


__all__ = ["Element", "Target", "main_part", "parsed", "relations", "required", "stream", "title", "within"]
