"""Finding model servers that already run on this machine."""

import json
import tomllib
from collections.abc import Iterator

import msgspec
import pytest

from hanlin.engines.upstreams import upstreams
from hanlin.service.neighbours import (
    KNOWN,
    Contents,
    KnownServer,
    Neighbour,
    deployment_toml,
    find,
    is_used,
    read_models,
    read_props,
    read_tags,
)
from hanlin.settings import DeploymentRow
from hanlin.testing import free_port
from tests.faulty_server import Fault, FaultyServer, faulty_server


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with faulty_server() as running:
        yield running


def at(server: FaultyServer, kind: KnownServer) -> KnownServer:
    """Return a kind of server as if it listened where the test's server does."""
    return KnownServer(kind.title, int(server.url.rpartition(":")[2]), kind.path, kind.read, kind.base, kind.upstream)


def known(title: str) -> KnownServer:
    return next(kind for kind in KNOWN if kind.title == title)


BODIES = {
    "Ollama": {"models": [{"name": "qwen3:8b", "size": 1}, {"name": "glm4:9b"}]},
    "vLLM": {"object": "list", "data": [{"id": "Qwen/Qwen3-8B", "owned_by": "vllm", "max_model_len": 40960}]},
    "llama-server": {
        "default_generation_settings": {"n_ctx": 8192, "params": {}},
        "model_alias": "",
        "model_path": "/models/Qwen3-8B-Q4_K_M.gguf",
    },
    "LM Studio": {"data": [{"id": "qwen3-8b", "object": "model", "owned_by": "organization_owner"}]},
    "SGLang": {"data": [{"id": "Qwen/Qwen3-8B", "owned_by": "sglang", "max_model_len": 32768}]},
}


@pytest.mark.parametrize(
    ("title", "base", "models", "context_tokens"),
    [
        ("Ollama", "/v1", ("qwen3:8b", "glm4:9b"), 0),
        ("vLLM", "/v1", ("Qwen/Qwen3-8B",), 40960),
        ("llama-server", "", ("Qwen3-8B-Q4_K_M",), 8192),
        ("LM Studio", "/v1", ("qwen3-8b",), 0),
        ("SGLang", "/v1", ("Qwen/Qwen3-8B",), 32768),
    ],
)
async def test_each_kind_of_server_is_found_by_what_it_answers(
    server: FaultyServer, title: str, base: str, models: tuple[str, ...], context_tokens: int
) -> None:
    """Somebody with a larger model at hand should be told that it can answer."""
    kind = at(server, known(title))
    server.serve(kind.path, json.dumps(BODIES[title]).encode())

    (found,) = await find([kind])

    assert (found.title, found.url, found.models) == (title, server.url + base, models)
    assert found.context_tokens == context_tokens


@pytest.mark.parametrize("title", [kind.title for kind in KNOWN])
async def test_some_other_program_on_a_usual_port_is_not_taken_for_a_model_server(
    server: FaultyServer, title: str
) -> None:
    """Port 8000 and 8080 belong to everybody."""
    kind = at(server, known(title))
    for body in (b"<html>hello</html>", b"{}", b"[]", b'{"data": 1}', b"\xff"):
        server.serve(kind.path, body)

        assert await find([kind]) == []


async def test_a_port_that_is_shut_refuses_or_stays_silent_is_passed_over(server: FaultyServer) -> None:
    """One sick program must not keep the doctor from finding the others, nor keep him waiting."""
    silent, refusing = at(server, known("Ollama")), at(server, known("vLLM"))
    server.serve(silent.path, b"x" * 10, always=Fault(stall_after=0))
    server.serve(refusing.path, b"", always=Fault(status=401))
    shut = KnownServer("vLLM", free_port(), "/v1/models", read_models("vllm"))

    assert await find([silent, refusing, shut], patience_s=0.2) == []


def test_owners_tell_servers_of_one_form_apart() -> None:
    """vLLM's usual port is a favourite of others, too."""
    body = json.dumps(BODIES["SGLang"]).encode()

    assert read_models("vllm")(body) is None
    assert read_models("sglang")(body) == Contents(("Qwen/Qwen3-8B",), 32768)


def test_a_server_that_has_no_model_yet_is_still_found() -> None:
    """A fresh Ollama lists none; the doctor says so."""
    assert read_tags(b'{"models": []}') == Contents(())
    assert read_props(b'{"default_generation_settings": {"n_ctx": 4096}}') == Contents((), 4096)


@pytest.mark.parametrize(
    "neighbour",
    [
        Neighbour("Ollama", "http://127.0.0.1:11434/v1", ("qwen3:8b",), upstream="ollama"),
        Neighbour("LM Studio", "http://127.0.0.1:1234/v1", ('strange "name" \\ 中\x7f\n',)),
        Neighbour("llama-server", "http://127.0.0.1:8080", ("Qwen3-8B-Q4_K_M",), 8192, "llama-server"),
    ],
)
def test_the_table_that_is_shown_is_one_that_the_settings_take(neighbour: Neighbour) -> None:
    """It is there to be pasted."""
    (row,) = tomllib.loads(deployment_toml(neighbour))["deployment"]

    read = msgspec.convert(row, DeploymentRow)

    assert (read.url, read.model, read.upstream) == (neighbour.url, neighbour.models[0], neighbour.upstream)
    assert read.serves == ("*",)
    assert read.context_tokens == neighbour.context_tokens


def test_every_neighbour_is_spoken_to_as_its_kind_wants() -> None:
    """A neighbour that is taken for plain OpenAI chat would lose thinking, prefixes and half of its parameters."""
    assert [kind.upstream for kind in KNOWN] == ["ollama", "vllm", "llama-server", "lmstudio", "sglang"]
    assert all(f":{kind.port}" in upstreams()[kind.upstream].url for kind in KNOWN)


@pytest.mark.parametrize(
    ("row", "used"),
    [
        (DeploymentRow("a", "http://127.0.0.1:11434/v1/"), True),
        (DeploymentRow("a", upstream="ollama"), True),
        (DeploymentRow("a", "http://elsewhere:11434/v1", upstream="ollama"), False),
        (DeploymentRow("a", upstream="vllm"), False),
        (DeploymentRow("a", engine="vllm"), False),
    ],
)
def test_a_neighbour_is_used_by_its_address_or_as_its_upstream(row: DeploymentRow, used: bool) -> None:
    """Either way of naming it makes a second table for it superfluous."""
    neighbour = Neighbour("Ollama", "http://127.0.0.1:11434/v1", ("qwen3:8b",), upstream="ollama")

    assert is_used(neighbour, [row]) is used
