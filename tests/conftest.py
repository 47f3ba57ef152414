"""Fixtures of all tiers: homes that already hold the real weights, and the service on them."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hanlin.engines.weights import installed
from tests.service import Service

WEIGHTS = os.environ.get("TEST_WEIGHTS", "qwen2.5-coder-0.5b-instruct")
VECTORS = "multilingual-e5-small"
WEIGHTS_HOME = Path(__file__).parents[1] / ".home"

# Nothing here speaks TLS with the world, and each client of a test would read the system's hundred certificates first,
# which takes longer than what it is made for: it trusts those of a folder that has none.
os.environ.pop("SSL_CERT_FILE", None)
os.environ["SSL_CERT_DIR"] = str(Path(__file__).parent)


def home_with_weights(home: Path) -> Path:
    """Make a home whose weights are links to those that `make` has fetched: to damage them, replace the link."""
    (home / "models").mkdir(parents=True, mode=0o700)
    _link(fetched_weights(), home)
    return home


def home_with_vectors(home: Path) -> Path:
    """Make a home that holds the embedding weights as well."""
    home_with_weights(home)
    _link(fetched_weights(VECTORS), home)
    return home


def _link(file: Path, home: Path) -> None:
    (home / "models" / file.name).hardlink_to(file)
    # With what is known about the file a start need not read all of it again, which takes more than a second.
    shutil.copy2(file.with_name(f"{file.name}.toml"), home / "models")


def fetched_weights(name: str = WEIGHTS) -> Path:
    """Return the file of the weights that this run is about."""
    found = [weights.path for weights in installed(WEIGHTS_HOME / "models") if weights.name == name]
    assert found, f"{name} is not here: run `make embedded` or `make proof`, which fetch it"
    return found[0]


@pytest.fixture
def embedded(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Start services on the embedded engine, each on a home of its own; they end with the test."""
    services: list[Service] = []

    def start(*arguments: str, **options: object) -> Service:
        home = home_with_weights(tmp_path / f"home{len(services)}")
        service = Service(home, "--weights", WEIGHTS, *arguments, **options)  # type: ignore[arg-type]
        services.append(service)
        return service

    yield start
    for service in services:
        service.close()


@pytest.fixture(scope="session")
def embedded_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One service on the embedded engine for all tests that only talk to it."""
    home = home_with_weights(tmp_path_factory.mktemp("embedded") / "home")
    with Service(home, "--weights", WEIGHTS) as service:
        yield service
