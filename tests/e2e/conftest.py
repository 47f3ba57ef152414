"""The real service in front of fake engines of both manners, once for all tests; each test finds them as if unused."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest
from openai import AsyncOpenAI, OpenAI

from hanlin.testing import FakeEngine
from tests.service import Service, in_front_of

STALL_S = 3


@dataclass(frozen=True)
class Pair:
    """A service and the fake engine that answers every name behind it."""

    engine: FakeEngine
    service: Service


@pytest.fixture(scope="session")
def openai_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """An engine that speaks as Model Studio does."""
    with FakeEngine() as engine:
        home = tmp_path_factory.mktemp("home")
        environment = {"HANLIN_SILENCE_S": str(STALL_S), "HANLIN_FIRST_BYTE_S": str(STALL_S), "HANLIN_RETRY_SHARE": "0"}
        with Service(home, config=in_front_of(engine), environment=environment) as service:
            yield Pair(engine, service)


@pytest.fixture(scope="session")
def llama_pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """An engine that speaks as llama.cpp's server does."""
    with FakeEngine(style="llama") as engine:
        config = in_front_of(engine, profile="llama")
        with Service(tmp_path_factory.mktemp("home"), config=config) as service:
            yield Pair(engine, service)


@pytest.fixture
def pair(openai_pair: Pair) -> Pair:
    """The pair of a test; a file whose tests hold for both manners overrides this."""
    return openai_pair


@pytest.fixture
def engine(pair: Pair) -> FakeEngine:
    """The engine, without rules and with nothing asked yet."""
    pair.engine.rules([])
    pair.engine.forget_requests()
    return pair.engine


@pytest.fixture
def service(pair: Pair, engine: FakeEngine) -> Service:
    return pair.service


@pytest.fixture
def client(service: Service) -> Iterator[OpenAI]:
    with service.client(timeout=60) as client:
        yield client


@pytest.fixture
async def async_client(service: Service) -> AsyncIterator[AsyncOpenAI]:
    async with service.async_client(timeout=60) as client:
        yield client
