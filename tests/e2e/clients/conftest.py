"""Engines for clients that think, call tools and want JSON: one of each manner in which that can be had."""

from collections.abc import Iterator

import pytest

from hanlin.testing import FakeEngine
from tests.e2e.conftest import Pair
from tests.service import Service, in_front_of


@pytest.fixture(scope="session")
def prompted_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A llama.cpp server, whose prompts Hanlin writes and whose answers it reads by itself."""
    with FakeEngine(style="llama", template="qwen3") as engine:
        config = in_front_of(engine, profile="llama")
        with Service(tmp_path_factory.mktemp("home"), config=config) as service:
            yield Pair(engine, service)


@pytest.fixture(scope="session")
def modelstudio_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A server with Model Studio's own words for thinking and tools."""
    with FakeEngine() as engine:
        config = f"{in_front_of(engine, profile='modelstudio')}fit_vectors = true\n"
        with Service(tmp_path_factory.mktemp("home"), config=config) as service:
            yield Pair(engine, service)


@pytest.fixture(params=["prompted", "modelstudio"])
def manner(request: pytest.FixtureRequest) -> str:
    """Every test here holds for engines of both manners."""
    manner: str = request.param
    return manner


@pytest.fixture
def pair(request: pytest.FixtureRequest, manner: str) -> Pair:
    pair: Pair = request.getfixturevalue(f"{manner}_pair")
    return pair
