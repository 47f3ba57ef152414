"""Libraries that strangers build on, against the service; the tests themselves are in `python/`, run where those live.

LangChain, instructor, pydantic-ai and the vendor's SDK want other versions of what Hanlin itself runs on, as they do at
their users'.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hanlin.testing import FakeEngine
from tests.service import KEY, Service

FOLDER = Path(__file__).parent / "python"
PYTHON = Path(sys.executable).parents[1] / "clients" / "bin" / "python"
ALL = os.environ.get("TEST_DRILLS") == "all"
SUITES = {
    "langchain_suite.py": 1,
    "extraction_suite.py": 2,
    "dashscope_suite.py": 1,
}  # and how often each question is asked


def run(suite: str, service: Service, *arguments: str, engine_url: str = "", drills: int = 1) -> str:
    """Run a suite in the clients' environment and return what it printed. Fails with that where a test failed."""
    assert PYTHON.exists(), f"{PYTHON} is not here: run `make e2e`, which installs it"
    environment = {
        "SERVICE_URL": service.base_url,
        "SERVICE_KEY": KEY,
        "ENGINE_URL": engine_url,
        "DRILLS": str(drills),
        "PYTHONUTF8": "1",
    }
    done = subprocess.run(
        [str(PYTHON), "-m", "pytest", "-c", str(FOLDER / "pytest.ini"), str(FOLDER / suite), *arguments],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=3600,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("suite", SUITES)
def test_libraries_are_content(service: Service, engine: FakeEngine, suite: str) -> None:
    """Each has its own way of asking for tools and typed objects, and its own reader of streams."""
    run(suite, service, engine_url=engine.url, drills=SUITES[suite])


@pytest.mark.embedded
def test_libraries_extract_objects_with_real_weights(embedded_service: Service) -> None:
    """By a named tool and by a schema, whole and streamed: what is held to a schema fits it every time."""
    run("extraction_suite.py", embedded_service, "-m", "held", drills=20 if ALL else 1)
