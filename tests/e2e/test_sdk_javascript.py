"""The official JavaScript SDK against the service; the tests themselves are in `javascript/`, run by Node's runner."""

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
def test_the_javascript_sdk_is_content(service: Service, engine: FakeEngine, file: str) -> None:
    """Half of the users write JavaScript; its SDK reads streams and errors with other code than Python's."""
    done = subprocess.run(
        [NODE, "--test", "--test-reporter=spec", str(FOLDER / file)],
        env={**os.environ, "SERVICE_URL": service.base_url, "SERVICE_KEY": KEY, "ENGINE_URL": engine.url},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=180,
        encoding="utf-8",
    )

    assert done.returncode == 0, done.stdout
