"""Values that must turn up nowhere, and the search for them in whatever bytes a service leaves."""

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

_SHOWN = 4  # the end of a key is what people tell it by


def key(name: str) -> str:
    """Return a key to plant; `name` has to be all ASCII letters."""
    return f"sk-planted-{name}-{binascii.crc32(name.encode()):08x}-0123456789abcdef"


def words(name: str) -> str:
    """Return a piece of a prompt or an answer to plant."""
    return f"planted-{name}-{binascii.crc32(name.encode()):08x}"


KEYS: Mapping[str, str] = {
    name: key(name)
    for name in ("first", "upstream", "wrong", "query", "cookie", "collector", "misplaced", "elsewhere", "noise")
}
PROMPTS: Mapping[str, str] = {
    name: words(name)
    for name in (
        *("system", "question", "history", "argument", "result", "description", "image"),
        *("prefix", "suffix", "document", "malformed"),
    )
}
ANSWERS: Mapping[str, str] = {name: words(name) for name in ("answer", "thought", "call", "code")}


def forms(value: str) -> Iterator[bytes]:
    """Yield how a value may be written: as it is, in a URL, and in base64 wherever it begins in the bytes around it."""
    raw = value.encode()
    yield raw
    yield quote(value, safe="").encode()
    for before in range(3):
        coded = base64.b64encode(b"\0" * before + raw)
        yield coded[4 if before else 0 : -4]


def found(where: str, content: bytes, secrets: Mapping[str, str]) -> list[str]:
    """Return which secrets are in some bytes, each with where that is. The end of a key is none."""
    return [
        f"{name} in {where}: {_around(content, form)!r}"
        for name, value in secrets.items()
        for form in set(forms(value[:-_SHOWN] if value.startswith("sk-") else value))
        if form in content
    ]


def found_below(folder: Path, secrets: Mapping[str, str], leaving_out: Iterable[str] = ()) -> list[str]:
    """Return which secrets are in the files of a folder."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in set(leaving_out)]
    assert files, f"nothing is in {folder}"
    return [hit for path in files for hit in found(str(path.relative_to(folder)), _read(path), secrets)]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:  # a file of the journal that was settled meanwhile
        return b""


def _around(content: bytes, form: bytes) -> bytes:
    at = content.index(form)
    return content[max(at - 100, 0) : at + len(form) + 40]


def misplaced() -> Iterator[str]:
    """Yield files of settings with a key where none belongs, each of which is refused."""
    key = KEYS["misplaced"]
    yield f"api_kay = {key!r}\n"
    yield f"port = {key!r}\n"
    yield f"weights = {{ key = {key!r} }}\n"
    yield f"api_key = {key}\n"
    yield f'[[deployment]]\nname = "x"\nurl = "http://127.0.0.1:1/v1"\nkey = "{key}"\n'
    yield f'[[deployment]]\nname = "x"\nurl = "http://user:{key}@127.0.0.1:1/v1"\n'
    yield f'[[deployment]]\nname = "x"\nurl = "http://127.0.0.1:1/v1?key={key}"\n'
    yield f'[[deployment]]\nname = "x"\nurl = "http://127.0.0.1:1/v1"\nkey_env = "{key}"\n'
    yield f'[[deployment]]\nname = "x"\nengine = "vllm"\nweights = "a/b"\narguments = ["--api-key", "{key}"]\n'
    yield f'[[deployment]]\nname = "x"\nengine = "vllm"\nweights = "a/b"\narguments = ["--api-key={key}"]\n'


__all__ = ["ANSWERS", "KEYS", "PROMPTS", "found", "found_below", "key", "misplaced", "words"]
