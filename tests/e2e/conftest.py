"""The service in front of a fake engine, once for all tests of the SDKs."""

from collections.abc import Iterator

import pytest

from hanlin.testing import FakeEngine
from tests.service import Service, in_front_of


@pytest.fixture(scope="session")
def engine() -> Iterator[FakeEngine]:
    with FakeEngine() as engine:
        yield engine


@pytest.fixture(scope="session")
def service(engine: FakeEngine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("home"), config=in_front_of(engine)) as service:
        yield service
