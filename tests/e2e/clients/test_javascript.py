"""JavaScript clients of thinking, tools and JSON; the tests themselves are in `javascript/`, run by Node's runner."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from hanlin.testing import FakeEngine
from tests.service import KEY, Service

FOLDER = Path(__file__).parent / "javascript"
NODE = shutil.which("node") or "node"


@pytest.mark.parametrize("file", sorted(file.name for file in FOLDER.glob("*.test.mjs")))
def test_javascript_clients_are_content(service: Service, engine: FakeEngine, manner: str, file: str) -> None:
    """The official SDK, and the one whose readers are the strictest (spec/surfaces.md §9.5)."""
    environment = {"SERVICE_URL": service.base_url, "SERVICE_KEY": KEY, "ENGINE_URL": engine.url}
    if manner == "modelstudio":
        environment["EMBEDDINGS"] = "yes"

    done = subprocess.run(
        [NODE, "--test", "--test-reporter=spec", str(FOLDER / file)],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=180,
        encoding="utf-8",
    )

    assert done.returncode == 0, done.stdout
