"""A form with files in it, read as it comes (RFC 7578): small fields are kept, the files' bytes are handed on."""

from urllib.parse import unquote

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

from hanlin.errors import MalformedBody

FILE = "file"
"""What the part with the file is called, where a form may have one."""

_MOST_PARTS = 32
_FIELD_BYTES = 4096
_NAME_CHARACTERS = 255
_LINE_ENDS = {"%22": '"', "%0D": "\r", "%0A": "\n"}


class Form:
    """What has come of a form so far: its `fields`, each with all that was said of it, and the names of its files.

    A file is a part that is called `file` and has a filename; they are known by their numbers, from 0 on.
    """

    def __init__(
        self, content_type: str | None, file: str = FILE, *, most_files: int = 1, most_parts: int = _MOST_PARTS
    ) -> None:
        """Raises MalformedBody for what is no form."""
        kind = (content_type or "").partition(";")[0].strip().lower()
        boundary = dict(_parameters(content_type or "")).get("boundary", "")
        if kind != "multipart/form-data" or not boundary:
            raise MalformedBody("multipart/form-data with a boundary is wanted")
        self.fields: dict[str, list[str]] = {}
        self.filenames: list[str] = []
        self._file = file
        self._most_files = most_files
        self._most_parts = most_parts
        self._parts = 0
        self._over = False
        self._name = ""  # of the part that is coming in
        self._is_file = False
        self._value = bytearray()
        self._header_name = bytearray()
        self._header_value = bytearray()
        self._headers: dict[str, str] = {}
        self._found: dict[int, list[bytes]] = {}
        try:
            self._parser = MultipartParser(
                boundary.encode("latin-1", "replace"),
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._on_header_name,
                    "on_header_value": self._on_header_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._begin_body,
                    "on_part_data": self._on_data,
                    "on_part_end": self._end,
                    "on_end": self._finish,
                },
            )
        except (FormParserError, ValueError) as error:
            raise MalformedBody(str(error)) from error

    def feed(self, piece: bytes) -> list[tuple[int, bytes]]:
        """Take in a piece of the form, and return what it has of files: the number of each, and its next bytes.

        Raises MalformedBody.
        """
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise MalformedBody(str(error)) from error
        found, self._found = self._found, {}
        return [(number, b"".join(parts)) for number, parts in found.items()]

    def last(self, name: str) -> str | None:
        """Return what was said of a field last; None where nothing was."""
        return self.fields[name][-1] if name in self.fields else None

    def end(self) -> None:
        """Know that nothing more comes. Raises MalformedBody where more should have come."""
        if not self._over:
            raise MalformedBody("the form breaks off")
        if not self.filenames:
            raise MalformedBody(f"the form has no part {self._file!r} with a filename")

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > self._most_parts:
            raise MalformedBody(f"the form has more than {self._most_parts} parts")
        self._headers.clear()
        self._value.clear()

    def _on_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        self._headers[_text(self._header_name).strip().lower()] = _text(self._header_value)
        self._header_name.clear()
        self._header_value.clear()

    def _begin_body(self) -> None:
        said = self._headers.get("content-disposition", "")
        self._name, filename = _disposition(said)
        self._is_file = self._name == self._file and filename is not None
        if self._is_file:
            if len(self.filenames) >= self._most_files:
                raise MalformedBody("the form has several files")
            self.filenames.append(base_name(filename or ""))

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._is_file:
            self._found.setdefault(len(self.filenames) - 1, []).append(data[start:end])
            return
        if len(self._value) + end - start > _FIELD_BYTES:
            raise MalformedBody(f"the field {self._name[:_NAME_CHARACTERS]!r} has more than {_FIELD_BYTES} bytes")
        self._value += data[start:end]

    def _end(self) -> None:
        if not self._is_file:
            self.fields.setdefault(self._name, []).append(_text(self._value))

    def _finish(self) -> None:
        self._over = True


def base_name(filename: str) -> str:
    """Return a file's name as its owner sees it: without folders, without what cannot be printed, not endless."""
    name = filename.replace("\\", "/").rpartition("/")[2]
    name = "".join(character for character in name if character.isprintable()).strip()
    if len(name) > _NAME_CHARACTERS:  # its end says what it is
        stem, dot, ending = name.rpartition(".")
        ending = f"{dot}{ending}" if stem and len(ending) <= 16 else ""
        name = name[: _NAME_CHARACTERS - len(ending)] + ending
    return name or "file"


def _disposition(said: str) -> tuple[str, str | None]:
    """Return the name of a part, and its file's, None where it is no file.

    `filename*` (RFC 8187) is what some programs send besides; browsers and SDKs write UTF-8 as it is, and encode only
    what would end the quotes.
    """
    name, filename, better = "", None, None
    for key, value in _parameters(said):
        if key == "name":
            name = value
        elif key == "filename":
            filename = value
        elif key == "filename*" and value.count("'") >= 2:
            charset, _, rest = value.partition("'")
            try:
                better = unquote(rest.partition("'")[2], encoding=charset or "utf-8", errors="replace")
            except LookupError:
                better = None
    return name, filename if better is None else better


def _parameters(said: str) -> list[tuple[str, str]]:
    """Return the parameters of a header, quoted or not."""
    found, at = [], said.find(";")
    while 0 <= at < len(said):
        key, equals, rest = said[at + 1 :].partition("=")
        if not equals:
            break
        start = at + 1 + len(key) + 1
        value = ""
        if rest[:1] == '"':
            place = start + 1
            while place < len(said) and said[place] != '"':
                # A backslash escapes quotes alone: some programs write Windows paths as they are.
                place += said[place] == "\\" and said[place + 1 : place + 2] == '"'
                value += said[place : place + 1]
                place += 1
            at = said.find(";", place)
        else:
            at = said.find(";", start)
            value = said[start : at if at >= 0 else len(said)].strip()
        for code, character in _LINE_ENDS.items():
            value = value.replace(code, character)
        found.append((key.strip().lower(), value))
    return found


def _text(data: bytes | bytearray) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("gb18030", "replace")  # old programs in China


__all__ = ["Form", "base_name"]
