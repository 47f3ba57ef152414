"""JSON: lists of records become tables, everything else is shown as it is, a value a line and indented.

A file of records is read one record at a time; only what a file is made of otherwise is looked at as a whole.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from hanlin.documents.limits import MIB
from hanlin.documents.parsers import encodings, flow, plain
from hanlin.documents.parsers.work import Work
from hanlin.documents.values import Page

_COLUMNS = 60
_SAMPLE = 50
_WITHIN = 2  # objects within a record whose fields are told beside its own
_WRAPPINGS = 2  # objects around the one that wraps records: what services answer has its data within some

_INDENTED_BYTES = 32 * MIB
_NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_LINES = msgspec.json.Decoder(msgspec.Raw)
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])

Scalar = str | int | float | bool | None


def pages(work: Work) -> Iterator[Page]:
    """Yield tables or indented JSON. What is not JSON after all is told as the text that it is."""
    yield from flow.paged(_blocks(work) or plain.blocks(plain.text(work)))


def _blocks(work: Work) -> Iterator[str] | None:
    """Return the document in blocks, None when it is no JSON, or too much of one value to be taken apart."""
    data = _utf_8(work).strip()
    one_list = data.startswith(b"[")
    try:
        # A list in a file by itself, or else a value a line.
        records = _LIST.decode(data) if one_list else _LINES.decode_lines(data)
    except (*_NOT_JSON, MemoryError):
        records = []
    if len(records) > 1 or (records and one_list):
        return _of_records(records, work)
    if (fields := _fields(data)) is not None:
        return _of_fields(fields, work)
    if len(data) > _INDENTED_BYTES:
        return None
    try:
        return flow.pieces(msgspec.json.format(data, indent=2).decode("utf-8", "replace"), flow.SECTION_CHARACTERS)
    except _NOT_JSON:
        return None


def _fields(data: bytes | msgspec.Raw, depth: int = 0) -> dict[str, msgspec.Raw] | None:
    """Return the fields of an object that wraps lists of records, itself or further within; None for all others."""
    try:
        fields = _OBJECT.decode(data) if bytes(memoryview(data)[:1]) == b"{" else {}
    except (*_NOT_JSON, MemoryError):
        return None
    wraps = any(
        _wrapped(raw) is not None or (depth < _WRAPPINGS and _fields(raw, depth + 1) is not None)
        for raw in fields.values()
    )
    return fields if wraps else None


def _wrapped(raw: msgspec.Raw) -> Sequence[msgspec.Raw] | None:
    """Return the records of a list of at least two flat ones."""
    try:
        records = _LIST.decode(raw) if bytes(memoryview(raw)[:1]) == b"[" else []
    except (*_NOT_JSON, MemoryError):
        return None
    return records if len(records) > 1 and _columns(records) is not None else None


def _of_fields(fields: dict[str, msgspec.Raw], work: Work, depth: int = 0) -> Iterator[str]:
    """Yield each field under its name: lists of records as tables."""
    for name, raw in fields.items():
        if (records := _wrapped(raw)) is not None:
            yield flow.heading(name, 1 + depth)
            yield from _of_records(records, work)
        elif depth < _WRAPPINGS and (within := _fields(raw, depth + 1)) is not None:
            yield flow.heading(name, 1 + depth)
            yield from _of_fields(within, work, depth + 1)
        else:
            (text,) = _each([raw], work)
            yield f"{name}: {text}"


def _utf_8(work: Work) -> bytes:
    """Return the file's bytes in the encoding that JSON has."""
    codec = encodings.encoding_of(work.path)
    if codec in (None, "utf-8"):
        return work.path.read_bytes()
    return "".join(encodings.text_of(work.path, codec or "utf-8")).encode("utf-8", "replace")


def _of_records(records: Sequence[msgspec.Raw], work: Work) -> Iterator[str]:
    names = _columns(records)
    if names is None:
        yield from _each(records, work)
        return
    yield from flow.tables(_rows(records, names, work))


def _columns(records: Sequence[msgspec.Raw]) -> list[str] | None:
    """Return the fields of flat records, None when these are no such records. Judged by some of them, evenly spread."""
    step = max(1, len(records) // _SAMPLE)
    names: dict[str, None] = {}
    for raw in records[::step]:
        record = _flat(raw)
        if record is None:
            return None
        names.update(dict.fromkeys(record))
    return list(names) if 0 < len(names) <= _COLUMNS else None


def _flat(raw: msgspec.Raw) -> dict[str, Scalar] | None:
    """Return a record with the fields of objects within it beside its own (`客户.姓名`), lists of plain values as one.

    None for what is no record, or holds lists of records.
    """
    try:
        return msgspec.json.decode(raw, type=dict[str, Scalar])
    except _NOT_JSON:
        pass
    try:
        record = msgspec.json.decode(raw, type=dict[str, Any])
    except _NOT_JSON:
        return None
    flat: dict[str, Scalar] = {}
    return flat if all(_laid(name, value, flat, 0) for name, value in record.items()) else None


def _laid(name: str, value: Any, flat: dict[str, Scalar], depth: int) -> bool:
    """Put a value into a flat record, under its name; False where it has no place in one."""
    if isinstance(value, dict):
        return depth < _WITHIN and all(_laid(f"{name}.{key}", part, flat, depth + 1) for key, part in value.items())
    if isinstance(value, list):
        if any(isinstance(part, dict | list) for part in value):
            return False
        value = ", ".join(map(_shown, value))
    flat[name] = value
    return True


def _rows(records: Sequence[msgspec.Raw], names: list[str], work: Work) -> Iterator[list[str]]:
    """Yield the header and a row for each record; a field that the header has not got is told in the last column."""
    yield names
    for number, raw in enumerate(records):
        work.tick(number, len(records))
        record = _flat(raw)
        if record is None:
            yield [bytes(raw).decode("utf-8", "replace")]
            continue
        row = [_shown(record.get(name)) for name in names]
        more = [f"{name}: {_shown(value)}" for name, value in record.items() if name not in names]
        yield [*row, "; ".join(more)] if more else row


def _shown(value: Scalar) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _each(records: Sequence[msgspec.Raw], work: Work) -> Iterator[str]:
    """Yield each record by itself."""
    for number, raw in enumerate(records):
        work.tick(number, len(records))
        try:
            yield msgspec.json.format(bytes(raw), indent=2).decode("utf-8", "replace")
        except _NOT_JSON:
            yield bytes(raw).decode("utf-8", "replace")


__all__ = ["pages"]
